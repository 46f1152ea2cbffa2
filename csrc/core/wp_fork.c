/* See wp_fork.h. */
#include "wp_internal.h"

#include <stdlib.h>

struct wp_fork_slot {
    _Atomic(wp_pool *) pool;   /* NULL: free. */
    struct wp_fork_slot *next; /* Constant once the slot is on the list. */
};

static _Atomic(struct wp_fork_slot *) slots;
static wp_word forks;
static pthread_once_t handler_installed = PTHREAD_ONCE_INIT;

static void
in_child(void)
{
    wp_add_relaxed(&forks, 1);
    wp_word_after_fork();
    wp_token_after_fork();
    wp_blocked_after_fork();
    wp_self_after_fork();
    for (struct wp_fork_slot *slot = wp_load_acquire(&slots); slot != NULL; slot = slot->next) {
        wp_pool *pool = wp_load_acquire(&slot->pool);
        if (pool != NULL) {
            wp_pool_after_fork(pool);
        }
    }
}

static void
install_handler(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

static struct wp_fork_slot *
reuse_slot(wp_pool *pool)
{
    for (struct wp_fork_slot *slot = wp_load_acquire(&slots); slot != NULL; slot = slot->next) {
        wp_pool *expected = NULL;
        if (wp_cas_acq_rel(&slot->pool, &expected, pool)) {
            return slot;
        }
    }
    return NULL;
}

void
wp_fork_watch(void)
{
    pthread_once(&handler_installed, install_handler);
}

uint32_t
wp_forks(void)
{
    return wp_load_relaxed(&forks);
}

struct wp_fork_slot *
wp_fork_register(wp_pool *pool)
{
    wp_fork_watch();
    struct wp_fork_slot *slot = reuse_slot(pool);
    if (slot != NULL) {
        return slot;
    }
    slot = calloc(1, sizeof *slot);
    if (slot == NULL) {
        return NULL;
    }
    wp_store_relaxed(&slot->pool, pool);
    slot->next = wp_load_acquire(&slots);
    while (!wp_cas_weak_acq_rel(&slots, &slot->next, slot)) {
    }
    return slot;
}

void
wp_fork_unregister(struct wp_fork_slot *slot)
{
    wp_store_release(&slot->pool, NULL);
}
