/* Submitting: a job is let into its lane with its limits set, or stays untouched. */
#include "wp_internal.h"

/* Short jobs have their waiting time measured one in so many: reading the clock would cost as much as queueing them. */
#define SAMPLED_ONE_IN 16u

static uint32_t
units_of(const wp_job *job)
{
    return job->flags & WP_JOB_IS_RANGE ? ((const wp_range *)(const void *)job)->units : 1;
}

static bool
is_measured(const wp_lane *lane, const wp_job *job)
{
    return !wp_pace_is_below(&lane->pace, WP_ALWAYS_MEASURED_NS) || (job->flags & WP_JOB_TIMED) || job->extra != NULL ||
           lane->submitted % SAMPLED_ONE_IN == 0;
}

/* Puts the job at the end of its lane, lock held. */
static enum wp_result
enqueue(wp_pool *pool, unsigned lane, wp_job *job, bool over)
{
    wp_lane *l = &pool->lanes[lane];
    uint32_t units = units_of(job);
    enum wp_result phase = wp_phase_result(pool);
    if (phase != WP_OK) {
        return phase;
    }
    if (!over && wp_room_in(pool, l) == 0) {
        return WP_FULL;
    }
    job->epoch = pool->epoch;
    job->queued_at = is_measured(l, job) ? wp_clock() : 0;
    if (wp_ring_push_back(&l->ring, (wp_span){job, 0, units}) < 0) {
        return WP_NO_MEMORY;
    }
    if (job->flags & WP_JOB_IS_RANGE) {
        wp_range_of(job)->spans = 1;
    }
    wp_or_acq_rel(&job->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    wp_lane_note_kind(l, job->class);
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
        *expires = wp_later(wp_clock(), extra->queue_timeout);
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

void
wp_limits_clear(wp_pool *pool, wp_job *job)
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

/* The caller may have been woken for room that it does not use now: another gets the wake-up. Where there is no room, or
 * no pool, nobody waits for it. */
static enum wp_result
refuse(wp_pool *pool, unsigned lane, enum wp_result why)
{
    if (why != WP_FULL) {
        wp_pool_pass_room(pool, lane);
    }
    return why;
}

void
wp_pool_note_rejected(wp_pool *pool, unsigned lane, uint32_t units)
{
    wp_lock_take(&pool->lock);
    pool->lanes[lane].rejected += units;
    wp_lock_give(&pool->lock);
}

enum wp_result
wp_pool_submit(wp_pool *pool, unsigned lane, wp_job *job, bool over)
{
    enum wp_result result = wp_pool_try_submit(pool, lane, job, over);
    if (result == WP_FULL) {
        wp_pool_note_rejected(pool, lane, units_of(job));
    }
    return result;
}

enum wp_result
wp_pool_try_submit(wp_pool *pool, unsigned lane, wp_job *job, bool over)
{
    wp_errands errands = {0};
    uint64_t expires = WP_FOREVER;
    job->pool = pool;
    job->lane = (uint8_t)lane;
    if (job->extra != NULL && !wp_pool_is_closed(pool)) {
        enum wp_result limits = set_limits(pool, job, &expires);
        if (limits != WP_OK) {
            return refuse(pool, lane, limits);
        }
    }
    wp_job_ref(job); /* The pool's. */
    wp_lock_take(&pool->lock);
    enum wp_result result = enqueue(pool, lane, job, over);
    if (result == WP_OK) {
        wp_call_help_in_time(pool, job, 0, &errands);
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
        wp_limits_clear(pool, job);
        wp_sub_acq_rel(&job->references, 1); /* The caller's stands, so it is not the last. */
        return refuse(pool, lane, result);
    }
    if (job->extra != NULL) {
        catch_up(job, expires);
    }
    return WP_OK;
}

/* What else ends the job's wait for room: its token, and the end of the results queue that it reports to. */
static wp_until
until_of(const wp_job *job, uint64_t deadline)
{
    wp_until until = {.deadline = deadline};
    if (job->extra != NULL) {
        until.token = job->extra->token;
        until.closables[0] = job->extra->results != NULL ? wp_results_closable(job->extra->results) : NULL;
    }
    return until;
}

enum wp_result
wp_pool_submit_wait(wp_pool *pool, unsigned lane, wp_job *job, uint64_t deadline)
{
    bool over = wp_worker_in(pool) != NULL;
    wp_until until = until_of(job, deadline);
    for (;;) {
        enum wp_result result = wp_pool_try_submit(pool, lane, job, over);
        if (result != WP_FULL) {
            return result;
        }
        result = wp_pool_wait_room_until(pool, lane, &until);
        if (result == WP_LATE) {
            wp_pool_note_rejected(pool, lane, units_of(job));
        }
        if (result != WP_OK) {
            return result;
        }
    }
}
