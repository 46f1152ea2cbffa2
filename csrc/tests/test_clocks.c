/* Clocks that jump. All limits are times on the monotonic clock, so whoever sets the wall clock changes nothing; and a
 * process that was stopped for a while, or a machine that slept, finds its limits over, tells so once, and goes on.
 *
 * DESIGN. The linker (--wrap) leads clock_gettime here. Setting the clock of the machine is not for a test, but a wall
 * clock that the library reads a day ahead is the same to it as one that somebody sets back by a day just after.
 */
#include "fixture.h"

#ifndef WP_TESTS_WRAP

int
main(void)
{
    printf("ok - skipped: this linker cannot lead calls to another function\n");
    return 0;
}

#else

#include "wp_stage.h"

#include <time.h>

#define DAY INT64_C(86400)

static _Atomic(int64_t) wall_jump;      /* Seconds. */
static _Atomic(int64_t) monotonic_jump; /* Seconds; only forward. */

int __real_clock_gettime(clockid_t clock, struct timespec *now);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    const int error = __real_clock_gettime(clock, now);
    now->tv_sec += (time_t)atomic_load(clock == CLOCK_REALTIME ? &wall_jump : &monotonic_jump);
    return error;
}

static uint64_t
ns_since(uint64_t begin)
{
    return wp_clock() - begin;
}

static wp_job *
job_with(uint64_t queue_timeout, uint64_t run_timeout, wp_function *function, void *argument)
{
    const wp_function_options options = {.queue_timeout = queue_timeout, .run_timeout = run_timeout};
    return wp_function_job(function, argument, &options);
}

/* A job that runs until it is asked to stop, and then keeps its worker until the gate is open: else that would begin
 * what is to expire. */
typedef struct stopped {
    event begun;
    gate *g;
} stopped;

static int
stand_when_stopped(wp_job *job, void *argument)
{
    stopped *s = argument;
    run_until_stopped(job, &s->begun);
    event_wait(&s->g->open, 1);
    return 0;
}

/* Every kind of limited wait, each for 60 ms: it ends then, and not much later. A thread that sleeps past its time by a
 * day is ended by the time limit of this program. */
static void
wait_in_all_ways(void)
{
    const uint64_t limit = 60 * MS;
    gate g = {0};
    stopped s = {.g = &g};
    wp_word word = 0;
    wp_pool *pool = pool_for(2, 2, 1);
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    wp_job *running = job_with(WP_FOREVER, limit, stand_when_stopped, &s);
    uint64_t begin = wp_clock();
    event_wait(&g.begun, 1);
    CHECK_INT(wp_pool_submit(pool, 0, running, false), WP_OK);
    event_wait(&s.begun, 1);

    wp_job *waiting = job_with(limit, WP_FOREVER, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 1, waiting, false), WP_OK);
    submitter blocked = {.pool = pool, .lane = 1, .job = wp_function_job(do_nothing, NULL, NULL)};
    blocked.deadline = wp_clock() + limit / 2;
    submitter_start(&blocked);

    enum wp_wait_result waited;
    const uint64_t deadline = wp_clock() + limit;
    while ((waited = wp_word_wait(&word, 0, deadline)) != WP_WAIT_TIMED_OUT) {
    }
    CHECK(wp_clock() >= deadline);
    CHECK_INT(drain(pool, wp_clock() + limit), WP_LATE);
    join_thread(blocked.thread);
    CHECK_INT(blocked.result, WP_LATE);
    wp_job_unref(blocked.job);
    CHECK_INT(finish(waiting), WP_EXPIRED);
    CHECK(ns_since(begin) >= limit);

    wp_stage *stage = wp_stage_new(pool, 1, do_nothing, 4);
    wp_stage_result result;
    enum wp_result got;
    const uint64_t stage_deadline = wp_clock() + limit;
    while ((got = wp_stage_get(stage, stage_deadline, &result)) == WP_INTERRUPTED) {
    }
    CHECK_INT(got, WP_LATE);
    CHECK(wp_clock() >= stage_deadline);
    wp_stage_unref(stage);
    event_set(&g.open);
    CHECK_INT(finish(running), WP_TIMED_OUT);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

static void
test_wall_clock_is_ahead(void)
{
    atomic_store(&wall_jump, DAY);
    wait_in_all_ways();
    atomic_store(&wall_jump, 0);
}

static void
test_wall_clock_is_behind(void)
{
    atomic_store(&wall_jump, -DAY);
    wait_in_all_ways();
    atomic_store(&wall_jump, 0);
}

static atomic_bool jumping;

static void *
jump_to_and_fro(void *unused)
{
    (void)unused;
    for (int64_t i = 0; atomic_load(&jumping); i++) {
        atomic_store(&wall_jump, i % 3 == 0 ? DAY : i % 3 == 1 ? -DAY : 0);
        usleep(500);
    }
    atomic_store(&wall_jump, 0);
    return NULL;
}

static void
test_wall_clock_jumps_all_the_time(void)
{
    atomic_store(&jumping, true);
    pthread_t thread = start_thread(jump_to_and_fro, NULL);
    wait_in_all_ways();
    atomic_store(&jumping, false);
    join_thread(thread);
}

/* The process was stopped, and finds that hours have passed: limits that are over have each one outcome, those that are
 * not hold on, and what has no limit is done. Those who sleep for the time of before wake up when that has passed. */
static void
test_time_that_is_gone(void)
{
    enum { LIMITED = 200 };
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_job *expiring[LIMITED];
    wp_job *patient[LIMITED];
    gate g = {0};
    stopped s = {.g = &g};
    wp_word ran = 0;
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_job *running = job_with(WP_FOREVER, 200 * MS, stand_when_stopped, &s);
    CHECK_INT(wp_pool_submit(pool, 0, running, false), WP_OK);
    event_wait(&s.begun, 1);
    for (int i = 0; i < LIMITED; i++) {
        expiring[i] = job_with((200 + (uint64_t)i) * MS, WP_FOREVER, count_up, &ran);
        CHECK_INT(wp_pool_submit(pool, 0, expiring[i], false), WP_OK);
        patient[i] = job_with(10 * DAY * 1000 * MS, 10 * DAY * 1000 * MS, count_up, &ran);
        CHECK_INT(wp_pool_submit(pool, 0, patient[i], false), WP_OK);
    }
    const uint64_t deadline = wp_clock() + 100 * MS;
    atomic_store(&monotonic_jump, DAY);
    CHECK_INT(drain(pool, deadline), WP_LATE);
    for (int i = 0; i < LIMITED; i++) {
        CHECK_INT(finish(expiring[i]), WP_EXPIRED);
    }
    event_set(&g.open);
    CHECK_INT(finish(running), WP_TIMED_OUT);
    CHECK_INT(finish(first), WP_DONE);
    for (int i = 0; i < LIMITED; i++) {
        CHECK_INT(finish(patient[i]), WP_DONE);
    }
    CHECK_INT(wp_load_acquire(&ran), LIMITED);
    end_pool(pool);
    atomic_store(&monotonic_jump, 0);
}

int
main(void)
{
    check_time_limit(60);
    RUN(test_wall_clock_is_ahead);
    RUN(test_wall_clock_is_behind);
    RUN(test_wall_clock_jumps_all_the_time);
    RUN(test_time_that_is_gone);
    return check_done();
}

#endif
