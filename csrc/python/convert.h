/* Between Python objects and the 64-bit slots that native functions are called with. Attached threads only. */
#ifndef WPY_CONVERT_H
#define WPY_CONVERT_H

#include "native.h"

/* What keeps an argument's memory alive until the call is over: an object, or a buffer that is held. */
typedef struct wpy_hold {
    uintptr_t object_or_buffer; /* A PyObject *; or a Py_buffer * with bit 0 set; or 0. */
} wpy_hold;

void wpy_hold_release(wpy_hold *hold);

/* How many items are in the memory that is held, by the view that is; false if that is not known. */
bool wpy_hold_count(const wpy_hold *hold, uint64_t *count);

/* Converts one argument to the slot of parameter number `at`. `hold` is set for a pointer. -1 with an exception that
 * names the function and the argument. */
int wpy_convert_argument(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold);

/* Converts a row of arguments to n_params slots; `holds` has n_params places, all of them written. A parameter that takes
 * the job gets `job`. On -1 nothing is held. */
int wpy_convert_row(const wpy_function *function, PyObject *const *args, Py_ssize_t nargs, void *job, uint64_t *slots,
                    wpy_hold *holds);

/* A result as a Python object. */
PyObject *wpy_convert_result(const wpy_function *function, uint64_t slot);

/* -1 with TypeError if the number of arguments is not the function's. */
int wpy_check_count(const wpy_function *function, Py_ssize_t nargs);

#endif
