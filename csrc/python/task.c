/* See task.h. */
#include "task.h"

#include "bridge.h"
#include "python_call.h"

#include <stdlib.h>

void
wpy_task_init(wpy_task *task, wpy_home *home, const wpy_task_class *class, unsigned flags, wp_extra *extra)
{
    wp_job_init(&task->job, &class->core, flags, extra);
    task->home = home;
    wp_store_relaxed(&task->watchers, NULL);
    task->outcome = NULL;
    task->unseen = NULL;
}

void
wpy_task_show_future(wpy_task *task)
{
    if (!(task->job.flags & WPY_JOB_HAS_CALL) && task->unseen != NULL) {
        PyObject_GC_Track(task->unseen);
        task->unseen = NULL;
    }
}

void
wpy_task_forget_result(wpy_task *task)
{
    if (task->outcome != NULL && wp_job_state(&task->job) == WP_DONE) {
        PyObject *result = task->outcome;
        task->outcome = Py_NewRef(Py_None);
        Py_DECREF(result);
    }
}

int
wpy_task_traverse(wpy_task *task, visitproc visit, void *arg)
{
    if (wp_load_relaxed(&task->job.references) - wpy_python_call_shown(task) != 1) {
        return 0;
    }
    Py_VISIT(task->outcome);
    const wpy_task_class *class = wpy_task_class_of(task);
    return class->traverse != NULL ? class->traverse(task, visit, arg) : 0;
}

void
wpy_describe(const wp_job *job, const char *what, char *text, size_t size)
{
    const wpy_extra *extra = wpy_extra_of(job);
    if (extra != NULL && extra->label_text != NULL) {
        PyOS_snprintf(text, size, "%s, label \"%.100s\"", what, extra->label_text);
    } else {
        PyOS_snprintf(text, size, "%s", what);
    }
}

void
wpy_extra_clear(wpy_extra *extra)
{
    if (extra == NULL) {
        return;
    }
    wp_token_unref(extra->core.token);
    if (extra->core.results != NULL) {
        wp_results_unref(extra->core.results);
    }
    Py_CLEAR(extra->label);
    Py_CLEAR(extra->token);
}

/* ---- The end of a task's memory ---- */

static void
release_task(wp_job *job)
{
    wpy_task *task = wpy_task_of(job);
    wpy_watchers *watchers = wp_load_relaxed(&task->watchers);
    if (watchers != NULL) {
        Py_XDECREF(watchers->waiters);
        Py_XDECREF(watchers->callbacks);
        free(watchers);
    }
    Py_CLEAR(task->outcome);
    wpy_task_class_of(task)->free(task);
}

void
wpy_task_destroy(wp_job *job)
{
    wpy_throw_job_away(wpy_task_of(job)->home, job, release_task);
}

/* ---- The watchers' lock ---- */

void
wpy_watchers_take(wpy_watchers *watchers)
{
    unsigned long me = PyThread_get_thread_ident();
    if (wp_load_relaxed(&watchers->owner) == me) {
        watchers->depth++;
        return;
    }
    uint32_t expected = WP_LOCK_FREE;
    if (!wp_cas_acquire(&watchers->lock.word, &expected, WP_LOCK_HELD)) {
        Py_BEGIN_ALLOW_THREADS
        wp_lock_take(&watchers->lock);
        Py_END_ALLOW_THREADS
    }
    wp_store_relaxed(&watchers->owner, me);
    watchers->depth = 1;
}

int
wpy_watchers_give(wpy_watchers *watchers)
{
    if (wp_load_relaxed(&watchers->owner) != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return -1;
    }
    if (--watchers->depth == 0) {
        wp_store_relaxed(&watchers->owner, 0);
        wp_lock_give(&watchers->lock);
    }
    return 0;
}

/* ---- Telling ---- */

void
wpy_log_exception(wpy_home *home, const char *level, const char *text, PyObject *object, PyObject *source)
{
    PyObject *exception = wpy_take_exception();
    PyObject *method = PyObject_GetAttrString(home->logger, level);
    PyObject *args = object != NULL ? Py_BuildValue("(sO)", text, object) : Py_BuildValue("(s)", text);
    PyObject *kwargs = Py_BuildValue("{sO}", "exc_info", exception);
    PyObject *logged = method != NULL && args != NULL && kwargs != NULL ? PyObject_Call(method, args, kwargs) : NULL;
    if (logged == NULL) {
        PyErr_WriteUnraisable(source);
    }
    Py_XDECREF(logged);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(method);
    Py_DECREF(exception);
}

void
wpy_call_back(wpy_home *home, PyObject *callback, PyObject *future)
{
    PyObject *result = PyObject_CallOneArg(callback, future);
    if (result != NULL) {
        Py_DECREF(result);
    } else if (PyErr_ExceptionMatches(PyExc_Exception)) {
        wpy_log_exception(home, "error", "exception calling callback for %r", future, callback);
    } else {
        PyErr_WriteUnraisable(callback); /* The standard library would let it end its thread. */
    }
}

static PyObject *
name_for_waiters(const wpy_home *home, wp_state state)
{
    switch (state) {
    case WP_DONE:
        return home->add_result;
    case WP_CANCELLED:
        return home->add_cancelled;
    default:
        return home->add_exception;
    }
}

static void
tell_waiters(wpy_home *home, PyObject *waiters, PyObject *future, wp_state state)
{
    PyObject *name = name_for_waiters(home, state);
    for (Py_ssize_t i = 0; waiters != NULL && i < PyList_GET_SIZE(waiters); i++) {
        PyObject *waiter = Py_NewRef(PyList_GET_ITEM(waiters, i));
        PyObject *told = PyObject_CallMethodOneArg(waiter, name, future);
        if (told == NULL) {
            PyErr_WriteUnraisable(waiter);
        }
        Py_XDECREF(told);
        Py_DECREF(waiter);
    }
}

void
wpy_task_tell(wpy_task *task)
{
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    wpy_watchers_take(watchers);
    wp_job_settle(&task->job);
    tell_waiters(task->home, watchers->waiters, watchers->future, wp_job_state(&task->job));
    watchers->told = true;
    PyObject *callbacks = watchers->callbacks;
    PyObject *future = watchers->future;
    if (wpy_task_class_of(task)->is_manual) {
        Py_XINCREF(future); /* It was not kept, but whoever ends it has it. */
    }
    watchers->callbacks = NULL;
    watchers->future = NULL;
    wpy_watchers_give(watchers);

    for (Py_ssize_t i = 0; callbacks != NULL && i < PyList_GET_SIZE(callbacks); i++) {
        wpy_call_back(task->home, PyList_GET_ITEM(callbacks, i), future);
    }
    Py_XDECREF(callbacks);
    Py_XDECREF(future);
}

/* A thread that is not attached leaves the telling to one that is: to itself at the end of its claim (wpy_leave_native),
 * or to the attendant. */
void
wpy_task_notify(wp_job *job)
{
    wpy_task *task = wpy_task_of(job);
    if (job->flags & WPY_JOB_HAS_CALL) {
        wpy_bridge_deliver(task);
        return;
    }
    if (wpy_is_attached(task->home)) {
        PyObject *pending = wpy_take_exception();
        wpy_task_tell(task);
        if (pending != NULL) {
            wpy_raise(pending);
            Py_DECREF(pending);
        }
        return;
    }
    wp_job_ref(job);
    wpy_watchers *notice = wp_load_acquire(&task->watchers);
    wpy_watchers *top = wp_load_relaxed(&task->home->notices);
    do {
        notice->next_notice = top;
    } while (!wp_cas_weak_acq_rel(&task->home->notices, &top, notice));
    if (wp_worker_self() == NULL) {
        wp_pool_ask_attendant(job->pool);
    }
}

void
wpy_tell_notices(wpy_home *home)
{
    wpy_watchers *newest = wp_exchange_acq_rel(&home->notices, NULL);
    wpy_watchers *oldest = NULL;
    while (newest != NULL) { /* The stack turned round: told in the order in which they ended. */
        wpy_watchers *next = newest->next_notice;
        newest->next_notice = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        wpy_task *task = oldest->task;
        oldest = oldest->next_notice; /* Read before the task, and its watchers, may go. */
        wpy_task_tell(task);
        wp_job_unref(&task->job);
    }
}

void
wpy_task_discard(wpy_task *task)
{
    wp_job *job = &task->job;
    wp_or_acq_rel(&job->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    if (wp_job_take(job, WP_CANCELLED) && wp_job_conclude(job, WP_CANCELLED)) {
        job->class->notify(job);
    }
    if (job->extra != NULL && job->extra->results != NULL) {
        wp_results_deliver(job->extra->results, job);
    }
}

/* ---- Watching ---- */

static wpy_watchers *
watchers_new(wpy_task *task)
{
    wpy_watchers *watchers = calloc(1, sizeof *watchers);
    if (watchers == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    watchers->task = task;
    wpy_watchers_take(watchers); /* Nobody may use them before they are complete. */
    return watchers;
}

wpy_watchers *
wpy_task_watch(wpy_task *task, PyObject *future)
{
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    if (watchers != NULL) {
        return watchers;
    }
    wpy_watchers *made = watchers_new(task);
    if (made == NULL) {
        return NULL;
    }
    wpy_task_show_future(task);
    if (!wp_cas_acq_rel(&task->watchers, &watchers, made)) {
        free(made);
        return watchers;
    }
    /* Kept alive before the notice is asked for: it may come at once, though only as far as the lock. One that no pool
     * ends would keep itself. */
    bool keep = !wpy_task_class_of(task)->is_manual;
    made->future = keep ? Py_NewRef(future) : future;
    if (!wp_job_ask_for_notice(&task->job)) {
        made->told = true;
        made->future = NULL;
        if (keep) {
            Py_DECREF(future);
        }
    }
    wpy_watchers_give(made);
    return made;
}

/* ---- Outcomes ---- */

static PyObject *
time_limit_error(PyObject *type, const char *what, uint64_t limit_ns, const char *option)
{
    char text[160];
    PyOS_snprintf(text, sizeof text, "the job %s longer than its %s of %g s", what, option, (double)limit_ns / 1e9);
    return PyObject_CallFunction(type, "s", text);
}

static PyObject *
lost_error(const wpy_home *home)
{
    return PyObject_CallFunction(
        home->broken_pool, "s",
        "the job was lost: a worker's initializer failed, or the process was forked from the one "
        "that ran the pool");
}

PyObject *
wpy_limit_exception(const wpy_home *home, const wp_job *job, wp_state state, PyObject *cause)
{
    if (state == WP_EXPIRED) {
        return time_limit_error(home->job_expired, "waited", job->extra->queue_timeout, "queue_timeout");
    }
    if (state != WP_TIMED_OUT) {
        return lost_error(home);
    }
    PyObject *error = time_limit_error(home->job_timeout, "ran", job->extra->run_timeout, "run_timeout");
    if (error != NULL && cause != NULL && PyExceptionInstance_Check(cause)) {
        PyException_SetCause(error, Py_NewRef(cause));
    }
    return error;
}

PyObject *
wpy_task_exception(wpy_task *task)
{
    wp_state state = wp_job_state(&task->job);
    if (state == WP_DONE) {
        Py_RETURN_NONE;
    }
    if (state == WP_CANCELLED) {
        PyErr_SetNone(task->home->cancelled_error);
        return NULL;
    }
    if (!wp_job_is_settled(&task->job)) {
        return lost_error(task->home);
    }
    if (state == WP_FAILED) {
        return wpy_task_class_of(task)->exception(task);
    }
    return wpy_limit_exception(task->home, &task->job, state, task->outcome);
}

PyObject *
wpy_task_result(wpy_task *task)
{
    if (wp_job_state(&task->job) == WP_DONE) {
        return wpy_task_class_of(task)->result(task);
    }
    PyObject *exception = wpy_task_exception(task);
    if (exception != NULL) {
        wpy_raise(exception);
        Py_DECREF(exception);
    }
    return NULL;
}
