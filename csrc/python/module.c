/* The extension module workerpool._core: its types and exceptions, made once for each interpreter. */
#include "array.h"
#include "block.h"
#include "bridge.h"
#include "capi.h"
#include "context.h"
#include "future.h"
#include "job.h"
#include "lifecycle.h"
#include "map.h"
#include "native.h"
#include "pool.h"
#include "results.h"
#include "token.h"

/* ---- Exceptions ---- */

static PyObject *
new_exception(PyObject *module, const char *name, const char *doc, PyObject *first_base, PyObject *second_base)
{
    char full_name[64];
    PyOS_snprintf(full_name, sizeof full_name, "workerpool.%s", name);
    PyObject *bases = second_base != NULL ? PyTuple_Pack(2, first_base, second_base) : PyTuple_Pack(1, first_base);
    if (bases == NULL) {
        return NULL;
    }
    PyObject *exception = PyErr_NewExceptionWithDoc(full_name, doc, bases, NULL);
    Py_DECREF(bases);
    if (exception != NULL && PyModule_AddObjectRef(module, name, exception) < 0) {
        Py_CLEAR(exception);
    }
    return exception;
}

static PyObject *
import_attribute(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *attribute = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return attribute;
}

/* The first that fails ends it, here and below: another call with its exception set would turn that into SystemError. */
static int
add_standard_exceptions(wpy_home *home)
{
    home->cancelled_error = import_attribute("concurrent.futures", "CancelledError");
    if (home->cancelled_error == NULL) {
        return -1;
    }
    home->invalid_state_error = import_attribute("concurrent.futures", "InvalidStateError");
    return home->invalid_state_error != NULL ? 0 : -1;
}

/* A kind of Error. */
static int
add_exception(PyObject *module, PyObject **exception, const char *name, const char *doc, PyObject *second_base)
{
    const wpy_state *state = PyModule_GetState(module);
    *exception = new_exception(module, name, doc, state->home->error, second_base);
    return *exception != NULL ? 0 : -1;
}

static int
add_broken_pool(PyObject *module, wpy_home *home)
{
    PyObject *broken = import_attribute("concurrent.futures.thread", "BrokenThreadPool");
    int result = broken == NULL
                     ? -1
                     : add_exception(module, &home->broken_pool, "BrokenPool",
                                     "The pool cannot run jobs: a worker's initializer failed, or the process "
                                     "was forked.",
                                     broken);
    Py_XDECREF(broken);
    return result;
}

static int
add_native_error(PyObject *module, wpy_home *home)
{
    static const char doc[] =
        "A native function returned an error.\n\ncode: what it returned. errno: as it was then. function: its name.\n"
        "elements: in a loop over arrays, the range of elements in which that was; else None.";
    return add_exception(module, &home->native_error, "NativeError", doc, NULL) < 0
               ? -1
               : PyObject_SetAttrString(home->native_error, "elements", Py_None);
}

static int
add_submit_timeout(PyObject *module, wpy_home *home)
{
    static const char doc[] = "A queue had no room for the job within its submit_timeout.";
    home->submit_timeout = new_exception(module, "SubmitTimeout", doc, home->queue_full, PyExc_TimeoutError);
    return home->submit_timeout != NULL ? 0 : -1;
}

static int
add_error(PyObject *module, wpy_home *home)
{
    home->error = new_exception(module, "Error", "The base of workerpool's exceptions.", PyExc_Exception, NULL);
    return home->error != NULL ? 0 : -1;
}

static int
add_exceptions(PyObject *module, wpy_home *home)
{
    return add_standard_exceptions(home) < 0 || add_error(module, home) < 0 ||
                   add_exception(module, &home->queue_full, "QueueFull", "A queue had no room for the job.", NULL) <
                       0 ||
                   add_exception(module, &home->job_expired, "JobExpired",
                                 "The job waited longer than its queue_timeout.", PyExc_TimeoutError) < 0 ||
                   add_exception(module, &home->job_timeout, "JobTimeout", "The job ran longer than its run_timeout.",
                                 PyExc_TimeoutError) < 0 ||
                   add_broken_pool(module, home) < 0 ||
                   add_exception(module, &home->deadlock_error, "DeadlockError",
                                 "Jobs wait for each other in a circle: none of them could ever go on.",
                                 PyExc_RuntimeError) < 0 ||
                   add_native_error(module, home) < 0 ||
                   add_exception(module, &home->signature_error, "SignatureError",
                                 "A C signature is wrong or cannot be called.", PyExc_TypeError) < 0 ||
                   add_submit_timeout(module, home) < 0
               ? -1
               : 0;
}

/* ---- Types ---- */

static int
add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (*type == NULL) {
        return -1;
    }
    return name != NULL ? PyModule_AddObjectRef(module, name, (PyObject *)*type) : 0;
}

static int
add_future_type(PyObject *module, wpy_home *home)
{
    PyObject *base = import_attribute("concurrent.futures", "Future");
    if (base == NULL) {
        return -1;
    }
    home->future_type = wpy_future_type_new(module, base);
    Py_DECREF(base);
    return home->future_type != NULL ? PyModule_AddObjectRef(module, "Future", (PyObject *)home->future_type) : -1;
}

static int
add_types(PyObject *module, wpy_home *home)
{
    return add_future_type(module, home) < 0 || add_type(module, &wpy_watchers_spec, NULL, &home->watchers_type) < 0 ||
                   add_type(module, &wpy_handle_spec, NULL, &home->handle_type) < 0 ||
                   add_type(module, &wpy_pool_spec, "Pool", &home->pool_type) < 0 ||
                   add_type(module, &wpy_view_spec, "View", &home->view_type) < 0 ||
                   add_type(module, &wpy_native_spec, "NativeFunction", &home->native_type) < 0 ||
                   add_type(module, &wpy_token_spec, "CancelToken", &home->token_type) < 0 ||
                   add_type(module, &wpy_results_spec, "Results", &home->results_type) < 0 ||
                   add_type(module, &wpy_result_spec, "Result", &home->result_type) < 0 ||
                   add_type(module, &wpy_map_spec, "Map", &home->map_type) < 0 ||
                   add_type(module, &wpy_job_spec, "Job", &home->job_type) < 0 ||
                   add_type(module, &wpy_threads_callback_spec, "ThreadsCallback", &home->threads_callback_type) < 0 ||
                   add_type(module, &wpy_bridge_spec, "Bridge", &home->bridge_type) < 0 ||
                   add_type(module, &wpy_call_spec, "LoopCall", &home->call_type) < 0
               ? -1
               : 0;
}

/* ---- Names ---- */

static PyObject *
make_breather(void)
{
    PyObject *globals = PyDict_New();
    PyObject *function = globals != NULL ? PyRun_String("lambda: None", Py_eval_input, globals, globals) : NULL;
    Py_XDECREF(globals);
    return function;
}

typedef struct name_of {
    PyObject **at;
    const char *text;
} name_of;

static int
add_names(wpy_home *home)
{
    const name_of names[] = {
        {&home->decimal, "decimal"},
        {&home->copy, "copy"},
        {&home->pending, "PENDING"},
        {&home->running, "RUNNING"},
        {&home->cancelled, "CANCELLED_AND_NOTIFIED"},
        {&home->finished, "FINISHED"},
        {&home->add_result, "add_result"},
        {&home->add_exception, "add_exception"},
        {&home->add_cancelled, "add_cancelled"},
        {&home->done, "done"},
        {&home->cancel, "cancel"},
        {&home->set_result, "set_result"},
        {&home->set_exception, "set_exception"},
        {&home->call_name, "_call"},
        {&home->callbacks_name, "_callbacks"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        *names[i].at = PyUnicode_InternFromString(names[i].text);
        if (*names[i].at == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
add_logger(wpy_home *home)
{
    PyObject *logging = PyImport_ImportModule("logging");
    home->logger = logging != NULL ? PyObject_CallMethod(logging, "getLogger", "s", "concurrent.futures") : NULL;
    Py_XDECREF(logging);
    return home->logger != NULL ? 0 : -1;
}

static int
add_helpers(wpy_home *home)
{
    if ((home->breather = make_breather()) == NULL || (home->run_units = wpy_run_units_new()) == NULL ||
        (home->loop_keyword = Py_BuildValue("(s)", "loop")) == NULL) {
        return -1;
    }
    return add_logger(home);
}

/* ---- The module ---- */

static PyObject *
processors(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(wp_processors());
}

static PyObject *
least_stack_size(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(wpy_least_stack_size());
}

static PyObject *
limit_inner_threads(PyObject *module, PyObject *args)
{
    const wpy_state *state = PyModule_GetState(module);
    PyObject *pool;
    unsigned int limit;
    if (!PyArg_ParseTuple(args, "OI:_limit_inner_threads", &pool, &limit)) {
        return NULL;
    }
    const wpy_gate *gate = wpy_gate_of(state->home, pool);
    if (gate == NULL) {
        return NULL;
    }
    wpy_context *context = wp_pool_hook_context(gate->core);
    context->inner_threads = limit;
    Py_RETURN_NONE;
}

static PyObject *
use_worker_functions(PyObject *module, PyObject *args)
{
    wpy_home *home = wpy_home_of_module(module);
    PyObject *begin, *end, *within, *callers;
    if (!PyArg_ParseTuple(args, "OOOO!:_use_worker_functions", &begin, &end, &within, &PyTuple_Type, &callers)) {
        return NULL;
    }
    Py_XSETREF(home->begin_thread, Py_NewRef(begin));
    Py_XSETREF(home->end_thread, Py_NewRef(end));
    Py_XSETREF(home->call_within, Py_NewRef(within));
    Py_XSETREF(home->callers, Py_NewRef(callers));
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"current_job", wpy_current_job, METH_NOARGS, wpy_current_job_doc},
    {"processors", processors, METH_NOARGS,
     "processors()\n--\n\nHow many processors this process may use, by its affinity and its cgroup's quota."},
    {"_least_stack_size", least_stack_size, METH_NOARGS,
     "_least_stack_size()\n--\n\nBytes of stack that a thread needs to run Python."},
    {"_limit_inner_threads", limit_inner_threads, METH_VARARGS,
     "_limit_inner_threads(pool, limit, /)\n--\n\nFor a pool that has not been given a job yet."},
    {"_use_worker_functions", use_worker_functions, METH_VARARGS,
     "_use_worker_functions(begin, end, within, callers, /)\n--\n\nOnce, before the first pool; by _pool.py."},
    {"_map_array", wpy_map_array, METH_VARARGS, wpy_map_array_doc},
    {"_submit_array", wpy_submit_array, METH_VARARGS, wpy_submit_array_doc},
    {"_at_exit", wpy_at_exit, METH_NOARGS, NULL},
    {0},
};

static int
module_exec(PyObject *module)
{
    wpy_state *state = PyModule_GetState(module);
    state->home = wpy_home_new();
    if (state->home == NULL || add_exceptions(module, state->home) < 0 || add_types(module, state->home) < 0 ||
        add_names(state->home) < 0 || add_helpers(state->home) < 0 || wpy_capi_add(module, state->home) < 0 ||
        wpy_register_exit(module) < 0 || wpy_register_fork() < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    const wpy_state *state = PyModule_GetState(module);
    return state->home != NULL ? wpy_home_traverse(state->home, visit, arg) : 0;
}

static int
module_clear(PyObject *module)
{
    const wpy_state *state = PyModule_GetState(module);
    if (state->home != NULL) {
        wpy_home_clear(state->home);
    }
    return 0;
}

static void
module_free(void *module)
{
    wpy_state *state = PyModule_GetState(module);
    if (state->home != NULL) {
        wpy_home_clear(state->home);
        wpy_home_unref(state->home);
        state->home = NULL;
    }
}

/* What the module says of itself has been proved, by the tests named beside it.
 *
 * An interpreter with a GIL of its own runs beside others without any lock in common. Each has a module, types and a home
 * of its own; what they share is in the core, which knows no interpreter. In tests/test_interpreters.py:
 * test_make_use_and_shut_down and test_interpreter_ends_with_a_pool_in_every_state for what one interpreter does,
 * test_many_interpreters_at_a_time for races between them, and test_a_gil_of_ones_own_is_not_waited_for, because a GIL of
 * one's own would be worth nothing if workers took the first one's. Without this slot the first of them fails at the
 * import, since isolated interpreters refuse what does not have it.
 *
 * Without a GIL every object may be used by all threads at once. tests/test_free_threading.py lets many threads do the same
 * to one object; make parallel-test runs each test that can bear it in four threads at once; there,
 * test_the_extension_leaves_the_gil_off shows that the import did not turn the GIL on again, which would hide all that. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef wpy_module = {
    PyModuleDef_HEAD_INIT,         .m_name = "workerpool._core", .m_doc = "The compiled part of workerpool.",
    .m_size = sizeof(wpy_state),   .m_methods = module_methods,  .m_slots = module_slots,
    .m_traverse = module_traverse, .m_clear = module_clear,      .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&wpy_module);
}
