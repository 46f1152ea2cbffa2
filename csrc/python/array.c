/* See array.h.
 *
 * A plan is made of what the caller gave, all of it checked; then it becomes a task, which the calling thread takes part
 * in or submits. There are three kinds:
 *
 *     - A scalar function, such as double (double, double), is called for each element. Numbers and arrays are
 *       broadcast together; a pointer parameter gets the same pointer in each call.
 *     - A kernel begins with two integers, where a range of elements begins and ends, and is called once for each
 *       range: int (size_t begin, size_t end, const double *in, double *out). Its pointers get whole arrays.
 *     - The inner loop of a NumPy ufunc.
 *
 * Which of the first two a function is may be open: int (size_t, size_t, void *) could be either. It is a kernel if the
 * two integers are not among the arguments.
 */
#include "array.h"

#include "array_call.h"
#include "future.h"
#include "message.h"
#include "native_call.h"
#include "pool.h"
#include "token.h"

#include <string.h>

/* What the package hands over. */
typedef struct request {
    wpy_home *home;
    const wpy_gate *gate;
    wpy_function *function; /* NULL for a ufunc. */
    PyObject *ufunc;
    PyObject *args;    /* A tuple. */
    PyObject *outputs; /* A tuple, of None where one is to be made. */
    uint64_t grain;
} request;

/* ---- Outputs ---- */

/* Takes the output that was given, or a new one of the plan's shape, and adds it to the results. */
static int
take_output(const request *r, wpy_array_plan *plan, wpy_operand *operand, PyObject *results, wp_type type,
            PyObject *dtype)
{
    PyObject *given = PyTuple_GET_ITEM(r->outputs, (Py_ssize_t)operand->number);
    PyObject *output;
    if (given != Py_None) {
        output = Py_NewRef(given);
    } else {
        size_t order[WP_GRID_MAX_DIMS];
        output = wpy_operands_order(plan->operands, &plan->shape, order) < 0
                     ? NULL
                     : wpy_new_array(&plan->shape, order, dtype, type);
    }
    if (output == NULL) {
        return -1;
    }
    PyTuple_SET_ITEM(results, (Py_ssize_t)operand->number, output); /* Takes the reference over. */
    if (operand->has_view || wpy_shape_count(&plan->shape) == 0) {
        return 0; /* Taken already; or made, and nothing will be written to it. */
    }
    return plan->function == NULL ? wpy_operand_take_dtype(plan->operands, operand, output, dtype)
                                  : wpy_operand_take_array(plan->operands, operand, output, type,
                                                           plan->function->signature->result.spelling, false);
}

/* ---- Parameters ---- */

/* The last parameters may have values of their own, which nobody gives. */
static size_t
n_free(const wpy_function *function)
{
    return function->signature->n_params - function->n_bound;
}

static bool
is_given(const wpy_function *function, size_t at)
{
    return at < n_free(function) && function->signature->params[at].type != WP_TYPE_JOB;
}

/* What a parameter that is not given gets; the job is put in its place later. */
static void
fill_in(const wpy_function *function, wpy_operand *operand, size_t at)
{
    if (at >= n_free(function)) {
        wpy_operand_set_value(operand, function->signature->params[at].type, function->bound[at - n_free(function)]);
    }
}

static int
fail_no_array(const wpy_array_plan *plan, const wpy_operand *operand, const wp_param *param, PyObject *object,
              const char *or_else)
{
    const char *hint = wpy_array_hint(object);
    return hint == NULL ? -1
                        : wpy_operand_fail(plan->operands, operand, PyExc_TypeError,
                                           "`%s` takes an array (any object with a buffer)%s, not %.100s%s",
                                           param->spelling, or_else, Py_TYPE(object)->tp_name, hint);
}

/* ---- A scalar function ---- */

/* An array of one value and no dimension is a number too, and may have another type than the parameter. -1 without
 * memory. */
static int
is_number(PyObject *object)
{
    if (!PyObject_CheckBuffer(object)) {
        return PyNumber_Check(object);
    }
    if (PyFloat_Check(object) || PyLong_Check(object)) {
        return true;
    }
    Py_buffer view;
    if (!PyNumber_Check(object)) {
        return false;
    }
    if (wpy_get_buffer(object, &view, PyBUF_RECORDS_RO) < 0) {
        if (wpy_lacks_memory()) {
            return -1;
        }
        PyErr_Clear();
        return false;
    }
    bool answer = view.ndim == 0;
    wpy_release_buffer(&view);
    return answer;
}

static int
take_argument(const wpy_array_plan *plan, wpy_operand *operand, size_t at, PyObject *object)
{
    const wpy_function *function = plan->function;
    const wp_param *param = &function->signature->params[at];
    int by_value = param->type == WP_TYPE_PTR ? 1 : is_number(object);
    if (by_value < 0) {
        return -1;
    }
    if (!by_value) {
        if (!PyObject_CheckBuffer(object)) {
            return fail_no_array(plan, operand, param, object, " or a number");
        }
        return wpy_operand_take_array(plan->operands, operand, object, param->type, param->spelling, false);
    }
    uint64_t slot;
    if (wpy_convert_argument(function, at, object, &slot, &operand->hold) < 0) {
        return -1;
    }
    wpy_operand_set_value(operand, param->type, slot);
    return 0;
}

static int
check_result(const wpy_function *function)
{
    wp_type type = function->signature->result.type;
    if (wpy_numpy_name(type) == NULL) {
        PyErr_Format(
            PyExc_TypeError,
            "%U() returns `%s`, which is no element of an array; a function for map_array() returns a number, or "
            "begins with the parameters size_t begin, size_t end",
            function->name, function->signature->result.spelling);
        return -1;
    }
    return 0;
}

static int
take_arguments(const request *r, wpy_array_plan *plan)
{
    const wp_signature *signature = plan->function->signature;
    Py_ssize_t given = 0;
    for (size_t at = 0; at < signature->n_params; at++) {
        wpy_operand *operand = wpy_operands_next(plan->operands, (size_t)given + 1, false);
        if (!is_given(plan->function, at)) {
            fill_in(plan->function, operand, at);
        } else if (take_argument(plan, operand, at, PyTuple_GET_ITEM(r->args, given++)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
plan_elements(const request *r, wpy_array_plan *plan)
{
    const wpy_function *function = plan->function;
    plan->kind = WPY_ELEMENTS;
    if (check_result(function) < 0) {
        return -1;
    }
    plan->operands = wpy_operands_new(function->signature->n_params + 1, function->name, NULL);
    plan->result = PyTuple_New(1);
    if (plan->operands == NULL || plan->result == NULL || take_arguments(r, plan) < 0) {
        return -1;
    }
    const wp_param *result = &function->signature->result;
    wpy_operand *out = wpy_operands_next(plan->operands, 0, true);
    PyObject *given = PyTuple_GET_ITEM(r->outputs, 0);
    if (given != Py_None &&
        wpy_operand_take_array(plan->operands, out, given, result->type, result->spelling, false) < 0) {
        return -1;
    }
    return wpy_operands_broadcast(plan->operands, &plan->shape) < 0
               ? -1
               : take_output(r, plan, out, plan->result, result->type, NULL);
}

/* ---- A kernel ---- */

/* The two integers in front, and at least one pointer to work on. */
static bool
could_be_kernel(const wpy_function *function)
{
    const wp_signature *signature = function->signature;
    bool has_pointer = false;
    for (size_t i = 2; i < signature->n_params && n_free(function) >= 2; i++) {
        has_pointer = has_pointer || signature->params[i].type == WP_TYPE_PTR;
    }
    for (size_t i = 0; i < 2 && has_pointer; i++) {
        const wp_type_traits *traits = wp_type_describe(signature->params[i].type);
        has_pointer = !traits->is_floating && traits->size == sizeof(size_t) && signature->params[i].type < WP_TYPE_F32;
    }
    const wp_type result = signature->result.type;
    return has_pointer && !wp_type_describe(result)->is_floating && result < WP_TYPE_PTR;
}

/* What a pointer leads to, element by element; WP_TYPE_VOID for what is no number, also for rows: `double (*)[3]`. */
static wp_type
pointee_of(const wp_param *param)
{
    const bool is_number = strchr(param->spelling, '(') == NULL && param->pointee != WP_TYPE_PTR;
    return is_number ? param->pointee : WP_TYPE_VOID;
}

static bool
is_typed(const wp_param *param)
{
    return param->type == WP_TYPE_PTR && pointee_of(param) != WP_TYPE_VOID;
}

/* The parameter that `out` goes to: the last pointer to what may be written. 0 if there is none. */
static size_t
parameter_of_output(const wpy_function *function)
{
    const wp_signature *signature = function->signature;
    size_t found = 0;
    for (size_t i = 2; i < n_free(function); i++) {
        if (signature->params[i].type == WP_TYPE_PTR && !signature->params[i].is_const) {
            found = i;
        }
    }
    return found;
}

/* How the arguments go to the parameters of a kernel. */
typedef struct kernel_call {
    PyObject *range;  /* The first argument if it is a range, else NULL. */
    Py_ssize_t first; /* The argument of the third parameter. */
    size_t output;    /* The parameter that gets the output, given or made; 0 if all are among the arguments. */
    PyObject *given;  /* The output, or None. */
    bool has_count;   /* The arrays so far say how many elements there are. */
    uint64_t count;
} kernel_call;

/* Whether the arguments are those of a kernel. A range stands for the two integers, which else are left out. */
static bool
match_kernel(const request *r, const wpy_function *function, kernel_call *k)
{
    if (!could_be_kernel(function)) {
        return false;
    }
    const wp_signature *signature = function->signature;
    const Py_ssize_t nargs = PyTuple_GET_SIZE(r->args);
    const Py_ssize_t wanted = (Py_ssize_t)function->n_arguments - 2;
    const size_t output = parameter_of_output(function);
    k->given = PyTuple_GET_ITEM(r->outputs, 0);
    k->range = nargs > 0 && PyRange_Check(PyTuple_GET_ITEM(r->args, 0)) ? PyTuple_GET_ITEM(r->args, 0) : NULL;
    k->first = k->range != NULL ? 1 : 0;
    const Py_ssize_t rest = nargs - k->first;
    if (rest == wanted && k->given == Py_None) {
        return true;
    }
    const bool can_be_made = output > 0 && is_typed(&signature->params[output]);
    k->output = output;
    return rest == wanted - 1 && output > 0 && (k->given != Py_None || can_be_made);
}

static int
fail_kernel(const request *r)
{
    const wpy_function *function = r->function;
    PyErr_Format(
        PyExc_TypeError,
        "%U() cannot be called with %zd arguments: as a kernel it takes %zu, for its parameters from the third on "
        "(one less if the last pointer to what is not const is `out`), and before them a range(begin, end) where "
        "no array says how many elements there are; to be called for each element, it takes %zu",
        function->name, PyTuple_GET_SIZE(r->args), function->n_arguments - 2, function->n_arguments);
    return -1;
}

static int
fail_range(PyObject *range, const wpy_function *function, PyObject *type, const char *right)
{
    PyObject *text = wpy_short_repr(range);
    if (text != NULL) {
        PyErr_Format(type, "%U() argument 1: a range of elements %s, unlike %U", function->name, right, text);
        Py_DECREF(text);
    }
    return -1;
}

static int
read_range(PyObject *range, const wpy_function *function, uint64_t *begin, uint64_t *end)
{
    static const char *const names[] = {"start", "stop", "step"};
    long long values[3] = {0};
    int is_beyond = 0;
    for (size_t i = 0; i < 3; i++) {
        int overflow = 0;
        PyObject *value = PyObject_GetAttrString(range, names[i]);
        values[i] = value != NULL ? PyLong_AsLongLongAndOverflow(value, &overflow) : -1;
        is_beyond = is_beyond || overflow > 0;
        Py_XDECREF(value);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    if (is_beyond) {
        return fail_range(range, function, PyExc_OverflowError, "ends before 2**63");
    }
    if (values[0] < 0 || values[2] != 1) {
        return fail_range(range, function, PyExc_ValueError, "begins at 0 or later and has the step 1");
    }
    *begin = (uint64_t)values[0];
    *end = (uint64_t)(values[1] > values[0] ? values[1] : values[0]);
    return 0;
}

/* A typed array must be one block of memory. Without a range, all have the same number of elements; with one, they reach
 * to its end. */
static int
check_block(const wpy_array_plan *plan, const wpy_operand *operand, kernel_call *k, uint64_t end)
{
    uint64_t count = wpy_operand_count(operand);
    if (!PyBuffer_IsContiguous(&operand->view, 'C')) {
        return wpy_operand_fail(
            plan->operands, operand, PyExc_ValueError,
            "a kernel takes blocks of memory, and this array is not contiguous in C's order; pass a copy");
    }
    if (k->range != NULL && count < end) {
        return wpy_operand_fail(plan->operands, operand, PyExc_ValueError, "it has %llu elements, and the range is %R",
                                (unsigned long long)count, k->range);
    }
    if (k->range == NULL && k->has_count && count != k->count) {
        return wpy_operand_fail(plan->operands, operand, PyExc_ValueError,
                                "it has %llu elements, and the arrays before it have %llu", (unsigned long long)count,
                                (unsigned long long)k->count);
    }
    k->has_count = true;
    k->count = count;
    return 0;
}

static int
take_block(const wpy_array_plan *plan, wpy_operand *operand, const wp_param *param, PyObject *object, kernel_call *k,
           uint64_t end)
{
    operand->is_written = !param->is_const;
    return wpy_operand_take_array(plan->operands, operand, object, pointee_of(param), param->spelling, true) < 0
               ? -1
               : check_block(plan, operand, k, end);
}

static int
take_kernel_argument(const wpy_array_plan *plan, wpy_operand *operand, size_t at, PyObject *object, kernel_call *k,
                     uint64_t end)
{
    const wp_param *param = &plan->function->signature->params[at];
    uint64_t slot;
    if (is_typed(param) && PyObject_CheckBuffer(object)) {
        return take_block(plan, operand, param, object, k, end);
    }
    if (is_typed(param)) {
        return fail_no_array(plan, operand, param, object, "");
    }
    if (wpy_convert_argument(plan->function, at, object, &slot, &operand->hold) < 0) {
        return -1;
    }
    wpy_operand_set_value(operand, param->type, slot);
    return 0;
}

/* All but the output, whose size may depend on the others. The first two operands are where each range begins and ends;
 * messages count them, as C does. */
static int
take_kernel_arguments(const request *r, wpy_array_plan *plan, kernel_call *k, uint64_t end)
{
    const wp_signature *signature = plan->function->signature;
    Py_ssize_t given = k->first;
    size_t number = 0;
    for (size_t at = 0; at < signature->n_params; at++) {
        number += signature->params[at].type != WP_TYPE_JOB;
        wpy_operand *operand = wpy_operands_next(plan->operands, number, false);
        if (at < 2 || at == k->output) {
            continue;
        }
        if (!is_given(plan->function, at)) {
            fill_in(plan->function, operand, at);
        } else if (take_kernel_argument(plan, operand, at, PyTuple_GET_ITEM(r->args, given++), k, end) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Without a typed array the elements are those of the first untyped one, as the view counts them that the kernel is
 * given. An array of pointers counts something else. */
static void
count_untyped(const wpy_array_plan *plan, kernel_call *k)
{
    const wp_param *params = plan->function->signature->params;
    for (size_t i = 2; i < plan->operands->n && k->range == NULL && !k->has_count; i++) {
        k->has_count = params[i].pointee != WP_TYPE_PTR && wpy_hold_count(&plan->operands->list[i].hold, &k->count);
    }
}

/* A new output has the shape of the first typed array; without one, it is a row that reaches to the last element. */
static void
shape_of_output(const wpy_array_plan *plan, const kernel_call *k, uint64_t end, wpy_shape *shape)
{
    *shape = (wpy_shape){.n_dims = 1, .lengths = {(size_t)(k->range != NULL ? end : k->count)}};
    for (size_t i = 2; i < plan->operands->n && k->range == NULL; i++) {
        const wpy_operand *operand = &plan->operands->list[i];
        if (operand->has_view) {
            shape->n_dims = (size_t)operand->n_dims;
            for (size_t d = 0; d < shape->n_dims; d++) {
                shape->lengths[d] = (size_t)operand->shape[d];
            }
            return;
        }
    }
}

static int
take_kernel_output(wpy_array_plan *plan, kernel_call *k, uint64_t end)
{
    const wp_param *param = &plan->function->signature->params[k->output];
    wpy_operand *operand = &plan->operands->list[k->output];
    uint64_t slot;
    operand->is_output = true;
    operand->number = 0;
    if (k->given == Py_None) {
        wpy_shape shape;
        shape_of_output(plan, k, end, &shape);
        plan->result = wpy_new_array(&shape, NULL, NULL, pointee_of(param));
        if (plan->result != NULL && wpy_shape_count(&shape) == 0) {
            return 0;
        }
    } else {
        plan->result = Py_NewRef(k->given);
    }
    if (plan->result == NULL) {
        return -1;
    }
    if (is_typed(param)) {
        return take_block(plan, operand, param, plan->result, k, end);
    }
    if (wpy_convert_argument(plan->function, k->output, plan->result, &slot, &operand->hold) < 0) {
        return -1;
    }
    wpy_operand_set_value(operand, WP_TYPE_PTR, slot);
    count_untyped(plan, k);
    return 0;
}

static int
plan_kernel(const request *r, wpy_array_plan *plan, kernel_call *k)
{
    const wpy_function *function = plan->function;
    uint64_t end = 0;
    plan->kind = WPY_KERNEL;
    plan->operands = wpy_operands_new(function->signature->n_params, function->name, NULL);
    if (plan->operands == NULL || (k->range != NULL && read_range(k->range, function, &plan->begin, &end) < 0) ||
        take_kernel_arguments(r, plan, k, end) < 0) {
        return -1;
    }
    count_untyped(plan, k);
    if (k->output > 0 && take_kernel_output(plan, k, end) < 0) {
        return -1;
    }
    if (k->range == NULL && !k->has_count) {
        PyErr_Format(PyExc_TypeError,
                     "%U(): no array tells how many elements there are; give a range(n) as the first argument",
                     function->name);
        return -1;
    }
    plan->result = plan->result != NULL ? plan->result : Py_NewRef(Py_None);
    plan->shape = (wpy_shape){.n_dims = 1, .lengths = {(size_t)(k->range != NULL ? end - plan->begin : k->count)}};
    return 0;
}

/* ---- A ufunc ---- */

/* What NumPy keeps in the capsule that ufunc._resolve_dtypes_and_context() returns, as documented with
 * ufunc._get_strided_loop(), for NumPy 1.24 and later. */
typedef struct ufunc_call_info {
    wpy_strided_loop *strided_loop;
    void *context;
    void *auxdata;
    unsigned char requires_pyapi;
    unsigned char no_floatingpoint_errors;
} ufunc_call_info;

#define CALL_INFO_NAME "numpy_1.24_ufunc_call_info"

static int
take_call_info(wpy_array_plan *plan, PyObject *capsule, PyObject *name)
{
    const ufunc_call_info *info = PyCapsule_GetPointer(capsule, CALL_INFO_NAME);
    if (info == NULL) {
        return -1;
    }
    if (info->requires_pyapi || info->strided_loop == NULL) {
        PyErr_Format(
            PyExc_TypeError,
            "%U() works on Python objects for these arrays, which needs the GIL; a pool can only run loops over plain "
            "numbers",
            name);
        return -1;
    }
    plan->strided = info->strided_loop;
    plan->context = info->context;
    plan->auxdata = info->auxdata;
    return 0;
}

/* What the package says of a ufunc: the capsule, the name, a dtype for each array and output, and for each output the
 * object that is the result, or None for one that is to be made. */
typedef struct ufunc_request {
    PyObject *capsule;
    PyObject *name;
    PyObject *dtypes;
    PyObject *results;
    Py_ssize_t n_in;
    Py_ssize_t n_out;
} ufunc_request;

static int
parse_ufunc(const request *r, ufunc_request *u)
{
    if (!PyArg_ParseTuple(r->ufunc, "OUO!O!", &u->capsule, &u->name, &PyTuple_Type, &u->dtypes, &PyTuple_Type,
                          &u->results)) {
        return -1;
    }
    u->n_in = PyTuple_GET_SIZE(r->args);
    u->n_out = PyTuple_GET_SIZE(r->outputs);
    if (u->n_in + u->n_out > WPY_MOST_OPERANDS || PyTuple_GET_SIZE(u->dtypes) != u->n_in + u->n_out ||
        PyTuple_GET_SIZE(u->results) != u->n_out) {
        PyErr_SetString(PyExc_SystemError, "a ufunc, its dtypes and its arrays are not of one number");
        return -1;
    }
    return 0;
}

static int
take_ufunc_operands(const request *r, const ufunc_request *u, wpy_array_plan *plan)
{
    for (Py_ssize_t i = 0; i < u->n_in + u->n_out; i++) {
        const bool is_output = i >= u->n_in;
        const size_t number = (size_t)(is_output ? i - u->n_in : i + 1);
        PyObject *array = is_output ? PyTuple_GET_ITEM(r->outputs, i - u->n_in) : PyTuple_GET_ITEM(r->args, i);
        wpy_operand *operand = wpy_operands_next(plan->operands, number, is_output);
        if (array != Py_None &&
            wpy_operand_take_dtype(plan->operands, operand, array, PyTuple_GET_ITEM(u->dtypes, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The result is what the caller gave as an output, and not the array that was made of it. */
static void
set_result(PyObject *results, PyObject *given, Py_ssize_t at)
{
    PyObject *object = PyTuple_GET_ITEM(given, at);
    if (object != Py_None) {
        PyObject *array = PyTuple_GET_ITEM(results, at);
        PyTuple_SET_ITEM(results, at, Py_NewRef(object));
        Py_DECREF(array);
    }
}

static int
plan_ufunc(const request *r, wpy_array_plan *plan)
{
    ufunc_request u;
    if (parse_ufunc(r, &u) < 0 || take_call_info(plan, u.capsule, u.name) < 0) {
        return -1;
    }
    plan->kind = WPY_UFUNC;
    plan->operands = wpy_operands_new((size_t)(u.n_in + u.n_out), u.name, u.capsule);
    plan->result = PyTuple_New(u.n_out);
    if (plan->operands == NULL || plan->result == NULL || take_ufunc_operands(r, &u, plan) < 0 ||
        wpy_operands_broadcast(plan->operands, &plan->shape) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < u.n_out; i++) {
        if (take_output(r, plan, &plan->operands->list[u.n_in + i], plan->result, WP_TYPE_VOID,
                        PyTuple_GET_ITEM(u.dtypes, u.n_in + i)) < 0) {
            return -1;
        }
        set_result(plan->result, u.results, i);
    }
    return 0;
}

/* ---- The plan ---- */

static int
make_plan(const request *r, wpy_array_plan *plan)
{
    plan->function = r->function;
    plan->grain = r->grain;
    if (r->function == NULL) {
        return plan_ufunc(r, plan);
    }
    kernel_call k = {.output = 0};
    const bool all_given = PyTuple_GET_SIZE(r->args) == (Py_ssize_t)r->function->n_arguments;
    const bool with_range = PyTuple_GET_SIZE(r->args) > 0 && PyRange_Check(PyTuple_GET_ITEM(r->args, 0));
    if ((!all_given || with_range) && match_kernel(r, r->function, &k)) {
        return plan_kernel(r, plan, &k);
    }
    if (!all_given && could_be_kernel(r->function)) {
        return fail_kernel(r);
    }
    return wpy_check_count(r->function, PyTuple_GET_SIZE(r->args)) < 0 ? -1 : plan_elements(r, plan);
}

/* One result stands for itself. */
static void
unpack_result(wpy_array_plan *plan)
{
    if (plan->kind != WPY_KERNEL && PyTuple_GET_SIZE(plan->result) == 1) {
        PyObject *only = Py_NewRef(PyTuple_GET_ITEM(plan->result, 0));
        Py_SETREF(plan->result, only);
    }
}

static wpy_task *
make_task(const request *r)
{
    wpy_array_plan plan = {.function = NULL};
    if (make_plan(r, &plan) < 0) {
        wpy_operands_free(plan.operands);
        Py_XDECREF(plan.result);
        return NULL;
    }
    unpack_result(&plan);
    return wpy_array_call_new(r->home, &r->gate->options, &plan);
}

/* ---- What the package calls ---- */

static int
parse_request(PyObject *module, PyObject *args, request *r)
{
    PyObject *pool, *function;
    unsigned long long grain;
    r->home = wpy_home_of_module(module);
    if (!PyArg_ParseTuple(args, "OOOO!O!K", &pool, &function, &r->ufunc, &PyTuple_Type, &r->args, &PyTuple_Type,
                          &r->outputs, &grain)) {
        return -1;
    }
    r->gate = wpy_gate_of(r->home, pool);
    if (function != Py_None && Py_TYPE(function) != r->home->native_type) { /* It might only say that it were one. */
        PyErr_Format(PyExc_TypeError, "a NativeFunction is needed, not %.100s", Py_TYPE(function)->tp_name);
        return -1;
    }
    r->function = function != Py_None ? wpy_function_of(function) : NULL;
    r->grain = grain;
    return r->gate == NULL || wpy_gate_check_open(r->gate) < 0 || !wpy_check_not_exiting(r->home) ? -1 : 0;
}

/* What submit would say: the calling thread needs no worker, but a pool that takes jobs. */
static int
check_pool(const request *r)
{
    wp_token *token = r->gate->options.token != NULL ? wpy_token_core(r->gate->options.token) : NULL;
    if (wp_pool_is_closed(r->gate->core)) {
        return wpy_set_error(r->home, wp_pool_is_broken(r->gate->core) ? WP_BROKEN : WP_CLOSED);
    }
    return token != NULL && wp_token_is_cancelled(token) ? wpy_set_error(r->home, WP_STOPPED) : 0;
}

const char wpy_map_array_doc[] = "_map_array($module, pool, function, ufunc, args, outputs, grain, /)\n--\n\n";

PyObject *
wpy_map_array(PyObject *module, PyObject *args)
{
    request r;
    if (parse_request(module, args, &r) < 0 || check_pool(&r) < 0) {
        return NULL;
    }
    wpy_empty_trash(r.home);
    wpy_task *task = make_task(&r);
    if (task == NULL) {
        return NULL;
    }
    return wpy_array_call_run(task, r.gate->core, r.gate->options.lane);
}

const char wpy_submit_array_doc[] = "_submit_array($module, pool, function, ufunc, args, outputs, grain, /)\n--\n\n";

PyObject *
wpy_submit_array(PyObject *module, PyObject *args)
{
    request r;
    if (parse_request(module, args, &r) < 0) {
        return NULL;
    }
    wpy_empty_trash(r.home);
    wpy_task *task = make_task(&r);
    if (task == NULL) {
        return NULL;
    }
    return wpy_future_submit(r.home, r.gate->core, &r.gate->options, task, r.gate->handle);
}
