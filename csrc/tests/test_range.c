/* Ranges: each unit is done exactly once or given up exactly once, by whichever worker or waiter comes first; one unit that
 * takes long holds up no other; and who waits for progress hears of it.
 */
#include "fixture.h"

enum { MOST_UNITS = 5000 };

/* A range whose units count themselves, and stand at a gate where they are told to. */
typedef struct counted {
    wp_range range;
    wp_extra extra;
    uint32_t gated; /* The unit that stands at the gate; UINT32_MAX for none. */
    gate *g;
    order *log; /* Or NULL. */
    wp_word *times;
} counted;

static uint32_t
run_units(wp_job *job, wp_stretch *units, wp_worker *self)
{
    counted *c = (counted *)(void *)job;
    uint32_t done = 0;
    uint32_t at;
    uint32_t end;
    while (wp_stretch_take(units, 1, &at, &end)) {
        CHECK_INT(end, at + 1);
        if (at == c->gated) {
            stand_at_gate(job, c->g);
        }
        wp_add_acq_rel(&c->times[at], 1);
        if (c->log != NULL) {
            order_add(c->log, (int)at);
        }
        done++;
        if (wp_worker_is_wanted(self)) {
            break;
        }
    }
    return done;
}

static void
destroy_counted(wp_job *job)
{
    counted *c = (counted *)(void *)job;
    wp_group_unref(c->range.group);
    if (job->extra != NULL) {
        wp_token_unref(job->extra->token);
    }
    free(c->times);
    free(c);
}

static const wp_job_class counted_class = {
    .name = "counted", .run_range = run_units, .notify = wp_job_settle, .destroy = destroy_counted, .claim_ns = 20000};

static counted *
new_range(wp_group *group, uint32_t units, wp_token *token)
{
    counted *c = calloc(1, sizeof *c);
    wp_extra_init(&c->extra);
    if (token != NULL) {
        wp_token_ref(token);
        c->extra.token = token;
    }
    c->gated = UINT32_MAX;
    c->times = calloc(units, sizeof *c->times);
    wp_range_init(&c->range, &counted_class, units, group, token != NULL ? &c->extra : NULL);
    return c;
}

static void
submit_range(wp_pool *pool, unsigned lane, counted *c)
{
    CHECK_INT(wp_pool_submit(pool, lane, &c->range.job, false), WP_OK);
}

static uint32_t
units_done(const counted *c)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < c->range.units; i++) {
        uint32_t times = wp_load_acquire(&c->times[i]);
        CHECK(times <= 1);
        done += times;
    }
    return done;
}

static wp_state
finish_range(counted *c)
{
    return finish(&c->range.job);
}

/* ---- Once each ---- */

static void
test_every_unit_once(void)
{
    static const uint32_t sizes[] = {1, 2, 3, 7, 64, 1000, MOST_UNITS};
    wp_pool *pool = pool_for(4, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 100, false);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            counted *c = new_range(group, sizes[i], NULL);
            submit_range(pool, 0, c);
            wait_settled(&c->range.job);
            CHECK_INT(units_done(c), sizes[i]);
            CHECK_INT(finish_range(c), WP_DONE);
        }
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    wp_group_unref(group);
    end_pool(pool);
}

static void
test_many_ranges_with_their_consumer(void)
{
    wp_pool *pool = pool_for(3, 2, WP_UNBOUNDED);
    for (int round = 0; round < 20; round++) {
        wp_group *group = wp_group_new(NULL, 1 + (uint32_t)round * 5, round % 2 == 0);
        counted *c[10];
        for (int i = 0; i < 10; i++) {
            c[i] = new_range(group, 200, NULL);
            submit_range(pool, (unsigned)i % 2, c[i]);
        }
        for (int i = 0; i < 10; i++) {
            while (wp_range_run_here(&c[i]->range, 7) > 0) {
            }
            wait_settled(&c[i]->range.job);
            CHECK_INT(units_done(c[i]), 200);
            CHECK_INT(finish_range(c[i]), WP_DONE);
        }
        wp_group_unref(group);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 20 * 5 * 200);
    end_pool(pool);
}

/* A unit counts as a job: in what waits, in what is unfinished, in the capacity. */
static void
test_units_are_counted(void)
{
    wp_pool *pool = pool_for(1, 1, 150);
    wp_group *group = wp_group_new(NULL, 10, false);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    counted *c = new_range(group, 100, NULL);
    counted *d = new_range(group, 100, NULL);
    submit_range(pool, 0, c);
    CHECK_INT(stats_of(pool).lanes[0].waiting, 100);
    CHECK_INT(stats_of(pool).unfinished, 101);
    submit_range(pool, 0, d); /* There is some room, though not for all of it. */
    counted *e = new_range(group, 1, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, &e->range.job, false), WP_FULL);
    CHECK_INT(stats_of(pool).lanes[0].rejected, 1);
    wp_job_unref(&e->range.job);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish_range(c), WP_DONE);
    CHECK_INT(finish_range(d), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 201);
    wp_group_unref(group);
    end_pool(pool);
}

/* ---- Run here ---- */

static void
test_consumer_does_it_all(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, false);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    counted *c = new_range(group, 25, NULL);
    submit_range(pool, 0, c);
    CHECK_INT(wp_range_run_here(&c->range, 10), 10);
    CHECK(!wp_job_is_settled(&c->range.job));
    CHECK_INT(wp_range_run_here(&c->range, 10), 10);
    CHECK_INT(wp_range_run_here(&c->range, 10), 5);
    CHECK_INT(wp_range_run_here(&c->range, 10), 0);
    CHECK(wp_job_is_settled(&c->range.job));
    CHECK_INT(units_done(c), 25);
    CHECK_INT(finish_range(c), WP_DONE);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

/* ---- Shared out ---- */

/* A worker is held up in the first unit of a large claim: the rest is not held up with it. */
static void
test_long_unit_holds_up_no_other(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 100, true);
    gate g = {0};
    counted *c = new_range(group, 100, NULL);
    c->gated = 0;
    c->g = &g;
    submit_range(pool, 0, c);
    event_wait(&g.begun, 1);
    UNTIL(units_done(c) == 99);
    CHECK(!wp_job_is_settled(&c->range.job));
    event_set(&g.open);
    CHECK_INT(finish_range(c), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

/* More urgent work comes: the worker returns what it has not begun, does that, and goes on. */
static void
test_give_back(void)
{
    static order log;
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 50, true);
    gate g = {0};
    counted *c = new_range(group, 50, NULL);
    c->gated = 10;
    c->g = &g;
    c->log = &log;
    submit_range(pool, 1, c);
    event_wait(&g.begun, 1);
    note n = {&log, -1};
    wp_job *urgent = submit(pool, 0, write_note, &n);
    event_set(&g.open);
    CHECK_INT(finish(urgent), WP_DONE);
    wait_settled(&c->range.job);
    CHECK_INT(units_done(c), 50);
    CHECK_INT(finish_range(c), WP_DONE);
    for (int i = 0; i < 51; i++) {
        CHECK_INT(log.entries[i], i <= 10 ? i : i == 11 ? -1 : i - 1);
    }
    wp_group_unref(group);
    end_pool(pool);
}

/* What was given back is a second span of the range. Its consumer finds that too, and needs no worker for it. */
static void
test_consumer_finds_what_was_given_back(void)
{
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, true);
    gate in_unit = {0};
    gate in_urgent = {0};
    counted *c = new_range(group, 100, NULL);
    c->gated = 0;
    c->g = &in_unit;
    submit_range(pool, 1, c);
    event_wait(&in_unit.begun, 1);
    wp_job *urgent = submit(pool, 0, stand_at_gate, &in_urgent);
    event_set(&in_unit.open);
    event_wait(&in_urgent.begun, 1);
    uint32_t done = 1;
    for (uint32_t now = 1; now > 0; done += now) {
        now = wp_range_run_here(&c->range, 1000);
    }
    CHECK_INT(done, 100);
    CHECK(wp_job_is_settled(&c->range.job));
    CHECK_INT(units_done(c), 100);
    CHECK_INT(finish_range(c), WP_DONE);
    event_set(&in_urgent.open);
    CHECK_INT(finish(urgent), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

/* In a lane that is served once in a while only, a range still gets on, though it is wanted elsewhere each time. */
static void
test_range_in_a_starved_lane(void)
{
    wp_pool_config config = config_for(1, 2, WP_UNBOUNDED);
    config.fairness = 4;
    wp_pool *pool = wp_pool_new(&config);
    wp_group *group = wp_group_new(NULL, 10, false);
    static order log;
    static note n;
    n = (note){&log, -1};
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    counted *c = new_range(group, 20, NULL);
    c->log = &log;
    submit_range(pool, 1, c);
    for (int i = 0; i < 200; i++) {
        post(pool, 0, write_note, &n);
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    int units = 0;
    for (int i = 0; i < 20 * 4; i++) {
        units += log.entries[i] >= 0;
        CHECK(units >= (i + 1) / 4);
    }
    CHECK_INT(units, 20);
    CHECK_INT(finish_range(c), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

/* ---- Cancelled ---- */

static void
test_cancel_before_it_begins(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, false);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    counted *c = new_range(group, 30, NULL);
    submit_range(pool, 0, c);
    wp_range_cancel(&c->range);
    CHECK(wp_job_is_settled(&c->range.job));
    wp_range_cancel(&c->range); /* To no effect. */
    CHECK_INT(units_done(c), 0);
    CHECK_INT(wp_range_run_here(&c->range, 10), 0);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_CANCELLED], 30);
    CHECK_INT(stats_of(pool).lanes[0].waiting, 0);
    CHECK_INT(finish_range(c), WP_CANCELLED);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

/* Units that run are not touched; those claimed and not begun are given up like those that wait. */
static void
test_cancel_while_it_runs(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, true);
    gate g = {0};
    counted *c = new_range(group, 30, NULL);
    c->gated = 4;
    c->g = &g;
    submit_range(pool, 0, c);
    event_wait(&g.begun, 1);
    CHECK(wp_job_stop(&c->range.job));
    CHECK(wp_job_should_stop(&c->range.job));
    CHECK(!wp_job_is_settled(&c->range.job));
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_CANCELLED], 25);
    event_set(&g.open);
    wait_settled(&c->range.job);
    CHECK_INT(units_done(c), 5);
    CHECK_INT(finish_range(c), WP_CANCELLED);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 5);
    wp_group_unref(group);
    end_pool(pool);
}

/* A cancellation that comes when every unit has begun changes nothing. */
static void
test_cancel_too_late(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, true);
    gate g = {0};
    counted *c = new_range(group, 3, NULL);
    c->gated = 2;
    c->g = &g;
    submit_range(pool, 0, c);
    event_wait(&g.begun, 1);
    wp_range_cancel(&c->range);
    event_set(&g.open);
    wait_settled(&c->range.job);
    CHECK_INT(units_done(c), 3);
    CHECK_INT(finish_range(c), WP_DONE);
    wp_group_unref(group);
    end_pool(pool);
}

static void
test_cancelled_by_others(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 10, false);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    counted *c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = new_range(group, 30, i == 0 || i == 3 ? token : NULL);
        c[i]->extra.queue_timeout = i == 3 ? MS : WP_FOREVER;
        submit_range(pool, 0, c[i]);
    }
    CHECK_INT(finish_range(c[3]), WP_CANCELLED); /* It waited too long. */
    CHECK(wp_token_cancel(token));
    CHECK_INT(finish_range(c[0]), WP_CANCELLED);
    CHECK_INT(wp_pool_cancel_waiting(pool), 60);
    CHECK_INT(finish_range(c[1]), WP_CANCELLED);
    CHECK_INT(finish_range(c[2]), WP_CANCELLED);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_token_unref(token);
    wp_group_unref(group);
    end_pool(pool);
}

/* Cancelled while workers and the consumer are at it. */
static void
test_cancel_at_any_moment(void)
{
    uint64_t seed = check_seed(4);
    wp_pool *pool = pool_for(3, 1, WP_UNBOUNDED);
    wp_group *group = wp_group_new(NULL, 16, false);
    for (int round = 0; round < 200; round++) {
        counted *c = new_range(group, 300, NULL);
        submit_range(pool, 0, c);
        for (uint64_t i = check_rand(&seed) % 20; i > 0; i--) {
            wp_range_run_here(&c->range, 3);
        }
        wp_range_cancel(&c->range);
        wait_settled(&c->range.job);
        uint32_t done = units_done(c);
        CHECK_INT(wp_job_state(&c->range.job), done == 300 ? WP_DONE : WP_CANCELLED);
        wp_job_unref(&c->range.job);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    wp_group_unref(group);
    end_pool(pool);
}

/* ---- Waiting for progress ---- */

/* The consumer waits for the units in their order, as a map does: whatever it looks for comes, and it is woken. */
static void
test_progress(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    for (int round = 0; round < 50; round++) {
        wp_group *group = wp_group_new(NULL, 3, true);
        counted *c = new_range(group, 100, NULL);
        submit_range(pool, 0, c);
        uint32_t seen = wp_group_listen(group);
        for (uint32_t i = 0; i < 100; i++) {
            while (wp_load_acquire(&c->times[i]) == 0) {
                CHECK(wp_group_sleep(group, seen, soon()) != WP_WAIT_TIMED_OUT);
                seen = wp_group_progress(group);
            }
        }
        wp_group_ignore(group);
        CHECK_INT(wp_load_acquire(&group->listeners), 0);
        CHECK_INT(finish_range(c), WP_DONE);
        wp_group_unref(group);
    }
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_every_unit_once);
    RUN(test_many_ranges_with_their_consumer);
    RUN(test_units_are_counted);
    RUN(test_consumer_does_it_all);
    RUN(test_long_unit_holds_up_no_other);
    RUN(test_give_back);
    RUN(test_consumer_finds_what_was_given_back);
    RUN(test_range_in_a_starved_lane);
    RUN(test_cancel_before_it_begins);
    RUN(test_cancel_while_it_runs);
    RUN(test_cancel_too_late);
    RUN(test_cancelled_by_others);
    RUN(test_cancel_at_any_moment);
    RUN(test_progress);
    return check_done();
}
