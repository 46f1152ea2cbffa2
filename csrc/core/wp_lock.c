/* The slow path of wp_lock.h. */
#include "wp_lock.h"

/* About a microsecond of pauses on x86-64; measured with one producer and two workers on two processors, fewer sends
 * them to sleep behind holders that needed another 50 ns, more gains nothing. A test may want another number. */
#ifndef WP_LOCK_SPINS
#define WP_LOCK_SPINS 40
#endif

static bool
spin_for_it(wp_lock *lock)
{
    for (int i = 0; i < WP_LOCK_SPINS; i++) {
        uint32_t seen = wp_load_relaxed(&lock->word);
        if (seen == WP_LOCK_FREE && wp_cas_acquire(&lock->word, &seen, WP_LOCK_HELD)) {
            return true;
        }
        if (seen == WP_LOCK_HELD_WITH_SLEEPERS) {
            return false; /* Others sleep already: the holder is slow. */
        }
        wp_pause();
    }
    return false;
}

void
wp_lock_take_slowly(wp_lock *lock)
{
    if (spin_for_it(lock)) {
        return;
    }
    /* From here on this thread cannot know whether others sleep too, so it takes the lock in the state that makes the
     * release wake one: a wake-up too many at worst. */
    while (wp_exchange_acquire(&lock->word, WP_LOCK_HELD_WITH_SLEEPERS) != WP_LOCK_FREE) {
        wp_word_wait(&lock->word, WP_LOCK_HELD_WITH_SLEEPERS, WP_FOREVER);
    }
}
