/* See wp_closable.h. */
#include "wp_internal.h"

void
wp_closable_init(wp_closable *closable, wp_lock *lock, const wp_pool *pool)
{
    *closable = (wp_closable){.lock = lock, .pool = pool, .epoch = pool != NULL ? pool->epoch : 0};
}

/* Lock held. In the child of a fork those who slept in the parent are forgotten, with their stacks. */
static void
forget_those_of_parent(wp_closable *closable)
{
    if (closable->pool != NULL && closable->epoch != closable->pool->epoch) {
        closable->sleepers = NULL;
        closable->epoch = closable->pool->epoch;
    }
}

void
wp_closable_close(wp_closable *closable)
{
    forget_those_of_parent(closable);
    wp_store_release(&closable->closed, 1);
    for (wp_sleeper *sleeper = closable->sleepers; sleeper != NULL; sleeper = sleeper->next) {
        wp_add_acq_rel(sleeper->word, WP_CLOSING_STEP);
        wp_word_wake(sleeper->word, WP_WAKE_ALL);
    }
}

bool
wp_closable_watch(wp_closable *closable, wp_sleeper *sleeper, wp_word *word)
{
    wp_lock_take(closable->lock);
    forget_those_of_parent(closable);
    bool open = !wp_closable_is_closed(closable);
    if (open) {
        *sleeper = (wp_sleeper){.word = word, .next = closable->sleepers, .link = &closable->sleepers};
        if (sleeper->next != NULL) {
            sleeper->next->link = &sleeper->next;
        }
        closable->sleepers = sleeper;
    }
    wp_lock_give(closable->lock);
    return open;
}

void
wp_closable_leave(wp_closable *closable, wp_sleeper *sleeper)
{
    wp_lock_take(closable->lock);
    *sleeper->link = sleeper->next;
    if (sleeper->next != NULL) {
        sleeper->next->link = sleeper->link;
    }
    wp_lock_give(closable->lock);
}
