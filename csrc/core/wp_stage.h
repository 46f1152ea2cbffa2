/* A stage: one C function applied to many arguments, with a bounded queue of its results.
 *
 * PURPOSE. What a worker pool in Go is made of: a jobs channel, workers that apply one function, a results channel. Jobs
 * of a stage have no handle of their own, so nothing is allocated for one and nothing is counted for it but by the claim:
 * an empty job costs tens of nanoseconds, from put to get.
 *
 * DESIGN. Arguments go into chunks, which are ranges (wp_range.h) that grow at the end while they wait. So workers claim,
 * share and give back jobs of a stage as they do units of any range. Results go into a ring with a number for each turn
 * (Vyukov's bounded queue, https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue), at the moment
 * at which each job ends. A job is accepted only with a place for its result, so a worker never waits there.
 *
 * GUARANTEES. Any number of threads may put and get. Every accepted job is reported exactly once, in the order in which
 * jobs end. Each function may be called from any thread, with no lock held. The caller has a reference until the call has
 * returned, or knows of one that stays: all results can have been read before the last put has returned.
 */
#ifndef WP_STAGE_H
#define WP_STAGE_H

#include "wp_function.h"

typedef struct wp_stage wp_stage;

typedef struct wp_stage_result {
    void *argument;
    int status;    /* What the function returned; 0 if it did not run. */
    bool given_up; /* It did not run: cancelled, or the pool broke. */
} wp_stage_result;

/* The most results that a stage may hold. */
#define WP_STAGE_MOST (UINT32_C(1) << 28)

/* A stage on a lane of the pool, with one reference. At most `capacity` jobs are accepted and not read, 1 to
 * WP_STAGE_MOST; or 0: nobody reads results, and only the lane bounds what waits. The function is called with the
 * stage's job, for wp_job_should_stop. NULL without memory. */
wp_stage *wp_stage_new(wp_pool *pool, unsigned lane, wp_function *function, uint32_t capacity);
void wp_stage_ref(wp_stage *stage);
/* With the last reference the stage is closed; what waits is run, and its results are dropped. */
void wp_stage_unref(wp_stage *stage);

/* Submits the function with an argument, waiting for room until the deadline (0: not at all). WP_OK, WP_FULL (only
 * without waiting), WP_CLOSED, WP_BROKEN, WP_LATE, WP_INTERRUPTED, WP_NO_MEMORY, WP_NO_THREAD. A worker of the pool never
 * waits for room in the lane; for room among the results it does. */
enum wp_result wp_stage_put(wp_stage *stage, void *argument, uint64_t deadline);

/* The same for `n` arguments, in order. *done says how many were accepted, also where not all were. */
enum wp_result wp_stage_put_many(wp_stage *stage, void *const *arguments, uint32_t n, uint64_t deadline,
                                 uint32_t *done);

/* The next result, waiting for it until the deadline: WP_OK, WP_FINISHED (it or the pool is closed, and all were read), WP_LATE,
 * WP_INTERRUPTED. The caller runs jobs of the stage rather than sleep, if they have been measured as short. */
enum wp_result wp_stage_get(wp_stage *stage, uint64_t deadline, wp_stage_result *result);

/* The same for up to `most` results, at least 1: as many as are there once there is one. *n says how many. */
enum wp_result wp_stage_get_many(wp_stage *stage, uint64_t deadline, wp_stage_result *results, uint32_t most,
                                 uint32_t *n);

/* No more jobs. Idempotent. */
void wp_stage_close(wp_stage *stage);

/* Gives up the jobs that were not begun, which are reported as such, and asks those that run to stop. Children of all jobs
 * that were put before are stopped, also of those that have ended. */
void wp_stage_cancel(wp_stage *stage);

#endif
