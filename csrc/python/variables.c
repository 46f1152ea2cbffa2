/* See variables.h. */
#include "variables.h"

/* Of the thread, a worker; NULL on others. What its pool's jobs begin with, and what they run in, see variables.h. */
static _Thread_local PyObject *own;
/* What the initializer had set when it returned; NULL: nothing. A context that nobody enters but to read from it. */
static _Thread_local PyObject *initial;
/* Jobs that this thread is in: one may wait for another and run it meanwhile. */
static _Thread_local uint32_t depth;

/* ---- The one variable whose object is changed in place ---- */

/* The decimal module does not show its variable: it is the one that asking for the context sets in an empty context. How the
 * module copies what it holds goes to *copy: a class of the user's may return anything there, and the module takes what the
 * variable holds for a context of its own. */
static PyObject *
find_variable(wpy_home *home, PyObject *module, PyObject **copy)
{
    PyObject *empty = PyContext_New();
    if (empty == NULL || PyContext_Enter(empty) < 0) {
        Py_XDECREF(empty);
        return NULL;
    }
    PyObject *value = PyObject_CallMethod(module, "getcontext", NULL);
    PyObject *exception = value == NULL ? wpy_take_exception() : NULL;
    PyContext_Exit(empty);
    PyObject *iterator = value != NULL ? PyObject_GetIter(empty) : NULL;
    PyObject *variable = iterator != NULL ? PyIter_Next(iterator) : NULL;
    *copy = variable != NULL ? PyObject_GetAttr((PyObject *)Py_TYPE(value), home->copy) : NULL;
    if (*copy == NULL) {
        Py_CLEAR(variable);
    }
    Py_XDECREF(iterator);
    Py_XDECREF(exception);
    Py_XDECREF(value);
    Py_DECREF(empty);
    return variable;
}

/* Out of line: it happens once, or as long as nobody has imported the module. */
static PyObject *
look_for_variable(wpy_home *home)
{
    PyObject *module = PyImport_GetModule(home->decimal);
    PyObject *copy = NULL;
    PyObject *variable = module != NULL ? find_variable(home, module, &copy) : NULL;
    Py_XDECREF(module);
    PyErr_Clear(); /* It is being imported just now: nobody can have used it. */
    if (variable == NULL) {
        return NULL;
    }
    wp_lock_take(&home->lock);
    PyObject *first = home->decimal_variable;
    if (first == NULL) {
        home->decimal_copy = copy;
        __atomic_store_n(&home->decimal_variable, variable, __ATOMIC_RELEASE);
    }
    wp_lock_give(&home->lock);
    if (first != NULL) {
        Py_DECREF(variable);
        Py_DECREF(copy);
    }
    return first != NULL ? first : variable;
}

/* Borrowed from the home; NULL where the module was not imported. */
static inline PyObject *
mutable_variable(wpy_home *home)
{
    PyObject *variable = __atomic_load_n(&home->decimal_variable, __ATOMIC_ACQUIRE);
    return variable != NULL ? variable : look_for_variable(home);
}

/* In the current context: 1 if the variable is set there, and its object is a copy now. -1 with an exception. */
static int
copy_mutable(wpy_home *home)
{
    PyObject *variable = mutable_variable(home);
    PyObject *value = NULL;
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0 || value == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *copy = PyObject_CallOneArg(home->decimal_copy, value);
    PyObject *token = copy != NULL ? PyContextVar_Set(variable, copy) : NULL;
    int result = token != NULL ? 1 : -1;
    Py_XDECREF(token);
    Py_XDECREF(copy);
    Py_DECREF(value);
    return result;
}

static void
exit_context(PyObject *context)
{
    if (PyContext_Exit(context) < 0) {
        PyErr_Clear(); /* Somebody else's C code has left it already. */
    }
}

/* The same in a context that is not entered. */
static int
copy_mutable_in(wpy_home *home, PyObject *context)
{
    if (mutable_variable(home) == NULL) {
        return 0;
    }
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    int result = copy_mutable(home);
    PyObject *exception = result < 0 ? wpy_take_exception() : NULL;
    exit_context(context);
    if (exception != NULL) {
        wpy_raise(exception);
        Py_DECREF(exception);
    }
    return result;
}

int
wpy_variables_capture(wpy_home *home, PyObject **captured)
{
    *captured = PyContext_CopyCurrent();
    if (*captured == NULL) {
        return -1;
    }
    if (PyMapping_Size(*captured) == 0) {
        Py_CLEAR(*captured);
        return 0;
    }
    if (copy_mutable_in(home, *captured) < 0) {
        Py_CLEAR(*captured);
        return -1;
    }
    return 0;
}

/* ---- The worker's own ---- */

void
wpy_variables_offer(wpy_context *context)
{
    if (!context->inherits) {
        return;
    }
    PyObject *captured;
    if (wpy_variables_capture(context->home, &captured) < 0) {
        PyErr_Clear(); /* What workers begin with is no reason to refuse a job. */
        return;
    }
    wp_lock_take(&context->home->lock);
    PyObject *before = context->inherited;
    context->inherited = captured;
    wp_lock_give(&context->home->lock);
    Py_XDECREF(before);
}

/* What a new worker of this pool begins with: a new reference, or NULL with an exception. */
static PyObject *
first_context(wpy_context *context)
{
    wp_lock_take(&context->home->lock);
    PyObject *inherited = Py_XNewRef(context->inherited);
    wp_lock_give(&context->home->lock);
    PyObject *first = inherited != NULL ? PyContext_Copy(inherited) : PyContext_New();
    Py_XDECREF(inherited);
    if (first != NULL && copy_mutable_in(context->home, first) < 0) {
        Py_CLEAR(first);
    }
    return first;
}

/* It stays entered until the worker ends. Without memory for it the thread's first context does, as for any thread. */
void
wpy_variables_begin(wpy_context *context)
{
    own = first_context(context);
    if (own == NULL || PyContext_Enter(own) < 0) {
        PyErr_Clear();
        Py_CLEAR(own);
    }
}

void
wpy_variables_initialized(wpy_context *context)
{
    if (own == NULL || PyMapping_Size(own) == 0) {
        return;
    }
    initial = PyContext_Copy(own);
    if (initial == NULL || copy_mutable_in(context->home, initial) < 0) {
        PyErr_Clear();
        Py_CLEAR(initial);
    }
}

void
wpy_variables_end(void)
{
    if (own != NULL) {
        exit_context(own);
    }
    Py_CLEAR(initial);
    Py_CLEAR(own);
}

/* ---- A job's ---- */

/* All that a decimal context says but its flags, for comparison. */
static PyObject *
settings_of(wpy_home *home, PyObject *value)
{
    PyObject *copy = PyObject_CallOneArg(home->decimal_copy, value);
    PyObject *cleared = copy != NULL ? PyObject_CallMethod(copy, "clear_flags", NULL) : NULL;
    PyObject *settings = cleared != NULL ? PyObject_CallMethod(copy, "__reduce__", NULL) : NULL;
    Py_XDECREF(cleared);
    Py_XDECREF(copy);
    return settings;
}

/* Whether the decimal context is as a thread's first use of the module makes it. Where somebody has put something else in the
 * place of the module's defaults nothing is like them: that is no reason to fail the job. */
static bool
has_default_settings(wpy_home *home, PyObject *value)
{
    PyObject *module = PyImport_GetModule(home->decimal);
    PyObject *initial_value = module != NULL ? PyObject_GetAttrString(module, "DefaultContext") : NULL;
    Py_XDECREF(module);
    PyObject *defaults = initial_value != NULL ? settings_of(home, initial_value) : NULL;
    PyObject *settings = defaults != NULL ? settings_of(home, value) : NULL;
    int equal = settings != NULL ? PyObject_RichCompareBool(settings, defaults, Py_EQ) : -1;
    Py_XDECREF(settings);
    Py_XDECREF(defaults);
    Py_XDECREF(initial_value);
    PyErr_Clear();
    return equal > 0;
}

/* In the current context, which belongs to a job: whether the submitter had set the variable. Any use of decimal sets its
 * variable, so defaults in there are nobody's wish. */
static int
is_set_by_submitter(wpy_home *home, PyObject *context, PyObject *variable)
{
    int is_set = PySequence_Contains(context, variable);
    if (is_set <= 0 || variable != mutable_variable(home)) {
        return is_set;
    }
    PyObject *value = NULL;
    if (PyContextVar_Get(variable, NULL, &value) < 0 || value == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool is_default = has_default_settings(home, value);
    Py_DECREF(value);
    return !is_default;
}

/* In the current context, which belongs to a job: sets what the initializer set and the submitter did not. */
static int
add_initial(wpy_home *home, PyObject *context)
{
    PyObject *items = PyMapping_Items(initial);
    int result = items != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *variable = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 0);
        int is_set = is_set_by_submitter(home, context, variable);
        PyObject *token =
            is_set == 0 ? PyContextVar_Set(variable, PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 1)) : NULL;
        result = is_set > 0 || token != NULL ? 0 : -1;
        Py_XDECREF(token);
    }
    Py_XDECREF(items);
    return result < 0 ? -1 : copy_mutable(home);
}

/* What a job in a drop-in runs in if it cannot run in the worker's own context: another one is in there, or the thread is
 * no worker and belongs to somebody else. */
static PyObject *
copy_of_own(const wpy_variables *variables)
{
    return variables->on_worker && own != NULL ? PyContext_Copy(own) : PyContext_CopyCurrent();
}

static PyObject *
context_for(const wpy_variables *variables)
{
    if (variables->in_own) {
        return copy_of_own(variables);
    }
    if (variables->captured != NULL) {
        return Py_NewRef(variables->captured);
    }
    return variables->on_worker && initial != NULL ? PyContext_Copy(initial) : PyContext_New();
}

/* In the context that was entered for a job: whatever is missing or shared. */
static int
complete(const wpy_variables *variables, PyObject *context)
{
    if (variables->in_own) {
        return copy_mutable(variables->home);
    }
    if (!variables->on_worker || initial == NULL) {
        return 0;
    }
    return variables->captured != NULL ? add_initial(variables->home, context) : copy_mutable(variables->home);
}

int
wpy_variables_enter(const wpy_variables *variables, PyObject **entered)
{
    *entered = NULL;
    if (variables->in_own && variables->on_worker && depth == 0) {
        depth++;
        return 0;
    }
    PyObject *context = context_for(variables);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    depth++;
    if (complete(variables, context) < 0) {
        PyObject *exception = wpy_take_exception();
        wpy_variables_leave(context);
        wpy_raise(exception);
        Py_DECREF(exception);
        return -1;
    }
    *entered = context;
    return 0;
}

void
wpy_variables_leave(PyObject *entered)
{
    depth--;
    if (entered != NULL) {
        exit_context(entered);
        Py_DECREF(entered);
    }
}

/* ---- Many calls, one after the other ---- */

static int
note_referent(PyObject *object, void *found)
{
    *(PyObject **)found = object;
    return 0;
}

/* A context that was not entered refers to nothing but its variables. Where an object is copied for each call, or where
 * a context turns out not to be as said in the header, none is known, so that it is made new after each call. */
static void
find_variables(wpy_template *template)
{
    PyTypeObject *type = Py_TYPE(template->context);
    PyObject *variables = NULL;
    type->tp_traverse(template->context, note_referent, &variables);
    const char *start = (const char *)template->context;
    size_t end = (size_t)type->tp_basicsize - sizeof(PyObject *);
    for (size_t at = sizeof(PyObject); at <= end && variables != NULL; at += sizeof(PyObject *)) {
        if (*(PyObject *const *)(const void *)(start + at) == variables) {
            template->offset = at;
            template->variables = variables;
            return;
        }
    }
}

int
wpy_template_make(wpy_template *template, wpy_home *home, PyObject *entered)
{
    *template = (wpy_template){.offset = sizeof(PyObject)};
    if (entered == NULL) {
        return 0;
    }
    /* The template keeps the object that was there, and the first call gets a copy like the others. */
    PyObject *context = PyContext_Copy(entered);
    int has_mutable = context != NULL ? copy_mutable(home) : -1;
    if (has_mutable < 0) {
        Py_XDECREF(context);
        return -1;
    }
    template->context = context;
    if (has_mutable == 0) {
        find_variables(template);
    }
    return 0;
}

int
wpy_template_renew(const wpy_template *template, wpy_home *home, PyObject **entered)
{
    PyObject *fresh = PyContext_Copy(template->context);
    if (fresh == NULL) {
        return -1;
    }
    exit_context(*entered);
    PyObject *before = *entered;
    *entered = fresh;
    int result = PyContext_Enter(fresh) < 0 ? -1 : copy_mutable(home);
    Py_DECREF(before);
    return result;
}
