/* Crews: each element of a loop is done once or not at all, by whichever threads there are; the loop is one job that ends
 * once; workers come when it is worth it and leave for more urgent work; nothing is left behind in the lane.
 */
#include "fixture.h"

typedef struct loop loop;

/* What a test does with an element besides counting it. */
typedef bool at_element(loop *l, uint64_t element);

/* A loop whose elements count themselves. */
struct loop {
    wp_job job;
    wp_crew crew;
    wp_extra extra;
    at_element *at; /* Or NULL. */
    void *argument;
    wp_word inside; /* Threads that are in a part. */
    wp_word ends;   /* Calls of `end`. */
    wp_state outcome;
    uint64_t n;
    wp_word *times;
};

static loop *
loop_of(wp_job *job)
{
    return (loop *)(void *)job;
}

static bool
do_part(wp_job *job, uint64_t begin, uint64_t end)
{
    loop *l = loop_of(job);
    bool ok = true;
    CHECK(begin < end && end <= l->n);
    wp_add_acq_rel(&l->inside, 1);
    for (uint64_t i = begin; i < end && ok; i++) {
        wp_add_relaxed(&l->times[i], 1);
        ok = l->at == NULL || l->at(l, i);
    }
    wp_sub_acq_rel(&l->inside, 1);
    return ok;
}

static void
end_loop(wp_job *job, wp_state outcome)
{
    loop *l = loop_of(job);
    CHECK_INT(wp_load_acquire(&l->inside), 0);
    CHECK_INT(wp_add_acq_rel(&l->ends, 1), 0);
    l->outcome = outcome;
}

static const wp_crew_class crew_class = {.part = do_part, .end = end_loop};

static wp_state
run_loop(wp_job *job, wp_worker *self)
{
    return wp_crew_run(&loop_of(job)->crew, self);
}

static void
destroy_loop(wp_job *job)
{
    loop *l = loop_of(job);
    wp_token_unref(l->extra.token);
    free(l->times);
    free(l);
}

static const wp_job_class loop_class = {
    .name = "loop", .run = run_loop, .notify = wp_job_settle, .destroy = destroy_loop, .claim_ns = 20000};

static loop *
new_limited_loop(uint64_t n, uint64_t grain, wp_token *token, uint64_t run_timeout)
{
    loop *l = calloc(1, sizeof *l);
    bool limited = token != NULL || run_timeout != WP_FOREVER;
    wp_extra_init(&l->extra);
    l->extra.run_timeout = run_timeout;
    if (token != NULL) {
        wp_token_ref(token);
        l->extra.token = token;
    }
    l->n = n;
    l->times = calloc(n + 1, sizeof *l->times);
    wp_job_init(&l->job, &loop_class, 0, limited ? &l->extra : NULL);
    wp_crew_init(&l->crew, &l->job, &crew_class, n, grain);
    return l;
}

static loop *
new_loop(uint64_t n, uint64_t grain)
{
    return new_limited_loop(n, grain, NULL, WP_FOREVER);
}

static void
submit_loop(wp_pool *pool, unsigned lane, loop *l)
{
    CHECK_INT(wp_pool_submit(pool, lane, &l->job, false), WP_OK);
}

/* Takes part on this thread, as a caller that waits does, in several goes. */
static void
do_loop_here(wp_pool *pool, unsigned lane, loop *l)
{
    wp_crew_start(&l->crew, pool, lane);
    while (wp_crew_work(&l->crew, NULL, 0)) {
    }
    wp_crew_leave(&l->crew);
}

/* Every element below `done` was done once, and no other. */
static void
check_times(const loop *l, uint64_t done)
{
    for (uint64_t i = 0; i < l->n; i++) {
        CHECK_INT(wp_load_acquire(&l->times[i]), i < done);
    }
}

/* Waits for the end and drops the loop. One that ended well, or was cancelled, has done what it claimed. */
static wp_state
finish_loop(loop *l)
{
    wait_settled(&l->job);
    wp_state outcome = wp_job_state(&l->job);
    CHECK_INT(l->ends, 1);
    if (outcome == WP_DONE) {
        CHECK_INT(wp_crew_claimed(&l->crew), l->n);
    }
    if (outcome != WP_FAILED) {
        check_times(l, wp_crew_claimed(&l->crew));
    }
    wp_job_unref(&l->job);
    return outcome;
}

/* ---- Once each ---- */

static const uint64_t sizes[] = {0, 1, 2, 63, 64, 65, 1000, 30000};
static const uint64_t grains[] = {0, 1, 7, 1000, UINT64_MAX};

static void
test_every_element_once(void)
{
    wp_pool *pool = pool_for(3, 2, WP_UNBOUNDED);
    uint64_t count = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizeof grains / sizeof grains[0]; k++) {
            loop *submitted = new_loop(sizes[i], grains[k]);
            loop *here = new_loop(sizes[i], grains[k]);
            submit_loop(pool, 0, submitted);
            do_loop_here(pool, 1, here);
            CHECK_INT(finish_loop(here), WP_DONE);
            CHECK_INT(finish_loop(submitted), WP_DONE);
            count++;
        }
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    wp_pool_stats stats = stats_of(pool);
    for (unsigned lane = 0; lane < 2; lane++) { /* A loop is one job, and its hands are none. */
        CHECK_INT(stats.lanes[lane].submitted, count);
        CHECK_INT(stats.lanes[lane].ended[WP_DONE], count);
    }
    end_pool(pool);
}

/* With a fixed grain, parts are that long and begin at its multiples. */
typedef struct seen_parts {
    uint64_t grain;
    wp_word n;
} seen_parts;

static bool
note_part(loop *l, uint64_t element)
{
    seen_parts *seen = l->argument;
    if (element % seen->grain == 0) {
        wp_add_relaxed(&seen->n, 1);
    }
    return true;
}

static void
test_fixed_grain(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    seen_parts seen = {.grain = 10};
    loop *l = new_loop(95, 10);
    l->at = note_part;
    l->argument = &seen;
    wp_crew_start(&l->crew, pool, 0);
    uint64_t calls = 1;
    while (wp_crew_work(&l->crew, NULL, 0)) {
        calls++;
    }
    wp_crew_leave(&l->crew);
    CHECK(calls <= 10);
    CHECK_INT(finish_loop(l), WP_DONE);
    CHECK_INT(seen.n, 10);
    end_pool(pool);
}

/* ---- Many hands ---- */

/* A thread does not leave its first element before so many have come to one. */
typedef struct meeting {
    wp_word came;
    uint32_t expected;
} meeting;

static bool
meet_others(loop *l, uint64_t element)
{
    static _Thread_local const meeting *met;
    meeting *m = l->argument;
    (void)element;
    if (met != m) {
        met = m;
        wp_add_acq_rel(&m->came, 1);
        UNTIL(wp_load_acquire(&m->came) >= m->expected);
    }
    return true;
}

/* All workers come to a loop of which nothing is known, and to one that turns out long. */
static void
test_all_workers_come(void)
{
    for (int here = 0; here < 2; here++) {
        static meeting meetings[2];
        meeting *m = &meetings[here];
        m->expected = here ? 4 : 3; /* The caller is one more. */
        wp_pool *pool = pool_for(3, 1, WP_UNBOUNDED);
        loop *l = new_loop(1000, 1);
        l->at = meet_others;
        l->argument = m;
        if (here) {
            do_loop_here(pool, 0, l);
        } else {
            submit_loop(pool, 0, l);
        }
        CHECK_INT(finish_loop(l), WP_DONE);
        end_pool(pool);
    }
}

/* The workers are busy: the caller does it all, and its hand is taken back. */
static void
test_nobody_comes(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    loop *l = new_loop(1000, 1);
    wp_crew_start(&l->crew, pool, 0);
    CHECK(wp_crew_work(&l->crew, NULL, 0));
    CHECK_INT(stats_of(pool).lanes[0].waiting, 1);
    CHECK_INT(stats_of(pool).unfinished, 2);
    while (wp_crew_work(&l->crew, NULL, 0)) {
    }
    wp_crew_leave(&l->crew);
    CHECK(wp_job_is_settled(&l->job));
    CHECK_INT(stats_of(pool).lanes[0].waiting, 0);
    CHECK_INT(finish_loop(l), WP_DONE);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

/* ---- Priorities ---- */

typedef struct urgent {
    wp_pool *pool;
    unsigned lane;
    uint64_t at;
    order *log;
    wp_function *function;
    void *argument;
    wp_job *job;
} urgent;

static bool
submit_urgent(loop *l, uint64_t element)
{
    urgent *u = l->argument;
    if (u->log != NULL) {
        order_add(u->log, (int)element);
    }
    if (element == u->at) {
        u->job = submit(u->pool, u->lane, u->function, u->argument);
    }
    return true;
}

/* The only worker leaves for more urgent work, and goes on afterwards. */
static void
test_urgent_work_comes_between(void)
{
    static order log;
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    note n = {&log, -1};
    urgent u = {.pool = pool, .at = 10, .log = &log, .function = write_note, .argument = &n};
    loop *l = new_loop(50, 2);
    l->at = submit_urgent;
    l->argument = &u;
    submit_loop(pool, 1, l);
    CHECK_INT(finish_loop(l), WP_DONE);
    CHECK_INT(finish(u.job), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(log.length, 51);
    CHECK_INT(log.entries[12], -1); /* After the part that was being done. */
    end_pool(pool);
}

static bool
nap_there(loop *l, uint64_t element)
{
    if (element == 0) {
        event_wait(l->argument, 1);
    }
    usleep(200);
    return true;
}

/* A lane that waits has its turn while a loop goes on that keeps the only worker for long. */
static void
test_other_lanes_have_their_turn(void)
{
    wp_pool_config config = config_for(1, 2, WP_UNBOUNDED);
    config.fairness = 4;
    wp_pool *pool = wp_pool_new(&config);
    event go = {0};
    loop *l = new_loop(1000000, 1);
    l->at = nap_there;
    l->argument = &go;
    submit_loop(pool, 0, l);
    wp_job *low = submit(pool, 1, do_nothing, NULL);
    event_set(&go);
    wait_settled(low);
    CHECK(!wp_job_is_settled(&l->job));
    CHECK_INT(finish(low), WP_DONE);
    CHECK(wp_job_stop(&l->job));
    CHECK_INT(finish_loop(l), WP_CANCELLED);
    end_pool(pool);
}

static int
help_loop(wp_job *job, void *argument)
{
    loop *l = *(loop **)argument;
    (void)job;
    wp_crew_help(&l->crew);
    wait_settled(&l->job);
    return 0;
}

/* The only worker leaves a loop for a job that waits for that loop. */
static void
test_waiter_helps(void)
{
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    loop *l = new_loop(50, 1);
    urgent u = {.pool = pool, .at = 10, .function = help_loop, .argument = &l};
    l->at = submit_urgent;
    l->argument = &u;
    submit_loop(pool, 1, l);
    wait_settled(&l->job);
    CHECK_INT(finish(u.job), WP_DONE);
    CHECK_INT(finish_loop(l), WP_DONE);
    end_pool(pool);
}

/* ---- Ends before the end ---- */

static bool
fail_at(loop *l, uint64_t element)
{
    return element != *(uint64_t *)l->argument;
}

static void
test_failure(void)
{
    wp_pool *pool = pool_for(3, 1, WP_UNBOUNDED);
    for (uint64_t at = 0; at < 200; at += 37) {
        for (int here = 0; here < 2; here++) {
            loop *l = new_loop(200, 3);
            l->at = fail_at;
            l->argument = &at;
            if (here) {
                do_loop_here(pool, 0, l);
            } else {
                submit_loop(pool, 0, l);
            }
            wait_settled(&l->job);
            CHECK_INT(l->times[at], 1);
            CHECK_INT(l->outcome, WP_FAILED);
            CHECK_INT(finish_loop(l), WP_FAILED);
        }
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_FAILED], 12);
    end_pool(pool);
}

typedef struct stopper {
    wp_token *token;
    uint64_t at;
} stopper;

/* Nobody gets far before it is cancelled. */
static bool
cancel_at(loop *l, uint64_t element)
{
    const stopper *s = l->argument;
    if (element == s->at) {
        wp_token_cancel(s->token);
    } else if (element > s->at) {
        UNTIL(wp_token_is_cancelled(s->token));
    }
    return true;
}

static void
test_cancelled_by_token(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    for (int here = 0; here < 2; here++) {
        stopper s = {wp_token_new(NULL, WP_FOREVER), 40};
        loop *l = new_limited_loop(100000, 8, s.token, WP_FOREVER);
        l->at = cancel_at;
        l->argument = &s;
        if (here) {
            do_loop_here(pool, 0, l);
        } else {
            submit_loop(pool, 0, l);
        }
        wait_settled(&l->job);
        CHECK(wp_crew_claimed(&l->crew) >= 41 && wp_crew_claimed(&l->crew) < 100000);
        CHECK_INT(finish_loop(l), WP_CANCELLED);
        wp_token_unref(s.token);
    }
    end_pool(pool);
}

static bool
nap(loop *l, uint64_t element)
{
    (void)l;
    (void)element;
    usleep(1000);
    return true;
}

static void
test_run_timeout(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    for (int here = 0; here < 2; here++) {
        loop *l = new_limited_loop(1000000, 1, NULL, 20 * MS);
        l->at = nap;
        if (here) {
            do_loop_here(pool, 0, l);
        } else {
            submit_loop(pool, 0, l);
        }
        CHECK_INT(finish_loop(l), WP_TIMED_OUT);
    }
    end_pool(pool);
}

static void
test_cancel_before_it_begins(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    loop *l = new_loop(10, 0);
    submit_loop(pool, 0, l);
    CHECK(wp_job_cancel(&l->job));
    CHECK(wp_job_is_settled(&l->job));
    CHECK_INT(wp_job_state(&l->job), WP_CANCELLED);
    CHECK_INT(l->ends, 0);
    check_times(l, 0);
    wp_job_unref(&l->job);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

/* The only worker has left the loop for urgent work, and what waits is cancelled, or lost. */
static void
test_the_only_hope_is_lost(void)
{
    for (int broken = 0; broken < 2; broken++) {
        wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
        gate g = {0};
        urgent u = {.pool = pool, .at = 10, .function = stand_at_gate, .argument = &g};
        loop *l = new_loop(50, 1);
        l->at = submit_urgent;
        l->argument = &u;
        submit_loop(pool, 1, l);
        event_wait(&g.begun, 1);
        CHECK(!wp_job_is_settled(&l->job));
        CHECK_INT(stats_of(pool).lanes[1].waiting, 1);
        if (broken) {
            wp_pool_break(pool);
        } else {
            CHECK_INT(wp_pool_cancel_waiting(pool), 1);
        }
        CHECK(wp_job_is_settled(&l->job));
        CHECK_INT(wp_crew_claimed(&l->crew), 11);
        CHECK_INT(finish_loop(l), broken ? WP_LOST : WP_CANCELLED);
        event_set(&g.open);
        CHECK_INT(finish(u.job), WP_DONE);
        end_pool(pool);
    }
}

/* A pool that closes finishes the loop first. */
static bool
close_at_ten(loop *l, uint64_t element)
{
    if (element == 10) {
        wp_pool_close(l->argument);
    }
    usleep(50);
    return true;
}

static void
test_closed_meanwhile(void)
{
    for (int here = 0; here < 2; here++) {
        wp_pool *pool = pool_for(2, 2, WP_UNBOUNDED);
        loop *l = new_loop(200, 1);
        l->at = close_at_ten;
        l->argument = pool;
        if (here) {
            do_loop_here(pool, 0, l);
        } else {
            submit_loop(pool, 0, l);
        }
        CHECK_INT(finish_loop(l), WP_DONE);
        end_pool(pool);
    }
}

/* ---- At any moment ---- */

typedef struct churn {
    wp_pool *pool;
    wp_word over;
} churn;

static void *
keep_busy(void *argument)
{
    churn *c = argument;
    while (!wp_load_acquire(&c->over)) {
        post(c->pool, 0, do_nothing, NULL);
        usleep(100);
    }
    return NULL;
}

/* Loops are cancelled, stopped and emptied out of their lane while workers come, and leave for urgent work all the
 * time. */
static void
test_stopped_at_any_moment(void)
{
    uint64_t seed = check_seed(11);
    wp_pool *pool = pool_for(3, 2, WP_UNBOUNDED);
    churn c = {.pool = pool};
    pthread_t busy = start_thread(keep_busy, &c);
    for (int round = 0; round < (IS_SANITIZED ? 150 : 600); round++) {
        uint64_t r = check_rand(&seed);
        loop *l = new_loop(1 + (r >> 8) % 3000, r % 3);
        if (r & 0x10) {
            submit_loop(pool, 1, l);
            for (uint64_t i = (r >> 32) % 2000; i > 0; i--) {
                wp_pause();
            }
        } else {
            wp_crew_start(&l->crew, pool, 1);
            for (uint64_t i = (r >> 32) % 30; i > 0 && wp_crew_work(&l->crew, NULL, 0); i--) {
            }
        }
        switch ((r >> 5) % 4) {
        case 0:
            wp_job_stop(&l->job);
            break;
        case 1:
            wp_pool_cancel_waiting(pool);
            break;
        default:
            break;
        }
        if (!(r & 0x10)) {
            wp_crew_work(&l->crew, NULL, WP_FOREVER);
            wp_crew_leave(&l->crew);
        }
        wait_settled(&l->job);
        wp_state outcome = wp_job_state(&l->job);
        CHECK(outcome == WP_DONE || outcome == WP_CANCELLED);
        CHECK(outcome == WP_CANCELLED || wp_crew_claimed(&l->crew) == l->n);
        check_times(l, wp_crew_claimed(&l->crew));
        wp_job_unref(&l->job);
    }
    wp_store_release(&c.over, 1);
    join_thread(busy);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(100);
    RUN(test_every_element_once);
    RUN(test_fixed_grain);
    RUN(test_all_workers_come);
    RUN(test_nobody_comes);
    RUN(test_urgent_work_comes_between);
    RUN(test_other_lanes_have_their_turn);
    RUN(test_waiter_helps);
    RUN(test_failure);
    RUN(test_cancelled_by_token);
    RUN(test_run_timeout);
    RUN(test_cancel_before_it_begins);
    RUN(test_the_only_hope_is_lost);
    RUN(test_closed_meanwhile);
    RUN(test_stopped_at_any_moment);
    return check_done();
}
