/* See wp_attendant.h; the interface is wp_pool_ask_attendant in wp_pool.h. */
#include "wp_internal.h"

/* How often the host is asked while it may have something to do, and for how many rounds without anything before the
 * attendant goes to sleep: often enough that memory held by finished jobs is let go soon, seldom enough not to be seen
 * in a profile. */
#define ATTEND_EVERY_NS 2000000u
#define QUIET_ROUNDS 16

enum { NOT_ASKED = 0, ASKED = 1 };

static bool
call_hook(wp_pool *pool)
{
    return pool->hooks.attend(pool->hooks.context);
}

/* Attends to the host while it asks. Returns when to attend again. */
static uint64_t
attend(wp_pool *pool, unsigned *quiet)
{
    wp_attendant *attendant = &pool->attendant;
    if (wp_load_acquire(&attendant->request) == NOT_ASKED) {
        return WP_FOREVER;
    }
    *quiet = call_hook(pool) ? 0 : *quiet + 1;
    if (*quiet >= QUIET_ROUNDS) {
        /* Who asks from now on finds NOT_ASKED and wakes this thread; what those before had to say is looked at once
         * more. Both sides change the same word, so one of the two must see the other. */
        wp_exchange_acq_rel(&attendant->request, NOT_ASKED);
        *quiet = 0;
        if (!call_hook(pool)) {
            return WP_FOREVER;
        }
        wp_store_release(&attendant->request, ASKED);
    }
    return wp_clock() + ATTEND_EVERY_NS;
}

static void *
attendant_main(void *argument)
{
    wp_pool *pool = argument;
    wp_attendant *attendant = &pool->attendant;
    unsigned quiet = 0;
    wp_thread_set_name("wp-attendant");
    for (;;) {
        uint32_t seen = wp_load_acquire(&attendant->side.signal);
        bool leaving = wp_side_is_leaving(&attendant->side);
        uint64_t again = attend(pool, &quiet);
        if (leaving) {
            break;
        }
        wp_word_wait(&attendant->side.signal, seen, again);
    }
    wp_exchange_acq_rel(&attendant->request, NOT_ASKED); /* Who asks from now on is told that nobody is there. */
    while (call_hook(pool)) {
    }
    if (pool->hooks.attendant_stop != NULL) {
        pool->hooks.attendant_stop(pool->hooks.context);
    }
    return wp_side_end(pool, &attendant->side);
}

bool
wp_pool_ask_attendant(wp_pool *pool)
{
    wp_attendant *attendant = &pool->attendant;
    if (wp_exchange_acq_rel(&attendant->request, ASKED) == ASKED) {
        return true;
    }
    wp_lock_take(&attendant->side.lock);
    bool started = wp_side_start(pool, &attendant->side, attendant_main);
    wp_lock_give(&attendant->side.lock);
    if (started) {
        wp_side_look_up(&attendant->side);
    } else {
        wp_store_release(&attendant->request, NOT_ASKED);
    }
    return started;
}
