/* How a job begins and ends, whoever moves it: a worker, a waiter, a canceller or a time limit. */
#include "wp_internal.h"

bool
wp_job_begin(wp_job *job, uint32_t worker, uint64_t now)
{
    wp_extra *extra = job->extra;
    if (extra != NULL && now > job->queued_at && now - job->queued_at >= extra->queue_timeout) {
        wp_job_expire(job); /* The keeper is late: the process was stopped, or there is much to do. */
    }
    if (!wp_job_take(job, WP_RUNNING)) {
        return false;
    }
    __atomic_store_n(&job->worker, worker, __ATOMIC_RELAXED); /* Others read it while the job runs. */
    if (extra != NULL) {
        extra->waited = job->queued_at != 0 && now > job->queued_at ? now - job->queued_at : 0;
        extra->ran = now; /* The beginning, until wp_job_finish makes it the duration. */
        if (extra->run_timeout != WP_FOREVER) {
            job->deadline = wp_later(now, extra->run_timeout);
        }
        if (extra->run_timeout != WP_FOREVER || extra->queue_timeout != WP_FOREVER) {
            uint64_t limit = job->deadline;
            if (extra->token != NULL && wp_token_deadline(extra->token) < limit) {
                limit = wp_token_deadline(extra->token);
            }
            /* The keeper runs and has room since submit or wp_pool_begin_here, where failing was possible. */
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
bool
wp_job_is_of_parent(const wp_job *job)
{
    return job->epoch != job->pool->epoch;
}

void
wp_job_ended(wp_job *job, wp_state outcome)
{
    if (!wp_job_is_of_parent(job)) {
        wp_limits_clear(job->pool, job);
    }
    if (wp_job_conclude(job, outcome)) {
        wp_worker_stays_away();
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

void
wp_owe(wp_job *job)
{
    wp_or_acq_rel(&job->word, WP_JOB_OWED);
}

/* In a child that the telling of the end has forked there is nothing to report. */
void
wp_job_report(wp_job *job, uint64_t count)
{
    wp_pool *pool = job->pool;
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    if (!wp_job_is_of_parent(job)) {
        wp_report_ended(pool, count, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

void
wp_job_pay(wp_job *job)
{
    wp_job_report(job, job->flags & WP_JOB_IS_RANGE ? wp_range_of(job)->owed : 1);
}

void
wp_count_run_outside(wp_job *job, wp_state outcome, uint64_t ran)
{
    wp_pool *pool = job->pool;
    wp_histogram_add(&pool->outside->lanes[job->lane].ran, ran, 1);
    wp_count_outside(pool, job, outcome, 1);
    if (!(job->flags & WP_JOB_RUNS_HERE)) {
        wp_owe(job);
    }
}

void
wp_job_end(wp_job *job, wp_state outcome, uint64_t began)
{
    wp_pool *pool = job->pool;
    uint64_t now = wp_clock();
    outcome = now >= job->deadline ? WP_TIMED_OUT : outcome;
    if (!wp_job_is_of_parent(job)) {
        wp_lock_take(&pool->lock);
        wp_count_run_outside(job, outcome, now - began);
        wp_lock_give(&pool->lock);
    }
    wp_job_finish(job, outcome, now);
}

void
wp_count_outside(wp_pool *pool, const wp_job *job, wp_state outcome, uint64_t count)
{
    wp_count(&pool->outside->lanes[job->lane].ended[outcome], count);
}

/* Takes a job that will not be claimed out of its lane, lock held; false if it was claimed already. */
bool
wp_leave_ring(wp_pool *pool, wp_job *job)
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
    if (wp_job_is_of_parent(job)) {
        wp_job_ended(job, outcome);
        wp_job_unref(job);
        return;
    }
    wp_lock_take(&pool->lock);
    bool was_waiting = wp_leave_ring(pool, job);
    wp_offer_any_room(pool, job->lane, &errands);
    if (!(job->flags & WP_JOB_IS_HAND)) {
        wp_count_outside(pool, job, outcome, 1);
        wp_owe(job);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    if (job->class->withdrawn != NULL) {
        job->class->withdrawn(job);
    }
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
            wp_range_cancel(wp_range_of(job));
        }
    } else if (wp_job_take(job, WP_EXPIRED)) {
        wp_job_withdraw(job, WP_EXPIRED);
    }
}

bool
wp_job_cancel(wp_job *job)
{
    if (job->flags & WP_JOB_IS_RANGE) {
        wp_range_cancel(wp_range_of(job));
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
        wp_range_cancel(wp_range_of(job));
        wp_job_ask_to_stop(job); /* Afterwards: a unit that began between the two would hear of neither. */
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
