/* See message.h. */
#include "message.h"

#include <string.h>

/* What a message shows of an object at most. */
#define LONGEST_REPR 100

bool
wpy_must_pass_on(void)
{
    return wpy_lacks_memory() || (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception));
}

PyObject *
wpy_short_repr(PyObject *object)
{
    PyObject *whole = PyObject_Repr(object);
    if (whole == NULL) { /* A number of thousands of digits has none. */
        if (wpy_must_pass_on()) {
            return NULL;
        }
        PyErr_Clear();
        return PyUnicode_FromFormat("this %.100s", Py_TYPE(object)->tp_name);
    }
    if (PyUnicode_GET_LENGTH(whole) <= LONGEST_REPR) {
        return whole;
    }
    PyObject *start = PyUnicode_Substring(whole, 0, LONGEST_REPR);
    PyObject *text = start != NULL ? PyUnicode_FromFormat("%U...", start) : NULL;
    Py_XDECREF(start);
    Py_DECREF(whole);
    return text;
}

/* 1 if the object's type has the attribute, 0 if not, or -1 with an exception. */
static int
has_attribute(PyObject *object, const char *name)
{
    PyObject *value;
    int answer = wpy_optional_attribute((PyObject *)Py_TYPE(object), name, &value);
    Py_XDECREF(value);
    if (answer < 0 && !wpy_must_pass_on()) {
        PyErr_Clear();
        return 0;
    }
    return answer;
}

bool
wpy_is_numpy_array(PyObject *object)
{
    for (PyTypeObject *type = Py_TYPE(object); type != NULL; type = type->tp_base) {
        if (strcmp(type->tp_name, "numpy.ndarray") == 0) {
            return true;
        }
    }
    return false;
}

int
wpy_is_array_of_dates(PyObject *object)
{
    if (!wpy_is_numpy_array(object)) {
        return 0;
    }
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyObject *kind = dtype != NULL ? PyObject_GetAttrString(dtype, "kind") : NULL;
    int answer = kind == NULL ? -1 : 0;
    if (kind != NULL && PyUnicode_Check(kind)) {
        answer = PyUnicode_CompareWithASCIIString(kind, "M") == 0 || PyUnicode_CompareWithASCIIString(kind, "m") == 0;
    }
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    return answer;
}

const char *
wpy_array_hint(PyObject *object)
{
    static const struct {
        const char *attribute, *hint;
    } ways[] = {
        {"to_numpy", "; pass its .to_numpy()"},
        {"__array__", "; pass numpy.asarray() of it"},
        {"__array_interface__", "; pass numpy.asarray() of it"},
    };
    if (PyList_Check(object) || PyTuple_Check(object)) {
        return "; pass an array of its items, as array.array() or numpy.array() makes it";
    }
    if (wpy_is_numpy_array(object)) {
        int has_dates = wpy_is_array_of_dates(object);
        return has_dates < 0 ? NULL : has_dates ? "; dates are integers to C: pass its .view('i8')" : "";
    }
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int answer = has_attribute(object, ways[i].attribute);
        if (answer != 0) {
            return answer < 0 ? NULL : ways[i].hint;
        }
    }
    return "";
}

bool
wpy_is_bare_number(PyObject *object)
{
    const PyTypeObject *type = Py_TYPE(object);
    const PyNumberMethods *number = type->tp_as_number;
    const bool has_value = number != NULL && (number->nb_index != NULL || number->nb_float != NULL);
    const bool has_length = (type->tp_as_sequence != NULL && type->tp_as_sequence->sq_length != NULL) ||
                            (type->tp_as_mapping != NULL && type->tp_as_mapping->mp_length != NULL);
    return has_value && !has_length;
}

const char *
wpy_number_hint(PyObject *object)
{
    const char *kind = Py_TYPE(object)->tp_name;
    if (wpy_is_numpy_array(object) || PyMemoryView_Check(object) || strcmp(kind, "array.array") == 0) {
        return "; map_array() calls a function for each element of an array";
    }
    if (strcmp(kind, "numpy.datetime64") == 0 || strcmp(kind, "numpy.timedelta64") == 0) {
        return "; dates are integers to C: pass its .astype('i8')";
    }
    return "";
}

const char *
wpy_memory_hint(PyObject *object)
{
    if (wpy_is_bare_number(object)) {
        return "; a number has no memory to point to, pass an array of one";
    }
    return wpy_array_hint(object);
}
