/* See wp_function.h. */
#include "wp_function.h"

#include "wp_notes.h"

#include <stdlib.h>

typedef struct function_job {
    wp_job job;
    wp_function *function;
    void *argument;
    wp_notes_slot notes;
    int status;
} function_job;

/* A job with options carries them behind it. */
typedef struct function_job_with_extra {
    function_job base;
    wp_extra extra;
} function_job_with_extra;

static wp_state
run(wp_job *job, wp_worker *self)
{
    (void)self;
    function_job *f = (function_job *)(void *)job;
    f->status = f->function(job, f->argument);
    return f->status == 0 && wp_job_noted_failure(job) == NULL ? WP_DONE : WP_FAILED;
}

static wp_notes_slot *
notes(wp_job *job)
{
    return &((function_job *)(void *)job)->notes;
}

static void
destroy(wp_job *job)
{
    wp_notes_free(notes(job));
    if (job->extra != NULL) {
        wp_token_unref(job->extra->token);
        if (job->extra->results != NULL) {
            wp_results_unref(job->extra->results);
        }
    }
    free(job);
}

static const wp_job_class function_class = {
    .api = &wp_view_api,
    .name = "C function",
    .run = run,
    .notify = wp_job_settle,
    .destroy = destroy,
    .notes = notes,
    .claim_ns = 20000,
    .spread_ns = 2000,
};

static wp_extra *
take_options(function_job *f, const wp_function_options *options)
{
    wp_extra *extra = &((function_job_with_extra *)(void *)f)->extra;
    wp_extra_init(extra);
    extra->queue_timeout = options->queue_timeout;
    extra->run_timeout = options->run_timeout;
    extra->index = options->index;
    if (options->token != NULL) {
        wp_token_ref(options->token);
        extra->token = options->token;
    }
    if (options->results != NULL) {
        wp_results_ref(options->results);
        extra->results = options->results;
    }
    return extra;
}

wp_job *
wp_function_job(wp_function *function, void *argument, const wp_function_options *options)
{
    function_job *f = malloc(options != NULL ? sizeof(function_job_with_extra) : sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    wp_job_init(&f->job, &function_class, 0, options != NULL ? take_options(f, options) : NULL);
    f->function = function;
    f->argument = argument;
    wp_notes_init(&f->notes);
    f->status = 0;
    return &f->job;
}

void *
wp_function_argument(const wp_job *job)
{
    return ((const function_job *)(const void *)job)->argument;
}

int
wp_function_status(const wp_job *job)
{
    return ((const function_job *)(const void *)job)->status;
}

/* Reserves a place for a result, waiting for one as long as the pool takes jobs. */
static enum wp_result
reserve(wp_results *results, wp_pool *pool, uint64_t deadline, uint64_t *index)
{
    wp_until until = {.deadline = deadline, .closables = {wp_pool_closable(pool)}};
    enum wp_result result;
    while ((result = wp_results_reserve(results, index)) == WP_FULL) {
        result = wp_results_wait_room(results, &until);
        if (result != WP_OK) {
            return result;
        }
    }
    return result;
}

enum wp_result
wp_function_submit(wp_pool *pool, unsigned lane, wp_results *results, wp_function *function, void *argument,
                   uint64_t deadline)
{
    wp_function_options options = WP_NO_OPTIONS;
    options.results = results;
    enum wp_result result = reserve(results, pool, deadline, &options.index);
    if (result != WP_OK) {
        return result;
    }
    wp_job *job = wp_function_job(function, argument, &options);
    result = job != NULL ? wp_pool_submit_wait(pool, lane, job, deadline) : WP_NO_MEMORY;
    if (result != WP_OK) {
        wp_results_unreserve(results, options.index);
    }
    if (job != NULL) {
        wp_job_unref(job);
    }
    return result;
}
