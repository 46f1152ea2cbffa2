/* See results.h; what a results queue does is in wp_results.h. */
#include "results.h"

#include "native_call.h"
#include "pool.h"
#include "task.h"
#include "token.h"
#include "wait.h"
#include "wp_blocked.h"

#include <stddef.h>

/* ---- A result ---- */

typedef struct result_object {
    PyObject_HEAD
    PyObject *index;
    PyObject *value;
    PyObject *error; /* An exception, or None. */
    PyObject *worker;
    PyObject *label;
    double waited;
    double ran;
} result_object;

static void
result_dealloc(result_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, result_dealloc) /* Its value may be a result. */
        Py_XDECREF(self->index);
    Py_XDECREF(self->value);
    Py_XDECREF(self->error);
    Py_XDECREF(self->worker);
    Py_XDECREF(self->label);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static int
result_traverse(result_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->value);
    Py_VISIT(self->error);
    return 0;
}

static int
result_clear(result_object *self)
{
    Py_CLEAR(self->value);
    Py_CLEAR(self->error);
    return 0;
}

static PyObject *
result_get_ok(result_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->error == Py_None);
}

static PyObject *
result_unwrap(result_object *self, PyObject *Py_UNUSED(ignored))
{
    if (self->error != NULL && self->error != Py_None) {
        wpy_raise(self->error);
        return NULL;
    }
    return Py_NewRef(self->value);
}

static PyObject *
result_repr(result_object *self)
{
    return self->error == Py_None ? PyUnicode_FromFormat("<Result %S: %R>", self->index, self->value)
                                  : PyUnicode_FromFormat("<Result %S: error %R>", self->index, self->error);
}

static PyMethodDef result_methods[] = {
    {"unwrap", (PyCFunction)result_unwrap, METH_NOARGS,
     "unwrap($self, /)\n--\n\nReturn the value, or raise the error."},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef result_getset[] = {
    {"ok", (getter)result_get_ok, NULL, "True if the job returned a value.", NULL},
    {0},
};

static PyMemberDef result_members[] = {
    {"index", Py_T_OBJECT_EX, offsetof(result_object, index), Py_READONLY,
     "The job's place in the order of submission."},
    {"value", Py_T_OBJECT_EX, offsetof(result_object, value), Py_READONLY, "What the job returned, or None."},
    {"error", Py_T_OBJECT_EX, offsetof(result_object, error), Py_READONLY, "The exception it ended with, or None."},
    {"worker", Py_T_OBJECT_EX, offsetof(result_object, worker), Py_READONLY,
     "Index of the worker that ran it, or None if none did."},
    {"label", Py_T_OBJECT_EX, offsetof(result_object, label), Py_READONLY, "The job's label, or None."},
    {"waited", Py_T_DOUBLE, offsetof(result_object, waited), Py_READONLY, "Seconds from submit to begin."},
    {"ran", Py_T_DOUBLE, offsetof(result_object, ran), Py_READONLY, "Seconds from begin to end."},
    {0},
};

static PyType_Slot result_slots[] = {
    {Py_tp_dealloc, result_dealloc},
    {Py_tp_traverse, result_traverse},
    {Py_tp_clear, result_clear},
    {Py_tp_repr, result_repr},
    {Py_tp_methods, result_methods},
    {Py_tp_getset, result_getset},
    {Py_tp_members, result_members},
    {Py_tp_doc, "The outcome of one job of a results queue."},
    {0, NULL},
};

PyType_Spec wpy_result_spec = {
    .name = "workerpool.Result",
    .basicsize = sizeof(result_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = result_slots,
};

/* The value or the error of an ended task, put into the result; -1 without memory. */
static int
set_outcome(result_object *self, wpy_task *task)
{
    if (wp_job_state(&task->job) == WP_DONE) {
        self->value = wpy_task_result(task);
        self->error = Py_NewRef(Py_None);
        return self->value != NULL ? 0 : -1;
    }
    self->value = Py_NewRef(Py_None);
    self->error = wpy_task_exception(task);
    if (self->error == NULL && PyErr_ExceptionMatches(task->home->cancelled_error)) {
        self->error = wpy_take_exception();
    }
    return self->error != NULL ? 0 : -1;
}

static PyObject *
result_new(wpy_home *home, wpy_task *task)
{
    const wpy_extra *extra = wpy_extra_of(&task->job);
    result_object *self = (result_object *)home->result_type->tp_alloc(home->result_type, 0);
    if (self == NULL) {
        return NULL;
    }
    bool ran = task->job.worker != WP_NO_WORKER;
    wpy_task_let_go(task);
    self->index = PyLong_FromUnsignedLongLong(extra->core.index);
    self->worker = ran ? PyLong_FromUnsignedLong(task->job.worker) : Py_NewRef(Py_None);
    self->label = Py_NewRef(extra->label != NULL ? extra->label : Py_None);
    self->waited = (double)extra->core.waited / 1e9;
    self->ran = (double)extra->core.ran / 1e9;
    if (self->index == NULL || self->worker == NULL || set_outcome(self, task) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- The queue ---- */

typedef struct results_object {
    PyObject_HEAD
    wpy_home *home;
    PyObject *pool;   /* Constant: the pool or view that the jobs are submitted to. */
    wp_results *core; /* Constant; a reference. */
    uint32_t forks;   /* Constant: the home's when it was made. */
    wp_word helps;    /* For readers on workers of the pool: others did not get on of late, so they run so many jobs. */
    wp_lock lock;
    wp_job *unshown; /* Lock: jobs that were read, with a reference, and could not be shown for want of memory. The next
                        readers get them. A stack. */
} results_object;

/* In a forked child, a queue of the parent's is of no use: its jobs are not done here, and its lock may be held by a
 * thread that does not exist. */
static bool
is_of_parent(const results_object *self)
{
    return wp_load_relaxed(&self->home->forks) != self->forks;
}

static int
check_not_of_parent(const results_object *self)
{
    if (!is_of_parent(self)) {
        return 0;
    }
    PyErr_SetString(self->home->broken_pool,
                    "the results queue was made before this process was forked; its jobs are the parent's");
    return -1;
}

static PyObject *
results_tp_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *pool;
    unsigned long long capacity;
    if (!PyArg_ParseTuple(args, "OK:Results", &pool, &capacity)) {
        return NULL;
    }
    wpy_home *home = wpy_home_of_type(type);
    if (home == NULL || wpy_gate_of(home, pool) == NULL) {
        return NULL;
    }
    results_object *self = (results_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->home = home;
    self->forks = wp_load_relaxed(&home->forks);
    self->pool = Py_NewRef(pool);
    self->core = wp_results_new(capacity == 0 ? WP_UNBOUNDED : capacity);
    if (self->core == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

typedef struct visiting {
    visitproc visit;
    void *arg;
    int result;
} visiting;

static bool
visit_job(void *context, wp_job *job)
{
    visiting *v = context;
    v->result = wpy_task_traverse(wpy_task_of(job), v->visit, v->arg);
    return v->result == 0;
}

/* Results that nobody has read are held by the queue alone, and may hold it. No foreign code under the locks: visiting is
 * counting. */
static int
visit_unread(results_object *self, visitproc visit, void *arg)
{
    visiting v = {visit, arg, 0};
    wp_lock_take(&self->lock);
    wp_job *job = self->unshown;
    while (job != NULL && visit_job(&v, job)) {
        job = wpy_extra_of(job)->next_unshown;
    }
    wp_lock_give(&self->lock);
    if (v.result == 0) {
        wp_results_visit_unread(self->core, visit_job, &v);
    }
    return v.result;
}

static int
results_traverse(results_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pool);
    return self->core != NULL && !is_of_parent(self) ? visit_unread(self, visit, arg) : 0;
}

/* A job that was read and not shown, or NULL. */
static wp_job *
take_unshown(results_object *self)
{
    wp_lock_take(&self->lock);
    wp_job *job = self->unshown;
    self->unshown = job != NULL ? wpy_extra_of(job)->next_unshown : NULL;
    wp_lock_give(&self->lock);
    return job;
}

static void
keep_unshown(results_object *self, wp_job *job)
{
    wp_lock_take(&self->lock);
    wpy_extra_of(job)->next_unshown = self->unshown;
    self->unshown = job;
    wp_lock_give(&self->lock);
}

/* What nobody will read any more. */
static int
results_clear(results_object *self)
{
    wp_job *job = NULL;
    if (self->core == NULL || is_of_parent(self)) {
        return 0;
    }
    while ((job = take_unshown(self)) != NULL || wp_results_next(self->core, 0, &job) == WP_OK) {
        wp_job_unref(job);
    }
    return 0;
}

/* The jobs go on without it: they were accepted. Their results go with the last of them. */
static void
results_dealloc(results_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    results_clear(self);
    if (self->core != NULL && !is_of_parent(self)) {
        wp_results_close(self->core);
        wp_results_unref(self->core);
    }
    Py_CLEAR(self->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

typedef struct reading {
    wp_results *results;
    wp_pool *pool;
    wp_job *job;
} reading;

/* ---- On a worker of the pool, which runs any job of the queue rather than sleep: there may be nobody else ---- */

typedef struct on_worker {
    reading reading;
    wp_word *helps; /* The queue's. */
    wp_pool *pool;
    unsigned lane;
    wp_blocked blocked;
} on_worker;

/* Detached. */
static bool
run_one_here(const on_worker *r)
{
    uint32_t helps = wp_load_relaxed(r->helps);
    if (helps == 0 && wp_blocked_has_others(r->pool, NULL, r->reading.results)) {
        return false;
    }
    wp_store_relaxed(r->helps, helps > 0 ? helps - 1 : 0);
    wp_job *job = wp_pool_find_waiting(r->pool, r->lane, r->reading.results, WP_UNBOUNDED);
    bool ran = job != NULL && wp_job_run_here(job);
    if (job != NULL) {
        wp_job_unref(job);
    }
    return ran;
}

/* Where no job is to come, what is waited for is that somebody submits one. */
static bool
waits_for_no_job(void *results)
{
    uint64_t reserved, unread;
    wp_results_count(results, &reserved, &unread);
    return unread > 0 || reserved == 0;
}

/* A job of the queue may come from anywhere, and anybody may read: so these waits are no deadlock, whoever waits for whom. */
static void
init_on_worker(on_worker *w, results_object *self, const wpy_gate *gate)
{
    *w = (on_worker){
        .reading = {.results = self->core}, .helps = &self->helps, .pool = gate->core, .lane = gate->options.lane};
    wp_blocked_init(&w->blocked, w->pool, w->lane, NULL, true);
    w->blocked.is_ready = waits_for_no_job;
    w->blocked.context = self->core;
}

/* It has slept until it was to look again: others who have claimed jobs of the lane may be stuck. */
static void
look_again(on_worker *w)
{
    wp_store_relaxed(w->helps, wp_blocked_is_long(&w->blocked) ? WP_HELPS_IN_NEED : 0);
    wp_claims_fetch(w->pool, w->lane);
}

/* ---- Submitting ---- */

typedef struct room {
    wp_results *results;
    wp_until until;
    on_worker worker; /* On a worker of the pool. */
} room;

static enum wp_result
sleep_for_room(void *context, uint64_t deadline)
{
    room *r = context;
    r->until.deadline = deadline;
    return wp_results_wait_room(r->results, &r->until);
}

/* The jobs that have the places may wait for this worker, and their reader for them. WP_OK: there may be a place. */
static enum wp_result
sleep_for_room_on_worker(void *context, uint64_t deadline)
{
    room *r = context;
    if (run_one_here(&r->worker)) {
        return WP_OK;
    }
    uint64_t until = wp_blocked_until(&r->worker.blocked, deadline);
    if (wp_blocked_begin(&r->worker.blocked, NULL, 0) != WP_OK) {
        wp_store_relaxed(r->worker.helps, WP_HELPS_IN_NEED);
        return WP_OK;
    }
    enum wp_result result = sleep_for_room(r, until);
    wp_blocked_end(&r->worker.blocked);
    if (result == WP_LATE && until < deadline) {
        look_again(&r->worker);
        return WP_OK;
    }
    return result;
}

static int
set_reserve_error(results_object *self, const wpy_gate *gate, int result)
{
    switch (result) {
    case WP_CLOSED:
        return wpy_set_closed_error(self->home, gate->core, &gate->options);
    case WP_FULL:
        PyErr_SetString(self->home->queue_full, "the results queue is full");
        return -1;
    case WP_LATE:
        PyErr_SetString(self->home->submit_timeout,
                        "the results queue was full for as long as submit_timeout allows; is anybody reading it?");
        return -1;
    default:
        return result < 0 ? -1 : wpy_set_error(self->home, (enum wp_result)result);
    }
}

/* There was no place. */
static int
wait_for_place(results_object *self, const wpy_gate *gate, uint64_t *index)
{
    const wpy_options *options = &gate->options;
    bool here = wp_worker_in(gate->core) != NULL;
    uint64_t deadline = options->submit_timeout == WP_FOREVER ? WP_FOREVER : wp_clock() + options->submit_timeout;
    int result = WP_FULL;
    room r = {.results = self->core, .until = wpy_until(options, wp_pool_closable(gate->core))};
    if (here) {
        init_on_worker(&r.worker, self, gate);
    }
    while (result == WP_FULL) {
        result = wpy_wait(here ? sleep_for_room_on_worker : sleep_for_room, &r, deadline);
        if (result == WP_OK) {
            result = (int)wp_results_reserve(self->core, index);
        }
    }
    return result;
}

/* A place for the result: waits for one, unless the policy is to raise. */
static int
reserve(results_object *self, const wpy_gate *gate, uint64_t *index)
{
    int result = (int)wp_results_reserve(self->core, index);
    if (result == WP_FULL && gate->options.on_full != WPY_RAISE) {
        result = wait_for_place(self, gate, index);
    }
    return result == WP_OK ? 0 : set_reserve_error(self, gate, result);
}

PyDoc_STRVAR(
    submit_doc,
    "submit($self, fn, /, *args, **kwargs)\n--\n\n"
    "Submit fn(*args, **kwargs); its Result will come out of this queue. Returns the job's index.\n\n"
    "Waits while `maxsize` jobs are under way or their results unread, and then as the pool's submit does. So\n"
    "somebody must read while more than `maxsize` jobs are submitted: another thread, or this one in between.\n"
    "Where a worker of the pool waits so, it may run jobs of the queue meanwhile.\n\n"
    "Raises what the pool's submit raises, and RuntimeError after close(). Thread-safe.");

static PyObject *
results_submit(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    results_object *self = (results_object *)object;
    const wpy_gate *gate = wpy_gate_of(self->home, self->pool);
    uint64_t index;
    if (gate == NULL || wpy_gate_check_open(gate) < 0 || check_not_of_parent(self) < 0) {
        return NULL;
    }
    wpy_empty_trash(self->home);
    if (reserve(self, gate, &index) < 0) {
        return NULL;
    }
    /* What is returned is made first: were there no memory for it later, a submit would raise of which the job runs. */
    PyObject *number = PyLong_FromUnsignedLongLong(index);
    wpy_task *task = number != NULL ? wpy_task_for(gate, args, nargs, kwnames, self->core, index) : NULL;
    int submitted = task != NULL ? wpy_submit_task(self->home, gate->core, &gate->options, task) : -1;
    if (task != NULL) {
        wp_job_unref(&task->job);
    }
    if (submitted < 0) {
        wp_results_unreserve(self->core, index);
    }
    if (submitted != 0) {
        Py_CLEAR(number);
    }
    if (submitted >= 0) {
        wp_results_call_helpers(self->core);
    }
    return number;
}

/* ---- Reading ---- */

static enum wp_result
sleep_for_result(void *context, uint64_t deadline)
{
    reading *r = context;
    return wp_results_next_of(r->results, r->pool, deadline, &r->job);
}

/* Rather than sleep, the reader runs a job of its own queue that waits and is native and known to be short. */
static bool
help(results_object *self, const wpy_gate *gate)
{
    wp_job *job = wp_pool_find_waiting(gate->core, gate->options.lane, self->core, 1);
    if (job == NULL) {
        return false;
    }
    const wpy_task *task = wpy_task_of(job);
    bool ran = false;
    if (wpy_task_class_of(task)->is_native && wpy_native_call_is_short(task)) {
        WPY_BEGIN_REST
        ran = wp_job_run_here(job);
        WPY_END_REST
    }
    wp_job_unref(job);
    return ran;
}

/* Sleeps unless there is something else to try. WP_FULL or WP_INTERRUPTED. */
static enum wp_result
sleep_blocked(on_worker *r, uint32_t seen, uint64_t deadline)
{
    uint64_t until = wp_blocked_until(&r->blocked, deadline);
    if (wp_blocked_begin(&r->blocked, NULL, 0) != WP_OK) {
        wp_store_relaxed(r->helps, WP_HELPS_IN_NEED);
        return WP_FULL;
    }
    enum wp_wait_result waited = wp_results_sleep(r->reading.results, seen, until);
    wp_blocked_end(&r->blocked);
    if (waited == WP_WAIT_TIMED_OUT && until < deadline) {
        look_again(r);
    }
    return waited == WP_WAIT_INTERRUPTED ? WP_INTERRUPTED : WP_FULL;
}

/* Looks once more, as one who will be called for whatever comes from now on, and sleeps. WP_FULL: to be called
 * again. */
static enum wp_result
listen_and_sleep(on_worker *r, uint64_t deadline)
{
    wp_results *results = r->reading.results;
    uint32_t seen = wp_results_listen(results);
    enum wp_result result = wp_results_next(results, 0, &r->reading.job);
    bool ran = result == WP_LATE && run_one_here(r);
    enum wp_result slept = WP_FULL;
    if (result == WP_LATE && !ran) {
        slept = sleep_blocked(r, seen, deadline);
    }
    wp_results_ignore(results);
    return result == WP_LATE ? slept : result;
}

static enum wp_result
sleep_on_worker(void *context, uint64_t deadline)
{
    on_worker *r = context;
    enum wp_result result = WP_FULL;
    bool has_slept = false;
    wp_results_close_with(r->reading.results, r->pool);
    while (result == WP_FULL) {
        result = wp_results_next(r->reading.results, 0, &r->reading.job);
        if (result == WP_OK && has_slept) {
            wp_store_relaxed(r->helps, 0); /* Others get on. */
        } else if (result == WP_LATE && wp_clock() < deadline) {
            has_slept = !run_one_here(r);
            result = has_slept ? listen_and_sleep(r, deadline) : WP_FULL;
        }
    }
    return result;
}

/* As read_next. */
static int
read_on_worker(results_object *self, const wpy_gate *gate, uint64_t deadline, wp_job **job)
{
    on_worker r;
    init_on_worker(&r, self, gate);
    int result = wpy_wait(sleep_on_worker, &r, deadline);
    *job = r.reading.job;
    return result;
}

static bool
is_on_daemon_thread(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading != NULL ? PyObject_CallMethod(threading, "current_thread", NULL) : NULL;
    PyObject *daemon = thread != NULL ? PyObject_GetAttrString(thread, "daemon") : NULL;
    bool is = daemon == Py_True;
    if (daemon == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(daemon);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    return is;
}

static enum wp_result
sleep_on(void *word, uint64_t deadline)
{
    wp_word_wait(word, 0, deadline);
    return WP_LATE;
}

/* The program's end closes all pools. A daemon thread that sleeps then is not told: it would report an error that is
 * nobody's, and the interpreter ends it where it is. */
static int
end_of_sleep(const results_object *self, int result)
{
    wp_word never = 0;
    if (result == WP_FINISHED && wp_load_acquire(&self->home->exiting) && is_on_daemon_thread()) {
        return wpy_wait(sleep_on, &never, WP_FOREVER);
    }
    return result;
}

/* The next result: 0 and a job, 1 for the end, -1 with an exception. */
static int
read_next(results_object *self, uint64_t deadline, wp_job **job)
{
    const wpy_gate *gate = wpy_gate_of(self->home, self->pool);
    reading r = {.results = self->core, .pool = gate->core};
    int result = (int)wp_results_next(self->core, 0, &r.job);
    bool here = result == WP_LATE && wp_worker_in(gate->core) != NULL;
    while (result == WP_LATE && !here && deadline == WP_FOREVER && help(self, gate)) {
        result = PyErr_CheckSignals() < 0 ? -1 : (int)wp_results_next(self->core, 0, &r.job);
    }
    if (here) {
        result = read_on_worker(self, gate, deadline, &r.job);
    } else if (result == WP_LATE || result == WP_INTERRUPTED) {
        result = end_of_sleep(self, wpy_wait(sleep_for_result, &r, deadline));
    }
    *job = r.job;
    if (result == WP_LATE) {
        PyErr_SetString(PyExc_TimeoutError, "no result in time");
        return -1;
    }
    return result == WP_OK ? 0 : result == WP_FINISHED ? 1 : -1;
}

static PyObject *
next_result(results_object *self, uint64_t deadline, bool *finished)
{
    wp_job *job = NULL;
    wpy_empty_trash(self->home);
    *finished = false;
    if (check_not_of_parent(self) < 0) {
        return NULL;
    }
    job = take_unshown(self);
    int result = job != NULL ? 0 : read_next(self, deadline, &job);
    *finished = result == 1;
    if (result != 0) {
        return NULL;
    }
    PyObject *object = result_new(self->home, wpy_task_of(job));
    if (object == NULL && wpy_lacks_memory()) {
        keep_unshown(self, job);
    } else {
        wp_job_unref(job);
    }
    return object;
}

static PyObject *
results_next(results_object *self)
{
    bool finished;
    return next_result(self, WP_FOREVER, &finished);
}

PyDoc_STRVAR(get_doc, "get($self, /, timeout=None)\n--\n\n"
                      "Return the next Result, in the order in which jobs end.\n\n"
                      "timeout: seconds to wait at most, or None; then TimeoutError. A worker of the pool may run\n"
                      "jobs of the queue meanwhile, and each of them to its end.\n"
                      "Raises EOFError once the queue is closed and everything was read. Thread-safe.");

static PyObject *
results_get(results_object *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    uint64_t deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:get", keywords, &timeout) ||
        wpy_deadline(timeout, "timeout", &deadline) < 0) {
        return NULL;
    }
    bool finished;
    PyObject *result = next_result(self, deadline, &finished);
    if (result == NULL && finished) {
        PyErr_SetString(PyExc_EOFError, "the results queue is closed, and everything was read");
    }
    return result;
}

static PyObject *
results_close(results_object *self, PyObject *Py_UNUSED(args))
{
    if (!is_of_parent(self)) {
        wp_results_close(self->core);
    }
    Py_RETURN_NONE;
}

static PyObject *
results_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *
results_get_unread(results_object *self, void *Py_UNUSED(closure))
{
    uint64_t reserved = 0, unread = 0;
    if (!is_of_parent(self)) {
        wp_results_count(self->core, &reserved, &unread);
    }
    return PyLong_FromUnsignedLongLong(unread);
}

static PyObject *
results_get_pending(results_object *self, void *Py_UNUSED(closure))
{
    uint64_t reserved = 0, unread = 0;
    if (!is_of_parent(self)) {
        wp_results_count(self->core, &reserved, &unread);
    }
    return PyLong_FromUnsignedLongLong(reserved - unread);
}

static PyMethodDef results_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))results_submit, METH_FASTCALL | METH_KEYWORDS, submit_doc},
    {"get", (PyCFunction)(void (*)(void))results_get, METH_VARARGS | METH_KEYWORDS, get_doc},
    {"close", (PyCFunction)results_close, METH_NOARGS,
     "close($self, /)\n--\n\nTake no more jobs; iteration ends after the results of those that were submitted. Threads that\n"
     "wait in submit() raise RuntimeError. So does the pool's shutdown()."},
    {"__enter__", results_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)results_close, METH_VARARGS, NULL},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef results_getset[] = {
    {"unread", (getter)results_get_unread, NULL, "Results that wait for a reader.", NULL},
    {"pending", (getter)results_get_pending, NULL, "Jobs that have not ended.", NULL},
    {0},
};

PyDoc_STRVAR(
    results_doc,
    "A bounded queue of results, made by a pool's results(): submit jobs, and iterate to read each Result as its\n"
    "job ends.\n\n"
    "    results = pool.results(maxsize=100)\n\n"
    "    def feed():\n"
    "        with results:  # Closes it at the end.\n"
    "            for path in paths:\n"
    "                results.submit(load, path)\n\n"
    "    threading.Thread(target=feed).start()\n"
    "    for result in results:\n"
    "        print(result.index, result.error or result.value)\n\n"
    "Iteration ends only after close(), or the pool's shutdown(), once everything was read: until then it waits for\n"
    "more. A submit beyond maxsize waits for a reader. So the thread that is to read must not submit more than\n"
    "maxsize jobs before it reads: it would wait for itself, for ever.\n\n"
    "A job may read results of its own pool, whatever the number of workers. But if one of those jobs waits for the\n"
    "job that reads, both may wait for ever: DeadlockError is certain only where each waits with result() or map, since\n"
    "somebody else may submit or close at any time. Thread-safe.");

static PyType_Slot results_slots[] = {
    {Py_tp_new, results_tp_new},        {Py_tp_dealloc, results_dealloc},
    {Py_tp_traverse, results_traverse}, {Py_tp_clear, results_clear},
    {Py_tp_iter, PyObject_SelfIter},    {Py_tp_iternext, results_next},
    {Py_tp_methods, results_methods},   {Py_tp_getset, results_getset},
    {Py_tp_doc, (void *)results_doc},   {0, NULL},
};

PyType_Spec wpy_results_spec = {
    .name = "workerpool.Results",
    .basicsize = sizeof(results_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = results_slots,
};
