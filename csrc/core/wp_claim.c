/* What a worker takes, and what becomes of the part of it that it has not begun.
 *
 * A claim takes several short jobs under one lock. They stay within reach in the worker's stretch (wp_stretch.h): an
 * idle worker takes over half of another's, more urgent work sends them back to their lane, and whoever cancels all
 * that waits recalls them first. So a job that turns out long holds up nothing that was claimed with it.
 */
#include "wp_internal.h"

#include <string.h>

/* A claim of plain jobs takes at most this part of what may wait in its lane, since what was claimed has left the line
 * that bounds it. How many units of a range are under way is for its owner to bound. */
#define CLAIMS_IN_CAPACITY 16
/* Jobs and units longer than this (ns) are worth a second thread, even if they need something that there is one of: they
 * may let go of it. */
#define LEFT_TO_ONE_NS 2000u
/* What jobs are taken to last (ns) after one of them has held up its worker: so long that each is claimed alone. */
#define STUCK_NS 1000000u

/* The lane whose turn it is: the most urgent that has work, unless one has been passed over for as long as fairness
 * allows; that may be the most urgent itself, while others have their turns. `most` is lowered to what may be claimed
 * before the next one's turn. Each of the other waiting lanes may have its turn first, hence their number is taken off
 * the allowance. */
static unsigned
next_lane(wp_pool *pool, uint32_t *most)
{
    uint32_t ready = wp_load_relaxed(&pool->ready);
    unsigned urgent = (unsigned)__builtin_ctz(ready);
    uint32_t others = ready & (ready - 1);
    uint64_t fairness = pool->config.fairness;
    if (others == 0 || fairness == 0) {
        return urgent;
    }
    uint64_t n_others = (uint64_t)__builtin_popcount(others);
    uint64_t allowance = fairness > n_others ? fairness - n_others : 1;
    unsigned starved = urgent;
    uint64_t longest = 0;
    for (uint32_t rest = ready; rest != 0; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest);
        if (pool->lanes[lane].passed >= longest) {
            longest = pool->lanes[lane].passed;
            starved = lane;
        }
    }
    if (longest >= allowance) {
        *most = 1;
        return starved;
    }
    *most = allowance - longest < *most ? (uint32_t)(allowance - longest) : *most;
    return urgent;
}

static void
note_passed(wp_pool *pool, unsigned served, uint64_t jobs)
{
    pool->lanes[served].passed = 0;
    uint32_t ready = wp_load_relaxed(&pool->ready) & ~(1u << served);
    for (; ready != 0; ready &= ready - 1) {
        pool->lanes[__builtin_ctz(ready)].passed += jobs;
    }
}

/* Whether it may turn out that a second thread is only in the way: the job needs what there is one of, it is not known to
 * be long, and nothing of another kind, which could be done meanwhile, waits with it. That jobs have to wait for what there
 * is one of makes them seem long, so it is what they usually take that counts. */
static bool
may_be_for_one(wp_lane *lane, wp_job *job)
{
    bool is_mixed = !(job->flags & WP_JOB_IS_RANGE) && lane->submitted < lane->mixed_until;
    return job->class->one_at_a_time && wp_pace_usual(wp_pace_of(lane, job)) < LEFT_TO_ONE_NS && lane->capacity > 0 &&
           !is_mixed;
}

/* The first plain job is short until a patrol finds that it is not; there is no patrol so early for units of a range. */
static bool
is_for_one(wp_lane *lane, wp_job *job)
{
    bool is_known = wp_pace_usual(wp_pace_of(lane, job)) != WP_PACE_UNKNOWN;
    return may_be_for_one(lane, job) && (is_known || !(job->flags & WP_JOB_IS_RANGE));
}

/* A fair part of what waits, so that the last jobs are spread over all workers; those that could be started are among
 * them, so whenever such a claim leaves jobs in its stretch there is work left to call another worker for. */
static uint64_t
fair_part(const wp_pool *pool, const wp_lane *lane)
{
    return (lane->waiting + pool->max_workers - 1) / pool->max_workers;
}

/* How many jobs to claim: by their pace, and no more than is fair, unless they are too little work to spread. */
static uint32_t
claim_size(const wp_pool *pool, wp_lane *lane, wp_pace *pace, wp_job *job, uint32_t most)
{
    uint32_t by_pace = wp_pace_claim(pace, job->class->claim_ns, most);
    if (is_for_one(lane, job)) {
        return by_pace;
    }
    uint32_t least = wp_pace_claim(pace, job->class->spread_ns, most);
    uint64_t fair = fair_part(pool, lane);
    fair = fair < least ? least : fair;
    return by_pace < fair ? by_pace : (uint32_t)fair;
}

static uint32_t
part_of_line(const wp_lane *lane)
{
    uint64_t part = lane->capacity / CLAIMS_IN_CAPACITY;
    return part == 0 ? 1 : part < WP_MOST_CLAIMED ? (uint32_t)part : WP_MOST_CLAIMED;
}

static uint32_t
smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The range is RUNNING from the first claim on. One that was cancelled has no spans, because both happen under the
 * lock. */
wp_span
wp_claim_units(wp_lane *lane, uint64_t ticket, uint32_t count)
{
    wp_span *span = wp_ring_at(&lane->ring, ticket);
    wp_span part = *span;
    part.end = part.begin + smaller(count, part.end - part.begin);
    if (part.end == span->end) {
        wp_ring_remove(&lane->ring, ticket);
        wp_range_of(part.job)->spans--;
    } else {
        span->begin = part.end;
    }
    lane->waiting -= part.end - part.begin;
    wp_job_take(part.job, WP_RUNNING);
    return part;
}

static uint32_t
units_to_claim(const wp_pool *pool, wp_lane *lane, const wp_span *span, uint32_t most)
{
    const wp_group *group = ((const wp_range *)(const void *)span->job)->group;
    if (group->always_most) {
        return smaller(group->most_claimed, most);
    }
    return smaller(claim_size(pool, lane, group->pace, span->job, group->most_claimed), most);
}

/* Takes plain jobs off the front of the lane, as many as one claim should have. */
static uint32_t
claim_jobs(wp_pool *pool, wp_worker *worker, wp_lane *lane, uint32_t most)
{
    wp_span *first = wp_ring_front(&lane->ring);
    uint32_t limit = smaller(claim_size(pool, lane, &lane->pace, first->job, part_of_line(lane)), most);
    uint32_t n = 0;
    while (n < limit && first != NULL && !(first->job->flags & WP_JOB_IS_RANGE)) {
        worker->claimed[n++] = *first;
        wp_ring_pop_front(&lane->ring);
        lane->waiting--;
        first = wp_ring_front(&lane->ring);
    }
    return n;
}

bool
wp_is_left_to_one(wp_lane *lane, wp_job *job)
{
    return lane->entering > 0 ? may_be_for_one(lane, job) : lane->running > lane->asleep && is_for_one(lane, job);
}

/* The one to whom plain jobs of the lane were left is stuck: they are not so short, and others may join. */
static void
end_leaving_to_one(wp_pool *pool, unsigned lane)
{
    wp_pace_raise(&pool->lanes[lane].pace, STUCK_NS);
    for (wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        worker->claims_alone &= worker->lane != lane || worker->claims_range;
    }
}

static void
join_claimers(wp_pool *pool, wp_worker *worker)
{
    worker->next_claimer = pool->claimers;
    worker->claimer_link = &pool->claimers;
    if (pool->claimers != NULL) {
        pool->claimers->claimer_link = &worker->next_claimer;
    }
    pool->claimers = worker;
}

void
wp_leave_claimers(wp_worker *worker)
{
    if (worker->claimer_link == NULL) {
        return;
    }
    *worker->claimer_link = worker->next_claimer;
    if (worker->next_claimer != NULL) {
        worker->next_claimer->claimer_link = worker->claimer_link;
    }
    worker->claimer_link = NULL;
}

wp_worker *
wp_first_claimer(wp_worker *from)
{
    while (from != NULL && wp_stretch_left(&from->stretch) == 0) {
        wp_worker *next = from->next_claimer;
        wp_leave_claimers(from);
        from = next;
    }
    return from;
}

static wp_worker *
next_claimer(const wp_worker *worker)
{
    return wp_first_claimer(worker->next_claimer);
}

/* The worker's claim is what stands in `claimed`. Of a range it holds a reference, because others may take all of its
 * units and end it before the worker has looked at it. */
static void
begin_claim(wp_pool *pool, wp_worker *worker, unsigned lane, bool of_range, uint32_t begin, uint32_t end)
{
    wp_job *first = worker->claimed[0].job;
    if (of_range) {
        wp_job_ref(first);
    } else if (worker->takes_over && wp_is_left_to_one(&pool->lanes[lane], first)) {
        end_leaving_to_one(pool, lane);
    }
    wp_stretch_set(&worker->stretch, begin, end);
    if (worker->claimer_link == NULL) {
        join_claimers(pool, worker);
    }
    worker->lane = lane;
    worker->has_claim = true;
    worker->claims_range = of_range;
    worker->claims_alone = is_for_one(&pool->lanes[lane], first);
    worker->is_entering = first->class->one_at_a_time;
    pool->lanes[lane].entering += worker->is_entering;
    worker->may_come_back = !pool->config.may_linger && pool->n_workers < pool->max_workers;
    worker->took_all = pool->lanes[lane].waiting == 0;
    worker->looks = 0;
    worker->takes_over = false;
    pool->claims++;
    pool->lanes[lane].running++;
    wp_lane_refresh(pool, lane);
}

bool
wp_claim(wp_pool *pool, wp_worker *worker)
{
    uint32_t ready = wp_load_relaxed(&pool->ready);
    if (ready == 0) {
        return false;
    }
    uint32_t most = UINT32_MAX;
    unsigned index = next_lane(pool, &most);
    wp_lane *lane = &pool->lanes[index];
    const wp_span *first = wp_ring_front(&lane->ring);
    bool only_lane = (ready & (ready - 1)) == 0;
    if (only_lane && !worker->takes_over && wp_is_left_to_one(lane, first->job)) {
        return false;
    }
    pool->served |= 1u << index;
    if (first->job->flags & WP_JOB_IS_RANGE) {
        wp_span part = wp_claim_units(lane, lane->ring.head, units_to_claim(pool, lane, first, most));
        worker->claimed[0] = part;
        note_passed(pool, index, part.end - part.begin);
        begin_claim(pool, worker, index, true, part.begin, part.end);
    } else {
        uint32_t n = claim_jobs(pool, worker, lane, most);
        note_passed(pool, index, n);
        begin_claim(pool, worker, index, false, 0, n);
    }
    return true;
}

/* ---- What was claimed and not begun ---- */

/* Takes over half of what another worker has not begun. */
static bool
take_over(wp_pool *pool, wp_worker *self, wp_worker *other)
{
    uint32_t left = wp_stretch_left(&other->stretch);
    const wp_lane *lane = &pool->lanes[other->lane];
    uint32_t begin;
    uint32_t end;
    if (left == 0 || lane->running >= lane->max_running || (other->claims_alone && !self->takes_over) ||
        !wp_stretch_take_end(&other->stretch, (left + 1) / 2, &begin, &end)) {
        return false;
    }
    if (other->claims_range) {
        self->claimed[0] = other->claimed[0];
        begin_claim(pool, self, other->lane, true, begin, end);
    } else {
        memcpy(self->claimed, other->claimed + begin, (end - begin) * sizeof(wp_span));
        begin_claim(pool, self, other->lane, false, 0, end - begin);
    }
    return true;
}

static bool
take_over_from_helper(wp_pool *pool, wp_worker *self, wp_helper *helper)
{
    uint32_t left = wp_stretch_left(&helper->stretch);
    wp_job *range = helper->range;
    wp_lane *lane = &pool->lanes[range->lane];
    uint32_t begin;
    uint32_t end;
    if (left == 0 || lane->running >= lane->max_running || (!self->takes_over && is_for_one(lane, range)) ||
        !wp_stretch_take_end(&helper->stretch, (left + 1) / 2, &begin, &end)) {
        return false;
    }
    self->claimed[0].job = range;
    begin_claim(pool, self, range->lane, true, begin, end);
    return true;
}

bool
wp_claim_from_others(wp_pool *pool, wp_worker *self)
{
    for (wp_worker *other = wp_first_claimer(pool->claimers); other != NULL; other = next_claimer(other)) {
        if (other != self && take_over(pool, self, other)) {
            return true;
        }
    }
    wp_helper *helper = pool->helpers;
    while (helper != NULL && !take_over_from_helper(pool, self, helper)) {
        helper = helper->next;
    }
    return helper != NULL;
}

bool
wp_claims_hide_any(const wp_pool *pool, const wp_worker *but)
{
    const wp_worker *worker = wp_first_claimer(pool->claimers);
    if (worker != NULL && worker == but) {
        worker = next_claimer(worker);
    }
    wp_helper *helper = pool->helpers;
    while (helper != NULL && wp_stretch_left(&helper->stretch) == 0) {
        helper = helper->next;
    }
    return worker != NULL || helper != NULL;
}

uint64_t
wp_claims_hidden(const wp_pool *pool, unsigned lane)
{
    uint64_t hidden = 0;
    for (wp_worker *worker = wp_first_claimer(pool->claimers); worker != NULL; worker = next_claimer(worker)) {
        hidden += worker->lane == lane ? wp_stretch_left(&worker->stretch) : 0;
    }
    for (wp_helper *helper = pool->helpers; helper != NULL; helper = helper->next) {
        hidden += helper->range->lane == lane ? wp_stretch_left(&helper->stretch) : 0;
    }
    return hidden;
}

uint32_t
wp_claims_take_units(const wp_pool *pool, wp_job *range, wp_span *taken, uint32_t most)
{
    uint32_t n = 0;
    wp_worker *worker = wp_first_claimer(pool->claimers);
    for (; worker != NULL && n < most; worker = next_claimer(worker)) {
        wp_span part = {.job = range};
        if (worker->claims_range && worker->claimed[0].job == range &&
            wp_stretch_take_end(&worker->stretch, UINT32_MAX, &part.begin, &part.end)) {
            taken[n++] = part;
        }
    }
    for (wp_helper *helper = pool->helpers; helper != NULL && n < most; helper = helper->next) {
        wp_span part = {.job = range};
        if (helper->range == range && wp_stretch_take_end(&helper->stretch, UINT32_MAX, &part.begin, &part.end)) {
            taken[n++] = part;
        }
    }
    return n;
}

/* Plain jobs that another has moved out of PENDING since they were claimed: they are no more of the lane's, and are let
 * go of when the lock has been given back. */
typedef struct left_over {
    wp_job *jobs[WP_MOST_CLAIMED];
    size_t n;
} left_over;

static void
put_back_jobs(wp_pool *pool, wp_worker *worker, uint32_t begin, uint32_t end, left_over *dead)
{
    wp_lane *lane = &pool->lanes[worker->lane];
    for (uint32_t i = end; i-- > begin;) {
        const wp_span span = worker->claimed[i];
        if (wp_job_state(span.job) == WP_PENDING) {
            wp_ring_push_front(&lane->ring, span); /* Cannot fail: room was reserved. */
            lane->waiting++;
        } else {
            dead->jobs[dead->n++] = span.job;
        }
    }
}

static void
put_back_units(wp_pool *pool, wp_span part)
{
    wp_lane *lane = &pool->lanes[part.job->lane];
    wp_ring_push_front(&lane->ring, part); /* As above. */
    wp_range_of(part.job)->spans++;
    lane->waiting += part.end - part.begin;
}

/* Takes all of a stretch, to be put back to the front of its lane, lock held; false if there is nothing, or no memory. */
static bool
take_to_put_back(wp_pool *pool, unsigned lane, wp_stretch *stretch, wp_span *part)
{
    return wp_stretch_left(stretch) > 0 && wp_ring_reserve(&pool->lanes[lane].ring, WP_MOST_CLAIMED) == 0 &&
           wp_stretch_take_end(stretch, UINT32_MAX, &part->begin, &part->end);
}

/* Puts what the worker has not begun back to the front of its lane, lock held. Without memory it stays where it is. */
static bool
put_back(wp_pool *pool, wp_worker *worker, left_over *dead)
{
    wp_span part = {.job = worker->claimed[0].job};
    if (!take_to_put_back(pool, worker->lane, &worker->stretch, &part)) {
        return false;
    }
    if (worker->claims_range) {
        put_back_units(pool, part);
    } else {
        put_back_jobs(pool, worker, part.begin, part.end, dead);
    }
    wp_lane_refresh(pool, worker->lane);
    return true;
}

bool
wp_helper_put_back(wp_pool *pool, wp_helper *helper)
{
    wp_span part = {.job = helper->range};
    if (!take_to_put_back(pool, helper->range->lane, &helper->stretch, &part)) {
        return false;
    }
    put_back_units(pool, part);
    wp_lane_refresh(pool, helper->range->lane);
    return true;
}

static void
let_go(const left_over *dead)
{
    for (size_t i = 0; i < dead->n; i++) {
        wp_job_unref(dead->jobs[i]);
    }
}

void
wp_claim_give_back(wp_worker *worker)
{
    wp_pool *pool = worker->pool;
    wp_errands errands = {0};
    left_over dead = {.n = 0};
    wp_lock_take(&pool->lock);
    put_back(pool, worker, &dead);
    wp_call_help(pool, false, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    let_go(&dead);
}

/* Puts back what one worker or helper has of the lane, lock held. */
static bool
put_back_one(wp_pool *pool, unsigned lane, left_over *dead)
{
    wp_worker *worker = pool->workers;
    while (worker != NULL && !(worker->lane == lane && put_back(pool, worker, dead))) {
        worker = worker->next_worker;
    }
    wp_helper *helper = worker == NULL ? pool->helpers : NULL;
    while (helper != NULL && !(helper->range->lane == lane && wp_helper_put_back(pool, helper))) {
        helper = helper->next;
    }
    return worker != NULL || helper != NULL;
}

/* Others may claim again meanwhile, so there is an end to it: as many claims as there were workers at most. */
void
wp_claims_fetch(wp_pool *pool, unsigned lane)
{
    bool found = true;
    for (uint32_t most = UINT32_MAX; found && most > 0; most--) {
        wp_errands errands = {0};
        left_over dead = {.n = 0};
        wp_lock_take(&pool->lock);
        most = most < pool->n_threads ? most : pool->n_threads + 1;
        found = put_back_one(pool, lane, &dead);
        if (found) {
            wp_call_help(pool, false, &errands);
        }
        wp_give_lock_and_run(pool, &errands);
        let_go(&dead);
    }
}

void
wp_claims_recall(wp_pool *pool)
{
    bool found = true;
    while (found) {
        left_over dead = {.n = 0};
        found = false;
        wp_lock_take(&pool->lock);
        wp_worker *worker = wp_first_claimer(pool->claimers);
        for (; worker != NULL && !found; worker = next_claimer(worker)) {
            found = put_back(pool, worker, &dead);
        }
        for (wp_helper *helper = pool->helpers; helper != NULL && !found; helper = helper->next) {
            found = wp_helper_put_back(pool, helper);
        }
        wp_lock_give(&pool->lock);
        let_go(&dead);
    }
}
