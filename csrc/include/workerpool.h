/* workerpool.h: what C code that runs as a workerpool job can ask about its job.
 *
 * A native function that has a parameter of type `wp_job *` is handed the job it runs as; the caller in Python leaves
 * that argument out. With it the function can see that it should stop:
 *
 *     #include <workerpool.h>
 *
 *     int scan(const char *data, size_t size, wp_job *job)
 *     {
 *         for (size_t i = 0; i < size; i += 4096) {
 *             if (wp_job_should_stop(job)) return -1;
 *             scan_block(data + i);
 *         }
 *         return 0;
 *     }
 *
 * Everything here is inline and reads plain memory: nothing needs to be linked, and nothing touches the interpreter.
 * A job pointer is valid until the function returns, on the thread that runs it.
 *
 * The layout of wp_job_view is fixed: a program built with this header works with every later version of the pool.
 */
#ifndef WORKERPOOL_H
#define WORKERPOOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wp_job wp_job;

/* What every job begins with. */
typedef struct wp_job_view {
    uint32_t word;     /* Bit 0: the job should stop. The rest is the pool's. Changes while the job runs. */
    uint32_t worker;   /* Index of the worker that runs the job; WP_NO_WORKER on a thread that waited for it. */
    uint64_t deadline; /* When the job's run_timeout ends: nanoseconds on CLOCK_MONOTONIC; UINT64_MAX for never. */
} wp_job_view;

#define WP_JOB_STOP 1u
#define WP_NO_WORKER UINT32_MAX

/* Nonzero as soon as the job should stop: it was asked to, its token was cancelled, or its run_timeout is over.
 * One load: cheap enough for an inner loop. A NULL job (the function was called directly) never stops. */
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

/* When the job's run_timeout ends, on CLOCK_MONOTONIC in nanoseconds; UINT64_MAX where it has none. */
static inline uint64_t
wp_job_deadline(const wp_job *job)
{
    return job != 0 ? ((const wp_job_view *)job)->deadline : UINT64_MAX;
}

#ifdef __cplusplus
}
#endif

#endif
