/* How long to look for what another thread is about to do, before sleeping.
 *
 * PURPOSE. Two threads that hand each other short jobs wait for each other all the time, for less than it costs to sleep
 * and to be woken: tens of microseconds on a virtual machine, where a halted processor has to be fetched back.
 *
 * DESIGN. Looks that are 1, 2, 4 pauses apart and so on: so what is waited for gathers, and who looks keeps off the other's
 * cache line. Then some with a yield between them, for who waits for this processor. There are more of them after a wait
 * that was not in vain, up to about the time that sleeping and waking takes, and fewer after one that was. Where the other
 * was last seen on this very processor nothing but a yield lets it get on, so there is nothing else.
 *
 * GUARANTEES. All of it is a guess: nothing but time depends on it. Any thread may call anything.
 */
#ifndef WP_PATIENCE_H
#define WP_PATIENCE_H

#include "wp_os.h"

/* Looks with nothing but pauses between them, at least; those beyond, at most; those after a yield. A test may want
 * fewer. */
#ifndef WP_PATIENCE_SPINS
#define WP_PATIENCE_SPINS 7
#endif
#ifndef WP_PATIENCE_MORE
#define WP_PATIENCE_MORE 2
#endif
#define WP_PATIENCE_YIELDS 3

#define WP_NOBODY_SEEN (-2)

/* What is known of the threads that are waited for. */
typedef struct wp_partner {
    _Atomic(int) seen_on; /* The processor that one of them was on; WP_NOBODY_SEEN; or -1 as wp_processor says it. */
    _Atomic(int) more;    /* Looks beyond the least that they were worth of late. */
} wp_partner;

void wp_partner_init(wp_partner *partner);

/* The calling thread is one of them. */
void wp_partner_note_here(wp_partner *partner);

/* Whether one of them was ever here. */
static inline bool
wp_partner_was_here(wp_partner *partner)
{
    return wp_load_relaxed(&partner->seen_on) != WP_NOBODY_SEEN;
}

/* Lets a moment pass before the next look; false when there were enough of them. *moment is 0 at first. */
bool wp_partner_pass_moment(wp_partner *partner, int *moment);

/* After so many moments, which may be none: what was waited for came, or was given up. */
void wp_partner_note_wait(wp_partner *partner, int moments, bool came);

/* The pauses after one look. */
static inline void
wp_spin(int look)
{
    for (int i = 0; i < 1 << look; i++) {
        wp_pause();
    }
}

#endif
