/* The pool, its views and its handle, as Python objects. */
#ifndef WPY_POOL_H
#define WPY_POOL_H

#include "options.h"

extern PyType_Spec wpy_pool_spec;
extern PyType_Spec wpy_view_spec;
extern PyType_Spec wpy_handle_spec;

/* Where jobs go: what a pool and a view have in common. References are the object's. */
typedef struct wpy_gate {
    wpy_home *home;
    wp_pool *core;    /* Kept by the handle. */
    PyObject *handle; /* Keeps the core's memory; futures hold it too. */
    wpy_options options;
    wp_closable closable; /* A view's; a pool knows by itself. */
} wpy_gate;

/* The gate of a pool or a view; NULL with TypeError for anything else, or for a pool whose __init__ did not run. */
wpy_gate *wpy_gate_of(wpy_home *home, PyObject *object);

/* A task for a call of `args[0]` with the rest, by what it is: a native function or a Python callable. */
wpy_task *wpy_task_for(const wpy_gate *gate, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                       wp_results *results, uint64_t index);

/* RuntimeError if a view was shut down; 0 or -1. */
int wpy_gate_check_open(const wpy_gate *gate);

#endif
