/* See operand.h. */
#include "operand.h"

#include "message.h"

#include "wp_loop.h"

#include <stdarg.h>
#include <string.h>

/* ---- Life ---- */

wpy_operands *
wpy_operands_new(size_t most, PyObject *name, PyObject *keep)
{
    wpy_operands *operands = PyMem_RawCalloc(1, sizeof *operands + most * sizeof(wpy_operand));
    if (operands == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    operands->name = Py_NewRef(name);
    operands->keep = Py_XNewRef(keep);
    return operands;
}

void
wpy_operands_free(wpy_operands *operands)
{
    for (size_t i = 0; operands != NULL && i < operands->n; i++) {
        wpy_operand *operand = &operands->list[i];
        if (operand->has_view) {
            wpy_release_buffer(&operand->view);
        }
        wpy_hold_release(&operand->hold);
        PyMem_RawFree(operand->own_strides);
    }
    if (operands != NULL) {
        Py_DECREF(operands->name);
        Py_XDECREF(operands->keep);
        PyMem_RawFree(operands);
    }
}

wpy_operand *
wpy_operands_next(wpy_operands *operands, size_t number, bool is_output)
{
    wpy_operand *operand = &operands->list[operands->n++];
    operand->number = number;
    operand->is_output = is_output;
    operand->is_written = is_output;
    operand->base = (char *)&operand->constant;
    operand->alignment = 1;
    return operand;
}

/* ---- Messages ---- */

/* What a message calls the operand: "argument 2", "out", or "out[1]" where there are several outputs. */
static PyObject *
place_of(const wpy_operands *operands, const wpy_operand *operand)
{
    size_t outputs = 0;
    for (size_t i = 0; i < operands->n; i++) {
        outputs += operands->list[i].is_output;
    }
    if (!operand->is_output) {
        return PyUnicode_FromFormat("argument %zu", operand->number);
    }
    return outputs > 1 ? PyUnicode_FromFormat("out[%zu]", operand->number) : PyUnicode_FromString("out");
}

static void
chain(PyObject *cause)
{
    PyObject *error = wpy_take_exception();
    PyException_SetCause(error, cause); /* Takes the reference over. */
    wpy_raise(error);
    Py_DECREF(error);
}

int
wpy_operand_fail(const wpy_operands *operands, const wpy_operand *operand, PyObject *type, const char *format, ...)
{
    va_list arguments;
    if (wpy_must_pass_on()) {
        return -1;
    }
    va_start(arguments, format);
    PyObject *cause = PyErr_Occurred() ? wpy_take_exception() : NULL;
    PyObject *what = PyUnicode_FromFormatV(format, arguments);
    PyObject *place = what != NULL ? place_of(operands, operand) : NULL;
    va_end(arguments);
    if (place != NULL) {
        PyErr_Format(type, "%U() %U: %U", operands->name, place, what);
    }
    Py_XDECREF(place);
    Py_XDECREF(what);
    if (cause != NULL) {
        chain(cause);
    }
    return -1;
}

/* ---- What elements are ---- */

/* By the format of a buffer. The letters of the struct module say only the kind: how long a `l` is depends on who wrote
 * it (ctypes means its own sizes, whatever stands in front), and the item's size is beside it. */
typedef struct element {
    char
        kind; /* 'i' signed, 'u' unsigned, 'f' floating, '?' bool, 'c' a byte that is no number, 'Z' complex; 0 else. */
    size_t size;
    bool is_swapped; /* In the byte order of other machines. */
} element;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FOREIGN_ORDER ">!"
#else
#define FOREIGN_ORDER "<"
#endif

static char
kind_of(const char *code)
{
    if (code[0] == 'Z' && strchr("fdg", code[1]) != NULL && code[1] != '\0' && code[2] == '\0') {
        return 'Z';
    }
    if (code[0] == '\0' || code[1] != '\0') {
        return 0;
    }
    return strchr("bhilqn", code[0]) != NULL   ? 'i'
           : strchr("BHILQN", code[0]) != NULL ? 'u'
           : strchr("efdg", code[0]) != NULL   ? 'f'
           : strchr("?c", code[0]) != NULL     ? code[0]
                                               : 0;
}

static element
element_of(const Py_buffer *view)
{
    const char *format = view->format != NULL ? view->format : "B";
    element e = {.size = (size_t)view->itemsize};
    if (format[0] != '\0' && strchr("@=<>!", format[0]) != NULL) {
        e.is_swapped = strchr(FOREIGN_ORDER, format[0]) != NULL && view->itemsize > 1;
        format++;
    }
    e.kind = kind_of(format);
    return e;
}

static char
kind_of_type(wp_type type)
{
    const wp_type_traits *traits = wp_type_describe(type);
    return type == WP_TYPE_BOOL ? '?' : traits->is_floating ? 'f' : traits->is_signed ? 'i' : 'u';
}

static bool
fits(element e, wp_type type, bool any_byte)
{
    const size_t size = wp_type_describe(type)->size;
    const bool is_byte = size == 1 && e.size == 1 && type != WP_TYPE_BOOL;
    return (e.kind == kind_of_type(type) && e.size == size) || (is_byte && (e.kind == 'c' || any_byte));
}

/* What NumPy calls such elements; or how the buffer describes them. */
static PyObject *
name_of_element(element e, const Py_buffer *view)
{
    switch (e.kind) {
    case 'i':
        return PyUnicode_FromFormat("int%zu", e.size * 8);
    case 'u':
        return PyUnicode_FromFormat("uint%zu", e.size * 8);
    case 'f':
        return PyUnicode_FromFormat("float%zu", e.size * 8);
    case 'Z':
        return PyUnicode_FromFormat("complex%zu", e.size * 8);
    case '?':
        return PyUnicode_FromString("bool");
    case 'c':
        return PyUnicode_FromString("bytes");
    default:
        return PyUnicode_FromFormat("elements of the format '%.100s'", view->format != NULL ? view->format : "B");
    }
}

const char *
wpy_numpy_name(wp_type type)
{
    static const char *const names[WP_N_TYPES] = {
        [WP_TYPE_BOOL] = "?", [WP_TYPE_I8] = "i1",  [WP_TYPE_U8] = "u1",  [WP_TYPE_I16] = "i2",
        [WP_TYPE_U16] = "u2", [WP_TYPE_I32] = "i4", [WP_TYPE_U32] = "u4", [WP_TYPE_I64] = "i8",
        [WP_TYPE_U64] = "u8", [WP_TYPE_F32] = "f4", [WP_TYPE_F64] = "f8",
    };
    return names[type];
}

const char *
wpy_struct_letter(wp_type type)
{
    static const char *const letters[WP_N_TYPES] = {
        [WP_TYPE_BOOL] = "?", [WP_TYPE_I8] = "b",  [WP_TYPE_U8] = "B",  [WP_TYPE_I16] = "h",
        [WP_TYPE_U16] = "H",  [WP_TYPE_I32] = "i", [WP_TYPE_U32] = "I", [WP_TYPE_I64] = "q",
        [WP_TYPE_U64] = "Q",  [WP_TYPE_F32] = "f", [WP_TYPE_F64] = "d",
    };
    return letters[type];
}

/* ---- Taking one ---- */

static int
fail_read_only(const wpy_operands *operands, const wpy_operand *operand, PyObject *object)
{
    return wpy_operand_fail(operands, operand, PyExc_ValueError, "this %.100s is read-only, and %s",
                            Py_TYPE(object)->tp_name,
                            operand->is_output ? "the result is written to it; give a writable array"
                                               : "the function may write to it; give a writable array, or declare the "
                                                 "parameter `const`");
}

static int
fail_buffer(const wpy_operands *operands, const wpy_operand *operand, PyObject *object)
{
    Py_buffer probe;
    if (wpy_must_pass_on()) {
        return -1;
    }
    PyObject *first = wpy_take_exception();
    if (operand->is_written && wpy_get_buffer(object, &probe, PyBUF_RECORDS_RO) == 0) {
        wpy_release_buffer(&probe);
        Py_DECREF(first);
        return fail_read_only(operands, operand, object);
    }
    if (!wpy_must_pass_on()) {
        PyErr_Clear();
        const char *hint = wpy_array_hint(object);
        if (hint != NULL) {
            wpy_raise(first);
            wpy_operand_fail(operands, operand, PyExc_TypeError, "this %.100s gives no buffer with strides: %.200S%s",
                             Py_TYPE(object)->tp_name, first, hint);
        }
    }
    Py_DECREF(first);
    return -1;
}

static int
fail_no_buffer(const wpy_operands *operands, const wpy_operand *operand, PyObject *object)
{
    const char *hint = wpy_array_hint(object);
    return hint == NULL ? -1
                        : wpy_operand_fail(operands, operand, PyExc_TypeError,
                                           "an array is needed (any object with a buffer), not %.100s%s",
                                           Py_TYPE(object)->tp_name, hint);
}

/* Whether there is memory for all that the lengths of the dimensions and of an element tell; there may be more of it, as of
 * a resized array of ctypes. */
static bool
has_memory_for_all(const Py_buffer *view)
{
    size_t bytes = (size_t)view->itemsize;
    bool is_empty = false;
    bool is_countable = view->itemsize >= 0 && view->len >= 0;
    for (int d = 0; d < view->ndim; d++) {
        is_empty = is_empty || view->shape[d] == 0;
        is_countable =
            is_countable && view->shape[d] >= 0 && (is_empty || !__builtin_mul_overflow(bytes, view->shape[d], &bytes));
    }
    return is_countable && (is_empty || (size_t)view->len >= bytes);
}

/* Whether the elements are at addresses that exist: the strides may lead to others. */
static bool
is_within_memory(const Py_buffer *view)
{
    ptrdiff_t low = 0;
    ptrdiff_t high = view->itemsize;
    bool is_within = true;
    for (int d = 0; d < view->ndim && view->strides != NULL; d++) {
        ptrdiff_t extent;
        is_within = is_within && !__builtin_mul_overflow(view->strides[d], view->shape[d] - 1, &extent) &&
                    !__builtin_add_overflow(extent < 0 ? low : high, extent, extent < 0 ? &low : &high);
    }
    return is_within && (uintptr_t)view->buf >= (uintptr_t)0 - (uintptr_t)low &&
           (uintptr_t)view->buf <= UINTPTR_MAX - (uintptr_t)high;
}

static bool
has_suboffsets(const Py_buffer *view)
{
    bool has_some = false;
    for (int d = 0; d < view->ndim && view->suboffsets != NULL; d++) {
        has_some = has_some || view->suboffsets[d] >= 0;
    }
    return has_some;
}

/* An exporter is anybody's code: what it gives is checked on the very view that is used, and no other one is taken. */
static int
check_view(const wpy_operands *operands, const wpy_operand *operand, PyObject *object)
{
    const Py_buffer *view = &operand->view;
    if (view->ndim > WP_GRID_MAX_DIMS) {
        return wpy_operand_fail(operands, operand, PyExc_ValueError,
                                "this %.100s has %d dimensions, and a loop goes over %d at most; give it another shape",
                                Py_TYPE(object)->tp_name, view->ndim, (int)WP_GRID_MAX_DIMS);
    }
    if (operand->is_written && view->readonly) {
        return fail_read_only(operands, operand, object);
    }
    const bool has_shape = view->ndim == 0 || (view->ndim > 0 && view->shape != NULL);
    const bool adds_up = has_shape && has_memory_for_all(view) && !has_suboffsets(view) &&
                         (view->len == 0 || (view->buf != NULL && is_within_memory(view)));
    if (!adds_up) {
        return wpy_operand_fail(operands, operand, PyExc_ValueError,
                                "this %.100s gives a buffer that does not add up: its shape, strides, element size and "
                                "length contradict each other",
                                Py_TYPE(object)->tp_name);
    }
    return 0;
}

/* Some exporters (ctypes) leave the strides out although they were asked for, where the elements lie in C's order. */
static int
fill_strides(wpy_operand *operand)
{
    operand->strides = operand->view.strides;
    if (operand->strides != NULL || operand->n_dims == 0) {
        return 0;
    }
    operand->own_strides = PyMem_RawMalloc((size_t)operand->n_dims * sizeof(Py_ssize_t));
    if (operand->own_strides == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t step = operand->view.len > 0 ? operand->view.itemsize : 0; /* Of no elements they mean nothing. */
    for (int d = operand->n_dims; d-- > 0;) {
        operand->own_strides[d] = step;
        step *= operand->shape[d];
    }
    operand->strides = operand->own_strides;
    return 0;
}

/* Takes a buffer as it is; what its elements are is not looked at. */
static int
take_buffer(const wpy_operands *operands, wpy_operand *operand, PyObject *object)
{
    if (!PyObject_CheckBuffer(object)) {
        return fail_no_buffer(operands, operand, object);
    }
    if (wpy_get_buffer(object, &operand->view, operand->is_written ? PyBUF_RECORDS : PyBUF_RECORDS_RO) < 0) {
        return fail_buffer(operands, operand, object);
    }
    operand->has_view = true; /* So that it is released, whatever is wrong with it. */
    if (check_view(operands, operand, object) < 0) {
        return -1;
    }
    operand->base = operand->view.buf;
    operand->size = (size_t)operand->view.itemsize;
    operand->n_dims = operand->view.ndim;
    operand->shape = operand->view.shape;
    return fill_strides(operand);
}

static int
fail_element(const wpy_operands *operands, const wpy_operand *operand, element e, wp_type type, const char *spelling)
{
    static const char *const wanted[] = {['?'] = "bool", ['i'] = "int", ['u'] = "uint", ['f'] = "float"};
    const char kind = kind_of_type(type);
    PyObject *given = name_of_element(e, &operand->view);
    PyObject *right =
        kind == '?' ? PyUnicode_FromString("bool")
                    : PyUnicode_FromFormat("%s%zu", wanted[(unsigned char)kind], wp_type_describe(type)->size * 8);
    if (given != NULL && right != NULL) {
        const char *hint =
            operand->is_output ? "give an array of that type" : "convert the array first, as by .astype(";
        wpy_operand_fail(operands, operand, PyExc_TypeError,
                         operand->is_output ? "`%s` is %U, not %U; %s" : "`%s` takes %U, not %U; %s'%U')", spelling,
                         right, given, hint, right);
    }
    Py_XDECREF(given);
    Py_XDECREF(right);
    return -1;
}

int
wpy_operand_take_array(const wpy_operands *operands, wpy_operand *operand, PyObject *object, wp_type type,
                       const char *spelling, bool any_byte)
{
    if (take_buffer(operands, operand, object) < 0) {
        return -1;
    }
    element e = element_of(&operand->view);
    if (e.size == 0 && operand->view.len == 0) { /* ctypes gives no size for elements that are not there. */
        e.size = operand->size = wp_type_describe(type)->size;
    }
    if (!fits(e, type, any_byte)) {
        return fail_element(operands, operand, e, type, spelling);
    }
    if (e.is_swapped) {
        return wpy_operand_fail(operands, operand, PyExc_ValueError,
                                "its numbers are in the byte order of another machine (format '%s'); convert the array "
                                "first, as by .astype('%s')",
                                operand->view.format, wpy_numpy_name(type));
    }
    operand->alignment = operand->size;
    return 0;
}

static char
kind_of_dtype(char kind)
{
    return kind == 'b' ? '?' : kind == 'c' ? 'Z' : kind != '\0' && strchr("iuf", kind) != NULL ? kind : 0;
}

/* A number that an attribute of an object is; -1 with an exception. */
static Py_ssize_t
attribute_as_size(PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    Py_ssize_t number = value != NULL ? PyLong_AsSsize_t(value) : -1;
    Py_XDECREF(value);
    return number;
}

/* What a dtype of NumPy says that elements are, and how they are aligned; -1 with an exception. */
static int
element_of_dtype(PyObject *dtype, element *e, size_t *alignment)
{
    PyObject *kind = PyObject_GetAttrString(dtype, "kind");
    const char *letter = kind != NULL ? PyUnicode_AsUTF8(kind) : NULL;
    const Py_ssize_t size = letter != NULL ? attribute_as_size(dtype, "itemsize") : -1;
    const Py_ssize_t aligned_to = size >= 0 ? attribute_as_size(dtype, "alignment") : -1;
    if (aligned_to >= 0) {
        *e = (element){.kind = kind_of_dtype(letter[0]), .size = (size_t)size};
        *alignment = (size_t)aligned_to;
    }
    Py_XDECREF(kind);
    return aligned_to >= 0 ? 0 : -1;
}

int
wpy_operand_take_dtype(const wpy_operands *operands, wpy_operand *operand, PyObject *object, PyObject *dtype)
{
    element wanted;
    if (element_of_dtype(dtype, &wanted, &operand->alignment) < 0 || take_buffer(operands, operand, object) < 0) {
        return -1;
    }
    const element e = element_of(&operand->view);
    if (e.kind == 0 || e.kind != wanted.kind || e.size != wanted.size || e.is_swapped) {
        PyObject *given = name_of_element(e, &operand->view);
        if (given != NULL) {
            wpy_operand_fail(operands, operand, PyExc_TypeError, "the loop is one over %S, and this buffer gives %U%s",
                             dtype, given, e.is_swapped ? " in the byte order of another machine" : "");
            Py_DECREF(given);
        }
        return -1;
    }
    return 0;
}

void
wpy_operand_set_value(wpy_operand *operand, wp_type type, uint64_t slot)
{
    operand->base = (char *)&operand->constant;
    operand->size = wp_type_describe(type)->size;
    operand->alignment = operand->size;
    wp_loop_store(type, operand->base, slot);
}

uint64_t
wpy_operand_count(const wpy_operand *operand)
{
    uint64_t count = 1;
    for (int d = 0; d < operand->n_dims; d++) {
        count *= (uint64_t)operand->shape[d];
    }
    return count;
}

/* ---- Shapes ---- */

PyObject *
wpy_shape_tuple(const wpy_shape *shape, const size_t *order)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)shape->n_dims);
    for (size_t d = 0; tuple != NULL && d < shape->n_dims; d++) {
        PyObject *length = PyLong_FromSize_t(shape->lengths[order != NULL ? order[d] : d]);
        if (length == NULL) {
            Py_CLEAR(tuple);
        } else {
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)d, length);
        }
    }
    return tuple;
}

uint64_t
wpy_shape_count(const wpy_shape *shape)
{
    uint64_t count = 1;
    for (size_t d = 0; d < shape->n_dims; d++) {
        count *= shape->lengths[d];
    }
    return count;
}

static void
get_shape(const wpy_operand *operand, wpy_shape *shape)
{
    shape->n_dims = (size_t)operand->n_dims;
    for (size_t d = 0; d < shape->n_dims; d++) {
        shape->lengths[d] = (size_t)operand->shape[d];
    }
}

static PyObject *
shape_of(const wpy_operand *operand)
{
    wpy_shape shape;
    get_shape(operand, &shape);
    return wpy_shape_tuple(&shape, NULL);
}

/* Widens the shape by another; false if they do not fit together. */
static bool
widen(wpy_shape *shape, const wpy_operand *operand)
{
    const size_t given = (size_t)operand->n_dims;
    if (given > shape->n_dims) {
        const size_t more = given - shape->n_dims;
        memmove(shape->lengths + more, shape->lengths, shape->n_dims * sizeof shape->lengths[0]);
        for (size_t d = 0; d < more; d++) {
            shape->lengths[d] = 1;
        }
        shape->n_dims = given;
    }
    for (size_t d = 0; d < given; d++) {
        size_t *length = &shape->lengths[shape->n_dims - given + d];
        const size_t other = (size_t)operand->shape[d];
        if (*length == 1) {
            *length = other;
        } else if (other != 1 && other != *length) {
            return false;
        }
    }
    return true;
}

static int
fail_shapes(const wpy_operands *operands)
{
    PyObject *shapes = PyList_New(0);
    for (size_t i = 0; shapes != NULL && i < operands->n; i++) {
        if (!operands->list[i].is_output && operands->list[i].has_view) {
            PyObject *shape = shape_of(&operands->list[i]);
            if (shape == NULL || PyList_Append(shapes, shape) < 0) {
                Py_CLEAR(shapes);
            }
            Py_XDECREF(shape);
        }
    }
    if (shapes != NULL) {
        PyErr_Format(
            PyExc_ValueError,
            "%U(): arrays with the shapes %R cannot be broadcast together: from the last dimension on, lengths must be "
            "equal or 1",
            operands->name, shapes);
        Py_DECREF(shapes);
    }
    return -1;
}

static int
fail_output_shape(const wpy_operands *operands, const wpy_operand *operand, const wpy_shape *shape)
{
    PyObject *given = shape_of(operand);
    PyObject *right = wpy_shape_tuple(shape, NULL);
    if (given != NULL && right != NULL) {
        wpy_operand_fail(operands, operand, PyExc_ValueError, "its shape is %R, and that of the result is %R", given,
                         right);
    }
    Py_XDECREF(given);
    Py_XDECREF(right);
    return -1;
}

/* The outputs count too, so that a loop over nothing but values fills them; they are checked against the whole later. */
int
wpy_operands_broadcast(const wpy_operands *operands, wpy_shape *shape)
{
    shape->n_dims = 0;
    for (size_t i = 0; i < operands->n; i++) {
        if (!operands->list[i].is_output && !widen(shape, &operands->list[i])) {
            return fail_shapes(operands);
        }
    }
    for (size_t i = 0; i < operands->n; i++) {
        if (operands->list[i].is_output && !widen(shape, &operands->list[i])) {
            return fail_output_shape(operands, &operands->list[i], shape);
        }
    }
    return 0;
}

static bool
has_shape(const wpy_operand *operand, const wpy_shape *shape)
{
    bool same = (size_t)operand->n_dims == shape->n_dims;
    for (size_t d = 0; same && d < shape->n_dims; d++) {
        same = (size_t)operand->shape[d] == shape->lengths[d];
    }
    return same;
}

/* What is broadcast does not move along that dimension. */
static void
set_strides(const wpy_operand *operand, size_t at, const wp_grid *grid)
{
    const size_t missing = grid->n_dims - (size_t)operand->n_dims;
    for (size_t d = 0; d < (size_t)operand->n_dims; d++) {
        grid->strides[(missing + d) * grid->n_operands + at] = operand->shape[d] != 1 ? operand->strides[d] : 0;
    }
}

int
wpy_operands_fill_grid(const wpy_operands *operands, const wpy_shape *shape, wp_grid *grid)
{
    memcpy(grid->shape, shape->lengths, shape->n_dims * sizeof shape->lengths[0]);
    for (size_t i = 0; i < operands->n; i++) {
        const wpy_operand *operand = &operands->list[i];
        if (operand->is_output && operand->has_view && !has_shape(operand, shape)) {
            return fail_output_shape(operands, operand, shape);
        }
        grid->bases[i] = operand->base;
        set_strides(operand, i, grid);
    }
    if (!wp_grid_count(grid)) {
        PyErr_Format(PyExc_ValueError, "%U(): the arrays have more elements together than can be counted",
                     operands->name);
        return -1;
    }
    return 0;
}

/* Outputs that are not taken yet are no part of it, or are values as yet. */
int
wpy_operands_order(const wpy_operands *operands, const wpy_shape *shape, size_t *order)
{
    wp_grid grid;
    void *memory = PyMem_Malloc(wp_grid_size(shape->n_dims, operands->n));
    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    wp_grid_init(&grid, memory, shape->n_dims, operands->n);
    memcpy(grid.shape, shape->lengths, shape->n_dims * sizeof shape->lengths[0]);
    for (size_t i = 0; i < operands->n; i++) {
        set_strides(&operands->list[i], i, &grid);
    }
    wp_grid_sort(&grid, order);
    PyMem_Free(memory);
    return 0;
}

/* ---- Memory ---- */

/* NumPy if somebody has imported it, else NULL without an exception; or NULL with one. */
static PyObject *
loaded_numpy(void)
{
    PyObject *name = PyUnicode_FromString("numpy");
    PyObject *numpy = name != NULL ? PyImport_GetModule(name) : NULL;
    Py_XDECREF(name);
    return numpy;
}

/* NumPy can say exactly what the grid only suspects, where the objects are arrays of its own or known to it. The limit
 * keeps the answer quick: beyond it, they count as sharing. -1 without memory. */
static int
really_share(PyObject *a, PyObject *b)
{
    PyObject *numpy = loaded_numpy();
    PyObject *answer = numpy != NULL ? PyObject_CallMethod(numpy, "shares_memory", "OOi", a, b, 10000) : NULL;
    const bool apart = answer != NULL && PyObject_IsTrue(answer) == 0;
    Py_XDECREF(answer);
    Py_XDECREF(numpy);
    if (wpy_lacks_memory()) {
        return -1;
    }
    PyErr_Clear();
    return !apart;
}

/* The same for two operands of which the grid suspects it. */
static int
may_share(const wpy_operand *a, const wpy_operand *b)
{
    const bool known = a->has_view && b->has_view && a->view.obj != NULL && b->view.obj != NULL;
    return known ? really_share(a->view.obj, b->view.obj) : 1;
}

static int
check_pair(const wpy_operands *operands, const wp_grid *grid, size_t output, size_t other)
{
    const wpy_operand *out = &operands->list[output];
    const wpy_operand *in = &operands->list[other];
    if ((!in->is_output && wp_grid_is_same(grid, output, out->size, other, in->size)) ||
        !wp_grid_may_share(grid, output, out->size, other, in->size)) {
        return 0;
    }
    int shares = may_share(out, in);
    if (shares <= 0) {
        return shares;
    }
    PyObject *place = place_of(operands, in);
    if (place != NULL) {
        wpy_operand_fail(
            operands, out, PyExc_ValueError,
            "it shares memory with %U, but not each element with the same element; give another array, or a "
            "copy of %U",
            place, place);
        Py_DECREF(place);
    }
    return -1;
}

static int
check_output(const wpy_operands *operands, const wp_grid *grid, size_t output)
{
    if (wp_grid_may_fold(grid, output, operands->list[output].size)) {
        return wpy_operand_fail(operands, &operands->list[output], PyExc_ValueError,
                                "some of its elements share memory with one another (a stride is 0 or too small)");
    }
    for (size_t i = 0; i < operands->n; i++) {
        const wpy_operand *other = &operands->list[i];
        if (i != output && other->has_view && (!other->is_output || i < output) &&
            check_pair(operands, grid, output, i) < 0) {
            return -1;
        }
    }
    return 0;
}

int
wpy_operands_check_memory(const wpy_operands *operands, const wp_grid *grid)
{
    for (size_t i = 0; i < operands->n; i++) {
        const wpy_operand *operand = &operands->list[i];
        if (!wp_grid_is_aligned(grid, i, operand->alignment)) {
            return wpy_operand_fail(
                operands, operand, PyExc_ValueError,
                "its elements are not aligned to %zu bytes, as the function expects them; pass a copy",
                operand->alignment);
        }
        if (operand->is_output && operand->has_view && check_output(operands, grid, i) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- New arrays ---- */

/* Made in the order of memory that is wanted, then seen with its dimensions in their places. */
static PyObject *
new_numpy_array(PyObject *numpy, const wpy_shape *shape, const size_t *order, PyObject *dtype)
{
    size_t places[WP_GRID_MAX_DIMS] = {0};
    bool in_order = true;
    for (size_t d = 0; d < shape->n_dims; d++) {
        places[order != NULL ? order[d] : d] = d;
        in_order = in_order && (order == NULL || order[d] == d);
    }
    PyObject *lengths = wpy_shape_tuple(shape, order);
    PyObject *array = lengths != NULL ? PyObject_CallMethod(numpy, "empty", "OO", lengths, dtype) : NULL;
    Py_XDECREF(lengths);
    if (array == NULL || in_order) {
        return array;
    }
    wpy_shape axes = {.n_dims = shape->n_dims};
    memcpy(axes.lengths, places, sizeof axes.lengths);
    PyObject *permutation = wpy_shape_tuple(&axes, NULL);
    PyObject *result = permutation != NULL ? PyObject_CallMethod(array, "transpose", "(O)", permutation) : NULL;
    Py_XDECREF(permutation);
    Py_DECREF(array);
    return result;
}

/* A memoryview cannot be empty in several dimensions, nor be cast while it is empty. */
static PyObject *
new_memoryview(const wpy_shape *shape, wp_type type)
{
    size_t bytes = wp_type_describe(type)->size;
    for (size_t d = 0; d < shape->n_dims; d++) {
        if (__builtin_mul_overflow(bytes, shape->lengths[d], &bytes) || bytes > PY_SSIZE_T_MAX) {
            return PyErr_NoMemory();
        }
    }
    /* By a call, which gives zeros: before 3.12 PyByteArray_FromStringAndSize() fails with a complaint of its own. */
    PyObject *memory = PyObject_CallFunction((PyObject *)&PyByteArray_Type, "n", (Py_ssize_t)bytes);
    PyObject *plain = memory != NULL ? PyMemoryView_FromObject(memory) : NULL;
    Py_XDECREF(memory);
    if (plain == NULL || bytes == 0) {
        return plain;
    }
    PyObject *lengths = wpy_shape_tuple(shape, NULL);
    PyObject *result =
        lengths != NULL ? PyObject_CallMethod(plain, "cast", "sO", wpy_struct_letter(type), lengths) : NULL;
    Py_XDECREF(lengths);
    Py_DECREF(plain);
    return result;
}

PyObject *
wpy_new_array(const wpy_shape *shape, const size_t *order, PyObject *dtype, wp_type type)
{
    PyObject *numpy = loaded_numpy();
    if (numpy == NULL) {
        return PyErr_Occurred() ? NULL : new_memoryview(shape, type);
    }
    PyObject *given = dtype != NULL ? Py_NewRef(dtype) : PyUnicode_FromString(wpy_numpy_name(type));
    PyObject *array = given != NULL ? new_numpy_array(numpy, shape, order, given) : NULL;
    Py_XDECREF(given);
    Py_DECREF(numpy);
    return array;
}
