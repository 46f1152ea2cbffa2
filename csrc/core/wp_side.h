/* Side threads: what a pool may have beside its workers, started when first needed.
 *
 * There are two, the keeper (wp_keeper.h) and the attendant (wp_attendant.h). They are two threads because the
 * attendant may have to wait for the host, and time limits must not wait with it.
 */
#ifndef WP_SIDE_H
#define WP_SIDE_H

#include "wp_lock.h"
#include "wp_pool.h"

typedef struct wp_side {
    wp_lock lock; /* Guards the next two, and what its owner says. */
    bool started;
    bool leaving;      /* No more work will come. */
    bool left;         /* Pool's lock: the thread has done its last. */
    size_t stack_size; /* Bytes for the thread, before it starts; 0: the default. Workers may have less. */
    wp_word signal;    /* Changes when the thread should look up. */
} wp_side;

/* Side's lock held: starts the thread unless it runs; false if that fails or the pool's threads are leaving. `main` gets
 * the pool, and ends by returning wp_side_end. */
bool wp_side_start(wp_pool *pool, wp_side *side, void *(*main)(void *));

/* By the thread itself, as its last. */
void *wp_side_end(wp_pool *pool, wp_side *side);

/* Has the thread look up from its sleep; and so for good, when all workers are gone. */
void wp_side_look_up(wp_side *side);
void wp_side_leave(wp_side *side);
bool wp_side_is_leaving(wp_side *side);

/* After wp_side_leave: sleeps until the thread has left, if there was one. WP_OK, WP_LATE, WP_INTERRUPTED. */
enum wp_result wp_side_wait(wp_pool *pool, wp_side *side, uint64_t deadline);

#endif
