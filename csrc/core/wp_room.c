/* Back-pressure: whether a lane has room, and who sleeps until it has. */
#include "wp_internal.h"

/* Room for jobs that take so long together (ns) is worth waking a submitter for: a wake-up costs a few microseconds. */
#define WORTH_WAKING_NS 1000000u

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

uint64_t
wp_room_by_workers(const wp_pool *pool, const wp_lane *lane)
{
    uint64_t workers = free_workers(pool);
    uint64_t allowed = difference(difference(lane->max_running, lane->running), lane->waiting);
    return workers < allowed ? workers : allowed;
}

/* Sleepers are woken when half of the line is free, or fewer places that are worth a wake-up by the time that the jobs
 * take: so a producer that was held up by short jobs comes back to room for many. Not latched: as long as somebody
 * sleeps, each claim below the mark wakes again. */
static bool
is_enough(wp_lane *lane, uint64_t room)
{
    const wp_span *first = wp_ring_front(&lane->ring);
    uint32_t mean = wp_pace_mean(first != NULL ? wp_pace_of(lane, first->job) : &lane->pace);
    return lane->waiting <= lane->capacity / 2 || mean == WP_PACE_UNKNOWN || room >= WORTH_WAKING_NS / mean;
}

static void
offer_in_lane(wp_pool *pool, unsigned lane, bool any, wp_errands *errands)
{
    wp_lane *l = &pool->lanes[lane];
    uint64_t room = l->blocked > 0 ? wp_room_in(pool, l) : 0;
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

enum wp_result
wp_phase_result(const wp_pool *pool)
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
    enum wp_result result = wp_phase_result(pool);
    if (result == WP_OK && wp_room_in(pool, &pool->lanes[lane]) == 0) {
        result = WP_FULL;
    }
    return result;
}

enum wp_result
wp_pool_look_for_room(wp_pool *pool, unsigned lane)
{
    wp_lock_take(&pool->lock);
    enum wp_result result = look_for_room(pool, lane);
    wp_lock_give(&pool->lock);
    return result;
}

/* What sleep_for_room needs to know. */
typedef struct lane_place {
    wp_pool *pool;
    unsigned lane;
} lane_place;

static enum wp_result
sleep_for_room(void *context, uint32_t seen, uint64_t deadline)
{
    const lane_place *place = context;
    wp_pool *pool = place->pool;
    unsigned lane = place->lane;
    wp_lane *l = &pool->lanes[lane];
    wp_lock_take(&pool->lock);
    enum wp_result result = look_for_room(pool, lane);
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

#define CLOSABLES (sizeof(((wp_until *)NULL)->closables) / sizeof(wp_closable *))

/* WP_FULL as long as nothing has ended the wait. */
static enum wp_result
look_for_end(const wp_until *until)
{
    if (until->token != NULL && wp_token_is_cancelled(until->token)) {
        return WP_STOPPED;
    }
    for (size_t i = 0; i < CLOSABLES; i++) {
        if (until->closables[i] != NULL && wp_closable_is_closed(until->closables[i])) {
            return WP_CLOSED;
        }
    }
    return WP_FULL;
}

/* The word is read first: whatever ends the wait later changes it. */
static enum wp_result
wait_watched(wp_word *room, const wp_until *until, wp_room_sleep *sleep, void *context)
{
    uint64_t deadline = until->deadline;
    if (until->token != NULL && wp_token_deadline(until->token) < deadline) {
        deadline = wp_token_deadline(until->token);
    }
    enum wp_result result = WP_FULL;
    while (result == WP_FULL) {
        uint32_t seen = wp_load_acquire(room);
        enum wp_result ended = look_for_end(until);
        if (ended == WP_FULL) {
            result = sleep(context, seen, deadline);
            ended = look_for_end(until);
        }
        result = ended != WP_FULL ? ended : result;
    }
    return result;
}

/* Hangs the sleeper on all of the closables, or on none; how many of them. */
static size_t
watch_closables(const wp_until *until, wp_sleeper *sleepers, wp_word *room)
{
    size_t n = 0;
    while (n < CLOSABLES &&
           (until->closables[n] == NULL || wp_closable_watch(until->closables[n], &sleepers[n], room))) {
        n++;
    }
    return n;
}

enum wp_result
wp_wait_for_room(wp_word *room, const wp_until *until, wp_room_sleep *sleep, void *context)
{
    wp_watch watch = {.wake = room};
    wp_claim_leave(wp_worker_self());
    wp_sleeper sleepers[CLOSABLES];
    if (until->token != NULL && (wp_token_is_cancelled(until->token) || !wp_watch_start(&watch, until->token))) {
        return WP_STOPPED;
    }
    size_t n = watch_closables(until, sleepers, room);
    enum wp_result result = n == CLOSABLES ? wait_watched(room, until, sleep, context) : WP_CLOSED;
    while (n > 0) {
        n--;
        if (until->closables[n] != NULL) {
            wp_closable_leave(until->closables[n], &sleepers[n]);
        }
    }
    if (until->token != NULL) {
        wp_watch_stop(&watch, until->token);
    }
    return result;
}

enum wp_result
wp_pool_wait_room_until(wp_pool *pool, unsigned lane, const wp_until *until)
{
    lane_place place = {pool, lane};
    enum wp_result result = wp_wait_for_room(&pool->lanes[lane].room, until, sleep_for_room, &place);
    if (result != WP_OK) {
        /* A wake-up that was meant for this thread must not be lost with it. */
        wp_pool_pass_room(pool, lane);
    }
    return result;
}

enum wp_result
wp_pool_wait_room(wp_pool *pool, unsigned lane, wp_token *token, uint64_t deadline)
{
    wp_until until = {.deadline = deadline, .token = token};
    return wp_pool_wait_room_until(pool, lane, &until);
}
