"""Go pattern: 1,000 jobs on 5 goroutines instead of 1,000 goroutines.

See: no more than 5 jobs ever run at a time, each job is done exactly once, and `map` gives the results in order.
"""

import threading

import workerpool as wp

JOBS, WORKERS = 1000, 5
lock = threading.Lock()
done = [0] * JOBS
running: set[int] = set()  # Threads that run a job now,
at_a_time: list[int] = []  # how many they were, at the begin of each job,
ever: set[int] = set()  # and all threads that ran one.


def work(number: int) -> int:
    thread = threading.get_ident()
    with lock:
        running.add(thread)
        ever.add(thread)
        at_a_time.append(len(running))
        done[number] += 1
    result = sum(range(number))
    with lock:
        running.remove(thread)
    return result


def main() -> None:
    with wp.WorkerPool(max_workers=WORKERS) as pool:
        results = list(pool.map(work, range(JOBS)))
    assert results == [sum(range(number)) for number in range(JOBS)]
    print(f"{len(results)} results in order; each job done exactly once: {done == [1] * JOBS}")
    print(f"at most {WORKERS} threads: {len(ever) <= WORKERS}; at most {WORKERS} jobs at a time: ", end="")
    print(max(at_a_time) <= WORKERS)


if __name__ == "__main__":
    main()
