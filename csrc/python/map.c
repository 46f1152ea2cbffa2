/* See map.h.
 *
 * The iterator takes input in stretches, makes a block of each and submits it, as long as what was taken and not yet
 * yielded stays within buffersize. Blocks begin small, so that workers start early, and grow to a quarter of buffersize.
 * From an input that is slow a block is submitted with what has come so far, so results are not held up by it.
 *
 * While its next result is not there, the consumer does units of its own blocks, if they are short native calls, or if
 * it is itself a worker of the pool; else it sleeps on the group.
 *
 * As with a generator, one thread at a time may ask for the next item.
 */
#include "map.h"

#include "block.h"
#include "convert.h"
#include "interrupt.h"
#include "native_call.h"
#include "pool.h"
#include "token.h"
#include "variables.h"
#include "wait.h"
#include "wp_blocked.h"

#include <stddef.h>

#define FIRST_BLOCK 16u
#define LARGEST_BLOCK 8192u
/* What a worker claims of a range at most; a larger claim gains nothing. */
#define MOST_CLAIMED 256u
/* Of a range of Python calls a claim is also one acquisition of the GIL. */
#define MOST_PYTHON_CLAIMED 8192u
/* Calls shorter than this (ns) are taken ahead by the thousand: handing over between threads takes as long as hundreds of
 * them. Only from input that is in memory anyway, and if the user has not said how many may be. */
#define SHORT_CALL_NS 1000u
#define SHORT_CALLS_AHEAD 32u /* Times what would be taken else. */
#define TRY_AGAIN_EVERY 64u
/* Input that took longer than this (ns) is submitted with what has come. */
#define SLOW_INPUT_NS 50000u
/* What the package gives for "no bound". */
#define WPY_UNLIMITED_BUFFERSIZE (UINT64_C(1) << 63)
/* More results than this are not announced: list() would ask for all the memory before the first of them, which may raise
 * or never be wanted. */
#define MOST_HINTED ((Py_ssize_t)1 << 26)
/* A map never has more arguments a call than a native function. */
#define MOST_ITERATORS WP_SIGNATURE_MAX_PARAMS

typedef struct map_object {
    PyObject_HEAD
    wpy_home *home;
    wp_pool *core;  /* Kept by the pool object. */
    PyObject *pool; /* The pool or view. */
    wpy_options options;
    wpy_block_kind kind;
    PyObject *function; /* The NativeFunction or callable. */
    PyObject *context;
    PyObject *iterators;  /* A tuple. */
    bool input_is_quick;  /* All iterators are over lists, tuples or ranges. */
    bool input_is_slow;   /* The last input came so slowly that results should not wait for more. */
    bool exhausted;       /* No more input will be taken. */
    PyObject *last_error; /* What ended the input: raised after everything before it. */
    uint64_t bound;       /* Constant: what buffersize is, or would be for longer calls. */
    bool is_elastic;      /* Constant: the bound is not the user's. */
    uint64_t buffersize;  /* Units to be taken and not yielded at most; what is in flight already may be more. */
    uint64_t in_flight;   /* Units taken and not yielded. */
    uint32_t next_block;  /* Units of the next block. */
    wpy_block *first;     /* Submitted, in the order of the input. */
    wpy_block *last;
    wpy_block *held; /* Made, but the queue had no room yet; comes after `last`. */
    uint64_t deadline;
    bool was_asked; /* For a result, or to close. */
    unsigned
        helps; /* On a worker of the pool: others did not get on with it of late, so this thread does so many units. */
    char busy; /* A thread is in __next__; atomic without a GIL. */
} map_object;

/* ---- Giving up ---- */

static void
drop_block(wpy_block *block, bool submitted)
{
    if (submitted) {
        wp_job_stop(wpy_block_job(block));
    }
    wp_job_unref(wpy_block_job(block));
}

/* The standard library's map is a generator: dropped before its first step it cancels nothing, so there
 * `executor.map(f, items)` alone does them all. A map that takes all its input at once is used in its place. */
static bool
goes_on_alone(const map_object *self)
{
    return self->bound >= WPY_UNLIMITED_BUFFERSIZE && !self->was_asked;
}

/* Cancels what was not begun and forgets the rest. */
static void
stop(map_object *self)
{
    bool cancel = !goes_on_alone(self);
    self->exhausted = true;
    wpy_hush();
    while (self->first != NULL) {
        wpy_block *block = self->first;
        self->first = block->next;
        drop_block(block, cancel);
    }
    self->last = NULL;
    if (self->held != NULL) {
        drop_block(self->held, false);
        self->held = NULL;
    }
    wpy_speak(self->home);
    Py_CLEAR(self->iterators);
    Py_CLEAR(self->last_error);
    self->in_flight = 0;
}

/* ---- Taking input ---- */

static void
end_of_input(map_object *self)
{
    self->exhausted = true;
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
    } else if (PyErr_Occurred()) {
        self->last_error = wpy_take_exception();
    }
    Py_CLEAR(self->iterators);
}

/* One item of every iterator; false at the end of the shortest, or when one raises. */
static bool
take_row(PyObject *iterators, PyObject **row)
{
    Py_ssize_t n = PyTuple_GET_SIZE(iterators);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *iterator = PyTuple_GET_ITEM(iterators, i);
        row[i] = Py_TYPE(iterator)->tp_iternext(iterator);
        if (row[i] == NULL) {
            while (i-- > 0) {
                Py_DECREF(row[i]);
            }
            return false;
        }
    }
    return true;
}

static bool
is_slow(const map_object *self, uint64_t begin)
{
    return !self->input_is_quick && wp_clock() - begin > SLOW_INPUT_NS;
}

/* Takes one row of input, which may raise or be the last. False if the block is not to get any more. */
static bool
take_one(map_object *self, PyObject *iterators, wpy_block *block, uint64_t begin)
{
    PyObject *row[MOST_ITERATORS];
    if (!take_row(iterators, row) || wpy_block_add(block, row) < 0) {
        end_of_input(self);
        return false;
    }
    self->input_is_slow = is_slow(self, begin);
    return !self->input_is_slow;
}

/* Takes single items from quick input. False as above. */
static bool
take_items(map_object *self, PyObject *iterators, wpy_block *block, uint32_t room)
{
    PyObject *item;
    if (!wpy_block_take_items(block, PyTuple_GET_ITEM(iterators, 0), room, &item)) {
        return false;
    }
    if (item == NULL || wpy_block_add(block, &item) < 0) {
        end_of_input(self);
        return false;
    }
    return true;
}

/* A block of up to `room` units, or NULL: no more input (then `exhausted` is set), or no memory (-1 in *error). */
static wpy_block *
take_block(map_object *self, uint32_t room, int *error)
{
    PyObject *iterators = Py_NewRef(self->iterators); /* Input is user code: it may drop this map. */
    uint64_t begin = self->input_is_quick ? 0 : wp_clock();
    bool single = self->input_is_quick && self->kind.takes != WPY_TAKES_OTHERS;
    wpy_block *block = wpy_block_new(&self->kind, room);
    *error = block == NULL ? -1 : 0;
    bool more = block != NULL;
    while (more && block->units < room) {
        more = single ? take_items(self, iterators, block, room) : take_one(self, iterators, block, begin);
    }
    Py_DECREF(iterators);
    if (block != NULL && block->units == 0) {
        wp_job_unref(wpy_block_job(block));
        return NULL;
    }
    return block;
}

/* ---- Submitting ---- */

static bool
on_own_worker(const map_object *self)
{
    return wp_worker_in(self->core) != NULL;
}

static void
append(map_object *self, wpy_block *block)
{
    if (self->last != NULL) {
        self->last->next = block;
    } else {
        self->first = block;
    }
    self->last = block;
}

/* WP_OK: submitted. WP_FULL: there is no room. Else -1 with an exception set. */
static int
try_to_submit(map_object *self, wpy_block *block)
{
    if (!wpy_check_not_exiting(self->home) || wpy_options_check_open(&self->options) < 0) {
        return -1;
    }
    enum wp_result result =
        wp_pool_try_submit(self->core, self->options.lane, wpy_block_job(block), on_own_worker(self));
    return result == WP_OK || result == WP_FULL ? (int)result : wpy_set_error(self->home, result);
}

/* 0: submitted. 1: no room, and the caller has other blocks to go on with, so it is kept for later. -1: an exception is
 * set and the block is dropped. */
static int
submit_block(map_object *self, wpy_block *block)
{
    int result = try_to_submit(self, block);
    while (result == WP_FULL && self->first == NULL) {
        bool again = wpy_wait_for_room(self->home, self->core, &self->options, NULL, block->units, self->deadline) > 0;
        result = again ? try_to_submit(self, block) : -1;
    }
    if (result == WP_FULL) {
        self->held = block;
        return 1;
    }
    if (result < 0) {
        self->in_flight -= block->units;
        drop_block(block, false);
        return -1;
    }
    append(self, block);
    return 0;
}

/* The input goes no further; what was submitted before is still yielded, then the exception is raised. */
static void
fail_later(map_object *self)
{
    self->exhausted = true;
    Py_XSETREF(self->last_error, wpy_take_exception());
    Py_CLEAR(self->iterators);
}

/* Whether fill has anything to do. It is asked before every result, so a block that found no room is not tried with each. */
static inline bool
wants_input(const map_object *self)
{
    if (self->held != NULL) {
        return self->in_flight % TRY_AGAIN_EVERY == 0;
    }
    return !self->exhausted && (self->in_flight == 0 || self->in_flight + self->next_block <= self->buffersize);
}

static uint32_t
size_of_next_block(const map_object *self)
{
    uint64_t room = self->buffersize > self->in_flight ? self->buffersize - self->in_flight : 0;
    if (self->in_flight > 0 && room < self->next_block) {
        return 0; /* Wait until a whole block fits, rather than submit many small ones. */
    }
    return room < self->next_block ? (uint32_t)room : self->next_block;
}

static void
grow_next_block(map_object *self)
{
    bool ahead = self->is_elastic && self->input_is_quick && wp_pace_is_below(self->kind.group->pace, SHORT_CALL_NS);
    self->buffersize = ahead ? self->bound * SHORT_CALLS_AHEAD : self->bound;
    uint64_t quarter = self->buffersize / 4 > 0 ? self->buffersize / 4 : 1;
    uint64_t most = self->kind.is_plain ? 1 : quarter < LARGEST_BLOCK ? quarter : LARGEST_BLOCK;
    self->next_block = (uint64_t)self->next_block * 2 < most ? self->next_block * 2 : (uint32_t)most;
}

/* The first block of which a unit is ready, by the order that is wanted; and which unit. NULL if there is none yet. */
static wpy_block *
find_ready(map_object *self, uint32_t *unit)
{
    if (self->kind.in_order) {
        *unit = self->first->yielded;
        return wpy_block_unit_ended(self->first, *unit) ? self->first : NULL;
    }
    for (wpy_block *block = self->first; block != NULL; block = block->next) {
        if (wpy_block_next_ended(block, unit)) {
            return block;
        }
    }
    return NULL;
}

/* Whether the item that comes next is there already. */
static bool
has_next(map_object *self)
{
    uint32_t unit;
    return self->first != NULL && find_ready(self, &unit) != NULL;
}

/* Whether to stop taking input that comes slowly, because there is something to yield. A map without a bound takes all of
 * it at once, like the standard library's. */
static bool
may_pause(map_object *self, bool cut)
{
    return cut && self->buffersize < WPY_UNLIMITED_BUFFERSIZE && has_next(self);
}

/* What the input has raised waits for the results before it; not so what the thread was interrupted by while it took the
 * input. */
static bool
was_interrupted(const map_object *self)
{
    return self->last_error != NULL && wpy_interrupts(self->last_error);
}

static void
raise_last_error(map_object *self)
{
    PyObject *error = self->last_error;
    self->last_error = NULL;
    if (error != NULL) {
        wpy_raise(error);
        Py_DECREF(error);
    }
}

/* Takes input and submits it until the buffer is full. -1 for an exception that must be raised at once. */
static int
fill(map_object *self)
{
    if (self->held != NULL) {
        wpy_block *held = self->held;
        self->held = NULL;
        int result = submit_block(self, held);
        if (result != 0) {
            return result < 0 ? -1 : 0;
        }
    }
    while (!self->exhausted) {
        uint32_t size = size_of_next_block(self);
        if (size == 0) {
            break;
        }
        int error;
        wpy_block *block = take_block(self, size, &error);
        if (was_interrupted(self)) {
            if (block != NULL) {
                drop_block(block, false);
            }
            raise_last_error(self);
            return -1;
        }
        if (block == NULL) {
            return error;
        }
        bool cut = block->units < size;
        wpy_block_seal(block);
        self->in_flight += block->units;
        grow_next_block(self);
        int result = submit_block(self, block);
        if (result < 0) {
            fail_later(self);
        }
        if (result != 0 || may_pause(self, cut)) {
            break;
        }
    }
    return 0;
}

/* ---- Waiting ---- */

static bool
is_left_to_others(const map_object *self)
{
    bool found = wp_blocked_has_others(self->core, self->kind.group, NULL);
    for (wpy_block *block = self->first; block != NULL && !found && block->is_plain; block = block->next) {
        found = wp_job_state(wpy_block_job(block)) == WP_RUNNING;
    }
    return found;
}

/* Whether this thread does units: of short native calls, or as a worker of the pool that has nobody else for them. */
static bool
may_help(const map_object *self)
{
    bool native = self->kind.function != NULL;
    if (native && self->deadline == WP_FOREVER && wpy_function_is_short(self->kind.function)) {
        return true;
    }
    return on_own_worker(self) && (self->helps > 0 || !is_left_to_others(self));
}

/* Does a part of the first block that has any left. The units of a Python range need this thread attached, which it is;
 * a plain job attaches by itself. */
static bool
help(map_object *self)
{
    bool native = self->kind.function != NULL;
    if (!may_help(self)) {
        return false;
    }
    uint32_t most = self->helps > 0 ? 1 : UINT32_MAX;
    self->helps -= self->helps > 0;
    for (wpy_block *block = self->first; block != NULL; block = block->next) {
        bool done;
        if (native || block->is_plain) {
            WPY_BEGIN_REST
            done = wpy_block_help(block, most);
            WPY_END_REST
        } else {
            done = wpy_block_help(block, most);
        }
        if (done) {
            return true;
        }
    }
    return false;
}

typedef struct look {
    map_object *map;
    uint32_t unit;
    wpy_block *ready;
    bool on_worker; /* Of the pool; then also: */
    wp_blocked blocked;
    char report[WPY_REPORT_SIZE];
} look;

/* One sleep on the group, detached. Only this thread changes the list of blocks. */
static enum wp_result
sleep_for_unit(void *context, uint64_t deadline)
{
    look *l = context;
    map_object *self = l->map;
    wp_group *group = self->kind.group;
    enum wp_wait_result waited = WP_WAIT_WOKEN;
    uint32_t seen = wp_group_listen(group);
    l->ready = find_ready(self, &l->unit);
    while (l->ready == NULL && waited == WP_WAIT_WOKEN) {
        waited = wp_group_sleep(group, seen, deadline);
        seen = wp_group_progress(group);
        l->ready = find_ready(self, &l->unit);
    }
    wp_group_ignore(group);
    return l->ready != NULL ? WP_OK : waited == WP_WAIT_TIMED_OUT ? WP_LATE : WP_INTERRUPTED;
}

/* The same on a worker of the pool: for a moment, after which it looks for units that it can do (WP_FULL). Others
 * may have claimed some, and be stuck before they have begun them. */
static enum wp_result
sleep_on_worker(void *context, uint64_t deadline)
{
    look *l = context;
    uint64_t until = wp_blocked_until(&l->blocked, deadline);
    enum wp_result result = wp_blocked_begin(&l->blocked, l->report, sizeof l->report);
    if (result != WP_OK) {
        l->map->helps = result == WP_FULL ? WP_HELPS_IN_NEED : 0;
        return result;
    }
    result = sleep_for_unit(context, until);
    wp_blocked_end(&l->blocked);
    if (result == WP_OK) {
        l->map->helps = 0;
    } else if (result == WP_LATE && until < deadline) {
        l->map->helps = wp_blocked_is_long(&l->blocked) ? WP_HELPS_IN_NEED : 0;
        wp_claims_fetch(l->map->core, l->map->options.lane);
        return WP_FULL;
    }
    return result;
}

/* Whether a unit is ready, or some are about to be: who cancels them takes them away first, and tells afterwards. */
static bool
is_any_ready(void *context)
{
    const look *l = context;
    uint32_t unit; /* The look's own is the waiting thread's. */
    for (wpy_block *block = l->map->first; block != NULL; block = block->next) {
        if (wpy_block_is_ending(block)) {
            return true;
        }
    }
    return find_ready(l->map, &unit) != NULL; /* Afterwards: what was ending has ended by now. */
}

static void
begin_look(look *l, map_object *self)
{
    l->map = self;
    l->on_worker = on_own_worker(self);
    if (l->on_worker) {
        wp_blocked_init(&l->blocked, self->core, self->options.lane, NULL, self->deadline != WP_FOREVER);
        l->blocked.is_ready = is_any_ready;
        l->blocked.context = l;
    }
}

/* WP_OK: there may be a unit by now. Else -1 with an exception. */
static int
sleep_or_fail(map_object *self, look *l)
{
    int result = wpy_wait(l->on_worker ? sleep_on_worker : sleep_for_unit, l, self->deadline);
    if (result == WP_OK || result == WP_FULL) {
        return WP_OK;
    }
    if (result == WP_LATE) {
        PyErr_SetNone(PyExc_TimeoutError);
    } else if (result == WP_DEADLOCK) {
        wpy_set_deadlock(self->home, l->report);
    }
    return -1;
}

static wpy_block *
wait_for_unit(map_object *self, uint32_t *unit)
{
    wpy_block *ready = find_ready(self, unit);
    look l;
    if (ready != NULL) {
        return ready;
    }
    begin_look(&l, self);
    while ((ready = find_ready(self, unit)) == NULL) {
        int result = help(self) ? PyErr_CheckSignals() : sleep_or_fail(self, &l);
        if (result < 0) {
            return NULL;
        }
    }
    return ready;
}

/* ---- The iterator ---- */

static void
unlink_block(map_object *self, wpy_block *block)
{
    wpy_block **link = &self->first;
    wpy_block *before = NULL;
    while (*link != block) {
        before = *link;
        link = &(*link)->next;
    }
    *link = block->next;
    if (self->last == block) {
        self->last = before;
    }
}

/* A generator cannot raise StopIteration for somebody else, and neither can this. */
static void
hide_stop_iteration(void)
{
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *cause = wpy_take_exception();
        PyErr_SetString(PyExc_RuntimeError, "a mapped function raised StopIteration");
        PyObject *error = wpy_take_exception();
        PyException_SetCause(error, cause);
        wpy_raise(error);
        Py_DECREF(error);
    }
}

/* With the exception that is set. */
static void
stop_and_raise(map_object *self)
{
    PyObject *error = wpy_take_exception();
    stop(self);
    wpy_raise(error);
    Py_DECREF(error);
}

static PyObject *
take_next(map_object *self)
{
    bool rather_yield = may_pause(self, self->input_is_slow);
    if (!rather_yield && fill(self) < 0) {
        stop_and_raise(self);
        return NULL;
    }
    if (self->first == NULL) {
        raise_last_error(self);
        return NULL;
    }
    uint32_t unit;
    wpy_block *block = wait_for_unit(self, &unit);
    if (block == NULL) {
        stop_and_raise(self);
        return NULL;
    }
    PyObject *value = wpy_block_take(block, unit);
    block->yielded++;
    self->in_flight--;
    if (block->yielded == block->units) {
        unlink_block(self, block);
        wp_job_unref(wpy_block_job(block));
    }
    if (value == NULL) {
        stop_and_raise(self);
    }
    return value;
}

/* The usual case: the next result by the order of the input is there, and no input is wanted. NULL if that is not so. */
static inline PyObject *
take_ready(map_object *self)
{
    wpy_block *block = self->first;
    if (block == NULL || !self->kind.in_order || wants_input(self)) {
        return NULL;
    }
    PyObject *value = wpy_block_take_ready(block, block->yielded);
    if (value != NULL) {
        self->in_flight--;
        if (++block->yielded == block->units) {
            unlink_block(self, block);
            wp_job_unref(wpy_block_job(block));
        }
    }
    return value;
}

/* One thread at a time: false if another is there. */
static inline bool
try_to_enter(map_object *self)
{
#ifdef Py_GIL_DISABLED
    return !__atomic_exchange_n(&self->busy, 1, __ATOMIC_ACQUIRE);
#else
    bool busy = self->busy;
    self->busy = 1;
    return !busy;
#endif
}

static inline bool
enter(map_object *self)
{
    bool entered = try_to_enter(self);
    if (!entered) {
        PyErr_SetString(PyExc_ValueError, "another thread waits for the next item of this map");
    }
    return entered;
}

static inline void
leave(map_object *self)
{
#ifdef Py_GIL_DISABLED
    __atomic_store_n(&self->busy, 0, __ATOMIC_RELEASE);
#else
    self->busy = 0;
#endif
}

static PyObject *
map_next(map_object *self)
{
    if (!enter(self)) {
        return NULL;
    }
    self->was_asked = true;
    wpy_empty_trash(self->home);
    PyObject *value = take_ready(self);
    if (value == NULL) {
        value = PyErr_Occurred() ? NULL : take_next(self);
    }
    if (value == NULL) {
        hide_stop_iteration();
    }
    leave(self);
    return value;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nCancel the calls that have not begun and yield no more.");

static PyObject *
map_close(map_object *self, PyObject *Py_UNUSED(ignored))
{
    if (!enter(self)) {
        return NULL;
    }
    self->was_asked = true;
    stop(self);
    leave(self);
    Py_RETURN_NONE;
}

/* How many items the shortest of the iterators still has, by their own account; -1 with an exception. A range may have
 * more than can be counted. */
static Py_ssize_t
input_left(PyObject *iterators)
{
    Py_ssize_t left = PY_SSIZE_T_MAX;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(iterators) && left > 0; i++) {
        Py_ssize_t hint = PyObject_LengthHint(PyTuple_GET_ITEM(iterators, i), 0);
        if (hint < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            continue;
        }
        left = hint < left ? hint : left;
    }
    return left;
}

PyDoc_STRVAR(
    length_hint_doc,
    "__length_hint__($self, /)\n--\n\n"
    "Return how many results are to come, or NotImplemented.\n\n"
    "It is known where all input is lists, tuples, ranges or bytes, and list() allocates its list once then (PEP 424).");

static PyObject *
map_length_hint(map_object *self, PyObject *Py_UNUSED(ignored))
{
    if (!self->input_is_quick || !try_to_enter(self)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Py_ssize_t left = self->iterators != NULL ? input_left(self->iterators) : 0;
    Py_ssize_t under_way = (Py_ssize_t)self->in_flight;
    leave(self);
    if (left > MOST_HINTED) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return left >= 0 ? PyLong_FromSsize_t(left + under_way) : NULL;
}

/* ---- Making one ---- */

static bool
is_quick(PyObject *iterable)
{
    return PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable) || PyRange_Check(iterable) ||
           PyBytes_CheckExact(iterable);
}

static PyObject *
iterators_of(PyObject *iterables, bool *quick)
{
    Py_ssize_t n = PyTuple_GET_SIZE(iterables);
    PyObject *iterators = PyTuple_New(n);
    *quick = true;
    for (Py_ssize_t i = 0; iterators != NULL && i < n; i++) {
        PyObject *iterator = PyObject_GetIter(PyTuple_GET_ITEM(iterables, i));
        *quick = *quick && is_quick(PyTuple_GET_ITEM(iterables, i));
        if (iterator == NULL) {
            Py_CLEAR(iterators);
        } else {
            PyTuple_SET_ITEM(iterators, i, iterator);
        }
    }
    return iterators;
}

static enum wpy_takes
numbers_taken(const wpy_function *function)
{
    const wp_signature *signature = function->signature;
    if (signature->n_params != 1) {
        return WPY_TAKES_OTHERS;
    }
    wp_type type = signature->params[0].type;
    return type == WP_TYPE_F64 ? WPY_TAKES_DOUBLE : type == WP_TYPE_I64 ? WPY_TAKES_INT64 : WPY_TAKES_OTHERS;
}

static int
capture_context(map_object *self)
{
    if (self->options.own != NULL) {
        wpy_variables_offer(self->options.own);
        return 0;
    }
    int result = wpy_variables_capture(self->home, &self->context);
    self->kind.context = self->context;
    return result;
}

static int
check_function(map_object *self, PyObject *function, Py_ssize_t n_iterators)
{
    if (Py_TYPE(function) == self->home->native_type) {
        self->kind.function = wpy_function_of(function);
        self->kind.width = (uint32_t)self->kind.function->signature->n_params;
        self->kind.takes = numbers_taken(self->kind.function);
        return wpy_check_count(self->kind.function, n_iterators);
    }
    if (!PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError, "map() takes a callable or a NativeFunction, not %.100s",
                     Py_TYPE(function)->tp_name);
        return -1;
    }
    if (n_iterators > MOST_ITERATORS) {
        PyErr_Format(PyExc_ValueError, "map() takes at most %d iterables, not %zd", (int)MOST_ITERATORS, n_iterators);
        return -1;
    }
    self->kind.callable = function;
    self->kind.takes = n_iterators == 1 ? WPY_TAKES_OBJECT : WPY_TAKES_OTHERS;
    self->kind.width = (uint32_t)n_iterators;
    return capture_context(self);
}

/* Limits belong to jobs, and so does what a function with a wp_job parameter sees: then each call is a job. */
static bool
needs_plain_jobs(const map_object *self)
{
    return self->options.run_timeout != WP_FOREVER || self->options.queue_timeout != WP_FOREVER ||
           (self->kind.function != NULL && self->kind.function->has_job);
}

static int
make_group(map_object *self, uint64_t chunksize)
{
    wp_pace *pace = self->kind.function != NULL ? &self->kind.function->pace : NULL;
    uint32_t most = self->kind.function != NULL ? MOST_CLAIMED : MOST_PYTHON_CLAIMED;
    most = chunksize > 0 && chunksize < UINT32_MAX ? (uint32_t)chunksize : most;
    self->kind.group = wp_group_new(pace, most, chunksize > 0);
    if (self->kind.group == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
start(map_object *self, PyObject *function, PyObject *iterables, uint64_t chunksize)
{
    self->function = Py_NewRef(function);
    if (check_function(self, function, PyTuple_GET_SIZE(iterables)) < 0 || make_group(self, chunksize) < 0) {
        return -1;
    }
    self->kind.home = self->home;
    self->kind.options = &self->options;
    self->kind.is_plain = needs_plain_jobs(self);
    self->next_block = self->kind.is_plain ? 1 : FIRST_BLOCK;
    self->exhausted = PyTuple_GET_SIZE(iterables) == 0;
    self->iterators = iterators_of(iterables, &self->input_is_quick);
    return self->iterators == NULL ? -1 : fill(self);
}

/* Map(pool, fn, iterables, timeout, chunksize, buffersize, is_elastic, in_order): the package's map() has checked the
 * numbers; 0 for a chunksize that is to be found by measuring. */
static PyObject *
map_tp_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *pool, *function, *iterables, *timeout;
    unsigned long long chunksize, buffersize;
    int is_elastic, in_order;
    uint64_t deadline;
    if (!PyArg_ParseTuple(args, "OOO!OKKpp:Map", &pool, &function, &PyTuple_Type, &iterables, &timeout, &chunksize,
                          &buffersize, &is_elastic, &in_order) ||
        wpy_deadline(timeout, "timeout", &deadline) < 0) {
        return NULL;
    }
    wpy_home *home = wpy_home_of_type(type);
    const wpy_gate *gate = home != NULL ? wpy_gate_of(home, pool) : NULL;
    if (gate == NULL || wpy_gate_check_open(gate) < 0 || !wpy_check_not_exiting(home)) {
        return NULL;
    }
    map_object *self = (map_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->home = home;
    self->core = gate->core;
    self->pool = Py_NewRef(pool);
    wpy_options_copy(&self->options, &gate->options);
    self->bound = self->buffersize = buffersize;
    self->is_elastic = is_elastic && buffersize < WPY_UNLIMITED_BUFFERSIZE / SHORT_CALLS_AHEAD;
    self->deadline = deadline;
    self->kind.in_order = in_order != 0;
    if (wp_pool_is_closed(self->core)) {
        wpy_set_error(home, WP_CLOSED);
        Py_CLEAR(self);
    } else if (start(self, function, iterables, chunksize) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
map_traverse(map_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pool);
    Py_VISIT(self->function);
    Py_VISIT(self->context);
    Py_VISIT(self->iterators);
    Py_VISIT(self->last_error);
    for (wpy_block *block = self->first; block != NULL; block = block->next) {
        int result = wpy_block_traverse(block, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return wpy_options_traverse(&self->options, visit, arg);
}

static void
map_dealloc(map_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    stop(self);
    if (self->kind.group != NULL) {
        wp_group_unref(self->kind.group);
    }
    Py_CLEAR(self->function);
    Py_CLEAR(self->context);
    wpy_options_clear(&self->options);
    Py_CLEAR(self->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
map_clear(map_object *self)
{
    stop(self);
    return 0;
}

static PyMethodDef map_methods[] = {
    {"close", (PyCFunction)map_close, METH_NOARGS, close_doc},
    {"__length_hint__", (PyCFunction)map_length_hint, METH_NOARGS, length_hint_doc},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyType_Slot map_slots[] = {
    {Py_tp_new, map_tp_new},
    {Py_tp_dealloc, map_dealloc},
    {Py_tp_traverse, map_traverse},
    {Py_tp_clear, map_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, map_next},
    {Py_tp_methods, map_methods},
    {Py_tp_doc, "The results of map(), one by one."},
    {0, NULL},
};

PyType_Spec wpy_map_spec = {
    .name = "workerpool._core.Map",
    .basicsize = sizeof(map_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = map_slots,
};
