/* The CancelToken type. */
#ifndef WPY_TOKEN_H
#define WPY_TOKEN_H

#include "home.h"

extern PyType_Spec wpy_token_spec;

/* The core's token of a CancelToken; no reference. */
wp_token *wpy_token_core(PyObject *token);

/* A CancelToken from a caller, or NULL for None; -1 with TypeError for anything else. */
int wpy_token_convert(wpy_home *home, PyObject *object, PyObject **token);

#endif
