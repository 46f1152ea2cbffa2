/* See wp_crew.h.
 *
 * THE STATE is one word: how many threads take part, HAND while a hand waits in the lane (or is about to), and OVER once
 * nobody will take part any more. The rules that make the end come exactly once:
 *     - Who takes part counts. A thread leaves when nothing is left to claim, or when HAND is set: then somebody will
 *       come after it.
 *     - Whoever makes the count 0 with nothing left to claim, or without HAND, sets OVER in the same step and ends the
 *       job. A hand that is cancelled takes HAND back, and ends the job if nobody takes part.
 *     - Nobody joins after OVER.
 *
 * `hand` is changed by the thread that has set HAND, and read by the one that has set OVER; each comes after the other
 * by the state word.
 */
#include "wp_internal.h"

#include <stdlib.h>

#define HAND (UINT32_C(1) << 30)
#define OVER (UINT32_C(1) << 31)
#define COUNT (HAND - 1)

/* The time that a part should take (ns): short enough for whoever waits for its end, long enough to make the claim, two
 * readings of the clock and a switch of threads cost next to nothing. */
#define PART_NS UINT64_C(100000)
/* The first part by a pace that is known (ns): it may be out of date. */
#define FIRST_PART_NS UINT64_C(10000)
/* A part that took less than this (ns) was perhaps all clock. */
#define MEASURABLE_NS 1000u
/* Parts grow by this factor at most, since short ones are measured badly. */
#define GROWTH 8u
/* Parts by time are multiples of so many elements, where they are longer: whole cache lines. */
#define ROUND 64u
/* What is left is worth another thread if it takes this long (ps): waking one costs a tenth of it. */
#define WORTH_HELP_PS 40e6
/* A worker goes on for this long (ns) while other lanes wait; then it takes its turn like the others. */
#define TURN_NS UINT64_C(1000000)
/* Towards the end each thread claims this part of its share of what is left, but never less than a part of its grain. */
#define SHARES 2u
#define SMALLEST_PART 8u

/* ---- Claiming ---- */

static uint64_t
left(wp_crew *crew)
{
    uint64_t next = wp_load_relaxed(&crew->next);
    return next < crew->n ? crew->n - next : 0;
}

static uint64_t
larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* At least 1, and whole cache lines if it is longer than that. */
static uint64_t
rounded(uint64_t size)
{
    return size > ROUND ? size - size % ROUND : larger(size, 1);
}

static uint64_t
size_of_part(wp_crew *crew, uint64_t rest)
{
    uint64_t grain = wp_load_relaxed(&crew->grain);
    uint64_t share = rest / ((uint64_t)crew->most * SHARES);
    if (!crew->grain_is_fixed && grain > share) {
        grain = rounded(larger(share, grain / SMALLEST_PART));
    }
    return wp_smaller(grain, rest);
}

static bool
claim(wp_crew *crew, uint64_t *begin, uint64_t *end)
{
    uint64_t next = wp_load_relaxed(&crew->next);
    do {
        if (next >= crew->n) {
            return false;
        }
        *end = next + size_of_part(crew, crew->n - next);
    } while (!wp_cas_weak_acq_rel(&crew->next, &next, *end));
    *begin = next;
    return true;
}

/* A part too short to be measured says only that the pace is no slower. Parts that were cut short at the end say little
 * about the size of the next. */
static void
measure(wp_crew *crew, uint64_t count, uint64_t elapsed)
{
    uint64_t pace = larger(elapsed * 1000 / count, 1);
    uint64_t known = wp_load_relaxed(&crew->pace);
    if (elapsed >= MEASURABLE_NS || known == 0 || pace < known) {
        wp_store_relaxed(&crew->pace, pace);
    }
    if (!crew->grain_is_fixed && count >= wp_load_relaxed(&crew->grain)) {
        wp_store_relaxed(&crew->grain, rounded(wp_smaller(PART_NS * 1000 / pace, count * GROWTH)));
    }
}

static bool
goes_on(wp_crew *crew, uint64_t now)
{
    const bool stopped = (wp_load_acquire(&crew->job->word) & WP_JOB_STOP) != 0 || now >= crew->job->deadline;
    return !stopped && wp_load_acquire(&crew->failed) == 0;
}

/* ---- The end ---- */

static wp_state
outcome_of(wp_crew *crew)
{
    bool stopped = (wp_load_acquire(&crew->job->word) & WP_JOB_STOP) != 0;
    if (wp_load_acquire(&crew->failed) != 0) {
        return stopped ? WP_CANCELLED : WP_FAILED; /* As with a plain job: it may have failed in order to stop. */
    }
    return left(crew) == 0 ? WP_DONE : WP_CANCELLED;
}

/* For the thread that has set OVER. A hand that still waits is taken out of its lane. */
static void
end_job(wp_crew *crew, wp_state outcome)
{
    wp_job *job = crew->job;
    wp_job *hand = crew->hand;
    crew->hand = NULL;
    if (hand != NULL) {
        wp_job_cancel(hand);
        wp_job_unref(hand);
    }
    if (crew->class->end != NULL) {
        crew->class->end(job, outcome);
    }
    wp_job_end(job, outcome, crew->began);
    wp_job_unref(job); /* The crew's, since it began. */
}

void
wp_crew_leave(wp_crew *crew)
{
    uint32_t state = wp_load_relaxed(&crew->state);
    uint32_t after;
    do {
        bool more = (state & HAND) && left(crew) > 0 && goes_on(crew, wp_clock());
        after = (state & COUNT) == 1 && !more ? OVER : state - 1;
    } while (!wp_cas_weak_acq_rel(&crew->state, &state, after));
    if (after == OVER) {
        end_job(crew, outcome_of(crew));
    }
}

/* ---- Hands ---- */

typedef struct wp_hand {
    wp_job job;
    wp_crew *crew; /* With a reference to its job. */
} wp_hand;

static wp_crew *
crew_of(const wp_job *job)
{
    return ((const wp_hand *)(const void *)job)->crew;
}

/* The hand joins in the place that was kept for it, unless all is over. */
static bool
join_as_hand(wp_crew *crew)
{
    uint32_t state = wp_load_relaxed(&crew->state);
    do {
        if (state & OVER) {
            return false;
        }
    } while (!wp_cas_weak_acq_rel(&crew->state, &state, (state & ~HAND) + 1));
    return true;
}

static wp_state
run_hand(wp_job *job, wp_worker *self)
{
    wp_crew *crew = crew_of(job);
    if (crew->class->join != NULL) {
        crew->class->join(crew->job, self);
    }
    if (join_as_hand(crew)) {
        wp_store_relaxed(&crew->had_turn, 1);
        wp_crew_work(crew, self, WP_FOREVER);
        wp_crew_leave(crew);
        const wp_job_class *class = crew->job->class;
        if (class->leave != NULL) {
            class->leave(self); /* The end of the job may have left something to it. */
        }
    }
    return WP_DONE;
}

/* The hand will not come: its lane was emptied, or the pool broke. If it was the only hope, that is the job's end. */
static void
give_up_hand(wp_crew *crew, wp_state outcome)
{
    uint32_t state = wp_load_relaxed(&crew->state);
    uint32_t after;
    do {
        after = state & OVER ? state : state == HAND ? OVER : state & ~HAND;
    } while (!wp_cas_weak_acq_rel(&crew->state, &state, after));
    if (state == HAND) {
        end_job(crew, outcome);
    }
}

static void
hand_ended(wp_job *job)
{
    wp_state outcome = wp_job_state(job);
    if (outcome != WP_DONE) {
        give_up_hand(crew_of(job), outcome);
    }
    wp_job_settle(job);
}

static void
destroy_hand(wp_job *job)
{
    wp_job_unref(crew_of(job)->job);
    free(job);
}

static void
describe_hand(const wp_job *job, char *text, size_t size)
{
    const wp_job *whole = crew_of(job)->job;
    whole->class->describe(whole, text, size);
}

static const wp_job_class hand_class = {
    .name = "part of a loop",
    .run = run_hand,
    .notify = hand_ended,
    .destroy = destroy_hand,
    .describe = describe_hand,
    .claim_ns = 20000,
};

static wp_job *
hand_new(wp_crew *crew)
{
    wp_hand *hand = malloc(sizeof *hand);
    if (hand == NULL) {
        return NULL;
    }
    wp_job_init(&hand->job, &hand_class, WP_JOB_IS_HAND, NULL);
    wp_job_ask_for_notice(&hand->job);
    wp_job_ref(crew->job);
    hand->crew = crew;
    return &hand->job;
}

/* Puts a hand in the lane, lock held. A pool that closes still takes it while it has workers: the loop was there before. */
static bool
enqueue_hand(wp_crew *crew, wp_pool *pool, wp_job *hand)
{
    uint32_t phase = wp_load_relaxed(&pool->phase);
    wp_lane *lane = &pool->lanes[hand->lane];
    wp_span span = {hand, 0, 1};
    if (phase == WP_WRECKED || (phase == WP_CLOSING && pool->n_workers == 0)) {
        return false;
    }
    hand->epoch = pool->epoch;
    bool front = wp_load_relaxed(&crew->had_turn) != 0;
    if ((front ? wp_ring_push_front(&lane->ring, span) : wp_ring_push_back(&lane->ring, span)) < 0) {
        return false;
    }
    wp_or_acq_rel(&hand->word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    lane->waiting++;
    wp_lane_refresh(pool, hand->lane);
    return true;
}

static bool
send_hand(wp_crew *crew, wp_job *hand)
{
    wp_pool *pool = crew->job->pool;
    wp_errands errands = {0};
    hand->pool = pool;
    hand->lane = crew->job->lane;
    wp_job_ref(hand); /* The pool's. */
    wp_lock_take(&pool->lock);
    bool sent = enqueue_hand(crew, pool, hand);
    if (sent) {
        wp_call_help(pool, false, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    if (!sent) {
        wp_sub_acq_rel(&hand->references, 1); /* The crew's stands, so it is not the last. */
    }
    return sent;
}

/* Calls a hand unless one waits already; whether one does now. For a thread that takes part. */
static bool
call_hand(wp_crew *crew)
{
    uint32_t state = wp_load_relaxed(&crew->state);
    do {
        if (state & HAND) {
            return true;
        }
    } while (!wp_cas_weak_acq_rel(&crew->state, &state, state | HAND));
    if (crew->hand != NULL) {
        wp_job_unref(crew->hand); /* It has joined. */
    }
    crew->hand = hand_new(crew);
    if (crew->hand != NULL && send_hand(crew, crew->hand)) {
        return true;
    }
    if (crew->hand != NULL) {
        wp_job_unref(crew->hand);
        crew->hand = NULL;
    }
    state = wp_load_relaxed(&crew->state);
    while (!wp_cas_weak_acq_rel(&crew->state, &state, state & ~HAND)) {
    }
    return false;
}

static bool
is_worth_help(wp_crew *crew)
{
    uint32_t state = wp_load_relaxed(&crew->state);
    if ((state & HAND) || (state & COUNT) >= crew->most) {
        return false;
    }
    uint64_t rest = left(crew);
    uint64_t pace = wp_load_relaxed(&crew->pace);
    if (pace == 0) {
        return rest > wp_load_relaxed(&crew->grain);
    }
    return rest > 1 && (double)rest * (double)pace >= WORTH_HELP_PS;
}

/* ---- Taking part ---- */

/* Other lanes have their turn after a while, as they would between plain jobs. */
static bool
is_wanted_elsewhere(const wp_worker *self, bool turn_is_over)
{
    return wp_worker_is_wanted(self) ||
           (turn_is_over && (wp_load_relaxed(&self->pool->ready) & ~(1u << self->lane)) != 0);
}

static bool
work(wp_crew *crew, wp_worker *self, uint64_t until)
{
    uint64_t now = wp_clock();
    uint64_t turn_ends = now + TURN_NS;
    uint64_t begin;
    uint64_t end;
    if (is_worth_help(crew)) {
        call_hand(crew);
    }
    while (goes_on(crew, now) && claim(crew, &begin, &end)) {
        if (!crew->class->part(crew->job, begin, end)) {
            wp_store_release(&crew->failed, 1);
            return false;
        }
        uint64_t then = wp_clock();
        measure(crew, end - begin, then - now);
        now = then;
        if (is_worth_help(crew)) {
            call_hand(crew);
        }
        if (self != NULL && is_wanted_elsewhere(self, now >= turn_ends) && left(crew) > 0 && call_hand(crew)) {
            return false;
        }
        if (now >= until) {
            return left(crew) > 0;
        }
    }
    return false;
}

/* A worker is known as such. */
bool
wp_crew_work(wp_crew *crew, wp_worker *self, uint64_t until)
{
    if (self != NULL) {
        return work(crew, self, until);
    }
    wp_service service;
    wp_service_begin(&service, crew->job->pool);
    bool more = work(crew, NULL, until);
    wp_service_end(&service);
    return more;
}

void
wp_crew_help(wp_crew *crew)
{
    uint32_t state;
    while ((state = wp_load_acquire(&crew->state)) == 0 && wp_job_state(crew->job) == WP_RUNNING) {
        wp_pause(); /* Another thread is just about to begin. */
    }
    do {
        if ((state & OVER) || state == 0) {
            return; /* It has ended, or not begun. */
        }
    } while (!wp_cas_weak_acq_rel(&crew->state, &state, state + 1));
    wp_crew_work(crew, NULL, WP_FOREVER);
    wp_crew_leave(crew);
}

uint64_t
wp_crew_claimed(wp_crew *crew)
{
    return wp_smaller(wp_load_acquire(&crew->next), crew->n);
}

/* ---- The beginning ---- */

void
wp_crew_init(wp_crew *crew, wp_job *job, const wp_crew_class *class, uint64_t n, uint64_t grain)
{
    *crew = (wp_crew){.job = job, .class = class, .n = n, .grain_is_fixed = grain > 0};
    wp_store_relaxed(&crew->grain, grain > 0 ? grain : 1);
}

void
wp_crew_expect(wp_crew *crew, uint64_t pace, bool is_measured)
{
    wp_store_relaxed(&crew->pace, pace);
    if (is_measured && pace > 0 && !crew->grain_is_fixed) {
        wp_store_relaxed(&crew->grain, rounded(FIRST_PART_NS * 1000 / pace));
    }
}

/* For the thread that has made the job RUNNING, the first to take part. */
static void
begin(wp_crew *crew, bool had_turn)
{
    wp_pool *pool = crew->job->pool;
    wp_lock_take(&pool->lock);
    crew->most = pool->max_workers + (wp_worker_in(pool) == NULL ? 1 : 0);
    wp_lock_give(&pool->lock);
    crew->began = wp_clock();
    wp_store_relaxed(&crew->had_turn, had_turn);
    wp_job_ref(crew->job);
    wp_store_release(&crew->state, 1);
}

wp_state
wp_crew_run(wp_crew *crew, wp_worker *self)
{
    if (crew->class->join != NULL && self != NULL) {
        crew->class->join(crew->job, self);
    }
    begin(crew, true);
    wp_crew_work(crew, self, WP_FOREVER);
    wp_crew_leave(crew);
    return WP_RUNNING;
}

enum wp_result
wp_crew_start(wp_crew *crew, wp_pool *pool, unsigned lane)
{
    enum wp_result begun = wp_pool_begin_here(pool, lane, crew->job);
    if (begun == WP_OK) {
        begin(crew, false);
    }
    return begun;
}
