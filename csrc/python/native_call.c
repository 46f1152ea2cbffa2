/* See native_call.h.
 *
 * The arguments are converted to slots at submit; the call runs detached and leaves its result in a slot; the result
 * becomes an object when somebody asks for it. Buffers are held until the call is over. The worker that made it is not
 * attached, so they are released by whoever sees the end first (let_go), or by the next attached thread that comes by.
 */
#include "native_call.h"

#include "context.h"
#include "convert.h"

#include <stddef.h>
#include <string.h>

/* A function whose calls take less than this (ns) on average may be run by the thread that waits for it: handing over to
 * a worker and back costs 8 to 40 us, and Ctrl-C stays prompt. */
#define SHORT_NS 50000u

typedef struct native_call {
    wpy_task task;
    wpy_function *function; /* A reference. */
    uint64_t result;
    int error_number;
    uint64_t
        slots[]; /* n_params of them; then as many wpy_hold if the function has pointers, and the custody of them; then
                         the slot of its notes if it is handed the job; then an extra, if any. */
} native_call;

static native_call *
call_of(const wpy_task *task)
{
    return (native_call *)(uintptr_t)task;
}

/* Behind the holds of a function that has pointers: how what they hold is let go of, once the call is over or will not be
 * made. The future may live on without it. */
typedef struct custody {
    wpy_trash trash; /* With a reference to the job. */
    native_call *call;
    wpy_releaser releaser;
    wp_word is_held; /* 0 once everything was released, or if there is nothing. */
} custody;

static wpy_hold *
holds_of(native_call *call)
{
    return (wpy_hold *)(void *)(call->slots + call->function->signature->n_params);
}

static size_t
holds_size(const wpy_function *function)
{
    return function->has_pointers ? function->signature->n_params * sizeof(wpy_hold) + sizeof(custody) : 0;
}

/* Only a function that is handed its job can say anything about it. */
static wp_notes_slot *
notes(wp_job *job)
{
    native_call *call = call_of(wpy_task_of(job));
    return call->function->has_job ? (void *)((char *)holds_of(call) + holds_size(call->function)) : NULL;
}

bool
wpy_function_is_short(const wpy_function *function)
{
    return wp_pace_is_below(&function->pace, SHORT_NS);
}

bool
wpy_native_call_is_short(const wpy_task *task)
{
    return wpy_function_is_short(call_of(task)->function);
}

static custody *
custody_of(native_call *call)
{
    return (void *)(holds_of(call) + call->function->signature->n_params);
}

static void
release_holds(native_call *call)
{
    for (size_t i = 0; i < call->function->signature->n_params; i++) {
        wpy_hold_release(&holds_of(call)[i]);
    }
}

static void
let_go(wpy_task *task)
{
    native_call *call = call_of(task);
    custody *c = call->function->has_pointers ? custody_of(call) : NULL;
    while (c != NULL && wp_load_acquire(&c->is_held) && wpy_begin_release(&c->releaser)) {
        if (wp_load_acquire(&c->is_held)) {
            release_holds(call);
            wp_store_release(&c->is_held, 0);
        }
        wpy_end_release(&c->releaser);
    }
}

static void
release_custody(wpy_trash *trash)
{
    custody *c = (custody *)(void *)trash;
    native_call *call = c->call;
    let_go(&call->task);
    wp_job_unref(&call->task.job);
}

/* Leaves the buffers to the first attached thread that comes by. */
static void
leave_holds(wp_job *job)
{
    native_call *call = call_of(wpy_task_of(job));
    custody *c = call->function->has_pointers ? custody_of(call) : NULL;
    if (c != NULL && wp_load_relaxed(&c->is_held)) {
        wp_job_ref(job);
        c->trash.release = release_custody;
        wpy_leave_trash(call->task.home, &c->trash, job->pool);
    }
}

static void
init_custody(native_call *call)
{
    custody *c = custody_of(call);
    bool is_held = false;
    for (size_t i = 0; i < call->function->signature->n_params; i++) {
        is_held = is_held || holds_of(call)[i].object_or_buffer != 0;
    }
    c->call = call;
    wp_store_relaxed(&c->releaser, 0);
    wp_store_relaxed(&c->is_held, is_held);
}

/* Whether this call is one of those by which the function's pace is measured: all while it is unknown or slow, else a
 * sample, because reading the clock takes longer than many functions. */
static bool
is_measured(const wpy_function *function)
{
    static _Thread_local unsigned calls;
    return !wp_pace_is_below(&function->pace, WP_ALWAYS_MEASURED_NS) || ++calls % 16 == 0;
}

static wp_state
run(wp_job *job, wp_worker *self)
{
    (void)self;
    native_call *call = call_of(wpy_task_of(job));
    wpy_function *function = call->function;
    uint64_t begin = is_measured(function) ? wp_clock() : 0;
    wpy_function_invoke(function, call->slots, &call->result, 1, &call->error_number);
    if (begin != 0) {
        wp_pace_note(&function->pace, wp_clock() - begin, 1);
    }
    leave_holds(job);
    return wpy_native_outcome(function, call->result, job);
}

static PyObject *
result(wpy_task *task)
{
    const native_call *call = call_of(task);
    return wpy_convert_result(call->function, call->result);
}

static PyObject *
exception(wpy_task *task)
{
    const native_call *call = call_of(task);
    return wpy_native_failure(call->function, call->result, call->error_number, &task->job);
}

static void
free_call(wpy_task *task)
{
    native_call *call = call_of(task);
    wpy_function *function = call->function;
    if (function->has_pointers) {
        release_holds(call);
    }
    if (function->has_job) {
        wp_notes_free(notes(&task->job));
    }
    wpy_extra_clear(wpy_extra_of(&task->job));
    wpy_function_unref(function);
    PyMem_Free(call);
}

static void
describe(const wp_job *job, char *text, size_t size)
{
    const native_call *call = (const native_call *)(const void *)job;
    char what[128];
    PyOS_snprintf(what, sizeof what, "the native function %.100s", call->function->name_text);
    wpy_describe(job, what, text, size);
}

static const wpy_task_class native_class = {
    .core =
        {
            .api = &wp_view_api,
            .name = "native function",
            .run = run,
            .withdrawn = leave_holds,
            .leave = wpy_leave_native,
            .notify = wpy_task_notify,
            .destroy = wpy_task_destroy,
            .describe = describe,
            .notes = notes,
            .claim_ns = 20000,
            .spread_ns = 2000,
        },
    .result = result,
    .exception = exception,
    .free = free_call,
    .let_go = let_go,
    .is_native = true,
};

wpy_task *
wpy_native_call_new(wpy_home *home, const wpy_options *options, wpy_function *function, PyObject *const *args,
                    Py_ssize_t nargs, wp_results *results, uint64_t index)
{
    size_t n = function->signature->n_params;
    size_t notes_size = function->has_job ? sizeof(wp_notes_slot) : 0;
    size_t extra_at = wpy_rounded(sizeof(native_call) + n * sizeof(uint64_t) + holds_size(function) + notes_size);
    bool with_extra = results != NULL || wpy_options_need_extra(options);
    native_call *call = PyMem_Malloc(extra_at + (with_extra ? sizeof(wpy_extra) : 0));
    if (call == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    call->function = function;
    wpy_hold unused[WP_SIGNATURE_MAX_PARAMS];
    wpy_hold *holds = function->has_pointers ? holds_of(call) : unused;
    if (wpy_convert_row(function, args, nargs, call, call->slots, holds) < 0) {
        PyMem_Free(call);
        return NULL;
    }
    if (function->has_pointers) {
        init_custody(call);
    }
    wpy_function_ref(function);
    call->result = 0;
    call->error_number = 0;
    wpy_extra *extra = with_extra ? (wpy_extra *)(void *)((char *)call + extra_at) : NULL;
    wpy_task_init(&call->task, home, &native_class, results != NULL ? WP_JOB_TIMED : 0,
                  wpy_options_fill_extra(options, extra, results, index));
    if (function->has_job) {
        wp_notes_init(notes(&call->task.job));
    }
    return &call->task;
}
