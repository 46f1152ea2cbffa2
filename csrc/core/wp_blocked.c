/* See wp_blocked.h. */
#include "wp_blocked.h"

#include "wp_internal.h"

#include <stdio.h>
#include <string.h>

/* The first look comes after so long (ns), and each later one after twice as long. */
#define FIRST_LOOK_NS UINT64_C(1000000)
#define LONGEST_LOOK_NS UINT64_C(64000000)
/* Who looks in vain for the third time has waited for seven times the first, which is long. */
#define PATIENCE 8u

/* Who sleeps. The process has one list, because pools wait for each other. */
static wp_lock list_lock;
static wp_blocked *list;
static uint64_t n_walks;

/* ---- The list ---- */

static void
link_blocked(wp_blocked *blocked)
{
    blocked->next = list;
    blocked->link = &list;
    if (list != NULL) {
        list->link = &blocked->next;
    }
    list = blocked;
    blocked->self->blocked = blocked;
    blocked->was_listed = true;
}

static void
unlink_blocked(wp_blocked *blocked)
{
    *blocked->link = blocked->next;
    if (blocked->next != NULL) {
        blocked->next->link = blocked->link;
    }
    blocked->self->blocked = NULL;
    blocked->was_listed = false;
}

void
wp_blocked_after_fork(void)
{
    wp_store_relaxed(&list_lock.word, WP_LOCK_FREE);
    list = NULL;
}

/* ---- From wait to wait ---- */

/* Every way out of each wait must lead to a sleeper, so the walk ends with the first that does not. */
typedef struct walk {
    const wp_worker *root; /* For whom it is made. */
    bool lends;            /* Limits of waits do not count: it is about who stands still, not for how long. */
    uint64_t number;
    wp_blocked *to_visit;
} walk;

/* Whether the worker sleeps; then its wait is visited as well. */
static bool
stands_still(walk *w, const wp_worker *worker)
{
    wp_blocked *blocked = worker->blocked;
    if (worker == w->root && w->lends) {
        return true;
    }
    if (blocked == NULL) {
        return false;
    }
    if (blocked->seen != w->number) {
        blocked->seen = w->number;
        blocked->to_visit = w->to_visit;
        w->to_visit = blocked;
    }
    return true;
}

/* Whether all who run jobs of the lane sleep, pool's lock held. */
static bool
lane_stands_still(walk *w, const wp_pool *pool, unsigned lane)
{
    uint32_t running = 0;
    for (const wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        if (wp_runs_in(worker, lane)) {
            running++;
            if (!stands_still(w, worker)) {
                return false;
            }
        }
    }
    return running == pool->lanes[lane].running;
}

/* Whether all workers of the pool sleep in jobs, pool's lock held. `or_idle`: or have nothing to do. */
static bool
pool_stands_still(walk *w, const wp_pool *pool, bool or_idle)
{
    for (const wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        if (!(or_idle && worker->is_idle) && !stands_still(w, worker)) {
            return false;
        }
    }
    return !pool->waking;
}

static bool
is_full(const wp_lane *lane)
{
    return lane->running >= lane->max_running;
}

/* Whether a job that waits may end without being run. */
static bool
may_be_dropped(const wp_job *job)
{
    return job->extra != NULL && (job->extra->token != NULL || job->extra->queue_timeout != WP_FOREVER);
}

/* Pool's lock held, as below. A waiter of its own pool runs the job itself as soon as its lane allows it. */
static bool
waiting_job_stands_still(walk *w, const wp_blocked *blocked)
{
    wp_pool *pool = blocked->pool;
    unsigned lane = blocked->job->lane;
    bool is_own = blocked->self->pool == pool;
    if (!w->lends && may_be_dropped(blocked->job)) {
        return false;
    }
    if (is_full(&pool->lanes[lane])) {
        return (w->lends || !is_own) && lane_stands_still(w, pool, lane);
    }
    return !is_own && pool->n_workers >= pool->max_workers && pool_stands_still(w, pool, false);
}

static bool
running_job_stands_still(walk *w, wp_job *job)
{
    uint32_t index = __atomic_load_n(&job->worker, __ATOMIC_RELAXED);
    const wp_worker *worker = job->pool->workers;
    while (worker != NULL && worker->index != index) {
        worker = worker->next_worker;
    }
    return index != WP_NO_WORKER && !job->class->by_many && worker != NULL && stands_still(w, worker);
}

static bool
nothing_waits(const wp_pool *pool)
{
    unsigned lane = 0;
    while (lane < pool->config.n_lanes && pool->lanes[lane].waiting == 0) {
        lane++;
    }
    return lane == pool->config.n_lanes && !wp_claims_hide_any(pool, NULL);
}

/* Units or results may come of any job of the pool that runs, wherever, or waits. */
static bool
jobs_stand_still(walk *w, const wp_pool *pool)
{
    bool is_left = wp_load_relaxed(&pool->ready) != 0 && (pool->n_idle > 0 || pool->n_workers < pool->max_workers);
    return !is_left && pool->n_outside == 0 && (w->lends || nothing_waits(pool)) && pool_stands_still(w, pool, true);
}

static bool
wait_stands_still(walk *w, const wp_blocked *blocked)
{
    wp_pool *pool = blocked->pool;
    wp_job *job = blocked->job;
    bool still = false;
    if (blocked->may_end && !w->lends) {
        return false;
    }
    wp_lock_take(&pool->lock);
    if (job == NULL) {
        still = jobs_stand_still(w, pool);
    } else if (!wp_job_is_of_parent(job)) {
        wp_state state = wp_job_state(job);
        still = state == WP_PENDING   ? waiting_job_stands_still(w, blocked)
                : state == WP_RUNNING ? running_job_stands_still(w, job)
                                      : false;
    }
    wp_lock_give(&pool->lock);
    return still && (job != NULL || !blocked->is_ready(blocked->context)); /* Afterwards: nobody is at it any more. */
}

static bool
all_stand_still(walk *w)
{
    while (w->to_visit != NULL) {
        const wp_blocked *blocked = w->to_visit;
        w->to_visit = blocked->to_visit;
        if (!wait_stands_still(w, blocked)) {
            return false;
        }
    }
    return true;
}

/* ---- What the walk is for, list's lock held ---- */

/* Whether the worker may run a job beside those that fill the lane, because they would stand still for ever. */
static bool
may_borrow(const wp_blocked *blocked)
{
    wp_pool *pool = blocked->pool;
    unsigned lane = blocked->lane;
    walk w = {.root = blocked->self, .lends = true, .number = ++n_walks};
    if (blocked->self->pool != pool || pool->lanes[lane].max_running == UINT32_MAX) {
        return false;
    }
    wp_lock_take(&pool->lock);
    bool is_wanted = blocked->job == NULL || wp_job_state(blocked->job) == WP_PENDING;
    bool still = is_wanted && !wp_runs_in(blocked->self, lane) && is_full(&pool->lanes[lane]) &&
                 lane_stands_still(&w, pool, lane);
    wp_lock_give(&pool->lock);
    return still && all_stand_still(&w);
}

static size_t
add_text(char *report, size_t size, size_t used, const wp_blocked *blocked)
{
    char what[256] = "what comes of other jobs";
    char where[64] = "";
    wp_job *job = blocked->job;
    if (job != NULL && job->class->describe != NULL) {
        job->class->describe(job, what, sizeof what);
    }
    if (job != NULL && wp_job_state(job) == WP_RUNNING) {
        snprintf(where, sizeof where, ", which runs on %s_%u", blocked->pool->config.thread_name,
                 (unsigned)__atomic_load_n(&job->worker, __ATOMIC_RELAXED));
    } else if (job != NULL) {
        snprintf(where, sizeof where, ", which waits for a worker of %s", blocked->pool->config.thread_name);
    }
    int n = snprintf(report + used, size - used, "%s%s_%u waits for %s%s", used > 0 ? "; " : "",
                     blocked->self->pool->config.thread_name, (unsigned)blocked->self->index, what, where);
    return n > 0 && used + (size_t)n < size ? used + (size_t)n : size - 1;
}

/* The root comes first. */
static void
write_report(const wp_blocked *root, uint64_t number, char *report, size_t size)
{
    size_t used = add_text(report, size, 0, root);
    for (const wp_blocked *blocked = list; blocked != NULL; blocked = blocked->next) {
        if (blocked != root && blocked->seen == number) {
            used = add_text(report, size, used, blocked);
        }
    }
}

static bool
is_deadlock(const wp_blocked *blocked, char *report, size_t size)
{
    walk w = {.root = blocked->self, .number = ++n_walks};
    if (blocked->may_end || !stands_still(&w, blocked->self) || !all_stand_still(&w)) {
        return false;
    }
    write_report(blocked, w.number, report, size);
    return true;
}

/* ---- Waiting ---- */

bool
wp_is_worker(void)
{
    const wp_worker *self = wp_worker_self();
    return self != NULL && wp_worker_in(self->pool) != NULL;
}

void
wp_blocked_init(wp_blocked *blocked, wp_pool *pool, unsigned lane, wp_job *job, bool may_end)
{
    *blocked = (wp_blocked){.self = wp_worker_self(),
                            .pool = pool,
                            .lane = lane,
                            .job = job,
                            .may_end = may_end,
                            .interval = FIRST_LOOK_NS};
}

/* Jobs that were left to this worker, because it runs one of their lane, are for others from now on. */
static void
count_asleep(const wp_worker *self, bool sleeps)
{
    wp_pool *pool = self->pool;
    wp_errands errands = {0};
    if (!self->has_claim || self->is_orphan) {
        return;
    }
    wp_lock_take(&pool->lock);
    if (sleeps) {
        pool->lanes[self->lane].asleep++;
        wp_call_help(pool, false, &errands);
    } else {
        pool->lanes[self->lane].asleep--;
    }
    wp_give_lock_and_run(pool, &errands);
}

enum wp_result
wp_blocked_begin(wp_blocked *blocked, char *report, size_t size)
{
    wp_worker *self = blocked->self;
    enum wp_result result = WP_OK;
    wp_claim_leave(self);
    self->may_borrow = 0;
    wp_lock_take(&list_lock);
    link_blocked(blocked);
    if (!blocked->has_tried && may_borrow(blocked)) {
        result = WP_FULL;
        blocked->has_tried = true;
        self->may_borrow = 1u << blocked->lane;
    } else if (is_deadlock(blocked, report, size)) {
        result = WP_DEADLOCK;
    }
    if (result != WP_OK) {
        unlink_blocked(blocked);
    }
    wp_lock_give(&list_lock);
    if (result == WP_OK) {
        count_asleep(self, true);
    }
    return result;
}

void
wp_blocked_end(wp_blocked *blocked)
{
    count_asleep(blocked->self, false);
    wp_lock_take(&list_lock);
    if (blocked->was_listed) {
        unlink_blocked(blocked);
    }
    wp_lock_give(&list_lock);
    blocked->has_tried = false;
    if (blocked->interval < LONGEST_LOOK_NS) {
        blocked->interval *= 2;
    }
}

uint64_t
wp_blocked_until(const wp_blocked *blocked, uint64_t deadline)
{
    uint64_t look = wp_later(wp_clock(), blocked->interval);
    return look < deadline ? look : deadline;
}

bool
wp_blocked_is_long(const wp_blocked *blocked)
{
    return blocked->interval >= PATIENCE * FIRST_LOOK_NS;
}

bool
wp_blocked_has_others(wp_pool *pool, const wp_group *group, const wp_results *results)
{
    const wp_worker *self = wp_worker_in(pool);
    wp_lock_take(&pool->lock);
    bool found = pool->n_workers < pool->max_workers;
    for (wp_worker *worker = pool->workers; worker != NULL && !found; worker = worker->next_worker) {
        found = worker != self && (!worker->has_claim || wp_worker_serves(worker, group, results));
    }
    wp_lock_give(&pool->lock);
    return found;
}

/* Who waits without a limit can go on no sooner than the job ends, wherever it runs. Who has a limit would lose it. */
static bool
leaves_job_to_others(const wp_blocked *blocked)
{
    return blocked->may_end && !blocked->has_tried && !wp_blocked_is_long(blocked) &&
           wp_blocked_has_others(blocked->pool, NULL, NULL);
}

static void
help(const wp_blocked *blocked)
{
    if (blocked->self->pool != blocked->pool || wp_job_state(blocked->job) > WP_RUNNING) {
        return;
    }
    if (blocked->help != NULL) {
        blocked->help(blocked->job);
    } else if (!leaves_job_to_others(blocked)) {
        wp_job_run_here(blocked->job);
    }
}

enum wp_result
wp_blocked_wait(wp_blocked *blocked, uint64_t deadline, char *report, size_t size)
{
    wp_job *job = blocked->job;
    enum wp_wait_result waited = WP_WAIT_TIMED_OUT;
    for (;;) {
        help(blocked);
        if (wp_job_is_settled(job)) {
            return WP_OK;
        }
        enum wp_result may_sleep = wp_blocked_begin(blocked, report, size);
        if (may_sleep == WP_FULL) {
            continue;
        }
        if (may_sleep != WP_OK) {
            return may_sleep;
        }
        waited = wp_job_wait_in_line(job, wp_blocked_until(blocked, deadline));
        wp_blocked_end(blocked);
        if (waited != WP_WAIT_TIMED_OUT || wp_clock() >= deadline) {
            return wp_result_of_wait(waited);
        }
    }
}
