/* A worker that found nothing to do: it is listed as idle and sleeps until it is called, looks in from time to time by
 * itself (a patrol, see wp_internal.h), or leaves.
 *
 * All here holds the pool's lock but while it sleeps. A worker goes to sleep by putting itself on the idle list under the
 * same lock under which it saw that there is no work; whoever brings work takes it off the list under that lock and then
 * sets its signal. So between "no work" and "asleep" no call can be lost.
 */
#include "wp_internal.h"

/* A worker that serves a stream looks in after so long (ns), at first. */
#define PATROL_NS 50000u
#define LONGEST_PATROL_NS 400000u
/* So does one that leaves work to another: units of a range, of which there may be a millisecond in a claim, or plain
 * jobs, of which there are few. */
#define STANDING_BACK_NS 2000000u
#define STANDING_BACK_BRIEFLY_NS 100000u
/* Patrols that look so soon (ns) one after the other share one look: what has not moved since need not be stuck. */
#define SAME_LOOK_NS 20000u
/* A claim of short jobs is over after so many looks, or they are not so short. */
#define LOOKS_AT_CLAIM 4u

/* How long to leave work to others before looking whether they do it (ns), lock held; WP_FOREVER if there is none. For who
 * found nothing to claim: what waits, or was claimed and not begun, is left to another. */
static uint64_t
time_to_stand_back(wp_pool *pool)
{
    uint32_t ready = wp_load_relaxed(&pool->ready);
    if (ready != 0) {
        const wp_span *first = wp_ring_front(&pool->lanes[__builtin_ctz(ready)].ring);
        return first->job->flags & WP_JOB_IS_RANGE ? STANDING_BACK_NS : STANDING_BACK_BRIEFLY_NS;
    }
    const wp_worker *worker = wp_first_claimer(pool->claimers);
    while (worker != NULL && !worker->claims_alone) {
        worker = wp_first_claimer(worker->next_claimer);
    }
    if (worker != NULL) {
        return worker->claims_range ? STANDING_BACK_NS : STANDING_BACK_BRIEFLY_NS;
    }
    wp_helper *helper = pool->helpers;
    while (helper != NULL && !(helper->range->class->one_at_a_time && wp_stretch_left(&helper->stretch) > 0)) {
        helper = helper->next;
    }
    return helper == NULL ? WP_FOREVER : STANDING_BACK_NS;
}

static bool
is_closing(const wp_pool *pool)
{
    return wp_load_relaxed(&pool->phase) != WP_OPEN;
}

bool
wp_worker_should_leave(wp_pool *pool)
{
    return wp_has_surplus(pool) || (is_closing(pool) && time_to_stand_back(pool) == WP_FOREVER);
}

static void
join_idle_list(wp_pool *pool, wp_worker *self)
{
    wp_store_relaxed(&self->signal, 0);
    self->previous_idle = NULL;
    self->next_idle = pool->idle;
    if (pool->idle != NULL) {
        pool->idle->previous_idle = self;
    }
    pool->idle = self;
    self->is_idle = true;
    pool->n_idle++;
}

/* A free worker is room for lanes that have no waiting line. */
static void
offer_self(wp_pool *pool, wp_errands *errands)
{
    for (unsigned lane = 0; lane < pool->config.n_lanes; lane++) {
        if (pool->lanes[lane].capacity == 0) {
            wp_offer_room(pool, lane, errands); /* And with it to all others of this kind. */
            return;
        }
    }
}

/* It was called just as its time was over: whoever called it is about to set its signal, so it must stay until that is
 * done, and not take the signal for a later call. Lock held before and after. */
static void
await_signal(wp_pool *pool, wp_worker *self)
{
    wp_lock_give(&pool->lock);
    while (wp_load_acquire(&self->signal) == 0) {
        wp_word_wait(&self->signal, 0, WP_FOREVER);
    }
    wp_lock_take(&pool->lock);
}

/* Sleeps until its signal is set or the time (ns) is over; returns whether that came first. Lock held before and after. */
static bool
sleep_for(wp_pool *pool, wp_worker *self, uint64_t time)
{
    wp_lock_give(&pool->lock);
    uint64_t deadline = wp_later(wp_clock(), time);
    enum wp_wait_result waited = WP_WAIT_WOKEN;
    while (wp_load_acquire(&self->signal) == 0 && waited != WP_WAIT_TIMED_OUT) {
        waited = wp_word_wait(&self->signal, 0, deadline);
    }
    wp_lock_take(&pool->lock);
    return waited == WP_WAIT_TIMED_OUT;
}

/* What a patrol sees of a stretch: nothing begun since the last look, though there is something; or something; or that
 * nothing was left then. */
typedef enum sight {
    STUCK,
    MOVED,
    EMPTY,
} sight;

static sight
look_at(wp_stretch *stretch, uint64_t *bounds_seen)
{
    uint64_t bounds = wp_load_relaxed(&stretch->bounds);
    bool moved = bounds != *bounds_seen;
    *bounds_seen = bounds;
    return moved ? MOVED : wp_stretch_left(stretch) > 0 ? STUCK : EMPTY;
}

/* Whether the worker waits to enter for jobs for which another would only wait as well. */
static bool
waits_for_all(const wp_worker *worker)
{
    return worker->is_entering && worker->claims_alone;
}

/* What a patrol sees of all that was claimed: whether anything is stuck, and the lanes whose jobs are left to one who gets
 * on with them, or waits to. */
typedef struct scene {
    bool is_stuck;
    uint32_t attended;
} scene;

static scene
look_around(const wp_pool *pool)
{
    scene s = {false, 0};
    for (wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        sight seen = look_at(&worker->stretch, &worker->bounds_seen);
        bool waits = waits_for_all(worker);
        s.is_stuck |= seen == STUCK && !waits;
        bool gets_on = seen == MOVED && worker->claims_alone && worker->looks++ < LOOKS_AT_CLAIM;
        s.attended |= waits || gets_on ? 1u << worker->lane : 0;
    }
    for (wp_helper *helper = pool->helpers; helper != NULL; helper = helper->next) {
        s.is_stuck |= look_at(&helper->stretch, &helper->bounds_seen) == STUCK;
    }
    return s;
}

static bool
is_attended(wp_pool *pool, unsigned index, uint32_t attended)
{
    wp_lane *lane = &pool->lanes[index];
    return (lane->entering > 0 || (attended >> index & 1) != 0) && wp_front_is_left_to_one(lane);
}

/* Whether each lane that has work was served since the last look, or has jobs that are left to one who attends to them.
 * Else somebody waits whom nobody looks after. */
static bool
are_all_served(wp_pool *pool, uint32_t attended)
{
    uint32_t left = wp_load_relaxed(&pool->ready) & ~pool->served;
    pool->served = 0;
    while (left != 0 && is_attended(pool, (unsigned)__builtin_ctz(left), attended)) {
        left &= left - 1;
    }
    return left == 0;
}

/* Whether others keep taking what comes, so that one more is not needed. `claims`: how many there were at the last look. */
static bool
others_keep_up(wp_pool *pool, uint64_t claims)
{
    uint64_t now = wp_clock();
    if (now - pool->looked_at < SAME_LOOK_NS) {
        return true; /* All was well then, or who looked took over. */
    }
    pool->looked_at = now;
    scene s = look_around(pool);
    bool all_served = are_all_served(pool, s.attended);
    return !s.is_stuck && (pool->claims != claims || s.attended != 0) && all_served;
}

/* The first of several patrols compares with what there is now, lock held. */
static void
begin_patrol(wp_pool *pool)
{
    if (pool->patrols++ == 0) {
        look_around(pool);
        pool->served = 0;
        pool->looked_at = wp_clock();
    }
}

/* Looks in after `interval` ns, and again as long as others keep taking what comes, less and less often; returns as
 * sleep_for. `*superfluous`: they do, there are other patrols for each processor, and the pool is not about to close: then
 * nobody would call it any more. Lock held before and after. */
static bool
patrol(wp_pool *pool, wp_worker *self, uint64_t interval, bool *superfluous)
{
    bool stands_back = interval >= STANDING_BACK_BRIEFLY_NS;
    uint64_t claims;
    bool over;
    begin_patrol(pool);
    do {
        claims = pool->claims;
        over = sleep_for(pool, self, interval);
        interval = interval < LONGEST_PATROL_NS && !stands_back ? interval * 2 : interval;
        *superfluous = over && self->is_idle && others_keep_up(pool, claims);
    } while (*superfluous && (pool->patrols <= pool->processors || is_closing(pool)));
    pool->patrols--;
    self->takes_over = over && !*superfluous;
    return over;
}

/* For how long to sleep at first (ns) before looking in, or WP_FOREVER. Lock held. */
static uint64_t
time_to_patrol(wp_pool *pool, bool serves_stream)
{
    uint64_t standing_back = time_to_stand_back(pool);
    uint64_t interval = serves_stream && PATROL_NS < pool->config.idle_timeout ? PATROL_NS : WP_FOREVER;
    return standing_back != WP_FOREVER ? standing_back : interval;
}

/* On the idle list until it is called, or takes itself off it to look after work. Returns false if nobody called for
 * idle_timeout. Lock held before and after. */
static bool
stay_idle(wp_pool *pool, wp_worker *self, uint64_t interval)
{
    bool sleeps = interval == WP_FOREVER;
    bool over = !sleeps && patrol(pool, self, interval, &sleeps);
    if (sleeps) {
        over = sleep_for(pool, self, pool->config.idle_timeout);
    }
    if (self->is_idle) {
        wp_leave_idle_list(pool, self);
        /* Work that another was called for: better do it than leave. */
        return !sleeps || wp_load_relaxed(&pool->ready) != 0;
    }
    if (over) {
        await_signal(pool, self);
    }
    pool->waking = false;
    self->was_called = true;
    return true;
}

bool
wp_worker_sleep(wp_pool *pool, wp_worker *self, bool serves_stream, wp_errands *errands)
{
    uint64_t interval = time_to_patrol(pool, serves_stream);
    if (interval == WP_FOREVER && is_closing(pool)) {
        return false; /* Nothing is left to others any more: that can change without the lock. */
    }
    join_idle_list(pool, self);
    offer_self(pool, errands);
    wp_give_lock_and_run(pool, errands);
    wp_lock_take(&pool->lock);
    return stay_idle(pool, self, interval);
}

void
wp_worker_rest(wp_pool *pool, wp_worker *self, wp_errands *errands)
{
    if (pool->hooks.worker_idle == NULL) {
        return;
    }
    wp_worker_comes_back(self);
    wp_give_lock_and_run(pool, errands);
    pool->hooks.worker_idle(pool->hooks.context, self);
    wp_lock_take(&pool->lock);
}
