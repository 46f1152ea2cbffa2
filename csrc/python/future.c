/* See future.h.
 *
 * The base class's __init__, which makes a threading.Condition, never runs; the attributes that it would set are data
 * descriptors here, so that concurrent.futures.wait, as_completed, asyncio and everybody else who reads them find what
 * they expect. `_condition` is an object with the two methods that are used of it from outside, on the watchers' lock.
 *
 * A future holds its task; the task is done by the pool whether anybody holds the future or not.
 */
#include "future.h"

#include "context.h"
#include "native_call.h"
#include "python_call.h"
#include "wait.h"
#include "wp_blocked.h"
#include "wp_notes.h"

#include <string.h>

typedef struct future_part {
    wpy_task *task;   /* Constant; a reference to the job. */
    PyObject *handle; /* Constant; or NULL. */
} future_part;

/* Where our part begins in the object: behind the base class's, whose size depends on the version of Python but on
 * nothing else, so every module instance writes the same number. */
static Py_ssize_t part_offset;

static future_part *
part_of(PyObject *self)
{
    return (future_part *)(void *)((char *)self + part_offset);
}

/* ---- Futures that no pool runs: made by calling the type, ended by set_result and set_exception ---- */

static void
free_manual(wpy_task *task)
{
    PyMem_Free(task);
}

static PyObject *
stored_outcome(wpy_task *task)
{
    return Py_NewRef(task->outcome);
}

static const wpy_task_class manual_class = {
    .core = {.name = "future", .notify = wpy_task_notify, .destroy = wpy_task_destroy},
    .result = stored_outcome,
    .exception = stored_outcome,
    .free = free_manual,
    .is_manual = true,
};

static bool
is_manual(const wpy_task *task)
{
    return wpy_task_class_of(task)->is_manual;
}

/* ---- Life ---- */

/* A new future is kept from the cyclic collector, as task.h says. */
static void
hide(PyObject *self, wpy_task *task)
{
#ifdef Py_GIL_DISABLED
    (void)self;
    (void)task;
#else
    PyObject_GC_UnTrack(self);
    task->unseen = self;
#endif
}

/* A future of a task that was not submitted yet, of which it takes the reference over, also when it fails. */
static PyObject *
future_new(wpy_home *home, wpy_task *task, PyObject *handle)
{
    PyObject *self = home->future_type->tp_alloc(home->future_type, 0);
    if (self == NULL) {
        wp_job_unref(&task->job);
        return NULL;
    }
    part_of(self)->task = task;
    part_of(self)->handle = Py_XNewRef(handle);
    hide(self, task);
    return self;
}

/* The future first: were there no memory for it after the submit, a submit would raise of which the job runs. */
PyObject *
wpy_future_submit(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task, PyObject *handle)
{
    PyObject *future = future_new(home, task, handle);
    if (future != NULL && wpy_submit_task(home, pool, options, task) != 0) {
        Py_CLEAR(future);
    }
    return future;
}

static int
refuse_arguments(PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Future() takes no arguments");
        return -1;
    }
    return 0;
}

/* The base class's would make a Condition. */
static int
future_init(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    return refuse_arguments(args, kwargs);
}

static PyObject *
future_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (type->tp_init == future_init && refuse_arguments(args, kwargs) < 0) {
        return NULL; /* They are for the __init__ of a derived class. */
    }
    wpy_home *home = wpy_home_of_type(type);
    wpy_task *task = home != NULL ? PyMem_Malloc(sizeof *task) : NULL;
    if (task == NULL) {
        return home != NULL ? PyErr_NoMemory() : NULL;
    }
    wpy_task_init(task, home, &manual_class, 0, NULL);
    wp_or_acq_rel(&task->job.word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        wp_job_unref(&task->job);
        return NULL;
    }
    part_of(self)->task = task;
    return self;
}

/* What an unfinished task holds is the pool's too, so it is alive whatever the collector finds. A task that has ended, or
 * that no pool will end, is its future's alone, if nobody else holds it; the Job object, of which there is one at most,
 * leaves its outcome to the future. */
static bool
is_own(wpy_task *task)
{
    return task != NULL && wp_load_relaxed(&task->job.references) - wpy_python_call_shown(task) == 1 &&
           (is_manual(task) || wp_job_is_settled(&task->job));
}

static int
future_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(part_of(self)->handle);
    wpy_task *task = part_of(self)->task;
    if (is_own(task)) {
        Py_VISIT(task->outcome);
        wpy_watchers *watchers = wp_load_acquire(&task->watchers);
        if (watchers != NULL) {
            Py_VISIT(watchers->waiters);
            Py_VISIT(watchers->callbacks);
        }
    }
    return wpy_visit_dict(self, visit, arg);
}

static int
future_clear(PyObject *self)
{
    wpy_clear_dict(self);
    wpy_task *task = part_of(self)->task;
    if (is_own(task)) {
        wpy_watchers *watchers = wp_load_acquire(&task->watchers);
        if (watchers != NULL) {
            Py_CLEAR(watchers->waiters);
            Py_CLEAR(watchers->callbacks);
        }
        wpy_task_forget_result(task);
    }
    return 0;
}

static void
free_future(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    wpy_task *task = part_of(self)->task;
    PyObject_ClearWeakRefs(self);
    wpy_clear_dict(self);
    if (task != NULL) {
        wp_job_unref(&task->job);
    }
    Py_XDECREF(part_of(self)->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

/* One that the collector does not know has no attributes, which could be futures in their turn. `unseen` is cleared first:
 * while foreign code runs below, a worker may make the future known. */
static void
future_dealloc(PyObject *self)
{
    wpy_task *task = part_of(self)->task;
    bool has_no_attributes = task != NULL && task->unseen == self;
    PyObject_GC_UnTrack(self);
    if (has_no_attributes) {
        task->unseen = NULL;
        free_future(self);
        return;
    }
    Py_TRASHCAN_BEGIN(self, future_dealloc) free_future(self);
    Py_TRASHCAN_END
}

/* ---- Attributes of the user's ---- */

static int
future_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    wpy_task_show_future(part_of(self)->task);
    return PyObject_GenericSetAttr(self, name, value);
}

static PyObject *
future_get_dict(PyObject *self, void *closure)
{
    wpy_task_show_future(part_of(self)->task);
    return PyObject_GenericGetDict(self, closure);
}

/* ---- State ---- */

/* Whether the future has its outcome. A job of before a fork never gets one: it counts as ended. */
static bool
is_done(wpy_task *task)
{
    if (wp_job_is_settled(&task->job)) {
        wpy_task_let_go(task); /* Before anybody is told. */
        return true;
    }
    return wp_job_is_lost(&task->job);
}

static bool
is_cancelled(wpy_task *task)
{
    return is_done(task) && wp_job_is_settled(&task->job) && wp_job_state(&task->job) == WP_CANCELLED;
}

static bool
is_running(wpy_task *task)
{
    uint32_t word = wp_load_acquire(&task->job.word);
    wp_state state = wp_state_of_word(word);
    /* Ended but not told yet is still running to everybody else. */
    return !is_done(task) && state != WP_PENDING && state != WP_NEW;
}

static PyObject *
future_get_state(PyObject *self, void *Py_UNUSED(closure))
{
    wpy_task *task = part_of(self)->task;
    const wpy_home *home = task->home;
    if (is_done(task)) {
        return Py_NewRef(is_cancelled(task) ? home->cancelled : home->finished);
    }
    return Py_NewRef(is_running(task) ? home->running : home->pending);
}

static PyObject *
future_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_done(part_of(self)->task));
}

static PyObject *
future_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_running(part_of(self)->task));
}

static PyObject *
future_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_cancelled(part_of(self)->task));
}

/* ---- Cancelling ---- */

/* A job of a pool is withdrawn from it; a manual one just ends. */
static bool
cancel_waiting(wpy_task *task)
{
    if (!is_manual(task)) {
        return !wp_job_is_lost(&task->job) && wp_job_cancel(&task->job);
    }
    if (!wp_job_take(&task->job, WP_CANCELLED)) {
        return false;
    }
    if (wp_job_conclude(&task->job, WP_CANCELLED)) {
        wpy_task_notify(&task->job);
    }
    return true;
}

PyDoc_STRVAR(cancel_doc,
             "cancel($self, /)\n--\n\n"
             "Cancel the job if it has not begun. Its place in the queue is free at once.\n\n"
             "Returns True if the future is cancelled, False if the job runs or has ended: see request_cancel().");

static PyObject *
future_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    wpy_task *task = part_of(self)->task;
    wpy_hush();
    bool cancelled = cancel_waiting(task);
    wpy_speak(task->home);
    return PyBool_FromLong(is_cancelled(task) || cancelled);
}

PyDoc_STRVAR(
    request_cancel_doc,
    "request_cancel($self, /)\n--\n\n"
    "Cancel the job if it has not begun; ask it to stop if it runs.\n\n"
    "A running job sees the request through current_job() or, in C, through its wp_job; one that does not look\n"
    "runs to its end. Returns False if the job has ended already, else True.");

static PyObject *
future_request_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    wpy_task *task = part_of(self)->task;
    wpy_hush(); /* Its children may be asked to stop as well. */
    bool asked = is_manual(task) || wp_job_is_lost(&task->job) ? cancel_waiting(task) : wp_job_stop(&task->job);
    wpy_speak(task->home);
    return PyBool_FromLong(asked);
}

/* ---- Waiting ---- */

/* Whoever waits without a limit for a job that no worker has begun may run it: a native one if it is known to be short, and
 * any job if the waiter is a worker of the same pool, which would else wait for itself. */
static void
help(wpy_task *task, uint64_t deadline)
{
    wp_job *job = &task->job;
    bool own_pool = wp_worker_in(job->pool) != NULL;
    const wpy_task_class *class = wpy_task_class_of(task);
    if (class->help != NULL) {
        if (own_pool) {
            WPY_BEGIN_REST
            class->help(job);
            WPY_END_REST
        }
        return;
    }
    if (is_manual(task) || wp_job_state(job) != WP_PENDING) {
        return;
    }
    bool is_short = class->is_native && wpy_native_call_is_short(task);
    if (deadline == WP_FOREVER && (own_pool || is_short)) {
        WPY_BEGIN_REST
        wp_job_run_here(job);
        WPY_END_REST
    }
}

/* 0 once the future has its outcome; -1 with TimeoutError, DeadlockError, or what a signal's handler raised. */
static int
wait_until_done(wpy_task *task, PyObject *timeout)
{
    uint64_t deadline;
    if (is_done(task)) {
        return 0;
    }
    if (wpy_deadline(timeout, "timeout", &deadline) < 0) {
        return -1;
    }
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    unsigned depth = watchers != NULL ? wpy_watchers_leave(watchers) : 0;
    help(task, deadline);
    int result = wp_is_worker() && !is_manual(task)
                     ? wpy_wait_on_worker(task->home, &task->job, wpy_task_class_of(task)->help, deadline)
                     : wpy_wait_for_job(&task->job, deadline);
    if (depth > 0) {
        wpy_watchers_return(watchers, depth);
    }
    if (result == WP_LATE) {
        PyErr_SetNone(PyExc_TimeoutError);
        return -1;
    }
    return result < 0 ? -1 : 0;
}

static int
parse_timeout(const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **timeout)
{
    Py_ssize_t n_keywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    *timeout = nargs + n_keywords > 0 ? args[0] : NULL;
    if (nargs + n_keywords > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", name, nargs + n_keywords);
        return -1;
    }
    if (n_keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", name, PyTuple_GET_ITEM(kwnames, 0));
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(result_doc,
             "result($self, /, timeout=None)\n--\n\n"
             "Return what the job returned, waiting for it.\n\n"
             "timeout: seconds to wait at most, or None.\n\n"
             "Raises what the job raised; TimeoutError if it has not ended in time; CancelledError if it was\n"
             "cancelled; JobExpired or JobTimeout if it went over its queue_timeout or run_timeout;\n"
             "DeadlockError in a job that this one waits for in turn, if neither wait has a timeout.");

static PyObject *
future_result(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    wpy_task *task = part_of(self)->task;
    PyObject *timeout;
    if (parse_timeout("result", args, nargs, kwnames, &timeout) < 0 || wait_until_done(task, timeout) < 0) {
        return NULL;
    }
    wpy_empty_trash(task->home);
    wpy_task_let_go(task);
    return wpy_task_result(task);
}

PyDoc_STRVAR(exception_doc, "exception($self, /, timeout=None)\n--\n\n"
                            "Return the exception that the job raised, or None, waiting for its end as result() does.");

static PyObject *
future_exception(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    wpy_task *task = part_of(self)->task;
    PyObject *timeout;
    if (parse_timeout("exception", args, nargs, kwnames, &timeout) < 0 || wait_until_done(task, timeout) < 0) {
        return NULL;
    }
    wpy_empty_trash(task->home);
    wpy_task_let_go(task);
    return wpy_task_exception(task);
}

/* ---- Callbacks and waiters ---- */

/* The watchers with their lock held, or NULL with an exception set. */
static wpy_watchers *
lock_watchers(PyObject *self)
{
    wpy_watchers *watchers = wpy_task_watch(part_of(self)->task, self);
    if (watchers != NULL) {
        wpy_watchers_take(watchers);
    }
    return watchers;
}

/* The list in a place, made if there is none: a borrowed reference, or NULL without memory. Making it may run finalizers,
 * which may come here. */
static PyObject *
list_in(PyObject **place)
{
    if (*place == NULL) {
        PyObject *made = PyList_New(0);
        if (*place == NULL) {
            *place = made;
        } else {
            Py_XDECREF(made);
        }
    }
    return *place;
}

static int
append_to(PyObject **place, PyObject *object)
{
    PyObject *list = list_in(place);
    return list == NULL ? -1 : PyList_Append(list, object);
}

static PyObject *
future_add_done_callback(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fn", NULL};
    PyObject *callback;
    wpy_task *task = part_of(self)->task;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:add_done_callback", keywords, &callback)) {
        return NULL;
    }
    int error = 0;
    bool now = is_done(task);
    if (!now) {
        wpy_watchers *watchers = lock_watchers(self);
        if (watchers == NULL) {
            return NULL;
        }
        now = watchers->told;
        error = now ? 0 : append_to(&watchers->callbacks, callback);
        wpy_watchers_give(watchers);
    }
    if (error < 0) {
        return NULL;
    }
    if (now) {
        wpy_call_back(task->home, callback, self);
    }
    Py_RETURN_NONE;
}

static PyObject *
watchers_list(PyObject *self, bool waiters)
{
    wpy_watchers *watchers = lock_watchers(self);
    if (watchers == NULL) {
        return NULL;
    }
    PyObject *result = Py_XNewRef(list_in(waiters ? &watchers->waiters : &watchers->callbacks));
    wpy_watchers_give(watchers);
    return result;
}

static PyObject *
future_get_waiters(PyObject *self, void *Py_UNUSED(closure))
{
    return watchers_list(self, true);
}

static PyObject *
future_get_callbacks(PyObject *self, void *Py_UNUSED(closure))
{
    return watchers_list(self, false);
}

/* ---- `_condition` ---- */

/* Once it is there, neither this nor taking and giving back needs memory. */
static PyObject *
future_get_condition(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_XNewRef((PyObject *)wpy_task_watch(part_of(self)->task, self));
}

/* What concurrent.futures does first of all with the futures that it is to wait for; task.h says what for. */
static Py_hash_t
future_hash(PyObject *self)
{
    return wpy_task_watchers(part_of(self)->task) != NULL ? PyBaseObject_Type.tp_hash(self) : -1;
}

/* ---- For those who end futures themselves ---- */

static PyObject *
invalid_state(PyObject *self)
{
    const wpy_home *home = part_of(self)->task->home;
    PyObject *state = future_get_state(self, NULL);
    if (state != NULL) {
        PyErr_Format(home->invalid_state_error, "%U: %R", state, self);
        Py_DECREF(state);
    }
    return NULL;
}

static PyObject *
end_manually(PyObject *self, PyObject *outcome, wp_state state)
{
    wpy_task *task = part_of(self)->task;
    if (!is_manual(task)) {
        return invalid_state(self);
    }
    wp_job_take(&task->job, WP_RUNNING);
    /* One thread alone may write the outcome: who finds the place empty. */
    PyObject *expected = NULL;
    if (wp_job_state(&task->job) != WP_RUNNING ||
        !__atomic_compare_exchange_n(&task->outcome, &expected, outcome, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return invalid_state(self);
    }
    Py_INCREF(outcome);
    if (wp_job_conclude(&task->job, state)) {
        wpy_task_tell(task);
    }
    Py_RETURN_NONE;
}

static PyObject *
future_set_result(PyObject *self, PyObject *result)
{
    return end_manually(self, result, WP_DONE);
}

static PyObject *
future_set_exception(PyObject *self, PyObject *exception)
{
    if (!PyExceptionInstance_Check(exception)) {
        PyErr_Format(PyExc_TypeError, "set_exception() takes an exception, not %.100s", Py_TYPE(exception)->tp_name);
        return NULL;
    }
    return end_manually(self, exception, WP_FAILED);
}

static PyObject *
future_set_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    wpy_task *task = part_of(self)->task;
    if (is_cancelled(task)) {
        Py_RETURN_FALSE;
    }
    if (!is_manual(task) || !wp_job_take(&task->job, WP_RUNNING)) {
        return invalid_state(self);
    }
    Py_RETURN_TRUE;
}

/* (done, cancelled, result, exception): what asyncio reads at once from Python 3.15 on. */
static PyObject *
future_get_snapshot(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    wpy_task *task = part_of(self)->task;
    if (!is_done(task)) {
        return Py_BuildValue("(OOOO)", Py_False, Py_False, Py_None, Py_None);
    }
    if (is_cancelled(task)) {
        return Py_BuildValue("(OOOO)", Py_True, Py_True, Py_None, Py_None);
    }
    PyObject *exception = wpy_task_exception(task);
    if (exception == NULL) {
        return NULL;
    }
    PyObject *result = exception == Py_None ? wpy_task_result(task) : Py_NewRef(Py_None);
    if (result == NULL) {
        Py_DECREF(exception);
        return NULL;
    }
    return Py_BuildValue("(OONN)", Py_True, Py_False, result, exception);
}

/* ---- Attributes ---- */

static PyObject *
future_get_result(PyObject *self, void *Py_UNUSED(closure))
{
    wpy_task *task = part_of(self)->task;
    if (is_done(task) && wp_job_state(&task->job) == WP_DONE) {
        return wpy_task_result(task);
    }
    Py_RETURN_NONE;
}

static PyObject *
future_get_exception(PyObject *self, void *Py_UNUSED(closure))
{
    wpy_task *task = part_of(self)->task;
    if (!is_done(task) || is_cancelled(task)) {
        Py_RETURN_NONE;
    }
    return wpy_task_exception(task);
}

static PyObject *
future_get_worker(PyObject *self, void *Py_UNUSED(closure))
{
    wpy_task *task = part_of(self)->task;
    if (!is_done(task) && !is_running(task)) {
        Py_RETURN_NONE;
    }
    uint32_t worker = __atomic_load_n(&task->job.worker, __ATOMIC_RELAXED);
    if (worker == WP_NO_WORKER) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(worker);
}

static PyObject *
future_get_lane(PyObject *self, void *Py_UNUSED(closure))
{
    const wp_job *job = &part_of(self)->task->job;
    if (part_of(self)->handle == NULL) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(PyTuple_GET_ITEM(wpy_lane_names(job->pool), job->lane));
}

static PyObject *
future_get_label(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_task *task = part_of(self)->task;
    const wpy_extra *extra = wpy_extra_of(&task->job);
    return Py_NewRef(extra != NULL && extra->label != NULL ? extra->label : Py_None);
}

static PyObject *
future_get_progress(PyObject *self, void *Py_UNUSED(closure))
{
    double fraction = wp_job_noted_progress(&part_of(self)->task->job);
    return fraction < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(fraction);
}

static PyMethodDef future_methods[] = {
    {"cancel", future_cancel, METH_NOARGS, cancel_doc},
    {"request_cancel", future_request_cancel, METH_NOARGS, request_cancel_doc},
    {"cancelled", future_cancelled, METH_NOARGS, "cancelled($self, /)\n--\n\nTrue if the job was cancelled."},
    {"running", future_running, METH_NOARGS, "running($self, /)\n--\n\nTrue while the job runs."},
    {"done", future_done, METH_NOARGS, "done($self, /)\n--\n\nTrue once the job has ended or was cancelled."},
    {"result", (PyCFunction)(void (*)(void))future_result, METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"exception", (PyCFunction)(void (*)(void))future_exception, METH_FASTCALL | METH_KEYWORDS, exception_doc},
    {"add_done_callback", (PyCFunction)(void (*)(void))future_add_done_callback, METH_VARARGS | METH_KEYWORDS,
     "add_done_callback($self, /, fn)\n--\n\n"
     "Call fn(future) when the job has ended, on the thread that ended it; at once if it has."},
    {"set_result", future_set_result, METH_O, "Only for futures that no pool runs."},
    {"set_exception", future_set_exception, METH_O, "Only for futures that no pool runs."},
    {"set_running_or_notify_cancel", future_set_running, METH_NOARGS, "Only for futures that no pool runs."},
    {"_get_snapshot", future_get_snapshot, METH_NOARGS, NULL},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef future_getset[] = {
    {"worker", future_get_worker, NULL,
     "Index of the worker that runs or ran the job; None before that, and if the waiting thread ran it itself.", NULL},
    {"lane", future_get_lane, NULL, "Name of the job's lane.", NULL},
    {"progress", future_get_progress, NULL,
     "How much of the job is done, from 0.0 to 1.0, as a native function with a wp_job said last; None before that.",
     NULL},
    {"label", future_get_label, NULL, "The label given by options(label=...), or None.", NULL},
    {"__dict__", future_get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"_state", future_get_state, NULL, NULL, NULL},
    {"_condition", future_get_condition, NULL, NULL, NULL},
    {"_waiters", future_get_waiters, NULL, NULL, NULL},
    {"_done_callbacks", future_get_callbacks, NULL, NULL, NULL},
    {"_result", future_get_result, NULL, NULL, NULL},
    {"_exception", future_get_exception, NULL, NULL, NULL},
    {0},
};

PyDoc_STRVAR(future_doc, "The outcome of a job, now or later. A concurrent.futures.Future.\n\n"
                         "Every method may be called from any thread.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_new, future_tp_new},
    {Py_tp_init, future_init},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {Py_tp_setattro, future_setattro},
    {Py_tp_hash, future_hash},
    {0, NULL},
};

PyTypeObject *
wpy_future_type_new(PyObject *module, PyObject *base)
{
    Py_ssize_t base_size = ((PyTypeObject *)base)->tp_basicsize;
    part_offset = (base_size + 7) / 8 * 8;
    PyType_Spec spec = {
        .name = "workerpool.Future",
        .basicsize = (int)(part_offset + (Py_ssize_t)sizeof(future_part)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        .slots = future_slots,
    };
    PyObject *bases = PyTuple_Pack(1, base);
    if (bases == NULL) {
        return NULL;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, bases);
    Py_DECREF(bases);
    return (PyTypeObject *)type;
}
