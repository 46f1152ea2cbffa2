/* The simplest jobs: a C function and a pointer. For programs in C that use the pool by itself.
 *
 *     static int square(wp_job *job, void *argument) { ... return 0; }
 *
 *     wp_job *job = wp_function_job(square, &number, NULL);
 *     wp_pool_submit_wait(pool, 0, job, WP_FOREVER);
 *     wp_job_wait(job, WP_FOREVER);
 *     int status = wp_function_status(job);
 *     wp_job_unref(job);
 */
#ifndef WP_FUNCTION_H
#define WP_FUNCTION_H

#include "wp_pool.h"
#include "wp_results.h"

/* What a job may be given beside its function. Start from WP_NO_OPTIONS. */
typedef struct wp_function_options {
    wp_token *token;        /* Or NULL. The job takes a reference. */
    uint64_t queue_timeout; /* ns, or WP_FOREVER. */
    uint64_t run_timeout;   /* ns, or WP_FOREVER. */
    wp_results *results;    /* Where it is reported, or NULL. The job takes a reference; */
    uint64_t index;         /* and this is its number there. */
} wp_function_options;

#define WP_NO_OPTIONS ((wp_function_options){.queue_timeout = WP_FOREVER, .run_timeout = WP_FOREVER})

/* A job with one reference; `options` may be NULL. `argument` must live until the job has ended. NULL without memory. */
wp_job *wp_function_job(wp_function *function, void *argument, const wp_function_options *options);

void *wp_function_argument(const wp_job *job);

/* What the function returned; 0 if it did not run. For a job that is settled. */
int wp_function_status(const wp_job *job);

/* Submits a function to a lane and a results queue, waiting for room in both. The result's number is its place in the
 * order of submission. WP_OK, or why not: then nothing was submitted. */
enum wp_result wp_function_submit(wp_pool *pool, unsigned lane, wp_results *results, wp_function *function,
                                  void *argument, uint64_t deadline);

#endif
