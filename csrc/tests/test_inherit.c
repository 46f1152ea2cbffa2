/* What workers have from the thread that made the pool, whoever starts them and whatever jobs do to their own threads. */
#include "fixture.h"

#ifdef __linux__

#include <fenv.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { MOST_WORKERS = 6, LOWER = 7, SLACK = 123456 };

typedef struct facts {
    gate *gate;
    sigset_t mask;
    int rounding;
    int nice;
    int cpus;
    int slack;
} facts;

static void
look(facts *seen)
{
    cpu_set_t cpus;
    pthread_sigmask(SIG_BLOCK, NULL, &seen->mask);
    seen->rounding = fegetround();
    seen->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    sched_getaffinity(0, sizeof cpus, &cpus);
    seen->cpus = CPU_COUNT(&cpus);
    seen->slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
}

static int
look_and_stand(wp_job *job, void *argument)
{
    facts *seen = argument;
    look(seen);
    return stand_at_gate(job, seen->gate);
}

/* Has so many workers look at what they have, at one time. */
static void
look_at_workers(wp_pool *pool, facts *seen, int n)
{
    gate g = {0};
    wp_job *jobs[MOST_WORKERS];
    for (int i = 0; i < n; i++) {
        seen[i].gate = &g;
        jobs[i] = submit(pool, 0, look_and_stand, &seen[i]);
    }
    event_wait(&g.begun, (uint32_t)n);
    event_set(&g.open);
    for (int i = 0; i < n; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
}

static bool
are_same(const facts *a, const facts *b)
{
    for (int signal = 1; signal < 32; signal++) {
        if (sigismember(&a->mask, signal) != sigismember(&b->mask, signal)) {
            return false;
        }
    }
    return a->rounding == b->rounding && a->nice == b->nice && a->cpus == b->cpus && a->slack == b->slack;
}

static void
change_signal(int how, int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(how, &set, NULL);
}

/* All that a thread may do to itself and pass on; of more processors than one it keeps one. */
static void
change_this_thread(void)
{
    cpu_set_t one;
    change_signal(SIG_BLOCK, SIGTERM);
    fesetround(FE_UPWARD);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), LOWER);
    prctl(PR_SET_TIMERSLACK, SLACK, 0, 0, 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int
change_worker(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    change_this_thread();
    return 0;
}

/* Without privileges a niceness cannot be taken back. */
static bool
may_lower_niceness(void)
{
    struct rlimit limit;
    return geteuid() == 0 || (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 20);
}

static void
test_what_a_job_changes_stays_with_its_worker(void)
{
    wp_pool *pool = pool_for(MOST_WORKERS, 1, 10);
    facts own;
    facts seen[MOST_WORKERS];
    look(&own);
    CHECK_INT(finish(submit(pool, 0, change_worker, NULL)), WP_DONE);
    look_at_workers(pool, seen, MOST_WORKERS);
    int changed = 0;
    for (int i = 0; i < MOST_WORKERS; i++) {
        seen[i].nice = may_lower_niceness() || seen[i].rounding == FE_UPWARD ? seen[i].nice : own.nice;
        changed += !are_same(&seen[i], &own);
        CHECK(are_same(&seen[i], &own) || (seen[i].rounding == FE_UPWARD && seen[i].slack == SLACK));
    }
    CHECK_INT(changed, 1);
    end_pool(pool);
}

typedef struct stranger {
    wp_pool *pool;
    facts seen[2];
} stranger;

static void *
submit_as_stranger(void *argument)
{
    stranger *s = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (may_lower_niceness()) {
        change_this_thread();
    }
    look_at_workers(s->pool, s->seen, 2);
    return NULL;
}

static void
test_workers_started_by_strangers(void)
{
    facts own;
    stranger s;
    change_signal(SIG_BLOCK, SIGUSR2);
    s.pool = pool_for(2, 1, 10);
    look(&own);
    join_thread(start_thread(submit_as_stranger, &s));
    CHECK(are_same(&s.seen[0], &own));
    CHECK(are_same(&s.seen[1], &own));
    CHECK(sigismember(&own.mask, SIGUSR2) && !sigismember(&own.mask, SIGTERM));
    change_signal(SIG_UNBLOCK, SIGUSR2);
    end_pool(s.pool);
}

/* As it is with threads that the maker starts itself: they have what it has then. */
static void
test_maker_has_changed_meanwhile(void)
{
    facts seen[1];
    wp_pool *pool = pool_for(2, 1, 10);
    change_signal(SIG_BLOCK, SIGUSR2);
    fesetround(FE_TOWARDZERO);
    look_at_workers(pool, seen, 1);
    CHECK(sigismember(&seen[0].mask, SIGUSR2));
    CHECK_INT(seen[0].rounding, FE_TOWARDZERO);
    change_signal(SIG_UNBLOCK, SIGUSR2);
    fesetround(FE_TONEAREST);
    end_pool(pool);
}

/* ---- Side threads ---- */

typedef struct side_facts {
    event attended;
    sigset_t mask;
} side_facts;

static bool
attend_once(void *context)
{
    side_facts *s = context;
    if (wp_load_acquire(&s->attended.count) == 0) {
        pthread_sigmask(SIG_BLOCK, NULL, &s->mask);
        event_set(&s->attended);
    }
    return false;
}

static void
test_side_threads_block_signals(void)
{
    static const int blocked[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGPIPE, SIGPROF};
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    side_facts s = {0};
    wp_pool_config config = config_for(1, 1, 10);
    config.hooks.attend = attend_once;
    config.hooks.context = &s;
    wp_pool *pool = wp_pool_new(&config);
    CHECK(wp_pool_ask_attendant(pool));
    event_wait(&s.attended, 1);
    for (size_t i = 0; i < sizeof blocked / sizeof blocked[0]; i++) {
        CHECK(sigismember(&s.mask, blocked[i]));
    }
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        CHECK(!sigismember(&s.mask, open[i]));
    }
    end_pool(pool);
}

int
main(void)
{
    RUN(test_what_a_job_changes_stays_with_its_worker);
    RUN(test_workers_started_by_strangers);
    RUN(test_maker_has_changed_meanwhile);
    RUN(test_side_threads_block_signals);
    return check_done();
}

#else

int
main(void)
{
    return check_done(); /* Elsewhere a worker has the mask and the rounding of the maker; the rest is the process's. */
}

#endif
