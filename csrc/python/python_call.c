/* See python_call.h.
 *
 * A worker attaches once for consecutive calls (enter, leave) with its pinned thread state. A thread that is no worker
 * runs a call only by the policy "caller_runs", and is attached already.
 */
#include "python_call.h"

#include "context.h"
#include "interrupt.h"
#include "turns.h"
#include "variables.h"

#include <stddef.h>

/* A call that held the GIL for longer than this may have been one that never looks whether others want it (a function in
 * C); so the worker offers it between calls. It is the interpreter's own switch interval. */
#define OFFER_GIL_NS 5000000u

typedef struct python_call {
    wpy_task task;
    PyObject *context; /* Context variables captured at submit; NULL: there were none, or none are wanted. */
    PyObject *kwnames; /* Tuple of names of the last arguments, or NULL. */
    uint32_t n_args;   /* All arguments, with the keyword ones, without the callable. */
    bool in_own;       /* It runs in the worker's own context, see variables.h. */
    wp_word shown;     /* 1 while there is a Job object, which holds one of the job's references. Attached. */
    PyObject *args[];  /* The callable and its arguments; behind them an extra, if any. */
} python_call;

static python_call *
call_of(wpy_task *task)
{
    return (python_call *)(void *)task;
}

/* ---- Running ---- */

/* The innermost call that this thread runs: a nested one (a waiter that takes its job back) hides the outer. */
static _Thread_local wpy_task *current;
/* Its Job object, once it has asked for it: a reference until the call is over. */
static _Thread_local PyObject *current_job;

/* Calls that run in greenlets of one thread need not end in the opposite order of their beginning. Once one has ended
 * before a later one, that must not make it current again. From then on nothing is, after a call, until all have ended. */
static _Thread_local unsigned n_running;
static _Thread_local bool is_out_of_order;

/* What was current before a call. */
typedef struct outer_call {
    wpy_task *task;
    PyObject *job;
} outer_call;

static outer_call
make_current(wpy_task *task)
{
    outer_call outer = {current, current_job};
    current = task;
    current_job = NULL;
    n_running++;
    return outer;
}

static void
make_outer_current(const wpy_task *task, outer_call outer)
{
    bool is_current = current == task;
    is_out_of_order = is_out_of_order || !is_current;
    PyObject *own_job = is_current ? current_job : NULL;
    PyObject *outer_job = is_out_of_order ? outer.job : NULL;
    if (is_current) {
        current = is_out_of_order ? NULL : outer.task;
        current_job = is_out_of_order ? NULL : outer.job;
    }
    if (--n_running == 0) {
        is_out_of_order = false;
    }
    Py_XDECREF(own_job);
    Py_XDECREF(outer_job);
}

wpy_task *
wpy_current_python_call(void)
{
    return current;
}

PyObject **
wpy_place_of_current_job(void)
{
    return &current_job;
}

/* Without the GIL, objects that this thread made and another let go of are freed by this thread, at the next moment at
 * which its interpreter looks up from its work. A worker that runs only functions in C never has one, and what it made
 * would pile up; so it gets one each time it enters. */
static void
take_breath(const wpy_home *home)
{
#ifdef Py_GIL_DISABLED
    PyObject *nothing = PyObject_CallNoArgs(home->breather);
    if (nothing == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(nothing);
#else
    (void)home;
#endif
}

void
wpy_enter_python(wp_worker *self)
{
    if (self != NULL) {
        const wpy_context *context = wp_pool_hook_context(wp_worker_pool(self));
        uint64_t asked = wpy_turn_asked();
        while (!wpy_attach(context->home, self)) {
            wpy_wait_for_memory(); /* The job was accepted, so it waits for a thread state. */
        }
        wpy_turn_began(asked);
        take_breath(context->home);
    }
}

void
wpy_leave_python(wp_worker *self)
{
    if (self != NULL) {
        wpy_detach();
        wpy_turn_ended(self);
    }
}

/* Takes a copy of the context of now, or nothing if no variable is set in it: in most programs none ever is, and a
 * hundred thousand jobs that wait need not have a context each. Nobody else refers to the copy, so the cyclic collector
 * need not look at it; it must know it again when it goes. */
static int
capture_context(python_call *call, wpy_home *home, wpy_context *own)
{
    call->context = NULL;
    call->in_own = own != NULL;
    if (own != NULL) {
        wpy_variables_offer(own);
        return 0;
    }
    if (wpy_variables_capture(home, &call->context) < 0) {
        return -1;
    }
#ifndef Py_GIL_DISABLED
    if (call->context != NULL) {
        PyObject_GC_UnTrack(call->context);
    }
#endif
    return 0;
}

static void
drop_context(python_call *call)
{
#ifndef Py_GIL_DISABLED
    if (call->context != NULL) {
        PyObject_GC_Track(call->context);
    }
#endif
    Py_CLEAR(call->context);
}

/* The callable and its arguments are let go of as soon as the call is over: the future does not need them. */
static void
drop_arguments(python_call *call)
{
    for (uint32_t i = 0; i <= call->n_args; i++) {
        Py_CLEAR(call->args[i]);
    }
    Py_CLEAR(call->kwnames);
    drop_context(call);
}

static PyObject *
taken(PyObject **place)
{
    return __atomic_exchange_n(place, NULL, __ATOMIC_ACQ_REL);
}

/* One that was not called has its arguments still. Several threads may see its end at once. */
static void
let_go(wpy_task *task)
{
    python_call *call = call_of(task);
    wp_state state = wp_job_state(&task->job);
    if (state != WP_CANCELLED && state != WP_EXPIRED && state != WP_LOST) {
        return;
    }
    for (uint32_t i = 0; i <= call->n_args; i++) {
        Py_XDECREF(taken(&call->args[i]));
    }
    Py_XDECREF(taken(&call->kwnames));
    PyObject *context = taken(&call->context);
#ifndef Py_GIL_DISABLED
    if (context != NULL) {
        PyObject_GC_Track(context);
    }
#endif
    Py_XDECREF(context);
}

/* Functions and classes look at their caller's frame: for its module, its names, or just because there always is one. A
 * worker has none, so a small function of Python's (workerpool/_callers.py) makes the call. */
static PyObject *
call_it(const wpy_home *home, python_call *call)
{
    Py_ssize_t n_keywords = call->kwnames != NULL ? PyTuple_GET_SIZE(call->kwnames) : 0;
    size_t n_positional = call->n_args - (size_t)n_keywords;
    if (home->callers == NULL) { /* The interpreter ends. */
        return PyObject_Vectorcall(call->args[0], call->args + 1, n_positional, call->kwnames);
    }
    Py_ssize_t last = PyTuple_GET_SIZE(home->callers) - 1; /* It takes any arguments. */
    Py_ssize_t which = n_keywords > 0 || (Py_ssize_t)n_positional > last ? last : (Py_ssize_t)n_positional;
    return PyObject_Vectorcall(PyTuple_GET_ITEM(home->callers, which), call->args, n_positional + 1, call->kwnames);
}

/* What it returned or, with *failed, the exception that it raised. */
static PyObject *
call_in_context(wpy_task *task, const wp_worker *self, bool *failed)
{
    python_call *call = call_of(task);
    bool on_worker = self != NULL && wp_worker_pool(self) == task->job.pool;
    wpy_variables variables = {task->home, call->context, call->in_own, on_worker};
    PyObject *entered;
    PyObject *result = NULL;
    bool inside = wpy_variables_enter(&variables, &entered) == 0;
    if (inside) {
        result = call_it(task->home, call);
    }
    *failed = result == NULL;
    PyObject *outcome = result != NULL ? result : wpy_take_exception();
    if (inside) {
        wpy_variables_leave(entered);
    }
    return outcome;
}

static PyObject *
call_on_caller(wpy_task *task, bool *failed)
{
    wpy_begin_foreign();
    PyObject *outcome = call_in_context(task, NULL, failed);
    wpy_end_foreign();
    return outcome;
}

static void
store_outcome(wpy_task *task, PyObject *outcome)
{
    task->outcome = outcome;
    if (PyObject_IS_GC(outcome)) {
        wpy_task_show_future(task); /* It may refer to its future. */
    }
}

static wp_state
run(wp_job *job, wp_worker *self)
{
    wpy_task *task = wpy_task_of(job);
    python_call *call = call_of(task);
    outer_call outer = make_current(task);
    bool failed;
    PyObject *outcome = self != NULL ? call_in_context(task, self, &failed) : call_on_caller(task, &failed);
    make_outer_current(task, outer);
    store_outcome(task, outcome);
    drop_arguments(call);
    if (!failed) {
        return WP_DONE;
    }
    bool stopped = (wp_load_relaxed(&job->word) & WP_JOB_STOP) != 0;
    return stopped && PyErr_GivenExceptionMatches(task->outcome, task->home->cancelled_error) ? WP_CANCELLED
                                                                                              : WP_FAILED;
}

/* ---- Outcome and end ---- */

static PyObject *
stored_outcome(wpy_task *task)
{
    return Py_NewRef(task->outcome);
}

static void
free_call(wpy_task *task)
{
    python_call *call = call_of(task);
    drop_arguments(call);
    wpy_extra_clear(wpy_extra_of(&task->job));
    PyMem_Free(call);
}

/* Under the core's lock and without attaching, so only what is plain memory: the worker's index says the rest. */
static void
describe(const wp_job *job, char *text, size_t size)
{
    wpy_describe(job, "a Python callable", text, size);
}

/* Not the context: it is kept from the collector. */
static int
traverse(wpy_task *task, visitproc visit, void *arg)
{
    const python_call *call = call_of(task);
    for (uint32_t i = 0; i <= call->n_args; i++) {
        Py_VISIT(call->args[i]);
    }
    Py_VISIT(call->kwnames);
    return 0;
}

static const wpy_task_class python_class = {
    .core =
        {
            .name = "Python callable",
            .run = run,
            .enter = wpy_enter_python,
            .leave = wpy_leave_python,
            .notify = wpy_task_notify,
            .destroy = wpy_task_destroy,
            .describe = describe,
            /* Longer than for native jobs: a claim is also one acquisition of the GIL. */
            .claim_ns = 200000,
            .spread_ns = WPY_SPREAD_PYTHON_NS,
#ifndef Py_GIL_DISABLED
            .one_at_a_time = true,
#endif
        },
    .result = stored_outcome,
    .exception = stored_outcome,
    .free = free_call,
    .traverse = traverse,
    .let_go = let_go,
};

void
wpy_python_call_set_shown(wpy_task *task, bool shown)
{
    wp_store_relaxed(&call_of(task)->shown, shown);
}

uint32_t
wpy_python_call_shown(wpy_task *task)
{
    return wpy_task_class_of(task) == &python_class ? wp_load_relaxed(&call_of(task)->shown) : 0;
}

wpy_task *
wpy_python_call_new(wpy_home *home, const wpy_options *options, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, wp_results *results, uint64_t index)
{
    Py_ssize_t n_keywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    Py_ssize_t n_all = nargs + n_keywords;
    bool with_extra = results != NULL || wpy_options_need_extra(options);
    size_t extra_at = wpy_rounded(sizeof(python_call) + (size_t)n_all * sizeof(PyObject *));
    python_call *call = PyMem_Malloc(extra_at + (with_extra ? sizeof(wpy_extra) : 0));
    if (call == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (capture_context(call, home, options->own) < 0) {
        PyMem_Free(call);
        return NULL;
    }
    wpy_extra *extra = with_extra ? (wpy_extra *)(void *)((char *)call + extra_at) : NULL;
    wpy_task_init(&call->task, home, &python_class, results != NULL ? WP_JOB_TIMED : 0,
                  wpy_options_fill_extra(options, extra, results, index));
    call->kwnames = n_keywords > 0 ? Py_NewRef(kwnames) : NULL;
    call->n_args = (uint32_t)(n_all - 1);
    wp_store_relaxed(&call->shown, 0);
    for (Py_ssize_t i = 0; i < n_all; i++) {
        call->args[i] = Py_NewRef(args[i]);
    }
    return &call->task;
}
