/* Taking turns at the interpreter's lock.
 *
 * A thread that waits for the lock makes its holder let go only after it has waited for a whole switch interval (5 ms)
 * without being woken (take_gil in CPython's Python/ceval_gil.c). A worker lets go after each claim, which is more often;
 * each time that wakes one of those who wait, but before it has come up the worker has made its next claim and holds the
 * lock again. So the thread that submits, or an event loop, could be kept waiting for as long as there were jobs.
 * Hence a worker from time to time stays away for as long as a thread takes to come up: every millisecond while it finds
 * that others want the lock, else seldom.
 *
 * All functions are for the calling worker. Where there is no such lock they do nothing.
 */
#ifndef WPY_TURNS_H
#define WPY_TURNS_H

#include "home.h"

/* The worker is about to ask for the lock: returns when that was (ns), for wpy_turn_began once it has it. */
uint64_t wpy_turn_asked(void);
void wpy_turn_began(uint64_t asked);

/* The worker has let go of the lock, and may ask for it again at once. */
void wpy_turn_ended(const wp_worker *self);

#endif
