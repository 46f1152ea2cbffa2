/* See wp_range.h. */
#include "wp_internal.h"

#include <stdlib.h>

/* ---- Groups ---- */

wp_group *
wp_group_new(wp_pace *pace, uint32_t most_claimed, bool always_most)
{
    wp_group *group = calloc(1, sizeof *group);
    if (group != NULL) {
        wp_store_relaxed(&group->references, 1);
        group->pace = pace != NULL ? pace : &group->own_pace;
        group->most_claimed = most_claimed;
        group->always_most = always_most;
    }
    return group;
}

void
wp_group_ref(wp_group *group)
{
    wp_add_relaxed(&group->references, 1);
}

void
wp_group_unref(wp_group *group)
{
    if (wp_sub_acq_rel(&group->references, 1) == 1) {
        free(group);
    }
}

/* The listener announces itself and then looks for progress; who makes progress writes it and then looks for listeners.
 * Each does both on `listeners` and on its own data in that order, and the additions are all on one word, so whichever
 * comes second sees the first. */
uint32_t
wp_group_listen(wp_group *group)
{
    wp_add_acq_rel(&group->listeners, 1);
    return wp_load_acquire(&group->progress);
}

uint32_t
wp_group_progress(wp_group *group)
{
    return wp_load_acquire(&group->progress);
}

enum wp_wait_result
wp_group_sleep(wp_group *group, uint32_t seen, uint64_t deadline)
{
    return wp_word_wait(&group->progress, seen, deadline);
}

void
wp_group_ignore(wp_group *group)
{
    wp_sub_acq_rel(&group->listeners, 1);
}

void
wp_group_tell(wp_group *group)
{
    if (wp_add_acq_rel(&group->listeners, 0) > 0) {
        wp_add_acq_rel(&group->progress, 1);
        wp_word_wake(&group->progress, WP_WAKE_ALL);
    }
}

/* ---- Ranges ---- */

void
wp_range_init(wp_range *range, const wp_job_class *class, uint32_t units, wp_group *group, wp_extra *extra)
{
    wp_job_init(&range->job, class, WP_JOB_IS_RANGE, extra);
    range->units = units;
    wp_store_relaxed(&range->open, units);
    wp_group_ref(group);
    range->group = group;
    range->spans = 0;
    range->given_up = false;
    wp_store_relaxed(&range->untold, 0);
    range->owed = 0;
}

/* The last unit is done or given up. The pool's reference goes with it. Units that were given up are counted after that
 * was noted, so it is seen here. */
static void
range_ended(wp_range *range)
{
    wp_job_ended(&range->job, range->given_up ? WP_CANCELLED : WP_DONE);
    wp_job_unref(&range->job);
}

/* Units that ended outside of a worker's claim are closed; whether they were the last. If so the pool hears of them from
 * who settles the range, else from the caller: then others are still open. */
static bool
close_last(wp_range *range, uint32_t units)
{
    if (wp_sub_acq_rel(&range->open, units) != units) {
        return false;
    }
    if (!wp_job_is_of_parent(&range->job)) {
        range->owed = units;
        wp_owe(&range->job);
    }
    return true;
}

void
wp_range_done(wp_range *range, uint32_t units)
{
    wp_group *group = range->group;
    wp_group_ref(group); /* The range may be gone once its units are counted. */
    if (wp_sub_acq_rel(&range->open, units) == units) {
        range_ended(range);
    }
    wp_group_tell(group);
    wp_group_unref(group);
}

/* The position of one of the range's spans, of which it has some; lock held. A range of which parts were put back has
 * spans beside the one that its ticket names. */
static uint64_t
find_span(const wp_range *range, wp_lane *lane)
{
    uint64_t ticket = range->job.ticket;
    return ticket != WP_NO_TICKET ? ticket : wp_ring_find(&lane->ring, &range->job);
}

/* ---- Running units here ---- */

static void
join_helpers(wp_pool *pool, wp_helper *helper)
{
    helper->next = pool->helpers;
    helper->link = &pool->helpers;
    if (helper->next != NULL) {
        helper->next->link = &helper->next;
    }
    pool->helpers = helper;
}

static void
leave_helpers(wp_helper *helper)
{
    *helper->link = helper->next;
    if (helper->next != NULL) {
        helper->next->link = helper->link;
    }
}

/* Claims what is left of one of the spans of the range that is found, up to `most` units, with a reference to it; false if
 * none waits. */
static bool
claim_here(wp_helper *helper, wp_pool *pool, wp_find_range *find, void *context, uint32_t most)
{
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    wp_range *range = find(context);
    bool found = range != NULL && range->spans > 0 && !wp_job_is_of_parent(&range->job);
    if (found) {
        wp_job *job = helper->range = &range->job;
        wp_lane *lane = &pool->lanes[job->lane];
        wp_job_ref(job);
        wp_note_taken_here(pool, job);
        job->ticket = find_span(range, lane);
        wp_span part = wp_claim_units(lane, job->ticket, most);
        wp_stretch_set(&helper->stretch, part.begin, part.end);
        join_helpers(pool, helper);
        wp_lane_refresh(pool, job->lane);
        if (part.end - part.begin > 1 && wp_worker_in(pool) != NULL) {
            wp_call_help(pool, true, &errands); /* The first may turn out long. */
        }
        wp_offer_room(pool, job->lane, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    return found;
}

/* Counts the units that were done, some or none, since `begin`, and puts back what was left, which turned out long.
 * Returns whether that failed for want of memory: then they are still this thread's. In a child that a unit has forked
 * they count nowhere and are nobody's. `last`: whether the range has none left, so that its end is to be told. */
static bool
report_here(wp_helper *helper, uint64_t begin, uint32_t done, bool *last)
{
    wp_job *job = helper->range;
    wp_pool *pool = job->pool;
    wp_group *group = wp_range_of(job)->group;
    wp_errands errands = {0};
    bool left = false;
    uint64_t elapsed = wp_clock() - begin;
    if (done > 0 && !group->class_measures) {
        wp_pace_note(group->pace, elapsed, done);
    }
    wp_lock_take(&pool->lock);
    *last = done > 0 && close_last(wp_range_of(job), done);
    if (!wp_job_is_of_parent(job)) {
        wp_lane_tally *tally = &pool->outside->lanes[job->lane];
        wp_count(&tally->ended[WP_DONE], done);
        wp_histogram_add(&tally->ran, done > 0 ? elapsed / done : 0, done);
        wp_report_ended(pool, *last ? 0 : done, &errands);
        if (wp_stretch_left(&helper->stretch) > 0) {
            left = !wp_helper_put_back(pool, helper);
            wp_call_help(pool, false, &errands);
        }
        if (!left) {
            leave_helpers(helper);
        }
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    return left;
}

/* Runs what was claimed; returns how many units. */
static uint32_t
run_claimed(wp_helper *helper)
{
    wp_job *job = helper->range;
    uint32_t done = 0;
    bool goes_on = true;
    while (goes_on) {
        uint64_t begin = wp_clock();
        uint32_t more = job->class->run_range(job, &helper->stretch, NULL);
        bool last;
        goes_on = report_here(helper, begin, more, &last);
        done += more;
        if (last) {
            range_ended(wp_range_of(job));
        }
        if (more > 0) {
            wp_group_tell(wp_range_of(job)->group); /* The helper's reference keeps the range. */
        }
    }
    return done;
}

uint32_t
wp_range_run_found_here(wp_pool *pool, unsigned lane, wp_find_range *find, void *context, uint32_t most)
{
    wp_worker *self = wp_worker_in(pool);
    wp_helper helper = {.range = NULL};
    uint32_t done = 0;
    bool is_guest = false;
    if (!wp_may_run_here(pool, lane, self, &is_guest)) {
        return 0;
    }
    if (claim_here(&helper, pool, find, context, most)) {
        wp_job *outer = self != NULL ? wp_worker_set_current(self, helper.range) : NULL;
        wp_service service;
        wp_service_begin(&service, pool);
        done = run_claimed(&helper);
        wp_service_end(&service);
        if (self != NULL) {
            wp_worker_set_current(self, outer);
        }
        wp_job_unref(helper.range);
    }
    if (is_guest) {
        wp_leave_as_guest(pool, lane, self);
    }
    return done;
}

static wp_range *
itself(void *range)
{
    return range;
}

uint32_t
wp_range_run_here(wp_range *range, uint32_t most)
{
    return wp_range_run_found_here(range->job.pool, range->job.lane, itself, range, most);
}

/* ---- Giving up ---- */

/* Spans that are given up under one lock. Few ranges have more. */
#define GIVEN_UP_AT_ONCE 16u

/* Takes spans of units not begun, up to GIVEN_UP_AT_ONCE, out of the lane and out of claims, lock held; returns how
 * many. */
static uint32_t
take_back(wp_range *range, wp_span *spans)
{
    wp_pool *pool = range->job.pool;
    wp_lane *lane = &pool->lanes[range->job.lane];
    uint32_t n = 0;
    while (range->spans > 0 && n < GIVEN_UP_AT_ONCE) {
        uint64_t ticket = find_span(range, lane);
        spans[n] = *wp_ring_at(&lane->ring, ticket);
        lane->waiting -= spans[n].end - spans[n].begin;
        wp_ring_remove(&lane->ring, ticket);
        range->spans--;
        n++;
    }
    return n + wp_claims_take_units(pool, &range->job, spans + n, GIVEN_UP_AT_ONCE - n);
}

/* Gives up one such handful; returns how many units that were. They are counted before the class is told. */
static uint32_t
give_up(wp_range *range, uint32_t *n)
{
    wp_job *job = &range->job;
    wp_pool *pool = job->pool;
    wp_span spans[GIVEN_UP_AT_ONCE];
    wp_errands errands = {0};
    uint32_t units = 0;
    wp_lock_take(&pool->lock);
    *n = wp_job_is_of_parent(job) ? 0 : take_back(range, spans);
    for (uint32_t i = 0; i < *n; i++) {
        units += spans[i].end - spans[i].begin;
    }
    if (*n > 0) {
        range->given_up = true;
        wp_add_acq_rel(&range->untold, units);
        wp_count(&pool->outside->lanes[job->lane].ended[WP_CANCELLED], units);
        wp_lane_refresh(pool, job->lane);
        wp_offer_any_room(pool, job->lane, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    for (uint32_t i = 0; i < *n && job->class->given_up != NULL; i++) {
        job->class->given_up(job, spans[i].begin, spans[i].end);
    }
    return units;
}

/* Units were given up, and their class was told. Called with a reference to the range. */
static void
end_given_up(wp_range *range, uint32_t units)
{
    if (close_last(range, units)) {
        range_ended(range);
    } else {
        wp_job_report(&range->job, units);
    }
    wp_sub_acq_rel(&range->untold, units);
    wp_group_tell(range->group);
}

uint32_t
wp_range_cancel(wp_range *range)
{
    uint32_t units = 0;
    uint32_t n;
    do {
        units += give_up(range, &n);
    } while (n == GIVEN_UP_AT_ONCE);
    if (units > 0) {
        end_given_up(range, units);
    }
    return units;
}
