/* Tokens: a cancellation reaches everything below the token, once, whatever else goes on at the time; a watch that was
 * taken off, or whose job has ended, is not touched.
 */
#include "fixture.h"

static wp_job *
job_with(wp_token *token, wp_function *function, void *argument)
{
    wp_function_options options = WP_NO_OPTIONS;
    options.token = token;
    return wp_function_job(function, argument, &options);
}

/* ---- Trees ---- */

static void
test_cancel_once(void)
{
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    CHECK(!wp_token_is_cancelled(token));
    CHECK(wp_token_cancel(token));
    CHECK(wp_token_is_cancelled(token));
    CHECK(!wp_token_cancel(token));
    wp_token_unref(token);
}

/*        root
 *       /    \
 *      a      b
 *     / \
 *    c   d
 */
static void
test_tree(void)
{
    wp_token *root = wp_token_new(NULL, WP_FOREVER);
    wp_token *a = wp_token_new(root, WP_FOREVER);
    wp_token *b = wp_token_new(root, WP_FOREVER);
    wp_token *c = wp_token_new(a, WP_FOREVER);
    wp_token *d = wp_token_new(a, WP_FOREVER);
    CHECK(wp_token_cancel(a));
    CHECK(!wp_token_is_cancelled(root));
    CHECK(!wp_token_is_cancelled(b));
    CHECK(wp_token_is_cancelled(c));
    CHECK(wp_token_is_cancelled(d));
    CHECK(!wp_token_cancel(c));
    wp_token_unref(c);
    wp_token *e = wp_token_new(a, WP_FOREVER);
    CHECK(wp_token_is_cancelled(e)); /* Born cancelled. */
    CHECK(wp_token_cancel(root));
    CHECK(wp_token_is_cancelled(b));
    wp_token_unref(root); /* In any order: children hold their parents. */
    wp_token_unref(a);
    wp_token_unref(e);
    wp_token_unref(d);
    wp_token_unref(b);
}

static void
test_deep_chain(void)
{
    enum { DEPTH = 100000 };
    wp_token *root = wp_token_new(NULL, WP_FOREVER);
    wp_token *last = root;
    wp_token_ref(root);
    for (int i = 0; i < DEPTH; i++) {
        wp_token *next = wp_token_new(last, WP_FOREVER);
        wp_token_unref(last);
        last = next;
    }
    CHECK(wp_token_cancel(root));
    CHECK(wp_token_is_cancelled(last));
    wp_token_unref(root);
    wp_token_unref(last); /* The whole chain goes, without recursion. */
}

static void
test_deadlines(void)
{
    uint64_t now = wp_clock();
    wp_token *root = wp_token_new(NULL, now + 100000 * MS);
    wp_token *later = wp_token_new(root, now + 200000 * MS);
    wp_token *earlier = wp_token_new(later, now);
    CHECK_INT(wp_token_deadline(later), now + 100000 * MS);
    CHECK_INT(wp_token_deadline(earlier), now);
    CHECK(!wp_token_is_cancelled(root));
    CHECK(!wp_token_is_cancelled(later));
    CHECK(wp_token_is_cancelled(earlier));
    CHECK(wp_token_cancel(earlier)); /* Its time has come, but nobody had cancelled it. */
    wp_token_unref(root);
    wp_token_unref(later);
    wp_token_unref(earlier);
}

/* ---- Jobs ---- */

static gate stopped_at;

/* Runs until it is asked to stop, and then until it is let go: so the worker is not free before the cancellation is
 * through. */
static int
stand_when_stopped(wp_job *job, void *argument)
{
    int status = run_until_stopped(job, argument);
    stand_at_gate(job, &stopped_at);
    return status;
}

static void
test_cancel_reaches_jobs(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_token *root = wp_token_new(NULL, WP_FOREVER);
    wp_token *child = wp_token_new(root, WP_FOREVER);
    event begun = {0};
    wp_job *running = job_with(child, stand_when_stopped, &begun);
    CHECK_INT(wp_pool_submit(pool, 0, running, false), WP_OK);
    event_wait(&begun, 1);
    wp_job *waiting = job_with(root, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, waiting, false), WP_OK);
    wp_job *other = submit(pool, 0, do_nothing, NULL);
    CHECK(wp_token_cancel(root));
    CHECK(wp_job_is_settled(waiting));
    CHECK(wp_job_should_stop(running));
    CHECK_INT(finish(waiting), WP_CANCELLED);
    event_set(&stopped_at.open);
    wait_settled(running);
    CHECK_INT(wp_function_status(running), 7);
    CHECK_INT(finish(running), WP_FAILED);
    CHECK_INT(finish(other), WP_DONE);

    wp_job *late = job_with(child, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, late, false), WP_STOPPED);
    CHECK_INT(wp_job_state(late), WP_NEW);
    CHECK_INT(submit_wait(pool, 0, late, WP_FOREVER), WP_STOPPED);
    wp_job_unref(late);
    wp_token_unref(root);
    wp_token_unref(child);
    end_pool(pool);
}

/* A job that did not get in does not hang on its token, and may be submitted again. */
static void
test_rejected_job_lets_go(void)
{
    wp_pool *pool = pool_for(1, 1, 1);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    gate g = {0};
    wp_job *running = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_job *waiting = submit(pool, 0, do_nothing, NULL);
    wp_job *job = job_with(token, do_nothing, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_FULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_FULL);
    CHECK(job->extra->watch.token == NULL);
    CHECK(wp_job_cancel(waiting));
    wp_job_unref(waiting);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    event_set(&g.open);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(finish(running), WP_DONE);
    CHECK(wp_token_cancel(token));
    wp_token_unref(token);
    wp_pool_close(pool);
    job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_CLOSED);
    wp_job_unref(job);
    end_pool(pool);
}

typedef struct storm {
    wp_pool *pool;
    wp_token *root;
    wp_word round;
    wp_word cancelled;
} storm;

enum { STORM_ROUNDS = 300, STORM_JOBS = 20 };

static void *
cancel_main(void *argument)
{
    storm *s = argument;
    for (uint32_t round = 1; round <= STORM_ROUNDS; round++) {
        while (wp_load_acquire(&s->round) < round) {
            sched_yield();
        }
        wp_token_cancel(s->root);
        wp_store_release(&s->cancelled, round);
    }
    return NULL;
}

static int
sleep_until_stopped(wp_job *job, void *argument)
{
    (void)argument;
    while (!wp_job_should_stop(job)) {
        sched_yield();
    }
    return 0;
}

/* Jobs that end only when they are stopped are submitted while their token is cancelled: none is missed. */
static void
test_cancel_while_submitting(void)
{
    storm s = {.pool = pool_for(3, 1, WP_UNBOUNDED), .root = wp_token_new(NULL, WP_FOREVER)};
    pthread_t thread = start_thread(cancel_main, &s);
    for (uint32_t round = 1; round <= STORM_ROUNDS; round++) {
        wp_token *child = wp_token_new(s.root, WP_FOREVER);
        wp_store_release(&s.round, round);
        for (int i = 0; i < STORM_JOBS; i++) {
            wp_job *job = job_with(i % 2 ? child : s.root, sleep_until_stopped, NULL);
            enum wp_result result = wp_pool_submit(s.pool, 0, job, false);
            CHECK(result == WP_OK || result == WP_STOPPED);
            CHECK(result == WP_OK || wp_job_state(job) == WP_NEW);
            wp_job_unref(job);
        }
        wp_token_unref(child);
        while (wp_load_acquire(&s.cancelled) < round) {
            sched_yield();
        }
        CHECK_INT(drain(s.pool, soon()), WP_OK);
        wp_token_unref(s.root);
        s.root = wp_token_new(NULL, WP_FOREVER);
    }
    join_thread(thread);
    wp_token_unref(s.root);
    end_pool(s.pool);
}

typedef struct family {
    wp_token *root;
    wp_word stop;
} family;

static void *
children_main(void *argument)
{
    family *f = argument;
    while (!wp_load_acquire(&f->stop)) {
        wp_token *a = wp_token_new(f->root, WP_FOREVER);
        wp_token *b = wp_token_new(a, WP_FOREVER);
        wp_token *c = wp_token_new(a, WP_FOREVER);
        wp_token_unref(a);
        wp_token_cancel(b);
        wp_token_unref(c);
        CHECK(wp_token_is_cancelled(b));
        wp_token_unref(b);
    }
    return NULL;
}

/* The tree changes while it is walked. */
static void
test_cancel_while_the_tree_changes(void)
{
    family f = {.root = wp_token_new(NULL, WP_FOREVER)};
    pthread_t threads[2] = {start_thread(children_main, &f), start_thread(children_main, &f)};
    for (int i = 0; i < 500; i++) {
        wp_token *top = wp_token_new(f.root, WP_FOREVER);
        wp_token *below = wp_token_new(top, WP_FOREVER);
        CHECK(wp_token_cancel(top));
        CHECK(wp_token_is_cancelled(below));
        wp_token_unref(top);
        wp_token_unref(below);
    }
    wp_token_cancel(f.root);
    wp_store_release(&f.stop, 1);
    join_thread(threads[0]);
    join_thread(threads[1]);
    wp_token_unref(f.root);
}

/* ---- A job that ends, with its pool, just as its token is cancelled ---- */

static gate at_notice;

static void
notice_at_gate(wp_job *job)
{
    stand_at_gate(job, &at_notice);
    wp_job_settle(job);
}

static void
destroy_plainly(wp_job *job)
{
    free(job);
}

static wp_state
never_run(wp_job *job, wp_worker *self)
{
    (void)job;
    (void)self;
    CHECK(false);
    return WP_DONE;
}

static const wp_job_class noticed_class = {
    .name = "noticed", .run = never_run, .notify = notice_at_gate, .destroy = destroy_plainly};

typedef struct job_with_extra {
    wp_job job;
    wp_extra extra;
} job_with_extra;

static gate in_unit;

static uint32_t
unit_at_gate(wp_job *job, wp_stretch *units, wp_worker *self)
{
    uint32_t begin = 0;
    uint32_t end = 0;
    (void)self;
    wp_stretch_take(units, UINT32_MAX, &begin, &end);
    stand_at_gate(job, &in_unit);
    return end - begin;
}

typedef struct range_with_extra {
    wp_range range;
    wp_extra extra;
} range_with_extra;

static void
destroy_range(wp_job *job)
{
    wp_group_unref(((wp_range *)(void *)job)->group);
    free(job);
}

static const wp_job_class range_class = {
    .name = "range", .run_range = unit_at_gate, .notify = wp_job_settle, .destroy = destroy_range, .claim_ns = 1000};

static void *
cancel_token(void *token)
{
    CHECK(wp_token_cancel(token));
    return NULL;
}

/* The first job's end holds up the cancellation, which has the range on its list already. Meanwhile the range ends, and
 * its pool is dropped by who submitted it. */
static void
test_pool_outlives_cancellation(void)
{
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    wp_pool *slow = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *blocker = submit(slow, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    job_with_extra *first = malloc(sizeof *first);
    wp_extra_init(&first->extra);
    first->extra.token = token;
    wp_job_init(&first->job, &noticed_class, 0, &first->extra);
    CHECK(wp_job_ask_for_notice(&first->job));
    CHECK_INT(wp_pool_submit(slow, 0, &first->job, false), WP_OK);

    wp_pool *fast = pool_for(1, 1, 10);
    wp_group *group = wp_group_new(NULL, 1, true);
    range_with_extra *second = malloc(sizeof *second);
    wp_extra_init(&second->extra);
    second->extra.token = token;
    wp_range_init(&second->range, &range_class, 1, group, &second->extra);
    CHECK_INT(wp_pool_submit(fast, 0, &second->range.job, false), WP_OK);
    event_wait(&in_unit.begun, 1);

    pthread_t thread = start_thread(cancel_token, token);
    event_wait(&at_notice.begun, 1);
    event_set(&in_unit.open);
    CHECK_INT(finish(&second->range.job), WP_DONE);
    end_pool(fast);
    event_set(&at_notice.open);
    join_thread(thread);

    event_set(&g.open);
    CHECK_INT(finish(&first->job), WP_CANCELLED);
    CHECK_INT(finish(blocker), WP_DONE);
    end_pool(slow);
    wp_group_unref(group);
    wp_token_unref(token);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_cancel_once);
    RUN(test_tree);
    RUN(test_deep_chain);
    RUN(test_deadlines);
    RUN(test_cancel_reaches_jobs);
    RUN(test_rejected_job_lets_go);
    RUN(test_cancel_while_submitting);
    RUN(test_cancel_while_the_tree_changes);
    RUN(test_pool_outlives_cancellation);
    return check_done();
}
