/* Jobs that have child jobs: no wait for one deadlocks, whichever workers there are; a stop reaches every child and no
 * stranger; and a handle tells the truth at every moment of its job.
 */
#include "fixture.h"

#include "wp_handle.h"

static wp_handle *
handle_for(wp_pool *pool, unsigned lane, wp_function *function, void *argument)
{
    wp_handle *handle = NULL;
    CHECK_INT(wp_handle_submit(pool, lane, NULL, function, argument, WP_FOREVER, false, &handle), WP_OK);
    return handle;
}

static enum wp_result
wait_for(wp_handle *handle, uint64_t deadline)
{
    int result;
    do {
        result = wp_handle_wait(handle, deadline);
    } while (result == WP_INTERRUPTED);
    return (enum wp_result)result;
}

/* Waits, drops the handle and returns what the function returned. */
static int
status_of(wp_handle *handle)
{
    CHECK_INT(wait_for(handle, WP_FOREVER), WP_OK);
    int status = wp_handle_status(handle);
    wp_handle_release(handle);
    return status;
}

/* ---- Handles ---- */

static int
return_five(wp_job *job, void *argument)
{
    (void)argument;
    wp_job_progress(job, 0.5);
    return 5;
}

static int
fail_and_return_nothing(wp_job *job, void *argument)
{
    wp_job_fail(job, argument);
    return 0;
}

static void
test_handle_tells_the_outcome(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_handle *first = handle_for(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_handle *second = handle_for(pool, 0, return_five, NULL);
    wp_handle *third = handle_for(pool, 0, fail_and_return_nothing, "because");
    wp_handle *fourth = handle_for(pool, 0, do_nothing, NULL);
    CHECK_INT(wp_handle_state(first), WP_RUNNING);
    CHECK_INT(wp_handle_state(second), WP_PENDING);
    CHECK_INT(wait_for(second, 0), WP_LATE);
    CHECK_INT(wait_for(second, wp_clock() + 5 * MS), WP_LATE);
    CHECK(wp_handle_progress(second) < 0);
    CHECK_INT(wp_handle_stop(fourth), 1);
    CHECK_INT(wp_handle_stop(fourth), 0);
    CHECK_INT(wp_handle_state(fourth), WP_CANCELLED);
    CHECK_INT(wait_for(fourth, 0), WP_OK);
    event_set(&g.open);
    CHECK_INT(wait_for(third, WP_FOREVER), WP_OK);
    CHECK_INT(wp_handle_state(third), WP_FAILED);
    CHECK_INT(wp_handle_status(third), 0);
    CHECK_STR(wp_handle_message(third), "because");
    CHECK_INT(wait_for(second, WP_FOREVER), WP_OK);
    CHECK_INT(wp_handle_state(second), WP_FAILED);
    CHECK_INT(wp_handle_status(second), 5);
    CHECK(wp_handle_message(second) == NULL);
    CHECK(wp_handle_progress(second) == 0.5);
    CHECK_INT(wait_for(first, WP_FOREVER), WP_OK);
    CHECK_INT(wp_handle_state(first), WP_DONE);
    end_pool(pool);
    /* What they say stays, whatever became of the pool. */
    CHECK_STR(wp_handle_message(third), "because");
    CHECK_INT(wp_handle_stop(second), 0);
    CHECK_INT(wait_for(second, 0), WP_OK);
    wp_handle_release(first);
    wp_handle_release(second);
    wp_handle_release(third);
    wp_handle_release(fourth);
    wp_handle_release(NULL);
}

static void
test_what_cannot_be_submitted(void)
{
    wp_pool *pool = pool_for(1, 2, 1);
    wp_handle *none = NULL;
    gate g = {0};
    wp_handle *first = handle_for(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    CHECK_INT(wp_handle_submit(pool, 2, NULL, do_nothing, NULL, 0, false, &none), WP_INVALID);
    wp_handle *second = handle_for(pool, 0, do_nothing, NULL);
    CHECK_INT(wp_handle_submit(pool, 0, NULL, do_nothing, NULL, 0, false, &none), WP_FULL);
    CHECK_INT(wp_handle_submit(pool, 0, NULL, do_nothing, NULL, 1, false, &none), WP_LATE);
    CHECK_INT(wp_handle_submit(pool, 0, NULL, do_nothing, NULL, 0, true, NULL), WP_OK);
    event_set(&g.open);
    CHECK_INT(status_of(first), 0);
    CHECK_INT(status_of(second), 0);
    wp_pool_close(pool);
    CHECK_INT(wp_handle_submit(pool, 0, NULL, do_nothing, NULL, 0, true, &none), WP_CLOSED);
    CHECK(none == NULL);
    end_pool(pool);
}

/* Who waits without a limit runs a job that has not begun; who has a limit, and is no worker, does not. */
static void
test_waiter_takes_its_job_back(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_word count = 0;
    wp_handle *first = handle_for(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_handle *second = handle_for(pool, 0, count_up, &count);
    CHECK_INT(wait_for(second, wp_clock() + 5 * MS), WP_LATE);
    CHECK_INT(wp_load_acquire(&count), 0);
    CHECK_INT(wait_for(second, WP_FOREVER), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 1);
    CHECK_INT(wp_job_worker((const wp_job *)(void *)second), WP_NO_WORKER);
    wp_handle_release(second);
    event_set(&g.open);
    CHECK_INT(status_of(first), 0);
    end_pool(pool);
}

/* The pool is dropped first, then the job ends, then the handle goes. */
static void
test_handle_outlives_the_pool(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_handle *handle = handle_for(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_pool_unref(pool);
    event_set(&g.open);
    CHECK_INT(status_of(handle), 0);
}

/* ---- Children ---- */

/* A tree of jobs: each but the leaves has two children, waits for them and counts. */
typedef struct tree {
    int depth;
    int lane;
    wp_word *leaves;
} tree;

static int
grow(wp_job *job, void *argument)
{
    const tree *t = argument;
    if (t->depth == 0) {
        wp_add_acq_rel(t->leaves, 1);
        return 1;
    }
    tree below = {t->depth - 1, t->lane, t->leaves};
    wp_handle *children[2];
    for (int i = 0; i < 2; i++) {
        CHECK_INT(wp_job_submit(job, t->lane, grow, &below, &children[i]), WP_OK);
    }
    return status_of(children[0]) + status_of(children[1]);
}

static void
test_trees_of_jobs(void)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        for (int lane = WP_SAME_LANE; lane <= 1; lane++) {
            wp_pool *pool = pool_for(workers, 2, 1);
            wp_word leaves = 0;
            tree t = {6, lane, &leaves};
            CHECK_INT(status_of(handle_for(pool, 1, grow, &t)), 64);
            CHECK_INT(wp_load_acquire(&leaves), 64);
            end_pool(pool);
        }
    }
}

/* Lanes that let one job run at a time, and one without a waiting line. */
static void
test_trees_in_narrow_lanes(void)
{
    for (uint64_t capacity = 0; capacity < 2; capacity++) {
        wp_pool_config config = config_for(2, 2, capacity);
        config.lanes[0].max_running = 1;
        config.lanes[1].max_running = 1;
        wp_pool *pool = wp_pool_new(&config);
        for (int lane = WP_SAME_LANE; lane <= 1; lane++) {
            wp_word leaves = 0;
            tree t = {5, lane, &leaves};
            CHECK_INT(status_of(handle_for(pool, 1, grow, &t)), 32);
        }
        end_pool(pool);
    }
}

typedef struct family {
    event begun;   /* Children that run until they are stopped. */
    event let_go;  /* The parent may end. */
    wp_word ended; /* Children that ended. */
    wp_job *parent;
    wp_handle *stranger;
    bool late_child; /* The parent tries to have one more child after it was asked to stop. */
    int late_result;
} family;

static int
run_until_stopped_and_count(wp_job *job, void *argument)
{
    family *f = argument;
    run_until_stopped(job, &f->begun);
    wp_add_acq_rel(&f->ended, 1);
    return 1;
}

/* Has two children that run and one that waits, for a pool of three workers, and waits for them all. */
static int
parent_of_three(wp_job *job, void *argument)
{
    family *f = argument;
    wp_handle *children[3];
    for (int i = 0; i < 2; i++) {
        CHECK_INT(wp_job_submit(job, WP_SAME_LANE, run_until_stopped_and_count, f, &children[i]), WP_OK);
    }
    event_wait(&f->begun, 2);
    CHECK_INT(wp_job_submit(job, WP_SAME_LANE, do_nothing, NULL, &children[2]), WP_OK);
    event_set(&f->let_go);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(wait_for(children[i], WP_FOREVER), WP_OK);
        wp_handle_release(children[i]);
    }
    CHECK(wp_job_should_stop(job));
    f->late_result = wp_job_submit(job, WP_SAME_LANE, do_nothing, NULL, NULL);
    return 0;
}

static void
check_family_was_stopped(family *f, wp_handle *parent)
{
    CHECK_INT(wait_for(parent, WP_FOREVER), WP_OK);
    CHECK_INT(wp_load_acquire(&f->ended), 2);
    CHECK_INT(f->late_result, WP_STOPPED);
    wp_handle_release(parent);
}

static void
test_stop_reaches_the_children(void)
{
    wp_pool *pool = pool_for(3, 2, 10);
    family f = {0};
    wp_handle *parent = handle_for(pool, 0, parent_of_three, &f);
    event_wait(&f.let_go, 1);
    CHECK_INT(wp_handle_stop(parent), 1);
    check_family_was_stopped(&f, parent);
    end_pool(pool);
}

static void
test_token_reaches_the_children(void)
{
    wp_pool *pool = pool_for(3, 2, 10);
    family f = {0};
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    wp_function_options options = WP_NO_OPTIONS;
    options.token = token;
    wp_handle *parent;
    CHECK_INT(wp_handle_submit(pool, 0, &options, parent_of_three, &f, WP_FOREVER, false, &parent), WP_OK);
    event_wait(&f.let_go, 1);
    CHECK(wp_token_cancel(token));
    check_family_was_stopped(&f, parent);
    wp_token_unref(token);
    end_pool(pool);
}

static void
test_time_limit_reaches_the_children(void)
{
    wp_pool *pool = pool_for(3, 2, 10);
    family f = {0};
    wp_function_options options = WP_NO_OPTIONS;
    options.run_timeout = 50 * MS;
    wp_handle *parent;
    CHECK_INT(wp_handle_submit(pool, 0, &options, parent_of_three, &f, WP_FOREVER, false, &parent), WP_OK);
    CHECK_INT(wait_for(parent, WP_FOREVER), WP_OK);
    CHECK_INT(wp_handle_state(parent), WP_TIMED_OUT);
    check_family_was_stopped(&f, parent);
    end_pool(pool);
}

/* The only worker is the parent's: its child waits, and does not begin. */
static int
parent_of_one_that_waits(wp_job *job, void *argument)
{
    wp_handle *child;
    CHECK_INT(wp_job_submit(job, WP_SAME_LANE, do_nothing, NULL, &child), WP_OK);
    run_until_stopped(job, argument);
    UNTIL(wp_handle_state(child) == WP_CANCELLED);
    wp_handle_release(child);
    return 0;
}

static void
test_stop_withdraws_a_child_that_waits(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    event begun = {0};
    wp_handle *parent = handle_for(pool, 0, parent_of_one_that_waits, &begun);
    event_wait(&begun, 1);
    CHECK_INT(wp_handle_stop(parent), 1);
    CHECK_INT(status_of(parent), 0);
    end_pool(pool);
}

static int
parent_of_one(wp_job *job, void *argument)
{
    family *f = argument;
    CHECK_INT(wp_job_submit(job, WP_SAME_LANE, run_until_stopped_and_count, f, NULL), WP_OK);
    event_wait(&f->begun, 1);
    return 0;
}

/* A child is not its parent's prisoner: the parent ends first, and who cancels the parent's token still reaches it. */
static void
test_child_outlives_its_parent(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    family f = {0};
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    wp_function_options options = WP_NO_OPTIONS;
    options.token = token;
    wp_handle *parent;
    CHECK_INT(wp_handle_submit(pool, 0, &options, parent_of_one, &f, WP_FOREVER, false, &parent), WP_OK);
    CHECK_INT(status_of(parent), 0);
    CHECK_INT(wp_load_acquire(&f.ended), 0);
    CHECK(wp_token_cancel(token));
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&f.ended), 1);
    wp_token_unref(token);
    end_pool(pool);
}

/* The stop comes at any moment while the parent has its first child. */
static int
parent_at_any_moment(wp_job *job, void *argument)
{
    wp_handle *child;
    event_set(argument);
    int result = wp_job_submit(job, WP_SAME_LANE, run_until_stopped, argument, &child);
    if (result != WP_OK) {
        CHECK_INT(result, WP_STOPPED);
        return 0;
    }
    CHECK_INT(wait_for(child, WP_FOREVER), WP_OK);
    wp_handle_release(child);
    return 0;
}

static void
test_stop_at_any_moment(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    uint64_t random = check_seed(1);
    for (int round = 0; round < 500; round++) {
        event begun = {0};
        wp_handle *parent = handle_for(pool, 0, parent_at_any_moment, &begun);
        event_wait(&begun, 1);
        for (uint64_t i = check_rand(&random) % 300; i > 0; i--) {
            wp_pause();
        }
        wp_handle_stop(parent);
        CHECK_INT(status_of(parent), 0);
    }
    end_pool(pool);
}

/* A child of a job in a full lane is let in; one in a lane that is not there, or in a pool that is closed, is not. */
static int
try_all_lanes(wp_job *job, void *argument)
{
    wp_word *count = argument;
    CHECK_INT(wp_job_submit(job, 2, count_up, count, NULL), WP_INVALID);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(wp_job_submit(job, i % 2, count_up, count, NULL), WP_OK);
    }
    return 0;
}

static int
try_after_close(wp_job *job, void *argument)
{
    family *f = argument;
    event_set(&f->begun);
    event_wait(&f->let_go, 1);
    f->late_result = wp_job_submit(job, WP_SAME_LANE, do_nothing, NULL, NULL);
    return 0;
}

static void
test_where_children_may_go(void)
{
    wp_pool *pool = pool_for(1, 2, 1);
    wp_word count = 0;
    CHECK_INT(status_of(handle_for(pool, 0, try_all_lanes, &count)), 0);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 5);
    family f = {0};
    wp_handle *last = handle_for(pool, 0, try_after_close, &f);
    event_wait(&f.begun, 1);
    wp_pool_close(pool);
    event_set(&f.let_go);
    CHECK_INT(status_of(last), 0);
    CHECK_INT(f.late_result, WP_CLOSED);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(50);
    RUN(test_handle_tells_the_outcome);
    RUN(test_what_cannot_be_submitted);
    RUN(test_waiter_takes_its_job_back);
    RUN(test_handle_outlives_the_pool);
    RUN(test_trees_of_jobs);
    RUN(test_trees_in_narrow_lanes);
    RUN(test_stop_reaches_the_children);
    RUN(test_token_reaches_the_children);
    RUN(test_time_limit_reaches_the_children);
    RUN(test_stop_withdraws_a_child_that_waits);
    RUN(test_child_outlives_its_parent);
    RUN(test_stop_at_any_moment);
    RUN(test_where_children_may_go);
    return check_done();
}
