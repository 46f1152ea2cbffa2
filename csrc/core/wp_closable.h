/* What can be closed while threads sleep for its sake elsewhere: a pool, a stage, a results queue, a host's view of a pool.
 *
 * PURPOSE. A job may need a place in a results queue and room in a lane. Whoever submits it sleeps where one of them lacks,
 * and is not accepted any more once any of them is closed: whoever closes must reach it, wherever it sleeps.
 *
 * DESIGN. The sleeper hangs itself on all that could be closed, with the word that it sleeps on. Closing changes the words of
 * all who hang there and wakes them. The word is read before the closable is looked at, so nobody falls asleep after it.
 */
#ifndef WP_CLOSABLE_H
#define WP_CLOSABLE_H

#include "wp_lock.h"

#include <stdbool.h>

typedef struct wp_pool wp_pool;

/* Words are changed by this: a stage keeps flags in the bits below. */
#define WP_CLOSING_STEP 4u

/* On the sleeper's stack. */
typedef struct wp_sleeper {
    wp_word *word;
    struct wp_sleeper *next;  /* Closable's lock; likewise the next. */
    struct wp_sleeper **link; /* What points here. */
} wp_sleeper;

typedef struct wp_closable {
    wp_lock *lock;        /* Constant: one of its owner's. */
    const wp_pool *pool;  /* Constant: whose part it is; NULL for what is not used in a forked child. */
    wp_sleeper *sleepers; /* Lock. */
    wp_word closed;       /* 1 once it is closed; written under the lock. */
    uint16_t epoch;       /* Lock: the pool's; sleepers of before do not exist here. */
} wp_closable;

/* `pool` may be NULL, see above. */
void wp_closable_init(wp_closable *closable, wp_lock *lock, const wp_pool *pool);

static inline bool
wp_closable_is_closed(wp_closable *closable)
{
    return wp_load_acquire(&closable->closed) != 0;
}

/* Closes it and wakes who hangs there; with the lock held. */
void wp_closable_close(wp_closable *closable);

/* Hangs a sleeper on it; false, and not hung, if it is closed. Takes the lock, as the next does. */
bool wp_closable_watch(wp_closable *closable, wp_sleeper *sleeper, wp_word *word);
void wp_closable_leave(wp_closable *closable, wp_sleeper *sleeper);

#endif
