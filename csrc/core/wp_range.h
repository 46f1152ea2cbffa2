/* Ranges: one job of many units, which several threads do parts of.
 *
 * DESIGN. A range waits in its lane as spans of units not yet claimed. A worker claims as many units from the first span
 * as amount to a certain time by the pace measured so far, so cheap units are taken by the hundred and dear ones one by
 * one; what it does not begin, because more urgent work came, it puts back. The thread that waits for the results may
 * claim parts too. The range ends with its last unit.
 *
 * A group ties together the ranges that one consumer waits for: it holds the pace of their units and the event count
 * that the consumer sleeps on.
 */
#ifndef WP_RANGE_H
#define WP_RANGE_H

#include "wp_stats.h"

typedef struct wp_group {
    wp_word references;
    wp_word progress;  /* Changes when a claim has ended and somebody listens. */
    wp_word listeners; /* Consumers that sleep or are about to. */
    wp_pace *pace;     /* Constant: how long a unit takes; the owner's, or own_pace. */
    wp_pace own_pace;
    uint32_t most_claimed; /* Constant: units in one claim at most; */
    bool always_most;      /* Constant: and at least, as far as there are so many. */
    bool class_measures;   /* Constant: the ranges' class notes the pace itself. */
} wp_group;

/* A group with one reference; `pace` may be NULL. Claims are as large as the pace suggests, up to `most_claimed`; or
 * always that large. NULL without memory. */
wp_group *wp_group_new(wp_pace *pace, uint32_t most_claimed, bool always_most);
void wp_group_ref(wp_group *group);
void wp_group_unref(wp_group *group);

/* To wait: listen, look whether there is progress already, sleep on the returned value (or, after a wake-up, on
 * wp_group_progress), stop listening. */
uint32_t wp_group_listen(wp_group *group);
uint32_t wp_group_progress(wp_group *group);
enum wp_wait_result wp_group_sleep(wp_group *group, uint32_t seen, uint64_t deadline);
void wp_group_ignore(wp_group *group);

/* Progress was made: wakes who listens. Ranges do it by themselves; plain jobs of a group leave it to their class. */
void wp_group_tell(wp_group *group);

/* Begins with its job, whose class has run_range. */
typedef struct wp_range {
    wp_job job;
    uint32_t units;  /* Constant from submit on. */
    wp_word open;    /* Units neither done nor given up; those that a chunk of a stage may yet get are among them. */
    wp_group *group; /* Constant; a reference. */
    uint32_t spans;  /* Pool's lock: how many of its spans wait. */
    bool given_up;   /* Pool's lock: some units will not be done, because it was cancelled. */
    wp_word untold;  /* Units that were given up, of which nobody has been told; more only under the pool's lock. */
    uint32_t owed;   /* With WP_JOB_OWED, by who closed the last units: how many those were. */
} wp_range;

/* The range that a job with WP_JOB_IS_RANGE is. */
static inline wp_range *
wp_range_of(wp_job *job)
{
    return (wp_range *)(void *)job;
}

/* Whether some units are being given up, and are neither waiting nor ended meanwhile. */
static inline bool
wp_range_is_giving_up(wp_range *range)
{
    return wp_load_acquire(&range->untold) > 0;
}

void wp_range_init(wp_range *range, const wp_job_class *class, uint32_t units, wp_group *group, wp_extra *extra);

/* Claims up to `most` units that wait and does them on the calling thread, which has a reference, but for those that an
 * idle worker takes over meanwhile; returns how many. None if the lane limits how many of its jobs may run, and the caller
 * is no worker, or one too many. */
uint32_t wp_range_run_here(wp_range *range, uint32_t most);

/* The same for the range of the lane that `find` finds, if any. It is called under the pool's lock. */
typedef wp_range *wp_find_range(void *context);
uint32_t wp_range_run_found_here(wp_pool *pool, unsigned lane, wp_find_range *find, void *context, uint32_t most);

/* For a class's run_range on a thread that is no worker: whether to return, because it has run since `begin` (wp_clock) for
 * longer than short units do. Then the rest goes back to the lane, and a worker is called for it. */
static inline bool
wp_has_helped_enough(const wp_worker *self, uint64_t begin)
{
    return self == NULL && wp_clock() - begin > 50000;
}

/* So many units are done, or will never be: for who claimed them. The range ends with the last, and may be gone then. */
void wp_range_done(wp_range *range, uint32_t units);

/* Gives up every unit that was not begun; returns how many. Units that run are not touched. */
uint32_t wp_range_cancel(wp_range *range);

#endif
