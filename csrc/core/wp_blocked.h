/* Workers that wait inside of a job: for a job, for units of a range, for results.
 *
 * PURPOSE. A worker that sleeps in a job does nothing else, so it must not be the one for whom others wait. Before
 * it sleeps it hands back what it has claimed and not begun. It does not sleep for long: again and again it looks
 * whether there is something that it can do by now, or whether nobody can ever go on.
 *
 * DESIGN. Whoever sleeps is on one list, of all pools. Who is about to sleep goes from wait to wait: the worker that
 * runs the job that it waits for, the workers that run jobs of the lane in which that job waits, and so on. If all
 * of them sleep, nothing that a pool does can wake any:
 *     - A job that waits because its lane lets so many run, and all of those are among the sleepers, runs beside
 *       them: they stand still. Its waiter borrows a place.
 *     - Otherwise it is a deadlock, if none of these waits has a limit: the one that sees it is told.
 * The last to fall asleep sees all the others, since the list has one lock; and each looks again, because a job may
 * have begun since. All of this is for workers that have nothing better to do. Others pay nothing for it.
 *
 * GUARANTEES. A deadlock is only reported where nothing but a cancellation or a resize from outside could end it. Of
 * those that form it one is told, the others go on when its job has ended.
 */
#ifndef WP_BLOCKED_H
#define WP_BLOCKED_H

#include "wp_pool.h"
#include "wp_range.h"

typedef struct wp_blocked wp_blocked;

struct wp_blocked {
    wp_worker *self;        /* Constant: who waits, a worker of any pool. */
    wp_pool *pool;          /* Constant: the pool of what it waits for, */
    unsigned lane;          /* Constant: and the lane. */
    wp_job *job;            /* Constant: what it waits for, kept by the waiter; or NULL: units or results. */
    void (*help)(wp_job *); /* Constant: does what this thread can do of the job; NULL: runs it, if it has not begun. */
    /* Constant: without a job, whether it need not wait any more, or waits for something else than jobs that were
     * submitted. On any thread, with the list's lock held. */
    bool (*is_ready)(void *context);
    void *context;
    bool may_end;         /* The wait has a limit, or somebody who is no job may end it. */
    bool has_tried;       /* Waiter only: it could borrow a place, and had no use for it. */
    bool was_listed;      /* Waiter only. */
    uint64_t interval;    /* Waiter only: how long it sleeps until it looks again (ns). */
    wp_blocked *next;     /* List's lock, like all below. */
    wp_blocked **link;    /* What points here. */
    uint64_t seen;        /* The last walk that came here, */
    wp_blocked *to_visit; /* and what it visits next. */
};

/* Whether the calling thread is a worker, of any pool: not where it was one in the parent of this process. */
bool wp_is_worker(void);

/* For the calling thread, which must be a worker, and a job of a pool, or (NULL) what comes of the jobs of a lane. */
void wp_blocked_init(wp_blocked *blocked, wp_pool *pool, unsigned lane, wp_job *job, bool may_end);

/* The worker is about to sleep. WP_OK: it may, until wp_blocked_until, and then calls wp_blocked_end. WP_FULL: it
 * had better try once more to run what it waits for. WP_DEADLOCK: nobody could ever wake it; `report`, of so many
 * bytes, says why. */
enum wp_result wp_blocked_begin(wp_blocked *blocked, char *report, size_t size);
void wp_blocked_end(wp_blocked *blocked);
uint64_t wp_blocked_until(const wp_blocked *blocked, uint64_t deadline);

/* Who waits for what comes of several jobs, on a worker of their pool, leaves them to others as long as there are some: what
 * it begins itself it must end, though what it waited for may have come meanwhile, and a job may need it to go on. Whether
 * there are: workers that have nothing else to do, or are at units of this group or jobs of these results (or NULL). */
bool wp_blocked_has_others(wp_pool *pool, const wp_group *group, const wp_results *results);

/* Whether it has waited for so long that they seem to be stuck. Then it does so many jobs or units itself, one by one, before
 * it leaves them to others again. */
#define WP_HELPS_IN_NEED 32u
bool wp_blocked_is_long(const wp_blocked *blocked);

/* Waits for its job until the deadline, and does what can be done for it: WP_OK, WP_LATE, WP_INTERRUPTED,
 * WP_DEADLOCK. */
enum wp_result wp_blocked_wait(wp_blocked *blocked, uint64_t deadline, char *report, size_t size);

/* In a forked child, where nobody else exists. */
void wp_blocked_after_fork(void);

#endif
