/* What differs between the versions of CPython that the module supports: 3.11 and later, with and without the GIL. */
#ifndef WPY_COMPAT_H
#define WPY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030c0000
#include <structmember.h>
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_DOUBLE T_DOUBLE
#define Py_READONLY READONLY
#endif

/* The thread state of the calling thread if it is attached, else NULL. Before 3.12 the interpreter only tells whose turn
 * it is, which is ours if it is the one that belongs to this thread. */
static inline PyThreadState *
wpy_current_thread_state(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked();
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyThreadState_UncheckedGet();
#else
    PyThreadState *mine = PyGILState_GetThisThreadState();
    return mine != NULL && mine == _PyThreadState_UncheckedGet() ? mine : NULL;
#endif
}

#if PY_VERSION_HEX < 0x030c0000
PyAPI_FUNC(void) _PyThreadState_SetCurrent(PyThreadState *state); /* Declared in a header of the interpreter's own. */
#endif

/* A thread state for the calling thread, which has none and is not attached; NULL without memory. Before 3.12
 * PyThreadState_New() crashes then, so here its two steps are taken one by one. */
static inline PyThreadState *
wpy_thread_state_new(PyInterpreterState *interpreter)
{
#if PY_VERSION_HEX < 0x030c0000
    PyThreadState *state = _PyThreadState_Prealloc(interpreter);
    if (state != NULL) {
        _PyThreadState_SetCurrent(state);
    }
    return state;
#else
    return PyThreadState_New(interpreter);
#endif
}

/* Whether the interpreter has begun to end: threads that attach to it from then on do not come back. */
static inline bool
wpy_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
}

/* What a weak reference refers to, a new reference; NULL if it is gone. */
static inline PyObject *
wpy_weakref_get(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *object = NULL;
    return PyWeakref_GetRef(reference, &object) > 0 ? object : NULL;
#else
    PyObject *object = PyWeakref_GetObject(reference);
    return object != Py_None ? Py_NewRef(object) : NULL;
#endif
}

/* An attribute that an object may lack: 1 and a new reference, 0 and NULL without it, -1 and NULL with an exception set. */
static inline int
wpy_optional_attribute(PyObject *object, const char *name, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyObject_GetOptionalAttrString(object, name, value);
#else
    *value = PyObject_GetAttrString(object, name);
    if (*value != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
#endif
}

/* Whether memory is what the exception that is set, if any, is about: it is not to be replaced by one about the caller's
 * arguments. */
static inline bool
wpy_lacks_memory(void)
{
    return PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_MemoryError);
}

/* Every import of the package makes types of its own. For messages that say that an object is of the wrong type, although
 * the name is right. */
static inline const char *
wpy_of_which_import(PyObject *object, const char *name)
{
    return strcmp(Py_TYPE(object)->tp_name, name) == 0 ? " of another import of the package" : "";
}

/* Objects of types that have a managed __dict__ must visit it themselves. */
static inline int
wpy_visit_dict(PyObject *self, visitproc visit, void *arg)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyObject_VisitManagedDict(self, visit, arg);
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyObject_VisitManagedDict(self, visit, arg);
#else
    PyObject **dict = _PyObject_GetDictPtr(self);
    if (dict != NULL) {
        Py_VISIT(*dict);
    }
    return 0;
#endif
}

static inline void
wpy_clear_dict(PyObject *self)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject_ClearManagedDict(self);
#elif PY_VERSION_HEX >= 0x030c0000
    _PyObject_ClearManagedDict(self);
#else
    PyObject **dict = _PyObject_GetDictPtr(self);
    if (dict != NULL) {
        Py_CLEAR(*dict);
    }
#endif
}

/* PyObject_GetBuffer and PyBuffer_Release for exporters that many threads may use at once. The bytearray, the array and
 * the memoryview of CPython 3.13 count their exports with a plain ++ and --, which without a GIL loses counts: then they
 * refuse to be resized for good, or may be resized under a job. So the exporter is locked here. There is no ready-made way
 * to lock it for those that call CPython themselves at the same moment. */
static inline int
wpy_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
#ifdef Py_GIL_DISABLED
    int result;
    Py_BEGIN_CRITICAL_SECTION(object);
    result = PyObject_GetBuffer(object, view, flags);
    Py_END_CRITICAL_SECTION();
    return result;
#else
    return PyObject_GetBuffer(object, view, flags);
#endif
}

static inline void
wpy_release_buffer(Py_buffer *view)
{
#ifdef Py_GIL_DISABLED
    PyObject *exporter = view->obj;
    if (exporter == NULL) {
        return; /* Nothing to release, as PyBuffer_Release has it. */
    }
    Py_INCREF(exporter); /* It must not go while it is locked, and the view may hold its last reference. */
    Py_BEGIN_CRITICAL_SECTION(exporter);
    PyBuffer_Release(view);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(exporter);
#else
    PyBuffer_Release(view);
#endif
}

/* An item of a list that others may change meanwhile: a new reference, or NULL, without an exception, past its end. */
static inline PyObject *
wpy_list_item(PyObject *list, Py_ssize_t at)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *item = at < PyList_GET_SIZE(list) ? PyList_GetItemRef(list, at) : NULL;
    if (item == NULL) {
        PyErr_Clear(); /* It has become shorter just now. */
    }
    return item;
#else
    return at < PyList_GET_SIZE(list) ? Py_NewRef(PyList_GET_ITEM(list, at)) : NULL;
#endif
}

/* The exception that is set, as one object with its traceback, which is then not set any more. */
static inline PyObject *
wpy_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* Whether an exception is set in a thread state, which may be detached. Only for the thread that it belongs to. */
static inline bool
wpy_has_exception(const PyThreadState *state)
{
#if PY_VERSION_HEX >= 0x030c0000
    return state->current_exception != NULL;
#else
    return state->curexc_type != NULL;
#endif
}

/* Raises an exception object that is kept elsewhere too. */
static inline void
wpy_raise(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(Py_NewRef(exception));
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), Py_NewRef(exception), PyException_GetTraceback(exception));
#endif
}

#endif
