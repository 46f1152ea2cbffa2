/* Calls of native functions as jobs. */
#ifndef WPY_NATIVE_CALL_H
#define WPY_NATIVE_CALL_H

#include "native.h"
#include "options.h"

/* A task that calls the function with these arguments, converted now. NULL with an exception set. `results` and `index`:
 * where it is reported, or NULL. */
wpy_task *wpy_native_call_new(wpy_home *home, const wpy_options *options, wpy_function *function, PyObject *const *args,
                              Py_ssize_t nargs, wp_results *results, uint64_t index);

/* Whether calls of the task's function are known to be short enough to be run by a thread that only wants to wait. */
bool wpy_native_call_is_short(const wpy_task *task);
bool wpy_function_is_short(const wpy_function *function);

#endif
