/* See task.h. */
#include "task.h"

#include "bridge.h"
#include "interrupt.h"
#include "python_call.h"
#include "wait.h"

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
        Py_CLEAR(watchers->waiters);
        Py_CLEAR(watchers->callbacks);
        Py_DECREF(watchers);
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

static bool
try_to_take(wpy_watchers *watchers)
{
    uint32_t expected = WP_LOCK_FREE;
    if (wp_load_relaxed(&watchers->owner) != PyThread_get_thread_ident() &&
        !wp_cas_acquire(&watchers->lock.word, &expected, WP_LOCK_HELD)) {
        return false;
    }
    wp_store_relaxed(&watchers->owner, PyThread_get_thread_ident());
    watchers->depth++; /* It was 0, if nobody had the lock. */
    return true;
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

unsigned
wpy_watchers_leave(wpy_watchers *watchers)
{
    if (wp_load_relaxed(&watchers->owner) != PyThread_get_thread_ident()) {
        return 0;
    }
    unsigned depth = watchers->depth;
    watchers->depth = 1;
    wpy_watchers_give(watchers);
    return depth;
}

void
wpy_watchers_return(wpy_watchers *watchers, unsigned depth)
{
    wpy_watchers_take(watchers);
    watchers->depth = depth;
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
        wpy_raise_later(home, source);
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
    wpy_begin_foreign();
    PyObject *result = PyObject_CallOneArg(callback, future);
    if (result != NULL) {
        Py_DECREF(result);
    } else if (PyErr_ExceptionMatches(PyExc_Exception)) {
        wpy_log_exception(home, "error", "exception calling callback for %r", future, callback);
    } else {
        wpy_raise_later(home, callback); /* On a worker the standard library would let it end its thread. */
    }
    wpy_end_foreign();
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
    PyObject *waiter;
    wpy_begin_foreign();
    for (Py_ssize_t i = 0; waiters != NULL && (waiter = wpy_list_item(waiters, i)) != NULL; i++) {
        PyObject *told = PyObject_CallMethodOneArg(waiter, name, future);
        if (told == NULL) {
            wpy_raise_later(home, waiter);
        }
        Py_XDECREF(told);
        Py_DECREF(waiter);
    }
    wpy_end_foreign();
}

/* The first step: the end becomes visible. Takes the watchers' lock over. */
static void
settle_locked(wpy_task *task, wpy_watchers *watchers)
{
    wp_job_settle(&task->job);
    if (wpy_task_class_of(task)->is_manual) {
        Py_XINCREF(watchers->future); /* It was not kept, but whoever ends it has it. */
    }
    wpy_task_let_go(task);
    PyObject *waiters = Py_XNewRef(watchers->waiters);
    tell_waiters(task->home, waiters, watchers->future, wp_job_state(&task->job));
    watchers->told = true;
    wpy_watchers_give(watchers);
    Py_XDECREF(waiters);
}

static void
settle(wpy_task *task)
{
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    wpy_watchers_take(watchers);
    settle_locked(task, watchers);
}

/* The second step. As in the standard library, a callback that changes the list changes what is called. */
static void
call_callbacks(wpy_task *task)
{
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    wpy_watchers_take(watchers);
    PyObject *callbacks = Py_XNewRef(watchers->callbacks);
    PyObject *future = watchers->future;
    watchers->future = NULL;
    wpy_watchers_give(watchers);

    PyObject *callback;
    for (Py_ssize_t i = 0; callbacks != NULL && (callback = wpy_list_item(callbacks, i)) != NULL; i++) {
        wpy_call_back(task->home, callback, future);
        Py_DECREF(callback);
    }

    wpy_watchers_take(watchers);
    PyObject *called = watchers->callbacks; /* They are not kept for as long as the future. */
    watchers->callbacks = NULL;
    wpy_watchers_give(watchers);
    Py_XDECREF(called);
    Py_XDECREF(callbacks);
    Py_XDECREF(future);
}

void
wpy_task_tell(wpy_task *task)
{
    settle(task);
    call_callbacks(task);
}

/* ---- Lines of notices ---- */

/* How many naps to wait for the lock of a future. */
#define LOCK_NAPS 10

static void
append_notice(wpy_notice_line *line, wpy_watchers *notice)
{
    notice->next_notice = NULL;
    if (wp_load_relaxed(&line->first) == NULL) {
        wp_store_release(&line->first, notice);
    } else {
        line->last->next_notice = notice;
    }
    line->last = notice;
}

static wpy_watchers *
take_first(wpy_notice_line *line)
{
    wpy_watchers *first = wp_load_relaxed(&line->first);
    if (first != NULL) {
        wp_store_release(&line->first, first->next_notice);
    }
    return first;
}

/* What the calling thread has ended while it is hushed. */
static _Thread_local wpy_notice_line own_notices;

/* Whoever has the lock of one may wait for another. */
static void
tell_ends(wpy_notice_line *ended, wpy_notice_line *settled)
{
    while (wp_load_relaxed(&ended->first) != NULL) {
        wpy_notice_line held_up = {NULL, NULL};
        wpy_watchers *notice;
        while ((notice = take_first(ended)) != NULL) {
            bool taken = try_to_take(notice);
            if (taken) {
                settle_locked(notice->task, notice);
            }
            append_notice(taken ? settled : &held_up, notice);
        }
        *ended = held_up;
        if (wp_load_relaxed(&held_up.first) != NULL) {
            wpy_nap();
        }
    }
}

void
wpy_tell_own_notices(void)
{
    wpy_notice_line ended = own_notices;
    wpy_notice_line settled = {NULL, NULL};
    wpy_watchers *notice;
    own_notices = (wpy_notice_line){NULL, NULL}; /* A callback may end others in the same way. */
    tell_ends(&ended, &settled);
    while ((notice = take_first(&settled)) != NULL) {
        wpy_task *task = notice->task;
        call_callbacks(task);
        wp_job_unref(&task->job);
    }
}

/* A thread that is not attached leaves the telling to one that is: to itself at the end of its claim (wpy_leave_native),
 * or to the attendant. A Python call comes before that end, and may wait for what is to be told. */
static void
leave_notice(wpy_task *task, wpy_watchers *notice)
{
    wp_job *job = &task->job;
    wpy_watchers *top = wp_load_relaxed(&task->home->notices);
    do {
        notice->next_notice = top;
    } while (!wp_cas_weak_acq_rel(&task->home->notices, &top, notice));
    if (wp_worker_self() == NULL || wpy_current_python_call() != NULL) {
        wp_pool_ask_attendant(job->pool);
    }
}

static void
tell_now(wpy_task *task)
{
    if (wpy_is_hushed()) {
        wp_job_ref(&task->job);
        append_notice(&own_notices, wp_load_acquire(&task->watchers));
        return;
    }
    PyObject *pending = wpy_take_exception();
    wpy_task_tell(task);
    if (pending != NULL) {
        wpy_raise(pending);
        Py_DECREF(pending);
    }
}

void
wpy_task_notify(wp_job *job)
{
    wpy_task *task = wpy_task_of(job);
    if (job->flags & WPY_JOB_HAS_CALL) {
        wpy_bridge_deliver(task);
        return;
    }
    if (wpy_is_attached(task->home)) {
        tell_now(task);
    } else if (wpy_get_up(task->home)) {
        tell_now(task);
        wpy_lie_down();
    } else {
        wp_job_ref(job);
        leave_notice(task, wp_load_acquire(&task->watchers));
    }
}

bool
wpy_has_notices(wpy_home *home)
{
    return wp_load_acquire(&home->notices) != NULL || wp_load_acquire(&home->ended.first) != NULL ||
           wp_load_acquire(&home->settled.first) != NULL || wp_load_acquire(&home->held_up.first) != NULL;
}

void
wpy_forget_notices(wpy_home *home)
{
    wp_store_relaxed(&home->taking.word, WP_LOCK_FREE);
    wp_store_relaxed(&home->notices, NULL);
    wp_store_relaxed(&home->ended.first, NULL);
    wp_store_relaxed(&home->settled.first, NULL);
    wp_store_relaxed(&home->held_up.first, NULL);
}

/* The stack turned round: told in the order in which they ended. Lock held. */
static void
line_up(wpy_home *home)
{
    wpy_watchers *newest = wp_exchange_acq_rel(&home->notices, NULL);
    wpy_watchers *oldest = NULL;
    while (newest != NULL) {
        wpy_watchers *next = newest->next_notice;
        newest->next_notice = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        wpy_watchers *next = oldest->next_notice;
        append_notice(&home->ended, oldest);
        oldest = next;
    }
}

/* The next that has ended and was not settled; if there is none, the next whose callbacks are to be called. `more`: there
 * are others to be called. */
static wpy_watchers *
take_notice(wpy_home *home, bool *is_settled, bool *more)
{
    wp_lock_take(&home->taking);
    if (wp_load_relaxed(&home->ended.first) == NULL) {
        line_up(home);
    }
    wpy_watchers *notice = take_first(&home->ended);
    *is_settled = notice == NULL;
    if (*is_settled) {
        notice = take_first(&home->settled);
    }
    *more = wp_load_relaxed(&home->settled.first) != NULL;
    wp_lock_give(&home->taking);
    return notice;
}

/* Somebody may have the lock of one future while he waits for another: so this waits for none, or for a moment only,
 * because most have it for microseconds. */
static void
settle_notice(wpy_home *home, wpy_watchers *notice)
{
    bool taken = try_to_take(notice);
    for (int i = 0; !taken && i < LOCK_NAPS; i++) {
        wpy_nap();
        taken = try_to_take(notice);
    }
    if (taken) {
        settle_locked(notice->task, notice);
    }
    wp_lock_take(&home->taking);
    append_notice(taken ? &home->settled : &home->held_up, notice);
    wp_lock_give(&home->taking);
}

static void
try_again(wpy_home *home)
{
    wpy_watchers *notice;
    wp_lock_take(&home->taking);
    while ((notice = take_first(&home->held_up)) != NULL) {
        append_notice(&home->ended, notice);
    }
    wp_lock_give(&home->taking);
}

static void
call_settled(wpy_task *task, wp_pool *pool, bool more)
{
    if (more && pool != NULL) {
        wp_pool_ask_attendant(pool);
    }
    call_callbacks(task);
    wp_job_unref(&task->job);
}

bool
wpy_tell_notices(wpy_home *home, wp_pool *pool, _Atomic(uint64_t) *since)
{
    wpy_watchers *notice;
    bool is_settled;
    bool more;
    try_again(home);
    while ((notice = take_notice(home, &is_settled, &more)) != NULL) {
        if (since != NULL) {
            wp_store_relaxed(since, wp_clock());
        }
        if (is_settled) {
            call_settled(notice->task, pool, more);
        } else {
            settle_notice(home, notice);
        }
    }
    return wp_load_acquire(&home->held_up.first) == NULL;
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

wpy_watchers *
wpy_task_watchers(wpy_task *task)
{
    wpy_watchers *watchers = wp_load_acquire(&task->watchers);
    if (watchers != NULL) {
        return watchers;
    }
    PyTypeObject *type = task->home->watchers_type;
    wpy_watchers *made = (wpy_watchers *)type->tp_alloc(type, 0);
    if (made == NULL) {
        return NULL;
    }
    made->task = task;
    if (!wp_cas_acq_rel(&task->watchers, &watchers, made)) {
        Py_DECREF(made);
        return watchers;
    }
    return made;
}

/* Kept alive before the notice is asked for: it may come at once, though only as far as the lock, which the caller has.
 * One that no pool ends would keep itself. Returns what is to be let go of when the lock has been given back. */
static PyObject *
ask_for_notice(wpy_task *task, wpy_watchers *watchers, PyObject *future)
{
    bool keep = !wpy_task_class_of(task)->is_manual;
    wpy_task_show_future(task);
    watchers->future = keep ? Py_NewRef(future) : future;
    wp_store_release(&watchers->asked, 1);
    if (wp_job_ask_for_notice(&task->job)) {
        return NULL;
    }
    watchers->told = true;
    watchers->future = NULL;
    return keep ? future : NULL;
}

wpy_watchers *
wpy_task_watch(wpy_task *task, PyObject *future)
{
    wpy_watchers *watchers = wpy_task_watchers(task);
    if (watchers == NULL || wp_load_acquire(&watchers->asked)) {
        return watchers;
    }
    wpy_watchers_take(watchers);
    PyObject *unused = wp_load_relaxed(&watchers->asked) ? NULL : ask_for_notice(task, watchers, future);
    wpy_watchers_give(watchers);
    Py_XDECREF(unused);
    return watchers;
}

/* ---- As a future's `_condition` ---- */

static void
watchers_dealloc(wpy_watchers *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->waiters);
    Py_XDECREF(self->callbacks);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
watchers_acquire(wpy_watchers *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    wpy_watchers_take(self);
    Py_RETURN_TRUE;
}

static PyObject *
watchers_release(wpy_watchers *self, PyObject *Py_UNUSED(args))
{
    if (wpy_watchers_give(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef watchers_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))watchers_acquire, METH_VARARGS | METH_KEYWORDS,
     "Take the future's lock; it is re-entrant."},
    {"release", (PyCFunction)watchers_release, METH_NOARGS, "Give the future's lock back."},
    {"__enter__", (PyCFunction)(void (*)(void))watchers_acquire, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__exit__", (PyCFunction)watchers_release, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot watchers_slots[] = {
    {Py_tp_dealloc, watchers_dealloc},
    {Py_tp_methods, watchers_methods},
    {0, NULL},
};

PyType_Spec wpy_watchers_spec = {
    .name = "workerpool._core.FutureLock",
    .basicsize = sizeof(wpy_watchers),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = watchers_slots,
};

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
