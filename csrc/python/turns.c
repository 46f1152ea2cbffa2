/* See turns.h. */
#include "turns.h"

#ifndef Py_GIL_DISABLED

/* How long (ns) a worker stays away: a thread on another processor takes 10 to 50 us to come up. */
#define AWAY_NS 60000u
/* How often (ns) it does: while others want the lock, and at least. */
#define OFTEN_NS 1000000u
#define SELDOM_NS 4000000u
/* Who had to wait for longer than this (ns) was not the only one who wanted the lock. */
#define WAITED_NS 5000u

/* Of the thread: each worker has its own. */
static _Thread_local uint64_t interval = OFTEN_NS;
static _Thread_local uint64_t away_at; /* When it was last away for so long. */
static _Thread_local uint64_t ended_at;

/* It is away already, since its last turn ended: the rest of the time, unless more urgent work needs it. */
static void
stay_away(const wp_worker *self)
{
    while (wp_clock() - ended_at < AWAY_NS && !wp_worker_is_wanted(self)) {
        wp_yield();
    }
    interval = interval < SELDOM_NS ? interval * 2 : SELDOM_NS;
}

uint64_t
wpy_turn_asked(const wp_worker *self)
{
    uint64_t now = wp_clock();
    if (now - ended_at >= AWAY_NS) {
        away_at = now;
    } else if (now - away_at >= interval) {
        stay_away(self);
        away_at = now = wp_clock();
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
wpy_turn_ended(void)
{
    ended_at = wp_clock();
}

#else

uint64_t
wpy_turn_asked(const wp_worker *Py_UNUSED(self))
{
    return 0;
}

void
wpy_turn_began(uint64_t Py_UNUSED(asked))
{
}

void
wpy_turn_ended(void)
{
}

#endif
