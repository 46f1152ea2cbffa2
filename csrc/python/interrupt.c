/* See interrupt.h. */
#include "interrupt.h"

/* Of the main thread alone: others never get that far. */
static _Thread_local PyObject *raised;
static _Thread_local unsigned in_foreign;

/* ---- Who has raised it ---- */

static bool
on_main_thread(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *main_thread = threading != NULL ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = main_thread != NULL ? PyObject_GetAttrString(main_thread, "ident") : NULL;
    bool is_main =
        ident != NULL && PyLong_Check(ident) && PyLong_AsUnsignedLongMask(ident) == PyThread_get_thread_ident();
    Py_XDECREF(ident);
    Py_XDECREF(main_thread);
    Py_XDECREF(threading);
    PyErr_Clear();
    return is_main;
}

static bool
is_from_handler(PyObject *exception)
{
    PyObject *module = PyImport_ImportModule("workerpool._signals");
    PyObject *answer = module != NULL ? PyObject_CallMethod(module, "is_from_handler", "O", exception) : NULL;
    bool is = answer == Py_True;
    Py_XDECREF(answer);
    Py_XDECREF(module);
    PyErr_Clear();
    return is;
}

bool
wpy_interrupts(PyObject *exception)
{
    if (wp_worker_self() != NULL || !PyExceptionInstance_Check(exception)) {
        return false;
    }
    return PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) ||
           (on_main_thread() && is_from_handler(exception));
}

/* ---- Raising it where the program is ---- */

/* Called by the interpreter, on the main thread, between two instructions. */
static int
raise_now(void *Py_UNUSED(arg))
{
    if (raised == NULL || in_foreign > 0) {
        return 0;
    }
    PyObject *exception = raised;
    raised = NULL;
    wpy_raise(exception);
    Py_DECREF(exception);
    return -1;
}

static void
ask_to_raise(void)
{
    if (raised != NULL && in_foreign == 0) {
        Py_AddPendingCall(raise_now, NULL); /* Full: whoever comes next asks again. */
    }
}

void
wpy_raise_later(wpy_home *home, PyObject *source)
{
    PyObject *exception = wpy_take_exception();
    bool ends_program = !PyErr_GivenExceptionMatches(exception, PyExc_Exception);
    if (ends_program && raised == NULL && wp_worker_self() == NULL && home->interpreter == PyInterpreterState_Main() &&
        on_main_thread()) {
        raised = exception;
        ask_to_raise();
        return;
    }
    wpy_raise(exception);
    Py_DECREF(exception);
    PyErr_WriteUnraisable(source);
}

void
wpy_begin_foreign(void)
{
    in_foreign++;
}

void
wpy_end_foreign(void)
{
    in_foreign--;
    ask_to_raise();
}
