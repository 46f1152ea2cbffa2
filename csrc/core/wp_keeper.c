/* See wp_keeper.h. */
#include "wp_internal.h"

#include <stdlib.h>

/* How often the host is asked while it may have something to do, and for how many rounds without anything before the
 * keeper goes to sleep: often enough that memory held by finished jobs is let go soon, seldom enough not to be seen in
 * a profile. */
#define ATTEND_EVERY_NS 2000000u
#define QUIET_ROUNDS 16

enum { NOT_ASKED = 0, ASKED = 1 };

void
wp_keeper_init(wp_keeper *keeper)
{
    *keeper = (wp_keeper){0};
}

void
wp_keeper_free(wp_keeper *keeper)
{
    free(keeper->heap);
    wp_keeper_init(keeper);
}

/* ---- The heap: every parent's limit is at or before its children's ---- */

static void
place(wp_keeper *keeper, uint32_t at, wp_job *job)
{
    keeper->heap[at] = job;
    job->extra->timer = at + WP_TIMER_FIRST;
}

static bool
is_before(const wp_job *a, const wp_job *b)
{
    return a->extra->limit < b->extra->limit;
}

static void
move_up(wp_keeper *keeper, uint32_t at, wp_job *job)
{
    while (at > 0 && is_before(job, keeper->heap[(at - 1) / 2])) {
        place(keeper, at, keeper->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(keeper, at, job);
}

static void
move_down(wp_keeper *keeper, uint32_t at, wp_job *job)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < keeper->size && is_before(keeper->heap[child + 1], keeper->heap[child])) {
            child++;
        }
        if (child >= keeper->size || !is_before(keeper->heap[child], job)) {
            break;
        }
        place(keeper, at, keeper->heap[child]);
        at = child;
    }
    place(keeper, at, job);
}

static void
insert(wp_keeper *keeper, wp_job *job)
{
    keeper->size++;
    move_up(keeper, keeper->size - 1, job);
}

static void
take_out(wp_keeper *keeper, wp_job *job)
{
    uint32_t at = job->extra->timer - WP_TIMER_FIRST;
    wp_job *last = keeper->heap[--keeper->size];
    if (last == job) {
        return;
    }
    if (at > 0 && is_before(last, keeper->heap[(at - 1) / 2])) {
        move_up(keeper, at, last);
    } else {
        move_down(keeper, at, last);
    }
}

static bool
make_room(wp_keeper *keeper)
{
    if (keeper->members < keeper->room) {
        return true;
    }
    uint32_t room = keeper->room > 0 ? keeper->room * 2 : 16;
    wp_job **heap = realloc(keeper->heap, room * sizeof(wp_job *));
    if (heap == NULL) {
        return false;
    }
    keeper->heap = heap;
    keeper->room = room;
    return true;
}

/* ---- The thread ---- */

static void
look_up(wp_keeper *keeper)
{
    wp_add_acq_rel(&keeper->signal, 1);
    wp_word_wake(&keeper->signal, 1);
}

/* The earliest job whose limit has come, with a reference, and which limit; or NULL and the time of the next limit. */
static wp_job *
take_due(wp_keeper *keeper, uint64_t now, uint64_t *next, bool *limits_run)
{
    wp_job *due = NULL;
    wp_lock_take(&keeper->lock);
    *next = WP_FOREVER;
    if (keeper->size > 0) {
        wp_job *first = keeper->heap[0];
        if (first->extra->limit <= now) {
            due = first;
            *limits_run = first->extra->limits_run;
            take_out(keeper, first);
            first->extra->timer = WP_TIMER_FIRED;
            wp_job_ref(first); /* It is watched, so it has not ended and the pool's reference stands. */
        } else {
            *next = first->extra->limit;
        }
    }
    wp_lock_give(&keeper->lock);
    return due;
}

/* A limit has come: the token's, or the running or waiting time's. That of the waiting time means nothing to a job that
 * began just before. */
static void
fire(wp_job *job, bool limits_run)
{
    wp_token *token = job->extra->token;
    if (token != NULL && wp_token_is_cancelled(token)) {
        wp_token_cancel(token);
    } else if (limits_run) {
        wp_job_ask_to_stop(job);
    } else {
        wp_job_expire(job);
    }
}

static uint64_t
fire_due(wp_keeper *keeper)
{
    uint64_t next;
    wp_job *due;
    bool limits_run;
    while ((due = take_due(keeper, wp_clock(), &next, &limits_run)) != NULL) {
        fire(due, limits_run);
        wp_job_unref(due);
    }
    return next;
}

/* Attends to the host while it asks. Returns when to attend again. */
static uint64_t
attend(wp_pool *pool, unsigned *quiet)
{
    wp_keeper *keeper = &pool->keeper;
    if (wp_load_acquire(&keeper->request) == NOT_ASKED) {
        return WP_FOREVER;
    }
    *quiet = pool->hooks.attend(pool->hooks.context) ? 0 : *quiet + 1;
    if (*quiet >= QUIET_ROUNDS) {
        /* Who asks from now on finds NOT_ASKED and wakes this thread; what those before had to say is looked at once
         * more. Both sides change the same word, so one of the two must see the other. */
        wp_exchange_acq_rel(&keeper->request, NOT_ASKED);
        *quiet = 0;
        if (!pool->hooks.attend(pool->hooks.context)) {
            return WP_FOREVER;
        }
        wp_store_release(&keeper->request, ASKED);
    }
    return wp_clock() + ATTEND_EVERY_NS;
}

static bool
may_leave(wp_keeper *keeper)
{
    wp_lock_take(&keeper->lock);
    bool leaving = keeper->leaving;
    wp_lock_give(&keeper->lock);
    return leaving;
}

static void *
keeper_main(void *argument)
{
    wp_pool *pool = argument;
    wp_keeper *keeper = &pool->keeper;
    unsigned quiet = 0;
    wp_thread_set_name("wp-keeper");
    for (;;) {
        uint32_t seen = wp_load_acquire(&keeper->signal);
        uint64_t next = fire_due(keeper);
        bool leaving = may_leave(keeper);
        uint64_t again = attend(pool, &quiet);
        if (leaving) {
            break;
        }
        wp_word_wait(&keeper->signal, seen, again < next ? again : next);
    }
    wp_exchange_acq_rel(&keeper->request, NOT_ASKED); /* Who asks from now on is told that nobody is there. */
    while (pool->hooks.attend != NULL && pool->hooks.attend(pool->hooks.context)) {
    }
    if (pool->hooks.keeper_stop != NULL) {
        pool->hooks.keeper_stop(pool->hooks.context);
    }
    wp_lock_take(&pool->lock);
    keeper->left = true;
    wp_add_acq_rel(&pool->left, 1);
    wp_lock_give(&pool->lock);
    wp_word_wake(&pool->left, WP_WAKE_ALL);
    wp_pool_let_go(pool);
    return NULL;
}

/* Keeper's lock held. */
static bool
start(wp_pool *pool)
{
    wp_keeper *keeper = &pool->keeper;
    if (!keeper->started && !keeper->leaving) {
        wp_pool_hold(pool);
        keeper->started = wp_thread_start(&keeper->thread, keeper_main, pool, pool->config.stack_size) == 0;
        if (!keeper->started) {
            wp_sub_acq_rel(&pool->references, 1); /* The caller's stands. */
        }
    }
    return keeper->started && !keeper->leaving;
}

/* ---- Interface ---- */

/* Keeper's lock held. */
static enum wp_result
admit(wp_pool *pool, wp_job *job)
{
    wp_keeper *keeper = &pool->keeper;
    if (!start(pool)) {
        return WP_NO_THREAD;
    }
    if (!make_room(keeper)) {
        return WP_NO_MEMORY;
    }
    keeper->members++;
    job->extra->timer = WP_TIMER_FIRED;
    return WP_OK;
}

enum wp_result
wp_keeper_watch(wp_pool *pool, wp_job *job, uint64_t limit)
{
    wp_keeper *keeper = &pool->keeper;
    bool limits_run = wp_job_state(job) == WP_RUNNING;
    wp_lock_take(&keeper->lock);
    if (job->extra->timer == WP_TIMER_NONE && limits_run && limit == WP_FOREVER) {
        wp_lock_give(&keeper->lock);
        return WP_OK; /* It was not submitted, and its run has no limit. */
    }
    enum wp_result result = job->extra->timer == WP_TIMER_NONE ? admit(pool, job) : WP_OK;
    if (result == WP_OK) {
        if (job->extra->timer >= WP_TIMER_FIRST) {
            take_out(keeper, job);
        }
        job->extra->limit = limit;
        job->extra->limits_run = limits_run;
        insert(keeper, job);
    }
    bool earliest = result == WP_OK && keeper->heap[0] == job;
    wp_lock_give(&keeper->lock);
    if (earliest) {
        look_up(keeper);
    }
    return result;
}

void
wp_keeper_forget(wp_pool *pool, wp_job *job)
{
    wp_keeper *keeper = &pool->keeper;
    wp_lock_take(&keeper->lock);
    if (job->extra->timer >= WP_TIMER_FIRST) {
        take_out(keeper, job);
    }
    if (job->extra->timer != WP_TIMER_NONE) {
        keeper->members--;
    }
    job->extra->timer = WP_TIMER_NONE;
    wp_lock_give(&keeper->lock);
}

bool
wp_pool_ask_keeper(wp_pool *pool)
{
    wp_keeper *keeper = &pool->keeper;
    if (wp_exchange_acq_rel(&keeper->request, ASKED) == ASKED) {
        return true;
    }
    wp_lock_take(&keeper->lock);
    bool started = start(pool);
    wp_lock_give(&keeper->lock);
    if (started) {
        look_up(keeper);
    } else {
        wp_store_release(&keeper->request, NOT_ASKED);
    }
    return started;
}

void
wp_keeper_leave(wp_pool *pool)
{
    wp_keeper *keeper = &pool->keeper;
    wp_lock_take(&keeper->lock);
    keeper->leaving = true;
    wp_lock_give(&keeper->lock);
    look_up(keeper);
}

enum wp_result
wp_keeper_join(wp_pool *pool, uint64_t deadline)
{
    wp_keeper *keeper = &pool->keeper;
    enum wp_wait_result waited = WP_WAIT_WOKEN;
    wp_lock_take(&keeper->lock);
    bool started = keeper->started;
    wp_lock_give(&keeper->lock);
    wp_lock_take(&pool->lock);
    while (started && !keeper->left && waited == WP_WAIT_WOKEN) {
        uint32_t seen = wp_load_relaxed(&pool->left);
        wp_lock_give(&pool->lock);
        waited = wp_word_wait(&pool->left, seen, deadline);
        wp_lock_take(&pool->lock);
    }
    bool to_join = keeper->left && !keeper->joined;
    keeper->joined = keeper->joined || to_join;
    wp_lock_give(&pool->lock);
    if (to_join) {
        pthread_join(keeper->thread, NULL);
    }
    return wp_result_of_wait(waited);
}
