/* workerpool.h: what C code that runs as a workerpool job can ask about its job, and tell about it.
 *
 * A native function that has a parameter of type `wp_job *` is handed the job it runs as; the caller in Python leaves
 * that argument out. With it the function can see that it should stop, say how far it is and why it failed, and have
 * parts of its work done by other workers:
 *
 *     #include <workerpool.h>
 *
 *     int scan(const char *data, size_t size, wp_job *job)
 *     {
 *         for (size_t i = 0; i < size; i += 4096) {
 *             if (wp_job_should_stop(job)) return -1;
 *             if (!is_block(data + i)) return wp_job_fail(job, "not a block");
 *             wp_job_progress_of(job, i, size);
 *         }
 *         return 0;
 *     }
 *
 * Everything here is inline: nothing needs to be linked. Nothing touches the interpreter. To ask reads plain memory; to
 * tell goes through a table of functions that the job points at (wp_job_api).
 *
 * A job pointer is valid until the function returns, on any thread. It may be NULL, for a function that was called by
 * other C code: such a job never stops and has nowhere to write.
 *
 * ABI. The layout of wp_job_view and the numbers of the enums are fixed. wp_job_api grows at its end only. So a program
 * built with this header works with every later version of the pool.
 */
#ifndef WORKERPOOL_H
#define WORKERPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wp_job wp_job;
typedef struct wp_pool wp_pool;

/* A job that one has submitted, for as long as one wants to know about it. */
typedef struct wp_handle wp_handle;

/* A function that is a job. Returns 0, or a status that says what failed. */
typedef int wp_function(wp_job *job, void *argument);

/* Does the numbers from begin up to end, for a parallel range. Returns 0, or a status that stops the range. */
typedef int wp_body(size_t begin, size_t end, void *context);

/* The piece of a parallel range that failed: of several, the one that said so first. */
typedef struct wp_failed_piece {
    size_t begin;
    size_t end;
    int status;
} wp_failed_piece;

/* Where workers may run what a library gives to others' threads: its pool is not counted. */
typedef struct wp_threads {
    wp_pool *pool;
    uint32_t lane;
} wp_threads;

/* What came of a call. Later versions may add to the end: what is not known is a failure. */
enum wp_result {
    WP_OK = 0,
    WP_FULL = 1,        /* No room in the queue. */
    WP_CLOSED = 2,      /* The pool, stage or results queue takes no more jobs. */
    WP_BROKEN = 3,      /* A worker could not be initialised, or this process is a fork: the pool's jobs are lost. */
    WP_STOPPED = 4,     /* The token was cancelled. */
    WP_LATE = 5,        /* The deadline came first. */
    WP_INTERRUPTED = 6, /* A signal handler ran: look at what it wanted, and call again. */
    WP_NO_MEMORY = 7,
    WP_NO_THREAD = 8, /* The system would not start a thread, and the pool cannot do without one. */
    WP_FINISHED = 9,  /* No more results will come. */
    WP_ERROR = 10,    /* The body of a parallel range returned something else than 0. */
    WP_INVALID = 11,  /* An argument is out of range, such as a lane that the pool has not. Nothing was done. */
    WP_DEADLOCK = 12  /* Jobs that wait for each other: none of them could ever go on. */
};

/* Where a job stands. Later versions may add to the end. */
typedef enum wp_state {
    WP_NEW = 0, /* Not accepted by a pool yet. */
    WP_PENDING = 1,
    WP_RUNNING = 2,
    WP_DONE = 3,      /* Ran; the class has the result. */
    WP_FAILED = 4,    /* Ran; the class has the error. */
    WP_TIMED_OUT = 5, /* Ran, but for longer than its run_timeout. */
    WP_CANCELLED = 6, /* Cancelled before it began, or stopped itself after it was asked to. */
    WP_EXPIRED = 7,   /* Waited for longer than its queue_timeout. */
    WP_LOST = 8       /* The pool broke before the job could begin. */
} wp_state;

/* What is behind the inline functions below, where each says what it does. Called with the jobs they were got from. */
typedef struct wp_job_api {
    uint32_t abi_version; /* 1 */
    uint32_t size;        /* Of this table in bytes: what lies beyond it is not there. */
    uint64_t (*clock)(void);
    void (*progress)(wp_job *job, double fraction);
    void (*fail)(wp_job *job, const char *message);
    int (*submit)(wp_job *parent, int lane, wp_function *function, void *argument, wp_handle **child);
    int (*handle_wait)(wp_handle *handle, uint64_t deadline);
    int (*handle_stop)(wp_handle *handle);
    int (*handle_state)(wp_handle *handle);
    int (*handle_status)(wp_handle *handle);
    const char *(*handle_message)(wp_handle *handle);
    double (*handle_progress)(wp_handle *handle);
    void (*handle_release)(wp_handle *handle);
    int (*parallel)(wp_job *job, size_t n, size_t grain, wp_body *body, void *context, wp_failed_piece *failed);
} wp_job_api;

/* What every job begins with. */
typedef struct wp_job_view {
    uint32_t word;     /* Bit 0: the job should stop. The rest is the pool's. Changes while the job runs. */
    uint32_t worker;   /* Index of the worker that runs the job; WP_NO_WORKER on a thread that waited for it. */
    uint64_t deadline; /* When the job's run_timeout ends: nanoseconds on CLOCK_MONOTONIC; UINT64_MAX for never. */
    const wp_job_api *const
        *api; /* Where the pointer to the table is; the pool's pointer, so there is no copy a job. */
} wp_job_view;

#define WP_JOB_STOP 1u
#define WP_NO_WORKER UINT32_MAX
#define WP_SAME_LANE (-1)
#define WP_NEVER UINT64_MAX

/* ---- To ask ---- */

/* Nonzero as soon as the job should stop: it was asked to, its token was cancelled, or its run_timeout is over.
 * One load: cheap enough for an inner loop. A NULL job never stops. */
static inline int
wp_job_should_stop(const wp_job *job)
{
    return job != 0 && (__atomic_load_n(&((const wp_job_view *)job)->word, __ATOMIC_ACQUIRE) & WP_JOB_STOP) != 0;
}

/* The index of the worker that runs the job: 0 to max_workers - 1, or WP_NO_WORKER. */
static inline uint32_t
wp_job_worker(const wp_job *job)
{
    return job != 0 ? ((const wp_job_view *)job)->worker : WP_NO_WORKER;
}

/* When the job's run_timeout ends, on CLOCK_MONOTONIC in nanoseconds; WP_NEVER where it has none. */
static inline uint64_t
wp_job_deadline(const wp_job *job)
{
    return job != 0 ? ((const wp_job_view *)job)->deadline : WP_NEVER;
}

/* The functions that belong to a job; NULL for a NULL job. */
static inline const wp_job_api *
wp_job_functions(const wp_job *job)
{
    return job != 0 ? *((const wp_job_view *)job)->api : 0;
}

/* How long the job may still run, in nanoseconds; 0 once its run_timeout is over, WP_NEVER where it has none. */
static inline uint64_t
wp_job_time_left(const wp_job *job)
{
    uint64_t deadline = wp_job_deadline(job);
    if (deadline == WP_NEVER || wp_job_functions(job) == 0) {
        return WP_NEVER;
    }
    uint64_t now = wp_job_functions(job)->clock();
    return deadline > now ? deadline - now : 0;
}

/* ---- To tell ---- */

/* How much of the job is done, from 0 to 1: what Future.progress says from then on. What is less or more counts as 0 or
 * 1, and NaN is not taken down. May be called from any thread while the job runs, and often: it is one store, after the
 * first call. For a job that keeps no notes (one of a stage, or NULL) it does nothing. */
static inline void
wp_job_progress(wp_job *job, double fraction)
{
    const wp_job_api *api = wp_job_functions(job);
    if (api != 0) {
        api->progress(job, fraction);
    }
}

/* The same in units of work: `done` of `total`. */
static inline void
wp_job_progress_of(wp_job *job, uint64_t done, uint64_t total)
{
    wp_job_progress(job, total > 0 ? (double)done / (double)total : 1.0);
}

/* The job has failed, whatever its function returns: the message is the text of the NativeError that Future.result
 * raises. It is copied; UTF-8, what is not is replaced. Of several messages the first counts. May be called from any
 * thread while the job runs. For a job that keeps no notes (one of a stage, or NULL) it does nothing.
 * Always returns -1, so that a function can end with `return wp_job_fail(job, "...")`. */
static inline int
wp_job_fail(wp_job *job, const char *message)
{
    const wp_job_api *api = wp_job_functions(job);
    if (api != 0) {
        api->fail(job, message);
    }
    return -1;
}

/* ---- Child jobs ---- */

/* Submits a function to the pool that the job runs on: to a lane by its number (the most urgent is 0), or WP_SAME_LANE.
 * It never waits for room; a child is let in beyond the lane's bound, because its parent must not wait for itself.
 *
 * The child is a job of its own. When the parent is asked to stop, or its token is cancelled, so is the child; a child
 * of a parent that should stop is not accepted. Nothing else ties them: the parent may end first, and does not fail
 * with the child. A parent that needs the child's outcome waits for it; a parent of which the argument is a local
 * variable must. All this holds for jobs of a stage as well, which are asked to stop by the cancel of the stage: it stops
 * the children of all jobs that were put before, also of those that have ended.
 *
 * `child` gets a handle, to be released; or is NULL if nobody wants to know.
 * WP_OK, WP_STOPPED, WP_CLOSED (the pool is shutting down, or the job is NULL: call the function yourself), WP_BROKEN,
 * WP_NO_MEMORY, WP_NO_THREAD, WP_INVALID (no such lane). */
static inline int
wp_job_submit(wp_job *job, int lane, wp_function *function, void *argument, wp_handle **child)
{
    const wp_job_api *api = wp_job_functions(job);
    return api != 0 ? api->submit(job, lane, function, argument, child) : WP_CLOSED;
}

/* The functions that belong to a handle; a handle is where its job is. */
static inline const wp_job_api *
wp_handle_functions(const wp_handle *handle)
{
    return wp_job_functions((const wp_job *)(const void *)handle);
}

/* Sleeps until the job has ended (WP_OK), the deadline (WP_LATE; 0 does not wait) or a signal (WP_INTERRUPTED).
 * WP_BROKEN if it never will; WP_DEADLOCK if it cannot, because it waits, by itself or by others, for the job that
 * calls this. A job that has not begun is run by the thread that waits, if that is a worker of its pool or waits
 * without a deadline: so a pool of one worker does not deadlock. Not to be called with the GIL held. */
static inline int
wp_handle_wait(wp_handle *handle, uint64_t deadline)
{
    return wp_handle_functions(handle)->handle_wait(handle, deadline);
}

/* Cancels the job if it has not begun, or asks it to stop. 0 if it has ended already, else 1. */
static inline int
wp_handle_stop(wp_handle *handle)
{
    return wp_handle_functions(handle)->handle_stop(handle);
}

/* Where the job stands: enum wp_state. From WP_DONE on it has ended. */
static inline int
wp_handle_state(wp_handle *handle)
{
    return wp_handle_functions(handle)->handle_state(handle);
}

/* What the function returned; 0 if it has not ended, or never ran. */
static inline int
wp_handle_status(wp_handle *handle)
{
    return wp_handle_functions(handle)->handle_status(handle);
}

/* What the function gave to wp_job_fail, valid until the handle is released; NULL if it did not, or has not ended. */
static inline const char *
wp_handle_message(wp_handle *handle)
{
    return wp_handle_functions(handle)->handle_message(handle);
}

/* What the function gave to wp_job_progress last; less than 0 if nothing yet. */
static inline double
wp_handle_progress(wp_handle *handle)
{
    return wp_handle_functions(handle)->handle_progress(handle);
}

/* The handle is not needed any more; the job goes on. NULL does nothing. */
static inline void
wp_handle_release(wp_handle *handle)
{
    if (handle != 0) {
        wp_handle_functions(handle)->handle_release(handle);
    }
}

/* ---- Parallel ranges ---- */

/* Calls the body for all numbers below n, `grain` of them at a time (the last time perhaps fewer; 0: few at first, then as
 * many as take about 100 us), on this thread and on workers of the job's pool and lane that have time. Pieces begin in
 * order. Returns when all calls have ended; so the context may be a local variable.
 * WP_OK: all done. WP_ERROR: a call returned something else than 0; `failed`, if not NULL, says which. WP_STOPPED: the
 * job should stop. In both cases pieces that had not begun were left out. */
static inline int
wp_job_parallel(wp_job *job, size_t n, size_t grain, wp_body *body, void *context, wp_failed_piece *failed)
{
    const wp_job_api *api = wp_job_functions(job);
    if (api != 0) {
        return api->parallel(job, n, grain, body, context, failed);
    }
    int status = n > 0 ? body(0, n, context) : 0; /* Called by other C code: all at once, on this thread. */
    if (status != 0 && failed != 0) {
        failed->begin = 0;
        failed->end = n;
        failed->status = status;
    }
    return status != 0 ? WP_ERROR : WP_OK;
}

#ifdef __cplusplus
}
#endif

#endif
