/* See bridge.h.
 *
 * A bridge belongs to one event loop. Whoever ends a job of it, a worker without the GIL or any other thread, pushes the
 * call onto the bridge's stack and, if that was empty, writes to a file descriptor that the loop watches. So one wake-up
 * of the loop serves all results that are there by then. The loop's thread takes the whole stack and sets the results of
 * its futures.
 *
 * A call ties a future of the loop to a task. The task owns a reference to it until it is delivered; so does the future,
 * to cancel the job with it. The two ways round are cut when the call is taken off the stack.
 *
 * A queue that is full must not hold up the loop: calls that may wait for room wait in a line of the bridge's own, in
 * order, and are submitted as results come in, and after a millisecond.
 *
 * LIFETIME. Threads hold the bridge's `core`, which is counted and owns the descriptor. The Python object is held by the loop
 * alone, as what it calls when the descriptor can be read, and goes when the loop is closed. It must not be held for longer:
 * calls that nobody takes from its stack refer to futures, and those to the loop. What is delivered after that is dropped.
 *
 * All but wpy_bridge_deliver runs on the loop's thread, attached.
 */
#include "bridge.h"

#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* How long, in seconds, before calls that wait for room try again. */
#define TRY_AGAIN_AFTER 0.001

typedef struct call_object call_object;

/* What threads without Python share with the loop. */
typedef struct bridge_core {
    wp_word references;
    int read_end;                   /* Constant: the loop watches it. */
    int write_end;                  /* Constant: the same for an eventfd. */
    wp_word closed;                 /* 1 once the bridge has gone with its loop. */
    _Atomic(call_object *) arrived; /* A stack, pushed by any thread; the loop's thread takes all of it. */
} bridge_core;

typedef struct bridge_object {
    PyObject_HEAD
    wpy_home *home;
    bridge_core *core;     /* Constant; a reference. */
    PyObject *loop;        /* Constant: a weak reference. */
    PyObject *future_type; /* Constant: what makes a future of the loop. */
    call_object *first;    /* Waiting for room, in order; each with a reference. */
    call_object *last;
    bool will_try_again; /* A timer is set. */
    PyObject *weakrefs;
} bridge_object;

struct call_object {
    PyObject_HEAD
    bridge_core *core;        /* Constant; a reference. */
    wpy_task *task;           /* A reference; NULL once it was delivered. */
    PyObject *future;         /* The loop's; NULL as above. */
    PyObject *handle;         /* Of the pool, as a future has it. */
    PyObject *gate_owner;     /* While waiting for room: the pool or view; */
    const wpy_gate *gate;     /* and its gate. */
    uint64_t deadline;        /* Of its submit_timeout. */
    struct call_object *next; /* On the stack, or in the line. */
    wpy_trash trash;          /* If it arrives after the loop has gone. */
};

/* ---- The core ---- */

static void
core_unref(bridge_core *core)
{
    if (wp_sub_acq_rel(&core->references, 1) != 1) {
        return;
    }
    close(core->read_end);
    if (core->write_end != core->read_end) {
        close(core->write_end);
    }
    PyMem_RawFree(core);
}

static int
open_ends(bridge_core *core)
{
#ifdef __linux__
    core->read_end = core->write_end = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return core->read_end < 0 ? -1 : 0;
#else
    int ends[2];
    if (pipe(ends) < 0) {
        return -1;
    }
    core->read_end = ends[0];
    core->write_end = ends[1];
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    }
    return 0;
#endif
}

static bridge_core *
core_new(void)
{
    bridge_core *core = PyMem_RawCalloc(1, sizeof *core);
    if (core == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (open_ends(core) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        PyMem_RawFree(core);
        return NULL;
    }
    wp_store_relaxed(&core->references, 1);
    return core;
}

/* Wakes the loop. A full pipe wakes it as well; anything else that fails is the end of the loop. */
static void
ring(const bridge_core *core)
{
    uint64_t one = 1;
    size_t size = core->read_end == core->write_end ? sizeof one : 1;
    while (write(core->write_end, &one, size) < 0 && errno == EINTR) {
    }
}

static void
hush(const bridge_core *core)
{
    uint64_t bytes[8];
    ssize_t got;
    do {
        got = read(core->read_end, bytes, sizeof bytes);
    } while ((got < 0 && errno == EINTR) || got == (ssize_t)sizeof bytes);
}

static void call_untie(call_object *self);

static void
release_call(wpy_trash *trash)
{
    call_object *call = (call_object *)(void *)((char *)trash - offsetof(call_object, trash));
    call_untie(call);
    Py_DECREF(call);
}

/* Takes what has arrived, the oldest first. */
static call_object *
take_arrived(bridge_core *core)
{
    call_object *newest = wp_exchange_acq_rel(&core->arrived, NULL);
    call_object *oldest = NULL;
    while (newest != NULL) {
        call_object *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* What arrives after the bridge has gone is nobody's any more. Pushing and taking change one word, so either the bridge's
 * last look at the stack sees a call, or whoever pushes it sees the bridge closed. */
static void
drop_arrived(bridge_core *core, wpy_home *home)
{
    call_object *call = take_arrived(core);
    while (call != NULL) {
        call_object *next = call->next;
        call->trash.release = release_call;
        wpy_throw_away(home, &call->trash, call->task->job.pool);
        call = next;
    }
}

void
wpy_bridge_deliver(wpy_task *task)
{
    call_object *call = task->call;
    bridge_core *core = call->core;
    wpy_home *home = task->home;
    wp_add_relaxed(&core->references, 1); /* The call may be gone as soon as it is on the stack. */
    wp_job_settle(&task->job);
    call_object *top = wp_load_relaxed(&core->arrived);
    do {
        call->next = top;
    } while (!wp_cas_weak_acq_rel(&core->arrived, &top, call));
    if (top == NULL) {
        ring(core);
    }
    if (wp_load_acquire(&core->closed)) {
        drop_arrived(core, home);
    }
    core_unref(core);
}

/* ---- Calls ---- */

/* Drops what a call ties together. */
static void
call_untie(call_object *self)
{
    wpy_task *task = self->task;
    self->task = NULL;
    Py_CLEAR(self->future);
    Py_CLEAR(self->gate_owner);
    if (task != NULL) {
        wp_job_unref(&task->job);
    }
    Py_CLEAR(self->handle); /* Last: the job must not outlive it. */
}

static void
call_dealloc(call_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    call_untie(self);
    core_unref(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(stop_doc, "stop($self, /)\n--\n\nCancel the job if it has not begun, or ask it to stop.");

static PyObject *
call_stop(call_object *self, PyObject *Py_UNUSED(ignored))
{
    if (self->task != NULL && self->gate_owner == NULL && !wp_job_is_lost(&self->task->job)) {
        wp_job_stop(&self->task->job);
    }
    Py_RETURN_NONE;
}

static PyMethodDef call_methods[] = {
    {"stop", (PyCFunction)(void (*)(void))call_stop, METH_NOARGS, stop_doc},
    {0},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {0, NULL},
};

PyType_Spec wpy_call_spec = {
    .name = "workerpool._core.LoopCall",
    .basicsize = sizeof(call_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = call_slots,
};

/* ---- Results ---- */

/* One that cannot say so, for want of memory, is told: nobody else would. */
static bool
is_done(const wpy_home *home, PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, home->done);
    bool is = done != NULL && done != Py_False;
    Py_XDECREF(done);
    PyErr_Clear();
    return is;
}

/* An event loop's future cannot hold StopIteration. */
static void
set_exception(const wpy_home *home, PyObject *future, PyObject *exception)
{
    PyObject *told = NULL;
    if (PyErr_GivenExceptionMatches(exception, home->cancelled_error)) {
        told = PyObject_CallMethodNoArgs(future, home->cancel);
    } else if (PyErr_GivenExceptionMatches(exception, PyExc_StopIteration)) {
        PyObject *error = PyObject_CallFunction(PyExc_RuntimeError, "s", "the function raised StopIteration");
        if (error != NULL) {
            PyException_SetCause(error, Py_NewRef(exception));
            told = PyObject_CallMethodOneArg(future, home->set_exception, error);
            Py_DECREF(error);
        }
    } else {
        told = PyObject_CallMethodOneArg(future, home->set_exception, exception);
    }
    if (told == NULL) {
        PyErr_WriteUnraisable(future);
    }
    Py_XDECREF(told);
}

static void
set_outcome(const wpy_home *home, call_object *call)
{
    PyObject *value = wpy_task_result(call->task);
    if (value == NULL) {
        PyObject *exception = wpy_take_exception();
        set_exception(home, call->future, exception);
        Py_DECREF(exception);
        return;
    }
    PyObject *told = PyObject_CallMethodOneArg(call->future, home->set_result, value);
    if (told == NULL) {
        PyErr_WriteUnraisable(call->future);
    }
    Py_XDECREF(told);
    Py_DECREF(value);
}

static void
deliver(bridge_object *self)
{
    call_object *call = take_arrived(self->core);
    while (call != NULL) {
        call_object *next = call->next;
        if (call->future != NULL && !is_done(self->home, call->future)) {
            set_outcome(self->home, call);
        }
        call_untie(call);
        Py_DECREF(call); /* The task's. */
        call = next;
    }
}

/* ---- Waiting for room ---- */

static void
fail_call(const bridge_object *self, call_object *call)
{
    PyObject *exception = wpy_take_exception();
    if (!is_done(self->home, call->future)) {
        set_exception(self->home, call->future, exception);
    }
    Py_DECREF(exception);
}

/* Submits a call without waiting: WP_OK, WP_FULL, or -1 with an exception set. The task keeps the call from then on. */
static int
try_to_submit(const bridge_object *self, call_object *call)
{
    const wpy_gate *gate = call->gate;
    if (!wpy_check_not_exiting(self->home)) {
        return -1;
    }
    Py_INCREF(call);
    enum wp_result result = wp_pool_submit(gate->core, gate->options.lane, &call->task->job, false);
    if (result == WP_OK) {
        return WP_OK;
    }
    Py_DECREF(call);
    if (result == WP_FULL && call->deadline != WP_FOREVER && wp_clock() >= call->deadline) {
        result = WP_LATE;
    }
    return result == WP_FULL ? WP_FULL : wpy_set_error(self->home, result);
}

static int
try_again_later(bridge_object *self)
{
    if (self->will_try_again) {
        return 0;
    }
    PyObject *loop = wpy_weakref_get(self->loop);
    PyObject *flush = loop != NULL ? PyObject_GetAttrString((PyObject *)self, "_flush") : NULL;
    PyObject *timer = flush != NULL ? PyObject_CallMethod(loop, "call_later", "dO", TRY_AGAIN_AFTER, flush) : NULL;
    self->will_try_again = timer != NULL;
    Py_XDECREF(timer);
    Py_XDECREF(flush);
    Py_XDECREF(loop);
    return self->will_try_again ? 0 : -1;
}

/* Nobody would come for those in line any more: they all fail with the exception that is set. */
static void
fail_line(bridge_object *self)
{
    PyObject *exception = wpy_take_exception();
    while (self->first != NULL) {
        call_object *call = self->first;
        self->first = call->next;
        if (!is_done(self->home, call->future)) {
            set_exception(self->home, call->future, exception);
        }
        call_untie(call);
        Py_DECREF(call); /* The line's. */
    }
    Py_DECREF(exception);
}

static void
flush(bridge_object *self)
{
    while (self->first != NULL) {
        call_object *call = self->first;
        call_object *next = call->next; /* Once it is submitted it may be on the stack by that field. */
        if (!is_done(self->home, call->future)) {
            int result = try_to_submit(self, call);
            if (result == WP_FULL) {
                break;
            }
            if (result < 0) {
                fail_call(self, call);
                call_untie(call);
            } else {
                Py_CLEAR(call->gate_owner);
            }
        } else {
            call_untie(call); /* Cancelled meanwhile. */
        }
        self->first = next;
        Py_DECREF(call); /* The line's. */
    }
    if (self->first != NULL && try_again_later(self) < 0) {
        fail_line(self);
    }
}

/* From then on the line is tried again, so nothing may fail after this. */
static int
wait_in_line(bridge_object *self, call_object *call)
{
    if (try_again_later(self) < 0) {
        return -1;
    }
    call->next = NULL;
    if (self->first == NULL) {
        self->first = call;
    } else {
        self->last->next = call;
    }
    self->last = call;
    Py_INCREF(call);
    return 0;
}

/* ---- The bridge ---- */

static PyObject *
bridge_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *loop, *future_type;
    if (!PyArg_ParseTuple(args, "OO:Bridge", &loop, &future_type)) {
        return NULL;
    }
    bridge_object *self = (bridge_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->home = wpy_home_of_type(type);
    self->core = core_new();
    self->loop = self->core != NULL ? PyWeakref_NewRef(loop, NULL) : NULL;
    self->future_type = Py_NewRef(future_type);
    if (self->loop == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
bridge_traverse(bridge_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->future_type);
    return 0;
}

/* The loop is gone: calls that are still under way are delivered to nobody. */
static void
bridge_dealloc(bridge_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    while (self->first != NULL) {
        call_object *call = self->first;
        self->first = call->next;
        call_untie(call);
        Py_DECREF(call);
    }
    if (self->core != NULL) {
        wp_exchange_acq_rel(&self->core->closed, 1);
        drop_arrived(self->core, self->home);
        core_unref(self->core);
    }
    Py_CLEAR(self->loop);
    Py_CLEAR(self->future_type);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
bridge_fileno(bridge_object *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->core->read_end);
}

/* The loop's callback: the descriptor can be read. */
static PyObject *
bridge_deliver(bridge_object *self, PyObject *Py_UNUSED(ignored))
{
    wpy_empty_trash(self->home);
    hush(self->core);
    deliver(self);
    flush(self);
    Py_RETURN_NONE;
}

static PyObject *
bridge_flush(bridge_object *self, PyObject *Py_UNUSED(ignored))
{
    self->will_try_again = false;
    flush(self);
    Py_RETURN_NONE;
}

static PyMethodDef bridge_methods[] = {
    {"fileno", (PyCFunction)(void (*)(void))bridge_fileno, METH_NOARGS, "What the loop is to watch for reading."},
    {"deliver", (PyCFunction)(void (*)(void))bridge_deliver, METH_NOARGS, "Set the results that have arrived."},
    {"_flush", (PyCFunction)(void (*)(void))bridge_flush, METH_NOARGS, NULL},
    {0},
};

static PyMemberDef bridge_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(bridge_object, weakrefs), Py_READONLY, NULL},
    {0},
};

static PyType_Slot bridge_slots[] = {
    {Py_tp_new, bridge_new},
    {Py_tp_dealloc, bridge_dealloc},
    {Py_tp_traverse, bridge_traverse},
    {Py_tp_methods, bridge_methods},
    {Py_tp_members, bridge_members},
    {Py_tp_doc, "Brings results to one asyncio event loop."},
    {0, NULL},
};

PyType_Spec wpy_bridge_spec = {
    .name = "workerpool._core.Bridge",
    .basicsize = sizeof(bridge_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bridge_slots,
};

/* ---- Running ---- */

/* What the package has for asyncio; imported when it is first asked for, because asyncio is large. */
static PyObject *
from_package(PyObject **kept, const char *name)
{
    if (*kept == NULL) {
        PyObject *module = PyImport_ImportModule("workerpool._aio");
        *kept = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
        Py_XDECREF(module);
    }
    return *kept;
}

/* The bridge that was used last, a new reference or NULL. */
static PyObject *
last_bridge(wpy_home *home)
{
    wp_lock_take(&home->lock);
    PyObject *reference = Py_XNewRef(home->last_bridge);
    wp_lock_give(&home->lock);
    PyObject *bridge = reference != NULL ? wpy_weakref_get(reference) : NULL;
    Py_XDECREF(reference);
    return bridge;
}

static void
set_last_bridge(wpy_home *home, PyObject *bridge)
{
    PyObject *reference = PyWeakref_NewRef(bridge, NULL);
    if (reference == NULL) {
        PyErr_Clear(); /* It is found without, too. */
        return;
    }
    wp_lock_take(&home->lock);
    PyObject *before = home->last_bridge;
    home->last_bridge = reference;
    wp_lock_give(&home->lock);
    Py_XDECREF(before);
}

/* The bridge of the running loop, a new reference: the one used last if it is of this loop, else the package finds or
 * makes it. */
static bridge_object *
find_bridge(wpy_home *home, PyObject *loop)
{
    PyObject *last = last_bridge(home);
    if (last != NULL) {
        PyObject *its_loop = wpy_weakref_get(((bridge_object *)last)->loop);
        Py_XDECREF(its_loop); /* `loop` keeps it, if it is the same. */
        if (its_loop == loop) {
            return (bridge_object *)last;
        }
        Py_DECREF(last);
    }
    PyObject *find = from_package(&home->find_bridge, "find_bridge");
    PyObject *found = find != NULL ? PyObject_CallOneArg(find, loop) : NULL;
    if (found != NULL) {
        set_last_bridge(home, found);
    }
    return (bridge_object *)found;
}

static PyObject *
running_loop(wpy_home *home)
{
    PyObject *get = from_package(&home->get_running_loop, "get_running_loop");
    return get != NULL ? PyObject_CallNoArgs(get) : NULL;
}

/* A future of the loop, which knows the call. */
static PyObject *
future_new(const bridge_object *bridge, PyObject *call, PyObject *loop)
{
    const wpy_home *home = bridge->home;
    PyObject *args[] = {NULL, loop};
    PyObject *future =
        PyObject_Vectorcall(bridge->future_type, args + 1, PY_VECTORCALL_ARGUMENTS_OFFSET, home->loop_keyword);
    if (future != NULL && PyObject_SetAttr(future, home->call_name, call) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

/* A call with its task and its future; takes the task over, also when it fails. */
static call_object *
call_new(bridge_object *bridge, const wpy_gate *gate, PyObject *loop, wpy_task *task)
{
    wpy_home *home = bridge->home;
    call_object *call = PyObject_New(call_object, home->call_type);
    if (call == NULL) {
        wp_job_unref(&task->job);
        return NULL;
    }
    wp_add_relaxed(&bridge->core->references, 1);
    call->core = bridge->core;
    call->task = task;
    call->handle = Py_NewRef(gate->handle);
    call->future = NULL;
    call->gate_owner = NULL;
    call->gate = gate;
    call->next = NULL;
    call->deadline =
        gate->options.submit_timeout == WP_FOREVER ? WP_FOREVER : wp_clock() + gate->options.submit_timeout;
    task->call = call;
    task->job.flags |= WPY_JOB_HAS_CALL;
    wp_job_ask_for_notice(&task->job);
    call->future = future_new(bridge, (PyObject *)call, loop);
    if (call->future == NULL) {
        Py_DECREF(call);
        return NULL;
    }
    return call;
}

/* 0, or -1 with an exception set and the job not submitted. */
static int
submit_call(bridge_object *bridge, const wpy_gate *gate, PyObject *owner, call_object *call)
{
    if (gate->options.on_full == WPY_BLOCK) {
        int result = bridge->first != NULL ? WP_FULL : try_to_submit(bridge, call);
        if (result == WP_FULL) {
            call->gate_owner = Py_NewRef(owner);
            return wait_in_line(bridge, call);
        }
        return result < 0 ? -1 : 0;
    }
    Py_INCREF(call); /* The task's. */
    if (wpy_submit_task(bridge->home, gate->core, &gate->options, call->task) < 0) {
        Py_DECREF(call);
        return -1;
    }
    return 0;
}

PyObject *
wpy_run(const wpy_gate *gate, PyObject *owner, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (gate == NULL || wpy_gate_check_open(gate) < 0) {
        return NULL;
    }
    PyObject *loop = running_loop(gate->home);
    bridge_object *bridge = loop != NULL ? find_bridge(gate->home, loop) : NULL;
    if (bridge == NULL) {
        Py_XDECREF(loop);
        return NULL;
    }
    wpy_empty_trash(gate->home);
    wpy_task *task = wpy_task_for(gate, args, nargs, kwnames, NULL, 0);
    call_object *call = task != NULL ? call_new(bridge, gate, loop, task) : NULL;
    PyObject *future = NULL;
    if (call != NULL) {
        future = Py_NewRef(call->future);
        if (submit_call(bridge, gate, owner, call) < 0) {
            Py_CLEAR(future);
            call_untie(call);
        }
        Py_DECREF(call);
    }
    Py_DECREF(loop);
    Py_DECREF(bridge);
    return future;
}
