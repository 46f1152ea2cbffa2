/* The pool: lanes of waiting jobs, and workers that run them. This is the core's interface.
 *
 * Every function may be called from any thread unless it says otherwise. None calls foreign code (a job class's
 * functions, a hook) while a lock is held, but for `describe`, which must not call back.
 */
#ifndef WP_POOL_H
#define WP_POOL_H

#include "wp_closable.h"
#include "wp_extra.h"
#include "wp_stats.h"

#define WP_UNBOUNDED UINT64_MAX

typedef struct wp_lane_config {
    uint64_t capacity;    /* Jobs that may wait; 0: none may, submit hands over to a free worker; or WP_UNBOUNDED. */
    uint32_t max_running; /* Workers that may run its jobs at one time; 0: any number. */
} wp_lane_config;

/* What a host adds to the life of the threads. Each may be NULL; called with no lock held. */
typedef struct wp_hooks {
    /* On a thread that is about to start a worker: bytes for its stack; 0: the default. */
    size_t (*stack_size)(void *context);
    /* First of all on a new worker. Must be quick: nobody else is called meanwhile. */
    void (*worker_begin)(void *context, wp_worker *worker);
    /* On a new worker, before its first job. May take long. Nonzero: it could not be initialised, and the pool breaks. */
    int (*worker_start)(void *context, wp_worker *worker);
    /* On the worker, after its last. */
    void (*worker_stop)(void *context, wp_worker *worker);
    /* On a worker that found nothing to do, before it sleeps. */
    void (*worker_idle)(void *context, wp_worker *worker);
    /* On the attendant's thread, some time after wp_pool_ask_attendant, and then every few milliseconds until it has
     * returned false for a while: nothing was left to do. */
    bool (*attend)(void *context);
    void (*attendant_stop)(void *context);
    /* In a forked child, for each pool of the parent; only that thread exists. */
    void (*forked)(void *context);
    /* The pool is about to be freed: wp_pool_try_ref has no claim on it any more. */
    void (*unlisted)(void *context);
    /* The pool is freed; the last call. */
    void (*freed)(void *context);
    void *context;
} wp_hooks;

typedef struct wp_pool_config {
    uint32_t max_workers;               /* At least 1. */
    uint32_t n_lanes;                   /* 1 to WP_MAX_LANES. */
    wp_lane_config lanes[WP_MAX_LANES]; /* The most urgent first. */
    uint32_t fairness;     /* A waiting lane is served at least once in so many jobs; 0: never before a more urgent. */
    uint64_t idle_timeout; /* A worker that found nothing to do for so long (ns) retires; or WP_FOREVER. */
    size_t stack_size;     /* Bytes for each worker; 0: what the hook says, or the default. */
    char thread_name[32];  /* Workers are called thread_name_0 and so on. */
    bool may_linger;       /* Foreign code may run on a worker at any moment: nobody counts on one that comes back. */
    wp_hooks hooks;
} wp_pool_config;

/* A pool with one reference, or NULL without memory. No thread is started. */
wp_pool *wp_pool_new(const wp_pool_config *config);

/* How many lanes it has. Constant. */
uint32_t wp_pool_n_lanes(wp_pool *pool);

void wp_pool_ref(wp_pool *pool);

/* Takes a reference unless the last is gone already. For hosts that keep a list of pools, from which the `unlisted` hook
 * takes them. */
bool wp_pool_try_ref(wp_pool *pool);

/* The context that the pool's hooks were given. */
void *wp_pool_hook_context(const wp_pool *pool);

/* Whether jobs wait that a worker could begin. One load. */
bool wp_pool_has_work(wp_pool *pool);

/* Whether no job is unfinished, no worker is on its way, and one holder alone is left, who only could change that. */
bool wp_pool_is_at_rest(wp_pool *pool);

/* With the last reference but those of its own threads, the pool is closed; its threads finish what waits, then it is
 * freed. */
void wp_pool_unref(wp_pool *pool);

/* ---- Jobs ---- */

/* Submits a job to a lane. On WP_OK the pool holds a reference of its own and the job will end in exactly one outcome.
 * On anything else the job is untouched. Never blocks: WP_FULL says that the lane has no room; `over` lets it in all
 * the same, for a worker that submits to its own pool and must not wait for itself.
 * The job must not outlive the submitter's reference to the pool. */
enum wp_result wp_pool_submit(wp_pool *pool, unsigned lane, wp_job *job, bool over);

/* The same for a caller that waits if there is no room, and tries again: WP_FULL is not counted as rejected. If it gives up
 * for want of room it counts that itself, in jobs and units of ranges. */
enum wp_result wp_pool_try_submit(wp_pool *pool, unsigned lane, wp_job *job, bool over);
void wp_pool_note_rejected(wp_pool *pool, unsigned lane, uint32_t units);

/* What ends a wait for room or a place, beside what it waits for. */
typedef struct wp_until {
    uint64_t deadline;         /* WP_LATE */
    wp_token *token;           /* WP_STOPPED; or NULL. */
    wp_closable *closables[2]; /* WP_CLOSED; or NULL. */
} wp_until;

/* Sleeps until the lane may have room (WP_OK), or WP_CLOSED, WP_BROKEN, WP_STOPPED, WP_LATE, WP_INTERRUPTED. Then submit
 * again; another may have been faster, and a submit that fails otherwise than for want of room passes the wake-up on.
 * Whoever gives up after WP_OK without submitting must call wp_pool_pass_room. */
enum wp_result wp_pool_wait_room_until(wp_pool *pool, unsigned lane, const wp_until *until);
enum wp_result wp_pool_wait_room(wp_pool *pool, unsigned lane, wp_token *token, uint64_t deadline);
void wp_pool_pass_room(wp_pool *pool, unsigned lane);

/* Whether a submit would find room just now: WP_OK, WP_FULL, WP_CLOSED, WP_BROKEN. Counts nothing as rejected. */
enum wp_result wp_pool_look_for_room(wp_pool *pool, unsigned lane);

/* Waiting and submitting together: blocks until submitted or not possible. For callers in C. */
enum wp_result wp_pool_submit_wait(wp_pool *pool, unsigned lane, wp_job *job, uint64_t deadline);

/* Runs a job on the calling thread that was never submitted, with the lane's statistics. The caller keeps its
 * reference. WP_OK; or WP_NO_MEMORY, WP_NO_THREAD, WP_CLOSED, WP_BROKEN if its run has a time limit that nobody could
 * watch: then the job is untouched. */
enum wp_result wp_pool_run_here(wp_pool *pool, unsigned lane, wp_job *job);

/* Cancels the oldest waiting plain job of the lane; false if there is none. */
bool wp_pool_discard_oldest(wp_pool *pool, unsigned lane);

/* A waiting plain job that reports to these results, with a reference; NULL if there is none among the first `depth`
 * spans of the lane. */
wp_job *wp_pool_find_waiting(wp_pool *pool, unsigned lane, const wp_results *results, uint64_t depth);

/* Cancels a job that has not begun; false if it has. */
bool wp_job_cancel(wp_job *job);

/* Cancels a job that has not begun, or asks a running one to stop; false if it has ended. */
bool wp_job_stop(wp_job *job);

/* As wp_job_wait, for who has a reference to the pool, if the job has one. In a long line of short jobs, to be woken for
 * one costs more than many of them: there it naps, for 50 us at a time, which is how late it may learn of the end. */
enum wp_wait_result wp_job_wait_in_line(wp_job *job, uint64_t deadline);

/* What workers have claimed of the lane and not begun waits in it again: for a worker that has waited in vain for a part
 * of it. */
void wp_claims_fetch(wp_pool *pool, unsigned lane);

/* Takes a waiting plain job back and runs it on the calling thread; false if it has begun, or if its lane limits how
 * many may run and the caller is no worker, or one too many. */
bool wp_job_run_here(wp_job *job);

/* The pool was broken, or the process is a fork and the job's threads are in the parent. */
bool wp_job_is_lost(wp_job *job);

/* ---- Life ---- */

/* Changes the number of workers, at least 1. More start when there is work; surplus ones leave after their job. */
void wp_pool_resize(wp_pool *pool, uint32_t max_workers);

/* Whether the calling thread is one of the pool's own (a worker, the attendant), or runs a job of it at this
 * moment, for whatever reason: then it must not wait for the whole pool, because it would wait for itself. */
bool wp_pool_needs_caller(const wp_pool *pool);

/* Sleeps until every job submitted before has ended, and any submitted meanwhile. WP_OK, WP_LATE, WP_INTERRUPTED, or
 * WP_DEADLOCK for threads of several pools that wait for each other's pools, all without a limit. Not for a thread that the
 * pool needs. */
enum wp_result wp_pool_drain(wp_pool *pool, uint64_t deadline);

/* A part of a wait without a limit, by who does something else for a moment and goes on. */
enum wp_result wp_pool_drain_in_part(wp_pool *pool, uint64_t until);

/* No more jobs: submit says WP_CLOSED from now on, and workers leave when nothing waits. Idempotent. */
void wp_pool_close(wp_pool *pool);

/* Cancels every job that waits; returns how many. Each unit of a range is one. */
uint64_t wp_pool_cancel_waiting(wp_pool *pool);

/* Ends every waiting job as WP_LOST and closes the pool for good. */
void wp_pool_break(wp_pool *pool);

/* After wp_pool_close: sleeps until all threads have left, and joins them. As wp_pool_drain. */
enum wp_result wp_pool_join(wp_pool *pool, uint64_t deadline);
enum wp_result wp_pool_join_in_part(wp_pool *pool, uint64_t until);

bool wp_pool_is_closed(wp_pool *pool);

/* For those who sleep elsewhere and are to wake when the pool is closed. */
wp_closable *wp_pool_closable(wp_pool *pool);

/* Something that is closed by itself and belongs to the pool, such as a host's view of it: made, and closed. */
void wp_pool_open_part(wp_pool *pool, wp_closable *closable);
void wp_pool_close_part(wp_pool *pool, wp_closable *closable);
bool wp_pool_is_broken(wp_pool *pool);

/* Asks for the `attend` hook. Cheap when it was asked for already. False: there is no thread to do it. */
bool wp_pool_ask_attendant(wp_pool *pool);

/* ---- Workers ---- */

/* The worker that is the calling thread, or NULL; of any pool. In a child that a job has forked it still is, for the sake
 * of that job, but works for nobody any more. */
wp_worker *wp_worker_self(void);
/* The calling thread as a worker of this pool, or NULL. */
wp_worker *wp_worker_in(const wp_pool *pool);
wp_pool *wp_worker_pool(const wp_worker *worker);
uint32_t wp_worker_index(const wp_worker *worker);
/* The job it runs now; only to be asked by the worker itself. */
wp_job *wp_worker_job(const wp_worker *worker);
/* By the worker itself, in a job: whether it has claimed what it has not begun; that is left to others, as it is about to
 * sleep. */
bool wp_worker_hides_any(wp_worker *worker);
void wp_worker_leave_claim(wp_worker *worker);
/* A place for the host's own data. Written and read by the worker only. */
void **wp_worker_local(wp_worker *worker);

/* For a host: the calling thread is about to run foreign code in a class's `leave` or `destroy`, or in the `worker_idle` hook.
 * If it is a worker that said that it comes back, it takes that back. No lock held. */
void wp_worker_stays_away(void);

/* Whether jobs more urgent than the one this worker runs wait and no other worker is there for them: a range should
 * return what it has not begun. One load. `self` may be NULL. */
bool wp_worker_is_wanted(const wp_worker *self);

/* ---- Statistics ---- */

typedef struct wp_lane_stats {
    uint64_t submitted;
    uint64_t rejected; /* Turned away for want of room in the end, not only made to wait. */
    uint64_t waiting;  /* Now. */
    uint64_t capacity;
    uint64_t ended[WP_STATES]; /* By outcome. */
    uint64_t waited_ns[4];     /* 50th, 90th, 99th percentile, and longest (each up to 19 % too large). */
    uint64_t ran_ns[4];
} wp_lane_stats;

typedef struct wp_pool_stats {
    uint32_t max_workers;
    uint32_t workers;    /* Started and not gone. */
    uint32_t busy;       /* Of them, not asleep. */
    uint64_t unfinished; /* Submitted and not ended, as far as the workers have reported. */
    uint64_t busy_ns;    /* Time in jobs, all workers together. */
    uint32_t n_lanes;
    wp_lane_stats lanes[WP_MAX_LANES];
} wp_pool_stats;

void wp_pool_stats_get(wp_pool *pool, wp_pool_stats *stats);

/* How many workers there may be, alone. */
uint32_t wp_pool_max_workers(wp_pool *pool);

/* Calls `report` with a line for each job that runs on a worker now. */
void wp_pool_describe_running(wp_pool *pool, void (*report)(void *context, uint32_t worker, const char *text),
                              void *context);

#endif
