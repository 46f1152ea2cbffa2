/* See options.h. */
#include "options.h"

#include "interrupt.h"
#include "token.h"
#include "wait.h"

#include <string.h>

/* ---- Options ---- */

void
wpy_options_copy(wpy_options *to, const wpy_options *from)
{
    *to = *from;
    Py_XINCREF(to->token);
    Py_XINCREF(to->label);
}

int
wpy_options_traverse(const wpy_options *options, visitproc visit, void *arg)
{
    Py_VISIT(options->token);
    Py_VISIT(options->label);
    return 0;
}

void
wpy_options_clear(wpy_options *options)
{
    Py_CLEAR(options->token);
    Py_CLEAR(options->label);
}

bool
wpy_options_need_extra(const wpy_options *options)
{
    return options->token != NULL || options->label != NULL || options->queue_timeout != WP_FOREVER ||
           options->run_timeout != WP_FOREVER;
}

wp_extra *
wpy_options_fill_extra(const wpy_options *options, wpy_extra *extra, wp_results *results, uint64_t index)
{
    if (extra == NULL) {
        return NULL;
    }
    wp_extra_init(&extra->core);
    extra->core.queue_timeout = options->queue_timeout;
    extra->core.run_timeout = options->run_timeout;
    extra->label = Py_XNewRef(options->label);
    extra->label_text = options->label_text;
    extra->token = Py_XNewRef(options->token);
    if (options->token != NULL) {
        extra->core.token = wpy_token_core(options->token);
        wp_token_ref(extra->core.token);
    }
    if (results != NULL) {
        wp_results_ref(results);
        extra->core.results = results;
        extra->core.index = index;
    }
    return &extra->core;
}

static const char *const on_full_names[] = {
    [WPY_BLOCK] = "block",
    [WPY_RAISE] = "raise",
    [WPY_DISCARD] = "discard",
    [WPY_CALLER_RUNS] = "caller_runs",
    [WPY_DISCARD_OLDEST] = "discard_oldest",
};

int
wpy_on_full_of(PyObject *text)
{
    for (size_t i = 0; PyUnicode_Check(text) && i < sizeof on_full_names / sizeof on_full_names[0]; i++) {
        if (PyUnicode_CompareWithASCIIString(text, on_full_names[i]) == 0) {
            return (int)i;
        }
    }
    /* Only of text is shown what it is: other objects may not be able to say. */
    PyObject *shown = PyUnicode_Check(text) ? text : (PyObject *)Py_TYPE(text);
    PyErr_Format(PyExc_ValueError,
                 "on_full must be 'block', 'raise', 'caller_runs', 'discard' or 'discard_oldest', not %R", shown);
    return -1;
}

/* ---- Errors ---- */

static int
set_full_error(wpy_home *home, const char *text)
{
    PyErr_SetString(home->queue_full, text);
    return -1;
}

int
wpy_set_error(wpy_home *home, enum wp_result result)
{
    switch (result) {
    case WP_FULL:
        return set_full_error(home, "the queue is full");
    case WP_LATE:
        PyErr_SetString(home->submit_timeout, "the queue was full for as long as submit_timeout allows");
        return -1;
    case WP_CLOSED:
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
        return -1;
    case WP_BROKEN:
        PyErr_SetString(home->broken_pool, "A thread initializer failed, the thread pool is not usable anymore");
        return -1;
    case WP_STOPPED:
        PyErr_SetString(home->cancelled_error, "the token is cancelled");
        return -1;
    case WP_NO_THREAD:
        PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
        return -1;
    default:
        PyErr_NoMemory();
        return -1;
    }
}

/* ---- Submitting ---- */

wp_until
wpy_until(const wpy_options *options, wp_closable *other)
{
    return (wp_until){
        .deadline = WP_FOREVER,
        .token = options->token != NULL ? wpy_token_core(options->token) : NULL,
        .closables = {options->view, other},
    };
}

typedef struct room {
    wp_pool *pool;
    unsigned lane;
    wp_until until;
} room;

static enum wp_result
sleep_for_room(void *context, uint64_t deadline)
{
    room *r = context;
    r->until.deadline = deadline;
    return wp_pool_wait_room_until(r->pool, r->lane, &r->until);
}

bool
wpy_options_are_closed(const wpy_options *options)
{
    return options->view != NULL && wp_closable_is_closed(options->view);
}

int
wpy_options_check_open(const wpy_options *options)
{
    if (wpy_options_are_closed(options)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
        return -1;
    }
    return 0;
}

int
wpy_set_closed_error(wpy_home *home, wp_pool *pool, const wpy_options *options)
{
    if (wp_pool_is_closed(pool)) {
        return wpy_set_error(home, wp_pool_is_broken(pool) ? WP_BROKEN : WP_CLOSED);
    }
    if (wpy_options_check_open(options) == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot submit to a results queue after its close()");
    }
    return -1;
}

int
wpy_wait_for_room(wpy_home *home, wp_pool *pool, const wpy_options *options, wp_results *results, uint32_t units,
                  uint64_t deadline)
{
    room r = {pool, options->lane, wpy_until(options, results != NULL ? wp_results_closable(results) : NULL)};
    int result = wpy_wait(sleep_for_room, &r, deadline);
    if (result == WP_OK) {
        return 1;
    }
    if (result == WP_CLOSED) {
        return wpy_set_closed_error(home, pool, options);
    }
    if (result == WP_LATE) {
        wp_pool_note_rejected(pool, options->lane, units);
    }
    return result < 0 ? -1 : wpy_set_error(home, (enum wp_result)result);
}

/* 1 with an exception set if the job, which the calling thread has run, ended by what interrupts this thread; else 0. */
static int
raise_interrupt(wpy_task *task)
{
    PyObject *outcome = task->outcome;
    if (outcome == NULL || wp_job_state(&task->job) == WP_DONE || !wpy_interrupts(outcome)) {
        return 0;
    }
    wpy_raise(outcome);
    return 1;
}

/* The caller runs the job. A native one runs detached; a Python one on a worker of this pool too, because its class
 * attaches there with the worker's own state. Any other caller is attached already, and stays so. */
static int
run_here(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task)
{
    bool on_own_worker = wp_worker_in(pool) != NULL;
    enum wp_result result;
    if (on_own_worker || wpy_task_class_of(task)->is_native) {
        Py_BEGIN_ALLOW_THREADS
        result = wp_pool_run_here(pool, options->lane, &task->job);
        Py_END_ALLOW_THREADS
    } else {
        result = wp_pool_run_here(pool, options->lane, &task->job);
    }
    return result == WP_OK ? raise_interrupt(task) : wpy_set_error(home, result);
}

static int
discard(wp_pool *pool, const wpy_options *options, wpy_task *task)
{
    wp_pool_note_rejected(pool, options->lane, 1);
    wpy_task_discard(task);
    return 0;
}

enum { TRY_AGAIN = 2 };

/* Without a waiting line there is nothing to discard in favour of the new one. What is discarded is told once the new one is
 * in: its callback may submit as well, and would take the place. */
static int
replace_oldest(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task)
{
    enum wp_result result = WP_FULL;
    wpy_hush();
    while (result == WP_FULL && wp_pool_discard_oldest(pool, options->lane)) {
        result = wp_pool_try_submit(pool, options->lane, &task->job, false);
    }
    wpy_speak(home);
    return result == WP_OK ? 0 : result == WP_FULL ? discard(pool, options, task) : wpy_set_error(home, result);
}

/* What the policy says about a full queue: as wpy_submit_task, or to try again. */
static int
act_on_full(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task, uint64_t deadline)
{
    switch (options->on_full) {
    case WPY_BLOCK: {
        wp_results *results = task->job.extra != NULL ? task->job.extra->results : NULL;
        return wpy_wait_for_room(home, pool, options, results, 1, deadline) > 0 ? TRY_AGAIN : -1;
    }
    case WPY_CALLER_RUNS:
        return run_here(home, pool, options, task);
    case WPY_DISCARD:
        return discard(pool, options, task);
    case WPY_DISCARD_OLDEST:
        return replace_oldest(home, pool, options, task);
    default:
        wp_pool_note_rejected(pool, options->lane, 1);
        return set_full_error(home, "the queue is full");
    }
}

int
wpy_submit_task(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task)
{
    if (!wpy_check_not_exiting(home)) {
        return -1;
    }
    bool over = options->on_full == WPY_BLOCK && wp_worker_in(pool) != NULL;
    uint64_t deadline = WP_FOREVER;
    for (bool first = true;; first = false) {
        enum wp_result result = wp_pool_try_submit(pool, options->lane, &task->job, over);
        if (result == WP_OK) {
            return 0;
        }
        if (result != WP_FULL) {
            return wpy_set_error(home, result);
        }
        if (first && options->submit_timeout != WP_FOREVER) {
            deadline = wp_clock() + options->submit_timeout;
        }
        int next = act_on_full(home, pool, options, task, deadline);
        if (next != TRY_AGAIN) {
            return next;
        }
    }
}
