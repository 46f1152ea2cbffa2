/* Pieces of messages about objects that somebody gave where something else was wanted. Attached threads only.
 *
 * What an object is asked may be code of somebody else, which may raise: such an exception is let through where it is
 * none of `Exception`, and goes unseen otherwise. */
#ifndef WPY_MESSAGE_H
#define WPY_MESSAGE_H

#include "compat.h"

/* Whether an exception is set that no other may take the place of: a lack of memory, or one like KeyboardInterrupt. */
bool wpy_must_pass_on(void);

/* The object's repr, or what fits of it into a line; its type's name where there is no repr. NULL with an exception. */
PyObject *wpy_short_repr(PyObject *object);

/* What to give in the place of an object that has no memory of its own to point to: "; pass its .to_numpy()", or "" where
 * there is nothing to say. NULL with an exception. */
const char *wpy_memory_hint(PyObject *object);

/* The same for an object that is no array. */
const char *wpy_array_hint(PyObject *object);

/* The same for an object that is no number. */
const char *wpy_number_hint(PyObject *object);

/* Whether the object is a number and nothing else: it has a value and no length, as those of NumPy. */
bool wpy_is_bare_number(PyObject *object);

bool wpy_is_numpy_array(PyObject *object);

/* Whether it is a NumPy array of dates or durations, which have no letter in the struct module, so that NumPy gives no
 * buffer that says what they are. -1 with an exception. */
int wpy_is_array_of_dates(PyObject *object);

#endif
