/* A parallel range: one body over all numbers below n, by the calling thread and by workers that come to help.
 *
 * DESIGN. It is a crew (wp_crew.h) that the calling thread begins, takes part in and waits for. Nobody waits for room,
 * memory or threads: what nobody else does, the caller does. It counts as one job of its lane.
 *
 * GUARANTEES. Pieces begin in order. Calls inside of a piece, to any depth, cannot deadlock: who waits has no piece left
 * to begin, and waits only for pieces that run. The lane's max_running counts workers; the calling thread comes on top.
 */
#ifndef WP_PARALLEL_H
#define WP_PARALLEL_H

#include "wp_pool.h"

/* Calls the body for all numbers below n, `grain` of them at a time (the last piece may have fewer; 0: few at first, then
 * as many as take about 100 us), on the lane's workers and on the calling thread. Returns when all calls have ended.
 * `token` and `failed` may be NULL.
 * WP_OK: all done. WP_ERROR: a piece returned something else than 0. WP_STOPPED: the token was cancelled. In both cases
 * pieces that had not begun were left out. WP_INVALID: no such lane; nothing was called. WP_BROKEN: this is the child of
 * a fork that a piece made; it is not gone on with here. A pool that is closed or broken does no harm. */
enum wp_result wp_parallel(wp_pool *pool, unsigned lane, wp_token *token, size_t n, size_t grain, wp_body *body,
                           void *context, wp_failed_piece *failed);

/* The same for a running job, on its pool and lane: as wp_job_parallel in workerpool.h says. */
enum wp_result wp_job_parallel_range(wp_job *job, size_t n, size_t grain, wp_body *body, void *context,
                                     wp_failed_piece *failed);

/* A backend for libraries that let others run their threads, with the signature of c-blosc2's blosc_threads_callback:
 * calls dojob for each of `numjobs` elements of an array, perhaps in parallel, and returns when all calls have ended.
 * They begin in order. `threads` is a wp_threads, whose pool outlives the call. */
void wp_threads_callback(void *threads, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata);

#endif
