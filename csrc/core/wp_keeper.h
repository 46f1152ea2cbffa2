/* The keeper: a thread that fires time limits.
 *
 * DESIGN. One for each pool, started when the first job with a time limit comes. It keeps a heap of jobs by the time at which their limit ends, sleeps until the earliest, and acts: a job that waits
 * expires, a running one is asked to stop, a token whose time has come is cancelled. A job leaves the heap when it ends.
 */
#ifndef WP_KEEPER_H
#define WP_KEEPER_H

#include "wp_side.h"

typedef struct wp_keeper {
    wp_side side;  /* Its lock guards all here. */
    wp_job **heap; /* The earliest limit first. */
    uint32_t size;
    uint32_t members; /* Jobs under its watch; those whose limit has come are out of the heap. */
    uint32_t room;    /* What the heap's memory holds; never less than members. */
} wp_keeper;

void wp_keeper_init(wp_keeper *keeper);
void wp_keeper_free(wp_keeper *keeper);

/* Watches the job for a limit, a time or WP_FOREVER, or gives it another one. WP_OK; WP_NO_MEMORY, WP_NO_THREAD,
 * WP_CLOSED, WP_BROKEN for a job that was not watched; a change cannot fail. */
enum wp_result wp_keeper_watch(wp_pool *pool, wp_job *job, uint64_t limit);
void wp_keeper_forget(wp_pool *pool, wp_job *job);

#endif
