/* The pool's life: made, resized, drained, closed, joined, freed; and what it counts. */
#include "wp_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- Made and freed ---- */

static void
init_lanes(wp_pool *pool)
{
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        const wp_lane_config *config = &pool->config.lanes[i];
        pool->lanes[i].capacity = config->capacity;
        pool->lanes[i].max_running = config->max_running > 0 ? config->max_running : UINT32_MAX;
        wp_ring_init(&pool->lanes[i].ring);
    }
}

wp_pool *
wp_pool_new(const wp_pool_config *config)
{
    size_t size = sizeof(wp_pool) + config->n_lanes * sizeof(wp_lane);
    size = (size + WP_CACHE_LINE - 1) / WP_CACHE_LINE * WP_CACHE_LINE;
    void *memory = NULL;
    if (posix_memalign(&memory, WP_CACHE_LINE, size) != 0) {
        return NULL;
    }
    memset(memory, 0, size);
    wp_pool *pool = memory;
    pool->config = *config;
    pool->hooks = config->hooks;
    pool->max_workers = config->max_workers;
    wp_closable_init(&pool->closable, &pool->lock, pool);
    pool->processors = wp_processors_by_affinity();
    wp_store_relaxed(&pool->references, 1);
    wp_store_relaxed(&pool->holders, 1);
    init_lanes(pool);
    wp_keeper_init(&pool->keeper);
    wp_inherited_note(&pool->inherited);

    pool->outside = wp_tally_new(config->n_lanes);
    if (pool->outside == NULL) {
        goto no_outside;
    }
    pool->gone = wp_tally_new(config->n_lanes);
    if (pool->gone == NULL) {
        goto no_gone;
    }
    pool->slot = wp_fork_register(pool);
    if (pool->slot == NULL) {
        goto no_slot;
    }
    return pool;

no_slot:
    free(pool->gone);
no_gone:
    free(pool->outside);
no_outside:
    free(pool);
    return NULL;
}

/* ---- Threads that end ----
 *
 * A thread that has ended keeps its stack until it is joined, and a pool may run for weeks in which nobody calls it but to
 * submit. So each of the pool's threads, as its last, joins the one that left before it. Whoever joins the latest has
 * joined all. */

wp_departed
wp_pool_depart(wp_pool *pool)
{
    wp_departed before = pool->departed;
    pool->departed = (wp_departed){pthread_self(), true};
    return before;
}

/* A thread that frees the pool it served cannot join itself; it is about to end anyway. */
void
wp_departed_join(wp_departed departed)
{
    if (!departed.is_one) {
        return;
    }
    if (pthread_equal(departed.thread, pthread_self())) {
        pthread_detach(departed.thread);
    } else {
        pthread_join(departed.thread, NULL);
    }
}

static void
pool_free(wp_pool *pool)
{
    if (pool->hooks.unlisted != NULL) {
        pool->hooks.unlisted(pool->hooks.context);
    }
    wp_fork_unregister(pool->slot);
    wp_departed_join(pool->departed);
    wp_keeper_free(&pool->keeper);
    wp_numbers_free(&pool->numbers);
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        wp_ring_free(&pool->lanes[i].ring);
    }
    free(pool->gone);
    free(pool->outside);
    wp_hooks hooks = pool->hooks;
    free(pool);
    if (hooks.freed != NULL) {
        hooks.freed(hooks.context);
    }
}

void
wp_pool_hold(wp_pool *pool)
{
    wp_add_relaxed(&pool->references, 1);
}

void
wp_pool_let_go(wp_pool *pool)
{
    if (wp_sub_acq_rel(&pool->references, 1) == 1) {
        pool_free(pool);
    }
}

void
wp_pool_ref(wp_pool *pool)
{
    wp_pool_hold(pool);
    wp_add_relaxed(&pool->holders, 1);
}

bool
wp_pool_try_ref(wp_pool *pool)
{
    uint32_t references = wp_load_relaxed(&pool->references);
    while (references != 0) {
        if (wp_cas_weak_acq_rel(&pool->references, &references, references + 1)) {
            wp_add_relaxed(&pool->holders, 1);
            return true;
        }
    }
    return false;
}

size_t
wp_pool_stack_size(wp_pool *pool)
{
    size_t fixed = pool->config.stack_size;
    return fixed == 0 && pool->hooks.stack_size != NULL ? pool->hooks.stack_size(pool->hooks.context) : fixed;
}

void *
wp_pool_hook_context(const wp_pool *pool)
{
    return pool->hooks.context;
}

uint32_t
wp_pool_n_lanes(wp_pool *pool)
{
    return pool->config.n_lanes;
}

bool
wp_pool_has_work(wp_pool *pool)
{
    return wp_load_relaxed(&pool->ready) != 0;
}

bool
wp_pool_is_at_rest(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    bool at_rest = pool->unfinished == 0 && pool->n_starting == 0 && !pool->waking;
    wp_lock_give(&pool->lock);
    return at_rest && wp_load_acquire(&pool->holders) == 1;
}

void
wp_pool_unref(wp_pool *pool)
{
    if (wp_sub_acq_rel(&pool->holders, 1) == 1) {
        wp_pool_close(pool);
    }
    wp_pool_let_go(pool);
}

/* ---- Closing ---- */

/* Calls every sleeper: workers, and threads that wait for room. They see the phase and act on it. */
static void
call_everybody(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    wp_worker *idle = pool->idle;
    pool->idle = NULL;
    pool->n_idle = 0;
    for (wp_worker *worker = idle; worker != NULL; worker = worker->next_idle) {
        worker->is_idle = false;
    }
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        wp_add_acq_rel(&pool->lanes[i].room, 1);
        if (pool->lanes[i].blocked > 0) {
            wp_word_wake(&pool->lanes[i].room, WP_WAKE_ALL);
        }
    }
    while (idle != NULL) {
        wp_worker *next = idle->next_idle; /* Read before the call: it may leave and be gone. */
        wp_store_release(&idle->signal, 1);
        wp_word_wake(&idle->signal, 1);
        idle = next;
    }
    wp_lock_give(&pool->lock);
}

/* All workers are gone: the other threads leave when they have nothing left to do. */
static void
leave_sides(wp_pool *pool)
{
    wp_side_leave(&pool->keeper.side);
    wp_side_leave(&pool->attendant.side);
}

static void
enter_phase(wp_pool *pool, enum wp_phase phase)
{
    wp_lock_take(&pool->lock);
    if (wp_load_relaxed(&pool->phase) < (uint32_t)phase) {
        wp_store_release(&pool->phase, (uint32_t)phase);
        wp_closable_close(&pool->closable);
    }
    bool no_threads = pool->n_threads == 0;
    wp_lock_give(&pool->lock);
    call_everybody(pool);
    if (no_threads) {
        leave_sides(pool);
    }
}

void
wp_pool_close(wp_pool *pool)
{
    enter_phase(pool, WP_CLOSING);
}

bool
wp_pool_is_closed(wp_pool *pool)
{
    return wp_load_acquire(&pool->phase) != WP_OPEN;
}

wp_closable *
wp_pool_closable(wp_pool *pool)
{
    return &pool->closable;
}

void
wp_pool_open_part(wp_pool *pool, wp_closable *closable)
{
    wp_closable_init(closable, &pool->lock, pool);
}

void
wp_pool_close_part(wp_pool *pool, wp_closable *closable)
{
    wp_lock_take(&pool->lock);
    wp_closable_close(closable);
    wp_lock_give(&pool->lock);
}

bool
wp_pool_is_broken(wp_pool *pool)
{
    return wp_load_acquire(&pool->phase) == WP_WRECKED;
}

/* The first waiting job of any lane, with a reference; NULL when there is none, or none without a worker to serve it. */
static wp_job *
first_waiting(wp_pool *pool, bool only_unserved)
{
    wp_job *job = NULL;
    wp_lock_take(&pool->lock);
    unsigned n_lanes = only_unserved && pool->n_workers > 0 ? 0 : pool->config.n_lanes;
    for (unsigned i = 0; i < n_lanes && job == NULL; i++) {
        const wp_span *first = wp_ring_front(&pool->lanes[i].ring);
        if (first != NULL) {
            job = first->job;
            wp_job_ref(job);
        }
    }
    wp_lock_give(&pool->lock);
    return job;
}

/* Ends every waiting job with one outcome. A job that another moves out of PENDING meanwhile leaves the ring soon
 * after; until then this looks at it again. */
static uint64_t
end_waiting(wp_pool *pool, wp_state outcome, bool only_unserved)
{
    uint64_t ended = 0;
    wp_job *job;
    wp_claims_recall(pool);
    while ((job = first_waiting(pool, only_unserved)) != NULL) {
        if (job->flags & WP_JOB_IS_RANGE) {
            ended += wp_range_cancel(wp_range_of(job));
        } else if (wp_job_take(job, outcome)) {
            wp_job_withdraw(job, outcome);
            ended++;
        } else {
            wp_pause();
        }
        wp_job_unref(job);
    }
    return ended;
}

uint64_t
wp_pool_cancel_waiting(wp_pool *pool)
{
    return end_waiting(pool, WP_CANCELLED, false);
}

void
wp_pool_break(wp_pool *pool)
{
    enter_phase(pool, WP_WRECKED);
    end_waiting(pool, WP_LOST, false);
}

void
wp_pool_lose_unserved(wp_pool *pool)
{
    end_waiting(pool, WP_LOST, true);
}

void
wp_pool_thread_left(wp_pool *pool, wp_worker *worker)
{
    wp_departed before = {.is_one = false};
    wp_lock_take(&pool->lock);
    if (worker != NULL) {
        wp_worker_unlink(pool, worker);
        wp_tally_merge(pool->gone, worker->tally, pool->config.n_lanes);
        before = wp_pool_depart(pool);
    }
    bool last = --pool->n_threads == 0 && wp_load_relaxed(&pool->phase) != WP_OPEN;
    wp_add_acq_rel(&pool->left, 1);
    wp_lock_give(&pool->lock);
    wp_word_wake(&pool->left, WP_WAKE_ALL);
    if (last) {
        leave_sides(pool);
    }
    if (worker != NULL) {
        wp_worker_free(worker);
    }
    wp_departed_join(before);
    wp_pool_let_go(pool);
}

/* ---- Waiting for the pool ---- */

static enum wp_result
drain(wp_pool *pool, uint64_t deadline)
{
    enum wp_result result = WP_OK;
    wp_lock_take(&pool->lock);
    pool->drain_waiters++;
    while (pool->unfinished > 0 && result == WP_OK) {
        uint32_t seen = wp_load_relaxed(&pool->drained);
        wp_lock_give(&pool->lock);
        result = wp_result_of_wait(wp_word_wait(&pool->drained, seen, deadline));
        wp_lock_take(&pool->lock);
    }
    pool->drain_waiters--;
    result = pool->unfinished == 0 ? WP_OK : result;
    wp_lock_give(&pool->lock);
    return result;
}

static void
join_latest(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    wp_departed latest = pool->departed;
    pool->departed.is_one = false;
    wp_lock_give(&pool->lock);
    wp_departed_join(latest);
}

static enum wp_result
join(wp_pool *pool, uint64_t deadline)
{
    enum wp_result result = WP_OK;
    wp_lock_take(&pool->lock);
    while (pool->n_threads > 0 && result == WP_OK) {
        uint32_t seen = wp_load_relaxed(&pool->left);
        wp_lock_give(&pool->lock);
        result = wp_result_of_wait(wp_word_wait(&pool->left, seen, deadline));
        wp_lock_take(&pool->lock);
    }
    result = pool->n_threads == 0 ? WP_OK : result;
    wp_lock_give(&pool->lock);
    result = result == WP_OK ? wp_side_wait(pool, &pool->keeper.side, deadline) : result;
    result = result == WP_OK ? wp_side_wait(pool, &pool->attendant.side, deadline) : result;
    if (result == WP_OK) {
        join_latest(pool);
    }
    return result;
}

static enum wp_result
wait_unless_in_circle(wp_pool *pool, enum wp_result (*wait)(wp_pool *, uint64_t), uint64_t deadline)
{
    wp_pool_wait waiting;
    if (!wp_pool_wait_begin(&waiting, pool)) {
        return WP_DEADLOCK;
    }
    enum wp_result result = wait(pool, deadline);
    wp_pool_wait_end(&waiting);
    return result;
}

enum wp_result
wp_pool_drain_in_part(wp_pool *pool, uint64_t until)
{
    return wait_unless_in_circle(pool, drain, until);
}

enum wp_result
wp_pool_drain(wp_pool *pool, uint64_t deadline)
{
    return deadline == WP_FOREVER ? wp_pool_drain_in_part(pool, deadline) : drain(pool, deadline);
}

enum wp_result
wp_pool_join_in_part(wp_pool *pool, uint64_t until)
{
    return wait_unless_in_circle(pool, join, until);
}

enum wp_result
wp_pool_join(wp_pool *pool, uint64_t deadline)
{
    return deadline == WP_FOREVER ? wp_pool_join_in_part(pool, deadline) : join(pool, deadline);
}

void
wp_pool_resize(wp_pool *pool, uint32_t max_workers)
{
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    bool fewer = max_workers < pool->n_workers;
    pool->max_workers = max_workers;
    wp_call_help(pool, wp_claims_hide_any(pool, NULL), &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    if (fewer || errands.call == NULL) {
        call_everybody(pool); /* The idle ones leave if they are surplus, else they go back to sleep. */
    }
}

/* ---- Statistics ---- */

/* The lock is given back for a moment after the tallies of so many workers: there may be thousands of them. */
#define TALLIES_AT_ONCE 32u

/* What several tallies have of one lane, and their time in jobs. */
typedef struct lane_sum {
    uint64_t ended[WP_STATES];
    uint64_t busy_ns;
    wp_lane_tally times;
} lane_sum;

static void
add_tally(lane_sum *sum, const wp_tally *tally, unsigned lane)
{
    for (unsigned state = 0; state < WP_STATES; state++) {
        sum->ended[state] += wp_load_relaxed(&tally->lanes[lane].ended[state]);
    }
    wp_histogram_merge(&sum->times.waited, &tally->lanes[lane].waited);
    wp_histogram_merge(&sum->times.ran, &tally->lanes[lane].ran);
    sum->busy_ns += wp_load_relaxed(&tally->busy_ns);
}

/* Lock held before and after. False if a worker has left while it was given back: then nobody knows whether its tally was
 * added. `at_once`: it is not given back. */
static bool
add_workers(wp_pool *pool, lane_sum *sum, unsigned lane, bool at_once)
{
    uint64_t unlinked = pool->unlinked;
    unsigned n = 0;
    for (const wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        add_tally(sum, worker->tally, lane);
        if (!at_once && ++n % TALLIES_AT_ONCE == 0) {
            wp_lock_give(&pool->lock);
            wp_lock_take(&pool->lock);
            if (pool->unlinked != unlinked) {
                return false;
            }
        }
    }
    return true;
}

/* Lock held before and after, and when it returns no worker has come or gone since the last was added. */
static void
add_all(wp_pool *pool, lane_sum *sum, unsigned lane)
{
    *sum = (lane_sum){0};
    if (!add_workers(pool, sum, lane, false)) {
        *sum = (lane_sum){0};
        add_workers(pool, sum, lane, true);
    }
    add_tally(sum, pool->outside, lane);
    add_tally(sum, pool->gone, lane);
}

static void
read_percentiles(const wp_histogram *histogram, uint64_t out[4])
{
    static const double fractions[4] = {0.5, 0.9, 0.99, 1.0};
    for (unsigned i = 0; i < 4; i++) {
        out[i] = wp_histogram_percentile(histogram, fractions[i]);
    }
}

/* Lock held before and after. Returns the time in jobs of all lanes. */
static uint64_t
lane_stats(wp_pool *pool, unsigned index, wp_lane_stats *stats)
{
    const wp_lane *lane = &pool->lanes[index];
    lane_sum sum;
    add_all(pool, &sum, index);
    memcpy(stats->ended, sum.ended, sizeof sum.ended);
    stats->submitted = lane->submitted;
    stats->rejected = lane->rejected;
    stats->waiting = lane->waiting + wp_claims_hidden(pool, index);
    stats->capacity = lane->capacity;
    read_percentiles(&sum.times.waited, stats->waited_ns);
    read_percentiles(&sum.times.ran, stats->ran_ns);
    return sum.busy_ns;
}

void
wp_pool_stats_get(wp_pool *pool, wp_pool_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->n_lanes = pool->config.n_lanes;
    wp_lock_take(&pool->lock);
    for (unsigned i = 0; i < stats->n_lanes; i++) {
        stats->busy_ns = lane_stats(pool, i, &stats->lanes[i]);
    }
    stats->max_workers = pool->max_workers;
    stats->workers = pool->n_workers;
    stats->busy = pool->n_workers - pool->n_idle;
    stats->unfinished = pool->unfinished;
    wp_lock_give(&pool->lock);
}

uint32_t
wp_pool_max_workers(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    uint32_t max_workers = pool->max_workers;
    wp_lock_give(&pool->lock);
    return max_workers;
}

/* ---- After a fork ---- */

/* The parent's threads do not exist here, and its locks may be held by them for ever. So everything that they could
 * have been changing is started anew; what it pointed to is left alone, since nobody knows its state. Jobs of before
 * are told by their epoch. */
void
wp_pool_after_fork(wp_pool *pool)
{
    wp_store_relaxed(&pool->lock.word, WP_LOCK_FREE);
    wp_store_relaxed(&pool->ready, 0);
    pool->epoch++;
    pool->n_workers = 0;
    pool->n_threads = 0;
    pool->n_idle = 0;
    pool->n_starting = 0;
    pool->patrols = 0;
    pool->n_outside = 0;
    pool->waking = false;
    pool->unfinished = 0;
    pool->idle = NULL;
    pool->workers = NULL;
    pool->claimers = NULL;
    pool->numbers = (wp_numbers){0};
    pool->helpers = NULL;
    pool->departed.is_one = false;
    pool->drain_waiters = 0;
    pool->start_again = 0;
    wp_store_relaxed(&pool->inherited_lock.word, WP_LOCK_FREE);
    pool->inherited.maker = 0; /* Who starts the first worker here takes the place of the maker, which may not exist. */
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        wp_lane *lane = &pool->lanes[i];
        wp_ring_init(&lane->ring);
        lane->running = 0;
        lane->asleep = 0;
        lane->entering = 0;
        lane->waiting = 0;
        lane->submitted = 0;
        lane->mixed_until = 0;
        lane->rejected = 0;
        lane->passed = 0;
        lane->blocked = 0;
    }
    wp_tally_clear(pool->outside, pool->config.n_lanes);
    wp_tally_clear(pool->gone, pool->config.n_lanes);
    wp_keeper_init(&pool->keeper);
    pool->attendant = (wp_attendant){0};
    wp_worker_after_fork(pool);
    if (pool->hooks.forked != NULL) {
        pool->hooks.forked(pool->hooks.context);
    }
}
