/* Loops over whole arrays: map_array and submit_array, as the package calls them. */
#ifndef WPY_ARRAY_H
#define WPY_ARRAY_H

#include "home.h"

/* (pool, function, ufunc, arguments, outputs, grain): the function is a NativeFunction, or None; the ufunc is then what
 * workerpool/_array.py found out about it: (call_info, name, dtypes of its outputs). The arguments and outputs are
 * tuples; an output that is None is made. A grain of 0 means ranges by time. */
extern const char wpy_map_array_doc[];
PyObject *wpy_map_array(PyObject *module, PyObject *args);

extern const char wpy_submit_array_doc[];
PyObject *wpy_submit_array(PyObject *module, PyObject *args);

#endif
