/* Time limits and the keeper: a job that waits too long expires, one that runs too long is asked to stop and ends as timed
 * out, a limit that was kept does no harm, and the host is attended to as long as it asks.
 */
#include "fixture.h"

/* Longer than any test takes, and shorter than "never": the job is watched but nothing should come of it. */
#define LONG (100000 * MS)

static wp_job *
job_with(uint64_t queue_timeout, uint64_t run_timeout, wp_token *token, wp_function *function, void *argument)
{
    wp_function_options options = WP_NO_OPTIONS;
    options.queue_timeout = queue_timeout;
    options.run_timeout = run_timeout;
    options.token = token;
    return wp_function_job(function, argument, &options);
}

static wp_job *
submitted(wp_pool *pool, wp_job *job)
{
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    return job;
}

static wp_job *
occupy(wp_pool *pool, gate *g)
{
    wp_job *job = submit(pool, 0, stand_at_gate, g);
    event_wait(&g->begun, 1);
    return job;
}

static uint32_t
watched(wp_pool *pool)
{
    wp_lock_take(&pool->keeper.side.lock);
    uint32_t members = pool->keeper.members;
    wp_lock_give(&pool->keeper.side.lock);
    return members;
}

/* ---- Waiting too long ---- */

static void
test_expires(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    uint64_t before = wp_clock();
    wp_job *job = submitted(pool, job_with(10 * MS, WP_FOREVER, NULL, do_nothing, NULL));
    wp_job *patient = submitted(pool, job_with(LONG, WP_FOREVER, NULL, do_nothing, NULL));
    CHECK_INT(watched(pool), 2);
    CHECK_INT(finish(job), WP_EXPIRED);
    CHECK(wp_clock() >= before + 10 * MS);
    CHECK_INT(stats_of(pool).lanes[0].waiting, 1);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_EXPIRED], 1);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(patient), WP_DONE);
    CHECK_INT(watched(pool), 0);
    end_pool(pool);
}

/* No time at all: it runs if a worker takes it at once, and it ends in one way or the other. */
static void
test_expires_at_once(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    wp_job *job = job_with(0, WP_FOREVER, NULL, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    CHECK(wp_job_is_settled(job) || wp_job_wait(job, soon()) != WP_WAIT_TIMED_OUT);
    CHECK_INT(finish(job), WP_EXPIRED);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

/* The time is over before the job is in its lane: it must not be forgotten there. */
static void
test_expires_while_it_is_submitted(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    wp_job *jobs[300];
    for (uint64_t i = 0; i < 300; i++) {
        jobs[i] = submitted(pool, job_with(i * 20, WP_FOREVER, NULL, do_nothing, NULL));
    }
    for (int i = 0; i < 300; i++) {
        CHECK_INT(finish(jobs[i]), WP_EXPIRED);
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

static int
run_past(wp_job *job, void *argument)
{
    gate *g = argument;
    stand_at_gate(job, g);
    return wp_job_should_stop(job) ? 1 : 0;
}

/* The keeper may come late, as after the process was stopped: no job begins whose time to wait is over. */
static void
test_expires_without_the_keeper(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_word runs = 0;
    wp_job *first = occupy(pool, &g);
    wp_job *late = submitted(pool, job_with(LONG, WP_FOREVER, NULL, count_up, &runs));
    wp_job *taken_back = submitted(pool, job_with(LONG, WP_FOREVER, NULL, count_up, &runs));
    wp_job *in_time = submitted(pool, job_with(LONG, WP_FOREVER, NULL, count_up, &runs));
    late->queued_at = wp_clock() - LONG; /* The worker reads it after it has taken the lock. */
    taken_back->queued_at = late->queued_at;
    CHECK(!wp_job_run_here(taken_back));
    CHECK_INT(finish(taken_back), WP_EXPIRED);
    event_set(&g.open);
    CHECK_INT(finish(late), WP_EXPIRED);
    CHECK_INT(finish(in_time), WP_DONE);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(wp_load_acquire(&runs), 1);
    end_pool(pool);
}

/* Once a job has begun its waiting time is no concern any more. */
static void
test_queue_timeout_does_not_stop_a_run(void)
{
    wp_pool *pool = pool_for(3, 1, 10);
    gate g = {0};
    wp_job *jobs[2] = {submitted(pool, job_with(20 * MS, WP_FOREVER, NULL, run_past, &g)),
                       submitted(pool, job_with(20 * MS, LONG, NULL, run_past, &g))};
    for (int i = 0; i < 2; i++) {
        UNTIL(wp_job_state(jobs[i]) != WP_PENDING);
    }
    event begun = {0};
    wp_job *clock = submitted(pool, job_with(WP_FOREVER, 40 * MS, NULL, run_until_stopped, &begun));
    CHECK_INT(finish(clock), WP_TIMED_OUT); /* The keeper has come past 20 ms. */
    event_set(&g.open);
    for (int i = 0; i < 2; i++) {
        wp_state outcome = finish(jobs[i]);
        CHECK(outcome == WP_DONE || outcome == WP_EXPIRED); /* The latter if no worker came within 20 ms. */
    }
    end_pool(pool);
}

/* ---- Running too long ---- */

static int
run_until_asked(wp_job *job, void *argument)
{
    uint64_t *deadline = argument;
    *deadline = wp_job_deadline(job);
    while (!wp_job_should_stop(job)) {
        sched_yield();
    }
    return 0;
}

static void
test_times_out(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    uint64_t before = wp_clock();
    uint64_t deadline = 0;
    wp_job *job = submitted(pool, job_with(WP_FOREVER, 10 * MS, NULL, run_until_asked, &deadline));
    CHECK_INT(finish(job), WP_TIMED_OUT);
    CHECK(deadline >= before + 10 * MS);
    CHECK(wp_clock() >= deadline);
    CHECK_INT(finish(submitted(pool, job_with(WP_FOREVER, LONG, NULL, do_nothing, NULL))), WP_DONE);
    CHECK_INT(watched(pool), 0);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_TIMED_OUT], 1);
    end_pool(pool);
}

/* The time counts from the beginning of the run, not from submit. */
static void
test_run_timeout_counts_from_begin(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    wp_job *job = submitted(pool, job_with(WP_FOREVER, 2000 * MS, NULL, do_nothing, NULL));
    uint64_t deadline = 0;
    wp_job *clock = submitted(pool, job_with(WP_FOREVER, 5 * MS, NULL, run_until_asked, &deadline));
    uint64_t submitted_at = wp_clock();
    UNTIL(wp_clock() > submitted_at + 10 * MS);
    CHECK_INT(wp_job_state(clock), WP_PENDING);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(finish(clock), WP_TIMED_OUT);
    CHECK(deadline > submitted_at + 10 * MS);
    end_pool(pool);
}

/* A job that its waiter runs has the same limit, one that was never submitted as well. */
static void
test_limits_where_it_is_run_here(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    uint64_t deadline = 0;
    wp_job *job = submitted(pool, job_with(LONG, 5 * MS, NULL, run_until_asked, &deadline));
    CHECK(wp_job_run_here(job));
    CHECK_INT(finish(job), WP_TIMED_OUT);
    job = job_with(LONG, 5 * MS, NULL, run_until_asked, &deadline);
    wp_pool_run_here(pool, 0, job);
    CHECK_INT(finish(job), WP_TIMED_OUT);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);

    pool = pool_for(1, 1, 10);
    job = job_with(LONG, WP_FOREVER, NULL, do_nothing, NULL);
    wp_pool_run_here(pool, 0, job);
    CHECK_INT(finish(job), WP_DONE);
    CHECK(!pool->keeper.side.started); /* There was nothing to watch. */
    end_pool(pool);
}

/* ---- Tokens whose time comes ---- */

static void
test_token_deadline(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_token *token = wp_token_new(NULL, wp_clock() + 20 * MS);
    uint64_t deadline = 0;
    wp_job *running = submitted(pool, job_with(WP_FOREVER, LONG, token, run_until_asked, &deadline));
    UNTIL(wp_job_state(running) == WP_RUNNING || wp_job_is_settled(running));
    wp_job *waiting = job_with(LONG, WP_FOREVER, token, do_nothing, NULL);
    enum wp_result result = wp_pool_submit(pool, 0, waiting, false);
    CHECK(result == WP_OK || result == WP_STOPPED); /* The latter on a machine that sleeps 20 ms in between. */
    wait_settled(running);
    CHECK(wp_clock() >= wp_token_deadline(token));
    CHECK(wp_token_is_cancelled(token));
    wp_job_unref(running);
    CHECK_INT(drain(pool, soon()), WP_OK);
    wp_job_unref(waiting);
    wp_token_unref(token);
    end_pool(pool);
}

/* After its waiting limit is past, a running job still hears of its token's deadline. */
static void
test_token_deadline_after_queue_timeout(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_token *token = wp_token_new(NULL, wp_clock() + 60 * MS);
    uint64_t deadline = 0;
    wp_job *job = submitted(pool, job_with(30 * MS, WP_FOREVER, token, run_until_asked, &deadline));
    wp_state outcome = finish(job);
    CHECK(outcome == WP_DONE || outcome == WP_EXPIRED); /* The latter where it was not begun within 30 ms. */
    CHECK(outcome == WP_EXPIRED || wp_clock() >= wp_token_deadline(token));
    wp_token_unref(token);
    end_pool(pool);
}

/* ---- Many ---- */

static int
wait_a_little(wp_job *job, void *argument)
{
    (void)argument;
    for (int i = 0; i < 200 && !wp_job_should_stop(job); i++) {
        sched_yield();
    }
    return 0;
}

/* A heap with many limits, from all sides at once: fired, forgotten, changed. Each job ends as one of the ways that are
 * open to it, and nothing is watched after. */
static void
test_many_limits(void)
{
    uint64_t seed = check_seed(2);
    enum { JOBS = 3000 };
    static wp_job *jobs[JOBS];
    wp_pool *pool = pool_for(3, 1, WP_UNBOUNDED);
    for (int i = 0; i < JOBS; i++) {
        uint64_t queue = check_rand(&seed) % 2 ? check_rand(&seed) % (20 * MS) : WP_FOREVER;
        uint64_t run = check_rand(&seed) % 2 ? check_rand(&seed) % (MS / 4) : WP_FOREVER;
        jobs[i] = submitted(pool, job_with(queue, run, NULL, wait_a_little, NULL));
        if (i % 7 == 0) {
            wp_job_cancel(jobs[check_rand(&seed) % (uint64_t)(i + 1)]);
        }
        if (i % 5 == 0) {
            wp_job_run_here(jobs[check_rand(&seed) % (uint64_t)(i + 1)]);
        }
    }
    for (int i = 0; i < JOBS; i++) {
        wait_settled(jobs[i]);
        bool has_queue = jobs[i]->extra->queue_timeout != WP_FOREVER;
        bool has_run = jobs[i]->extra->run_timeout != WP_FOREVER;
        wp_state outcome = finish(jobs[i]);
        CHECK(outcome == WP_DONE || outcome == WP_CANCELLED || (outcome == WP_EXPIRED && has_queue) ||
              (outcome == WP_TIMED_OUT && has_run));
    }
    CHECK_INT(watched(pool), 0);
    CHECK_INT(pool->keeper.size, 0);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
}

/* ---- The keeper ---- */

static void
test_keeper_is_lazy_and_leaves(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    CHECK(!pool->keeper.side.started);
    CHECK_INT(finish(submitted(pool, job_with(LONG, LONG, NULL, do_nothing, NULL))), WP_DONE);
    CHECK(pool->keeper.side.started);
    end_pool(pool); /* Joins it, long before LONG is over. */

    pool = pool_for(1, 1, 10); /* A pool that has a keeper and no workers. */
    pool->config.idle_timeout = MS;
    CHECK_INT(finish(submitted(pool, job_with(LONG, LONG, NULL, do_nothing, NULL))), WP_DONE);
    UNTIL(stats_of(pool).workers == 0);
    end_pool(pool);
}

static void
test_keeper_cannot_be_started(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    wait_at_rest(pool);
    pool->config.stack_size = (size_t)1 << 60; /* The attendant's is no less than a worker's. */
    pool->keeper.side.stack_size = (size_t)1 << 60;
    wp_job *job = job_with(LONG, WP_FOREVER, NULL, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_NO_THREAD);
    CHECK_INT(wp_job_state(job), WP_NEW);
    CHECK(!wp_pool_ask_attendant(pool));
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    pool->config.stack_size = 0;
    pool->keeper.side.stack_size = 0;
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

typedef struct host {
    wp_word work; /* Rounds for which there is something to do. */
    wp_word calls;
    event stopped;
    gate *block;
} host;

static bool
on_attend(void *context)
{
    host *h = context;
    wp_add_acq_rel(&h->calls, 1);
    if (h->block != NULL) {
        event_set(&h->block->begun);
        event_wait(&h->block->open, 1);
    }
    uint32_t work = wp_load_acquire(&h->work);
    while (work > 0 && !wp_cas_weak_acq_rel(&h->work, &work, work - 1)) {
    }
    return work > 0;
}

static void
on_attendant_stop(void *context)
{
    host *h = context;
    event_set(&h->stopped);
}

static wp_pool *
pool_with_host(host *h)
{
    wp_pool_config config = config_for(1, 1, 10);
    config.hooks = (wp_hooks){.attend = on_attend, .attendant_stop = on_attendant_stop, .context = h};
    return wp_pool_new(&config);
}

static void
test_attend(void)
{
    host h = {0};
    wp_pool *pool = pool_with_host(&h);
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t before = wp_load_acquire(&h.calls);
        wp_add_acq_rel(&h.work, 5);
        CHECK(wp_pool_ask_attendant(pool));
        UNTIL(wp_load_acquire(&h.work) == 0);
        CHECK(wp_load_acquire(&h.calls) >= before + 5);
    }
    /* When nothing is left to do it falls silent, and hears the next request all the same. */
    UNTIL(wp_load_acquire(&pool->attendant.request) == 0);
    wp_add_acq_rel(&h.work, 1);
    CHECK(wp_pool_ask_attendant(pool));
    UNTIL(wp_load_acquire(&h.work) == 0);
    CHECK_INT(wp_load_relaxed(&h.stopped.count), 0);
    wp_add_acq_rel(&h.work, 3);
    CHECK(wp_pool_ask_attendant(pool));
    end_pool(pool);
    CHECK_INT(wp_load_acquire(&h.work), 0); /* The last request was attended to before it left. */
    CHECK_INT(wp_load_relaxed(&h.stopped.count), 1);
}

/* Whoever asks when the attendant has left is told so, though its last request was never taken back. */
static void
test_asking_when_it_has_left(void)
{
    host h = {0};
    wp_pool *pool = pool_with_host(&h);
    CHECK(wp_pool_ask_attendant(pool));
    wp_pool_close(pool);
    CHECK_INT(join(pool, WP_FOREVER), WP_OK);
    CHECK(!wp_pool_ask_attendant(pool));
    CHECK(!wp_pool_ask_attendant(pool));
    wp_pool_unref(pool);

    pool = pool_with_host(&h);
    wp_pool_close(pool);
    CHECK(!wp_pool_ask_attendant(pool));
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_expires);
    RUN(test_expires_at_once);
    RUN(test_expires_while_it_is_submitted);
    RUN(test_expires_without_the_keeper);
    RUN(test_queue_timeout_does_not_stop_a_run);
    RUN(test_times_out);
    RUN(test_run_timeout_counts_from_begin);
    RUN(test_limits_where_it_is_run_here);
    RUN(test_token_deadline);
    RUN(test_token_deadline_after_queue_timeout);
    RUN(test_many_limits);
    RUN(test_keeper_is_lazy_and_leaves);
    RUN(test_keeper_cannot_be_started);
    RUN(test_attend);
    RUN(test_asking_when_it_has_left);
    return check_done();
}
