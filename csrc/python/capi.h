/* The C API for other extension modules: the table of workerpool_api.h, one for each interpreter, and ThreadsCallback.
 */
#ifndef WPY_CAPI_H
#define WPY_CAPI_H

#include "home.h"

extern PyType_Spec wpy_threads_callback_spec;

/* Fills in the home's table and adds the capsule to the module; -1 with an exception. */
int wpy_capi_add(PyObject *module, wpy_home *home);

#endif
