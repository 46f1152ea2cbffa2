//! The worker pools of Rust: crossbeam channels, and rayon.
//!
//!     rust-pools SHAPE JOBS WORKERS BOUND
//!
//! Prints one line of JSON, as measure.h says.

use crossbeam_channel::bounded;
use std::thread;
use std::time::Instant;

struct Job {
    index: usize,
    value: f64,
}

struct Outcome {
    index: usize,
    value: f64,
}

/// Workers read jobs from one channel and write results to another; one thread produces, this one consumes.
fn channels(jobs: usize, workers: usize, bound: usize) {
    let (todo, to_do) = bounded::<Job>(bound);
    let (done, results) = bounded::<Outcome>(bound);
    let mut sum = 0.0;
    let mut indexes = 0;
    thread::scope(|scope| {
        for _ in 0..workers {
            let (to_do, done) = (to_do.clone(), done.clone());
            scope.spawn(move || {
                for job in to_do {
                    let outcome = Outcome { index: job.index, value: job.value.abs() };
                    done.send(outcome).expect("the consumer is there to the end");
                }
            });
        }
        drop((to_do, done));
        scope.spawn(move || {
            for index in 0..jobs {
                todo.send(Job { index, value: -(index as f64) }).expect("the workers are there to the end");
            }
        });
        for outcome in results {
            sum += outcome.value;
            indexes += outcome.index;
        }
    });
    let expect = jobs * (jobs - 1) / 2;
    assert!(sum == expect as f64 && indexes == expect, "the results add up to {sum} instead of {expect}");
}

/// Fire and wait: boxed closures through one channel.
fn empty(jobs: usize, workers: usize, bound: usize) {
    let (todo, to_do) = bounded::<Box<dyn FnOnce() + Send>>(bound);
    thread::scope(|scope| {
        for _ in 0..workers {
            let to_do = to_do.clone();
            scope.spawn(move || {
                for job in to_do {
                    job();
                }
            });
        }
        for _ in 0..jobs {
            todo.send(Box::new(|| {})).expect("the workers are there to the end");
        }
        drop(todo);
    });
}

/// Fire and wait: empty tasks in rayon's scope, spawned by one of its own threads, which is what it does best.
fn rayon_scope(jobs: usize, pool: &rayon::ThreadPool) {
    pool.scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|_| {});
        }
    });
}

struct Usage {
    wall: Instant,
    cpu_ns: f64,
    switches: f64,
}

fn nanoseconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3
}

fn usage_now() -> Usage {
    // SAFETY: a rusage of zeros is valid, and getrusage fills it in.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut used);
        used
    };
    Usage {
        wall: Instant::now(),
        cpu_ns: nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime),
        switches: (used.ru_nvcsw + used.ru_nivcsw) as f64,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, numbers @ ..] = arguments.as_slice() else { panic!("usage: rust-pools SHAPE JOBS WORKERS BOUND") };
    let numbers: Vec<usize> = numbers.iter().map(|text| text.parse().expect("a number")).collect();
    let [jobs, workers, bound] = numbers[..] else { panic!("usage: rust-pools SHAPE JOBS WORKERS BOUND") };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().expect("a pool");
    let work = |jobs: usize| match shape.as_str() {
        "channels" => channels(jobs, workers, bound),
        "empty" => empty(jobs, workers, bound),
        "rayon" => rayon_scope(jobs, &pool),
        _ => panic!("there is no shape {shape}"),
    };
    work(jobs / 10 + 1);
    let before = usage_now();
    work(jobs);
    let after = usage_now();
    let n = jobs as f64;
    println!(
        "{{\"ns\": {:.3}, \"cpu_ns\": {:.3}, \"switches\": {:.6}}}",
        after.wall.duration_since(before.wall).as_nanos() as f64 / n,
        (after.cpu_ns - before.cpu_ns) / n,
        (after.switches - before.switches) / n,
    );
}
