/* The keeper: a thread that fires time limits, and attends to the host when no worker has time.
 *
 * DESIGN. One for each pool, started when the first job with a time limit, or the first request of the host, comes. It
 * keeps a heap of jobs by the time at which their limit ends, sleeps until the earliest, and acts: a job that waits
 * expires, a running one is asked to stop, a token whose time has come is cancelled. A job leaves the heap when it ends.
 *
 * When the host asks for attention (because finished jobs hold objects that only the host's own threads may release),
 * the keeper calls the `attend` hook and then again every few milliseconds until it says that nothing is left. So asking
 * is one atomic operation, and a system call only when the keeper sleeps.
 */
#ifndef WP_KEEPER_H
#define WP_KEEPER_H

#include "wp_pool.h"

typedef struct wp_keeper {
    wp_lock lock;
    wp_job **heap;  /* Keeper's lock: the earliest limit first. */
    uint32_t size;    /* Keeper's lock. */
    uint32_t members; /* Keeper's lock: jobs under its watch; those whose limit has come are out of the heap. */
    uint32_t room;    /* Keeper's lock: what the heap's memory holds; never less than members. */
    bool started;   /* Keeper's lock. */
    bool leaving;   /* Keeper's lock: no more work will come. */
    bool left;      /* Pool's lock: the thread has done its last. */
    bool joined;    /* Pool's lock. */
    pthread_t thread; /* Written at the start, under the keeper's lock. */
    wp_word signal;  /* Changes when the keeper should look up. */
    wp_word request; /* Whether the host wants attention. */
} wp_keeper;

void wp_keeper_init(wp_keeper *keeper);
void wp_keeper_free(wp_keeper *keeper);

/* Watches the job for a limit, a time or WP_FOREVER, or gives it another one. WP_OK, WP_NO_MEMORY, WP_NO_THREAD for a
 * job that was not watched; a change cannot fail. */
enum wp_result wp_keeper_watch(wp_pool *pool, wp_job *job, uint64_t limit);
void wp_keeper_forget(wp_pool *pool, wp_job *job);

/* All workers are gone: the thread leaves when it has nothing left to do. */
void wp_keeper_leave(wp_pool *pool);

/* After that: sleeps until it has left, and joins it. WP_OK, WP_LATE, WP_INTERRUPTED. */
enum wp_result wp_keeper_join(wp_pool *pool, uint64_t deadline);

#endif
