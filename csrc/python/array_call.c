/* See array_call.h.
 *
 * UFUNCS. Their loops are for threads of Python's: one that fails takes the GIL by itself and leaves an exception in the
 * thread's state, and a thread that has none would lose it. So a worker makes itself a thread state before it takes part in
 * such a loop for the first time, and looks into it, detached, after each range. The loops of native functions need no
 * thread state.
 *
 * What the threads of the crew need lies in the task or is held by its operands, which are let go of by the last thread
 * to leave, before the end is told. An error is noted by the first thread that has one; the others stop at the end of
 * their range.
 */
#include "array_call.h"

#include "context.h"
#include "native_call.h"
#include "wait.h"

#include <errno.h>
#include <string.h>

/* How long the calling thread goes on before it looks whether Ctrl-C was pressed (ns). Looking means waiting for the GIL,
 * which another thread may hold for 5 ms. */
#define LOOK_NS UINT64_C(100000000)
/* How long an element of a ufunc is thought to take (ps) before it was measured. */
#define UFUNC_PACE 1000u

/* Where it went wrong first. */
typedef struct failure {
    wp_word noted; /* 1 once a thread has taken it for itself; the rest is that thread's until the end. */
    uint64_t begin;
    uint64_t end;
    uint64_t at; /* The element; `end` if only the range is known. */
    wp_loop_error error;
    PyObject *exception; /* Of a ufunc: a reference to what it raised, or NULL. */
    wp_word is_noted;    /* 1 once the exception has its note. */
} failure;

typedef struct array_call {
    wpy_task task;
    wp_crew crew;
    enum wpy_array_kind kind;
    wpy_home *home;
    wpy_function *function; /* A reference; NULL for a ufunc. */
    PyObject *name;         /* A reference. */
    char name_text[80];     /* What fits of the name in UTF-8: for reports by threads that are not attached. */
    PyObject *result;       /* A reference. */
    wpy_operands *operands; /* NULL once they were let go of: */
    wp_word is_held;        /* then 0. */
    wpy_releaser releaser;  /* Of operands. */
    wpy_trash trash;        /* To release them, with a reference to the job. */
    bool runs_here;         /* The thread that began it waits for it, and lets go of everything itself. */
    uint64_t begin;
    wp_loop loop; /* Of elements. */
    wp_grid grid; /* Of elements and ufuncs. */
    wpy_strided_loop *strided;
    void *context;
    void *auxdata;
    wpy_shape shape;                /* Of elements and ufuncs, as they are visited: the last dimension runs fastest; */
    size_t order[WP_GRID_MAX_DIMS]; /* and the place of each dimension in the result. */
    uint64_t slots[WP_SIGNATURE_MAX_PARAMS]; /* Of a kernel: its arguments; the first two are set for each range. */
    failure failure;
    wp_notes_slot notes;
} array_call;

static array_call *
call_of(const wp_job *job)
{
    return (array_call *)(uintptr_t)job;
}

static wp_notes_slot *
notes(wp_job *job)
{
    return &call_of(job)->notes;
}

/* ---- Doing a range: any thread ---- */

/* What goes with a row: the walk knows nothing of it. */
typedef struct row_context {
    const array_call *call;
    wp_loop_error error;
} row_context;

static size_t
do_row_of_elements(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count)
{
    row_context *row = context;
    return wp_loop_run(&row->call->loop, pointers, strides, count, &row->error);
}

/* The loop is given arrays of its own, since older ones may write to them. */
static size_t
do_row_of_ufunc(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count)
{
    const array_call *call = ((const row_context *)context)->call;
    const Py_ssize_t n = (Py_ssize_t)count;
    char *data[WP_GRID_MAX_OPERANDS];
    Py_ssize_t steps[WP_GRID_MAX_OPERANDS];
    for (size_t i = 0; i < call->grid.n_operands; i++) {
        data[i] = pointers[i];
        steps[i] = strides[i];
    }
    return call->strided(call->context, data, &n, steps, call->auxdata) == 0 ? count : 0;
}

/* Whether this failure is the first, and so the one that is told. */
static bool
note_failure(array_call *call, uint64_t begin, uint64_t end, uint64_t at, wp_loop_error error)
{
    uint32_t expected = 0;
    if (!wp_cas_acq_rel(&call->failure.noted, &expected, 1)) {
        return false;
    }
    call->failure.begin = begin;
    call->failure.end = end;
    call->failure.at = at;
    call->failure.error = error;
    return true;
}

static bool
do_elements(array_call *call, uint64_t begin, uint64_t end)
{
    row_context row = {.call = call, .error = {.error_number = 0}};
    uint64_t done = wp_grid_walk(&call->grid, begin, end, do_row_of_elements, &row);
    if (done < end - begin) {
        note_failure(call, begin, end, begin + done, row.error);
    }
    return done == end - begin;
}

/* Takes the exception that a loop has left in this thread's state. */
static void
take_exception(array_call *call, bool is_first)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *exception = wpy_take_exception();
    if (is_first) {
        call->failure.exception = exception;
    } else {
        Py_XDECREF(exception);
    }
    PyGILState_Release(state);
}

/* Most loops say by an exception alone that they failed. */
static bool
do_ufunc(array_call *call, uint64_t begin, uint64_t end)
{
    row_context row = {.call = call, .error = {.error_number = 0}};
    uint64_t done = wp_grid_walk(&call->grid, begin, end, do_row_of_ufunc, &row);
    const PyThreadState *state = PyGILState_GetThisThreadState();
    bool has_raised = state != NULL && wpy_has_exception(state);
    if (done == end - begin && !has_raised) {
        return true;
    }
    bool is_first = note_failure(call, begin, end, end, row.error);
    if (has_raised) {
        take_exception(call, is_first);
    }
    return false;
}

/* A kernel's result says whether it failed: not 0, if nothing else was declared. */
static bool
is_failure(const wpy_function *function, uint64_t result)
{
    return function->raises == WPY_RAISES_NEVER ? result != 0 : wpy_is_error(function, result);
}

static bool
do_kernel(array_call *call, uint64_t begin, uint64_t end)
{
    const wpy_function *function = call->function;
    uint64_t slots[WP_SIGNATURE_MAX_PARAMS];
    uint64_t result;
    memcpy(slots, call->slots, function->signature->n_params * sizeof *slots);
    slots[0] = begin;
    slots[1] = end;
    errno = 0;
    wp_call_invoke(&function->call, function->address, slots, &result, 1);
    if (is_failure(function, result)) {
        note_failure(call, begin, end, end, (wp_loop_error){.result = result, .error_number = errno});
        return false;
    }
    return true;
}

static bool
do_range(array_call *call, uint64_t begin, uint64_t end)
{
    switch (call->kind) {
    case WPY_KERNEL:
        return do_kernel(call, call->begin + begin, call->begin + end);
    case WPY_UFUNC:
        return do_ufunc(call, begin, end);
    default:
        return do_elements(call, begin, end);
    }
}

/* A function that was handed the job may have said that it failed, and returned as if it had not: perhaps on another
 * thread, so this is not noted as the place. */
static bool
do_part(wp_job *job, uint64_t begin, uint64_t end)
{
    return do_range(call_of(job), begin, end) && wp_job_noted_failure(job) == NULL;
}

/* Without memory for a thread state the worker takes part all the same; it could only lose what an error says. */
static void
join(wp_job *job, wp_worker *self)
{
    const array_call *call = call_of(job);
    if (call->kind == WPY_UFUNC && *wp_worker_local(self) == NULL && wpy_attach(call->home, self)) {
        wpy_detach();
    }
}

/* ---- The end ---- */

/* What a call of the function takes was measured on the way. */
static void
note_pace(array_call *call)
{
    uint64_t picoseconds = wp_load_relaxed(&call->crew.pace);
    if (call->kind == WPY_ELEMENTS && picoseconds > 0) {
        wp_pace_note(&call->function->pace, (picoseconds + 999) / 1000, 1);
    }
}

static void
release_operands(wpy_task *task)
{
    array_call *call = call_of(&task->job);
    while (wp_load_acquire(&call->is_held) && wpy_begin_release(&call->releaser)) {
        if (wp_load_acquire(&call->is_held)) {
            wpy_operands *operands = call->operands;
            call->operands = NULL;
            wpy_operands_free(operands);
            wp_store_release(&call->is_held, 0);
        }
        wpy_end_release(&call->releaser);
    }
}

static void
release_trash(wpy_trash *trash)
{
    array_call *call = (array_call *)(void *)((char *)trash - offsetof(array_call, trash));
    release_operands(&call->task);
    wp_job_unref(&call->task.job);
}

/* Leaves the operands to whoever sees the end first, or to the next attached thread that comes by. One that runs on the
 * calling thread sees to them itself. */
static void
leave_operands(wp_job *job)
{
    array_call *call = call_of(job);
    if (!call->runs_here && wp_load_relaxed(&call->is_held)) {
        wp_job_ref(job);
        call->trash.release = release_trash;
        wpy_leave_trash(call->home, &call->trash, job->pool);
    }
}

static void
end_call(wp_job *job, wp_state outcome)
{
    (void)outcome;
    note_pace(call_of(job));
    leave_operands(job);
}

static const wp_crew_class crew_class = {.join = join, .part = do_part, .end = end_call};

static wp_state
run(wp_job *job, wp_worker *self)
{
    return wp_crew_run(&call_of(job)->crew, self);
}

/* A worker waits for the job: it might be the only one. */
static void
help(wp_job *job)
{
    wp_job_run_here(job);
    wp_crew_help(&call_of(job)->crew);
}

static PyObject *
result(wpy_task *task)
{
    return Py_NewRef(call_of(&task->job)->result);
}

/* ---- Errors ---- */

/* The element's place: its number, or its index in several dimensions. */
static PyObject *
place_of(const array_call *call, uint64_t number)
{
    wpy_shape index = {.n_dims = call->shape.n_dims};
    if (index.n_dims == 1) {
        return PyUnicode_FromFormat("%llu", (unsigned long long)number);
    }
    for (size_t d = index.n_dims; d-- > 0;) {
        index.lengths[call->order[d]] = (size_t)(number % call->shape.lengths[d]);
        number /= call->shape.lengths[d];
    }
    PyObject *tuple = wpy_shape_tuple(&index, NULL);
    PyObject *text = tuple != NULL ? PyObject_Repr(tuple) : NULL;
    Py_XDECREF(tuple);
    return text;
}

/* " for element 7 (elements 0:64)", or " for elements 0:64". */
static PyObject *
text_of_failure(const array_call *call)
{
    const failure *f = &call->failure;
    PyObject *range =
        PyUnicode_FromFormat("elements %llu:%llu", (unsigned long long)f->begin, (unsigned long long)f->end);
    PyObject *place = f->at < f->end && range != NULL ? place_of(call, f->at) : NULL;
    if (place == NULL || range == NULL) {
        return range;
    }
    PyObject *text = PyUnicode_FromFormat("element %U (%U)", place, range);
    Py_DECREF(place);
    Py_DECREF(range);
    return text;
}

static int
set_attribute(PyObject *object, const char *name, PyObject *value)
{
    int status = value != NULL ? PyObject_SetAttrString(object, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

static PyObject *
ufunc_error(const array_call *call)
{
    PyObject *text = PyUnicode_FromFormat("the loop of %U failed", call->name);
    PyObject *error = text != NULL ? PyObject_CallOneArg(call->home->native_error, text) : NULL;
    Py_XDECREF(text);
    if (error != NULL && (set_attribute(error, "code", PyLong_FromLong(-1)) < 0 ||
                          set_attribute(error, "errno", PyLong_FromLong(0)) < 0 ||
                          set_attribute(error, "function", Py_NewRef(call->name)) < 0)) {
        Py_CLEAR(error);
    }
    return error;
}

/* What a ufunc has raised is raised as it is, with a note; the note is added when it is first asked for. */
static PyObject *
exception_of_ufunc(array_call *call)
{
    PyObject *error = call->failure.exception;
    bool is_noted = wp_exchange_acq_rel(&call->failure.is_noted, 1) != 0;
    PyObject *place = is_noted ? NULL : text_of_failure(call);
    PyObject *note = place != NULL ? PyUnicode_FromFormat("in the loop of %U(), for %U", call->name, place) : NULL;
    PyObject *noted = note != NULL ? PyObject_CallMethod(error, "add_note", "O", note) : NULL;
    PyErr_Clear();
    Py_XDECREF(noted);
    Py_XDECREF(note);
    Py_XDECREF(place);
    return Py_NewRef(error);
}

static int
add_elements(PyObject *error, const array_call *call)
{
    const failure *f = &call->failure;
    PyObject *before = PyObject_Str(error);
    PyObject *place = text_of_failure(call);
    PyObject *text = before != NULL && place != NULL ? PyUnicode_FromFormat("%U for %U", before, place) : NULL;
    Py_XDECREF(before);
    Py_XDECREF(place);
    int status = set_attribute(error, "args", text != NULL ? Py_BuildValue("(N)", text) : NULL);
    PyObject *range = PyObject_CallFunction((PyObject *)&PyRange_Type, "KK", (unsigned long long)f->begin,
                                            (unsigned long long)f->end);
    return set_attribute(error, "elements", range) < 0 ? -1 : status;
}

static PyObject *
exception(wpy_task *task)
{
    array_call *call = call_of(&task->job);
    const wp_loop_error *found = &call->failure.error;
    if (call->failure.exception != NULL) {
        return exception_of_ufunc(call);
    }
    PyObject *error = call->function != NULL
                          ? wpy_native_failure(call->function, found->result, found->error_number, &task->job)
                          : ufunc_error(call);
    bool has_place = wp_load_acquire(&call->failure.noted) != 0;
    if (error != NULL && has_place && add_elements(error, call) < 0) {
        Py_CLEAR(error);
    }
    return error;
}

/* ---- The class ---- */

/* Lets go of every object and of the function. Attached. */
static void
let_go(array_call *call)
{
    release_operands(&call->task);
    Py_CLEAR(call->result);
    Py_CLEAR(call->failure.exception);
    Py_CLEAR(call->name);
    if (call->function != NULL) {
        wpy_function_unref(call->function);
        call->function = NULL;
    }
}

static void
free_call(wpy_task *task)
{
    array_call *call = call_of(&task->job);
    wp_notes_free(&call->notes);
    wpy_extra_clear(wpy_extra_of(&task->job));
    let_go(call);
    PyMem_RawFree(call);
}

/* One that has let go of everything need not wait for an attached thread: a hand may be the last to hold it. */
static void
destroy(wp_job *job)
{
    array_call *call = call_of(job);
    if (call->name == NULL && job->extra == NULL && wp_load_relaxed(&call->task.watchers) == NULL) {
        wp_notes_free(&call->notes);
        PyMem_RawFree(call);
    } else {
        wpy_task_destroy(job);
    }
}

static void
describe(const wp_job *job, char *text, size_t size)
{
    const array_call *call = (const array_call *)(const void *)job;
    char what[128];
    PyOS_snprintf(what, sizeof what, "a loop of %.80s over %llu elements", call->name_text,
                  (unsigned long long)call->crew.n);
    wpy_describe(job, what, text, size);
}

static const wpy_task_class array_class = {
    .core =
        {
            .api = &wp_view_api,
            .name = "loop over arrays",
            .run = run,
            .withdrawn = leave_operands,
            .leave = wpy_leave_native,
            .notify = wpy_task_notify,
            .destroy = destroy,
            .describe = describe,
            .notes = notes,
            .claim_ns = 20000,
            .by_many = true,
        },
    .result = result,
    .exception = exception,
    .help = help,
    .free = free_call,
    .let_go = release_operands,
    .is_native = true,
};

/* ---- Making one ---- */

static wp_loop_check
check_of(const wpy_function *function)
{
    return function->raises == WPY_RAISES_NONZERO    ? WP_LOOP_NONZERO
           : function->raises == WPY_RAISES_NEGATIVE ? WP_LOOP_NEGATIVE
                                                     : WP_LOOP_UNCHECKED;
}

/* A parameter of type wp_job * gets the job that all threads work at. */
static void
hand_over_job(array_call *call)
{
    const wp_signature *signature = call->function->signature;
    for (size_t i = 0; i < signature->n_params; i++) {
        if (signature->params[i].type == WP_TYPE_JOB) {
            wpy_operand_set_value(&call->operands->list[i], WP_TYPE_JOB, (uint64_t)(uintptr_t)call);
        }
    }
}

/* The operands of a kernel are its parameters from the third on: the address of each buffer, or the value. */
static void
fill_slots(array_call *call)
{
    const wp_signature *signature = call->function->signature;
    for (size_t i = 2; i < signature->n_params; i++) {
        const wpy_operand *operand = &call->operands->list[i];
        call->slots[i] = operand->has_view ? (uint64_t)(uintptr_t)operand->base
                                           : wp_loop_load(signature->params[i].type, operand->base);
    }
}

/* The arrays of a kernel are blocks of memory, whatever their shape. It may look at any element before the last, so
 * where they overlap is asked for all of those, also if the range begins later. */
static void
fill_kernel_grid(array_call *call, const wpy_array_plan *plan)
{
    call->grid.shape[0] = (size_t)plan->begin + plan->shape.lengths[0];
    for (size_t i = 0; i < call->operands->n; i++) {
        const wpy_operand *operand = &call->operands->list[i];
        call->grid.bases[i] = operand->base;
        call->grid.strides[i] = operand->has_view ? (ptrdiff_t)operand->size : 0;
    }
    wp_grid_count(&call->grid);
}

/* The dimensions of the grid in the order in which they are visited: for messages. */
static void
sort_grid(array_call *call)
{
    wp_grid_sort(&call->grid, call->order);
    call->shape.n_dims = call->grid.n_dims;
    memcpy(call->shape.lengths, call->grid.shape, call->grid.n_dims * sizeof *call->grid.shape);
    wp_grid_merge(&call->grid);
}

static int
prepare(array_call *call, const wpy_array_plan *plan)
{
    if (call->kind != WPY_UFUNC) {
        hand_over_job(call);
    }
    if (call->kind == WPY_KERNEL) {
        fill_kernel_grid(call, plan);
        fill_slots(call);
    } else if (wpy_operands_fill_grid(call->operands, &plan->shape, &call->grid) < 0) {
        return -1;
    }
    if (wpy_operands_check_memory(call->operands, &call->grid) < 0) {
        return -1;
    }
    sort_grid(call);
    if (call->kind == WPY_ELEMENTS) {
        const wpy_function *function = call->function;
        wp_loop_prepare(&call->loop, function->signature, &function->call, function->address, check_of(function));
    }
    return 0;
}

/* What an element is thought to take, in picoseconds; 0 where nobody knows. */
static uint64_t
expected_pace(const array_call *call)
{
    if (call->kind == WPY_UFUNC) {
        return UFUNC_PACE;
    }
    return call->kind == WPY_ELEMENTS ? (uint64_t)wp_pace_mean(&call->function->pace) * 1000 : 0;
}

static void
copy_name(array_call *call)
{
    const char *text = PyUnicode_AsUTF8(call->name);
    PyOS_snprintf(call->name_text, sizeof call->name_text, "%s", text != NULL ? text : "a function");
    PyErr_Clear();
}

wpy_task *
wpy_array_call_new(wpy_home *home, const wpy_options *options, wpy_array_plan *plan)
{
    size_t grid_at = wpy_rounded(sizeof(array_call));
    size_t extra_at = wpy_rounded(grid_at + wp_grid_size(plan->shape.n_dims, plan->operands->n));
    bool with_extra = wpy_options_need_extra(options);
    array_call *call = PyMem_RawCalloc(1, extra_at + (with_extra ? sizeof(wpy_extra) : 0));
    if (call == NULL) {
        wpy_operands_free(plan->operands);
        Py_XDECREF(plan->result);
        PyErr_NoMemory();
        return NULL;
    }
    call->kind = plan->kind;
    call->home = home;
    call->function = plan->function;
    if (plan->function != NULL) {
        wpy_function_ref(plan->function);
    }
    call->name = Py_NewRef(plan->operands->name);
    copy_name(call);
    call->result = plan->result;
    call->operands = plan->operands;
    wp_store_relaxed(&call->is_held, 1);
    call->begin = plan->begin;
    call->strided = plan->strided;
    call->context = plan->context;
    call->auxdata = plan->auxdata;
    wp_grid_init(&call->grid, (char *)call + grid_at, plan->shape.n_dims, plan->operands->n);
    wpy_extra *extra = with_extra ? (wpy_extra *)(void *)((char *)call + extra_at) : NULL;
    wpy_task_init(&call->task, home, &array_class, 0, wpy_options_fill_extra(options, extra, NULL, 0));
    if (prepare(call, plan) < 0) {
        wp_job_unref(&call->task.job);
        return NULL;
    }
    uint64_t n = call->kind == WPY_KERNEL ? plan->shape.lengths[0] : call->grid.n;
    wp_crew_init(&call->crew, &call->task.job, &crew_class, n, plan->grain);
    wp_crew_expect(&call->crew, expected_pace(call), call->kind != WPY_UFUNC);
    return &call->task;
}

/* ---- Running one on the calling thread ---- */

/* Takes part until nothing is left to do, then leaves the crew. 0, or -1 with the exception of a signal's handler. */
static int
take_part(array_call *call)
{
    int status = 0;
    bool more = true;
    while (more) {
        Py_BEGIN_ALLOW_THREADS
        more = wp_crew_work(&call->crew, NULL, wp_clock() + LOOK_NS);
        if (!more) {
            wp_crew_leave(&call->crew);
        }
        Py_END_ALLOW_THREADS
        if (more && PyErr_CheckSignals() < 0) {
            wp_job_ask_to_stop(&call->task.job); /* Then nothing more is claimed. */
            status = -1;
            break;
        }
    }
    if (more) {
        Py_BEGIN_ALLOW_THREADS
        wp_crew_leave(&call->crew);
        Py_END_ALLOW_THREADS
    }
    return status;
}

/* Waits for the other threads' last ranges: they write to arrays that the caller may use again after this. Ctrl-C stops
 * the job; a second time, it also ends the wait. */
static int
wait_for_others(array_call *call, int status)
{
    wp_job *job = &call->task.job;
    PyObject *first = status < 0 ? wpy_take_exception() : NULL;
    while (wpy_wait_for_job(job, WP_FOREVER) < 0) {
        wp_job_ask_to_stop(job);
        if (first != NULL) {
            Py_DECREF(first);
            return -1;
        }
        first = wpy_take_exception();
    }
    if (first != NULL) {
        wpy_raise(first);
        Py_DECREF(first);
        return -1;
    }
    return 0;
}

/* Replaces the exception by itself with a note of how far the loop came. */
static void
note_progress(array_call *call)
{
    uint64_t claimed = wp_crew_claimed(&call->crew);
    if (claimed == call->crew.n) {
        return;
    }
    PyObject *error = wpy_take_exception();
    PyObject *note = PyUnicode_FromFormat(
        "%U() was stopped: of the elements %llu:%llu, those from %llu on were not begun", call->name,
        (unsigned long long)call->begin, (unsigned long long)(call->begin + call->crew.n),
        (unsigned long long)(call->begin + claimed));
    PyObject *noted = note != NULL ? PyObject_CallMethod(error, "add_note", "O", note) : NULL;
    PyErr_Clear();
    Py_XDECREF(noted);
    Py_XDECREF(note);
    wpy_raise(error);
    Py_DECREF(error);
}

/* The result of a loop that has ended. */
static PyObject *
take_result(array_call *call)
{
    PyObject *value = wpy_task_result(&call->task);
    if (value == NULL && wp_job_state(&call->task.job) != WP_FAILED) {
        note_progress(call);
    }
    return value;
}

PyObject *
wpy_array_call_run(wpy_task *task, wp_pool *pool, unsigned lane)
{
    array_call *call = call_of(&task->job);
    PyObject *value = NULL;
    call->runs_here = true;
    enum wp_result begun = wp_crew_start(&call->crew, pool, lane);
    if (begun != WP_OK) {
        wpy_set_error(call->home, begun);
        wp_job_unref(&task->job);
        return NULL;
    }
    if (wait_for_others(call, take_part(call)) == 0) {
        value = take_result(call);
    } else {
        note_progress(call);
    }
    if (wp_job_is_settled(&task->job)) {
        PyObject *error = value == NULL ? wpy_take_exception() : NULL;
        let_go(call);
        if (error != NULL) {
            wpy_raise(error);
            Py_DECREF(error);
        }
    }
    wp_job_unref(&task->job);
    return value;
}
