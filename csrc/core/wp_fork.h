/* What a forked child does with the parent's pools.
 *
 * DESIGN. A list of places, each naming a pool or none. Places are only ever added, by one atomic step, and reused; so
 * the list is whole at every instant, and the child, which may have been forked in the middle of anything, can walk it
 * without a lock. It does so in a pthread_atfork handler that runs in the child alone: nothing is done before the fork
 * and nothing in the parent, because most forks are followed by an exec and need nothing of this.
 *
 * STATE. The list is process-wide: the handler has no argument by which it could find the pools.
 */
#ifndef WP_FORK_H
#define WP_FORK_H

#include <stdint.h>

struct wp_pool;
struct wp_fork_slot;

/* How often this process and those it comes from were forked since somebody asked for it, by wp_fork_watch or
 * wp_fork_register. What a thread noted for others holds only where it is the same. */
void wp_fork_watch(void);
uint32_t wp_forks(void);

/* Finds or makes a place for the pool; NULL without memory. */
struct wp_fork_slot *wp_fork_register(struct wp_pool *pool);
void wp_fork_unregister(struct wp_fork_slot *slot);

#endif
