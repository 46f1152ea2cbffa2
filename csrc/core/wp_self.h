/* What the calling thread is to a pool beside one of its workers.
 *
 * PURPOSE. Whoever waits for a whole pool must not be a thread that the pool needs: it would wait for itself. Workers know
 * themselves (wp_worker_self). The pool's side threads run the host's code too, and so does any thread that runs a job
 * because it waits for it, because it has submitted it, or because it takes part in a loop.
 *
 * DESIGN. A table for each thread, of pools with the number of things that it does for each just now: jobs that are run so
 * may wait for others that are run so. They need not end in the opposite order of their beginning, nor stay where they are
 * on the stack: a host's code may switch greenlets. An entry is of the pool's epoch: in a forked child the pool is another,
 * and needs nobody. For more pools at a time than the table holds the thread counts as not needed.
 */
#ifndef WP_SELF_H
#define WP_SELF_H

#include "wp_pool.h"

typedef struct wp_service {
    const wp_pool *pool;
    uint16_t epoch; /* The pool's when it began. */
    bool is_counted;
} wp_service;

/* From now on, until the end, the calling thread does something for the pool. */
void wp_service_begin(wp_service *service, const wp_pool *pool);
void wp_service_end(const wp_service *service);

/* Whether the calling thread does anything for a pool just now. */
bool wp_serves_any(void);

/* A pool that a thread does something for just now. */
typedef struct wp_served {
    const wp_pool *pool;
    uint32_t count;
    uint16_t epoch; /* The pool's when it began. */
} wp_served;

/* A thread that waits for a whole pool, without a limit, while others need it; on its stack. */
typedef struct wp_pool_wait {
    const wp_pool *target;
    const wp_pool *pool; /* Of the worker that waits, or NULL. */
    wp_served *served;   /* Of the thread that waits, which does not change it meanwhile. */
    unsigned n_served;
    bool was_seen; /* Process-wide lock, like the links. */
    struct wp_pool_wait *next;
    struct wp_pool_wait **link; /* What points here; NULL if no pool needs the thread. */
} wp_pool_wait;

/* The calling thread begins to wait for the pool; false if the pool's threads wait, by others or not, for a pool that needs
 * this one: then none of them could go on. */
bool wp_pool_wait_begin(wp_pool_wait *wait, const wp_pool *target);
void wp_pool_wait_end(wp_pool_wait *wait);

/* In a forked child: nobody waits. */
void wp_self_after_fork(void);

/* The service was begun in the parent of this process, where the thread stays that it was for. */
bool wp_service_is_of_parent(const wp_service *service);

#endif
