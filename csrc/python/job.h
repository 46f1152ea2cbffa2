/* current_job() and what it returns. */
#ifndef WPY_JOB_H
#define WPY_JOB_H

#include "home.h"

extern PyType_Spec wpy_job_spec;

PyObject *wpy_current_job(PyObject *module, PyObject *ignored);
extern const char wpy_current_job_doc[];

#endif
