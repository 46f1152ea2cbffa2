/* The core's lock: one word, held for tens of nanoseconds.
 *
 * DESIGN. Three states: free, held, held with sleepers. Taking a free lock and giving back one that nobody waits for
 * are one atomic operation each. A thread that finds it held first looks again a few times, because the holder is
 * almost always about to leave: sleeping and being woken costs a hundred times what the lock protects. The spin is
 * short enough (about a microsecond) not to matter where the holder was preempted.
 *
 * GUARANTEES. Not fair and not recursive. wp_unlock's last access to the lock's memory is the release itself, so the
 * next holder may free the memory. A lock of zeros is free: a forked child may reset it by writing 0.
 */
#ifndef WP_LOCK_H
#define WP_LOCK_H

#include "wp_os.h"

typedef struct wp_lock {
    wp_word word;
} wp_lock;

enum { WP_LOCK_FREE = 0, WP_LOCK_HELD = 1, WP_LOCK_HELD_WITH_SLEEPERS = 2 };

void wp_lock_take_slowly(wp_lock *lock);

static inline void
wp_lock_take(wp_lock *lock)
{
    uint32_t expected = WP_LOCK_FREE;
    if (!wp_cas_acquire(&lock->word, &expected, WP_LOCK_HELD)) {
        wp_lock_take_slowly(lock);
    }
}

static inline void
wp_lock_give(wp_lock *lock)
{
    if (wp_exchange_release(&lock->word, WP_LOCK_FREE) == WP_LOCK_HELD_WITH_SLEEPERS) {
        wp_word_wake(&lock->word, 1);
    }
}

#endif
