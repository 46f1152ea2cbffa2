/* The Future type: a true subclass of concurrent.futures.Future without its Condition. */
#ifndef WPY_FUTURE_H
#define WPY_FUTURE_H

#include "options.h"

/* Makes the type on the base class; NULL with an exception set. */
PyTypeObject *wpy_future_type_new(PyObject *module, PyObject *base);

/* Submits a task as wpy_submit_task does and returns its future, which takes over the reference to the task; also when it
 * fails: then NULL, and the job never runs. `handle` keeps the pool's memory. */
PyObject *wpy_future_submit(wpy_home *home, wp_pool *pool, const wpy_options *options, wpy_task *task,
                            PyObject *handle);

#endif
