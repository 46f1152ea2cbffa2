/* What the tests of the core share: events, jobs that wait at a gate, a log of the order in which things happened, and
 * short ways to make, wait for and end what a test needs.
 *
 * Nothing here sleeps to let something happen. A test waits for an event, or, where what it waits for lies inside the
 * pool, looks until it is so (UNTIL); if it never is, the time limit of the harness ends the test. Waits go on after
 * WP_INTERRUPTED, which the portable build says every 50 ms.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "wp_function.h"
#include "wp_internal.h"

#include "check.h"

#include <sched.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

/* Looks until it is so. */
#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        while (!(condition)) {                                                                                         \
            usleep(50);                                                                                                \
        }                                                                                                              \
    } while (0)

#define MS UINT64_C(1000000)

/* Long enough for anything that ought to come, so that it is seen in the result if it does not. */
CHECK_UNUSED static uint64_t
soon(void)
{
    return wp_clock() + 20000 * MS;
}

/* ---- Events ---- */

typedef struct event {
    wp_word count;
} event;

CHECK_UNUSED static void
event_set(event *e)
{
    wp_add_acq_rel(&e->count, 1);
    wp_word_wake(&e->count, WP_WAKE_ALL);
}

/* Waits until it was set so many times. */
CHECK_UNUSED static void
event_wait(event *e, uint32_t times)
{
    for (uint32_t seen = wp_load_acquire(&e->count); seen < times; seen = wp_load_acquire(&e->count)) {
        wp_word_wait(&e->count, seen, WP_FOREVER);
    }
}

/* ---- Jobs ---- */

/* A job that says that it has begun and then waits to be let go. Any number of jobs may stand at one gate. */
typedef struct gate {
    event begun;
    event open;
} gate;

CHECK_UNUSED static int
stand_at_gate(wp_job *job, void *argument)
{
    gate *g = argument;
    (void)job;
    event_set(&g->begun);
    event_wait(&g->open, 1);
    return 0;
}

CHECK_UNUSED static int
do_nothing(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    return 0;
}

CHECK_UNUSED static int
count_up(wp_job *job, void *argument)
{
    (void)job;
    wp_add_acq_rel((wp_word *)argument, 1);
    return 0;
}

/* Says that it has begun, and runs until it is asked to stop. */
CHECK_UNUSED static int
run_until_stopped(wp_job *job, void *argument)
{
    event_set(argument);
    while (!wp_job_should_stop(job)) {
        sched_yield();
    }
    return 7;
}

/* Who wrote when. */
enum { LOG_SIZE = 4096 };

typedef struct order {
    wp_word length;
    int entries[LOG_SIZE];
} order;

typedef struct note {
    order *log;
    int what;
} note;

CHECK_UNUSED static void
order_add(order *log, int what)
{
    uint32_t at = wp_add_acq_rel(&log->length, 1);
    if (CHECK(at < LOG_SIZE)) {
        log->entries[at] = what;
    }
}

CHECK_UNUSED static int
write_note(wp_job *job, void *argument)
{
    const note *n = argument;
    (void)job;
    order_add(n->log, n->what);
    return 0;
}

/* A job with one reference, submitted. */
CHECK_UNUSED static wp_job *
submit(wp_pool *pool, unsigned lane, wp_function *function, void *argument)
{
    wp_job *job = wp_function_job(function, argument, NULL);
    CHECK_INT(wp_pool_submit(pool, lane, job, false), WP_OK);
    return job;
}

/* Submits a job that nobody waits for. */
CHECK_UNUSED static void
post(wp_pool *pool, unsigned lane, wp_function *function, void *argument)
{
    wp_job_unref(submit(pool, lane, function, argument));
}

CHECK_UNUSED static void
wait_settled(wp_job *job)
{
    while (wp_job_wait(job, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
}

/* Waits for the job, drops the reference and returns the outcome. */
CHECK_UNUSED static wp_state
finish(wp_job *job)
{
    wait_settled(job);
    wp_state outcome = wp_job_state(job);
    wp_job_unref(job);
    return outcome;
}

CHECK_UNUSED static enum wp_result
submit_wait(wp_pool *pool, unsigned lane, wp_job *job, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_pool_submit_wait(pool, lane, job, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

CHECK_UNUSED static enum wp_result
wait_room(wp_pool *pool, unsigned lane, wp_token *token, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_pool_wait_room(pool, lane, token, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

/* ---- Pools ---- */

CHECK_UNUSED static wp_pool_config
config_for(uint32_t workers, uint32_t lanes, uint64_t capacity)
{
    wp_pool_config config = {
        .max_workers = workers, .n_lanes = lanes, .idle_timeout = WP_FOREVER, .thread_name = "test"};
    for (uint32_t i = 0; i < lanes; i++) {
        config.lanes[i].capacity = capacity;
    }
    return config;
}

CHECK_UNUSED static wp_pool *
pool_for(uint32_t workers, uint32_t lanes, uint64_t capacity)
{
    wp_pool_config config = config_for(workers, lanes, capacity);
    return wp_pool_new(&config);
}

CHECK_UNUSED static enum wp_result
drain(wp_pool *pool, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_pool_drain(pool, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

CHECK_UNUSED static enum wp_result
join(wp_pool *pool, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_pool_join(pool, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

CHECK_UNUSED static uint64_t
sum_of_outcomes(const wp_lane_stats *lane)
{
    uint64_t sum = 0;
    for (unsigned state = 0; state < WP_STATES; state++) {
        sum += lane->ended[state];
    }
    return sum;
}

/* Every job that was accepted has ended in exactly one way, and nothing is left over. For a pool at rest. */
CHECK_UNUSED static void
check_sums(wp_pool *pool)
{
    wp_pool_stats stats;
    wp_pool_stats_get(pool, &stats);
    CHECK_INT(stats.unfinished, 0);
    for (unsigned i = 0; i < stats.n_lanes; i++) {
        CHECK_INT(stats.lanes[i].waiting, 0);
        CHECK_INT(sum_of_outcomes(&stats.lanes[i]), stats.lanes[i].submitted);
    }
}

/* Closes the pool, sees its threads off, checks its sums and drops it. */
CHECK_UNUSED static void
end_pool(wp_pool *pool)
{
    wp_pool_close(pool);
    CHECK_INT(join(pool, WP_FOREVER), WP_OK);
    check_sums(pool);
    wp_pool_unref(pool);
}

CHECK_UNUSED static wp_pool_stats
stats_of(wp_pool *pool)
{
    wp_pool_stats stats;
    wp_pool_stats_get(pool, &stats);
    return stats;
}

/* Until every worker sleeps. */
CHECK_UNUSED static void
wait_at_rest(wp_pool *pool)
{
    UNTIL(stats_of(pool).busy == 0);
}

CHECK_UNUSED static uint32_t
blocked_in(wp_pool *pool, unsigned lane)
{
    wp_lock_take(&pool->lock);
    uint32_t blocked = pool->lanes[lane].blocked;
    wp_lock_give(&pool->lock);
    return blocked;
}

/* ---- Threads ---- */

CHECK_UNUSED static pthread_t
start_thread(void *(*main)(void *), void *argument)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, main, argument), 0);
    return thread;
}

CHECK_UNUSED static void
join_thread(pthread_t thread)
{
    CHECK_INT(pthread_join(thread, NULL), 0);
}

/* A thread that submits one job and waits for room as long as it must. */
typedef struct submitter {
    wp_pool *pool;
    unsigned lane;
    wp_job *job;
    uint64_t deadline;
    enum wp_result result;
    event over;
    pthread_t thread;
} submitter;

CHECK_UNUSED static void *
submitter_main(void *argument)
{
    submitter *s = argument;
    s->result = submit_wait(s->pool, s->lane, s->job, s->deadline);
    event_set(&s->over);
    return NULL;
}

CHECK_UNUSED static void
submitter_start(submitter *s)
{
    if (s->deadline == 0) {
        s->deadline = WP_FOREVER;
    }
    s->thread = start_thread(submitter_main, s);
}

#endif
