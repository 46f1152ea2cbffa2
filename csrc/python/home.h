/* What one instance of the module owns: its types, its exceptions, and the way home for work done without Python.
 *
 * WORDS. A home is a module instance seen from C: one for each interpreter that imports the module. It outlives the
 * module object as long as a pool's threads need it. Attached means holding a thread state (and, where there is one, the
 * GIL): only then may Python objects be touched.
 *
 * LOCKS. Fields marked "attached" are read and written by attached threads; `pools` has a lock of its own because a
 * free-threaded build has no GIL that would do. No lock is held while attaching or running Python.
 */
#ifndef WPY_HOME_H
#define WPY_HOME_H

/* Python.h goes first: it decides which system interfaces the headers after it show. */
#include "compat.h"

#include "wp_lock.h"
#include "wp_pool.h"

#include "../include/workerpool_api.h"

/* Something that must be released by an attached thread, and was let go of by one that is not. */
typedef struct wpy_trash {
    struct wpy_trash *next;
    void (*release)(struct wpy_trash *trash);
} wpy_trash;

/* First in, first out: the first is read by those who only ask whether there is one. Linked by their next_notice. */
typedef struct wpy_notice_line {
    _Atomic(struct wpy_watchers *) first;
    struct wpy_watchers *last; /* If there is a first. */
} wpy_notice_line;

typedef struct wpy_home {
    wp_word references;
    PyInterpreterState *interpreter; /* Constant. */

    _Atomic(wpy_trash *) trash;             /* A stack; pushed by any thread, taken off one by one by attached ones. */
    _Atomic(struct wpy_watchers *) notices; /* A stack: tasks that have ended, whose watchers are to be told. */
    wp_lock taking;                         /* For who takes something off these; held for a few instructions. */
    wpy_notice_line ended;                  /* Taking: what was on the stack of notices, the oldest first. */
    wpy_notice_line held_up;                /* Taking: another thread had their lock. They are tried again. */
    wpy_notice_line settled;                /* Taking: their ends were told, their callbacks are still to be called. */
    wp_lock lock;
    struct wpy_context *pools; /* Home's lock: every pool that was not freed. */
    wp_word exiting;           /* 1 once the interpreter shuts down: no more jobs. */
    wp_word forks;             /* Changes in a forked child, before it runs Python. */
    wp_capi capi;              /* Constant: what the capsule points at. */

    /* Attached; set once by the module, cleared with it. */
    PyTypeObject *future_type;
    PyTypeObject *watchers_type;
    PyTypeObject *pool_type;
    PyTypeObject *view_type;
    PyTypeObject *handle_type;
    PyTypeObject *native_type;
    PyTypeObject *token_type;
    PyTypeObject *results_type;
    PyTypeObject *result_type;
    PyTypeObject *map_type;
    PyTypeObject *job_type;
    PyTypeObject *threads_callback_type;
    PyTypeObject *bridge_type;
    PyTypeObject *call_type;

    PyObject *error; /* Exceptions. */
    PyObject *queue_full;
    PyObject *submit_timeout;
    PyObject *job_expired;
    PyObject *job_timeout;
    PyObject *broken_pool;
    PyObject *deadlock_error;
    PyObject *native_error;
    PyObject *signature_error;
    PyObject *cancelled_error;     /* concurrent.futures'. */
    PyObject *invalid_state_error; /* concurrent.futures'. */

    PyObject *pending; /* The strings of concurrent.futures' states. */
    PyObject *running;
    PyObject *cancelled;
    PyObject *finished;
    PyObject *add_result; /* Names of methods of its waiters. */
    PyObject *add_exception;
    PyObject *add_cancelled;
    PyObject *done; /* Names of methods, an attribute and a keyword of an event loop's futures. */
    PyObject *cancel;
    PyObject *set_result;
    PyObject *set_exception;
    PyObject *call_name;
    PyObject *callbacks_name;
    PyObject *loop_keyword;     /* A tuple of it. */
    PyObject *get_running_loop; /* From the package, once a loop has used a pool; likewise the next two. */
    PyObject *find_bridge;
    PyObject *schedule_callbacks;
    PyObject *last_bridge; /* Home's lock: a weak reference to the one used last. */

    PyObject *decimal; /* Names of a module and of a method. */
    PyObject *copy;
    PyObject *decimal_variable; /* Home's lock, set once, as the next: see variables.c. */
    PyObject *decimal_copy;

    PyObject *
        begin_thread; /* From the package, set once, before the first pool: see workerpool/_worker_thread/threading.py. */
    PyObject *end_thread;
    PyObject *callers; /* A tuple of functions, see workerpool/_callers.py. */
    PyObject *call_within;
    PyObject *run_units; /* A function in C for it, see block.c. */

    PyObject *breather; /* A Python function that does nothing; see wpy_enter_python. */
    PyObject *logger;   /* Where exceptions in callbacks are reported, as concurrent.futures does. */
} wpy_home;

/* The module's state: a counted pointer, because threads may need the home for longer than the module lives. */
typedef struct wpy_state {
    wpy_home *home;
} wpy_state;

extern struct PyModuleDef wpy_module;

wpy_home *wpy_home_new(void);
void wpy_home_ref(wpy_home *home);
void wpy_home_unref(wpy_home *home);
int wpy_home_traverse(wpy_home *home, visitproc visit, void *arg);
void wpy_home_clear(wpy_home *home);

/* The home of the module that defined a type of ours, or one that a user derived from it. */
wpy_home *wpy_home_of_type(PyTypeObject *type);

static inline wpy_home *
wpy_home_of_module(PyObject *module)
{
    return ((wpy_state *)PyModule_GetState(module))->home;
}

/* Any thread: releases `trash` now if the thread is attached to this home's interpreter, else leaves it to one that is.
 * `pool` is asked for its attendant in that case, and may be NULL where an attached thread is sure to come by.
 *
 * What is released may hold what is thrown away in its turn, and so on for a million jobs: nested so deep that it could
 * become too much for the stack, it is left to the outermost call. */
void wpy_throw_away(wpy_home *home, wpy_trash *trash, wp_pool *pool);

/* The same, but never on the calling thread before it comes to wpy_empty_trash: for who may run no foreign code now. */
void wpy_leave_trash(wpy_home *home, wpy_trash *trash, wp_pool *pool);

/* The same for a job whose last reference is gone. */
void wpy_throw_job_away(wpy_home *home, wp_job *job, void (*release)(wp_job *job));

/* ---- Ending many jobs at once ----
 *
 * Callbacks and finalizers are foreign code: it may look at another of the jobs, wait for it, or come back in here. So who
 * ends several jobs ends all of them first, between these two calls, and what is to be told and released is told and
 * released by the second. Attached, on one thread; they nest. The second keeps the exception that is set. */
void wpy_hush(void);
void wpy_speak(wpy_home *home);

/* Whether the calling thread is between the two. */
bool wpy_is_hushed(void);

/* ---- Releasing what one thread at a time may ----
 *
 * `releaser` is 0, or the thread that is at it. True: it is the calling one now, which must end it. False: another is, or
 * was and has taken long (it may be in foreign code); or it is the calling thread already. Waits a moment for another. */
typedef _Atomic(unsigned long) wpy_releaser;
bool wpy_begin_release(wpy_releaser *releaser);
void wpy_end_release(wpy_releaser *releaser);

/* Attached: sleeps for 50 us, detached. */
void wpy_nap(void);

/* Attached: releases what others threw away. One load when there is nothing. */
void wpy_empty_trash_slowly(wpy_home *home);

static inline void
wpy_empty_trash(wpy_home *home)
{
    if (wp_load_relaxed(&home->trash) != NULL) {
        wpy_empty_trash_slowly(home);
    }
}

/* Whether the calling thread is attached to the home's interpreter. */
bool wpy_is_attached(const wpy_home *home);

/* The method __reduce__ of types whose objects are of this process only. Without it protocols 0 and 1 pickle an empty one. */
PyObject *wpy_refuse_pickle(PyObject *self, PyObject *ignored);
#define WPY_REFUSE_PICKLE                                                                                              \
    {                                                                                                                  \
        "__reduce__", wpy_refuse_pickle, METH_NOARGS, NULL                                                             \
    }

/* Whether jobs can still be submitted; if not, sets the standard library's RuntimeError and returns false. */
bool wpy_check_not_exiting(wpy_home *home);

#endif
