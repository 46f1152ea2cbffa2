/* Between submit and claim: who gets in, who is called, what a worker takes.
 *
 * Everything that changes a lane stands here, under the pool's lock. Functions that decide to wake somebody only note it
 * in wp_errands; the system calls follow when the lock has been given back.
 */
#include "wp_internal.h"

#include <string.h>

/* Jobs shorter than this (ns) have their waiting time measured one in SAMPLED_ONE_IN: reading the clock would cost as
 * much as queueing them. */
#define ALWAYS_MEASURED_NS 1000u
#define SAMPLED_ONE_IN 16u

/* Room for jobs that take so long together (ns) is worth waking a submitter for: a wake-up costs a few microseconds. */
#define WORTH_WAKING_NS 1000000u

/* ---- Errands ---- */

void
wp_errands_run(wp_pool *pool, const wp_errands *errands)
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
wp_lane_refresh(wp_pool *pool, unsigned lane)
{
    const wp_lane *l = &pool->lanes[lane];
    uint32_t ready = wp_load_relaxed(&pool->ready);
    uint32_t bit = 1u << lane;
    ready = l->waiting > 0 && l->running < l->max_running ? ready | bit : ready & ~bit;
    wp_store_relaxed(&pool->ready, ready);
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
    return pool->n_workers < pool->max_workers &&
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
    } else if (may_start_worker(pool) && is_one_wanted(pool, more)) {
        pool->n_workers++;
        pool->n_threads++;
        errands->start = true;
        pool->waking = true;
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

/* ---- Room ---- */

static uint64_t
difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Workers to whom a job can be handed: asleep, on their way, or not started yet, less the jobs that are on their way to
 * those, from whichever lane. */
static uint64_t
free_workers(const wp_pool *pool)
{
    uint64_t workers = pool->n_idle + (pool->waking ? 1u : 0u) + pool->n_starting;
    workers += difference(pool->max_workers, pool->n_workers);
    uint64_t handed = 0;
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        handed += pool->lanes[i].capacity == 0 ? pool->lanes[i].waiting : 0;
    }
    return difference(workers, handed);
}

/* How many more jobs the lane takes; without a waiting line, as many as can be handed over. */
static uint64_t
room_in(const wp_pool *pool, const wp_lane *lane)
{
    if (lane->capacity > 0) {
        return difference(lane->capacity, lane->waiting);
    }
    uint64_t workers = free_workers(pool);
    uint64_t allowed = difference(lane->max_running - lane->running, lane->waiting);
    return workers < allowed ? workers : allowed;
}

/* Sleepers are woken when half of the line is free, or fewer places that are worth a wake-up by the time that the jobs
 * take: so a producer that was held up by short jobs comes back to room for many. Not latched: as long as somebody
 * sleeps, each claim below the mark wakes again. */
static bool
is_enough(const wp_lane *lane, uint64_t room)
{
    uint32_t mean = wp_load_relaxed(&lane->pace.mean_ns);
    return lane->waiting <= lane->capacity / 2 || mean == WP_PACE_UNKNOWN || room >= WORTH_WAKING_NS / mean;
}

static void
offer_in_lane(wp_pool *pool, unsigned lane, bool any, wp_errands *errands)
{
    wp_lane *l = &pool->lanes[lane];
    uint64_t room = l->blocked > 0 ? room_in(pool, l) : 0;
    if (room > 0 && (any || is_enough(l, room))) {
        uint32_t count = room < WP_WAKE_ALL ? (uint32_t)room : WP_WAKE_ALL;
        wp_add_acq_rel(&l->room, 1);
        errands->rooms |= 1u << lane;
        errands->room_count = count > errands->room_count ? count : errands->room_count;
    }
}

/* Lanes without a waiting line share the free workers: what is room for one of them is room for all. */
static void
offer(wp_pool *pool, unsigned lane, bool any, wp_errands *errands)
{
    if (pool->lanes[lane].capacity > 0) {
        offer_in_lane(pool, lane, any, errands);
        return;
    }
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        if (pool->lanes[i].capacity == 0) {
            offer_in_lane(pool, i, true, errands);
        }
    }
}

void
wp_offer_room(wp_pool *pool, unsigned lane, wp_errands *errands)
{
    offer(pool, lane, false, errands);
}

void
wp_offer_any_room(wp_pool *pool, unsigned lane, wp_errands *errands)
{
    offer(pool, lane, true, errands);
}

static enum wp_result
phase_result(const wp_pool *pool)
{
    switch (wp_load_relaxed(&pool->phase)) {
    case WP_OPEN:
        return WP_OK;
    case WP_CLOSING:
        return WP_CLOSED;
    default:
        return WP_BROKEN;
    }
}

/* Whether a sleeper for room should stop sleeping. */
static enum wp_result
look_for_room(wp_pool *pool, unsigned lane)
{
    enum wp_result result = phase_result(pool);
    if (result == WP_OK && room_in(pool, &pool->lanes[lane]) == 0) {
        result = WP_FULL;
    }
    return result;
}

/* What sleep_for_room needs to know. */
typedef struct lane_place {
    wp_pool *pool;
    unsigned lane;
} lane_place;

static enum wp_result
sleep_for_room(void *context, uint64_t deadline)
{
    const lane_place *place = context;
    wp_pool *pool = place->pool;
    unsigned lane = place->lane;
    wp_lane *l = &pool->lanes[lane];
    wp_lock_take(&pool->lock);
    enum wp_result result = look_for_room(pool, lane);
    uint32_t seen = wp_load_relaxed(&l->room);
    if (result == WP_FULL) {
        l->blocked++;
    }
    wp_lock_give(&pool->lock);
    if (result != WP_FULL) {
        return result;
    }
    enum wp_result slept = wp_result_of_wait(wp_word_wait(&l->room, seen, deadline));
    wp_lock_take(&pool->lock);
    l->blocked--;
    result = look_for_room(pool, lane); /* There may be some, though not enough for a wake-up. */
    wp_lock_give(&pool->lock);
    return result == WP_FULL && slept != WP_OK ? slept : result;
}

void
wp_pool_pass_room(wp_pool *pool, unsigned lane)
{
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    wp_offer_any_room(pool, lane, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

enum wp_result
wp_wait_for_room(wp_word *room, wp_token *token, uint64_t deadline, wp_room_sleep *sleep, void *context)
{
    wp_watch watch = {.wake = room};
    uint64_t until = deadline;
    if (token != NULL) {
        if (wp_token_is_cancelled(token) || !wp_watch_start(&watch, token)) {
            return WP_STOPPED;
        }
        until = wp_token_deadline(token) < until ? wp_token_deadline(token) : until;
    }
    enum wp_result result = WP_FULL;
    while (result == WP_FULL) {
        result = sleep(context, until);
        if (token != NULL && wp_token_is_cancelled(token)) {
            result = WP_STOPPED;
        }
    }
    if (token != NULL) {
        wp_watch_stop(&watch, token);
    }
    return result;
}

enum wp_result
wp_pool_wait_room(wp_pool *pool, unsigned lane, wp_token *token, uint64_t deadline)
{
    lane_place place = {pool, lane};
    enum wp_result result = wp_wait_for_room(&pool->lanes[lane].room, token, deadline, sleep_for_room, &place);
    if (result != WP_OK) {
        /* A wake-up that was meant for this thread must not be lost with it. */
        wp_pool_pass_room(pool, lane);
    }
    return result;
}

/* ---- Submit ---- */

/* The calling thread as a worker of this pool, or NULL. */
static wp_worker *
self_in(const wp_pool *pool)
{
    wp_worker *self = wp_worker_self();
    return self != NULL && self->pool == pool ? self : NULL;
}

static uint32_t
units_of(const wp_job *job)
{
    return job->flags & WP_JOB_IS_RANGE ? ((const wp_range *)(const void *)job)->units : 1;
}

static bool
is_measured(const wp_lane *lane, const wp_job *job)
{
    uint32_t mean = wp_load_relaxed(&lane->pace.mean_ns);
    return mean == WP_PACE_UNKNOWN || mean >= ALWAYS_MEASURED_NS || (job->flags & WP_JOB_TIMED) ||
           lane->submitted % SAMPLED_ONE_IN == 0;
}

/* Puts the job at the end of its lane, lock held. */
static enum wp_result
enqueue(wp_pool *pool, unsigned lane, wp_job *job, bool over)
{
    wp_lane *l = &pool->lanes[lane];
    uint32_t units = units_of(job);
    enum wp_result phase = phase_result(pool);
    if (phase != WP_OK) {
        return phase;
    }
    if (!over && room_in(pool, l) == 0) {
        l->rejected += units;
        return WP_FULL;
    }
    job->epoch = pool->epoch;
    job->queued_at = is_measured(l, job) ? wp_clock() : 0;
    if (wp_ring_push_back(&l->ring, (wp_span){job, 0, units}) < 0) {
        return WP_NO_MEMORY;
    }
    wp_or_acq_rel(&job->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    l->waiting += units;
    l->submitted += units;
    pool->unfinished += units;
    wp_lane_refresh(pool, lane);
    return WP_OK;
}

/* A job that no worker will ever come for, because the first one could not be started: takes it off again. */
static bool
dequeue_unserved(wp_pool *pool, unsigned lane, wp_job *job, wp_errands *errands)
{
    wp_lane *l = &pool->lanes[lane];
    wp_lock_take(&pool->lock);
    bool unserved = pool->n_workers == 0 && job->ticket != WP_NO_TICKET && wp_job_take(job, WP_NEW);
    if (unserved) {
        uint32_t units = units_of(job);
        wp_ring_remove(&l->ring, job->ticket);
        l->waiting -= units;
        l->submitted -= units;
        pool->unfinished -= units;
        wp_lane_refresh(pool, lane);
        wp_offer_any_room(pool, lane, errands);
    }
    wp_lock_give(&pool->lock);
    return unserved;
}

/* Hangs the job on its token and its queue time limit (`expires`), before it is queued: then neither can be missed. They
 * cannot end a job that is NEW, so catch_up looks again afterwards. */
static enum wp_result
set_limits(wp_pool *pool, wp_job *job, uint64_t *expires)
{
    wp_extra *extra = job->extra;
    if (extra->queue_timeout != WP_FOREVER) {
        *expires = wp_clock() + extra->queue_timeout;
    }
    uint64_t limit = *expires;
    if (extra->token != NULL) {
        if (wp_token_is_cancelled(extra->token)) {
            return WP_STOPPED;
        }
        limit = wp_token_deadline(extra->token) < limit ? wp_token_deadline(extra->token) : limit;
    }
    if (limit != WP_FOREVER || extra->run_timeout != WP_FOREVER) {
        enum wp_result watched = wp_keeper_watch(pool, job, limit);
        if (watched != WP_OK) {
            return watched;
        }
    }
    extra->watch.job = job;
    if (extra->token != NULL && !wp_watch_start(&extra->watch, extra->token)) {
        wp_keeper_forget(pool, job);
        return WP_STOPPED;
    }
    return WP_OK;
}

static void
clear_limits(wp_pool *pool, wp_job *job)
{
    wp_extra *extra = job->extra;
    if (extra == NULL) {
        return;
    }
    if (extra->token != NULL) {
        wp_watch_stop(&extra->watch, extra->token);
    }
    wp_keeper_forget(pool, job);
}

/* Acts on a cancellation or a time limit that came while the job was NEW. */
static void
catch_up(wp_job *job, uint64_t expires)
{
    const wp_extra *extra = job->extra;
    if (extra->token != NULL && wp_token_is_cancelled(extra->token)) {
        wp_job_stop(job);
    } else if (expires != WP_FOREVER && wp_clock() >= expires) {
        wp_job_expire(job);
    }
}

enum wp_result
wp_pool_submit(wp_pool *pool, unsigned lane, wp_job *job, bool over)
{
    wp_errands errands = {0};
    uint64_t expires = WP_FOREVER;
    job->pool = pool;
    job->lane = (uint8_t)lane;
    if (job->extra != NULL && !wp_pool_is_closed(pool)) {
        enum wp_result limits = set_limits(pool, job, &expires);
        if (limits != WP_OK) {
            return limits;
        }
    }
    wp_job_ref(job); /* The pool's. */
    wp_lock_take(&pool->lock);
    enum wp_result result = enqueue(pool, lane, job, over);
    if (result == WP_OK) {
        wp_call_help(pool, false, &errands);
    }
    bool first_worker = errands.start && pool->n_workers == 1;
    wp_lock_give(&pool->lock);

    if (result == WP_OK && first_worker) {
        errands.start = false;
        if (wp_worker_start(pool) != 0) {
            result = dequeue_unserved(pool, lane, job, &errands) ? WP_NO_THREAD : WP_OK;
            wp_pool_lose_unserved(pool);
        }
    }
    wp_errands_run(pool, &errands);
    if (result != WP_OK) {
        clear_limits(pool, job);
        wp_sub_acq_rel(&job->references, 1); /* The caller's stands, so it is not the last. */
    } else if (job->extra != NULL) {
        catch_up(job, expires);
    }
    return result;
}

enum wp_result
wp_pool_submit_wait(wp_pool *pool, unsigned lane, wp_job *job, uint64_t deadline)
{
    bool over = self_in(pool) != NULL;
    for (;;) {
        enum wp_result result = wp_pool_submit(pool, lane, job, over);
        if (result != WP_FULL) {
            return result;
        }
        result = wp_pool_wait_room(pool, lane, job->extra != NULL ? job->extra->token : NULL, deadline);
        if (result != WP_OK) {
            return result;
        }
    }
}

/* ---- Begin and end ---- */

bool
wp_job_begin(wp_job *job, uint32_t worker, uint64_t now)
{
    if (!wp_job_take(job, WP_RUNNING)) {
        return false;
    }
    job->worker = worker;
    wp_extra *extra = job->extra;
    if (extra != NULL) {
        extra->waited = job->queued_at != 0 && now > job->queued_at ? now - job->queued_at : 0;
        extra->ran = now; /* The beginning, until wp_job_finish makes it the duration. */
        if (extra->run_timeout != WP_FOREVER) {
            job->deadline = now + extra->run_timeout;
        }
        if (extra->run_timeout != WP_FOREVER || extra->queue_timeout != WP_FOREVER) {
            uint64_t limit = job->deadline;
            if (extra->token != NULL && wp_token_deadline(extra->token) < limit) {
                limit = wp_token_deadline(extra->token);
            }
            /* The keeper runs and has room since submit, where failing was possible. */
            wp_keeper_watch(job->pool, job, limit);
        }
    }
    return true;
}

void
wp_tally_started(wp_tally *tally, wp_job *job, uint64_t now)
{
    if (job->queued_at != 0) {
        wp_histogram_add(&tally->lanes[job->lane].waited, now > job->queued_at ? now - job->queued_at : 0, 1);
    }
}

/* This process is a fork, and the job was submitted before: it is in no lane and under no watch here. For a job that is
 * not NEW. */
static bool
is_of_parent(const wp_job *job)
{
    return job->epoch != job->pool->epoch;
}

void
wp_job_ended(wp_job *job, wp_state outcome)
{
    if (!is_of_parent(job)) {
        clear_limits(job->pool, job);
    }
    if (wp_job_conclude(job, outcome)) {
        job->class->notify(job);
    }
    if (job->extra != NULL && job->extra->results != NULL) {
        wp_results_deliver(job->extra->results, job);
    }
}

void
wp_job_finish(wp_job *job, wp_state outcome, uint64_t now)
{
    if (job->extra != NULL) {
        job->extra->ran = now > job->extra->ran ? now - job->extra->ran : 0;
    }
    wp_job_ended(job, outcome);
}

static void
count_outside(wp_pool *pool, const wp_job *job, wp_state outcome, uint64_t count)
{
    wp_count(&pool->outside->lanes[job->lane].ended[outcome], count);
}

/* Takes a job that will not be claimed out of its lane, lock held; false if it was claimed already. */
static bool
leave_ring(wp_pool *pool, wp_job *job)
{
    wp_lane *lane = &pool->lanes[job->lane];
    if (job->ticket == WP_NO_TICKET) {
        return false;
    }
    wp_ring_remove(&lane->ring, job->ticket);
    lane->waiting--;
    wp_lane_refresh(pool, job->lane);
    return true;
}

void
wp_job_withdraw(wp_job *job, wp_state outcome)
{
    wp_pool *pool = job->pool;
    wp_errands errands = {0};
    if (is_of_parent(job)) {
        wp_job_ended(job, outcome);
        wp_job_unref(job);
        return;
    }
    wp_lock_take(&pool->lock);
    bool was_waiting = leave_ring(pool, job);
    wp_offer_any_room(pool, job->lane, &errands);
    count_outside(pool, job, outcome, 1);
    wp_report_ended(pool, 1, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    wp_job_ended(job, outcome);
    if (was_waiting) {
        wp_job_unref(job); /* The pool's; a worker that has claimed it drops it instead. */
    }
}

void
wp_job_expire(wp_job *job)
{
    if (job->flags & WP_JOB_IS_RANGE) {
        if (wp_job_state(job) == WP_PENDING) {
            wp_range_cancel((wp_range *)(void *)job);
        }
    } else if (wp_job_take(job, WP_EXPIRED)) {
        wp_job_withdraw(job, WP_EXPIRED);
    }
}

bool
wp_job_cancel(wp_job *job)
{
    if (job->flags & WP_JOB_IS_RANGE) {
        wp_range_cancel((wp_range *)(void *)job);
        return true;
    }
    if (!wp_job_take(job, WP_CANCELLED)) {
        return false;
    }
    wp_job_withdraw(job, WP_CANCELLED);
    return true;
}

bool
wp_job_stop(wp_job *job)
{
    if (job->flags & WP_JOB_IS_RANGE) {
        wp_job_ask_to_stop(job);
        wp_range_cancel((wp_range *)(void *)job);
        return true;
    }
    return wp_job_cancel(job) || wp_job_ask_to_stop(job);
}

bool
wp_pool_discard_oldest(wp_pool *pool, unsigned lane)
{
    wp_job *oldest = NULL;
    wp_lock_take(&pool->lock);
    const wp_span *first = wp_ring_front(&pool->lanes[lane].ring);
    if (first != NULL && !(first->job->flags & WP_JOB_IS_RANGE)) {
        oldest = first->job;
        wp_job_ref(oldest);
    }
    wp_lock_give(&pool->lock);
    if (oldest == NULL) {
        return false;
    }
    wp_job_cancel(oldest); /* If a worker was faster there is room as well. */
    wp_job_unref(oldest);
    return true;
}

/* ---- Jobs run by the thread that waits for them ---- */

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
    return *end >= job->deadline ? WP_TIMED_OUT : outcome;
}

/* `counted`: it was submitted, so it is among the unfinished. */
static void
run_on_caller(wp_job *job, wp_worker *self, uint64_t now, bool counted)
{
    wp_pool *pool = job->pool;
    wp_lane *lane = &pool->lanes[job->lane];
    wp_errands errands = {0};
    uint64_t end;

    /* Out of the ring before it runs, which may take long: its place is free, and nobody finds it waiting there. */
    wp_lock_take(&pool->lock);
    bool was_waiting = leave_ring(pool, job);
    wp_offer_room(pool, job->lane, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    errands = (wp_errands){0};

    wp_state outcome = run_once(job, self, &end);

    wp_lock_take(&pool->lock);
    wp_tally_started(pool->outside, job, now);
    wp_histogram_add(&pool->outside->lanes[job->lane].ran, end - now, 1);
    count_outside(pool, job, outcome, 1);
    if (counted) {
        wp_report_ended(pool, 1, &errands);
    } else {
        lane->submitted++;
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    wp_job_finish(job, outcome, end);
    if (was_waiting) {
        wp_job_unref(job);
    }
}

/* A lane that limits how many of its jobs run must not have another run beside them, unless the caller's own job is one
 * of those: it stands still meanwhile. */
static bool
may_run_here(const wp_job *job, const wp_worker *self)
{
    bool own = self != NULL && self->has_claim && self->lane == job->lane;
    return own || job->pool->lanes[job->lane].max_running == UINT32_MAX;
}

bool
wp_job_run_here(wp_job *job)
{
    wp_worker *self = self_in(job->pool);
    if ((job->flags & WP_JOB_IS_RANGE) || wp_job_state(job) != WP_PENDING || is_of_parent(job) ||
        !may_run_here(job, self)) {
        return false;
    }
    uint64_t now = wp_clock();
    if (!wp_job_begin(job, self != NULL ? self->index : WP_NO_WORKER, now)) {
        return false;
    }
    run_on_caller(job, self, now, true);
    return true;
}

/* Hangs a running job that was not submitted on its token. One without time limits has no timer yet. */
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

void
wp_pool_run_here(wp_pool *pool, unsigned lane, wp_job *job)
{
    uint64_t now = wp_clock();
    job->pool = pool;
    job->lane = (uint8_t)lane;
    job->epoch = pool->epoch;
    job->queued_at = now;
    wp_or_acq_rel(&job->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    wp_worker *self = self_in(pool);
    if (wp_job_begin(job, self != NULL ? self->index : WP_NO_WORKER, now)) {
        watch_token(job);
        run_on_caller(job, self, now, false);
    }
}

bool
wp_job_is_lost(wp_job *job)
{
    return wp_job_state(job) == WP_LOST || (job->pool != NULL && !wp_job_is_settled(job) && job->epoch != job->pool->epoch);
}
