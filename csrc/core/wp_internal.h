/* The pool's inside, for the files of the core alone.
 *
 * WORDS. A job is one thing to do. A lane is a priority class with its own waiting line. A worker is a thread that runs
 * jobs. A claim is what a worker takes from a lane under one lock: a batch of plain jobs, or a part of a range. A crew is
 * the threads that do one job together; a hand is a place at a crew, waiting in a lane for a worker. Notes are what a
 * running job says about itself; a child is a job that another one has submitted, and a handle is what is held of it. The
 * keeper is a thread that fires time limits, the attendant one that attends to the host; each exists only where it is
 * needed.
 *
 * LOCKS, in the order in which they may nest (none but the first two ever does):
 *     blocked list    workers that sleep inside of jobs (wp_blocked.h). Held by who is about to, while it looks at others.
 *     pool->lock      lanes, idle list, counts, phase. Held for a claim, a submit or a report: tens of nanoseconds.
 *     results->lock   one results queue. Never taken under another lock.
 *     side locks      the keeper's heap of time limits, the attendant's start, what workers inherit. Never taken under
 *                     another lock.
 *     tree lock       one token tree (wp_token.h). Never taken under another lock.
 * No lock is held while a class's function or a hook runs.
 *
 * WAKING. At most one worker at a time is on its way from sleep (pool->waking). It clears the flag when it has the lock,
 * takes its claim and, if work remains, calls the next. So a burst of submits costs one wake-up, and sleepers come up
 * only as fast as they find work. Whoever calls a worker takes it off the idle list under the lock: the sleeper never
 * changes the count after the fact.
 *
 * PATROLS. A stream of jobs that take nanoseconds must not wake a worker each time the line has run empty: that costs as
 * much as hundreds of them. So a worker that has served a stream sleeps for a short time only, at first. While one does,
 * nobody is called for a few such jobs: the patrol will find them, if no other thread does. A worker also patrols rather
 * than get in the way of another, where one thread at a time can get on with short jobs (wp_job_class.one_at_a_time). If
 * it finds that one stuck, the jobs are not so short, and more are called.
 *
 * COMING BACK. A worker that has run all of its claim is not idle yet, but about to look for work: a job that comes in this
 * moment needs no other thread. It says so before the end of its last job is seen, and whoever would start a worker counts
 * on it instead. Before it runs foreign code after that (a notice, a finalizer), which may take long, it takes that back,
 * and calls somebody else if it was counted on.
 *
 * ENTERING. While a worker waits for what such jobs need, or has not run the first of them, another would only wait as
 * well: it is called afterwards, if then there is work for it. So a burst of short jobs starts two threads and not all.
 */
#ifndef WP_INTERNAL_H
#define WP_INTERNAL_H

#include "wp_attendant.h"
#include "wp_blocked.h"
#include "wp_crew.h"
#include "wp_fork.h"
#include "wp_inherit.h"
#include "wp_keeper.h"
#include "wp_numbers.h"
#include "wp_pool.h"
#include "wp_range.h"
#include "wp_results.h"
#include "wp_self.h"
#include "wp_stretch.h"

#include <stdalign.h>

/* The most plain jobs claimed at once. More gains nothing (the lock is a few percent of 32 empty jobs), fewer hides
 * fewer jobs behind one that turns out long. */
#define WP_MOST_CLAIMED 32

enum wp_phase { WP_OPEN, WP_CLOSING, WP_WRECKED };

typedef struct wp_lane {
    wp_ring ring;         /* Pool's lock, like all here unless said otherwise. */
    uint64_t capacity;    /* Constant. */
    uint32_t max_running; /* Constant; UINT32_MAX for any number. */
    uint32_t running;     /* Workers whose claim is from this lane. */
    uint32_t asleep;      /* Those of them that sleep in a job, and are not there for others. */
    uint32_t entering;    /* Those of them that wait for what jobs that run one at a time need, or are about to. */
    uint64_t waiting;     /* Jobs in the ring, each unit of a range for itself. */
    uint64_t submitted;
    uint64_t rejected;
    uint64_t mixed_until; /* So long as fewer were submitted, there may be jobs that need not run one at a time. */
    uint64_t passed;      /* Jobs begun in other lanes since this one, while jobs waited here. */
    uint32_t blocked;     /* Threads that sleep for room. */
    wp_word room;         /* Atomic: changes when those threads should look again. */

    /* Apart from what every submit writes: workers look at it after each job. */
    alignas(WP_CACHE_LINE) wp_pace pace; /* Atomic: of its plain jobs. */
} wp_lane;

/* Whether a worker is about to look for work. The worker itself moves it from the first to the second, and to the first
 * from any; others, pool's lock held, from the second to the third. */
enum wp_coming_back { WP_AWAY, WP_COMING_BACK, WP_COUNTED_ON };

struct wp_worker {
    alignas(WP_CACHE_LINE) wp_word signal; /* 0 while it may sleep, 1 once it was called. */
    uint32_t index;                        /* Constant. */
    wp_pool *pool;                         /* Constant; a reference. */
    wp_tally *tally;                       /* Written by the worker, read by snapshots. */
    void *local;                           /* Worker only: the host's. */
    _Atomic(wp_job *) current;             /* The job it runs; bit 0 set while somebody else looks at it. */
    unsigned lane;                         /* Written under the pool's lock: of its claim. */
    bool has_claim;                        /* Worker only: to be reported. */
    bool claims_range;                     /* Written under the pool's lock: its claim is of the range claimed[0], */
    bool claims_alone;      /* and a second worker would be in the way (others must not look at the range). */
    uint32_t guest_in;      /* Written under the pool's lock: other lanes, by bit, that count it among their running. */
    uint32_t may_borrow;    /* Worker only: lanes, by bit, in which it may be a guest though they are full. */
    wp_blocked *blocked;    /* The list's lock: what it waits for inside of a job. */
    uint64_t ended;         /* Worker only: jobs ended and not yet reported. */
    uint64_t streak;        /* Worker only: jobs of short kinds that it ended since it last slept. */
    bool took_all;          /* Worker only: its claim left no jobs in the lane. */
    uint32_t calls_in_vain; /* Worker only: how often of late, see note_call. */
    bool was_in_vain;       /* Worker only: the last call was, and it has not slept since. */
    uint64_t taken_seen;    /* Worker only: the pool's taken_here when it last fell asleep, */
    uint64_t slept_at;      /* which was then. */
    int64_t taken_beside;   /* Worker only: see note_taken_here. */
    bool was_called;        /* Worker only: it has not claimed anything since. */
    wp_word coming_back;    /* enum wp_coming_back: who changes it is said there. */
    bool was_counted_on;    /* Worker only: when it came back. */
    bool may_come_back;     /* Worker only: when it claimed, the pool could have started another. */
    bool is_entering;       /* Pool's lock: its claim's lane counts it among those that enter. */
    bool takes_over;        /* Worker only: on patrol it found that nothing was claimed, and it has not slept. */
    wp_stretch stretch;     /* What it claimed and has not begun: numbers of `claimed`, or units of the
                                              range that is claimed[0]. */
    wp_span claimed[WP_MOST_CLAIMED]; /* Written by the worker under the pool's lock, read by others under it. */

    uint64_t bounds_seen; /* Pool's lock: its stretch, as a patrol saw it last. */
    uint32_t looks;       /* Pool's lock: how often patrols have looked at its claim. */
    wp_worker *next_idle; /* Pool's lock: the idle list, latest first. */
    wp_worker *previous_idle;
    bool is_idle;             /* Pool's lock: it is on the list. */
    wp_worker *next_worker;   /* Pool's lock: all workers. */
    wp_worker **link;         /* Pool's lock: among all workers, what points here. */
    wp_worker *next_claimer;  /* Pool's lock: the list of those that may not have begun all of their claim; */
    wp_worker **claimer_link; /* what points here on it, or NULL. */
    bool is_orphan;           /* Worker only: it forked, and this is the child. */
};

/* A thread that runs units of a range because it waits for them (wp_range_run_here). On the list from when it claims until
 * it has counted what it did; on that thread's stack. */
typedef struct wp_helper {
    wp_job *range;           /* Constant; a reference. */
    wp_stretch stretch;      /* What it claimed and has not begun. */
    uint64_t bounds_seen;    /* Pool's lock: its stretch, as a patrol saw it last. */
    struct wp_helper *next;  /* Pool's lock. */
    struct wp_helper **link; /* Pool's lock: what points here. */
} wp_helper;

/* A thread that has left, or none. */
typedef struct wp_departed {
    pthread_t thread;
    bool is_one;
} wp_departed;

struct wp_pool {
    /* Constant. */
    wp_pool_config config;
    wp_hooks hooks;
    struct wp_fork_slot *slot; /* Where a forked child finds this pool. */
    uint32_t processors;       /* When it was made. */

    /* Changed under the lock, seldom, and read without it by workers after each job: apart from what changes often. */
    alignas(WP_CACHE_LINE) _Atomic(uint32_t) ready; /* Lanes that have work to give, by bit. */
    _Atomic(uint32_t) phase;                        /* enum wp_phase. */

    alignas(WP_CACHE_LINE) wp_word references; /* Of holders and of the pool's own threads. */
    wp_word holders;                           /* With the last the pool is closed. */

    alignas(WP_CACHE_LINE) wp_lock lock;

    /* Guarded by the lock. */
    uint32_t max_workers;
    uint32_t n_workers; /* Workers that take jobs, or are being started to. */
    uint32_t n_threads; /* Those, and the ones that leave but have not left. */
    uint32_t n_idle;
    uint32_t n_starting;  /* Workers that are being initialised by the host. */
    uint32_t patrols;     /* Workers that sleep, but not for long. */
    uint64_t claims;      /* How many there were, */
    uint64_t taken_here;  /* and by how many of them who waits for a job took it. */
    uint32_t n_outside;   /* Jobs that threads run which are no workers, because they wait for them. */
    uint32_t served;      /* Lanes, by bit, whose first job was claimed since a patrol last looked, */
    uint64_t looked_at;   /* which was then. */
    bool waking;          /* A worker was called or started and has not come to the lock yet. */
    uint64_t start_again; /* After a failed thread start: not before this time. */
    uint64_t unfinished;  /* Accepted and not reported as ended. */
    wp_worker *idle;      /* Latest first: the warmest is called first, and the coldest retires. */
    wp_worker *workers;
    wp_worker *claimers; /* Those with a claim that may not have been begun in full. Looked at by wp_first_claimer. */
    wp_helper *helpers;
    wp_departed departed; /* The latest thread that left; to be joined. */
    wp_numbers numbers;   /* Of the workers. */
    uint64_t unlinked;    /* How often one was taken off the list of workers. */
    uint32_t drain_waiters;
    uint16_t epoch;    /* Changes in a forked child. */
    wp_tally *outside; /* What is not done by workers; written under the lock. */
    wp_tally *gone;    /* The tallies of retired workers, added up. */

    wp_lock inherited_lock; /* A lock of its own, never taken under another: a resize may start workers side by side. */
    wp_inherited inherited; /* Its lock: written by who starts a worker, read by that worker. */

    wp_closable closable; /* With `lock`: closed when the phase is not WP_OPEN. */

    wp_word drained; /* Changes when nothing is unfinished. */
    wp_word left;    /* Changes when a thread has left. */

    wp_keeper keeper;
    wp_attendant attendant;
    wp_lane lanes[]; /* config.n_lanes of them. */
};

/* ---- wp_wake.c: calling workers ---- */

/* What to do after the lock was given back: system calls have no place under it. */
typedef struct wp_errands {
    wp_worker *call;     /* A worker to be woken. */
    bool start;          /* A worker to be started; it is counted already. */
    uint32_t rooms;      /* Lanes, by bit, whose sleepers for room are to be woken, */
    uint32_t room_count; /* so many in each. */
    bool drained;        /* Waiters in wp_pool_drain to be woken. */
} wp_errands;

void wp_errands_run_slowly(wp_pool *pool, const wp_errands *errands);

static inline void
wp_errands_run(wp_pool *pool, const wp_errands *errands)
{
    if (errands->call != NULL || errands->start || errands->rooms != 0 || errands->drained) {
        wp_errands_run_slowly(pool, errands);
    }
}

static inline bool
wp_lane_is_ready(const wp_pool *pool, unsigned lane)
{
    return wp_load_relaxed(&pool->ready) >> lane & 1;
}

/* Under the lock: whether the lane has work to give is looked at anew. Written only when it changes, or those who read it
 * without the lock would miss their cache for nothing. */
static inline void
wp_lane_refresh(wp_pool *pool, unsigned lane)
{
    const wp_lane *l = &pool->lanes[lane];
    bool has_work = l->waiting > 0 && l->running < l->max_running;
    if (has_work != wp_lane_is_ready(pool, lane)) {
        wp_store_relaxed(&pool->ready, wp_load_relaxed(&pool->ready) ^ 1u << lane);
    }
}

/* A lane counts as mixed until so many jobs have come after the last that need not run one at a time. */
#define WP_REMEMBERED_MIXED 1024u

/* Under the lock: a job of the class is put into the lane. */
static inline void
wp_lane_note_kind(wp_lane *lane, const wp_job_class *class)
{
    if (!class->one_at_a_time) {
        lane->mixed_until = lane->submitted + WP_REMEMBERED_MIXED;
    }
}

/* The pace of jobs, or of units, like this one. */
wp_pace *wp_pace_of(wp_lane *lane, wp_job *job);

/* Under the lock: one more worker is called or started, if there is work for one in a lane or (`more`) in a claim. */
void wp_call_help(wp_pool *pool, bool more, wp_errands *errands);

/* Under the lock, after a job was added to its lane or `claimed` jobs (or units) like it were claimed and not begun: the
 * same, unless the next patrol comes early enough. */
void wp_call_help_in_time(wp_pool *pool, wp_job *job, uint32_t claimed, wp_errands *errands);
void wp_leave_idle_list(wp_pool *pool, wp_worker *worker);

/* Starts a worker if the pool has none: before a job is accepted, which could not be taken back. WP_OK or WP_NO_THREAD. */
enum wp_result wp_start_first_worker(wp_pool *pool);

/* Under the lock: so many jobs have ended, and their outcomes are visible. */
void wp_report_ended(wp_pool *pool, uint64_t count, wp_errands *errands);

/* ---- wp_room.c: back-pressure ---- */

static inline enum wp_result
wp_result_of_wait(enum wp_wait_result waited)
{
    return waited == WP_WAIT_INTERRUPTED ? WP_INTERRUPTED : waited == WP_WAIT_TIMED_OUT ? WP_LATE : WP_OK;
}

/* Sleeps until there is room, or something else ends the wait. `sleep` looks under its own lock, sleeps once as long as the
 * word is what was seen, and says WP_FULL to be called again. */
typedef enum wp_result wp_room_sleep(void *context, uint32_t seen, uint64_t deadline);
enum wp_result wp_wait_for_room(wp_word *room, const wp_until *until, wp_room_sleep *sleep, void *context);

/* Under the lock: WP_OK, or why the pool takes no jobs at all. */
enum wp_result wp_phase_result(const wp_pool *pool);

/* Under the lock: how many more jobs the lane takes; without a waiting line, as many as can be handed over. */
uint64_t wp_room_by_workers(const wp_pool *pool, const wp_lane *lane);

static inline uint64_t
wp_room_in(const wp_pool *pool, const wp_lane *lane)
{
    if (lane->capacity == 0) {
        return wp_room_by_workers(pool, lane);
    }
    return lane->capacity > lane->waiting ? lane->capacity - lane->waiting : 0;
}

/* Under the lock: sleepers for room in the lane are woken if there is enough to be worth it, or if there is any. */
void wp_offer_room(wp_pool *pool, unsigned lane, wp_errands *errands);
void wp_offer_any_room(wp_pool *pool, unsigned lane, wp_errands *errands);

/* ---- wp_submit.c ---- */

/* Takes a job off its token and its time limits. */
void wp_limits_clear(wp_pool *pool, wp_job *job);

/* ---- wp_claim.c ---- */

/* Under the lock: fills the worker's claim from the lane whose turn it is; false if there is no work. */
bool wp_claim(wp_pool *pool, wp_worker *worker);

/* Under the lock: whether the job is to be left to the worker that runs jobs of this lane already. */
bool wp_is_left_to_one(wp_lane *lane, wp_job *job);

/* Under the lock, for a lane that has work: the same for the first that waits there. */
static inline bool
wp_front_is_left_to_one(wp_lane *lane)
{
    return wp_is_left_to_one(lane, wp_ring_front(&lane->ring)->job);
}

/* Under the lock: claims half of what another worker, or a helper, has claimed and not begun; false if there is no such
 * thing. */
bool wp_claim_from_others(wp_pool *pool, wp_worker *self);

/* Under the lock: cuts up to `count` units off the span at a ticket, which is of a range. */
wp_span wp_claim_units(wp_lane *lane, uint64_t ticket, uint32_t count);

/* Under the lock: takes units of a range out of claims, as up to `most` spans; returns how many spans. */
uint32_t wp_claims_take_units(const wp_pool *pool, wp_job *range, wp_span *taken, uint32_t most);

/* Under the lock: jobs of a lane that are claimed and not begun; whether there are any at all, `but` aside (or NULL). */
uint64_t wp_claims_hidden(const wp_pool *pool, unsigned lane);
bool wp_claims_hide_any(const wp_pool *pool, const wp_worker *but);

/* Under the lock: the first worker on the list of claimers, from this one on, that has not begun all of its claim. Those
 * before it that have are taken off: so however many workers there are, only such are looked at again. */
wp_worker *wp_first_claimer(wp_worker *from);

/* Under the lock: takes the worker off that list, if it is on it. */
void wp_leave_claimers(wp_worker *worker);

/* Under the lock: puts what the helper has not begun back to the front of its lane. False if it keeps it, for want of
 * memory, or because another took it. */
bool wp_helper_put_back(wp_pool *pool, wp_helper *helper);

/* Puts what the worker, or everybody, claimed and has not begun back to the front of its lane. */
void wp_claim_give_back(wp_worker *worker);

/* For a worker that is about to sleep inside of a job: others get what it has claimed and not begun. */
static inline void
wp_claim_leave(wp_worker *self)
{
    if (self != NULL && wp_stretch_left(&self->stretch) > 0) {
        wp_claim_give_back(self);
    }
}

void wp_claims_recall(wp_pool *pool);

/* Under the lock, for patrols: the job, or a part of it, is about to be taken out of its lane by a thread that waits. */
static inline void
wp_note_taken_here(wp_pool *pool, const wp_job *job)
{
    pool->claims++;
    pool->taken_here++;
    if (wp_ring_front(&pool->lanes[job->lane].ring)->job == job) {
        pool->served |= 1u << job->lane;
    }
}

/* ---- wp_outcome.c: how a job begins and ends ---- */

/* False if the job was taken by another. */
bool wp_job_begin(wp_job *job, uint32_t worker, uint64_t now);

/* The end of a run that has been counted: it is measured and told. */
void wp_job_finish(wp_job *job, wp_state outcome, uint64_t now);

/* The end of a job whose run returned WP_RUNNING, and which ran since `began`: it is counted and told. */
void wp_job_end(wp_job *job, wp_state outcome, uint64_t began);

/* The end of a job that has been counted is told: limits off, outcome visible, result delivered. */
void wp_job_ended(wp_job *job, wp_state outcome);

/* A job that left PENDING without running: takes it from its lane, counts it and tells its end. */
void wp_job_withdraw(wp_job *job, wp_state outcome);

/* The time that the job may wait is over: it ends as WP_EXPIRED unless it has begun. A range is cancelled. */
void wp_job_expire(wp_job *job);

/* This process is a fork, and the job, which is not NEW, was submitted before: it is in no lane and under no watch. */
bool wp_job_is_of_parent(const wp_job *job);

/* Notes how long the job waited, if that was measured. */
void wp_tally_started(wp_tally *tally, wp_job *job, uint64_t now);

/* Under the lock: counts jobs that no worker ended. */
void wp_count_outside(wp_pool *pool, const wp_job *job, wp_state outcome, uint64_t count);

/* Under the lock: counts a plain job that ran, but not as a worker's claim. The pool hears of the end when it is told. */
void wp_count_run_outside(wp_job *job, wp_state outcome, uint64_t ran);

/* Tells the pool that so many jobs, of this job's kind and age, have ended outside of a worker's claim. Takes the lock. */
void wp_job_report(wp_job *job, uint64_t count);

/* Whoever settles the job reports its end to the pool: that of one job, or of the units that a range owes. */
void wp_owe(wp_job *job);

/* Under the lock: takes a plain job that will not be claimed out of its lane; false if it was claimed already. */
bool wp_leave_ring(wp_pool *pool, wp_job *job);

/* ---- wp_waiter.c ---- */

/* Begins a job on the calling thread that was never submitted, and counts it as submitted. On anything else than WP_OK the
 * job is untouched: as for wp_pool_run_here. */
enum wp_result wp_pool_begin_here(wp_pool *pool, unsigned lane, wp_job *job);

/* Whether this worker runs a job of the lane, which stands still while the worker does something else. */
static inline bool
wp_runs_in(const wp_worker *self, unsigned lane)
{
    return (self->has_claim && self->lane == lane) || (self->guest_in >> lane & 1);
}

/* Whether the calling thread, `self` if it is a worker of the pool, may run a job of this lane. One that limits how many
 * of its jobs run must not have another run beside them, unless the caller runs one of those, which stands still
 * meanwhile. Another worker is a guest if there is a place for it, or it may borrow one (wp_blocked.h): it counts among the
 * running until wp_leave_as_guest.
 * Other threads are never: what they run might wait for more jobs of the lane. */
bool wp_may_run_here(wp_pool *pool, unsigned lane, wp_worker *self, bool *is_guest);
void wp_leave_as_guest(wp_pool *pool, unsigned lane, wp_worker *self);

/* ---- wp_worker.c ---- */

/* Starts a worker that is counted already (n_workers, waking); gives the count back if that fails. 0 or errno. */
int wp_worker_start(wp_pool *pool);

/* Makes `job` (or none) the worker's current job, by the worker itself; returns the one before. */
wp_job *wp_worker_set_current(wp_worker *worker, wp_job *job);

/* Whether it is at units of the group or a job of the results (or NULL), or just between two jobs. Any thread, with the
 * pool's lock. */
bool wp_worker_serves(wp_worker *worker, const wp_group *group, const wp_results *results);
void wp_worker_free(wp_worker *worker);

/* By the worker itself: it is about to look for work, with no foreign code in between. Where the pool has all workers that it
 * may have, nobody needs to know. */
static inline void
wp_worker_comes_back(wp_worker *self)
{
    if (self->may_come_back && wp_load_relaxed(&self->coming_back) == WP_AWAY) {
        wp_store_release(&self->coming_back, WP_COMING_BACK);
    }
}

/* Takes the worker off the list of all, lock held. */
void wp_worker_unlink(wp_pool *pool, wp_worker *worker);

/* In a forked child, where the calling thread may have been a worker. */
void wp_worker_after_fork(const wp_pool *pool);

/* Gives the lock back and then does what is owed. */
static inline void
wp_give_lock_and_run(wp_pool *pool, wp_errands *errands)
{
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, errands);
    *errands = (wp_errands){0};
}

/* Whether there are more workers than the pool is to have by now, lock held. */
static inline bool
wp_has_surplus(const wp_pool *pool)
{
    return pool->n_workers > pool->max_workers;
}

/* ---- wp_idle.c: a worker that found nothing to do. All with the lock held before and after. ---- */

/* Whether it is to leave rather than to sleep. */
bool wp_worker_should_leave(wp_pool *pool);

/* Gives the host a moment. Work may have come meanwhile. */
void wp_worker_rest(wp_pool *pool, wp_worker *self, wp_errands *errands);

/* Sleeps until it is called, or a patrol finds that it had better look after work; false if nobody called for
 * idle_timeout, or the pool is closing, and there is nothing to do. `serves_stream`: more jobs are about to come. */
bool wp_worker_sleep(wp_pool *pool, wp_worker *self, bool serves_stream, wp_errands *errands);

/* ---- wp_pool.c ---- */

/* The calling thread, one of the pool's own, is about to end, lock held: whom it is to join as its last, which is the one
 * that left before it. */
wp_departed wp_pool_depart(wp_pool *pool);
void wp_departed_join(wp_departed departed);

/* Bytes of stack for a worker that the calling thread is about to start; 0: the default. No lock held. */
size_t wp_pool_stack_size(wp_pool *pool);

/* The reference of one of the pool's own threads. */
void wp_pool_hold(wp_pool *pool);
void wp_pool_let_go(wp_pool *pool);

/* A worker's thread leaves, or (NULL) could not be started: what it leaves behind, and whether it was the last. Lets go
 * of the pool. */
void wp_pool_thread_left(wp_pool *pool, wp_worker *worker);

/* Ends the jobs that were accepted while the only worker was being started, which failed: nobody would come for them. */
void wp_pool_lose_unserved(wp_pool *pool);

/* In a forked child: the pool as if it were new. Jobs of before are lost. */
void wp_pool_after_fork(wp_pool *pool);

#endif
