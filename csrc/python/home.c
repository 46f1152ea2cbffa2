/* See home.h. */
#include "home.h"

#include "task.h"

#include <stdlib.h>
#include <time.h>

wpy_home *
wpy_home_new(void)
{
    wpy_home *home = calloc(1, sizeof *home);
    if (home == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    wp_store_relaxed(&home->references, 1);
    home->interpreter = PyInterpreterState_Get();
    return home;
}

void
wpy_home_ref(wpy_home *home)
{
    wp_add_relaxed(&home->references, 1);
}

void
wpy_home_unref(wpy_home *home)
{
    if (wp_sub_acq_rel(&home->references, 1) == 1) {
        free(home);
    }
}

/* Every field from the first type to the logger is an object: one table for visiting and clearing them. */
#define FIRST_OBJECT offsetof(wpy_home, future_type)
#define N_OBJECTS ((sizeof(wpy_home) - FIRST_OBJECT) / sizeof(PyObject *))

static PyObject **
objects_of(wpy_home *home)
{
    return (PyObject **)(void *)((char *)home + FIRST_OBJECT);
}

int
wpy_home_traverse(wpy_home *home, visitproc visit, void *arg)
{
    for (size_t i = 0; i < N_OBJECTS; i++) {
        Py_VISIT(objects_of(home)[i]);
    }
    return 0;
}

void
wpy_home_clear(wpy_home *home)
{
    for (size_t i = 0; i < N_OBJECTS; i++) {
        Py_CLEAR(objects_of(home)[i]);
    }
}

wpy_home *
wpy_home_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &wpy_module);
    return module != NULL ? wpy_home_of_module(module) : NULL;
}

bool
wpy_is_attached(const wpy_home *home)
{
    PyThreadState *state = wpy_current_thread_state();
    return state != NULL && PyThreadState_GetInterpreter(state) == home->interpreter;
}

/* ---- Trash ---- */

/* Calls of `release` inside of one another: a chain of a few costs no detour, and a stack holds many more. */
#define MOST_NESTED 24

/* Of the thread, while it is attached. */
static _Thread_local struct {
    unsigned nested;     /* Calls of `release` that have not returned. */
    unsigned hushed;     /* Calls of wpy_hush without their wpy_speak. */
    wpy_trash *deferred; /* A stack: to be released when both are 0. */
} own;

static void
release(wpy_trash *trash)
{
    wp_worker_stays_away();
    own.nested++;
    trash->release(trash);
    own.nested--;
}

/* Takes one at a time, since what is released may throw away more. */
static void
release_deferred(void)
{
    while (own.nested == 0 && own.hushed == 0 && own.deferred != NULL) {
        wpy_trash *trash = own.deferred;
        own.deferred = trash->next;
        release(trash);
    }
}

void
wpy_throw_away(wpy_home *home, wpy_trash *trash, wp_pool *pool)
{
    if (!wpy_is_attached(home)) {
        wpy_leave_trash(home, trash, pool);
    } else if (own.nested >= MOST_NESTED || own.hushed > 0) {
        trash->next = own.deferred;
        own.deferred = trash;
    } else {
        release(trash);
        release_deferred();
    }
}

void
wpy_leave_trash(wpy_home *home, wpy_trash *trash, wp_pool *pool)
{
    wpy_trash *top = wp_load_relaxed(&home->trash);
    do {
        trash->next = top;
    } while (!wp_cas_weak_acq_rel(&home->trash, &top, trash));
    if (top == NULL && pool != NULL) {
        wp_pool_ask_attendant(pool); /* Whoever pushed onto an empty stack asks; the others are covered by that. */
    }
}

/* A job that is thrown away is in no queue any more: its memory holds the two fields of the trash where its ticket and
 * its time of queueing were, and in front of them, where its pool was, what is to be done. */
typedef struct dead_job {
    void (*release)(wp_job *job);
    wpy_trash trash;
} dead_job;

_Static_assert(offsetof(dead_job, trash) == sizeof(void *), "laid over job->pool, job->ticket and job->queued_at");
_Static_assert(offsetof(wp_job, ticket) == offsetof(wp_job, pool) + sizeof(void *), "as above");
_Static_assert(offsetof(wp_job, queued_at) == offsetof(wp_job, ticket) + sizeof(uint64_t), "as above");
_Static_assert(sizeof(wpy_trash) == 2 * sizeof(uint64_t), "as above");

static void
release_dead_job(wpy_trash *trash)
{
    dead_job *dead = (dead_job *)(void *)((char *)trash - offsetof(dead_job, trash));
    dead->release((wp_job *)(void *)((char *)dead - offsetof(wp_job, pool)));
}

void
wpy_throw_job_away(wpy_home *home, wp_job *job, void (*release)(wp_job *job))
{
    const wp_worker *self = wp_worker_self();
    dead_job *dead = (dead_job *)(void *)&job->pool;
    dead->release = release;
    dead->trash.release = release_dead_job;
    wpy_throw_away(home, &dead->trash, self != NULL ? wp_worker_pool(self) : NULL);
}

/* One at a time: while foreign code runs for one, the others are there for whoever comes by. Only who has the lock takes
 * anything off, so what was read of the top holds. */
static wpy_trash *
take_trash(wpy_home *home)
{
    wp_lock_take(&home->taking);
    wpy_trash *top = wp_load_acquire(&home->trash);
    while (top != NULL && !wp_cas_weak_acq_rel(&home->trash, &top, top->next)) {
    }
    wp_lock_give(&home->taking);
    return top;
}

void
wpy_empty_trash_slowly(wpy_home *home)
{
    wpy_trash *trash;
    while (own.nested < MOST_NESTED && own.hushed == 0 && (trash = take_trash(home)) != NULL) {
        release(trash);
    }
    release_deferred();
}

/* ---- Ending many jobs at once ---- */

void
wpy_hush(void)
{
    own.hushed++;
}

bool
wpy_is_hushed(void)
{
    return own.hushed > 0;
}

void
wpy_speak(wpy_home *home)
{
    if (--own.hushed > 0) {
        return;
    }
    PyObject *pending = wpy_take_exception();
    wpy_tell_own_notices();
    release_deferred();
    wpy_empty_trash(home);
    if (pending != NULL) {
        wpy_raise(pending);
        Py_DECREF(pending);
    }
}

/* ---- Releasing what one thread at a time may ---- */

/* How long to wait for another thread (ns), in naps of so long (ns). Without foreign code it needs microseconds. */
#define PATIENCE_NS 100000000u
#define NAP_NS 50000u

void
wpy_nap(void)
{
    struct timespec moment = {.tv_nsec = NAP_NS};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
}

bool
wpy_begin_release(wpy_releaser *releaser)
{
    unsigned long me = PyThread_get_thread_ident();
    unsigned long other = 0;
    uint64_t until = 0;
    while (!wp_cas_acq_rel(releaser, &other, me)) {
        uint64_t now = wp_clock();
        until = until == 0 ? now + PATIENCE_NS : until;
        if (other == me || now >= until) {
            return false;
        }
        wpy_nap();
        other = 0;
    }
    return true;
}

void
wpy_end_release(wpy_releaser *releaser)
{
    wp_store_release(releaser, 0);
}

bool
wpy_check_not_exiting(wpy_home *home)
{
    if (wp_load_acquire(&home->exiting) == 0) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after interpreter shutdown");
    return false;
}

PyObject *
wpy_refuse_pickle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%.100s' object", Py_TYPE(self)->tp_name);
}
