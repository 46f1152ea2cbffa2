/* See home.h. */
#include "home.h"

#include "task.h"

#include <stdlib.h>

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

void
wpy_throw_away(wpy_home *home, wpy_trash *trash, wp_pool *pool)
{
    if (wpy_is_attached(home)) {
        trash->release(trash);
        return;
    }
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

void
wpy_empty_trash_slowly(wpy_home *home)
{
    wpy_trash *trash = wp_exchange_acq_rel(&home->trash, NULL);
    while (trash != NULL) {
        wpy_trash *next = trash->next;
        trash->release(trash);
        trash = next;
    }
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
