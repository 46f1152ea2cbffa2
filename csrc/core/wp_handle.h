/* Handles: jobs of C code that submits them and waits for them, whether it is a job itself or not.
 *
 * DESIGN. A handle is a function job (wp_function.h) that its owner holds, and with it the pool: so a handle may be asked
 * whatever has become of the pool. Only plain jobs have handles.
 */
#ifndef WP_HANDLE_H
#define WP_HANDLE_H

#include "wp_function.h"

/* Submits a function to a lane, waiting for room until the deadline (0: not at all), or not asking for room (`over`).
 * `handle` gets a handle with one reference, or is NULL if nobody wants to know. `options` may be NULL. WP_OK, or why
 * not: WP_FULL (only without waiting), WP_CLOSED, WP_BROKEN, WP_STOPPED, WP_LATE, WP_INTERRUPTED, WP_NO_MEMORY,
 * WP_NO_THREAD, WP_INVALID (no such lane). Then nothing was submitted. */
enum wp_result wp_handle_submit(wp_pool *pool, unsigned lane, const wp_function_options *options, wp_function *function,
                                void *argument, uint64_t deadline, bool over, wp_handle **handle);

/* Submits a child of a running job: as wp_job_submit in workerpool.h says. */
enum wp_result wp_job_submit_child(wp_job *parent, int lane, wp_function *function, void *argument, wp_handle **handle);

#endif
