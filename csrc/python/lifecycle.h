/* The end of the interpreter, and forked children. */
#ifndef WPY_LIFECYCLE_H
#define WPY_LIFECYCLE_H

#include "home.h"

/* Has the exit hook called when the interpreter shuts down; -1 with an exception. */
int wpy_register_exit(PyObject *module);

/* Has forks wait for threads that are making a thread state; -1 with an exception. */
int wpy_register_fork(void);

/* What the hook calls: no more jobs, and every pool's threads are waited for. */
PyObject *wpy_at_exit(PyObject *module, PyObject *ignored);

#endif
