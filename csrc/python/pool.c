/* See pool.h. What a pool does is in wp_pool.h; here it meets Python's arguments, waits and errors. */
#include "pool.h"

#include "bridge.h"
#include "context.h"
#include "future.h"
#include "map.h"
#include "native_call.h"
#include "python_call.h"
#include "results.h"
#include "token.h"
#include "wait.h"

#include <stddef.h>
#include <string.h>

typedef struct handle_object {
    PyObject_HEAD
    wp_pool *core; /* Constant; a reference. */
} handle_object;

typedef struct pool_object {
    PyObject_HEAD
    wpy_gate gate; /* gate.handle is NULL until __init__ has run. */
} pool_object;

typedef struct view_object {
    PyObject_HEAD
    wpy_gate gate;
    PyObject *pool; /* Constant: keeps it from being closed by the collector. */
} view_object;

/* ---- The handle ---- */

static void
handle_dealloc(handle_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    wp_pool_unref(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot handle_slots[] = {{Py_tp_dealloc, handle_dealloc}, {0, NULL}};

PyType_Spec wpy_handle_spec = {
    .name = "workerpool._core.PoolHandle",
    .basicsize = sizeof(handle_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};

/* Takes the reference to the pool over, also when it fails. */
static PyObject *
handle_new(wpy_home *home, wp_pool *core)
{
    handle_object *self = (handle_object *)home->handle_type->tp_alloc(home->handle_type, 0);
    if (self == NULL) {
        wp_pool_unref(core);
        return NULL;
    }
    self->core = core;
    return (PyObject *)self;
}

/* ---- Gates ---- */

wpy_gate *
wpy_gate_of(wpy_home *home, PyObject *object)
{
    wpy_gate *gate = NULL;
    if (PyObject_TypeCheck(object, home->pool_type)) {
        gate = &((pool_object *)object)->gate;
    } else if (PyObject_TypeCheck(object, home->view_type)) {
        gate = &((view_object *)object)->gate;
    } else {
        PyErr_Format(PyExc_TypeError, "a WorkerPool or a view of one is needed, not %.100s%s", Py_TYPE(object)->tp_name,
                     wpy_of_which_import(object, "WorkerPool"));
        return NULL;
    }
    if (gate->handle == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "WorkerPool.__init__() was not called");
        return NULL;
    }
    return gate;
}

/* Methods are found by the type, so only __init__ can be missing. */
static wpy_gate *
gate_of_pool(PyObject *self)
{
    wpy_gate *gate = &((pool_object *)self)->gate;
    if (gate->handle == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "WorkerPool.__init__() was not called");
        return NULL;
    }
    return gate;
}

static wpy_gate *
gate_of_view(PyObject *self)
{
    return &((view_object *)self)->gate;
}

int
wpy_gate_check_open(const wpy_gate *gate)
{
    return wpy_options_check_open(&gate->options);
}

wpy_task *
wpy_task_for(const wpy_gate *gate, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, wp_results *results,
             uint64_t index)
{
    wpy_home *home = gate->home;
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "submit() missing 1 required positional argument: 'fn'");
        return NULL;
    }
    if (Py_TYPE(args[0]) == home->native_type) {
        if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
            PyErr_Format(PyExc_TypeError, "%S() takes no keyword arguments", wpy_function_of(args[0])->name);
            return NULL;
        }
        return wpy_native_call_new(home, &gate->options, wpy_function_of(args[0]), args + 1, nargs - 1, results, index);
    }
    if (!PyCallable_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "submit() takes a callable or a NativeFunction, not %.100s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    }
    return wpy_python_call_new(home, &gate->options, args, nargs, kwnames, results, index);
}

static PyObject *
submit(wpy_gate *gate, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (gate == NULL || wpy_gate_check_open(gate) < 0) {
        return NULL;
    }
    wpy_empty_trash(gate->home);
    wpy_task *task = wpy_task_for(gate, args, nargs, kwnames, NULL, 0);
    if (task == NULL) {
        return NULL;
    }
    return wpy_future_submit(gate->home, gate->core, &gate->options, task, gate->handle);
}

PyDoc_STRVAR(
    submit_doc,
    "submit($self, fn, /, *args, **kwargs)\n--\n\n"
    "Run fn(*args, **kwargs) on a worker and return its Future.\n\n"
    "fn: a NativeFunction (its arguments are converted now, and buffers held until it has ended) or any\n"
    "callable (what context variables it sees, the classes say).\n\n"
    "Waits while the queue is full, or does what on_full says. On a worker of this pool it never waits. If it runs\n"
    "the job itself, it raises what interrupts the calling thread meanwhile (Ctrl-C).\n\n"
    "Raises QueueFull if there is no room (on_full=\"raise\", or submit_timeout is over); RuntimeError after\n"
    "shutdown; CancelledError if the token is cancelled; TypeError, ValueError or OverflowError for arguments\n"
    "that do not fit the function. Thread-safe.");

static PyObject *
pool_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return submit(gate_of_pool(self), args, nargs, kwnames);
}

static PyObject *
view_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return submit(gate_of_view(self), args, nargs, kwnames);
}

PyDoc_STRVAR(
    run_doc,
    "run($self, fn, /, *args, **kwargs)\n--\n\n"
    "Run fn(*args, **kwargs) on a worker and return a future of the running asyncio event loop, to be awaited.\n\n"
    "fn and its arguments are as for submit(). While the queue is full the call waits in line without holding up\n"
    "the loop, or on_full says what else to do. It is submitted when there is room: a shutdown() before that, also by\n"
    "leaving the pool's `with`, refuses it, and its future raises RuntimeError. So await the futures before.\n\n"
    "Cancelling the future, or the task that awaits it, cancels the job, or asks it to stop if it runs.\n\n"
    "Results come to the loop many at a time, with one wake-up for all that are ready.\n\n"
    "Raises what submit() does, and RuntimeError without a running event loop. The loop must be able to watch\n"
    "file descriptors (add_reader). Like everything of a loop, to be called on its thread.");

static PyObject *
pool_run(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return wpy_run(gate_of_pool(self), self, args, nargs, kwnames);
}

static PyObject *
view_run(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return wpy_run(gate_of_view(self), self, args, nargs, kwnames);
}

/* ---- Making a pool ---- */

static int
read_lane(PyObject *lane, wp_lane_config *config, PyObject **name)
{
    PyObject *capacity;
    unsigned int max_running;
    if (!PyArg_ParseTuple(lane, "UOI", name, &capacity, &max_running)) {
        return -1;
    }
    config->capacity = capacity == Py_None ? WP_UNBOUNDED : PyLong_AsUnsignedLongLong(capacity);
    config->max_running = max_running;
    return PyErr_Occurred() ? -1 : 0;
}

/* The lanes' settings, and a tuple of their names. */
static PyObject *
read_lanes(PyObject *lanes, wp_pool_config *config)
{
    Py_ssize_t n = PyTuple_GET_SIZE(lanes);
    if (n < 1 || n > WP_MAX_LANES) {
        PyErr_Format(PyExc_ValueError, "a pool has 1 to %d lanes, not %zd", WP_MAX_LANES, n);
        return NULL;
    }
    config->n_lanes = (uint32_t)n;
    PyObject *names = PyTuple_New(n);
    for (Py_ssize_t i = 0; names != NULL && i < n; i++) {
        PyObject *name;
        if (read_lane(PyTuple_GET_ITEM(lanes, i), &config->lanes[i], &name) < 0) {
            Py_CLEAR(names);
        } else {
            PyTuple_SET_ITEM(names, i, Py_NewRef(name));
        }
    }
    return names;
}

/* The name that threads get: what fits in UTF-8, cut between characters. */
static int
read_thread_name(PyObject *text, char *name, size_t size)
{
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &length);
    if (utf8 == NULL) {
        return -1;
    }
    size_t keep = (size_t)length < size - 1 ? (size_t)length : size - 1;
    while (keep < (size_t)length && keep > 0 && ((unsigned char)utf8[keep] & 0xC0) == 0x80) {
        keep--;
    }
    memcpy(name, utf8, keep);
    name[keep] = '\0';
    return 0;
}

/* What __init__ is given; the package has checked the values and filled in the defaults. */
typedef struct pool_args {
    unsigned int max_workers;
    PyObject *lanes;
    unsigned int lane;
    PyObject *on_full;
    unsigned int fairness;
    PyObject *thread_name;
    PyObject *initializer;
    PyObject *initargs;
    PyObject *idle_timeout;
    Py_ssize_t stack_size;
    PyObject *threads;
    int own_context;
} pool_args;

static int
parse_pool_args(PyObject *args, PyObject *kwargs, pool_args *given)
{
    static char *keywords[] = {"max_workers", "lanes",       "lane",     "on_full",      "fairness",
                               "thread_name", "initializer", "initargs", "idle_timeout", "stack_size",
                               "threads",     "own_context", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, "$IO!IOIUOOOnO!p:Pool", keywords, &given->max_workers,
                                       &PyTuple_Type, &given->lanes, &given->lane, &given->on_full, &given->fairness,
                                       &given->thread_name, &given->initializer, &given->initargs, &given->idle_timeout,
                                       &given->stack_size, &PyDict_Type, &given->threads, &given->own_context)
               ? 0
               : -1;
}

/* What is given, in bytes; 0: as threading.stack_size() says. */
static int
check_stack_size(Py_ssize_t size)
{
    if (size == 0 || wp_stack_size_check((size_t)size) == 0) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "stack_size is %zd bytes, for which the system has no room", size);
    return -1;
}

/* Whether threads begin with a copy of the context of who starts them; the flag is of 3.14. */
static bool
threads_inherit_context(void)
{
    PyObject *flags = PySys_GetObject("flags");
    PyObject *flag = NULL;
    if (flags == NULL || wpy_optional_attribute(flags, "thread_inherit_context", &flag) <= 0) {
        PyErr_Clear();
        return false;
    }
    bool inherit = PyObject_IsTrue(flag) > 0;
    Py_DECREF(flag);
    return inherit;
}

static int
start_pool(wpy_gate *gate, const pool_args *given)
{
    wp_pool_config config = {.max_workers = given->max_workers, .fairness = given->fairness};
    config.stack_size = (size_t)given->stack_size;
    int on_full = wpy_on_full_of(given->on_full);
    if (on_full < 0 || check_stack_size(given->stack_size) < 0 ||
        wpy_duration(given->idle_timeout, "idle_timeout", &config.idle_timeout) < 0 ||
        read_thread_name(given->thread_name, config.thread_name, sizeof config.thread_name) < 0) {
        return -1;
    }
    PyObject *names = read_lanes(given->lanes, &config);
    if (names == NULL) {
        return -1;
    }
    bool initialized = given->initializer != Py_None;
    wpy_context *context =
        wpy_context_new(gate->home, &config, names, given->thread_name, initialized ? given->initializer : NULL,
                        initialized ? given->initargs : NULL, given->threads);
    if (context != NULL) {
        context->inherits = given->own_context && threads_inherit_context();
        gate->core = context->pool;
        gate->options = WPY_NO_OPTIONS;
        gate->options.lane = given->lane;
        gate->options.on_full = (enum wpy_on_full)on_full;
        gate->options.own = given->own_context ? context : NULL;
        gate->handle = handle_new(gate->home, context->pool);
    }
    Py_DECREF(names);
    return gate->handle != NULL ? 0 : -1;
}

static int
pool_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    wpy_gate *gate = &((pool_object *)self)->gate;
    pool_args given;
    if (gate->handle != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "WorkerPool.__init__() was called twice");
        return -1;
    }
    gate->home = wpy_home_of_type(Py_TYPE(self));
    if (gate->home == NULL || parse_pool_args(args, kwargs, &given) < 0) {
        return -1;
    }
    return start_pool(gate, &given);
}

/* Without shutdown() the pool finishes what waits and its threads leave; nobody waits for them but the exit hook. */
static void
pool_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    wpy_gate *gate = &((pool_object *)self)->gate;
    PyObject_GC_UnTrack(self);
    if (gate->handle != NULL) {
        wp_pool_close(gate->core);
    }
    wpy_options_clear(&gate->options);
    Py_XDECREF(gate->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
pool_traverse(PyObject *self, visitproc visit, void *arg)
{
    wpy_gate *gate = &((pool_object *)self)->gate;
    Py_VISIT(Py_TYPE(self));
    int result = gate->handle != NULL ? wpy_context_traverse(gate->core, visit, arg) : 0;
    return result != 0 ? result : wpy_options_traverse(&gate->options, visit, arg);
}

/* ---- Views ---- */

static int
override_lane(const wpy_gate *gate, PyObject *lane, wpy_options *options)
{
    if (lane == Py_None) {
        return 0;
    }
    PyObject *names = wpy_lane_names(gate->core);
    if (!PyUnicode_Check(lane)) {
        PyErr_Format(PyExc_ValueError, "there is no lane named by the type %.100s; this pool has %R",
                     Py_TYPE(lane)->tp_name, names);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(names, i), lane, Py_EQ);
        if (same < 0) {
            return -1;
        }
        if (same) {
            options->lane = (unsigned)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "there is no lane %R; this pool has %R", lane, names);
    return -1;
}

static int
override_token(const wpy_gate *gate, PyObject *object, wpy_options *options)
{
    PyObject *token;
    if (wpy_token_convert(gate->home, object, &token) < 0) {
        return -1;
    }
    if (token != NULL) {
        Py_XSETREF(options->token, Py_NewRef(token));
    }
    return 0;
}

static int
override_label(PyObject *label, wpy_options *options)
{
    if (label == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(label)) {
        PyErr_Format(PyExc_TypeError, "label must be a str or None, not %.100s", Py_TYPE(label)->tp_name);
        return -1;
    }
    const char *text = PyUnicode_AsUTF8(label);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Format(PyExc_ValueError, "label must be text that UTF-8 can hold, not %A", label);
    }
    if (text == NULL) {
        return -1;
    }
    Py_XSETREF(options->label, Py_NewRef(label));
    options->label_text = text;
    return 0;
}

static int
override_duration(PyObject *seconds, const char *name, uint64_t *ns)
{
    return seconds == Py_None ? 0 : wpy_duration(seconds, name, ns);
}

static int
override_on_full(PyObject *on_full, wpy_options *options)
{
    int value = on_full == Py_None ? (int)options->on_full : wpy_on_full_of(on_full);
    options->on_full = (enum wpy_on_full)value;
    return value < 0 ? -1 : 0;
}

static int
override_options(const wpy_gate *gate, PyObject *args, PyObject *kwargs, wpy_options *options)
{
    static char *keywords[] = {"lane",        "token", "submit_timeout", "queue_timeout",
                               "run_timeout", "label", "on_full",        NULL};
    PyObject *lane = Py_None, *token = Py_None, *submit_timeout = Py_None, *queue_timeout = Py_None;
    PyObject *run_timeout = Py_None, *label = Py_None, *on_full = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOOOOO:options", keywords, &lane, &token, &submit_timeout,
                                     &queue_timeout, &run_timeout, &label, &on_full)) {
        return -1;
    }
    if (override_lane(gate, lane, options) < 0 || override_token(gate, token, options) < 0 ||
        override_label(label, options) < 0 || override_on_full(on_full, options) < 0) {
        return -1;
    }
    return override_duration(submit_timeout, "submit_timeout", &options->submit_timeout) < 0 ||
                   override_duration(queue_timeout, "queue_timeout", &options->queue_timeout) < 0 ||
                   override_duration(run_timeout, "run_timeout", &options->run_timeout) < 0
               ? -1
               : 0;
}

/* A view of type `type` on the gate's pool, whose options are the gate's but for those that are given. */
static int
init_view(view_object *self, const wpy_gate *from, PyObject *pool, PyObject *args, PyObject *kwargs)
{
    self->gate.home = from->home;
    self->gate.core = from->core;
    wpy_options_copy(&self->gate.options, &from->options);
    wp_pool_open_part(from->core, &self->gate.closable);
    self->gate.options.view = &self->gate.closable;
    self->gate.handle = Py_NewRef(from->handle);
    self->pool = Py_NewRef(pool);
    return override_options(from, args, kwargs, &self->gate.options);
}

static PyObject *
view_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    wpy_home *home = wpy_home_of_type(type);
    if (home == NULL || PyTuple_GET_SIZE(args) != 1) {
        PyErr_SetString(PyExc_TypeError, "a view is made by a pool's lane() or options()");
        return NULL;
    }
    PyObject *parent = PyTuple_GET_ITEM(args, 0);
    const wpy_gate *from = wpy_gate_of(home, parent);
    if (from == NULL) {
        return NULL;
    }
    bool of_view = PyObject_TypeCheck(parent, home->view_type);
    PyObject *no_args = PyTuple_New(0);
    view_object *self = no_args != NULL ? (view_object *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL && init_view(self, from, of_view ? ((view_object *)parent)->pool : parent, no_args, kwargs) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(no_args);
    return (PyObject *)self;
}

static int
view_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

static int
view_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((view_object *)self)->pool);
    return wpy_options_traverse(&gate_of_view(self)->options, visit, arg);
}

static int
view_clear(PyObject *self)
{
    Py_CLEAR(((view_object *)self)->pool);
    wpy_options_clear(&gate_of_view(self)->options);
    return 0;
}

static void
view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    view_clear(self);
    Py_XDECREF(gate_of_view(self)->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Waiting for the whole pool ---- */

static enum wp_result
slice_of_drain(void *pool, uint64_t deadline)
{
    return wp_pool_drain(pool, deadline);
}

static enum wp_result
slice_of_endless_drain(void *pool, uint64_t until)
{
    return wp_pool_drain_in_part(pool, until);
}

static enum wp_result
slice_of_join(void *pool, uint64_t deadline)
{
    return wp_pool_join(pool, deadline);
}

static enum wp_result
slice_of_endless_join(void *pool, uint64_t until)
{
    return wp_pool_join_in_part(pool, until);
}

/* `what` cannot wait here; `still` says what it has done all the same. */
static int
refuse_if_needed_here(const wpy_gate *gate, const char *what, const char *still)
{
    if (!wp_pool_needs_caller(gate->core)) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 wp_worker_in(gate->core) != NULL
                     ? "%s would wait for the job that calls it: it runs on a worker of this pool%s"
                     : "%s would wait for the job or callback that calls it: this thread runs it for this pool%s",
                 what, still);
    return -1;
}

/* What the wait for a pool returned, or -1 with an exception if it could never end. */
static int
refuse_circle(int result, const char *what, const char *still)
{
    if (result != WP_DEADLOCK) {
        return result;
    }
    PyErr_Format(
        PyExc_RuntimeError,
        "%s would wait for ever: it was called on a thread of another pool, for which a thread of this one waits%s",
        what, still);
    return -1;
}

PyDoc_STRVAR(drain_doc,
             "drain($self, /, timeout=None)\n--\n\n"
             "Wait until every submitted job has ended.\n\n"
             "timeout: seconds to wait at most, or None. Returns True, or False if the time was over first.\n"
             "Jobs may be submitted meanwhile; they are waited for too. Thread-safe. Raises RuntimeError where it\n"
             "would wait for itself: in a job of this pool, or in a callback on one of its threads.");

static PyObject *
drain(const wpy_gate *gate, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    uint64_t deadline;
    if (gate == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:drain", keywords, &timeout) ||
        wpy_deadline(timeout, "timeout", &deadline) < 0 || refuse_if_needed_here(gate, "drain()", "") < 0) {
        return NULL;
    }
    wpy_slice *sleep = deadline == WP_FOREVER ? slice_of_endless_drain : slice_of_drain;
    int result = refuse_circle(wpy_wait(sleep, gate->core, deadline), "drain()", "");
    wpy_empty_trash(gate->home);
    return result < 0 ? NULL : PyBool_FromLong(result == WP_OK);
}

static PyObject *
pool_drain(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return drain(gate_of_pool(self), args, kwargs);
}

static void
add_line(void *context, uint32_t worker, const char *text)
{
    char *lines = context;
    size_t used = strlen(lines);
    if (used < 900) {
        PyOS_snprintf(lines + used, 1000 - used, "%s worker %u: %s", used > 0 ? ";" : "", (unsigned)worker, text);
    }
}

static void
raise_still_running(const wpy_gate *gate)
{
    char lines[1000] = "";
    wp_pool_describe_running(gate->core, add_line, lines);
    PyErr_Format(PyExc_TimeoutError, "jobs still run after the timeout of shutdown():%s",
                 lines[0] != '\0' ? lines : " (they ended just now)");
}

/* What a shutdown that must not wait has done, and what to call instead. */
static const char POOL_IS_CLOSED[] = "; the pool takes no more jobs now: call shutdown(wait=False) here";
static const char VIEW_IS_CLOSED[] = "; the view takes no more jobs now: call shutdown(wait=False) here";

PyDoc_STRVAR(
    shutdown_doc,
    "shutdown($self, /, wait=True, *, cancel_futures=False, timeout=None)\n--\n\n"
    "Take no more jobs, let those that wait be done, and end the workers.\n\n"
    "What still waits for room was not taken: a blocked submit() raises RuntimeError, and so does the future of a\n"
    "run() that stands in line.\n\n"
    "wait: return only when all is done. cancel_futures: cancel the jobs that wait.\n"
    "timeout: seconds to wait at most, or None; then TimeoutError says which jobs still run. They go on.\n\n"
    "May be called again, also after a timeout or Ctrl-C, to wait again. Thread-safe. Raises RuntimeError, and does\n"
    "not wait, where it would wait for itself: in a job of this pool, or in a callback on one of its threads. The pool\n"
    "takes no more jobs then all the same. Use wait=False there.");

static PyObject *
pool_shutdown(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"wait", "cancel_futures", "timeout", NULL};
    const wpy_gate *gate = gate_of_pool(self);
    int wait = 1;
    int cancel_futures = 0;
    PyObject *timeout = Py_None;
    uint64_t deadline;
    if (gate == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|p$pO:shutdown", keywords, &wait, &cancel_futures, &timeout) ||
        wpy_deadline(timeout, "timeout", &deadline) < 0) {
        return NULL;
    }
    wp_pool_close(gate->core);
    if (cancel_futures) {
        wpy_hush();
        wp_pool_cancel_waiting(gate->core);
        wpy_speak(gate->home);
    }
    if (!wait) {
        Py_RETURN_NONE;
    }
    if (refuse_if_needed_here(gate, "shutdown(wait=True)", POOL_IS_CLOSED) < 0) {
        return NULL;
    }
    wpy_slice *sleep = deadline == WP_FOREVER ? slice_of_endless_join : slice_of_join;
    int result = refuse_circle(wpy_wait(sleep, gate->core, deadline), "shutdown(wait=True)", POOL_IS_CLOSED);
    wpy_empty_trash(gate->home);
    if (result == WP_LATE) {
        raise_still_running(gate);
        return NULL;
    }
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(resize_doc,
             "resize($self, max_workers, /)\n--\n\n"
             "Change the number of workers.\n\n"
             "max_workers: at least 1. More are started as work comes; surplus ones leave after their job.\n"
             "Does not wait. Thread-safe.");

static PyObject *
pool_resize(PyObject *self, PyObject *argument)
{
    const wpy_gate *gate = gate_of_pool(self);
    if (gate == NULL) {
        return NULL;
    }
    if (!PyIndex_Check(argument)) {
        PyErr_Format(PyExc_TypeError, "max_workers must be a whole number, not %.100s", Py_TYPE(argument)->tp_name);
        return NULL;
    }
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(argument, &overflow);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (overflow < 0 || (overflow == 0 && n < 1)) {
        PyErr_SetString(PyExc_ValueError, "max_workers must be greater than 0");
        return NULL;
    }
    if (overflow > 0 || n > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "max_workers must be at most %d", INT32_MAX);
        return NULL;
    }
    /* Joining those that have left may take a moment. */
    Py_BEGIN_ALLOW_THREADS
    wp_pool_resize(gate->core, (uint32_t)n);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* A view is closed for itself; its jobs are the pool's, so it can only wait for all of them. */
static PyObject *
view_shutdown(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"wait", "cancel_futures", NULL};
    wpy_gate *gate = gate_of_view(self);
    int wait = 1;
    int cancel_futures = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p$p:shutdown", keywords, &wait, &cancel_futures)) {
        return NULL;
    }
    wp_pool_close_part(gate->core, &gate->closable);
    if (!wait) {
        Py_RETURN_NONE;
    }
    if (refuse_if_needed_here(gate, "shutdown(wait=True)", VIEW_IS_CLOSED) < 0 ||
        refuse_circle(wpy_wait(slice_of_endless_drain, gate->core, WP_FOREVER), "shutdown(wait=True)", VIEW_IS_CLOSED) <
            0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- What can be read of a pool ---- */

static PyObject *
percentiles(const uint64_t ns[4])
{
    return Py_BuildValue("{sd,sd,sd,sd}", "p50", (double)ns[0] / 1e9, "p90", (double)ns[1] / 1e9, "p99",
                         (double)ns[2] / 1e9, "max", (double)ns[3] / 1e9);
}

static PyObject *
lane_stats(const wp_lane_stats *lane)
{
    PyObject *capacity =
        lane->capacity == WP_UNBOUNDED ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(lane->capacity);
    return Py_BuildValue("{sK,sK,sK,sN,sK,sK,sK,sK,sK,sK,sN,sN}", "submitted", lane->submitted, "rejected",
                         lane->rejected, "waiting", lane->waiting, "capacity", capacity, "done", lane->ended[WP_DONE],
                         "failed", lane->ended[WP_FAILED], "cancelled", lane->ended[WP_CANCELLED], "expired",
                         lane->ended[WP_EXPIRED], "timed_out", lane->ended[WP_TIMED_OUT], "lost", lane->ended[WP_LOST],
                         "wait_time", percentiles(lane->waited_ns), "run_time", percentiles(lane->ran_ns));
}

static PyObject *
pool_stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const wpy_gate *gate = gate_of_pool(self);
    wp_pool_stats stats;
    if (gate == NULL) {
        return NULL;
    }
    wp_pool_stats_get(gate->core, &stats);
    PyObject *lanes = PyDict_New();
    for (uint32_t i = 0; lanes != NULL && i < stats.n_lanes; i++) {
        PyObject *name = PyTuple_GET_ITEM(wpy_lane_names(gate->core), i);
        PyObject *lane = lane_stats(&stats.lanes[i]);
        if (lane == NULL || PyDict_SetItem(lanes, name, lane) < 0) {
            Py_CLEAR(lanes);
        }
        Py_XDECREF(lane);
    }
    if (lanes == NULL) {
        return NULL;
    }
    return Py_BuildValue("{sI,sI,sI,sK,sd,sN}", "max_workers", stats.max_workers, "workers", stats.workers, "busy",
                         stats.busy, "unfinished", stats.unfinished, "busy_time", (double)stats.busy_ns / 1e9, "lanes",
                         lanes);
}

static PyObject *
max_workers_of(const wpy_gate *gate)
{
    if (gate == NULL) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(wp_pool_max_workers(gate->core));
}

static PyObject *
pool_get_max_workers(PyObject *self, void *Py_UNUSED(closure))
{
    return max_workers_of(gate_of_pool(self));
}

static PyObject *
view_get_max_workers(PyObject *self, void *Py_UNUSED(closure))
{
    return max_workers_of(gate_of_view(self));
}

static PyObject *
pool_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_pool(self);
    return gate != NULL ? PyBool_FromLong(wp_pool_is_closed(gate->core)) : NULL;
}

/* As in the standard library: False, or what is wrong. */
static PyObject *
pool_get_broken(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_pool(self);
    if (gate == NULL) {
        return NULL;
    }
    return wp_pool_is_broken(gate->core)
               ? PyUnicode_FromString("A thread initializer failed, the thread pool is not usable anymore")
               : Py_NewRef(Py_False);
}

static PyObject *
view_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_view(self);
    return PyBool_FromLong(wpy_options_are_closed(&gate->options) || wp_pool_is_closed(gate->core));
}

static PyObject *
lane_names_of(const wpy_gate *gate)
{
    return gate != NULL ? Py_NewRef(wpy_lane_names(gate->core)) : NULL;
}

static PyObject *
pool_get_lanes(PyObject *self, void *Py_UNUSED(closure))
{
    return lane_names_of(gate_of_pool(self));
}

static PyObject *
view_get_lane(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_view(self);
    return Py_NewRef(PyTuple_GET_ITEM(wpy_lane_names(gate->core), gate->options.lane));
}

static PyObject *
view_get_label(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_view(self);
    return Py_NewRef(gate->options.label != NULL ? gate->options.label : Py_None);
}

static PyObject *
view_get_token(PyObject *self, void *Py_UNUSED(closure))
{
    const wpy_gate *gate = gate_of_view(self);
    return Py_NewRef(gate->options.token != NULL ? gate->options.token : Py_None);
}

/* ---- Types ---- */

#define WITH_KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef pool_methods[] = {
    {"submit", WITH_KEYWORDS(pool_submit), METH_FASTCALL | METH_KEYWORDS, submit_doc},
    {"run", WITH_KEYWORDS(pool_run), METH_FASTCALL | METH_KEYWORDS, run_doc},
    {"drain", WITH_KEYWORDS(pool_drain), METH_VARARGS | METH_KEYWORDS, drain_doc},
    {"shutdown", WITH_KEYWORDS(pool_shutdown), METH_VARARGS | METH_KEYWORDS, shutdown_doc},
    {"resize", pool_resize, METH_O, resize_doc},
    {"_stats", pool_stats, METH_NOARGS, NULL},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef pool_getset[] = {
    {"_max_workers", pool_get_max_workers, NULL, NULL, NULL},
    {"_shutdown", pool_get_closed, NULL, NULL, NULL},
    {"_broken", pool_get_broken, NULL, NULL, NULL},
    {"lanes", pool_get_lanes, NULL, "The names of the lanes, the most urgent first.", NULL},
    {0},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_init, pool_init},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_traverse, pool_traverse},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_getset},
    {Py_tp_doc, "The base of WorkerPool."},
    {0, NULL},
};

PyType_Spec wpy_pool_spec = {
    .name = "workerpool._core.Pool",
    .basicsize = sizeof(pool_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = pool_slots,
};

static PyMethodDef view_methods[] = {
    {"submit", WITH_KEYWORDS(view_submit), METH_FASTCALL | METH_KEYWORDS, submit_doc},
    {"run", WITH_KEYWORDS(view_run), METH_FASTCALL | METH_KEYWORDS, run_doc},
    {"shutdown", WITH_KEYWORDS(view_shutdown), METH_VARARGS | METH_KEYWORDS,
     "shutdown($self, /, wait=True, *, cancel_futures=False)\n--\n\n"
     "Take no more jobs through this view; the pool goes on. wait: return when the pool's jobs have ended. In a job of the\n"
     "pool that raises RuntimeError, and the view takes no more jobs all the same: use wait=False there."},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef view_getset[] = {
    {"_max_workers", view_get_max_workers, NULL, NULL, NULL},
    {"_shutdown", view_get_closed, NULL, NULL, NULL},
    {"lane_name", view_get_lane, NULL, "The name of the lane that this view submits to.", NULL},
    {"label", view_get_label, NULL, "The label that this view gives to its jobs, or None.", NULL},
    {"token", view_get_token, NULL, "The token that this view gives to its jobs, or None.", NULL},
    {0},
};

static PyMemberDef view_members[] = {
    {"_pool", Py_T_OBJECT_EX, offsetof(view_object, pool), Py_READONLY, NULL},
    {0},
};

static PyType_Slot view_slots[] = {
    {Py_tp_new, view_new},
    {Py_tp_init, view_init},
    {Py_tp_dealloc, view_dealloc},
    {Py_tp_traverse, view_traverse},
    {Py_tp_clear, view_clear},
    {Py_tp_methods, view_methods},
    {Py_tp_getset, view_getset},
    {Py_tp_members, view_members},
    {Py_tp_doc, "The base of View."},
    {0, NULL},
};

PyType_Spec wpy_view_spec = {
    .name = "workerpool._core.View",
    .basicsize = sizeof(view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = view_slots,
};
