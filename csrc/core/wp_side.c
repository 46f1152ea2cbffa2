/* See wp_side.h. */
#include "wp_internal.h"

bool
wp_side_start(wp_pool *pool, wp_side *side, void *(*main)(void *))
{
    if (!side->started && !side->leaving) {
        pthread_t thread; /* It makes itself known when it leaves. */
        wp_pool_hold(pool);
        side->started = wp_thread_start(&thread, main, pool, side->stack_size) == 0;
        if (!side->started) {
            wp_sub_acq_rel(&pool->references, 1); /* The caller's stands. */
        }
    }
    return side->started && !side->leaving;
}

void *
wp_side_end(wp_pool *pool, wp_side *side)
{
    wp_lock_take(&pool->lock);
    wp_departed before = wp_pool_depart(pool);
    side->left = true;
    wp_add_acq_rel(&pool->left, 1);
    wp_lock_give(&pool->lock);
    wp_word_wake(&pool->left, WP_WAKE_ALL);
    wp_departed_join(before);
    wp_pool_let_go(pool);
    return NULL;
}

void
wp_side_look_up(wp_side *side)
{
    wp_add_acq_rel(&side->signal, 1);
    wp_word_wake(&side->signal, 1);
}

void
wp_side_leave(wp_side *side)
{
    wp_lock_take(&side->lock);
    side->leaving = true;
    wp_lock_give(&side->lock);
    wp_side_look_up(side);
}

bool
wp_side_is_leaving(wp_side *side)
{
    wp_lock_take(&side->lock);
    bool leaving = side->leaving;
    wp_lock_give(&side->lock);
    return leaving;
}

enum wp_result
wp_side_wait(wp_pool *pool, wp_side *side, uint64_t deadline)
{
    enum wp_wait_result waited = WP_WAIT_WOKEN;
    wp_lock_take(&side->lock);
    bool started = side->started;
    wp_lock_give(&side->lock);
    wp_lock_take(&pool->lock);
    while (started && !side->left && waited == WP_WAIT_WOKEN) {
        uint32_t seen = wp_load_relaxed(&pool->left);
        wp_lock_give(&pool->lock);
        waited = wp_word_wait(&pool->left, seen, deadline);
        wp_lock_take(&pool->lock);
    }
    bool left = !started || side->left;
    wp_lock_give(&pool->lock);
    return left ? WP_OK : wp_result_of_wait(waited);
}
