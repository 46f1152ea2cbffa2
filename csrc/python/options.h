/* How a job is submitted: the options that a pool's views carry, and the one way in for every kind of task. */
#ifndef WPY_OPTIONS_H
#define WPY_OPTIONS_H

#include "task.h"

enum wpy_on_full { WPY_BLOCK, WPY_RAISE, WPY_CALLER_RUNS, WPY_DISCARD, WPY_DISCARD_OLDEST };

/* Immutable once a view has it. */
typedef struct wpy_options {
    unsigned lane;
    enum wpy_on_full on_full;
    PyObject *token;         /* A CancelToken, or NULL. */
    PyObject *label;         /* A str, or NULL. */
    const char *label_text;  /* The label in UTF-8, kept by it. */
    uint64_t submit_timeout; /* ns, or WP_FOREVER; likewise the next two. */
    uint64_t queue_timeout;
    uint64_t run_timeout;
    wp_closable *view;       /* Of the view that has the options, or had them first; NULL for a pool. */
    struct wpy_context *own; /* The pool's, which the view keeps, if its jobs run in the worker's own context, see
                                variables.h; else NULL. */
} wpy_options;

#define WPY_NO_OPTIONS                                                                                                 \
    ((wpy_options){.submit_timeout = WP_FOREVER, .queue_timeout = WP_FOREVER, .run_timeout = WP_FOREVER})

void wpy_options_copy(wpy_options *to, const wpy_options *from);
int wpy_options_traverse(const wpy_options *options, visitproc visit, void *arg);
void wpy_options_clear(wpy_options *options);

/* Whether jobs with these options need an extra. */
bool wpy_options_need_extra(const wpy_options *options);

/* Fills in a job's extra, of which the memory is given; `results` may be NULL. Returns what the job is told of it. NULL
 * for NULL. */
wp_extra *wpy_options_fill_extra(const wpy_options *options, wpy_extra *extra, wp_results *results, uint64_t index);

/* The text of an on_full policy as its number; -1 with ValueError. */
int wpy_on_full_of(PyObject *text);

/* Submits a task to a pool as the options say, blocking (and interruptible) where they say so. 0: the task is the pool's
 * business now, or ended already (run here or discarded). 1: it has ended, run here, and what interrupted the calling thread
 * meanwhile is set as the exception. -1: an exception is set and the task was not taken. */
int wpy_submit_task(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task);

/* What ends a wait for room beside its deadline: the options' token, the end of their view, and `other`, or NULL. */
wp_until wpy_until(const wpy_options *options, wp_closable *other);

/* Waits for room in the options' lane, for a job of so many units that reports to these results, or NULL: 1 to try again,
 * or -1 with an exception set. */
int wpy_wait_for_room(wpy_home *home, wp_pool *pool, const wpy_options *options, wp_results *results, uint32_t units,
                      uint64_t deadline);

/* Whether the view that has the options was shut down; and the same as 0 or -1, with RuntimeError. */
bool wpy_options_are_closed(const wpy_options *options);
int wpy_options_check_open(const wpy_options *options);

/* The exception for a submit to what was closed: the pool, the view or else the results queue. Always -1. */
int wpy_set_closed_error(wpy_home *home, wp_pool *pool, const wpy_options *options);

/* Sets the exception that goes with a result of the core that is no success. Always -1. */
int wpy_set_error(wpy_home *home, enum wp_result result);

#endif
