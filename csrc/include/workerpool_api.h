/* workerpool_api.h: the C API of workerpool, for other extension modules.
 *
 * With it an extension in C, C++ or Cython runs its own functions on a pool, its own or one that its user has in Python,
 * without the GIL: jobs, tokens, parallel ranges, stages. What a running job can do stands in workerpool.h.
 *
 *     #include <workerpool_api.h>
 *
 *     typedef struct { const wp_capi *wp; } module_state;
 *
 *     static int exec(PyObject *module) {
 *         module_state *state = PyModule_GetState(module);
 *         state->wp = import_workerpool();
 *         return state->wp != NULL ? 0 : -1;
 *     }
 *     static void free_module(void *module) {
 *         release_workerpool(((module_state *)PyModule_GetState(module))->wp);
 *     }
 *
 * Compile with -I and what workerpool.get_include() returns; nothing is linked. Keep the pointer in the module's state,
 * not in a static variable: each interpreter has its own.
 *
 * ABI. The table is found by the capsule workerpool._core._C_API. `abi_version` changes only if something in it does that
 * was there; functions are added at the end and make `size` larger. So a module built with this header works with every
 * later version of workerpool that has the same abi_version; import_workerpool() sees to that. Structs of options begin
 * with their own size, and what is 0 in them has its default.
 *
 * THREADS. Functions may be called from any thread, with or without the GIL, unless it is said that they need it. Those
 * that wait must not be called with the GIL held: what they wait for may need it. On a worker of the pool, submitting
 * never waits, and waiting for a job runs it if it has not begun; so a pool of one worker does not deadlock.
 *
 * RESULTS are those of enum wp_result in workerpool.h, as int: 0 is success, and on anything else nothing was done. Which
 * ones a function returns stands beside it. WP_INTERRUPTED says that a signal handler ran: call PyErr_CheckSignals() with
 * the GIL, and then again without.
 *
 * REFERENCES. Pools, tokens and stages are counted: what a function returns is the caller's to unref, on any thread.
 * Handles (workerpool.h) have one owner and are released with wp_handle_release.
 *
 * TIMES are nanoseconds. A deadline is a point on clock(); 0 is over, WP_NEVER never comes.
 */
#ifndef WORKERPOOL_API_H
#define WORKERPOOL_API_H

#include <Python.h>

#include "workerpool.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WORKERPOOL_ABI_VERSION 1
#define WORKERPOOL_CAPSULE "workerpool._core._C_API"

typedef struct wp_token wp_token;
typedef struct wp_stage wp_stage;

typedef struct wp_pool_options {
    size_t size;                 /* sizeof(wp_pool_options) */
    uint32_t max_workers;        /* 0: as many as there are processors for this process. */
    uint32_t n_lanes;            /* 1 to 16; 0: one. */
    const uint64_t *queue_sizes; /* Jobs that may wait in each lane, the most urgent first; NULL: 1024 in each. */
    uint32_t fairness;           /* A waiting lane is served at least once in so many jobs; 0: 64. */
    uint32_t reserved;           /* 0 */
    uint64_t idle_timeout;       /* A worker that found nothing to do for so long ends; 0: none does. */
    size_t stack_size;           /* Bytes for each worker, that the system allows and has room for; 0: 8 MiB. */
    const char *thread_name;     /* Workers are called so, with _0 and so on; NULL: "workerpool". */
} wp_pool_options;

typedef struct wp_submit_options {
    size_t size;            /* sizeof(wp_submit_options) */
    wp_token *token;        /* Cancels the job; or NULL. The job takes a reference. */
    uint64_t queue_timeout; /* How long it may wait to begin; 0: for ever. */
    uint64_t run_timeout;   /* How long it may run before it is asked to stop; 0: for ever. */
} wp_submit_options;

typedef struct wp_capi {
    uint32_t abi_version; /* WORKERPOOL_ABI_VERSION */
    uint32_t size;        /* Of this table in bytes. */
    void *state;          /* workerpool in this interpreter: the first argument of functions that take one. */

    /* For import_workerpool() and release_workerpool(). */
    void (*hold)(void *state);
    void (*release)(void *state);

    /* ---- With the GIL (without one: attached to the interpreter of `state`) ---- */

    /* The pool of a WorkerPool, or of a view of one. `lane` gets the lane that it submits to, `token` the token that a
     * view gives to its jobs, or NULL; each may be NULL if it is not wanted. NULL with TypeError for anything else, with
     * RuntimeError after shutdown() of a view. The pool is closed by shutdown() or with the last WorkerPool object,
     * whoever has borrowed it; then it takes no more jobs. */
    wp_pool *(*pool_borrow)(void *state, PyObject *pool, uint32_t *lane, wp_token **token);

    /* The token of a CancelToken; NULL with TypeError for anything else. */
    wp_token *(*token_borrow)(void *state, PyObject *token);

    /* Sets the exception that goes with a result, and returns -1. Returns 0 and sets none for WP_OK, and for
     * WP_INTERRUPTED if the handlers of the signals raise none: then call again what returned it. */
    int (*set_error)(void *state, int result);

    /* ---- Time ---- */

    uint64_t (*clock)(void);
    uint64_t (*deadline_after)(double seconds); /* WP_NEVER for infinity and NaN, now for less than 0. */

    /* ---- Pools ---- */

    /* A pool that runs functions in C. It ends with its last reference, or with the interpreter, which waits for it.
     * `options` may be NULL. WP_OK, WP_NO_MEMORY, WP_INVALID, WP_CLOSED (the interpreter ends). */
    int (*pool_new)(void *state, const wp_pool_options *options, wp_pool **pool);
    void (*pool_ref)(wp_pool *pool);
    void (*pool_unref)(wp_pool *pool); /* With the last the pool is closed: what waits is done, then it is freed. */
    uint32_t (*pool_max_workers)(wp_pool *pool);
    uint32_t (*pool_lanes)(wp_pool *pool);
    /* Sleeps until all jobs have ended. WP_OK, WP_LATE, WP_INTERRUPTED, WP_INVALID (on a worker of this pool, or in
     * a function that the calling thread runs for it). */
    int (*pool_drain)(wp_pool *pool, uint64_t deadline);
    void (*pool_close)(wp_pool *pool); /* No more jobs. */
    /* After pool_close: sleeps until its threads have ended. As pool_drain. */
    int (*pool_join)(wp_pool *pool, uint64_t deadline);

    /* ---- Tokens ---- */

    /* A token that is cancelled with its parent (or NULL) and at the deadline (or WP_NEVER). NULL without memory. */
    wp_token *(*token_new)(wp_token *parent, uint64_t deadline);
    void (*token_ref)(wp_token *token);
    void (*token_unref)(wp_token *token); /* NULL does nothing. */
    int (*token_cancel)(wp_token *token); /* 0 if it was cancelled before, else 1. */
    int (*token_is_cancelled)(wp_token *token);

    /* ---- Jobs ---- */

    /* Submits a function to a lane, waiting for room until the deadline. `options` and `handle` may be NULL. `argument`
     * must be there until the job has ended. WP_OK, WP_FULL (only if the deadline is 0), WP_CLOSED, WP_BROKEN, WP_STOPPED,
     * WP_LATE, WP_INTERRUPTED, WP_NO_MEMORY, WP_NO_THREAD, WP_INVALID (no such lane). */
    int (*submit)(wp_pool *pool, uint32_t lane, const wp_submit_options *options, wp_function *function, void *argument,
                  uint64_t deadline, wp_handle **handle);

    /* ---- Parallel ranges ---- */

    /* Calls the body for all numbers below n, `grain` of them at a time (0: few at first, then as many as take
     * about 100 us), on the calling thread and on workers that have time. Pieces begin in order. Returns when all calls have
     * ended. `token` and `failed` may be NULL. WP_OK; WP_ERROR: a call returned something else than 0, `failed` says which;
     * WP_STOPPED: the token was cancelled (in both cases pieces that had not begun were left out); WP_INVALID: no such
     * lane. A pool that is full or closed does no harm: the calling thread does it all. */
    int (*parallel)(wp_pool *pool, uint32_t lane, wp_token *token, size_t n, size_t grain, wp_body *body, void *context,
                    wp_failed_piece *failed);

    /* ---- Stages: a bounded channel of jobs, one function, a bounded channel of results ---- */

    /* At most `capacity` jobs, 1 to 2**28, are put and not got; 0: nobody gets results. A job of a stage is a few bytes:
     * its wp_job can be asked whether it should stop and can have children, but keeps no notes. Whoever calls one of these functions has a
     * reference until it has returned, or knows of one that stays: all results can have been got before the last
     * stage_put has returned. A stage takes no more jobs once it, or the pool, is closed. WP_OK, WP_NO_MEMORY, WP_INVALID. */
    int (*stage_new)(wp_pool *pool, uint32_t lane, wp_function *function, uint32_t capacity, wp_stage **stage);
    void (*stage_ref)(wp_stage *stage);
    void (*stage_unref)(wp_stage *stage); /* With the last it is closed; what waits is done, and its results dropped. */
    /* Submits the function with an argument, waiting for room until the deadline. WP_OK, WP_FULL (only if the deadline is
     * 0), WP_CLOSED, WP_BROKEN, WP_LATE, WP_INTERRUPTED, WP_NO_MEMORY, WP_NO_THREAD. */
    int (*stage_put)(wp_stage *stage, void *argument, uint64_t deadline);
    /* The next result, in the order in which jobs end: the argument, and what the function returned. WP_OK; WP_STOPPED: a
     * job that was cancelled or lost, with its argument; WP_FINISHED: it or the pool is closed, and all were read; WP_LATE, WP_INTERRUPTED. */
    int (*stage_get)(wp_stage *stage, uint64_t deadline, void **argument, int *status);
    void (*stage_close)(wp_stage *stage);  /* No more jobs. */
    void (*stage_cancel)(wp_stage *stage); /* Gives up jobs that have not begun, asks those that run to stop, and
                                            * stops children of all that were put. */

    /* ---- For libraries that let others run their threads ---- */

    /* Calls dojob for each of `numjobs` elements of an array, on the workers of `threads` (a wp_threads *) and on the
     * calling thread, and returns when all calls have ended. This is blosc_threads_callback of c-blosc2:
     * blosc2_set_threads_callback(wp->threads_callback, &threads). */
    void (*threads_callback)(void *threads, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata);
} wp_capi;

/* Options with all defaults, to begin with. */
static inline wp_pool_options
wp_pool_defaults(void)
{
    wp_pool_options options = {sizeof(wp_pool_options), 0, 0, NULL, 0, 0, 0, 0, NULL};
    return options;
}

static inline wp_submit_options
wp_submit_defaults(void)
{
    wp_submit_options options = {sizeof(wp_submit_options), NULL, 0, 0};
    return options;
}

/* The table, for this interpreter; NULL with an exception. Needs the GIL. Give it back with release_workerpool, when the
 * module is freed: until then it may be used, whatever has become of the package. */
static inline const wp_capi *
import_workerpool(void)
{
    const wp_capi *api = (const wp_capi *)PyCapsule_Import(WORKERPOOL_CAPSULE, 0);
    if (api == NULL) {
        return NULL;
    }
    if (api->abi_version != WORKERPOOL_ABI_VERSION || api->size < sizeof(wp_capi)) {
        PyErr_Format(PyExc_ImportError,
                     "this module was built for version %d of workerpool's C API with %d bytes; the workerpool that is "
                     "installed has version %d with %d bytes: %s",
                     WORKERPOOL_ABI_VERSION, (int)sizeof(wp_capi), (int)api->abi_version, (int)api->size,
                     api->abi_version == WORKERPOOL_ABI_VERSION ? "install a newer workerpool"
                                                                : "build the module again");
        return NULL;
    }
    api->hold(api->state);
    return api;
}

/* Any thread. NULL does nothing. */
static inline void
release_workerpool(const wp_capi *api)
{
    if (api != NULL) {
        api->release(api->state);
    }
}

#ifdef __cplusplus
}
#endif

#endif
