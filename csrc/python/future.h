/* The Future type: a true subclass of concurrent.futures.Future without its Condition. */
#ifndef WPY_FUTURE_H
#define WPY_FUTURE_H

#include "options.h"

/* Makes the type on the base class; NULL with an exception set. */
PyTypeObject *wpy_future_type_new(PyObject *module, PyObject *base);

extern PyType_Spec wpy_condition_spec;

/* A future of a task, of which it takes the reference over, also when it fails. `handle` keeps the pool's memory (it may
 * be NULL for a task that no pool runs). */
PyObject *wpy_future_new(wpy_home *home, wpy_task *task, PyObject *handle);

#endif
