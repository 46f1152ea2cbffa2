/* See context.h. */
#include "context.h"

#include "task.h"
#include "variables.h"
#include "wp_inner.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- Thread states ----
 *
 * Making a thread state takes a lock of CPython's, the list of all thread states, and needs no GIL. Before 3.13 a fork does
 * not wait for that lock, because threads of Python's own take it with the GIL, which whoever forks has. The child of a
 * fork in such a moment would wait for the lock for ever, inside of os.fork(). So a fork waits here for those who are
 * making one, a few microseconds at most. They hold nothing else meanwhile, and wait for nobody but for that list. */

/* Process-wide, because a fork and CPython's list are. Taken before CPython's lock, also by a fork. */
static pthread_mutex_t making_states = PTHREAD_MUTEX_INITIALIZER;

/* How often this thread holds it: a module that was imported twice has its hooks called twice. Not a recursive mutex, which
 * in a child would not know its owner again. */
static _Thread_local unsigned times_held;

void
wpy_hold_thread_states(void)
{
    if (times_held++ == 0) {
        pthread_mutex_lock(&making_states);
    }
}

void
wpy_release_thread_states(void)
{
    if (--times_held == 0) {
        pthread_mutex_unlock(&making_states);
    }
}

/* CPython stops a thread that attaches to an interpreter that ends, but one that makes its first thread state would touch
 * memory that is being freed. So it is stopped here, for good, in the same way: the process is about to end. It happens
 * only to pools that no hook could end, because the package was first imported by an exit handler. Milliseconds lie between
 * what is asked here and the first memory that goes, against microseconds in which a state is made. */
static void
stop_if_interpreter_ends(void)
{
    while (wpy_is_finalizing()) {
        pause();
    }
}

static PyThreadState *
new_thread_state(const wpy_home *home)
{
    stop_if_interpreter_ends();
    wpy_hold_thread_states();
    PyThreadState *state = wpy_thread_state_new(home->interpreter);
    wpy_release_thread_states();
    return state;
}

/* ---- Attaching ---- */

/* Makes the worker a thread that the threading module knows, with the trace and profile functions that all threads begin
 * with. Failing is no reason not to run the job: it is a stranger to that module then, which calls it "Dummy-1". */
static void
introduce_thread(const wpy_context *context, const wp_worker *worker)
{
    PyObject *begin = context->home->begin_thread;
    PyObject *thread = begin != NULL ? PyObject_CallFunction(begin, "OOI", context->threads, context->thread_name,
                                                             (unsigned)wp_worker_index(worker))
                                     : NULL;
    if (thread == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(thread);
}

static int
end_thread(const wpy_context *context, const wp_worker *worker)
{
    PyObject *end = context->home->end_thread;
    PyObject *nothing =
        end != NULL ? PyObject_CallFunction(end, "OI", context->threads, (unsigned)wp_worker_index(worker)) : NULL;
    bool failed = nothing == NULL && end != NULL;
    PyErr_Clear();
    Py_XDECREF(nothing);
    return failed ? -1 : 0;
}

/* Only where there are any: without the GIL taking them off stops all threads, which a fork may not survive. */
static void
take_hooks_off(void)
{
    const PyThreadState *state = PyThreadState_Get();
    if (state->c_profilefunc != NULL) {
        PyEval_SetProfile(NULL, NULL);
    }
    if (state->c_tracefunc != NULL) {
        PyEval_SetTrace(NULL, NULL);
    }
}

/* Its end, as far as Python is concerned: whoever joins it waits for that. What is raised in here is foreign, from a trace
 * function or by PyThreadState_SetAsyncExc() after the thread's last job, and is raised once. */
static void
dismiss_thread(const wpy_context *context, const wp_worker *worker)
{
    take_hooks_off();
    if (end_thread(context, worker) < 0) {
        end_thread(context, worker);
    }
}

/* The threading module makes an object for a thread that it does not know, when it is asked for it there. Before 3.13 that
 * object stays in the module's table for good, and a later thread with the same number would get it. */
static void
forget_thread(void)
{
#if PY_VERSION_HEX < 0x030d0000
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *active = threading != NULL ? PyObject_GetAttrString(threading, "_active") : NULL;
    PyObject *ident = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    if (active == NULL || ident == NULL || PyDict_DelItem(active, ident) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(ident);
    Py_XDECREF(active);
    Py_XDECREF(threading);
#endif
}

bool
wpy_attach(wpy_home *home, wp_worker *worker)
{
    void **pinned = wp_worker_local(worker);
    wp_inner_renew(); /* Python code loads libraries at any time. Does nothing where there is no limit. */
    if (*pinned != NULL) {
        PyEval_RestoreThread(*pinned);
        return true;
    }
    *pinned = new_thread_state(home);
    if (*pinned == NULL) {
        return false;
    }
    wpy_context *context = wp_pool_hook_context(wp_worker_pool(worker));
    PyEval_RestoreThread(*pinned);
    wpy_variables_begin(context);
    introduce_thread(context, worker);
    return true;
}

void
wpy_wait_for_memory(void)
{
    struct timespec moment = {.tv_nsec = 10000000};
    nanosleep(&moment, NULL);
}

void
wpy_detach(void)
{
    PyEval_SaveThread();
}

/* Attached, and not any more afterwards. */
static void
drop_thread_state(PyThreadState *state)
{
    forget_thread();
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
}

/* ---- What the core calls ---- */

/* Attached: runs the initializer; -1 if it raised, which is reported as the standard library does. */
static int
initialize(wpy_context *context)
{
    PyObject *result = PyObject_Call(context->initializer, context->initargs, NULL);
    if (result != NULL) {
        Py_DECREF(result);
        wpy_variables_initialized(context);
        return 0;
    }
    wpy_log_exception(context->home, "critical", "Exception in initializer:", NULL, context->initializer);
    return -1;
}

/* What imports, regular expressions and a printed traceback take, with room to spare: of 64 KiB they overflow. */
size_t
wpy_least_stack_size(void)
{
#if PY_VERSION_HEX >= 0x030e0000
    size_t least = (size_t)192 << 10; /* The interpreter keeps a part of it for itself, and counts what is left. */
#else
    size_t least = (size_t)128 << 10;
#endif
#ifdef Py_DEBUG
    least *= 4;
#endif
    return least;
}

/* As for a thread that Python starts. A thread that is not attached cannot ask, and takes what was seen last. */
static size_t
on_stack_size(void *pointer)
{
    wpy_context *context = pointer;
    if (wpy_current_thread_state() != NULL) {
        wp_store_relaxed(&context->stack_size, PyThread_get_stacksize());
    }
    size_t size = wp_load_relaxed(&context->stack_size);
    return size == 0 || size >= wpy_least_stack_size() ? size : wpy_least_stack_size();
}

static void
on_worker_begin(void *pointer, wp_worker *worker)
{
    const wpy_context *context = pointer;
    (void)worker;
    if (context->inner_threads != 0) {
        wp_inner_begin(context->inner_threads);
    }
}

/* Where there is an initializer. */
static int
on_worker_start(void *pointer, wp_worker *worker)
{
    wpy_context *context = pointer;
    if (!wpy_attach(context->home, worker)) {
        return -1;
    }
    int result = initialize(context);
    wpy_detach();
    return result;
}

/* Attached: everything that waits for an attached thread. */
static void
attend(wpy_home *home, wp_pool *pool)
{
    while (!wpy_tell_notices(home, pool, NULL) && !wp_pool_ask_attendant(pool)) {
        wpy_nap(); /* There is no thread for one that would try again. */
    }
    wpy_empty_trash(home);
}

/* The attendant is in foreign code for longer than this (ns): it may wait for what it would have to tell itself. */
#define HELD_UP_NS 5000000u

static bool
is_attendant_held_up(wpy_context *context)
{
    uint64_t since = wp_load_relaxed(&context->attending_since);
    return since != 0 && wp_clock() - since > HELD_UP_NS;
}

/* Somebody may sleep until he is told, so a worker without memory for a thread state asks the attendant, who tries again
 * until there is some. If there is no thread for that one, the worker tries again itself; unless there are jobs, after
 * which it comes here again. */
static void
tell_as_worker(wpy_home *home, wp_worker *worker)
{
    wp_pool *pool = wp_worker_pool(worker);
    wp_worker_stays_away();
    while (!wpy_attach(home, worker)) {
        if (wp_pool_ask_attendant(pool) || wp_pool_has_work(pool)) {
            return;
        }
        wpy_wait_for_memory();
    }
    attend(home, pool);
    wpy_detach();
}

/* A worker that has nothing else to do tells what is to be told; what is only to be released can wait for the next call
 * into the module, or for the attendant. */
static void
on_worker_idle(void *pointer, wp_worker *worker)
{
    const wpy_context *context = pointer;
    wp_inner_renew();
    if (wpy_has_notices(context->home)) {
        tell_as_worker(context->home, worker);
    }
}

/* Nobody may be left to tell what is to be told. */
static void
on_worker_stop(void *pointer, wp_worker *worker)
{
    on_worker_idle(pointer, worker);
    PyThreadState *state = *wp_worker_local(worker);
    if (state != NULL) {
        PyEval_RestoreThread(state);
        wpy_variables_end();
        dismiss_thread(pointer, worker);
        drop_thread_state(state);
        *wp_worker_local(worker) = NULL;
    }
    wp_inner_end();
}

void
wpy_leave_native(wp_worker *self)
{
    if (self == NULL) {
        return;
    }
    wp_pool *pool = wp_worker_pool(self);
    wpy_context *context = wp_pool_hook_context(pool);
    if (!wpy_has_notices(context->home)) {
        return;
    }
    if (wp_pool_has_work(pool) && !is_attendant_held_up(context)) {
        wp_pool_ask_attendant(pool); /* Waiting for the GIL here would keep native jobs waiting. */
    } else {
        on_worker_idle(wp_pool_hook_context(pool), self);
    }
}

static bool
on_attend(void *pointer)
{
    wpy_context *context = pointer;
    wpy_home *home = context->home;
    if (!wpy_has_notices(home) && wp_load_acquire(&home->trash) == NULL) {
        return false;
    }
    if (context->attendant_state == NULL) {
        context->attendant_state = new_thread_state(home);
        if (context->attendant_state == NULL) {
            return true; /* No memory now; the core asks again. */
        }
    }
    PyEval_RestoreThread(context->attendant_state);
    wp_store_relaxed(&context->attending_since, wp_clock());
    wpy_tell_notices(home, NULL, &context->attending_since);
    wpy_empty_trash(home);
    wp_store_relaxed(&context->attending_since, 0);
    PyEval_SaveThread();
    return true;
}

static void
on_attendant_stop(void *pointer)
{
    wpy_context *context = pointer;
    PyThreadState *state = context->attendant_state;
    if (state != NULL) {
        PyEval_RestoreThread(state);
        drop_thread_state(state);
        context->attendant_state = NULL;
    }
}

/* In a forked child the interpreter has deleted the thread states of all threads but this one. */
static void
on_forked(void *pointer)
{
    wpy_context *context = pointer;
    wpy_home *home = context->home;
    context->attendant_state = NULL;
    wp_store_relaxed(&context->attending_since, 0);
    wp_inner_forked();
    wp_store_relaxed(&home->lock.word, WP_LOCK_FREE);
    wpy_forget_notices(home);
    wp_store_relaxed(&home->trash, NULL);
    wp_add_relaxed(&home->forks, 1);
}

static void
release_context(wpy_trash *trash)
{
    wpy_context *context = (wpy_context *)(void *)trash;
    Py_XDECREF(context->lane_names);
    Py_XDECREF(context->thread_name);
    Py_XDECREF(context->initializer);
    Py_XDECREF(context->initargs);
    Py_XDECREF(context->threads);
    Py_XDECREF(context->inherited);
    wpy_home_unref(context->home);
    free(context);
}

/* A pool without Python has no objects to be released by an attached thread. */
static void
on_bare_freed(void *pointer)
{
    wpy_context *context = pointer;
    release_context(&context->trash);
}

static void
on_freed(void *pointer)
{
    wpy_context *context = pointer;
    context->trash.release = release_context;
    wpy_throw_away(context->home, &context->trash, NULL);
}

/* ---- The list of pools ---- */

static void
link_context(wpy_context *context)
{
    wpy_home *home = context->home;
    wp_lock_take(&home->lock);
    context->next = home->pools;
    if (home->pools != NULL) {
        home->pools->previous = context;
    }
    home->pools = context;
    wp_lock_give(&home->lock);
}

/* The core's call just before it frees the pool: from then on nobody may find it by the list. */
static void
on_unlisted(void *pointer)
{
    wpy_context *context = pointer;
    wpy_home *home = context->home;
    wp_lock_take(&home->lock);
    if (context->previous != NULL) {
        context->previous->next = context->next;
    } else {
        home->pools = context->next;
    }
    if (context->next != NULL) {
        context->next->previous = context->previous;
    }
    wp_lock_give(&home->lock);
}

wp_pool *
wpy_next_pool(wpy_home *home, wp_pool *previous)
{
    wp_pool *found = NULL;
    wp_lock_take(&home->lock);
    wpy_context *at = previous == NULL ? home->pools : ((wpy_context *)wp_pool_hook_context(previous))->next;
    for (; at != NULL && found == NULL; at = at->next) {
        if (wp_pool_try_ref(at->pool)) {
            found = at->pool;
        }
    }
    wp_lock_give(&home->lock);
    if (previous != NULL) {
        wp_pool_unref(previous);
    }
    return found;
}

/* The collector comes more than once, and must be told the same each time: a pool at rest stays so, because whoever could
 * submit to it would have to be attached. */
int
wpy_context_traverse(wp_pool *pool, visitproc visit, void *arg)
{
    const wpy_context *context = wp_pool_hook_context(pool);
    if (context->initializer != NULL && wp_pool_is_at_rest(pool)) {
        Py_VISIT(context->initializer);
        Py_VISIT(context->initargs);
    }
    return 0;
}

PyObject *
wpy_lane_names(wp_pool *pool)
{
    return ((wpy_context *)wp_pool_hook_context(pool))->lane_names;
}

wpy_context *
wpy_context_new(wpy_home *home, const wp_pool_config *config, PyObject *lane_names, PyObject *thread_name,
                PyObject *initializer, PyObject *initargs, PyObject *threads)
{
    wpy_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    wp_pool_config complete = *config;
    wp_store_relaxed(&context->stack_size, PyThread_get_stacksize());
    complete.hooks = (wp_hooks){
        .stack_size = on_stack_size,
        .worker_begin = on_worker_begin,
        .worker_start = initializer != NULL ? on_worker_start : NULL,
        .worker_stop = on_worker_stop,
        .worker_idle = on_worker_idle,
        .attend = on_attend,
        .attendant_stop = on_attendant_stop,
        .forked = on_forked,
        .unlisted = on_unlisted,
        .freed = on_freed,
        .context = context,
    };
    wpy_home_ref(home);
    context->home = home;
    context->lane_names = Py_NewRef(lane_names);
    context->thread_name = Py_NewRef(thread_name);
    context->initializer = Py_XNewRef(initializer);
    context->initargs = Py_XNewRef(initargs);
    context->threads = Py_NewRef(threads);
#ifdef Py_GIL_DISABLED
    complete.may_linger = true; /* What other threads let go of is finalized wherever the worker attaches. */
#endif
    context->pool = wp_pool_new(&complete);
    if (context->pool == NULL) {
        release_context(&context->trash);
        PyErr_NoMemory();
        return NULL;
    }
    link_context(context);
    return context;
}

wp_pool *
wpy_bare_pool_new(wpy_home *home, const wp_pool_config *config)
{
    wpy_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return NULL;
    }
    wp_pool_config complete = *config;
    complete.hooks =
        (wp_hooks){.forked = on_forked, .unlisted = on_unlisted, .freed = on_bare_freed, .context = context};
    wpy_home_ref(home);
    context->home = home;
    context->pool = wp_pool_new(&complete);
    if (context->pool == NULL) {
        release_context(&context->trash);
        return NULL;
    }
    link_context(context);
    return context->pool;
}
