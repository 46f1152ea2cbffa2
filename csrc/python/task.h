/* A task: a core job that belongs to Python. What calls of Python callables and of native functions have in common.
 *
 * A task is a wp_job with the way home and with its watchers: the Python-level waiters and callbacks of its future. Two
 * classes are built on it (python_call.c, native_call.c), and a third for futures that no pool runs (future.c).
 *
 * WATCHERS. A future is light until somebody looks at its `_condition` or adds a callback. Then it gets watchers: a lock
 * of its own (never one that futures share: concurrent.futures.wait takes many, in the order of their addresses, and
 * would deadlock), the waiters' list, the callbacks' list; and the job is asked for a notice of its end. The end becomes
 * visible (wp_job_settle) under that lock, in the same step in which the waiters are told, so that no waiter is told
 * twice or never. The watchers are themselves what `_condition` gives. They are made, but no notice asked for, when a
 * future is first hashed: concurrent.futures.wait takes all locks one by one as if that could not fail, and what it does
 * before is to put the futures into a set.
 *
 * TELLING is in two steps, since callbacks are foreign code that may wait for other jobs: the ends of all jobs that have
 * ended are told first, and then their callbacks are called, in the order of the ends. Nothing is taken before it is its
 * turn, so that another thread can go on where this one is held up.
 *
 * LETTING GO. What a job held for its run (buffers) is released before anybody sees its end, by who sees it first or by
 * whoever comes by: see `let_go`.
 *
 * THE COLLECTOR. Half of the time of a hundred thousand submits would go into the cyclic collector's looking at their
 * futures, which hold nothing that could refer to them. So it does not know a future until it gets watchers, an attribute
 * or a result that holds other objects. Not so without the GIL: there the worker that stores the result and the thread
 * that drops the future are not kept apart.
 */
#ifndef WPY_TASK_H
#define WPY_TASK_H

#include "home.h"

#include "wp_results.h"

#include <stdalign.h>

/* An object for Python, to which the task has a reference: a future's `_condition`, of which it offers what others use. It
 * may outlive the task; then nobody asks for more than the lock. */
typedef struct wpy_watchers {
    PyObject_HEAD
    wp_lock lock;
    wp_word asked;                /* Written under the lock: 1 once a notice of the end was asked for. */
    _Atomic(unsigned long) owner; /* The thread that holds the lock; 0 for none. */
    unsigned depth;               /* Holder only: the lock is re-entrant. */
    bool told;                    /* Under the lock: the end was told; what comes later is not. */
    PyObject *waiters;            /* Under the lock: a list, or NULL. */
    PyObject *callbacks;          /* Under the lock: a list, or NULL. */
    PyObject *future; /* Under the lock: kept alive until the callbacks were called, if a pool will end it; else not
                              before that is so. */
    struct wpy_task *task;            /* Constant: whose end. */
    struct wpy_watchers *next_notice; /* While on a stack or in a line of notices, which has a reference to the job. */
} wpy_watchers;

extern PyType_Spec wpy_watchers_spec;

typedef struct wpy_task wpy_task;

struct wpy_task {
    wp_job job;
    wpy_home *home; /* Constant; kept alive by the pool's context or by the future's type. */
    _Atomic(wpy_watchers *) watchers;
    PyObject *outcome; /* Result or exception; written by who ends the job, before it is concluded. Then constant, but
                          for a result that is made of a number when first asked for. */
    union {
        PyObject *unseen; /* Attached: its future, not counted, while the cyclic collector does not know it; or NULL. */
        struct call_object *call; /* With WPY_JOB_HAS_CALL: an event loop's call, told of the end (bridge.h). */
    };
};

/* A flag of a job beside the core's: see `call`. */
#define WPY_JOB_HAS_CALL (1u << 7)

/* A class of tasks: the core's part, and what only an attached thread may do. */
typedef struct wpy_task_class {
    wp_job_class core;
    /* Result of a DONE task: a new reference, or NULL with an exception set. */
    PyObject *(*result)(wpy_task *task);
    /* Exception of a FAILED task: a new reference, or NULL with another exception set. */
    PyObject *(*exception)(wpy_task *task);
    /* Lets go of everything and frees the memory. */
    void (*free)(wpy_task *task);
    /* Visits what the call holds besides its outcome; may be NULL. */
    int (*traverse)(wpy_task *task, visitproc visit, void *arg);
    /* Releases what a job that has ended held for its run, unless that is done; by then it is, also if another thread was at
     * it. Runs foreign code. NULL: there is nothing. */
    void (*let_go)(wpy_task *task);
    /* For a worker that waits for a task of its own pool: does what it can of it. NULL: the core runs the job, if it has
     * not begun. Detached. */
    void (*help)(wp_job *job);
    bool is_native;
    bool is_manual; /* No pool ends it: it lives in its future. */
} wpy_task_class;

static inline const wpy_task_class *
wpy_task_class_of(const wpy_task *task)
{
    return (const wpy_task_class *)(const void *)task->job.class;
}

static inline wpy_task *
wpy_task_of(wp_job *job)
{
    return (wpy_task *)(void *)job;
}

/* A size as large as what comes behind it in one allocation needs it to be. */
static inline size_t
wpy_rounded(size_t size)
{
    return (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
}

void wpy_task_init(wpy_task *task, wpy_home *home, const wpy_task_class *class, unsigned flags, wp_extra *extra);

/* What a job's options are to Python, behind the core's part. */
typedef struct wpy_extra {
    wp_extra core;
    PyObject *label;        /* Or NULL. */
    const char *label_text; /* The label in UTF-8, kept by it: for reports by threads that are not attached. */
    PyObject *token;        /* The CancelToken whose core the job watches, or NULL. */
    wp_job *next_unshown;   /* Results queue's lock: see results.c. */
} wpy_extra;

/* One line about a job: what it is, and its label. Any thread, attached or not. */
void wpy_describe(const wp_job *job, const char *what, char *text, size_t size);

/* Releases what an extra holds; NULL does nothing. Attached. */
void wpy_extra_clear(wpy_extra *extra);

static inline wpy_extra *
wpy_extra_of(const wp_job *job)
{
    return (wpy_extra *)(void *)job->extra;
}

/* The core's `destroy` and `notify` for every class of tasks: any thread, attached or not. */
void wpy_task_destroy(wp_job *job);
void wpy_task_notify(wp_job *job);

/* ---- For attached threads ---- */

/* The task's result as Future.result() gives it: a new reference, or NULL with the exception raised. Settled only. */
PyObject *wpy_task_result(wpy_task *task);

/* Its exception as Future.exception() gives it: a new reference to the exception or None; NULL with CancelledError set
 * for a cancelled task. Settled only. */
PyObject *wpy_task_exception(wpy_task *task);

/* The exception of a job that ended as EXPIRED, TIMED_OUT or LOST: a new reference, or NULL with another set. `cause` may
 * be NULL. */
PyObject *wpy_limit_exception(const wpy_home *home, const wp_job *job, wp_state state, PyObject *cause);

/* Makes the task's future known to the cyclic collector, if it is not yet: it may hold what refers to it from now on. */
void wpy_task_show_future(wpy_task *task);

/* Attached, in the tp_clear of the only holder of a task that has ended: puts None in the place of its result, which may be
 * all that keeps this holder alive. An exception stays: the collector can clear that itself. */
void wpy_task_forget_result(wpy_task *task);

/* Visits what a task holds that the cyclic collector may follow, if nobody but the caller holds the task. */
int wpy_task_traverse(wpy_task *task, visitproc visit, void *arg);

/* Tells the watchers of every task whose notice is due. Asks `pool`, if there is one, for its attendant where there is more
 * than one callback: it goes on if this thread is held up. `since`, which may be NULL: when the last one began.
 * False if some are left, because other threads had the locks of their futures for long. */
bool wpy_tell_notices(wpy_home *home, wp_pool *pool, _Atomic(uint64_t) *since);

/* Whether there is anything to tell. */
bool wpy_has_notices(wpy_home *home);

/* In a forked child: what was to be told is the parent's. */
void wpy_forget_notices(wpy_home *home);

/* The same for what the calling thread has ended between wpy_hush and wpy_speak. */
void wpy_tell_own_notices(void);

/* Ends a task that no pool has taken as cancelled. */
void wpy_task_discard(wpy_task *task);

/* Tells one task's watchers and settles it. */
void wpy_task_tell(wpy_task *task);

/* The task's watchers, made when there are none. NULL without memory (an exception is set). */
wpy_watchers *wpy_task_watchers(wpy_task *task);

/* The same; they will be told of the end unless it has come already. `future` is its future. */
wpy_watchers *wpy_task_watch(wpy_task *task, PyObject *future);

/* Attached, for a task that is settled: see `let_go`. Whoever lets others see the end calls this first. */
static inline void
wpy_task_let_go(wpy_task *task)
{
    const wpy_task_class *class = wpy_task_class_of(task);
    if (class->let_go != NULL) {
        class->let_go(task);
    }
}

void wpy_watchers_take(wpy_watchers *watchers);
/* For who is to wait for the end, as a Condition's wait() does it: gives the lock back altogether, and takes it again; 0 if
 * the calling thread does not have it. Keeps the exception that is set. */
unsigned wpy_watchers_leave(wpy_watchers *watchers);
void wpy_watchers_return(wpy_watchers *watchers, unsigned depth);
/* -1 and RuntimeError if the calling thread does not hold it. */
int wpy_watchers_give(wpy_watchers *watchers);

/* Takes the exception that is set and reports it to concurrent.futures' logger, at a level ("error", "critical") and
 * with a text that may name one object. If that fails, as unraisable in `source`. */
void wpy_log_exception(wpy_home *home, const char *level, const char *text, PyObject *object, PyObject *source);

/* Calls a future's callback and logs what it raises. */
void wpy_call_back(wpy_home *home, PyObject *callback, PyObject *future);

#endif
