/* A bounded queue of results: the results channel of a worker pool.
 *
 * DESIGN. A job is accepted only with a place for its result reserved; the place is free again when the result has been
 * read. So a worker that finishes a job always has room to report it and never blocks here, and a reader that is slow
 * holds up those who submit. Results come in the order in which the jobs end.
 *
 * GUARANTEES. One lock for each queue, never held together with another. Any number of readers and submitters.
 */
#ifndef WP_RESULTS_H
#define WP_RESULTS_H

#include "wp_pool.h"

/* A queue for so many results, at least 1, or WP_UNBOUNDED. One reference. NULL without memory. */
wp_results *wp_results_new(uint64_t capacity);
void wp_results_ref(wp_results *results);
void wp_results_unref(wp_results *results);

/* Reserves a place and gives the job its number (from 0, in order). WP_OK, WP_FULL, WP_CLOSED, WP_NO_MEMORY. */
enum wp_result wp_results_reserve(wp_results *results, uint64_t *index);
/* Gives back a place whose job was not submitted. */
void wp_results_unreserve(wp_results *results, uint64_t index);

/* Sleeps until there may be a place: WP_OK, WP_CLOSED, WP_STOPPED, WP_LATE, WP_INTERRUPTED. Whoever submits to one pool
 * gives that pool's closable. */
enum wp_result wp_results_wait_room(wp_results *results, const wp_until *until);

/* For those who sleep for room in a lane and are to wake when the queue is closed. */
wp_closable *wp_results_closable(wp_results *results);

/* The job has ended: takes a reference and shows it to the readers. Needs its reservation; cannot fail. Takes over the
 * reference to the queue that the job has in its extra, which is NULL from then on. */
void wp_results_deliver(wp_results *results, wp_job *job);

/* The next result, waiting for it until the deadline: WP_OK and a reference to the job, WP_FINISHED (closed, and all
 * were read), WP_LATE, WP_INTERRUPTED. */
enum wp_result wp_results_next(wp_results *results, uint64_t deadline, wp_job **job);

/* Calls `visit` for each result that nobody has read, until it returns false. Under the queue's lock. */
void wp_results_visit_unread(wp_results *results, bool (*visit)(void *context, wp_job *job), void *context);

/* For a worker that may run jobs of the queue while it waits for results, in the place of wp_results_next's sleep:
 * listen, look for a result and for a job to run, sleep on the returned value, stop listening. */
uint32_t wp_results_listen(wp_results *results);
enum wp_wait_result wp_results_sleep(wp_results *results, uint32_t seen, uint64_t deadline);
void wp_results_ignore(wp_results *results);

/* A job of the queue was submitted: those workers look again. One load if there are none. */
void wp_results_call_helpers(wp_results *results);

/* The same for a queue to which only jobs of one pool report: it is closed with the pool. */
enum wp_result wp_results_next_of(wp_results *results, wp_pool *pool, uint64_t deadline, wp_job **job);

/* Closes the queue if the pool is closed; whether it is. */
bool wp_results_close_with(wp_results *results, wp_pool *pool);

/* No more jobs: readers get what is to come, then WP_FINISHED; submitters that wait for a place, or for room in a lane, are
 * told at once. Idempotent. */
void wp_results_close(wp_results *results);

/* Places reserved: jobs not yet ended plus results not yet read. Unread: results that wait for a reader. */
void wp_results_count(wp_results *results, uint64_t *reserved, uint64_t *unread);

#endif
