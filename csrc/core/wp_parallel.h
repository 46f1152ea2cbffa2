/* A parallel range: one body over all numbers from 0 to n, by the workers and the calling thread together.
 *
 * DESIGN. The numbers are cut into pieces, a few dozen for each worker, and the pieces are the units of a wp_range: so
 * workers claim them, share them and leave them for more urgent work like those of any range. The calling thread does
 * the same, and returns when the last piece has ended. It is never held up for want of room, memory or threads: what
 * nobody takes, it does itself.
 *
 * GUARANTEES. Pieces begin in order. A call inside of a piece, to any depth, cannot deadlock: whoever waits has no piece
 * left to begin, and waits only for pieces that run. The lane's max_running counts workers; the calling thread comes on
 * top.
 */
#ifndef WP_PARALLEL_H
#define WP_PARALLEL_H

#include "wp_pool.h"

/* Does the numbers from begin up to end. Returns 0, or a status that stops the range. */
typedef int wp_body(size_t begin, size_t end, void *context);

/* The piece that failed: of several, the first that did. */
typedef struct wp_failed_piece {
    size_t begin;
    size_t end;
    int status;
} wp_failed_piece;

/* Calls the body for all numbers below n, at least `grain` of them at a time (but for the last piece; 0 is 1), on the
 * lane's workers and on the calling thread. Returns when all calls have ended. `token` and `failed` may be NULL.
 * WP_OK: all done. WP_ERROR: a piece returned something else than 0; pieces that had not begun were left out. WP_STOPPED:
 * the token was cancelled, or what waits in the pool was; some pieces were left out. WP_BROKEN: the pool broke meanwhile;
 * likewise. WP_INVALID: no such lane. */
enum wp_result wp_parallel(wp_pool *pool, unsigned lane, wp_token *token, size_t n, size_t grain, wp_body *body,
                           void *context, wp_failed_piece *failed);

/* A backend for libraries that let others run their threads, with the signature of c-blosc2's blosc_threads_callback:
 * calls dojob for each of `numjobs` elements of an array, perhaps in parallel, and returns when all calls have ended.
 * Whatever becomes of the pool, each is called once, and they begin in order. */
typedef struct wp_threads {
    wp_pool *pool;
    uint32_t lane;
} wp_threads;

void wp_threads_callback(void *threads, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata);

#endif
