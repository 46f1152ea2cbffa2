/* map(): a lazy iterator over the results of many calls. */
#ifndef WPY_MAP_H
#define WPY_MAP_H

#include "options.h"

extern PyType_Spec wpy_map_spec;

#endif
