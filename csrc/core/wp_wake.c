/* Calling workers: which one, when to start another, and what is done once the lock has been given back.
 *
 * Functions that decide to wake somebody hold the pool's lock and only note it in wp_errands; the system calls follow
 * without the lock. The rule of one waking worker at a time is in wp_internal.h.
 */
#include "wp_internal.h"

/* Less work than this (ns) is not worth a wake-up while a patrol is under way. */
#define LITTLE_WORK_NS 20000u
/* Of the threads that wait for what there is one of, each may look every few milliseconds whether it has come (CPython's
 * lock): thousands have the processors for themselves, and nobody gets on. So no more are sent there than these, */
#define MOST_ENTERING 32u
/* and these, where it is for initialising. That may block for long, without what there is one of. */
#define MOST_STARTING 128u
/* Jobs that take less than this (ns) do not sleep: more workers than processors gain nothing. */
#define SHORT_NS 1000u

void
wp_errands_run_slowly(wp_pool *pool, const wp_errands *errands)
{
    for (uint32_t rooms = errands->rooms; rooms != 0; rooms &= rooms - 1) {
        wp_word_wake(&pool->lanes[__builtin_ctz(rooms)].room, errands->room_count);
    }
    if (errands->drained) {
        wp_word_wake(&pool->drained, WP_WAKE_ALL);
    }
    if (errands->call != NULL) {
        wp_store_release(&errands->call->signal, 1);
        wp_word_wake(&errands->call->signal, 1);
    }
    if (errands->start && wp_worker_start(pool) != 0) {
        wp_pool_lose_unserved(pool);
    }
}

void
wp_leave_idle_list(wp_pool *pool, wp_worker *worker)
{
    if (worker->previous_idle != NULL) {
        worker->previous_idle->next_idle = worker->next_idle;
    } else {
        pool->idle = worker->next_idle;
    }
    if (worker->next_idle != NULL) {
        worker->next_idle->previous_idle = worker->previous_idle;
    }
    worker->is_idle = false;
    pool->n_idle--;
}

/* Without any worker there is no choice but to try: jobs would wait for ever. */
static bool
may_start_worker(const wp_pool *pool)
{
    return pool->n_workers < pool->max_workers && pool->n_starting < MOST_STARTING &&
           (pool->n_workers == 0 || pool->start_again == 0 || wp_clock() >= pool->start_again);
}

/* Whether there is more to do than the workers that are being initialised will take. */
static bool
is_one_wanted(const wp_pool *pool, bool more)
{
    uint64_t jobs = more;
    for (uint32_t ready = wp_load_relaxed(&pool->ready); ready != 0 && jobs <= pool->n_starting; ready &= ready - 1) {
        jobs += pool->lanes[__builtin_ctz(ready)].waiting;
    }
    return jobs > pool->n_starting;
}

/* So many of the latest workers are looked at: of more, one is idle sooner or later. */
#define LOOKED_AT 8

/* Whether a worker is about to look for work, and nobody else counts on it. Starting a thread takes many times as long. */
static bool
can_count_on_another(const wp_pool *pool)
{
    wp_worker *worker = pool->workers;
    for (int i = 0; i < LOOKED_AT && worker != NULL; i++) {
        uint32_t expected = WP_COMING_BACK;
        if (wp_cas_acq_rel(&worker->coming_back, &expected, WP_COUNTED_ON)) {
            return true;
        }
        worker = worker->next_worker;
    }
    return false;
}

void
wp_call_help(wp_pool *pool, bool more, wp_errands *errands)
{
    if (pool->waking || (!more && wp_load_relaxed(&pool->ready) == 0)) {
        return;
    }
    if (pool->idle != NULL) {
        errands->call = pool->idle;
        wp_leave_idle_list(pool, pool->idle);
        pool->waking = true;
    } else if (may_start_worker(pool) && is_one_wanted(pool, more) && !can_count_on_another(pool)) {
        pool->n_workers++;
        pool->n_threads++;
        errands->start = true;
        pool->waking = true;
    }
}

enum wp_result
wp_start_first_worker(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    bool starts = pool->n_workers == 0 && wp_phase_result(pool) == WP_OK;
    if (starts) {
        pool->n_workers++;
        pool->n_threads++;
        pool->waking = true;
    }
    wp_lock_give(&pool->lock);
    if (starts && wp_worker_start(pool) != 0) {
        wp_pool_lose_unserved(pool); /* What others have submitted meanwhile. */
        return WP_NO_THREAD;
    }
    return WP_OK;
}

wp_pace *
wp_pace_of(wp_lane *lane, wp_job *job)
{
    return job->flags & WP_JOB_IS_RANGE ? wp_range_of(job)->group->pace : &lane->pace;
}

/* Whether all that waits is left to workers that run jobs of its lane already. */
static bool
is_all_left_to_one(wp_pool *pool)
{
    uint32_t ready = wp_load_relaxed(&pool->ready);
    while (ready != 0 && wp_front_is_left_to_one(&pool->lanes[__builtin_ctz(ready)])) {
        ready &= ready - 1;
    }
    return ready == 0;
}

/* Whether all that waits is jobs of a lane from which so many wait for what there is one of that another can wait for one of
 * them to get it: that one calls it. */
static bool
is_crowded(const wp_pool *pool, const wp_lane *lane, const wp_job *job)
{
    return lane->entering >= MOST_ENTERING && job->class->one_at_a_time && lane->submitted >= lane->mixed_until &&
           (wp_load_relaxed(&pool->ready) & ~(1u << job->lane)) == 0;
}

/* Whether what waits in a lane, and what was claimed from it, can be left to a worker that is about to look after it, or to
 * a patrol: there is one, it is little work, and no submitter is about to be held up by it. */
static bool
can_wait(wp_pool *pool, wp_job *job, uint32_t claimed)
{
    wp_lane *lane = &pool->lanes[job->lane];
    uint32_t mean = wp_pace_mean(wp_pace_of(lane, job));
    if (is_crowded(pool, lane, job)) {
        return true;
    }
    if (wp_is_left_to_one(lane, job) && (pool->patrols > 0 || (lane->entering > 0 && is_all_left_to_one(pool)))) {
        return true; /* Of those that enter the last one calls another, if there is no patrol. */
    }
    if (pool->patrols == 0 || mean == WP_PACE_UNKNOWN) {
        return false;
    }
    if (mean < SHORT_NS && pool->n_workers - pool->n_idle >= pool->processors) {
        return true; /* Every processor has a worker that serves a stream. */
    }
    return lane->waiting < lane->capacity / 2 && (lane->waiting + claimed) * mean < LITTLE_WORK_NS;
}

/* Whether there is anybody left to call. */
static bool
could_call(const wp_pool *pool)
{
    return !pool->waking && (pool->idle != NULL || pool->n_workers < pool->max_workers);
}

void
wp_call_help_in_time(wp_pool *pool, wp_job *job, uint32_t claimed, wp_errands *errands)
{
    if (could_call(pool) && !can_wait(pool, job, claimed)) {
        wp_call_help(pool, claimed > 1, errands);
    }
}

void
wp_report_ended(wp_pool *pool, uint64_t count, wp_errands *errands)
{
    pool->unfinished -= count;
    if (pool->unfinished == 0 && pool->drain_waiters > 0) {
        wp_add_acq_rel(&pool->drained, 1);
        errands->drained = true;
    }
}
