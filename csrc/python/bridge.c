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
 * A queue that is full must not hold up the loop: calls that may wait for room wait in a line of their lane (line.h), and
 * are submitted as results come in, and after a millisecond.
 *
 * FOREIGN CODE runs wherever a future is told, a call is let go of, or the loop is asked for something. It may call pools,
 * cancel futures and close the loop. So nothing is told before it has been taken off the list on which it was found, one
 * at a time; and what such code raises, KeyboardInterrupt above all, waits until the rest has been told too.
 *
 * LIFETIME. Threads hold the bridge's `core`, which is counted and owns the descriptor. The Python object is held by the loop
 * alone, as what it calls when the descriptor can be read, and goes when the loop is closed. It must not be held for longer:
 * calls that nobody takes from its stack refer to futures, and those to the loop. What is delivered after that is dropped.
 *
 * All but wpy_bridge_deliver runs on the loop's thread, attached.
 */
#include "bridge.h"

#include "line.h"
#include "options.h"
#include "token.h"

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
    wpy_lines lines;                /* Calls that wait for room, each with a reference. */
} bridge_core;

typedef struct bridge_object {
    PyObject_HEAD
    wpy_home *home;
    bridge_core *core;     /* Constant; a reference. */
    PyObject *loop;        /* Constant: a weak reference. */
    PyObject *future_type; /* Constant: what makes a future of the loop. */
    call_object *first;    /* Taken off the stack and not told yet, in order; each with a reference. */
    call_object *last;
    PyObject *raised;    /* What foreign code has raised meanwhile, or NULL. */
    bool will_try_again; /* A timer is set. */
    PyObject *weakrefs;
} bridge_object;

struct call_object {
    PyObject_HEAD
    bridge_core *core;        /* Constant; a reference. */
    wpy_task *task;           /* A reference; NULL once it was delivered. */
    PyObject *future;         /* The loop's; NULL as above. */
    PyObject *handle;         /* Of the pool, as a future has it. */
    PyObject *gate_owner;     /* Until it is submitted: the pool or view; */
    const wpy_gate *gate;     /* and its gate. */
    uint64_t deadline;        /* Of its submit_timeout. */
    struct call_object *next; /* On the stack, or among those not told yet. */
    wpy_place place;          /* While waiting for room. */
    wpy_trash trash;          /* If it arrives after the loop has gone. */
};

/* ---- The core ---- */

static void
core_unref(bridge_core *core)
{
    if (wp_sub_acq_rel(&core->references, 1) != 1) {
        return;
    }
    wpy_lines_free(&core->lines);
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
ring_for_line(wpy_lines *lines)
{
    ring((bridge_core *)(void *)((char *)lines - offsetof(bridge_core, lines)));
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
    wpy_lines_init(&core->lines, ring_for_line);
    return core;
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
        wpy_throw_away(home, &call->trash, call->task != NULL ? call->task->job.pool : NULL);
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

static call_object *
call_at(wpy_place *place)
{
    return (call_object *)(void *)((char *)place - offsetof(call_object, place));
}

/* Drops what a call ties together. It stands in no line. The lock is for those who cancel a future on a thread that is
 * not its loop's, which is wrong but must not crash. */
static void
call_untie(call_object *self)
{
    wp_lock_take(&self->core->lines.lock);
    wpy_task *task = self->task;
    PyObject *future = self->future;
    PyObject *gate_owner = self->gate_owner;
    self->task = NULL;
    self->future = NULL;
    self->gate_owner = NULL;
    wp_lock_give(&self->core->lines.lock);
    Py_XDECREF(future);
    if (task != NULL) {
        wp_job_unref(&task->job);
    }
    Py_XDECREF(gate_owner);
    Py_CLEAR(self->handle); /* Last: the job must not outlive it. */
}

/* The task with a reference of the caller's, which the call may lose meanwhile; NULL if it has none. */
static wpy_task *
hold_task(call_object *self)
{
    wp_lock_take(&self->core->lines.lock);
    wpy_task *task = self->task;
    if (task != NULL) {
        wp_job_ref(&task->job);
    }
    wp_lock_give(&self->core->lines.lock);
    return task;
}

/* The same for the future. */
static PyObject *
hold_future(call_object *self)
{
    wp_lock_take(&self->core->lines.lock);
    PyObject *future = Py_XNewRef(self->future);
    wp_lock_give(&self->core->lines.lock);
    return future;
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

/* A call in line just leaves it. */
static PyObject *
call_stop(call_object *self, PyObject *Py_UNUSED(ignored))
{
    if (wpy_lines_leave(&self->place)) {
        call_untie(self);
        Py_DECREF(self); /* The line's. */
        Py_RETURN_NONE;
    }
    wpy_task *task = hold_task(self);
    if (task != NULL) {
        if (self->gate_owner == NULL && !wp_job_is_lost(&task->job)) {
            wpy_hush();
            wp_job_stop(&task->job);
            wpy_speak(task->home);
        }
        wp_job_unref(&task->job);
    }
    Py_RETURN_NONE;
}

static PyMethodDef call_methods[] = {
    {"stop", (PyCFunction)(void (*)(void))call_stop, METH_NOARGS, stop_doc},
    WPY_REFUSE_PICKLE,
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

/* ---- What foreign code raises ---- */

/* Keeps the exception that is set until all is told: the first, unless a later one ends the program and it does not. */
static void
keep_exception(bridge_object *self, PyObject *source)
{
    if (self->raised == NULL) {
        self->raised = wpy_take_exception();
    } else if (!PyErr_ExceptionMatches(PyExc_Exception) && PyErr_GivenExceptionMatches(self->raised, PyExc_Exception)) {
        PyObject *before = self->raised;
        self->raised = wpy_take_exception();
        wpy_raise(before);
        Py_DECREF(before);
        PyErr_WriteUnraisable(source);
    } else {
        PyErr_WriteUnraisable(source);
    }
}

/* What a callback of the loop returns. */
static PyObject *
return_to_loop(bridge_object *self)
{
    PyObject *raised = self->raised;
    if (raised == NULL) {
        Py_RETURN_NONE;
    }
    self->raised = NULL;
    wpy_raise(raised);
    Py_DECREF(raised);
    return NULL;
}

/* ---- Results ---- */

/* One that cannot say so, for want of memory, is told: nobody else would. */
static bool
is_done(bridge_object *self, PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, self->home->done);
    bool is = done != NULL && done != Py_False;
    Py_XDECREF(done);
    if (done == NULL && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
    } else if (done == NULL) {
        keep_exception(self, future);
    }
    return is;
}

static PyObject *from_package(PyObject **kept, const char *name);

/* A future schedules its callbacks by Python code of the loop's, in which a signal may raise, and forgets those that it
 * has not come to: then whoever awaits it would never wake. So they are scheduled for it. */
static void
mend_callbacks(bridge_object *self, PyObject *future, PyObject *callbacks)
{
    keep_exception(self, future);
    PyObject *schedule = from_package(&self->home->schedule_callbacks, "schedule_callbacks");
    PyObject *done = schedule != NULL ? PyObject_CallFunctionObjArgs(schedule, future, callbacks, NULL) : NULL;
    if (done == NULL) {
        keep_exception(self, future);
    }
    Py_XDECREF(done);
}

/* Calls a method by which a future is done. `value` may be NULL. */
static void
tell(bridge_object *self, PyObject *future, PyObject *method, PyObject *value)
{
    PyObject *callbacks = PyObject_GetAttr(future, self->home->callbacks_name);
    if (callbacks == NULL) {
        PyErr_Clear();
    }
    PyObject *args[] = {future, value};
    PyObject *told = PyObject_VectorcallMethod(method, args, value != NULL ? 2 : 1, NULL);
    if (told == NULL && callbacks != NULL && callbacks != Py_None) {
        mend_callbacks(self, future, callbacks);
    } else if (told == NULL) {
        keep_exception(self, future);
    }
    Py_XDECREF(told);
    Py_XDECREF(callbacks);
}

/* An event loop's future cannot hold StopIteration. */
static void
set_exception(bridge_object *self, PyObject *future, PyObject *exception)
{
    const wpy_home *home = self->home;
    if (PyErr_GivenExceptionMatches(exception, home->cancelled_error)) {
        tell(self, future, home->cancel, NULL);
    } else if (PyErr_GivenExceptionMatches(exception, PyExc_StopIteration)) {
        PyObject *error = PyObject_CallFunction(PyExc_RuntimeError, "s", "the function raised StopIteration");
        if (error == NULL) {
            keep_exception(self, future);
            return;
        }
        PyException_SetCause(error, Py_NewRef(exception));
        tell(self, future, home->set_exception, error);
        Py_DECREF(error);
    } else {
        tell(self, future, home->set_exception, exception);
    }
}

static void
set_outcome(bridge_object *self, call_object *call)
{
    PyObject *future = Py_NewRef(call->future);
    PyObject *value = wpy_task_result(call->task);
    if (value == NULL) {
        PyObject *exception = wpy_take_exception();
        set_exception(self, future, exception);
        Py_DECREF(exception);
    } else {
        tell(self, future, self->home->set_result, value);
        Py_DECREF(value);
    }
    Py_DECREF(future);
}

static void
queue_arrived(bridge_object *self)
{
    call_object *call = take_arrived(self->core);
    while (call != NULL) {
        if (self->first == NULL) {
            self->first = call;
        } else {
            self->last->next = call;
        }
        self->last = call;
        call = call->next;
    }
}

static call_object *
next_to_tell(bridge_object *self)
{
    call_object *call = self->first;
    if (call != NULL) {
        self->first = call->next;
    }
    return call;
}

/* Before anybody sees the end. */
static void
let_go(call_object *call)
{
    wpy_task *task = hold_task(call);
    if (task != NULL) {
        wpy_task_let_go(task);
        wp_job_unref(&task->job);
    }
}

static void
deliver(bridge_object *self)
{
    call_object *call;
    queue_arrived(self);
    while ((call = next_to_tell(self)) != NULL) {
        let_go(call);
        if (call->future != NULL && !is_done(self, call->future)) {
            set_outcome(self, call);
        }
        call_untie(call);
        Py_DECREF(call); /* The task's. */
    }
}

/* ---- Waiting for room ---- */

/* Ends a call that was taken out of its line with the exception that is set. */
static void
fail_call(bridge_object *self, call_object *call)
{
    PyObject *exception = wpy_take_exception();
    if (call->future != NULL && !is_done(self, call->future)) {
        set_exception(self, call->future, exception);
    }
    Py_DECREF(exception);
    call_untie(call);
    Py_DECREF(call); /* The line's. */
}

/* The exception for a call that waited for as long as it may. Always -1. */
static int
refuse_late(const bridge_object *self, const call_object *call)
{
    wp_pool_note_rejected(call->gate->core, call->gate->options.lane, 1);
    return wpy_set_error(self->home, WP_LATE);
}

/* The exception for a call that is not submitted. One whose shutdown came while it stood in line has been accepted, as far as
 * its caller could see. Always -1. */
static int
refuse_call(const bridge_object *self, const call_object *call, enum wp_result why)
{
    if (why != WP_CLOSED || call->place.lines == NULL) {
        return wpy_set_error(self->home, why);
    }
    PyErr_Format(
        PyExc_RuntimeError,
        "cannot schedule new futures after shutdown: the %s was shut down while this call waited in line for room; "
        "await what run() returned before the shutdown",
        wpy_options_are_closed(&call->gate->options) ? "view" : "pool");
    return -1;
}

/* Submits a call without waiting: WP_OK, WP_FULL, or -1 with an exception set. The task keeps the call from then on. */
static int
try_to_submit(const bridge_object *self, call_object *call, wpy_task *task)
{
    const wpy_gate *gate = call->gate;
    if (!wpy_check_not_exiting(self->home)) {
        return -1;
    }
    if (wpy_options_are_closed(&gate->options)) {
        return refuse_call(self, call, WP_CLOSED);
    }
    Py_INCREF(call);
    enum wp_result result = wp_pool_try_submit(gate->core, gate->options.lane, &task->job, false);
    if (result == WP_OK) {
        return WP_OK;
    }
    Py_DECREF(call);
    if (result == WP_FULL && call->deadline != WP_FOREVER && wp_clock() >= call->deadline) {
        return refuse_late(self, call);
    }
    return result == WP_FULL ? WP_FULL : refuse_call(self, call, result);
}

static bool
set_timer(bridge_object *self)
{
    PyObject *loop = wpy_weakref_get(self->loop);
    if (loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the event loop is gone");
        return false;
    }
    PyObject *flush = PyObject_GetAttrString((PyObject *)self, "_flush");
    PyObject *timer = flush != NULL ? PyObject_CallMethod(loop, "call_later", "dO", TRY_AGAIN_AFTER, flush) : NULL;
    bool set = timer != NULL;
    Py_XDECREF(timer);
    Py_XDECREF(flush);
    Py_DECREF(loop);
    return set;
}

/* A signal may raise in the middle of it. Calls in line would wait for ever if no timer were set then, so it is tried once
 * more; two timers do no harm. */
static int
try_again_later(bridge_object *self)
{
    if (self->will_try_again || set_timer(self)) {
        self->will_try_again = true;
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    keep_exception(self, (PyObject *)self);
    self->will_try_again = set_timer(self);
    return self->will_try_again ? 0 : -1;
}

static void
keep_call(wpy_place *place)
{
    Py_INCREF(call_at(place));
}

/* Nobody would come for those in line any more: they all fail with the exception that is set. */
static void
fail_lines(bridge_object *self)
{
    PyObject *exception = wpy_take_exception();
    wpy_place *place;
    while ((place = wpy_lines_any(&self->core->lines, keep_call)) != NULL) {
        call_object *call = call_at(place);
        if (wpy_lines_leave(place)) {
            wpy_raise(exception);
            fail_call(self, call);
        }
        Py_DECREF(call);
    }
    Py_DECREF(exception);
}

/* Those whose time is over or whose token was cancelled, wherever they stand. */
static void
fail_late(bridge_object *self)
{
    wpy_place *place;
    while ((place = wpy_lines_take_over(&self->core->lines, wp_clock())) != NULL) {
        bool stopped = place->token != NULL && wp_token_is_cancelled(place->token);
        if (stopped) {
            wpy_set_error(self->home, WP_STOPPED);
        } else {
            refuse_late(self, call_at(place));
        }
        fail_call(self, call_at(place));
    }
}

/* A call that was submitted or will not be: it leaves its line. */
static void
leave_line(bridge_object *self, call_object *call, int result)
{
    if (!wpy_lines_leave(&call->place)) {
        PyErr_Clear(); /* Somebody else has taken it out. */
    } else if (result < 0) {
        fail_call(self, call);
    } else {
        Py_CLEAR(call->gate_owner);
        Py_DECREF(call); /* The line's. */
    }
}

/* A call whose future was done behind our back. */
static void
drop_call(call_object *call)
{
    if (wpy_lines_leave(&call->place)) {
        call_untie(call);
        Py_DECREF(call); /* The line's. */
    }
}

/* Submits the first of a line; false if it has to wait. */
static bool
move_on(bridge_object *self, call_object *call)
{
    PyObject *future = hold_future(call);
    bool done = future == NULL || is_done(self, future);
    Py_XDECREF(future);
    wpy_task *task = done ? NULL : hold_task(call);
    if (task == NULL) {
        drop_call(call);
        return true;
    }
    const wpy_gate *gate = call->gate;
    bool is_open = !wpy_options_are_closed(&gate->options);
    int result = is_open ? (int)wp_pool_look_for_room(gate->core, gate->options.lane) : WP_CLOSED;
    result = result == WP_FULL ? WP_FULL : try_to_submit(self, call, task);
    if (result != WP_FULL) {
        leave_line(self, call, result);
    }
    wp_job_unref(&task->job);
    return result != WP_FULL;
}

static void
flush_line(bridge_object *self, const wpy_line *line)
{
    bool moves = true;
    wpy_place *place;
    while (moves && (place = wpy_line_first(&self->core->lines, line, keep_call)) != NULL) {
        call_object *call = call_at(place);
        moves = move_on(self, call);
        Py_DECREF(call);
    }
}

static void
flush(bridge_object *self)
{
    wpy_lines *lines = &self->core->lines;
    if (lines->all == NULL) {
        return;
    }
    wpy_lines_begin_sweep(lines);
    fail_late(self);
    for (const wpy_line *line = lines->all; line != NULL; line = line->next) {
        flush_line(self, line);
    }
    if (wpy_lines_wait(lines) && try_again_later(self) < 0) {
        fail_lines(self);
    }
    wpy_lines_end_sweep(lines);
}

/* From then on the line is tried again, so nothing may fail after this. */
static int
wait_in_line(bridge_object *self, call_object *call)
{
    const wpy_options *options = &call->gate->options;
    if (call->deadline != WP_FOREVER && wp_clock() >= call->deadline) {
        return refuse_late(self, call);
    }
    if (try_again_later(self) < 0) {
        return -1;
    }
    wp_token *token = options->token != NULL ? wpy_token_core(options->token) : NULL;
    Py_INCREF(call);
    enum wp_result joined =
        wpy_lines_join(&self->core->lines, &call->place, call->gate->core, options->lane, token, call->deadline);
    if (joined != WP_OK) {
        Py_DECREF(call);
        return wpy_set_error(self->home, joined);
    }
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

typedef struct visitor {
    visitproc visit;
    void *arg;
} visitor;

/* Calls that the bridge alone holds are its own to the cyclic collector: their futures refer to the loop, and that to the
 * bridge. A call that a job holds is not, so that futures of jobs under way, and their loops, stay. */
static int
visit_call(const call_object *call, const visitor *v)
{
    visitproc visit = v->visit;
    void *arg = v->arg;
    Py_VISIT(call->future);
    Py_VISIT(call->gate_owner);
    return call->task != NULL ? wpy_task_traverse(call->task, visit, arg) : 0;
}

static int
visit_place(wpy_place *place, void *context)
{
    return visit_call(call_at(place), context);
}

static int
visit_list(const call_object *first, const visitor *v)
{
    int result = 0;
    for (const call_object *call = first; call != NULL && result == 0; call = call->next) {
        result = visit_call(call, v);
    }
    return result;
}

static int
visit_calls(bridge_object *self, visitor *v)
{
    int result = visit_list(self->first, v);
    if (result == 0) {
        result = visit_list(wp_load_acquire(&self->core->arrived), v);
    }
    return result == 0 ? wpy_lines_visit(&self->core->lines, visit_place, v) : result;
}

static int
bridge_traverse(bridge_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->future_type);
    Py_VISIT(self->raised);
    visitor v = {visit, arg};
    return self->core != NULL ? visit_calls(self, &v) : 0;
}

/* What is not told yet, and what waits for room. */
static void
drop_calls(bridge_object *self)
{
    call_object *call;
    while ((call = next_to_tell(self)) != NULL) {
        call_untie(call);
        Py_DECREF(call);
    }
    wpy_place *place;
    while ((place = wpy_lines_any(&self->core->lines, keep_call)) != NULL) {
        drop_call(call_at(place));
        Py_DECREF(call_at(place));
    }
}

/* The loop is gone: calls that are still under way are delivered to nobody. */
static void
bridge_dealloc(bridge_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    if (self->core != NULL) {
        drop_calls(self);
        wp_exchange_acq_rel(&self->core->closed, 1);
        drop_arrived(self->core, self->home);
        core_unref(self->core);
    }
    Py_CLEAR(self->raised);
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

/* The loop's callback: the descriptor can be read. What it runs may close the loop, and with it let go of the bridge. */
static PyObject *
bridge_deliver(bridge_object *self, PyObject *Py_UNUSED(ignored))
{
    Py_INCREF(self);
    wpy_empty_trash(self->home);
    hush(self->core);
    deliver(self);
    flush(self);
    PyObject *result = return_to_loop(self);
    Py_DECREF(self);
    return result;
}

static PyObject *
bridge_flush(bridge_object *self, PyObject *Py_UNUSED(ignored))
{
    Py_INCREF(self);
    self->will_try_again = false;
    flush(self);
    PyObject *result = return_to_loop(self);
    Py_DECREF(self);
    return result;
}

static PyMethodDef bridge_methods[] = {
    {"fileno", (PyCFunction)(void (*)(void))bridge_fileno, METH_NOARGS, "What the loop is to watch for reading."},
    {"deliver", (PyCFunction)(void (*)(void))bridge_deliver, METH_NOARGS, "Set the results that have arrived."},
    {"_flush", (PyCFunction)(void (*)(void))bridge_flush, METH_NOARGS, NULL},
    WPY_REFUSE_PICKLE,
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
    call->place = (wpy_place){0};
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

/* 0, or -1 with an exception set, and the job not submitted or ended. */
static int
submit_call(bridge_object *bridge, const wpy_gate *gate, PyObject *owner, call_object *call)
{
    if (gate->options.on_full == WPY_BLOCK) {
        bool others_wait = wpy_lines_has(&bridge->core->lines, gate->core, gate->options.lane);
        int result = others_wait ? WP_FULL : try_to_submit(bridge, call, call->task);
        if (result == WP_FULL) {
            call->gate_owner = Py_NewRef(owner);
            return wait_in_line(bridge, call); /* If it fails the caller unties it. */
        }
        return result < 0 ? -1 : 0;
    }
    Py_INCREF(call); /* The task's. */
    int result = wpy_submit_task(bridge->home, gate->core, &gate->options, call->task);
    if (result < 0) {
        Py_DECREF(call);
    }
    return result != 0 ? -1 : 0; /* If it was interrupted the call is on the stack, and will be delivered to nobody. */
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
