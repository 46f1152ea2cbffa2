/* See native.h.
 *
 * The type NativeFunction. Recognising what a user hands in (ctypes objects, "library:symbol") is the package's work;
 * here an address, a signature and what keeps the code alive come together. Calling it inline converts, detaches, calls
 * and converts back; the pool does the same steps on different threads.
 */
#include "native.h"

#include "convert.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Rows of up to so many parameters are converted on the stack. */
#define MOST_PARAMS WP_SIGNATURE_MAX_PARAMS

typedef struct native_object {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    wpy_function *function; /* Constant; a reference. */
    PyObject *signature;    /* str: the normalised text. */
    PyObject *target;       /* How to make it again: what pickle gets. Or a str: what it was made from instead. */
    PyObject *weakrefs;
} native_object;

wpy_function *
wpy_function_of(PyObject *native)
{
    return ((native_object *)native)->function;
}

/* ---- The function ---- */

static void
release_function(wpy_trash *trash)
{
    wpy_function *function = (wpy_function *)(void *)trash;
    Py_XDECREF(function->name);
    Py_XDECREF(function->full_name);
    Py_XDECREF(function->keep_alive);
    wp_call_release(&function->call);
    wp_signature_free(function->signature);
    PyMem_RawFree(function);
}

void
wpy_function_unref(wpy_function *function)
{
    if (wp_sub_acq_rel(&function->references, 1) == 1) {
        function->trash.release = release_function;
        wpy_throw_away(function->home, &function->trash, NULL);
    }
}

bool
wpy_is_error(const wpy_function *function, uint64_t slot)
{
    switch (function->raises) {
    case WPY_RAISES_NONZERO:
        return slot != 0;
    case WPY_RAISES_NEGATIVE:
        return (int64_t)slot < 0;
    case WPY_RAISES_NULL:
        return slot == 0;
    default:
        return false;
    }
}

size_t
wpy_function_invoke(const wpy_function *function, const uint64_t *slots, uint64_t *results, size_t n, int *error_number)
{
    if (function->raises == WPY_RAISES_NEVER) {
        wp_call_invoke(&function->call, function->address, slots, results, n);
        return n;
    }
    size_t width = function->signature->n_params;
    for (size_t i = 0; i < n; i++) {
        errno = 0;
        wp_call_invoke(&function->call, function->address, slots + i * width, results + i, 1);
        if (wpy_is_error(function, results[i])) {
            *error_number = errno;
            return i + 1;
        }
    }
    return n;
}

static int
set_attribute(PyObject *object, const char *name, PyObject *value)
{
    int result = value != NULL ? PyObject_SetAttrString(object, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

wp_state
wpy_native_outcome(const wpy_function *function, uint64_t slot, wp_job *job)
{
    if (function->has_job && wp_job_noted_failure(job) != NULL) {
        return WP_FAILED;
    }
    if (!wpy_is_error(function, slot)) {
        return WP_DONE;
    }
    /* A failure after a request to stop is the function's way to say that it stopped. */
    return wp_load_relaxed(&job->word) & WP_JOB_STOP ? WP_CANCELLED : WP_FAILED;
}

static PyObject *
text_of_error(const wpy_function *function, PyObject *code, int error_number, const char *message)
{
    if (message != NULL) {
        return PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "replace");
    }
    if (error_number != 0) {
        return PyUnicode_FromFormat("%U() returned %R (errno %d: %s)", function->name, code, error_number,
                                    strerror(error_number));
    }
    return PyUnicode_FromFormat("%U() returned %R", function->name, code);
}

static PyObject *
native_error(const wpy_function *function, uint64_t slot, int error_number, const char *message)
{
    PyObject *code = wpy_convert_result(function, slot);
    if (code == NULL) {
        return NULL;
    }
    PyObject *text = text_of_error(function, code, error_number, message);
    PyObject *error = text != NULL ? PyObject_CallOneArg(function->home->native_error, text) : NULL;
    Py_XDECREF(text);
    if (error == NULL || set_attribute(error, "code", Py_NewRef(code)) < 0 ||
        set_attribute(error, "errno", PyLong_FromLong(error_number)) < 0 ||
        set_attribute(error, "function", Py_NewRef(function->full_name)) < 0) {
        Py_CLEAR(error);
    }
    Py_DECREF(code);
    return error;
}

PyObject *
wpy_native_error(const wpy_function *function, uint64_t slot, int error_number)
{
    return native_error(function, slot, error_number, NULL);
}

PyObject *
wpy_native_failure(const wpy_function *function, uint64_t slot, int error_number, wp_job *job)
{
    return native_error(function, slot, error_number, function->has_job ? wp_job_noted_failure(job) : NULL);
}

/* ---- Making one ---- */

/* Messages show so many characters of a text before and after the place that they are about. */
enum { CHARACTERS_AROUND = 60 };

/* The place is in characters, which bytes are as far as a signature can be read. */
static int
fail_signature(const wpy_home *home, const char *what, Py_ssize_t place, PyObject *text)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    Py_ssize_t from = place > CHARACTERS_AROUND ? place - CHARACTERS_AROUND : 0;
    Py_ssize_t to = length - from > 2 * CHARACTERS_AROUND ? from + 2 * CHARACTERS_AROUND : length;
    PyObject *shown = PyUnicode_Substring(text, from < length ? from : length, to);
    if (shown != NULL) {
        PyErr_Format(home->signature_error, "%s, at position %zd of %s%A%s", what, place, from > 0 ? "..." : "", shown,
                     to < length ? "..." : "");
        Py_DECREF(shown);
    }
    return -1;
}

/* Half of a surrogate pair is a character that UTF-8 does not have. */
static int
fail_on_surrogate(const wpy_home *home, PyObject *text)
{
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return -1;
    }
    PyObject *error = wpy_take_exception();
    Py_ssize_t position;
    if (PyUnicodeEncodeError_GetStart(error, &position) == 0) {
        (void)fail_signature(home, "unexpected character", position, text);
    }
    Py_DECREF(error);
    return -1;
}

static int
parse_signature(const wpy_home *home, PyObject *text, wpy_function *function)
{
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &length);
    wp_signature_error error;
    if (utf8 == NULL) {
        return fail_on_surrogate(home, text);
    }
    if (strlen(utf8) != (size_t)length) {
        return fail_signature(home, "unexpected character", (Py_ssize_t)strlen(utf8), text);
    }
    switch (wp_signature_parse(utf8, &function->signature, &error)) {
    case WP_SIG_OK:
        return 0;
    case WP_SIG_NOMEM:
        PyErr_NoMemory();
        return -1;
    default:
        return fail_signature(home, error.message, (Py_ssize_t)error.position, text);
    }
}

static int
prepare_call(const wpy_home *home, wpy_function *function, bool force_libffi)
{
    switch (wp_call_prepare(&function->call, function->signature, force_libffi)) {
    case WP_CALL_OK:
        return 0;
    case WP_CALL_NOMEM:
        PyErr_NoMemory();
        return -1;
    default:
        PyErr_Format(
            home->signature_error,
            "%U(): this signature cannot be called directly on this platform, and workerpool was built without "
            "libffi (on Debian: apt-get install libffi-dev, then install workerpool again)",
            function->name);
        return -1;
    }
}

static const char *const raises_names[] = {
    [WPY_RAISES_NONZERO] = "nonzero", [WPY_RAISES_NEGATIVE] = "negative", [WPY_RAISES_NULL] = "null"};

static int
parse_raises(PyObject *raises, wpy_function *function, const wpy_home *home)
{
    if (raises == Py_None) {
        return 0;
    }
    for (size_t i = WPY_RAISES_NONZERO; PyUnicode_Check(raises) && i <= WPY_RAISES_NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(raises, raises_names[i]) == 0) {
            function->raises = (enum wpy_raises)i;
        }
    }
    if (function->raises == WPY_RAISES_NEVER) {
        PyObject *shown = PyUnicode_Check(raises) ? raises : (PyObject *)Py_TYPE(raises);
        PyErr_Format(PyExc_ValueError, "raises must be 'nonzero', 'negative', 'null' or None, not %.100R", shown);
        return -1;
    }
    wp_type result = function->signature->result.type;
    bool is_pointer = result == WP_TYPE_PTR;
    bool fits = function->raises == WPY_RAISES_NULL ? is_pointer
                : function->raises == WPY_RAISES_NEGATIVE
                    ? wp_type_describe(result)->is_signed
                    : !is_pointer && result != WP_TYPE_VOID && !wp_type_describe(result)->is_floating;
    if (!fits) {
        PyErr_Format(home->signature_error, "raises=%R does not fit a result of type `%.100s`", raises,
                     function->signature->result.spelling);
        return -1;
    }
    return 0;
}

static void
note_parameters(wpy_function *function)
{
    for (size_t i = 0; i < function->signature->n_params - function->n_bound; i++) {
        wp_type type = function->signature->params[i].type;
        function->has_job = function->has_job || type == WP_TYPE_JOB;
        function->has_pointers = function->has_pointers || type == WP_TYPE_PTR;
        function->n_arguments += type != WP_TYPE_JOB;
    }
}

/* The values of the last parameters, as a slot holds them. What is bound is user data, an address or a small integer. */
static int
read_bound(const wpy_home *home, PyObject *values, wpy_function *function)
{
    size_t n = (size_t)PyTuple_GET_SIZE(values);
    size_t n_params = function->signature->n_params;
    if (n > WPY_MOST_BOUND || n > n_params) {
        PyErr_Format(home->signature_error, "%zu values cannot be bound to %zu parameters (at most %d can be)", n,
                     n_params, WPY_MOST_BOUND);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const wp_param *param = &function->signature->params[n_params - n + i];
        if (param->type == WP_TYPE_JOB || wp_type_describe(param->type)->is_floating) {
            PyErr_Format(home->signature_error, "a parameter of type `%.100s` cannot have a value bound to it",
                         param->spelling);
            return -1;
        }
        function->bound[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(values, (Py_ssize_t)i));
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    function->n_bound = n;
    return 0;
}

/* The name as messages show it. That of a C++ function can be a page long. */
enum { MOST_SHOWN = 200 };

static int
set_name(wpy_function *function, PyObject *name)
{
    function->full_name = Py_NewRef(name);
    function->name =
        PyUnicode_GET_LENGTH(name) > MOST_SHOWN ? PyUnicode_FromFormat("%.200U...", name) : Py_NewRef(name);
    function->name_text = function->name != NULL ? PyUnicode_AsUTF8(function->name) : NULL;
    return function->name_text != NULL ? 0 : -1;
}

/* What the constructor was given. */
typedef struct native_args {
    PyObject *address;
    PyObject *signature;
    PyObject *name;
    PyObject *keep_alive;
    PyObject *target;
    PyObject *raises;
    PyObject *bound; /* A tuple, or NULL. */
    int force_libffi;
} native_args;

static wpy_function *
function_new(wpy_home *home, const native_args *args)
{
    void *address = PyLong_AsVoidPtr(args->address);
    if (address == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "the address of a native function must not be 0");
        }
        return NULL;
    }
    wpy_function *function = PyMem_RawCalloc(1, sizeof *function);
    if (function == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    wp_store_relaxed(&function->references, 1);
    function->home = home;
    memcpy(&function->address, &address, sizeof address);
    function->keep_alive = Py_NewRef(args->keep_alive);
    if (set_name(function, args->name) < 0 || parse_signature(home, args->signature, function) < 0 ||
        prepare_call(home, function, args->force_libffi != 0) < 0 || parse_raises(args->raises, function, home) < 0 ||
        (args->bound != NULL && read_bound(home, args->bound, function) < 0)) {
        wpy_function_unref(function);
        return NULL;
    }
    note_parameters(function);
    return function;
}

static PyObject *
normalised_text(const wpy_function *function)
{
    int length = wp_signature_format(function->signature, NULL, 0);
    char *text = length >= 0 ? PyMem_Malloc((size_t)length + 1) : NULL;
    if (text == NULL) {
        return PyErr_NoMemory();
    }
    wp_signature_format(function->signature, text, (size_t)length + 1);
    PyObject *result = PyUnicode_FromStringAndSize(text, length);
    PyMem_Free(text);
    return result;
}

static PyObject *native_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames);

static PyObject *
native_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"address", "signature", "name",         "keep_alive", "target",
                               "raises",  "bound",     "force_libffi", NULL};
    native_args given = {.keep_alive = Py_None, .target = Py_None, .raises = Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OUU|OOO$O!p:NativeFunction", keywords, &given.address,
                                     &given.signature, &given.name, &given.keep_alive, &given.target, &given.raises,
                                     &PyTuple_Type, &given.bound, &given.force_libffi)) {
        return NULL;
    }
    wpy_home *home = wpy_home_of_type(type);
    wpy_function *function = home != NULL ? function_new(home, &given) : NULL;
    if (function == NULL) {
        return NULL;
    }
    native_object *self = (native_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        wpy_function_unref(function);
        return NULL;
    }
    self->vectorcall = native_vectorcall;
    self->function = function;
    self->target = Py_NewRef(given.target);
    self->signature = normalised_text(function);
    if (self->signature == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
native_dealloc(native_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    Py_XDECREF(self->signature);
    Py_XDECREF(self->target);
    if (self->function != NULL) {
        wpy_function_unref(self->function);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Calling it inline ---- */

/* What a function that takes its job is handed when it is called directly: a job of no pool, on the caller's stack. It
 * never stops and has no children, but it can say why it failed. */
typedef struct direct_job {
    wp_job job;
    wp_notes_slot notes;
} direct_job;

static wp_notes_slot *
notes_of_direct_job(wp_job *job)
{
    return &((direct_job *)(void *)job)->notes;
}

static const wp_job_class direct_class = {
    .api = &wp_view_api,
    .name = "native function, called directly",
    .notes = notes_of_direct_job,
};

static PyObject *
direct_result(const wpy_function *function, uint64_t result, int error_number, wp_job *job)
{
    if (wpy_native_outcome(function, result, job) == WP_DONE) {
        return wpy_convert_result(function, result);
    }
    PyObject *error = wpy_native_failure(function, result, error_number, job);
    if (error != NULL) {
        wpy_raise(error);
        Py_DECREF(error);
    }
    return NULL;
}

static PyObject *
native_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    const wpy_function *function = wpy_function_of(self);
    uint64_t slots[MOST_PARAMS];
    wpy_hold holds[MOST_PARAMS];
    uint64_t result;
    int error_number = 0;
    direct_job direct;
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        PyErr_Format(PyExc_TypeError, "%U() takes no keyword arguments", function->name);
        return NULL;
    }
    if (wpy_convert_row(function, args, PyVectorcall_NARGS(nargsf), &direct, slots, holds) < 0) {
        return NULL;
    }
    if (function->has_job) {
        wp_job_init(&direct.job, &direct_class, 0, NULL);
        wp_notes_init(&direct.notes);
    }
    Py_BEGIN_ALLOW_THREADS
    wpy_function_invoke(function, slots, &result, 1, &error_number);
    Py_END_ALLOW_THREADS
    for (size_t i = 0; function->has_pointers && i < function->signature->n_params; i++) {
        wpy_hold_release(&holds[i]);
    }
    PyObject *object = direct_result(function, result, error_number, &direct.job);
    if (function->has_job) {
        wp_notes_free(&direct.notes);
    }
    return object;
}

/* ---- Attributes ---- */

static PyObject *
native_repr(native_object *self)
{
    return PyUnicode_FromFormat("<NativeFunction %U: %U>", self->function->name, self->signature);
}

static PyObject *
native_get_name(native_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->function->full_name);
}

static PyObject *
native_get_signature(native_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->signature);
}

static PyObject *
native_get_address(native_object *self, void *Py_UNUSED(closure))
{
    void *address;
    memcpy(&address, &self->function->address, sizeof address);
    return PyLong_FromVoidPtr(address);
}

static PyObject *
native_get_route(native_object *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(wp_call_route(&self->function->call));
}

static PyObject *
native_get_target(native_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->target);
}

static PyObject *
native_get_raises(native_object *self, void *Py_UNUSED(closure))
{
    const char *name = raises_names[self->function->raises];
    return name != NULL ? PyUnicode_FromString(name) : Py_NewRef(Py_None);
}

static PyObject *
native_get_bound(native_object *self, void *Py_UNUSED(closure))
{
    const wpy_function *function = self->function;
    PyObject *values = PyTuple_New((Py_ssize_t)function->n_bound);
    for (size_t i = 0; values != NULL && i < function->n_bound; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(function->bound[i]);
        if (value == NULL) {
            Py_CLEAR(values);
        } else {
            PyTuple_SET_ITEM(values, (Py_ssize_t)i, value);
        }
    }
    return values;
}

/* The kinds of the result and of the parameters, ("f64", "i32", "ptr"). Two signatures with the same are called alike,
 * whatever they call their types; a job is a pointer like any other here. */
static PyObject *
native_get_kinds(native_object *self, void *Py_UNUSED(closure))
{
    const wp_signature *signature = self->function->signature;
    PyObject *kinds = PyTuple_New((Py_ssize_t)signature->n_params + 1);
    for (size_t i = 0; kinds != NULL && i <= signature->n_params; i++) {
        wp_type type = i == 0 ? signature->result.type : signature->params[i - 1].type;
        PyObject *kind = PyUnicode_FromString(wp_type_describe(type == WP_TYPE_JOB ? WP_TYPE_PTR : type)->name);
        if (kind == NULL) {
            Py_CLEAR(kinds);
        } else {
            PyTuple_SET_ITEM(kinds, (Py_ssize_t)i, kind);
        }
    }
    return kinds;
}

static PyObject *
native_get_mean_time(native_object *self, void *Py_UNUSED(closure))
{
    uint32_t mean = wp_pace_mean(&self->function->pace);
    if (mean == WP_PACE_UNKNOWN) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)mean / 1e9);
}

static PyObject *
native_reduce(native_object *self, PyObject *Py_UNUSED(ignored))
{
    if (PyTuple_Check(self->target)) {
        return Py_NewRef(self->target); /* (callable, arguments), made by the package for what was named. */
    }
    PyObject *origin = PyUnicode_Check(self->target) ? Py_NewRef(self->target) : PyUnicode_FromString("an address");
    if (origin != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "cannot pickle %R: it was made from %U, which means nothing in another process; make it from "
                     "\"library:symbol\" or \"module:attribute\" instead",
                     self, origin);
        Py_DECREF(origin);
    }
    return NULL;
}

static PyMethodDef native_methods[] = {
    {"__reduce__", (PyCFunction)native_reduce, METH_NOARGS, NULL},
    {0},
};

static PyGetSetDef native_getset[] = {
    {"__name__", (getter)native_get_name, NULL, "The function's name.", NULL},
    {"signature", (getter)native_get_signature, NULL, "Its C signature, normalised.", NULL},
    {"address", (getter)native_get_address, NULL, "Its address.", NULL},
    {"route", (getter)native_get_route, NULL, "How it is called: 'direct' or 'libffi'.", NULL},
    {"mean_time", (getter)native_get_mean_time, NULL,
     "How long a call takes, in seconds, as pools have measured lately; None before the first.", NULL},
    {"raises", (getter)native_get_raises, NULL, "Which results are errors: 'nonzero', 'negative', 'null' or None.",
     NULL},
    {"_bound", (getter)native_get_bound, NULL, NULL, NULL},
    {"_kinds", (getter)native_get_kinds, NULL, NULL, NULL},
    {"_target", (getter)native_get_target, NULL, NULL, NULL},
    {0},
};

static PyMemberDef native_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(native_object, weakrefs), Py_READONLY, NULL},
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(native_object, vectorcall), Py_READONLY, NULL},
    {0},
};

PyDoc_STRVAR(native_doc, "A C function that a pool can run without the interpreter. Made by native().\n\n"
                         "Calling it runs it on the calling thread, with the GIL released.");

static PyType_Slot native_slots[] = {
    {Py_tp_doc, (void *)native_doc}, {Py_tp_new, native_new},         {Py_tp_dealloc, native_dealloc},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_repr, native_repr},       {Py_tp_methods, native_methods},
    {Py_tp_getset, native_getset},   {Py_tp_members, native_members}, {0, NULL},
};

PyType_Spec wpy_native_spec = {
    .name = "workerpool.NativeFunction",
    .basicsize = sizeof(native_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = native_slots,
};
