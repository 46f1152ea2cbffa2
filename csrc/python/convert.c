/* See convert.h. */
#include "convert.h"

#include "item.h"
#include "message.h"
#include "operand.h"

#include <string.h>

/* What an integer that is no address stays below. */
#define FIRST_PAGE 4096

/* ---- Messages ---- */

/* The caller counts the arguments that it gives, from 1; parameters that the pool fills in are not among them. */
static size_t
argument_number(const wpy_function *function, size_t at)
{
    size_t number = 1;
    for (size_t i = 0; i < at; i++) {
        number += function->signature->params[i].type != WP_TYPE_JOB;
    }
    return number;
}

/* Replaces the exception that is set, or none, by one that says where; but a lack of memory is nowhere, and Ctrl-C is
 * nobody's argument. */
static int
fail(const wpy_function *function, size_t at, PyObject *type, const char *format, ...)
{
    va_list arguments;
    if (wpy_must_pass_on()) {
        return -1;
    }
    va_start(arguments, format);
    PyObject *cause = PyErr_Occurred() ? wpy_take_exception() : NULL;
    PyObject *what = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (what != NULL) {
        PyErr_Format(type, "%U() argument %zu: %U", function->name, argument_number(function, at), what);
        Py_DECREF(what);
    }
    if (cause != NULL) {
        PyObject *error = wpy_take_exception();
        PyException_SetCause(error, cause);
        wpy_raise(error);
        Py_DECREF(error);
    }
    return -1;
}

static const wp_param *
param_at(const wpy_function *function, size_t at)
{
    return &function->signature->params[at];
}

/* What Python says of a wrong type is to be replaced, rather than to be the cause of the next; what an object's own code
 * raises is the cause. */
static void
forget_exception(void)
{
    if (PyErr_Occurred() && (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_OverflowError))) {
        PyErr_Clear();
    }
}

static int
fail_type(const wpy_function *function, size_t at, PyObject *object, const char *wanted)
{
    forget_exception();
    return fail(function, at, PyExc_TypeError, "`%.100s` takes %s, not %.100s", param_at(function, at)->spelling,
                wanted, Py_TYPE(object)->tp_name);
}

static int
fail_number(const wpy_function *function, size_t at, PyObject *object, const char *wanted)
{
    forget_exception();
    return fail(function, at, PyExc_TypeError, "`%.100s` takes %s, not %.100s%s", param_at(function, at)->spelling,
                wanted, Py_TYPE(object)->tp_name, wpy_number_hint(object));
}

static int
fail_range(const wpy_function *function, size_t at, PyObject *object)
{
    forget_exception();
    PyObject *text = PyErr_Occurred() ? NULL : wpy_short_repr(object);
    if (text == NULL) {
        return -1;
    }
    fail(function, at, PyExc_OverflowError, "%S is out of the range of `%.100s`", text,
         param_at(function, at)->spelling);
    Py_DECREF(text);
    return -1;
}

static int
fail_function(const wpy_function *function, size_t at, PyObject *object)
{
    return fail(function, at, PyExc_TypeError,
                "`%.100s` points to a function: it takes a NativeFunction, a function of ctypes or cffi, an address or "
                "None, not %.100s; ctypes.CFUNCTYPE(...)(f) makes one of a Python function f",
                param_at(function, at)->spelling, Py_TYPE(object)->tp_name);
}

/* Plain bytes are no table of numbers, although they go for one. */
static const char *
text_hint(const wp_param *param)
{
    if (strstr(param->spelling, "wchar_t") != NULL) {
        return "; pass ctypes.create_unicode_buffer() of it";
    }
    if (param->pointee != WP_TYPE_VOID && wp_type_describe(param->pointee)->size != 1) {
        return "";
    }
    return param->is_const ? "; pass its .encode()" : "; pass ctypes.create_string_buffer() of its .encode()";
}

/* What was given for a pointer is no memory and no address. */
static int
fail_pointer(const wpy_function *function, size_t at, PyObject *object)
{
    const wp_param *param = param_at(function, at);
    forget_exception();
    if (param->is_function) {
        return fail_function(function, at, object);
    }
    const char *hint = PyErr_Occurred() ? "" : PyUnicode_Check(object) ? text_hint(param) : wpy_memory_hint(object);
    return hint == NULL ? -1
                        : fail(function, at, PyExc_TypeError,
                               "`%.100s` takes a buffer, a ctypes object, an address or None, not %.100s%s",
                               param->spelling, Py_TYPE(object)->tp_name, hint);
}

/* ---- Numbers ---- */

static int
convert_signed(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    size_t bits = wp_type_describe(param_at(function, at)->type)->size * 8;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return fail_number(function, at, object, "an integer");
    }
    long long most = bits == 64 ? INT64_MAX : (1LL << (bits - 1)) - 1;
    if (overflow != 0 || value > most || value < -most - 1) {
        return fail_range(function, at, object);
    }
    *slot = (uint64_t)value;
    return 0;
}

static int
convert_unsigned(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    size_t bits = wp_type_describe(param_at(function, at)->type)->size * 8;
    PyObject *index = PyNumber_Index(object);
    if (index == NULL) {
        return fail_number(function, at, object, "an integer");
    }
    unsigned long long value = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if ((value == (unsigned long long)-1 && PyErr_Occurred()) || (bits < 64 && value >> bits != 0)) {
        return fail_range(function, at, object);
    }
    *slot = value;
    return 0;
}

/* Numbers of cffi say neither to Python what kind they are, nor whether they are pointers: see convert_stand_in(). */
static bool
is_of_cffi(PyObject *object)
{
    return strncmp(Py_TYPE(object)->tp_name, "_cffi_backend.", 14) == 0;
}

/* Numbers and what behaves like one, such as numpy.bool. Not None, and not what is only true for not being empty or null:
 * given for a bool those are mistakes. */
static int
convert_bool(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    const PyNumberMethods *number = Py_TYPE(object)->tp_as_number;
    bool has_value = number != NULL && (number->nb_index != NULL || number->nb_int != NULL || number->nb_float != NULL);
    bool has_truth = has_value && number->nb_bool != NULL && !is_of_cffi(object);
    int truth = has_truth ? PyObject_IsTrue(object) : -1;
    if (truth < 0) {
        return fail_type(function, at, object, "a truth value");
    }
    *slot = (uint64_t)truth;
    return 0;
}

static int
as_double(const wpy_function *function, size_t at, PyObject *object, double *value)
{
    bool may_be_number = PyFloat_Check(object) || PyLong_Check(object) || !is_of_cffi(object);
    if (!may_be_number) {
        return fail_number(function, at, object, "a number");
    }
    *value = PyFloat_AsDouble(object);
    if (*value == -1.0 && PyErr_Occurred()) {
        return PyErr_ExceptionMatches(PyExc_OverflowError) ? fail_range(function, at, object)
                                                           : fail_number(function, at, object, "a number");
    }
    return 0;
}

static int
convert_double(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    double value;
    if (PyFloat_CheckExact(object)) {
        value = PyFloat_AS_DOUBLE(object);
    } else if (as_double(function, at, object, &value) < 0) {
        return -1;
    }
    memcpy(slot, &value, sizeof value);
    return 0;
}

static int
convert_float(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    double value;
    if (as_double(function, at, object, &value) < 0) {
        return -1;
    }
    float narrow = (float)value;
    if (value - value == 0 && narrow - narrow != 0) { /* Finite, but not as a float. */
        return fail_range(function, at, object);
    }
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    *slot = bits;
    return 0;
}

/* ---- Pointers ---- */

#define IS_BUFFER ((uintptr_t)1)

void
wpy_hold_release(wpy_hold *hold)
{
    if (hold->object_or_buffer & IS_BUFFER) {
        Py_buffer *buffer = (Py_buffer *)(hold->object_or_buffer & ~IS_BUFFER);
        wpy_release_buffer(buffer);
        PyMem_RawFree(buffer);
    } else {
        Py_XDECREF((PyObject *)hold->object_or_buffer);
    }
    hold->object_or_buffer = 0;
}

static void
hold_object(wpy_hold *hold, PyObject *object)
{
    hold->object_or_buffer = (uintptr_t)Py_NewRef(object);
}

/* The class of ctypes that the object's class is made from, such as "Array"; NULL for other objects. */
static const char *
base_in_ctypes(PyObject *object)
{
    for (PyTypeObject *type = Py_TYPE(object); type != NULL; type = type->tp_base) {
        if (strncmp(type->tp_name, "_ctypes.", 8) == 0) {
            return type->tp_name + 8;
        }
    }
    return NULL;
}

/* Whether an object of ctypes has an address in its buffer rather than data: a pointer, a c_void_p or c_char_p, a function.
 * Its address is what such an argument means to ctypes too. Attributes do not tell: anybody can set them. */
static bool
holds_address(PyObject *object, const Py_buffer *buffer)
{
    const char *base = buffer->len == (Py_ssize_t)sizeof(void *) ? base_in_ctypes(object) : NULL;
    if (base == NULL) {
        return false;
    }
    if (strcmp(base, "_Pointer") == 0 || strcmp(base, "CFuncPtr") == 0) {
        return true;
    }
    return strcmp(base, "_SimpleCData") == 0 && wpy_is_pointer_item(buffer->format);
}

/* What ctypes itself has in an attribute of one of its objects, whatever a class derived from its own makes of it. None for
 * what is no object of ctypes. */
static PyObject *
ctypes_member(PyObject *object, const char *name)
{
    const PyTypeObject *type = Py_TYPE(object);
    while (type != NULL && strcmp(type->tp_name, "_ctypes._CData") != 0) {
        type = type->tp_base;
    }
    if (type == NULL) {
        return Py_NewRef(Py_None);
    }
    PyObject *member = PyObject_GetAttrString((PyObject *)(uintptr_t)type, name);
    const descrgetfunc get = member != NULL ? Py_TYPE(member)->tp_descr_get : NULL;
    PyObject *value = get != NULL ? get(member, object, (PyObject *)Py_TYPE(object)) : Py_XNewRef(member);
    Py_XDECREF(member);
    return value;
}

/* What an array of pointers keeps alive is copied up to so many objects: for each pointer in a long one that would take
 * longer than its job. */
#define MOST_KEPT 1024

/* Adds what the object keeps alive to the list: its dict is copied, for ctypes replaces what is in it. */
static int
add_kept(PyObject *list, PyObject *object)
{
    PyObject *kept = ctypes_member(object, "_objects");
    if (kept != NULL && PyDict_CheckExact(kept)) {
        PyObject *copy = PyDict_GET_SIZE(kept) <= MOST_KEPT ? PyDict_Copy(kept) : Py_NewRef(Py_None);
        Py_SETREF(kept, copy);
    }
    int result = kept != NULL ? PyList_Append(list, kept) : -1;
    Py_XDECREF(kept);
    return result;
}

/* What a pointer of ctypes leads to is kept alive by the pointer only until another value is assigned to it, which may be
 * while the job has the address: so the job holds what the pointer, and whatever it is a part of, keep alive now. */
static PyObject *
kept_by_pointer(PyObject *object)
{
    PyObject *list = PyList_New(0);
    PyObject *part = Py_NewRef(object);
    while (list != NULL && part != NULL && part != Py_None) {
        PyObject *whole =
            PyList_Append(list, part) == 0 && add_kept(list, part) == 0 ? ctypes_member(part, "_b_base_") : NULL;
        Py_SETREF(part, whole);
    }
    if (part == NULL) {
        Py_CLEAR(list);
    }
    Py_XDECREF(part);
    return list;
}

/* The address that a ctypes.byref(x, offset) stands for; only ctypes itself can tell it. */
static int
address_of_byref(PyObject *object, uint64_t *slot)
{
    PyObject *ctypes = PyImport_ImportModule("ctypes");
    PyObject *type = ctypes != NULL ? PyObject_GetAttrString(ctypes, "c_void_p") : NULL;
    PyObject *pointer = type != NULL ? PyObject_CallMethod(ctypes, "cast", "OO", object, type) : NULL;
    PyObject *address = pointer != NULL ? PyObject_GetAttrString(pointer, "value") : NULL;
    if (address != NULL) {
        *slot = address == Py_None ? 0 : (uint64_t)(uintptr_t)PyLong_AsVoidPtr(address);
    }
    Py_XDECREF(address);
    Py_XDECREF(pointer);
    Py_XDECREF(type);
    Py_XDECREF(ctypes);
    return PyErr_Occurred() ? -1 : 0;
}

/* What a date is called here, for want of a letter in the struct module: NumPy's own name for its kind. */
static char dates[] = "M";

/* What to do where the items are others: a new object. What a function of `void *` makes of memory nobody checks, so that
 * is no advice unless the items are the same but for their sign. */
static PyObject *
advice_for_items(PyObject *object, wp_type pointee, const char *format, size_t item_size)
{
    const wp_type_traits *wanted = wp_type_describe(pointee);
    const char *sign = wpy_is_integer_item(format) && !wanted->is_floating && item_size == wanted->size
                           ? ", or declare the parameter `void *` if the function takes both"
                           : "";
    const char *letter = wpy_struct_letter(pointee);
    const char *own = letter != NULL ? wpy_name_of_items(letter, wanted->size) : NULL;
    if (pointee == WP_TYPE_PTR) {
        return PyUnicode_FromString("pass an array of addresses (numpy.uintp, ctypes.c_void_p)");
    }
    if (strcmp(format, dates) == 0) {
        return PyUnicode_FromString("dates are integers to C: pass its .view('i8')");
    }
    if (own == NULL || wpy_name_of_items(format, item_size) == NULL) {
        return PyUnicode_FromFormat("pass an array of %s", wpy_item_name(pointee));
    }
    return wpy_is_numpy_array(object) ? PyUnicode_FromFormat("convert it first, as in a = a.astype('%s')%s", own, sign)
                                      : PyUnicode_FromFormat("convert it first%s", sign);
}

/* "the format 'f' (float32)". */
static int
fail_items(const wpy_function *function, size_t at, PyObject *object, const char *format, size_t item_size)
{
    const wp_param *param = param_at(function, at);
    const char *name = wpy_name_of_items(format, item_size);
    PyObject *advice = advice_for_items(object, param->pointee, format, item_size);
    if (advice != NULL) {
        fail(function, at, PyExc_TypeError,
             "`%.100s` points to %s, and this %.100s holds items of the format '%.100s'%s%s%s; %U", param->spelling,
             wpy_item_name(param->pointee), Py_TYPE(object)->tp_name, format, name != NULL ? " (" : "",
             name != NULL ? name : "", name != NULL ? ")" : "", advice);
        Py_DECREF(advice);
    }
    return -1;
}

/* -1 with an exception if what is at `address` does not fit the parameter's pointer. */
static int
check_items(const wpy_function *function, size_t at, PyObject *object, const char *format, size_t item_size,
            uint64_t address, size_t length)
{
    const wp_param *param = param_at(function, at);
    const char *kind = Py_TYPE(object)->tp_name;
    const char *wanted = wpy_item_name(param->pointee);
    if (param->is_function) {
        return fail_function(function, at, object);
    }
    switch (wpy_item_fits(param->pointee, format, item_size, (const void *)(uintptr_t)address, length)) {
    case WPY_FITS:
        return 0;
    case WPY_OBJECTS:
        return fail(function, at, PyExc_TypeError,
                    "this %.100s holds references to Python objects, which a native function must not touch", kind);
    case WPY_SWAPPED_ITEMS:
        return fail(function, at, PyExc_TypeError,
                    "`%.100s` points to %s, and this %.100s holds them in the other byte order; convert it first%s",
                    param->spelling, wanted, kind,
                    wpy_is_numpy_array(object) ? ", as in a = a.astype(a.dtype.newbyteorder('='))" : "");
    case WPY_UNALIGNED:
        return fail(function, at, PyExc_ValueError,
                    "`%.100s` points to %s, and this %.100s is at an address that is not aligned for it; pass a copy",
                    param->spelling, wanted, kind);
    default:
        return fail_items(function, at, object, format != NULL ? format : "B", item_size);
    }
}

/* The object that a byref points to or into, unless it holds something else than the parameter points to. */
static int
check_byref(const wpy_function *function, size_t at, PyObject *target, uint64_t address)
{
    Py_buffer buffer;
    if (wpy_get_buffer(target, &buffer, PyBUF_ND | PyBUF_FORMAT) < 0) {
        return fail(function, at, PyExc_TypeError, "the %.100s that this byref() leads to gives no buffer",
                    Py_TYPE(target)->tp_name);
    }
    const uint64_t offset = address - (uint64_t)(uintptr_t)buffer.buf;
    int result = -1;
    if (buffer.len < 0 || offset > (uint64_t)buffer.len) { /* Or the object's class gives a buffer of something else. */
        fail(function, at, PyExc_ValueError, "this byref() leads outside of its %.100s", Py_TYPE(target)->tp_name);
    } else {
        result = check_items(function, at, target, buffer.format, (size_t)buffer.itemsize, address, (size_t)buffer.len);
    }
    wpy_release_buffer(&buffer);
    return result;
}

/* ctypes.byref(x) is no buffer, but has the object that it points to or into. */
static int
convert_byref(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    PyObject *target = PyObject_GetAttrString(object, "_obj");
    if (target == NULL || address_of_byref(object, slot) < 0) {
        Py_XDECREF(target);
        return fail_type(function, at, object, "a buffer, a ctypes object, an address or None");
    }
    int result = check_byref(function, at, target, *slot);
    if (result == 0) {
        hold_object(hold, target);
    }
    Py_DECREF(target);
    return result;
}

/* Whether the object gives a buffer with these flags; -1 with an exception that must be passed on. */
static int
gives_buffer(PyObject *object, int flags)
{
    Py_buffer probe;
    if (wpy_get_buffer(object, &probe, flags) == 0) {
        wpy_release_buffer(&probe);
        return 1;
    }
    if (wpy_must_pass_on()) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* The flags are those with which the object gave no buffer, with the exception that is set. Asking for less shows what was
 * too much, and may give the object's class another name. */
static int
fail_buffer(const wpy_function *function, size_t at, PyObject *object, int flags)
{
    const wp_param *param = param_at(function, at);
    const int less = flags & ~PyBUF_WRITABLE;
    if (wpy_must_pass_on()) {
        return -1;
    }
    if (param->is_function) {
        PyErr_Clear();
        return fail_function(function, at, object);
    }
    PyObject *first = wpy_take_exception();
    int is_constant = param->is_const ? 0 : gives_buffer(object, less);
    int is_scattered = is_constant == 0 ? gives_buffer(object, less | PyBUF_STRIDES) : 0;
    int result = -1;
    if (is_constant > 0) {
        result =
            fail(function, at, PyExc_TypeError,
                 "`%.100s` needs a writable buffer, and this %.100s is read-only; pass a writable one (a bytearray, a "
                 "writable array), or declare the parameter `const` if the function only reads",
                 param->spelling, Py_TYPE(object)->tp_name);
    } else if (is_scattered > 0) {
        result =
            fail(function, at, PyExc_ValueError,
                 "`%.100s` needs one contiguous block of memory, and this %.100s is not contiguous; pass a copy of it",
                 param->spelling, Py_TYPE(object)->tp_name);
    } else if (is_constant == 0 && is_scattered == 0) {
        wpy_raise(first);
        result = fail(function, at, PyExc_ValueError, "this %.100s gives no buffer: %.200S", Py_TYPE(object)->tp_name,
                      first);
    }
    Py_DECREF(first);
    return result;
}

/* The address that the argument stands for, once its buffer is there. A pointer of ctypes means the address in it, and its
 * format says after an '&' what is there, or that it is text. 0 if that is the buffer's memory, 1 if it is what the object
 * holds and keeps alive, or -1. */
static int
address_in_buffer(const wpy_function *function, size_t at, PyObject *object, const Py_buffer *buffer, uint64_t *slot)
{
    if (!holds_address(object, buffer)) {
        *slot = (uint64_t)(uintptr_t)buffer->buf;
        return check_items(function, at, object, buffer->format, (size_t)buffer->itemsize, *slot, (size_t)buffer->len);
    }
    memcpy(slot, buffer->buf, sizeof(void *));
    const char *format = buffer->format != NULL ? buffer->format : "";
    if (*format == 'X') { /* A function: the package knows of which type. */
        return fail_type(function, at, object, "a function of its type");
    }
    const char *items = *format == '&' ? format + 1 : wpy_is_text_item(format) ? "c" : NULL;
    bool fits = items == NULL || check_items(function, at, object, items, 0, *slot, sizeof(void *)) == 0;
    return fits ? 1 : -1;
}

/* Strides were not asked for, and are there only with exporters that give them all the same. */
static bool
is_one_block(const Py_buffer *buffer)
{
    return buffer->strides == NULL || (buffer->suboffsets == NULL && (buffer->ndim == 0 || buffer->shape != NULL) &&
                                       buffer->ndim <= PyBUF_MAX_NDIM && PyBuffer_IsContiguous(buffer, 'C'));
}

/* An exporter is anybody's code, and may give something else than what it was asked for. What is used is this view: no
 * other one is taken. */
static int
check_view(const wpy_function *function, size_t at, PyObject *object, const Py_buffer *buffer)
{
    const wp_param *param = param_at(function, at);
    const char *kind = Py_TYPE(object)->tp_name;
    if (buffer->readonly && !param->is_const) {
        return fail(function, at, PyExc_TypeError,
                    "`%.100s` needs a writable buffer, and this %.100s gave a read-only one", param->spelling, kind);
    }
    if (buffer->len < 0 || buffer->ndim < 0 || buffer->itemsize < 0 || (buffer->buf == NULL && buffer->len > 0) ||
        !is_one_block(buffer)) {
        return fail(function, at, PyExc_ValueError, "this %.100s gives a buffer that does not add up", kind);
    }
    if (buffer->ndim == 0 && buffer->len == (Py_ssize_t)sizeof(void *) && wpy_is_integer_item(buffer->format) &&
        PyIndex_Check(object)) {
        return fail(
            function, at, PyExc_TypeError,
            "this %.100s without dimensions could be an address or memory; pass int() of it for the address, or "
            "its .reshape(1) for its memory",
            kind);
    }
    return 0;
}

/* NumPy describes no dates, but gives their memory. */
static int
get_buffer(const wpy_function *function, size_t at, PyObject *object, Py_buffer *buffer)
{
    int flags = PyBUF_ND | PyBUF_FORMAT | (param_at(function, at)->is_const ? 0 : PyBUF_WRITABLE);
    if (wpy_get_buffer(object, buffer, flags) == 0) {
        return 0;
    }
    if (wpy_must_pass_on()) {
        return -1;
    }
    PyObject *first = wpy_take_exception();
    int has_dates = wpy_is_array_of_dates(object);
    if (has_dates == 0) {
        wpy_raise(first);
    }
    Py_DECREF(first);
    flags = has_dates > 0 ? flags & ~PyBUF_FORMAT : flags;
    if (has_dates > 0 && wpy_get_buffer(object, buffer, flags) == 0) {
        buffer->format = dates; /* The exporter's own way back does not look at it. */
        return 0;
    }
    return has_dates < 0 ? -1 : fail_buffer(function, at, object, flags);
}

static int
hold_buffer(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    Py_buffer *buffer = PyMem_RawMalloc(sizeof *buffer);
    if (buffer == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (get_buffer(function, at, object, buffer) < 0) {
        PyMem_RawFree(buffer);
        return -1;
    }
    int held = check_view(function, at, object, buffer);
    held = held == 0 ? address_in_buffer(function, at, object, buffer, slot) : held;
    if (held == 0) {
        hold->object_or_buffer = (uintptr_t)buffer | IS_BUFFER;
        return 0;
    }
    PyObject *kept = held > 0 ? kept_by_pointer(object) : NULL;
    wpy_release_buffer(buffer);
    PyMem_RawFree(buffer);
    hold->object_or_buffer = (uintptr_t)kept;
    return kept != NULL ? 0 : -1;
}

bool
wpy_hold_count(const wpy_hold *hold, uint64_t *count)
{
    const Py_buffer *buffer = (const Py_buffer *)(hold->object_or_buffer & ~IS_BUFFER);
    const PyObject *object = (const PyObject *)hold->object_or_buffer;
    if (hold->object_or_buffer & IS_BUFFER) {
        *count = buffer->itemsize > 0 ? (uint64_t)(buffer->len / buffer->itemsize) : 0;
        return true;
    }
    if (object != NULL && PyBytes_CheckExact(object)) {
        *count = (uint64_t)PyBytes_GET_SIZE(object);
        return true;
    }
    return false;
}

/* The type's name has its module in front from Python 3.13 on. */
static bool
is_byref(PyObject *object)
{
    const char *name = Py_TYPE(object)->tp_name;
    return strcmp(name, "CArgObject") == 0 || strcmp(name, "_ctypes.CArgObject") == 0;
}

/* Mostly an element of an array, as a[0], where the array was meant. */
static int
fail_no_address(const wpy_function *function, size_t at, PyObject *object)
{
    PyObject *text = wpy_short_repr(object);
    if (text != NULL) {
        fail(function, at, PyExc_ValueError,
             "%U is no address; pass %s, or ctypes.c_void_p() of it if the function takes such a value", text,
             param_at(function, at)->is_function ? "a function" : "an array of one, as a[:1], for its memory");
        Py_DECREF(text);
    }
    return -1;
}

/* Whether nothing can be there: in the first page, or the last. -1 is a value that C libraries take in the place of an
 * address (SQLITE_TRANSIENT, RTLD_NEXT). */
static bool
is_no_address(uint64_t address)
{
    const int64_t number = (int64_t)address;
    return number > -FIRST_PAGE && number < FIRST_PAGE && number != 0 && number != -1;
}

/* `object` is what was given, whose value `index` is. */
static int
convert_address(const wpy_function *function, size_t at, PyObject *object, PyObject *index, uint64_t *slot)
{
    *slot = (uint64_t)(uintptr_t)PyLong_AsVoidPtr(index);
    if (PyErr_Occurred()) {
        return fail_range(function, at, index);
    }
    return is_no_address(*slot) ? fail_no_address(function, at, object) : 0;
}

/* An integer is an address, whatever its type. Those of NumPy have a buffer too, but it is no memory of anybody's: it
 * holds the number. */
static int
convert_number(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot)
{
    PyObject *index = PyIndex_Check(object) ? PyNumber_Index(object) : NULL;
    if (index == NULL) {
        return fail_pointer(function, at, object);
    }
    int result = convert_address(function, at, object, index, slot);
    Py_DECREF(index);
    return result;
}

static int
convert_pointer(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    const wp_param *param = param_at(function, at);
    if (PyBytes_CheckExact(object) && param->is_const && param->pointee != WP_TYPE_PTR && !param->is_function) {
        *slot = (uint64_t)(uintptr_t)PyBytes_AS_STRING(object);
        hold_object(hold, object);
        return 0;
    }
    if (object == Py_None) {
        *slot = 0;
        return 0;
    }
    if (PyLong_Check(object)) {
        return convert_address(function, at, object, object, slot);
    }
    if (wpy_is_bare_number(object)) {
        return convert_number(function, at, object, slot);
    }
    if (PyObject_CheckBuffer(object) && !PyUnicode_Check(object)) {
        return hold_buffer(function, at, object, slot, hold);
    }
    if (is_byref(object)) {
        return convert_byref(function, at, object, slot, hold);
    }
    return fail_pointer(function, at, object);
}

/* ---- Arguments ---- */

static int
convert_plain(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    hold->object_or_buffer = 0;
    switch (param_at(function, at)->type) {
    case WP_TYPE_F64:
        return convert_double(function, at, object, slot);
    case WP_TYPE_F32:
        return convert_float(function, at, object, slot);
    case WP_TYPE_PTR:
        return convert_pointer(function, at, object, slot, hold);
    case WP_TYPE_BOOL:
        return convert_bool(function, at, object, slot);
    case WP_TYPE_I8:
    case WP_TYPE_I16:
    case WP_TYPE_I32:
    case WP_TYPE_I64:
        return convert_signed(function, at, object, slot);
    default:
        return convert_unsigned(function, at, object, slot);
    }
}

/* ---- Arguments that stand for others ---- */

static void
release_in_capsule(PyObject *capsule)
{
    wpy_hold hold = {(uintptr_t)PyCapsule_GetPointer(capsule, NULL) | IS_BUFFER};
    wpy_hold_release(&hold);
}

/* Makes what is held one object, for what has to be held beside it. */
static PyObject *
hold_as_object(wpy_hold *hold)
{
    PyObject *object = (PyObject *)hold->object_or_buffer;
    if (hold->object_or_buffer & IS_BUFFER) {
        object = PyCapsule_New((void *)(hold->object_or_buffer & ~IS_BUFFER), NULL, release_in_capsule);
        if (object == NULL) {
            return NULL;
        }
    }
    hold->object_or_buffer = 0;
    return object != NULL ? object : Py_NewRef(Py_None);
}

/* Holds the owner beside what is held already, for a pointer: of a number nothing is needed once it is copied, and holds
 * are let go of only where a function has pointers. */
static int
hold_owner(const wp_param *param, wpy_hold *hold, PyObject *owner)
{
    if (owner == Py_None || param->type != WP_TYPE_PTR) {
        return 0;
    }
    PyObject *held = hold->object_or_buffer != 0 ? hold_as_object(hold) : Py_NewRef(owner);
    PyObject *both = held != NULL && held != owner ? PyTuple_Pack(2, held, owner) : Py_XNewRef(held);
    Py_XDECREF(held);
    if (both != NULL) {
        hold->object_or_buffer = (uintptr_t)both;
    }
    return both != NULL ? 0 : -1;
}

/* The package's answer about an argument: what it stands for, a text that says why it must not be passed, or None. */
static PyObject *
ask_for_stand_in(const wp_param *param, PyObject *object)
{
    PyObject *module = PyImport_ImportModule("workerpool._toolchains.arguments");
    PyObject *answer =
        module != NULL ? PyObject_CallMethod(module, "stand_in", "OssO", object, wp_type_describe(param->type)->name,
                                             param->spelling, param->is_const ? Py_True : Py_False)
                       : NULL;
    Py_XDECREF(module);
    return answer;
}

/* Converts (value, owner, item), the answer. */
static int
convert_answer(const wpy_function *function, size_t at, PyObject *object, PyObject *answer, uint64_t *slot,
               wpy_hold *hold)
{
    PyObject *value, *owner;
    const char *item;
    if (!PyArg_ParseTuple(answer, "OOz", &value, &owner, &item) || convert_plain(function, at, value, slot, hold) < 0) {
        return -1;
    }
    bool fits = item == NULL || check_items(function, at, object, item, 0, *slot, sizeof(void *)) == 0;
    if (!fits || hold_owner(param_at(function, at), hold, owner) < 0) {
        wpy_hold_release(hold);
        return -1;
    }
    return 0;
}

/* Tries, for an argument that was refused with the exception that is set, what it stands for. */
static int
convert_stand_in(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        return -1;
    }
    PyObject *refusal = wpy_take_exception();
    PyObject *answer = ask_for_stand_in(param_at(function, at), object);
    int result = -1;
    if (answer == NULL) {
        (void)fail(function, at, PyExc_TypeError, "this %.100s cannot be asked what it stands for",
                   Py_TYPE(object)->tp_name);
    } else if (answer == Py_None) {
        wpy_raise(refusal);
    } else if (PyUnicode_Check(answer)) {
        (void)fail(function, at, PyExc_TypeError, "%U", answer);
    } else {
        result = convert_answer(function, at, object, answer, slot, hold);
    }
    Py_XDECREF(answer);
    Py_DECREF(refusal);
    return result;
}

int
wpy_convert_argument(const wpy_function *function, size_t at, PyObject *object, uint64_t *slot, wpy_hold *hold)
{
    return convert_plain(function, at, object, slot, hold) == 0 ? 0
                                                                : convert_stand_in(function, at, object, slot, hold);
}

int
wpy_check_count(const wpy_function *function, Py_ssize_t nargs)
{
    if (nargs >= 0 && (size_t)nargs == function->n_arguments) {
        return 0;
    }
    PyErr_Format(
        PyExc_TypeError, "%U() takes %zu argument%s (%zd given)%s", function->name, function->n_arguments,
        function->n_arguments == 1 ? "" : "s", nargs,
        function->signature->is_variadic
            ? "; its signature names the types of those behind the '...', as in \"int (const char *, ..., double)\""
            : "");
    return -1;
}

int
wpy_convert_row(const wpy_function *function, PyObject *const *args, Py_ssize_t nargs, void *job, uint64_t *slots,
                wpy_hold *holds)
{
    if (wpy_check_count(function, nargs) < 0) {
        return -1;
    }
    size_t given = 0;
    size_t n_free = function->signature->n_params - function->n_bound;
    for (size_t i = 0; i < function->n_bound; i++) {
        slots[n_free + i] = function->bound[i];
        holds[n_free + i].object_or_buffer = 0;
    }
    for (size_t at = 0; at < n_free; at++) {
        holds[at].object_or_buffer = 0;
        if (param_at(function, at)->type == WP_TYPE_JOB) {
            slots[at] = (uint64_t)(uintptr_t)job;
        } else if (wpy_convert_argument(function, at, args[given++], &slots[at], &holds[at]) < 0) {
            while (at-- > 0) {
                wpy_hold_release(&holds[at]);
            }
            return -1;
        }
    }
    return 0;
}

/* ---- Results ---- */

PyObject *
wpy_convert_result(const wpy_function *function, uint64_t slot)
{
    double wide;
    float narrow;
    uint32_t bits = (uint32_t)slot;
    wp_type type = function->signature->result.type;
    switch (type) {
    case WP_TYPE_VOID:
        Py_RETURN_NONE;
    case WP_TYPE_BOOL:
        return PyBool_FromLong(slot != 0);
    case WP_TYPE_F64:
        memcpy(&wide, &slot, sizeof wide);
        return PyFloat_FromDouble(wide);
    case WP_TYPE_F32:
        memcpy(&narrow, &bits, sizeof narrow);
        return PyFloat_FromDouble((double)narrow);
    case WP_TYPE_PTR:
    case WP_TYPE_JOB:
        return slot == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(slot);
    default:
        return wp_type_describe(type)->is_signed ? PyLong_FromLongLong((long long)slot)
                                                 : PyLong_FromUnsignedLongLong(slot);
    }
}
