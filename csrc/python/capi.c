/* See capi.h; what the functions do stands in workerpool_api.h.
 *
 * The table lies in the home, which the capsule and every client that imported it hold: a client that outlives the module
 * still finds it. What needs Python objects says so by an exception once the module is gone.
 *
 * Most functions only look at what strangers hand them (a lane that is not there, a worker that would wait for itself)
 * and leave the rest to the core. They return int, because an enum is not the same in every compiler.
 */
#include "capi.h"

#include "context.h"
#include "pool.h"
#include "token.h"

#include "wp_handle.h"
#include "wp_parallel.h"
#include "wp_stage.h"

#include <stddef.h>
#include <string.h>

#define DEFAULT_QUEUE_SIZE 1024u
#define DEFAULT_FAIRNESS 64u
#define MOST_WORKERS INT32_MAX

/* ---- The module ---- */

static void
hold(void *state)
{
    wpy_home_ref(state);
}

static void
release(void *state)
{
    wpy_home_unref(state);
}

/* ---- With the GIL ---- */

static int
check_module_is_there(const wpy_home *home)
{
    if (home->pool_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the module workerpool._core is no more");
        return -1;
    }
    return 0;
}

static wp_pool *
pool_borrow(void *state, PyObject *object, uint32_t *lane, wp_token **token)
{
    wpy_home *home = state;
    const wpy_gate *gate = check_module_is_there(home) == 0 ? wpy_gate_of(home, object) : NULL;
    if (gate == NULL || wpy_gate_check_open(gate) < 0) {
        return NULL;
    }
    if (lane != NULL) {
        *lane = gate->options.lane;
    }
    if (token != NULL) {
        *token = gate->options.token != NULL ? wpy_token_core(gate->options.token) : NULL;
        if (*token != NULL) {
            wp_token_ref(*token);
        }
    }
    wp_pool_ref(gate->core);
    return gate->core;
}

static wp_token *
token_borrow(void *state, PyObject *object)
{
    PyObject *token;
    if (check_module_is_there(state) < 0 || wpy_token_convert(state, object, &token) < 0) {
        return NULL;
    }
    if (token == NULL) {
        PyErr_SetString(PyExc_TypeError, "a workerpool.CancelToken is needed, not None");
        return NULL;
    }
    wp_token_ref(wpy_token_core(token));
    return wpy_token_core(token);
}

static int
set(PyObject *exception, const char *text)
{
    PyErr_SetString(exception, text);
    return -1;
}

static int
set_error(void *state, int result)
{
    wpy_home *home = state;
    switch (result) {
    case WP_OK:
        return 0;
    case WP_INTERRUPTED:
        return PyErr_CheckSignals();
    case WP_LATE:
        return set(PyExc_TimeoutError, "the deadline came first");
    case WP_INVALID:
        return set(PyExc_ValueError,
                   "an argument of workerpool's C API is out of range, or a worker would wait for itself");
    default:
        break;
    }
    if (check_module_is_there(home) < 0) {
        return -1;
    }
    switch (result) {
    case WP_FINISHED:
        return set(home->error, "there are no more results");
    case WP_ERROR:
        return set(home->error, "the body of a parallel range failed");
    default:
        return wpy_set_error(home, (enum wp_result)result);
    }
}

/* ---- Pools ---- */

/* Options are as long as the caller's header says; what it does not know of is 0. */
static bool
read_options(void *to, size_t known, const void *from, size_t given)
{
    memset(to, 0, known);
    if (from == NULL) {
        return true;
    }
    if (given < sizeof(size_t)) {
        return false;
    }
    memcpy(to, from, given < known ? given : known);
    return true;
}

static bool
configure(const wp_pool_options *options, wp_pool_config *config)
{
    const char *name = options->thread_name != NULL ? options->thread_name : "workerpool";
    uint32_t n_lanes = options->n_lanes > 0 ? options->n_lanes : 1;
    if (n_lanes > WP_MAX_LANES || options->max_workers > MOST_WORKERS || strlen(name) >= sizeof config->thread_name ||
        wp_stack_size_check(options->stack_size) != 0) {
        return false;
    }
    *config = (wp_pool_config){
        .max_workers = options->max_workers > 0 ? options->max_workers : wp_processors(),
        .n_lanes = n_lanes,
        .fairness = options->fairness > 0 ? options->fairness : DEFAULT_FAIRNESS,
        .idle_timeout = options->idle_timeout > 0 ? options->idle_timeout : WP_FOREVER,
        .stack_size = options->stack_size,
    };
    for (uint32_t i = 0; i < n_lanes; i++) {
        config->lanes[i].capacity = options->queue_sizes != NULL ? options->queue_sizes[i] : DEFAULT_QUEUE_SIZE;
    }
    memcpy(config->thread_name, name, strlen(name) + 1);
    return true;
}

static int
pool_new(void *state, const wp_pool_options *given, wp_pool **pool)
{
    wpy_home *home = state;
    wp_pool_options options;
    wp_pool_config config;
    if (!read_options(&options, sizeof options, given, given != NULL ? given->size : 0) ||
        !configure(&options, &config)) {
        return WP_INVALID;
    }
    wp_pool *made = wpy_bare_pool_new(home, &config);
    if (made == NULL) {
        return WP_NO_MEMORY;
    }
    /* Looked at when the pool is on the list: either the exit hook finds it there, or it has begun before. */
    if (wp_load_acquire(&home->exiting) != 0) {
        wp_pool_unref(made);
        return WP_CLOSED;
    }
    *pool = made;
    return WP_OK;
}

static uint32_t
pool_max_workers(wp_pool *pool)
{
    return wp_pool_max_workers(pool);
}

/* Threads of two pools that wait for each other's pool wait for themselves. */
static int
result_of_pool_wait(enum wp_result result)
{
    return result == WP_DEADLOCK ? WP_INVALID : (int)result;
}

static int
pool_drain(wp_pool *pool, uint64_t deadline)
{
    return wp_pool_needs_caller(pool) ? WP_INVALID : result_of_pool_wait(wp_pool_drain(pool, deadline));
}

static int
pool_join(wp_pool *pool, uint64_t deadline)
{
    return wp_pool_needs_caller(pool) ? WP_INVALID : result_of_pool_wait(wp_pool_join(pool, deadline));
}

/* ---- Tokens ---- */

static int
token_cancel(wp_token *token)
{
    return wp_token_cancel(token);
}

static int
token_is_cancelled(wp_token *token)
{
    return wp_token_is_cancelled(token);
}

/* ---- Jobs ---- */

static uint64_t
limit_of(uint64_t timeout)
{
    return timeout > 0 ? timeout : WP_FOREVER;
}

static int
submit(wp_pool *pool, uint32_t lane, const wp_submit_options *given, wp_function *function, void *argument,
       uint64_t deadline, wp_handle **handle)
{
    wp_submit_options read;
    if (!read_options(&read, sizeof read, given, given != NULL ? given->size : 0)) {
        return WP_INVALID;
    }
    wp_function_options options = {
        .token = read.token, .queue_timeout = limit_of(read.queue_timeout), .run_timeout = limit_of(read.run_timeout)};
    return (int)wp_handle_submit(pool, lane, given != NULL ? &options : NULL, function, argument, deadline, false,
                                 handle);
}

static int
parallel(wp_pool *pool, uint32_t lane, wp_token *token, size_t n, size_t grain, wp_body *body, void *context,
         wp_failed_piece *failed)
{
    return (int)wp_parallel(pool, lane, token, n, grain, body, context, failed);
}

/* ---- Stages ---- */

static int
stage_new(wp_pool *pool, uint32_t lane, wp_function *function, uint32_t capacity, wp_stage **stage)
{
    if (lane >= wp_pool_n_lanes(pool) || capacity > WP_STAGE_MOST) {
        return WP_INVALID;
    }
    *stage = wp_stage_new(pool, lane, function, capacity);
    return *stage != NULL ? WP_OK : WP_NO_MEMORY;
}

static int
stage_put(wp_stage *stage, void *argument, uint64_t deadline)
{
    return (int)wp_stage_put(stage, argument, deadline);
}

static int
stage_get(wp_stage *stage, uint64_t deadline, void **argument, int *status)
{
    wp_stage_result result;
    enum wp_result got = wp_stage_get(stage, deadline, &result);
    if (got != WP_OK) {
        return (int)got;
    }
    *argument = result.argument;
    *status = result.status;
    return result.given_up ? WP_STOPPED : WP_OK;
}

/* ---- The table and its capsule ---- */

static const wp_capi functions = {
    .abi_version = WORKERPOOL_ABI_VERSION,
    .size = sizeof(wp_capi),
    .hold = hold,
    .release = release,
    .pool_borrow = pool_borrow,
    .token_borrow = token_borrow,
    .set_error = set_error,
    .clock = wp_clock,
    .deadline_after = wp_deadline_after,
    .pool_new = pool_new,
    .pool_ref = wp_pool_ref,
    .pool_unref = wp_pool_unref,
    .pool_max_workers = pool_max_workers,
    .pool_lanes = wp_pool_n_lanes,
    .pool_drain = pool_drain,
    .pool_close = wp_pool_close,
    .pool_join = pool_join,
    .token_new = wp_token_new,
    .token_ref = wp_token_ref,
    .token_unref = wp_token_unref,
    .token_cancel = token_cancel,
    .token_is_cancelled = token_is_cancelled,
    .submit = submit,
    .parallel = parallel,
    .stage_new = stage_new,
    .stage_ref = wp_stage_ref,
    .stage_unref = wp_stage_unref,
    .stage_put = stage_put,
    .stage_get = stage_get,
    .stage_close = wp_stage_close,
    .stage_cancel = wp_stage_cancel,
    .threads_callback = wp_threads_callback,
};

static void
free_capsule(PyObject *capsule)
{
    const wp_capi *table = PyCapsule_GetPointer(capsule, WORKERPOOL_CAPSULE);
    wpy_home_unref(table->state);
}

int
wpy_capi_add(PyObject *module, wpy_home *home)
{
    home->capi = functions;
    home->capi.state = home;
    PyObject *capsule = PyCapsule_New(&home->capi, WORKERPOOL_CAPSULE, free_capsule);
    if (capsule == NULL) {
        return -1;
    }
    wpy_home_ref(home); /* The capsule's. */
    int added = PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_DECREF(capsule);
    return added;
}

/* ---- ThreadsCallback ---- */

typedef struct threads_object {
    PyObject_HEAD
    wp_threads threads; /* Constant; a reference to the pool. */
    PyObject *pool;     /* Constant: keeps it from being closed by the collector. */
} threads_object;

static PyObject *
threads_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"pool", NULL};
    PyObject *pool;
    wpy_home *home = wpy_home_of_type(type);
    if (home == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:ThreadsCallback", keywords, &pool)) {
        return NULL;
    }
    wp_threads threads;
    threads.pool = pool_borrow(home, pool, &threads.lane, NULL);
    threads_object *self = threads.pool != NULL ? (threads_object *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        if (threads.pool != NULL) {
            wp_pool_unref(threads.pool);
        }
        return NULL;
    }
    self->threads = threads;
    self->pool = Py_NewRef(pool);
    return (PyObject *)self;
}

static void
threads_dealloc(threads_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    wp_pool_unref(self->threads.pool);
    Py_XDECREF(self->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
threads_traverse(threads_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pool);
    return 0;
}

static PyObject *
threads_get_address(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr((void *)(uintptr_t)wp_threads_callback);
}

static PyObject *
threads_get_data(threads_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(&self->threads);
}

static PyGetSetDef threads_getset[] = {
    {"address", threads_get_address, NULL, "The address of the C function.", NULL},
    {"data", (getter)threads_get_data, NULL, "The address of its data: what is passed as callback_data.", NULL},
    {0},
};

PyDoc_STRVAR(
    threads_doc,
    "ThreadsCallback(pool)\n--\n\n"
    "A pool as the threads of a C library that lets others run its jobs.\n\n"
    "It has the signature that blosc2_set_threads_callback of c-blosc2 takes:\n"
    "void (void *callback_data, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata).\n"
    "The thread that calls the library does jobs beside the workers, so one that is a worker itself, or finds\n"
    "the pool full or shut down, is not held up.\n\n"
    "pool: a WorkerPool, or a view of one for another lane.\n\n"
    "The object must be kept as long as the library may call the function. Raises TypeError for what is no\n"
    "pool. Thread-safe.");

static PyType_Slot threads_slots[] = {
    {Py_tp_doc, (void *)threads_doc},   {Py_tp_new, threads_new},       {Py_tp_dealloc, threads_dealloc},
    {Py_tp_traverse, threads_traverse}, {Py_tp_getset, threads_getset}, {0, NULL},
};

PyType_Spec wpy_threads_callback_spec = {
    .name = "workerpool.ThreadsCallback",
    .basicsize = sizeof(threads_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = threads_slots,
};
