/* See wp_handle.h; and what is behind workerpool.h: the table that every view of a job leads to. */
#include "wp_handle.h"

#include "wp_internal.h"
#include "wp_notes.h"
#include "wp_parallel.h"

/* ---- Submitting ---- */

/* Submits, waiting for room; WP_FULL if that is not wanted. */
static enum wp_result
submit_job(wp_pool *pool, unsigned lane, wp_job *job, uint64_t deadline, bool over)
{
    if (over || deadline == 0) {
        return wp_pool_submit(pool, lane, job, over);
    }
    return wp_pool_submit_wait(pool, lane, job, deadline);
}

enum wp_result
wp_handle_submit(wp_pool *pool, unsigned lane, const wp_function_options *options, wp_function *function,
                 void *argument, uint64_t deadline, bool over, wp_handle **handle)
{
    if (lane >= pool->config.n_lanes) {
        return WP_INVALID;
    }
    wp_job *job = wp_function_job(function, argument, options);
    if (job == NULL) {
        return WP_NO_MEMORY;
    }
    enum wp_result result = submit_job(pool, lane, job, deadline, over || wp_worker_in(pool) != NULL);
    if (result == WP_OK && handle != NULL) {
        wp_pool_ref(pool);
        *handle = (wp_handle *)(void *)job;
    } else {
        wp_job_unref(job);
    }
    return result;
}

/* A child has a token of its parent's, unless the parent keeps no notes; then it has that of the parent itself. The parent
 * may know that it should stop before that token is cancelled. */
enum wp_result
wp_job_submit_child(wp_job *parent, int lane, wp_function *function, void *argument, wp_handle **handle)
{
    wp_pool *pool = parent->pool;
    if (pool == NULL) {
        return WP_CLOSED; /* It was not submitted: a native function that Python calls directly. */
    }
    if (wp_job_should_stop(parent)) {
        return WP_STOPPED;
    }
    wp_function_options options = WP_NO_OPTIONS;
    enum wp_result result = wp_job_children(parent, &options.token);
    if (result != WP_OK) {
        return result;
    }
    if (options.token == NULL && parent->extra != NULL) {
        options.token = parent->extra->token;
    }
    return wp_handle_submit(pool, lane < 0 ? parent->lane : (unsigned)lane, options.token != NULL ? &options : NULL,
                            function, argument, 0, true, handle);
}

/* ---- Handles ---- */

static wp_job *
job_of(wp_handle *handle)
{
    return (wp_job *)(void *)handle;
}

static enum wp_result
wait_for(wp_job *job, uint64_t deadline)
{
    char report[1];
    wp_blocked blocked;
    if (!wp_is_worker()) {
        return wp_result_of_wait(wp_job_wait(job, deadline));
    }
    wp_blocked_init(&blocked, job->pool, job->lane, job, deadline != WP_FOREVER);
    return wp_blocked_wait(&blocked, deadline, report, sizeof report);
}

/* A worker that waits for a job of its pool must not wait for itself; and whoever waits for ever would do nothing else
 * meanwhile. A limited wait on another thread keeps its limit. */
static int
handle_wait(wp_handle *handle, uint64_t deadline)
{
    wp_job *job = job_of(handle);
    if (!wp_job_is_settled(job) && wp_job_is_lost(job)) {
        return WP_BROKEN;
    }
    if (wp_job_state(job) == WP_PENDING && deadline == WP_FOREVER) {
        wp_job_run_here(job);
    }
    return wp_job_is_settled(job) ? WP_OK : (int)wait_for(job, deadline);
}

static int
handle_stop(wp_handle *handle)
{
    wp_job *job = job_of(handle);
    return !wp_job_is_settled(job) && !wp_job_is_lost(job) && wp_job_stop(job);
}

/* An outcome that was not told yet is still to come. */
static int
handle_state(wp_handle *handle)
{
    wp_job *job = job_of(handle);
    bool settled = wp_job_is_settled(job);
    wp_state state = wp_job_state(job);
    if (settled) {
        return (int)state;
    }
    if (wp_job_is_lost(job)) {
        return WP_LOST;
    }
    return state > WP_RUNNING ? WP_RUNNING : (int)state;
}

static int
handle_status(wp_handle *handle)
{
    return wp_job_is_settled(job_of(handle)) ? wp_function_status(job_of(handle)) : 0;
}

static const char *
handle_message(wp_handle *handle)
{
    return wp_job_is_settled(job_of(handle)) ? wp_job_noted_failure(job_of(handle)) : NULL;
}

static double
handle_progress(wp_handle *handle)
{
    return wp_job_noted_progress(job_of(handle));
}

static void
handle_release(wp_handle *handle)
{
    wp_pool *pool = job_of(handle)->pool;
    wp_job_unref(job_of(handle));
    wp_pool_unref(pool);
}

/* ---- The table ---- */

static int
submit_child(wp_job *parent, int lane, wp_function *function, void *argument, wp_handle **child)
{
    return (int)wp_job_submit_child(parent, lane, function, argument, child);
}

static int
parallel(wp_job *job, size_t n, size_t grain, wp_body *body, void *context, wp_failed_piece *failed)
{
    return (int)wp_job_parallel_range(job, n, grain, body, context, failed);
}

const wp_job_api wp_view_api = {
    .abi_version = 1,
    .size = sizeof(wp_job_api),
    .clock = wp_clock,
    .progress = wp_job_note_progress,
    .fail = wp_job_note_failure,
    .submit = submit_child,
    .handle_wait = handle_wait,
    .handle_stop = handle_stop,
    .handle_state = handle_state,
    .handle_status = handle_status,
    .handle_message = handle_message,
    .handle_progress = handle_progress,
    .handle_release = handle_release,
    .parallel = parallel,
};
