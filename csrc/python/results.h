/* The results queue and its items, as Python objects. */
#ifndef WPY_RESULTS_H
#define WPY_RESULTS_H

#include "home.h"

extern PyType_Spec wpy_results_spec;
extern PyType_Spec wpy_result_spec;

#endif
