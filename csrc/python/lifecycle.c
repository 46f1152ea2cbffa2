/* See lifecycle.h.
 *
 * The hook runs where concurrent.futures' own does: at the start of threading's shutdown, before the interpreter joins
 * its threads and long before it ends. What was submitted is done first, as with the standard library; Ctrl-C ends the
 * wait.
 *
 * A fork, too, calls a hook before and after, for what is said at the top of context.c.
 */
#include "lifecycle.h"

#include "context.h"
#include "wait.h"

int
wpy_register_exit(PyObject *module)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *hook = threading != NULL ? PyObject_GetAttrString(module, "_at_exit") : NULL;
    PyObject *registered = hook != NULL ? PyObject_CallMethod(threading, "_register_atexit", "O", hook) : NULL;
    Py_XDECREF(registered);
    Py_XDECREF(hook);
    Py_XDECREF(threading);
    return registered != NULL ? 0 : -1;
}

static PyObject *
before_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    wpy_hold_thread_states();
    Py_RETURN_NONE;
}

static PyObject *
after_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    wpy_release_thread_states();
    Py_RETURN_NONE;
}

static PyMethodDef fork_hooks[] = {
    {"before_fork", before_fork, METH_NOARGS, NULL},
    {"after_fork", after_fork, METH_NOARGS, NULL},
};

/* Not pthread_atfork: from 3.13 on a fork holds CPython's lock by the time those hooks are called, which is the wrong order. */
int
wpy_register_fork(void)
{
    PyObject *before = PyCFunction_New(&fork_hooks[0], NULL);
    PyObject *after = before != NULL ? PyCFunction_New(&fork_hooks[1], NULL) : NULL;
    PyObject *hooks = after != NULL ? Py_BuildValue("{s:O,s:O,s:O}", "before", before, "after_in_parent", after,
                                                    "after_in_child", after)
                                    : NULL;
    PyObject *nothing = hooks != NULL ? PyTuple_New(0) : NULL;
    PyObject *os = nothing != NULL ? PyImport_ImportModule("os") : NULL;
    PyObject *method = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *done = method != NULL ? PyObject_Call(method, nothing, hooks) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(method);
    Py_XDECREF(os);
    Py_XDECREF(nothing);
    Py_XDECREF(hooks);
    Py_XDECREF(after);
    Py_XDECREF(before);
    return done != NULL ? 0 : -1;
}

static enum wp_result
slice_of_join(void *pool, uint64_t until)
{
    return wp_pool_join_in_part(pool, until);
}

static void
close_all(wpy_home *home)
{
    for (wp_pool *pool = wpy_next_pool(home, NULL); pool != NULL; pool = wpy_next_pool(home, pool)) {
        wp_pool_close(pool);
    }
}

PyObject *
wpy_at_exit(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    wpy_home *home = wpy_home_of_module(module);
    wp_store_release(&home->exiting, 1);
    close_all(home);
    for (wp_pool *pool = wpy_next_pool(home, NULL); pool != NULL; pool = wpy_next_pool(home, pool)) {
        if (wpy_wait(slice_of_join, pool, WP_FOREVER) < 0) {
            wp_pool_unref(pool);
            return NULL; /* Ctrl-C: the interpreter reports it and goes on with its shutdown. */
        }
        wpy_empty_trash(home);
    }
    Py_RETURN_NONE;
}
