/* Exceptions that are meant for the thread that happens to run something for others, and not for what it runs.
 *
 * A signal's handler raises wherever the main thread just is. If it is in a job that it runs because a queue was full, or in
 * a callback of a future that it has ended, the exception is still its own: it interrupts what the program does there.
 */
#ifndef WPY_INTERRUPT_H
#define WPY_INTERRUPT_H

#include "home.h"

/* Whether an exception that ended something on the calling thread interrupts this thread: KeyboardInterrupt, and on the
 * main thread whatever the handler of a signal has raised. False on a worker, where it is the job's. Attached; no
 * exception is set. */
bool wpy_interrupts(PyObject *exception);

/* Takes the exception that is set, which has nobody to go to. On the main thread KeyboardInterrupt, SystemExit and the
 * like are raised as soon as the thread is back in the code that has called us; everything else is reported as
 * unraisable in `source`. */
void wpy_raise_later(wpy_home *home, PyObject *source);

/* Around code of others of which such an exception is not to get into the way. May be nested. */
void wpy_begin_foreign(void);
void wpy_end_foreign(void);

#endif
