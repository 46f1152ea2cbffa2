/* See wait.h. */
#include "wait.h"

#include "wp_blocked.h"
#include "wp_self.h"

#include <math.h>

/* Long enough to cost nothing, short enough for a person not to notice. */
#define SLICE_NS 250000000u
/* Between two looks greenlets get an eighth of the time that the wait has taken, within these bounds (ns). */
#define SHORTEST_DOZE_NS 50000u
#define LONGEST_DOZE_NS 5000000u

static int
seconds_as_double(PyObject *seconds, const char *name, double *value)
{
    *value = PyFloat_AsDouble(seconds);
    if (*value == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or None, not %.100s", name,
                         Py_TYPE(seconds)->tp_name);
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Format(PyExc_OverflowError, "%s is too large a number of seconds (None is no limit)", name);
        }
        return -1;
    }
    if (isnan(*value)) {
        PyErr_Format(PyExc_ValueError, "%s must be a number of seconds or None, not NaN", name);
        return -1;
    }
    return 0;
}

int
wpy_deadline(PyObject *seconds, const char *name, uint64_t *deadline)
{
    *deadline = WP_FOREVER;
    if (seconds == NULL || seconds == Py_None) {
        return 0;
    }
    double value;
    if (seconds_as_double(seconds, name, &value) < 0) {
        return -1;
    }
    *deadline = wp_deadline_after(value);
    return 0;
}

int
wpy_duration(PyObject *seconds, const char *name, uint64_t *ns)
{
    *ns = WP_FOREVER;
    if (seconds == NULL || seconds == Py_None) {
        return 0;
    }
    double value;
    if (seconds_as_double(seconds, name, &value) < 0) {
        return -1;
    }
    if (value < 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative", name);
        return -1;
    }
    *ns = value > 1e9 ? WP_FOREVER : (uint64_t)(value * 1e9);
    return 0;
}

PyObject *
wpy_seconds_until(uint64_t deadline)
{
    if (deadline == WP_FOREVER) {
        Py_RETURN_NONE;
    }
    uint64_t now = wp_clock();
    return PyFloat_FromDouble(deadline > now ? (double)(deadline - now) / 1e9 : 0.0);
}

/* ---- Resting ---- */

/* What this thread gave up at its innermost rest. */
static _Thread_local PyThreadState *resting;

wpy_resting
wpy_rest(void)
{
    wpy_resting rest = {.outer = resting};
    rest.state = PyEval_SaveThread();
    resting = rest.state;
    return rest;
}

void
wpy_rise(wpy_resting rest)
{
    resting = rest.outer;
    PyEval_RestoreThread(rest.state);
}

bool
wpy_get_up(const wpy_home *home)
{
    if (resting == NULL || wp_worker_self() == NULL || PyThreadState_GetInterpreter(resting) != home->interpreter) {
        return false;
    }
    PyEval_RestoreThread(resting);
    return true;
}

void
wpy_lie_down(void)
{
    PyEval_SaveThread();
}

/* A worker that is about to sleep must not keep from others what it has claimed. */
static void
leave_claim(void)
{
    wp_worker *self = wp_worker_self();
    if (self != NULL && wp_worker_hides_any(self)) {
        WPY_BEGIN_REST
        wp_worker_leave_claim(self);
        WPY_END_REST
    }
}

/* ---- Waiting beside greenlets ---- */

/* With gevent's monkey patches a wait of the standard library holds up one greenlet, and the thread's others run. What
 * sleeps in C would hold up all of them, and for ever if the job needs one of them. What they sleep by, a new reference;
 * NULL, with an exception only if one was raised, where that is not so. A thread that runs a job has things in hand that
 * others of its greenlets must not find, so it sleeps. */
static PyObject *
sleep_of_greenlets(void)
{
    PyObject *name = PyUnicode_InternFromString("gevent.monkey");
    PyObject *modules = PySys_GetObject("modules"); /* NULL at the interpreter's end. */
    int is_loaded = name != NULL && modules != NULL && PyDict_Check(modules) ? PyDict_Contains(modules, name) : 0;
    Py_XDECREF(name);
    if (is_loaded <= 0 || wp_worker_self() != NULL || wp_serves_any()) {
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("workerpool._green");
    PyObject *found = module != NULL ? PyObject_CallMethod(module, "sleep_of_this_thread", NULL) : NULL;
    Py_XDECREF(module);
    if (found == Py_None) {
        Py_CLEAR(found);
    }
    return found;
}

static double
next_doze(uint64_t begin, uint64_t now, uint64_t deadline)
{
    uint64_t doze = (now - begin) / 8;
    doze = doze < SHORTEST_DOZE_NS ? SHORTEST_DOZE_NS : doze > LONGEST_DOZE_NS ? LONGEST_DOZE_NS : doze;
    return (double)(deadline - now < doze ? deadline - now : doze) / 1e9;
}

/* Looks again and again, and lets the others run in between. */
static int
wait_beside_greenlets(PyObject *doze, wpy_slice *sleep, void *context, uint64_t deadline)
{
    uint64_t begin = wp_clock();
    for (;;) {
        uint64_t now = wp_clock();
        enum wp_result result;
        WPY_BEGIN_REST
        result = sleep(context, now);
        WPY_END_REST
        if (result != WP_LATE && result != WP_INTERRUPTED) {
            return (int)result;
        }
        if (now >= deadline) {
            return WP_LATE;
        }
        PyObject *dozed = PyObject_CallFunction(doze, "d", next_doze(begin, now, deadline));
        if (dozed == NULL || PyErr_CheckSignals() < 0) {
            Py_XDECREF(dozed);
            return -1;
        }
        Py_DECREF(dozed);
    }
}

/* ---- Waiting ---- */

static int
wait_in_slices(wpy_slice *sleep, void *context, uint64_t deadline)
{
    leave_claim();
    for (;;) {
        uint64_t slice_end = wp_clock() + SLICE_NS;
        enum wp_result result;
        WPY_BEGIN_REST
        result = sleep(context, deadline < slice_end ? deadline : slice_end);
        WPY_END_REST
        if (result != WP_LATE && result != WP_INTERRUPTED) {
            return (int)result;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (deadline <= slice_end && wp_clock() >= deadline) {
            return WP_LATE;
        }
    }
}

int
wpy_wait(wpy_slice *sleep, void *context, uint64_t deadline)
{
    PyObject *doze = sleep_of_greenlets();
    if (doze == NULL) {
        return PyErr_Occurred() ? -1 : wait_in_slices(sleep, context, deadline);
    }
    int result = wait_beside_greenlets(doze, sleep, context, deadline);
    Py_DECREF(doze);
    return result;
}

static enum wp_result
sleep_for_job(void *context, uint64_t deadline)
{
    switch (wp_job_wait_in_line(context, deadline)) {
    case WP_WAIT_WOKEN:
        return WP_OK;
    case WP_WAIT_TIMED_OUT:
        return WP_LATE;
    default:
        return WP_INTERRUPTED;
    }
}

int
wpy_wait_for_job(wp_job *job, uint64_t deadline)
{
    return wp_job_is_settled(job) ? WP_OK : wpy_wait(sleep_for_job, job, deadline);
}

/* ---- On a worker ---- */

int
wpy_set_deadlock(wpy_home *home, const char *report)
{
    PyErr_Format(home->deadlock_error,
                 "jobs wait for each other, and none of them could ever go on: %s. Let a job return the future that it "
                 "would wait for, or give the wait a timeout",
                 report);
    return -1;
}

typedef struct job_wait {
    wp_blocked blocked;
    char report[WPY_REPORT_SIZE];
} job_wait;

static enum wp_result
sleep_on_worker(void *context, uint64_t deadline)
{
    job_wait *w = context;
    return wp_blocked_wait(&w->blocked, deadline, w->report, sizeof w->report);
}

int
wpy_wait_on_worker(wpy_home *home, wp_job *job, void (*help)(wp_job *job), uint64_t deadline)
{
    job_wait w;
    if (wp_job_is_settled(job)) {
        return WP_OK;
    }
    wp_blocked_init(&w.blocked, job->pool, job->lane, job, deadline != WP_FOREVER);
    w.blocked.help = help;
    int result = wpy_wait(sleep_on_worker, &w, deadline);
    return result == WP_DEADLOCK ? wpy_set_deadlock(home, w.report) : result;
}
