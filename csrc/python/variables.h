/* The context variables that a job sees.
 *
 * A worker has a context of its own, in which its initializer runs. What a job sees depends on the pool's kind:
 *
 * - In a drop-in (wpy_options.own is set) jobs run in that context, one after the other, as in the standard library.
 * - In a WorkerPool each job has a context to itself: what its submitter had set when it submitted, and for variables that
 *   the submitter had not set, what the initializer set.
 *
 * A context copies variables, not the objects that they hold, and the decimal module keeps an object there that its users
 * change in place. So that object is copied with the context, wherever two jobs, or a job and its submitter, would share it.
 */
#ifndef WPY_VARIABLES_H
#define WPY_VARIABLES_H

#include "context.h"

/* Attached, when a job is submitted: a context for it alone, or NULL where no variable is set. -1 with an exception. */
int wpy_variables_capture(wpy_home *home, PyObject **captured);

/* Attached: the context of now for workers that start later to begin with, where the interpreter is told that threads
 * inherit it (3.14). Does nothing elsewhere. */
void wpy_variables_offer(wpy_context *context);

/* Attached worker: makes its context when it begins, keeps what the initializer set in it, and lets go of it at the end. */
void wpy_variables_begin(wpy_context *context);
void wpy_variables_initialized(wpy_context *context);
void wpy_variables_end(void);

/* How a job's variables are found. */
typedef struct wpy_variables {
    wpy_home *home;
    PyObject *captured; /* For this job alone; or NULL: none was set. */
    bool in_own;        /* In the worker's own context, whatever was captured. */
    bool on_worker;     /* The calling thread is a worker of the job's pool. */
} wpy_variables;

/* Attached: between these a job runs. *entered is what was entered, a new reference, or NULL for the context that is there
 * anyway. -1 with an exception, and then there is nothing to leave. No exception is set when it is left. */
int wpy_variables_enter(const wpy_variables *variables, PyObject **entered);
void wpy_variables_leave(PyObject *entered);

/* For the calls of a map, one after the other: what the context that was entered is to be for each of them.
 *
 * A context holds its variables in one object that never changes; setting a variable puts another in its place. So a
 * context was changed if that object is not the same any more. Where in a context it is, the context itself tells the
 * cyclic collector, and so it tells us. */
typedef struct wpy_template {
    PyObject *context;   /* NULL: it is the worker's own, and stays. */
    PyObject *variables; /* Borrowed from the context: its object. NULL: the context is made new after each call. */
    size_t offset;       /* Of that in a context. */
} wpy_template;

/* Attached: -1 with an exception. Then, after each call, in the context that it ran in: makes it new if that call has
 * changed it. If that fails, an exception is set and *entered is what was there, to be left as usual. */
int wpy_template_make(wpy_template *template, wpy_home *home, PyObject *entered);
int wpy_template_renew(const wpy_template *template, wpy_home *home, PyObject **entered);

static inline int
wpy_template_restore(const wpy_template *template, wpy_home *home, PyObject **entered)
{
    PyObject *variables = template->variables;
    bool same = variables != NULL && *(PyObject **)(void *)((char *)*entered + template->offset) == variables;
    return same || template->context == NULL ? 0 : wpy_template_renew(template, home, entered);
}

#endif
