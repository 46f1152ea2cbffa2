/* Python callables as jobs. */
#ifndef WPY_PYTHON_CALL_H
#define WPY_PYTHON_CALL_H

#include "options.h"

/* A task that calls args[0](args[1], ..., kwnames...): vectorcall's form, of which references are taken. The context
 * variables are those of now. NULL with an exception set. `results` and `index`: where it is reported, or NULL. */
wpy_task *wpy_python_call_new(wpy_home *home, const wpy_options *options, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames, wp_results *results, uint64_t index);

/* Calls of Python that take less than this (ns) together are left to one worker: with a GIL, sharing them costs more than
 * it gains. */
#ifdef Py_GIL_DISABLED
#define WPY_SPREAD_PYTHON_NS 10000
#else
#define WPY_SPREAD_PYTHON_NS 100000
#endif

/* For classes that run Python on workers: attach before, detach after. */
void wpy_enter_python(wp_worker *self);
void wpy_leave_python(wp_worker *self);

/* The task that the calling thread runs, if it is a Python callable; else NULL. */
wpy_task *wpy_current_python_call(void);

/* Where the one Job object of that call is kept while it runs; NULL in it until the call asks for it. Attached. */
PyObject **wpy_place_of_current_job(void);

/* Whether a Job object holds a reference to the task: said by that object, and asked by who counts references for the
 * cyclic collector: 1 or 0, for a task of any class. Attached. */
void wpy_python_call_set_shown(wpy_task *task, bool shown);
uint32_t wpy_python_call_shown(wpy_task *task);

#endif
