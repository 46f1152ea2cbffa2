/* Waiting that Ctrl-C can end.
 *
 * A thread that waits for something detaches, so that others can run Python meanwhile, and sleeps in slices. A signal
 * ends a slice at once where it is delivered to that thread; the slice's own end covers a signal that came between the
 * last look and the sleep. After each slice the handlers run, and what they raise ends the wait.
 *
 * Where gevent has patched `threading`, the other greenlets of the thread run meanwhile: its waits are looks, with
 * gevent.sleep() between them.
 */
#ifndef WPY_WAIT_H
#define WPY_WAIT_H

#include "home.h"

/* Detached, and yet there for what the thread ends meanwhile: it may run jobs for which it waits, and nobody else would tell
 * their ends. In place of Py_BEGIN_ALLOW_THREADS and Py_END_ALLOW_THREADS. */
typedef struct wpy_resting {
    PyThreadState *state;
    PyThreadState *outer;
} wpy_resting;

wpy_resting wpy_rest(void);
void wpy_rise(wpy_resting rest);

#define WPY_BEGIN_REST                                                                                                 \
    {                                                                                                                  \
        wpy_resting own_rest = wpy_rest();
#define WPY_END_REST                                                                                                   \
    wpy_rise(own_rest);                                                                                                \
    }

/* On a worker that rests: attaches it, if it is of this interpreter; wpy_lie_down() detaches it again. */
bool wpy_get_up(const wpy_home *home);
void wpy_lie_down(void);

/* Seconds as Python gives them, None for never: a deadline. -1 with an exception set for anything else; `name` is what
 * the error calls it. */
int wpy_deadline(PyObject *seconds, const char *name, uint64_t *deadline);

/* The same as a length of time in ns; negative is an error. */
int wpy_duration(PyObject *seconds, const char *name, uint64_t *ns);

/* Seconds until a deadline as a float, 0.0 if it is over; None for WP_FOREVER. */
PyObject *wpy_seconds_until(uint64_t deadline);

/* One slice of a longer wait: called detached; WP_LATE when its time was over. */
typedef enum wp_result wpy_slice(void *context, uint64_t deadline);

/* Sleeps slice by slice until `sleep` says anything but WP_LATE and WP_INTERRUPTED, or the deadline. Returns that, or
 * WP_LATE, or -1 with an exception set by a signal's handler. Attached before and after. */
int wpy_wait(wpy_slice *sleep, void *context, uint64_t deadline);

/* The same for a job to be settled. WP_OK, WP_LATE or -1. */
int wpy_wait_for_job(wp_job *job, uint64_t deadline);

/* The same on a worker, which does what it can of the job (`help`, detached; NULL: runs it) if it is of its own
 * pool. -1 also with DeadlockError. */
int wpy_wait_on_worker(wpy_home *home, wp_job *job, void (*help)(wp_job *job), uint64_t deadline);

/* What a deadlock's report may take. */
#define WPY_REPORT_SIZE 1000u

/* Sets DeadlockError; returns -1. */
int wpy_set_deadlock(wpy_home *home, const char *report);

#endif
