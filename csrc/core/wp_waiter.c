/* Jobs that are run by a thread that is not there for it: the one that waits for the job, or the submitter itself. */
#include "wp_internal.h"

/* Jobs of less than this (ns) are short for who waits for one. */
#define SHORT_NS 10000u
/* A nap (ns), which may become twice as long where timers have slack, and the work (ns) beside which it is worth it. */
#define NAP_NS 50000u
#define LONG_LINE_NS 100000u

wp_job *
wp_pool_find_waiting(wp_pool *pool, unsigned lane, const wp_results *results, uint64_t depth)
{
    wp_job *found = NULL;
    wp_lock_take(&pool->lock);
    wp_ring *ring = &pool->lanes[lane].ring;
    wp_ring_front(ring); /* Passes over holes. */
    for (uint64_t at = ring->head; at != ring->tail && at - ring->head < depth && found == NULL; at++) {
        wp_job *job = wp_ring_at(ring, at)->job;
        if (job != NULL && job->extra != NULL && job->extra->results == results && wp_job_state(job) == WP_PENDING) {
            found = job;
            wp_job_ref(found);
        }
    }
    wp_lock_give(&pool->lock);
    return found;
}

static wp_state
run_once(wp_job *job, wp_worker *self, uint64_t *end)
{
    const wp_job_class *class = job->class;
    wp_job *outer = self != NULL ? wp_worker_set_current(self, job) : NULL;
    if (class->enter != NULL) {
        class->enter(self);
    }
    wp_state outcome = class->run(job, self);
    *end = wp_clock();
    if (class->leave != NULL) {
        class->leave(self);
    }
    if (self != NULL) {
        wp_worker_set_current(self, outer);
    }
    return outcome != WP_RUNNING && *end >= job->deadline ? WP_TIMED_OUT : outcome;
}

static void
run_on_caller(wp_job *job, wp_worker *self, uint64_t now)
{
    wp_pool *pool = job->pool;
    wp_errands errands = {0};
    uint64_t end;
    bool is_outside = self == NULL && !wp_is_worker();

    /* Out of the ring before it runs, which may take long: its place is free, and nobody finds it waiting there. */
    wp_lock_take(&pool->lock);
    bool was_waiting = job->ticket != WP_NO_TICKET;
    if (was_waiting) {
        wp_note_taken_here(pool, job);
        wp_leave_ring(pool, job);
    }
    wp_offer_room(pool, job->lane, &errands);
    pool->n_outside += is_outside;
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);

    wp_service service;
    wp_service_begin(&service, pool);
    wp_state outcome = run_once(job, self, &end);
    wp_service_end(&service);

    wp_lock_take(&pool->lock);
    if (!wp_job_is_of_parent(job)) { /* In a child that the job itself has forked it counts nowhere. */
        pool->n_outside -= is_outside;
        wp_tally_started(pool->outside, job, now);
        if (outcome != WP_RUNNING) {
            wp_count_run_outside(job, outcome, end - now);
        }
    }
    wp_lock_give(&pool->lock);
    if (outcome != WP_RUNNING) {
        wp_job_finish(job, outcome, end);
    }
    if (was_waiting) {
        wp_job_unref(job);
    }
}

bool
wp_may_run_here(wp_pool *pool, unsigned lane, wp_worker *self, bool *is_guest)
{
    wp_lane *l = &pool->lanes[lane];
    if (l->max_running == UINT32_MAX) {
        return true;
    }
    if (self == NULL) {
        return false;
    }
    if (wp_runs_in(self, lane)) {
        return true;
    }
    wp_lock_take(&pool->lock);
    *is_guest = l->running < l->max_running || (self->may_borrow >> lane & 1);
    self->may_borrow = 0;
    if (*is_guest) {
        l->running++;
        wp_lane_refresh(pool, lane);
        self->guest_in |= 1u << lane;
    }
    wp_lock_give(&pool->lock);
    return *is_guest;
}

void
wp_leave_as_guest(wp_pool *pool, unsigned lane, wp_worker *self)
{
    wp_errands errands = {0};
    if (self->is_orphan) {
        self->guest_in &= ~(1u << lane);
        return; /* The child's lane does not know of it. */
    }
    wp_lock_take(&pool->lock);
    self->guest_in &= ~(1u << lane);
    pool->lanes[lane].running--;
    wp_lane_refresh(pool, lane);
    wp_offer_room(pool, lane, &errands);
    wp_call_help(pool, false, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

bool
wp_job_run_here(wp_job *job)
{
    wp_pool *pool = job->pool;
    unsigned lane = job->lane;
    wp_worker *self = wp_worker_in(pool);
    bool is_guest = false;
    if ((job->flags & WP_JOB_IS_RANGE) || wp_job_state(job) != WP_PENDING || wp_job_is_of_parent(job) ||
        !wp_may_run_here(pool, lane, self, &is_guest)) {
        return false;
    }
    uint64_t now = wp_clock();
    bool begun = wp_job_begin(job, self != NULL ? self->index : WP_NO_WORKER, now);
    if (begun) {
        run_on_caller(job, self, now);
    }
    if (is_guest) {
        wp_leave_as_guest(pool, lane, self);
    }
    return begun;
}

/* ---- Waiting in a line of short jobs ---- */

/* Whether much work waits in the job's lane, or was claimed from it and not begun, and is of short plain jobs. */
static bool
is_in_long_line(wp_job *job)
{
    wp_pool *pool = job->pool;
    if (pool == NULL || wp_job_is_of_parent(job)) {
        return false;
    }
    wp_lane *lane = &pool->lanes[job->lane];
    if (!wp_pace_is_below(&lane->pace, SHORT_NS)) {
        return false;
    }
    wp_lock_take(&pool->lock);
    uint64_t jobs = lane->waiting + wp_claims_hidden(pool, job->lane);
    wp_lock_give(&pool->lock);
    return jobs * wp_pace_mean(&lane->pace) >= LONG_LINE_NS;
}

enum wp_wait_result
wp_job_wait_in_line(wp_job *job, uint64_t deadline)
{
    uint32_t word = wp_load_acquire(&job->word);
    uint64_t nap_end = wp_clock() + NAP_NS;
    while (!(word & WP_JOB_SETTLED) && nap_end < deadline && is_in_long_line(job)) {
        if (wp_word_wait(&job->word, word, nap_end) == WP_WAIT_INTERRUPTED) {
            return WP_WAIT_INTERRUPTED;
        }
        word = wp_load_acquire(&job->word);
        nap_end = wp_clock() + NAP_NS;
    }
    return wp_job_wait(job, deadline);
}

/* ---- Running jobs that were not submitted ---- */

/* Hangs a running job that was not submitted on its token. One without a run_timeout has not been given the token's limit
 * by its beginning. */
static void
watch_token(wp_job *job)
{
    wp_extra *extra = job->extra;
    if (extra == NULL || extra->token == NULL) {
        return;
    }
    extra->watch.job = job;
    if (!wp_watch_start(&extra->watch, extra->token)) {
        wp_job_ask_to_stop(job);
    } else if (extra->run_timeout == WP_FOREVER && extra->queue_timeout == WP_FOREVER) {
        wp_keeper_watch(job->pool, job, wp_token_deadline(extra->token));
    }
}

/* Makes sure of the keeper for a job whose run may have a limit, as submit does: once it runs it is too late to find that
 * there is no thread or memory to watch it, and a job that runs until it is told to stop would never end. */
static enum wp_result
watch_ahead(wp_pool *pool, wp_job *job)
{
    const wp_extra *extra = job->extra;
    bool has_limit = extra != NULL && (extra->run_timeout != WP_FOREVER ||
                                       (extra->token != NULL && wp_token_deadline(extra->token) != WP_FOREVER));
    return has_limit ? wp_keeper_watch(pool, job, WP_FOREVER) : WP_OK;
}

/* Nobody else has the job, so nobody else can begin it. */
enum wp_result
wp_pool_begin_here(wp_pool *pool, unsigned lane, wp_job *job)
{
    const wp_worker *self = wp_worker_in(pool);
    enum wp_result watched = watch_ahead(pool, job);
    if (watched != WP_OK) {
        return watched;
    }
    uint64_t now = wp_clock();
    job->pool = pool;
    job->lane = (uint8_t)lane;
    job->queued_at = now;
    wp_lock_take(&pool->lock);
    job->epoch = pool->epoch;
    pool->lanes[lane].submitted++;
    pool->unfinished += job->flags & WP_JOB_RUNS_HERE ? 0 : 1;
    wp_lock_give(&pool->lock);
    wp_or_acq_rel(&job->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    wp_job_begin(job, self != NULL ? self->index : WP_NO_WORKER, now);
    watch_token(job);
    return WP_OK;
}

enum wp_result
wp_pool_run_here(wp_pool *pool, unsigned lane, wp_job *job)
{
    job->flags |= WP_JOB_RUNS_HERE;
    enum wp_result begun = wp_pool_begin_here(pool, lane, job);
    if (begun == WP_OK) {
        run_on_caller(job, wp_worker_in(pool), job->queued_at);
    } else {
        job->flags &= (uint8_t)~WP_JOB_RUNS_HERE;
    }
    return begun;
}

bool
wp_job_is_lost(wp_job *job)
{
    return wp_job_state(job) == WP_LOST ||
           (job->pool != NULL && !wp_job_is_settled(job) && job->epoch != job->pool->epoch);
}
