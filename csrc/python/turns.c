/* See turns.h. */
#include "turns.h"

#ifndef Py_GIL_DISABLED

/* How long (ns) a worker stays away: a thread on another processor takes 10 to 50 us to come up. */
#define AWAY_NS 60000u
/* How often (ns) it does: while others want the lock, and at least. */
#define OFTEN_NS 1000000u
#define SELDOM_NS 8000000u
/* Who had to wait for longer than this (ns) was not the only one who wanted the lock. */
#define WAITED_NS 5000u

/* Of the thread: each worker has its own. */
static _Thread_local uint64_t interval = OFTEN_NS;
static _Thread_local uint64_t away_at; /* When it last stayed away, or slept. */
static _Thread_local uint64_t ended_at;

uint64_t
wpy_turn_asked(void)
{
    uint64_t now = wp_clock();
    if (now - ended_at >= AWAY_NS) {
        away_at = now;
    }
    return now;
}

void
wpy_turn_began(uint64_t asked)
{
    if (wp_clock() - asked > WAITED_NS) {
        interval = OFTEN_NS;
    }
}

void
wpy_turn_ended(const wp_worker *self)
{
    uint64_t now = ended_at = wp_clock();
    if (now - away_at < interval || wp_worker_is_wanted(self)) {
        return;
    }
    while (wp_clock() - now < AWAY_NS) {
        wp_yield();
    }
    away_at = ended_at = wp_clock();
    interval = interval < SELDOM_NS ? interval * 2 : SELDOM_NS;
}

#else

uint64_t
wpy_turn_asked(void)
{
    return 0;
}

void
wpy_turn_began(uint64_t Py_UNUSED(asked))
{
}

void
wpy_turn_ended(const wp_worker *Py_UNUSED(self))
{
}

#endif
