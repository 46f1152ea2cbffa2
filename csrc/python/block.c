/* See block.h. */
#include "block.h"

#include "context.h"
#include "convert.h"
#include "native_call.h"
#include "python_call.h"
#include "task.h"
#include "variables.h"

#include <stddef.h>
#include <string.h>

/* A range of native calls takes its units, and looks whether it is wanted elsewhere, after so many: one by one if
 * they take longer than a microsecond, else for a few microseconds' worth. Calls of Python are taken one by one:
 * each may wait for another, and nobody else can begin those that were taken with it. */
#define LONG_UNIT_NS 1000u
#define NATIVE_STEP 64u

static uint32_t
step_of(const wpy_block *block)
{
    return wp_pace_is_below(block->range.group->pace, LONG_UNIT_NS) ? NATIVE_STEP : 1;
}

/* The first steps are small: units that turn out long hide few others. */
static uint32_t
step_after(uint32_t done, uint32_t most)
{
    uint32_t step = done > 0 ? done : 1;
    return step < most ? step : most;
}

static wpy_block *
block_of(wp_job *job)
{
    return (wpy_block *)(void *)job;
}

/* Release: the result comes before the status that lets the consumer read it. */
static void
unit_ended(wpy_block *block, uint32_t unit, enum wpy_unit status)
{
    wp_store_release(&block->status[unit], (unsigned char)status);
    if (block->order != NULL) {
        uint32_t at = wp_add_relaxed(&block->n_ordered, 1);
        wp_store_release(&block->order[at], unit + 1);
    }
}

/* ---- Native units ---- */

/* Calls units until one has failed, or `end`; returns where it stands. */
static uint32_t
call_units(wpy_block *block, uint32_t begin, uint32_t end)
{
    int error_number = 0;
    uint32_t count = end - begin;
    uint32_t made = (uint32_t)wpy_function_invoke(block->function, block->slots + (size_t)begin * block->width,
                                                  block->results + begin, count, &error_number);
    for (uint32_t unit = begin; unit < begin + made; unit++) {
        bool failed = unit + 1 == begin + made && wpy_is_error(block->function, block->results[unit]);
        if (failed) {
            block->errors[unit] = error_number;
        }
        unit_ended(block, unit, failed ? WPY_UNIT_FAILED : WPY_UNIT_DONE);
    }
    return begin + made;
}

static uint32_t
run_native_units(wp_job *job, wp_stretch *units, wp_worker *self)
{
    wpy_block *block = block_of(job);
    uint64_t start = self == NULL ? wp_clock() : 0;
    uint32_t most = step_of(block);
    uint32_t done = 0;
    uint32_t at;
    uint32_t end;
    while (wp_stretch_take(units, step_after(done, most), &at, &end)) {
        done += end - at;
        while (at < end) {
            at = call_units(block, at, end);
        }
        if (wp_worker_is_wanted(self) || wp_has_helped_enough(self, start)) {
            break;
        }
    }
    return done;
}

static wp_state
run_native_alone(wp_job *job, wp_worker *self)
{
    wpy_block *block = block_of(job);
    (void)self;
    uint64_t begin = wp_clock();
    call_units(block, 0, 1);
    wp_pace_note(block->range.group->pace, wp_clock() - begin, 1);
    return wpy_native_outcome(block->function, block->results[0], job);
}

static wp_notes_slot *
notes(wp_job *job)
{
    return &block_of(job)->notes;
}

/* ---- Python units ---- */

static inline void
drop_arguments(PyObject **arguments, uint32_t width)
{
    for (PyObject **end = arguments + width; arguments < end; arguments++) {
        Py_CLEAR(*arguments);
    }
}

static void
call_unit(wpy_block *block, vectorcallfunc function, uint32_t unit)
{
    PyObject **arguments = block->arguments + (size_t)unit * block->width;
    PyObject *value = function(block->callable, arguments, block->width, NULL);
    block->values[unit] = value != NULL ? value : wpy_take_exception();
    drop_arguments(arguments, block->width); /* Now, and not with the block: they may be large. */
    unit_ended(block, unit, value != NULL ? WPY_UNIT_DONE : WPY_UNIT_FAILED);
}

static void
fail_unit(wpy_block *block, PyObject *error, uint32_t unit)
{
    block->values[unit] = Py_NewRef(error);
    drop_arguments(block->arguments + (size_t)unit * block->width, block->width);
    unit_ended(block, unit, WPY_UNIT_FAILED);
}

/* A worker's turn at the units of a block. */
typedef struct python_turn {
    wpy_block *block;
    wp_stretch *units;
    wp_worker *self;
    vectorcallfunc function;
    PyObject *entered;     /* The context that the units run in, see variables.h. */
    wpy_template template; /* What it is to each of them. */
    PyObject *error;       /* What the other units fail with, or NULL. */
    uint32_t done;
    bool began;
} python_turn;

static void
run_unit(python_turn *turn, uint32_t unit)
{
    if (turn->error != NULL) {
        fail_unit(turn->block, turn->error, unit);
        return;
    }
    call_unit(turn->block, turn->function, unit);
    if (wpy_template_restore(&turn->template, turn->block->home, &turn->entered) < 0) {
        turn->error = wpy_take_exception();
    }
}

static void
run_turn(python_turn *turn)
{
    wp_stretch *units = turn->units;
    const wp_worker *self = turn->self;
    uint32_t done = 0;
    uint32_t unit;
    uint32_t end;
    turn->began = true;
    while (wp_stretch_take(units, 1, &unit, &end)) {
        done++;
        run_unit(turn, unit);
        if (wp_worker_is_wanted(self)) {
            break;
        }
    }
    turn->done = done;
}

/* For the moment from when it is set until the function below takes it. */
static _Thread_local python_turn *turn_to_run;

static PyObject *
run_units(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    python_turn *turn = turn_to_run;
    turn_to_run = NULL;
    if (turn != NULL) {
        run_turn(turn);
    }
    Py_RETURN_NONE;
}

static PyMethodDef run_units_def = {"run_units", run_units, METH_NOARGS, NULL};

PyObject *
wpy_run_units_new(void)
{
    return PyCFunction_New(&run_units_def, NULL);
}

/* With a function of Python's as the caller of all of them, as a single call has one, see python_call.c. What that function
 * raises by itself, because of a trace function for example, belongs to none of them. */
static void
run_turn_within(python_turn *turn)
{
    wpy_home *home = turn->block->home;
    if (home->call_within != NULL && home->run_units != NULL) {
        turn_to_run = turn;
        PyObject *nothing = PyObject_CallOneArg(home->call_within, home->run_units);
        turn_to_run = NULL;
        if (nothing == NULL) {
            PyErr_Clear();
        }
        Py_XDECREF(nothing);
    }
    if (!turn->began) {
        run_turn(turn);
    }
}

/* Two threads cannot be in one context at a time, so each turn is in a copy. -1 with an exception. */
static int
enter_context(python_turn *turn, wp_job *job)
{
    wpy_block *block = turn->block;
    PyObject *copy = block->context != NULL ? PyContext_Copy(block->context) : NULL;
    if (copy == NULL && block->context != NULL) {
        return -1;
    }
    bool on_worker = turn->self != NULL && wp_worker_pool(turn->self) == job->pool;
    wpy_variables variables = {block->home, copy, block->in_own, on_worker};
    int result = wpy_variables_enter(&variables, &turn->entered);
    Py_XDECREF(copy);
    return result;
}

/* If there is no memory for a context, units fail, rather than run in one that is not theirs. */
static uint32_t
run_python_units(wp_job *job, wp_stretch *units, wp_worker *self)
{
    wpy_block *block = block_of(job);
    python_turn turn = {.block = block, .units = units, .self = self};
    bool inside = enter_context(&turn, job) == 0;
    if (!inside || wpy_template_make(&turn.template, block->home, turn.entered) < 0) {
        turn.error = wpy_take_exception();
    }
    turn.function = PyVectorcall_Function(block->callable);
    turn.function = turn.function != NULL ? turn.function : PyObject_Vectorcall;
    run_turn_within(&turn);
    if (inside) {
        wpy_variables_leave(turn.entered);
    }
    Py_XDECREF(turn.template.context);
    Py_XDECREF(turn.error);
    return turn.done;
}

static wp_state
run_python_alone(wp_job *job, wp_worker *self)
{
    wpy_block *block = block_of(job);
    wp_stretch alone;
    wp_stretch_set(&alone, 0, 1);
    run_python_units(job, &alone, self);
    if (wp_load_relaxed(&block->status[0]) == WPY_UNIT_DONE) {
        return WP_DONE;
    }
    bool stopped = (wp_load_relaxed(&job->word) & WP_JOB_STOP) != 0;
    return stopped && PyErr_GivenExceptionMatches(block->values[0], block->home->cancelled_error) ? WP_CANCELLED
                                                                                                  : WP_FAILED;
}

/* ---- The end ---- */

/* Those of units from `begin` to `end`, if they were not released. By one thread at a time: who comes second finds them
 * released. */
static void
release_holds(wpy_block *block, uint32_t begin, uint32_t end)
{
    for (size_t i = (size_t)begin * block->width; i < (size_t)end * block->width; i++) {
        wpy_hold_release(&block->holds[i]);
    }
}

void
wpy_block_let_go(wpy_block *block, uint32_t unit)
{
    if (wpy_begin_release(&block->releaser)) {
        release_holds(block, unit, unit + 1);
        wpy_end_release(&block->releaser);
    }
}

/* Unit by unit, so that a consumer does not wait for all of them. */
static void
release_ended_block(wpy_trash *trash)
{
    wpy_block *block = (wpy_block *)(void *)((char *)trash - offsetof(wpy_block, trash));
    for (uint32_t unit = 0; unit < block->units; unit++) {
        wpy_block_let_go(block, unit);
    }
    wp_job_unref(wpy_block_job(block));
}

static void
leave_holds(wpy_block *block)
{
    wp_job *job = wpy_block_job(block);
    wp_job_ref(job);
    block->trash.release = release_ended_block;
    wpy_leave_trash(block->home, &block->trash, job->pool);
}

static void
release_native(wpy_block *block)
{
    if (block->holds != NULL) {
        release_holds(block, 0, block->units);
    }
    wpy_function_unref(block->function);
}

/* Of a block that was done, and of which every unit was taken, nothing is left. One that was cancelled or has expired was
 * not called, and still has its arguments, though its exception was taken. */
static void
release_python(wpy_block *block)
{
    bool is_empty = block->yielded == block->units && wp_job_state(wpy_block_job(block)) == WP_DONE;
    for (uint32_t unit = 0; unit < block->units && !is_empty; unit++) {
        drop_arguments(block->arguments + (size_t)unit * block->width, block->width);
        Py_CLEAR(block->values[unit]);
    }
    Py_CLEAR(block->callable);
    Py_CLEAR(block->context);
}

static void
release_block(wp_job *job)
{
    wpy_block *block = block_of(job);
    if (block->function != NULL) {
        release_native(block);
    } else {
        release_python(block);
    }
    wp_notes_free(&block->notes);
    wpy_extra_clear(wpy_extra_of(job));
    wp_group_unref(block->range.group);
    PyMem_RawFree(block);
}

static void
destroy_block(wp_job *job)
{
    const wpy_block *block = block_of(job);
    bool plain_memory = block->function != NULL && block->holds == NULL && job->extra == NULL;
    if (plain_memory) {
        release_block(job);
    } else {
        wpy_throw_job_away(block->home, job, release_block);
    }
}

/* A plain block's end is told to the group here; a range does that by itself, and asks for a notice only if it has something
 * to let go of. */
static void
settle_and_tell(wp_job *job)
{
    wp_group *group = block_of(job)->range.group;
    if (block_of(job)->holds != NULL) {
        leave_holds(block_of(job));
    }
    wp_group_ref(group); /* The block may go once it is settled. */
    wp_job_settle(job);
    wp_group_tell(group);
    wp_group_unref(group);
}

static void
describe_block(const wp_job *job, char *text, size_t size)
{
    const wpy_block *block = (const wpy_block *)(const void *)job;
    char what[128] = "a map of a Python callable";
    if (block->function != NULL) {
        PyOS_snprintf(what, sizeof what, "a map of the native function %.80s", block->function->name_text);
    }
    wpy_describe(job, what, text, size);
}

static const wp_job_class native_block_class = {
    .api = &wp_view_api,
    .name = "map of a native function",
    .run = run_native_alone,
    .run_range = run_native_units,
    .leave = wpy_leave_native,
    .notify = settle_and_tell,
    .destroy = destroy_block,
    .describe = describe_block,
    .notes = notes,
    .claim_ns = 20000,
    .spread_ns = 2000,
};

static const wp_job_class python_block_class = {
    .name = "map of a Python callable",
    .run = run_python_alone,
    .run_range = run_python_units,
    .enter = wpy_enter_python,
    .leave = wpy_leave_python,
    .notify = settle_and_tell,
    .destroy = destroy_block,
    .describe = describe_block,
    .claim_ns = 1000000,
    .spread_ns = WPY_SPREAD_PYTHON_NS,
#ifndef Py_GIL_DISABLED
    .one_at_a_time = true,
#endif
};

/* ---- Making one ---- */

/* One allocation holds the block and its arrays; this hands out aligned pieces of it. */
typedef struct piece {
    size_t size;
    size_t offset;
} piece;

static piece
take_piece(size_t *total, size_t count, size_t size)
{
    piece p = {count * size, *total};
    *total = wpy_rounded(p.offset + p.size);
    return p;
}

static void *
at_piece(wpy_block *block, piece p)
{
    return p.size > 0 ? (char *)block + p.offset : NULL;
}

wpy_block *
wpy_block_new(const wpy_block_kind *kind, uint32_t room)
{
    bool native = kind->function != NULL;
    size_t cells = (size_t)room * kind->width;
    size_t total = 0;
    take_piece(&total, 1, sizeof(wpy_block));
    piece slots = take_piece(&total, native ? cells : 0, sizeof(uint64_t));
    piece results = take_piece(&total, native ? room : 0, sizeof(uint64_t));
    piece holds = take_piece(&total, native && kind->function->has_pointers ? cells : 0, sizeof(wpy_hold));
    piece errors = take_piece(&total, native && kind->function->raises ? room : 0, sizeof(int));
    piece arguments = take_piece(&total, native ? 0 : cells, sizeof(PyObject *));
    piece values = take_piece(&total, native ? 0 : room, sizeof(PyObject *));
    piece status = take_piece(&total, room, 1);
    piece order = take_piece(&total, kind->in_order ? 0 : room, sizeof(uint32_t));
    bool with_extra = wpy_options_need_extra(kind->options);
    piece extra = take_piece(&total, with_extra, sizeof(wpy_extra));

    wpy_block *block = PyMem_RawMalloc(total);
    if (block == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(block, 0, sizeof *block);
    block->home = kind->home;
    block->function = kind->function;
    if (native) {
        wpy_function_ref(kind->function);
    }
    block->callable = Py_XNewRef(kind->callable);
    block->context = Py_XNewRef(kind->context);
    block->in_own = kind->options->own != NULL;
    block->width = kind->width;
    block->takes = (unsigned char)kind->takes;
    block->is_plain = kind->is_plain;
    block->slots = at_piece(block, slots);
    block->results = at_piece(block, results);
    block->holds = at_piece(block, holds);
    block->errors = at_piece(block, errors);
    block->arguments = at_piece(block, arguments);
    block->values = at_piece(block, values);
    block->status = at_piece(block, status);
    block->order = at_piece(block, order);
    memset((char *)block + status.offset, 0, total - status.offset);
    wp_range_init(&block->range, native ? &native_block_class : &python_block_class, 0, kind->group,
                  wpy_options_fill_extra(kind->options, at_piece(block, extra), NULL, 0));
    return block;
}

static int
add_native(wpy_block *block, PyObject **arguments)
{
    const wpy_function *function = block->function;
    wpy_hold unused[WP_SIGNATURE_MAX_PARAMS];
    size_t at = (size_t)block->units * block->width;
    wpy_hold *holds = block->holds != NULL ? block->holds + at : unused;
    int result =
        wpy_convert_row(function, arguments, (Py_ssize_t)function->n_arguments, block, block->slots + at, holds);
    for (size_t i = 0; i < function->n_arguments; i++) {
        Py_DECREF(arguments[i]);
    }
    return result;
}

/* Takes over the reference to a number that the function's one parameter takes as it is; false for anything else. */
static inline bool
add_number(wpy_block *block, PyObject *number)
{
    uint64_t *slot = &block->slots[block->units];
    if (block->takes == WPY_TAKES_DOUBLE && PyFloat_CheckExact(number)) {
        double value = PyFloat_AS_DOUBLE(number);
        memcpy(slot, &value, sizeof value);
    } else if (block->takes == WPY_TAKES_INT64 && PyLong_CheckExact(number)) {
        int overflow;
        *slot = (uint64_t)PyLong_AsLongLongAndOverflow(number, &overflow);
        if (overflow != 0) {
            return false;
        }
    } else {
        return false;
    }
    Py_DECREF(number);
    block->units++;
    return true;
}

static inline bool
add_item(wpy_block *block, PyObject *item)
{
    if (block->takes != WPY_TAKES_OBJECT) {
        return add_number(block, item);
    }
    block->arguments[block->units] = item;
    block->values[block->units++] = NULL;
    return true;
}

bool
wpy_block_take_items(wpy_block *block, PyObject *iterator, uint32_t room, PyObject **next)
{
    iternextfunc iternext = Py_TYPE(iterator)->tp_iternext;
    while (block->units < room) {
        *next = iternext(iterator);
        if (*next == NULL || !add_item(block, *next)) {
            return true;
        }
    }
    return false;
}

int
wpy_block_add(wpy_block *block, PyObject **arguments)
{
    if (block->function != NULL) {
        if (add_native(block, arguments) < 0) {
            return -1;
        }
    } else {
        PyObject **place = block->arguments + (size_t)block->units * block->width;
        for (uint32_t i = 0; i < block->width; i++) {
            place[i] = arguments[i];
        }
        block->values[block->units] = NULL;
    }
    block->units++;
    return 0;
}

void
wpy_block_seal(wpy_block *block)
{
    block->range.units = block->units;
    wp_store_relaxed(&block->range.open, block->units);
    if (block->is_plain) {
        block->range.job.flags = 0;
    }
    if (block->is_plain || block->holds != NULL) {
        wp_job_ask_for_notice(&block->range.job);
    }
}

bool
wpy_block_help(wpy_block *block, uint32_t most)
{
    if (block->is_plain) {
        return wp_job_run_here(wpy_block_job(block));
    }
    wp_group *group = block->range.group;
    uint32_t by_pace = wp_pace_claim(group->pace, wpy_block_job(block)->class->claim_ns, group->most_claimed);
    return wp_range_run_here(&block->range, by_pace < most ? by_pace : most) > 0;
}

/* ---- Taking units ---- */

/* Nothing of it will run any more. */
static bool
is_over(wpy_block *block)
{
    wp_job *job = wpy_block_job(block);
    return wp_job_is_settled(job) || wp_job_is_lost(job);
}

bool
wpy_block_is_ending(wpy_block *block)
{
    wp_job *job = wpy_block_job(block);
    return wp_range_is_giving_up(&block->range) || (wp_job_state(job) > WP_RUNNING && !wp_job_is_settled(job));
}

bool
wpy_block_unit_ended(wpy_block *block, uint32_t unit)
{
    if (!block->is_plain && wp_load_acquire(&block->status[unit]) != WPY_UNIT_OPEN) {
        return true;
    }
    return is_over(block);
}

bool
wpy_block_next_ended(wpy_block *block, uint32_t *unit)
{
    bool over = is_over(block); /* Looked at first: what ended before that is in the order. */
    uint32_t ended = block->is_plain ? 0 : wp_load_acquire(&block->order[block->yielded]);
    if (ended != 0) {
        *unit = ended - 1;
        return true;
    }
    *unit = 0;
    while (over && *unit + 1 < block->units && wp_load_relaxed(&block->status[*unit]) != WPY_UNIT_OPEN) {
        ++*unit;
    }
    return over;
}

/* A block may have ended otherwise than by its function: its job's state tells. */
static PyObject *
exception_of_job(wpy_block *block, wp_state state)
{
    if (state == WP_CANCELLED) {
        return PyObject_CallNoArgs(block->home->cancelled_error);
    }
    return wpy_limit_exception(block->home, wpy_block_job(block), state, NULL);
}

/* The job's state for a unit that did not end by itself: of a range, units that had not begun are cancelled or lost
 * together, whatever became of the others. */
static wp_state
state_of_unit(wpy_block *block, uint32_t unit)
{
    wp_job *job = wpy_block_job(block);
    if (wp_job_is_lost(job)) {
        return WP_LOST;
    }
    if (block->is_plain) {
        return wp_job_state(job);
    }
    if (wp_load_relaxed(&block->status[unit]) != WPY_UNIT_OPEN) {
        return WP_FAILED;
    }
    return wp_pool_is_broken(job->pool) ? WP_LOST : WP_CANCELLED;
}

static PyObject *
exception_of_unit(wpy_block *block, uint32_t unit)
{
    wp_state state = state_of_unit(block, unit);
    if (state != WP_FAILED) {
        return exception_of_job(block, state);
    }
    if (block->function != NULL) {
        int error_number = block->errors != NULL ? block->errors[unit] : 0;
        return wpy_native_failure(block->function, block->results[unit], error_number, wpy_block_job(block));
    }
    PyObject *exception = block->values[unit];
    block->values[unit] = NULL;
    return exception;
}

PyObject *
wpy_block_take(wpy_block *block, uint32_t unit)
{
    bool done = block->is_plain ? wp_job_state(wpy_block_job(block)) == WP_DONE
                                : wp_load_relaxed(&block->status[unit]) == WPY_UNIT_DONE;
    if (block->holds != NULL) {
        wpy_block_let_go(block, unit);
    }
    if (done && block->function != NULL) {
        return wpy_convert_result(block->function, block->results[unit]);
    }
    if (done) {
        PyObject *value = block->values[unit];
        block->values[unit] = NULL;
        return value;
    }
    PyObject *exception = exception_of_unit(block, unit);
    if (exception != NULL) {
        wpy_raise(exception);
        Py_DECREF(exception);
    }
    return NULL;
}

int
wpy_block_traverse(wpy_block *block, visitproc visit, void *arg)
{
    if (block->function != NULL || wp_load_relaxed(&wpy_block_job(block)->references) != 1) {
        return 0;
    }
    Py_VISIT(block->callable);
    Py_VISIT(block->context);
    for (uint32_t unit = 0; unit < block->units; unit++) {
        for (uint32_t i = 0; i < block->width; i++) {
            Py_VISIT(block->arguments[(size_t)unit * block->width + i]);
        }
        Py_VISIT(block->values[unit]);
    }
    return 0;
}
