/* See token.h; what tokens do is in wp_token.h. */
#include "token.h"

#include "wait.h"

typedef struct token_object {
    PyObject_HEAD
    wp_token *core;   /* Constant. */
    PyObject *parent; /* Constant: a CancelToken, or NULL. */
    PyObject *weakrefs;
    wpy_home *home;
} token_object;

wp_token *
wpy_token_core(PyObject *token)
{
    return ((token_object *)token)->core;
}

int
wpy_token_convert(wpy_home *home, PyObject *object, PyObject **token)
{
    *token = NULL;
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyObject_TypeCheck(object, home->token_type)) {
        PyErr_Format(PyExc_TypeError, "token must be a workerpool.CancelToken or None, not %.100s%s",
                     Py_TYPE(object)->tp_name, wpy_of_which_import(object, "workerpool.CancelToken"));
        return -1;
    }
    *token = object;
    return 0;
}

static PyObject *
token_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"timeout", "parent", NULL};
    PyObject *timeout = Py_None;
    PyObject *parent_arg = Py_None;
    PyObject *parent;
    uint64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:CancelToken", keywords, &timeout, &parent_arg)) {
        return NULL;
    }
    wpy_home *home = wpy_home_of_type(type);
    if (home == NULL || wpy_duration(timeout, "timeout", &ns) < 0) {
        return NULL;
    }
    if (wpy_token_convert(home, parent_arg, &parent) < 0) {
        return NULL;
    }
    token_object *self = (token_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->home = home;
    self->parent = Py_XNewRef(parent);
    self->core =
        wp_token_new(parent != NULL ? wpy_token_core(parent) : NULL, ns == WP_FOREVER ? WP_FOREVER : wp_clock() + ns);
    if (self->core == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

/* A token may be the last to hold its parent, and so on for a million of them. */
static void
token_dealloc(token_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, token_dealloc) PyObject_ClearWeakRefs((PyObject *)self);
    wp_token_unref(self->core);
    Py_XDECREF(self->parent);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static int
token_traverse(token_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->parent);
    return 0;
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Cancel the jobs that were submitted with this token or with one below it.\n\n"
                         "Jobs that wait end cancelled at once; running ones are asked to stop. A submit that is\n"
                         "blocked with the token raises CancelledError. Cancelling twice does nothing.\n\n"
                         "Returns True if this call cancelled it, False if it was cancelled before. Thread-safe.");

static PyObject *
token_cancel(token_object *self, PyObject *Py_UNUSED(ignored))
{
    wpy_hush();
    bool cancelled = wp_token_cancel(self->core);
    wpy_speak(self->home);
    return PyBool_FromLong(cancelled);
}

PyDoc_STRVAR(raise_doc, "raise_if_cancelled($self, /)\n--\n\n"
                        "Raise concurrent.futures.CancelledError if the token is cancelled. Thread-safe.");

static PyObject *
token_raise_if_cancelled(token_object *self, PyObject *Py_UNUSED(ignored))
{
    if (wp_token_is_cancelled(self->core)) {
        PyErr_SetString(self->home->cancelled_error, "the token is cancelled");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
token_get_cancelled(token_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(wp_token_is_cancelled(self->core));
}

static PyObject *
token_get_parent(token_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->parent != NULL ? self->parent : Py_None);
}

static PyObject *
token_get_time_left(token_object *self, void *Py_UNUSED(closure))
{
    return wpy_seconds_until(wp_token_deadline(self->core));
}

static PyObject *
token_repr(token_object *self)
{
    return PyUnicode_FromFormat("<CancelToken at %p %s>", self,
                                wp_token_is_cancelled(self->core) ? "cancelled" : "not cancelled");
}

static PyMethodDef token_methods[] = {
    {"cancel", (PyCFunction)token_cancel, METH_NOARGS, cancel_doc},
    {"raise_if_cancelled", (PyCFunction)token_raise_if_cancelled, METH_NOARGS, raise_doc},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef token_getset[] = {
    {"cancelled", (getter)token_get_cancelled, NULL, "True once it was cancelled or its time is over.", NULL},
    {"parent", (getter)token_get_parent, NULL, "The token whose cancellation cancels this one, or None.", NULL},
    {"time_left", (getter)token_get_time_left, NULL,
     "Seconds until it cancels itself (0.0 once the time is over), or None if it has no time limit.", NULL},
    {0},
};

static PyMemberDef token_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(token_object, weakrefs), Py_READONLY, NULL},
    {0},
};

PyDoc_STRVAR(token_doc,
             "CancelToken(timeout=None, parent=None)\n--\n\n"
             "A request to stop that many jobs can share.\n\n"
             "Give it to jobs with pool.options(token=...). A running job sees it through current_job() or, in C,\n"
             "through its wp_job. Any number of threads may use one token.\n\n"
             "timeout: seconds after which the token cancels itself, or None.\n"
             "parent: a CancelToken whose cancellation, and whose time limit, hold for this one too.");

static PyType_Slot token_slots[] = {
    {Py_tp_doc, (void *)token_doc},   {Py_tp_new, token_new},         {Py_tp_dealloc, token_dealloc},
    {Py_tp_traverse, token_traverse}, {Py_tp_repr, token_repr},       {Py_tp_methods, token_methods},
    {Py_tp_getset, token_getset},     {Py_tp_members, token_members}, {0, NULL},
};

PyType_Spec wpy_token_spec = {
    .name = "workerpool.CancelToken",
    .basicsize = sizeof(token_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = token_slots,
};
