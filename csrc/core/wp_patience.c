/* See wp_patience.h. */
#include "wp_patience.h"

void
wp_partner_init(wp_partner *partner)
{
    wp_store_relaxed(&partner->seen_on, WP_NOBODY_SEEN);
    wp_store_relaxed(&partner->more, 0);
}

/* Others read it for each job: so it is written only when it changes. */
static void
store_if_new(_Atomic(int) *what, int value)
{
    if (wp_load_relaxed(what) != value) {
        wp_store_relaxed(what, value);
    }
}

void
wp_partner_note_here(wp_partner *partner)
{
    store_if_new(&partner->seen_on, wp_processor());
}

static bool
is_on_this_processor(wp_partner *partner)
{
    int seen_on = wp_load_relaxed(&partner->seen_on);
    return seen_on >= 0 && seen_on == wp_processor();
}

bool
wp_partner_pass_moment(wp_partner *partner, int *moment)
{
    int spins = WP_PATIENCE_SPINS + wp_load_relaxed(&partner->more);
    if (*moment == 0 && is_on_this_processor(partner)) {
        *moment = spins;
    }
    if (*moment >= spins + WP_PATIENCE_YIELDS) {
        return false;
    }
    if (*moment < spins) {
        wp_spin(*moment);
    } else {
        wp_yield();
    }
    (*moment)++;
    return true;
}

void
wp_partner_note_wait(wp_partner *partner, int moments, bool came)
{
    int more = wp_load_relaxed(&partner->more);
    if (moments > 0) {
        store_if_new(&partner->more, came ? WP_PATIENCE_MORE : more - (more > 0));
    }
}
