/* A pool's context: what its threads need of Python. Lives as long as the core's pool.
 *
 * THREAD STATES. A worker that first runs Python makes a thread state for itself, becomes a threading.Thread of its name
 * (workerpool/_worker_thread/threading.py), gets a context (variables.h), and keeps the state (pinned): entering Python is then 40 ns
 * rather than several microseconds, and nested users of PyGILState find it too. Workers that run only native functions
 * never have one. The state is destroyed by the worker when it leaves, which is before the interpreter ends, because the
 * exit hook (lifecycle.c) joins all workers.
 */
#ifndef WPY_CONTEXT_H
#define WPY_CONTEXT_H

#include "home.h"

typedef struct wpy_context {
    wpy_trash trash;                /* First: how the context is released once the pool is freed. */
    wpy_home *home;                 /* A reference. */
    wp_pool *pool;                  /* The pool that holds this context; no reference. NULL until the pool is made. */
    PyThreadState *attendant_state; /* Attendant's thread only. */
    _Atomic(uint64_t) attending_since; /* When the attendant began with what it is at, attached; 0: with nothing. */
    PyObject *lane_names;              /* Constant: a tuple of str. */
    PyObject *thread_name;             /* Constant: a str, what workers' names begin with. */
    PyObject *initializer;             /* Constant; or NULL. */
    PyObject *initargs;                /* Constant; a tuple, or NULL. */
    _Atomic(size_t) stack_size;        /* threading.stack_size() as it was last seen; 0: not set. */
    PyObject *threads;                 /* Constant: a dict, the threading.Thread of each worker that runs Python by its
                                          index. The pool object has it too. */
    PyObject *inherited;               /* Home's lock: the context that workers begin with; or NULL, an empty one. */
    bool inherits;                     /* Constant: whether there may be one. */
    uint32_t inner_threads;   /* What libraries may use for each worker, see wp_inner.h; 0: as they are. Set once,
                                       before the first worker starts. */
    struct wpy_context *next; /* Home's lock: the list of all. */
    struct wpy_context *previous;
} wpy_context;

/* Makes a context and the pool that belongs to it; NULL with an exception set. Takes no references over. `initializer`
 * and `initargs` may be NULL. */
wpy_context *wpy_context_new(wpy_home *home, const wp_pool_config *config, PyObject *lane_names, PyObject *thread_name,
                             PyObject *initializer, PyObject *initargs, PyObject *threads);

/* Any thread: a pool that runs no Python, on the home's list so that the exit hook waits for it; NULL without memory. The
 * caller has its reference. */
wp_pool *wpy_bare_pool_new(wpy_home *home, const wp_pool_config *config);

/* The least stack, in bytes, for a thread that runs Python. */
size_t wpy_least_stack_size(void);

/* Attached, for the object that is the only face of its pool: visits what the context holds for new workers, unless one
 * may still need it for what was submitted. The collector does not find a pool to be garbage before that. */
int wpy_context_traverse(wp_pool *pool, visitproc visit, void *arg);

/* The names of a pool's lanes: a borrowed tuple. */
PyObject *wpy_lane_names(wp_pool *pool);

/* Between these no thread makes a thread state: for a fork, by the thread that forks, in parent and child. */
void wpy_hold_thread_states(void);
void wpy_release_thread_states(void);

/* Attaches the calling worker, making its thread state the first time; false without memory. Detaches it. */
bool wpy_attach(wpy_home *home, wp_worker *worker);
void wpy_detach(void);

/* For a worker that was not attached, and has accepted work for which it must be: sleeps a moment. */
void wpy_wait_for_memory(void);

/* For task classes: at the end of a worker's claim of native jobs, tells the watchers of what ended, or has it told. */
void wpy_leave_native(wp_worker *self);

/* The first pool of the home that is not freed after `previous` (NULL: the first of all), with a reference to it; NULL
 * when there is none. Gives up the caller's reference to `previous`. */
wp_pool *wpy_next_pool(wpy_home *home, wp_pool *previous);

#endif
