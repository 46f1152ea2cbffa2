/* See wp_keeper.h. */
#include "wp_internal.h"

#include <stdlib.h>

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

/* The earliest job whose limit has come, with a reference, and which limit; or NULL and the time of the next limit. */
static wp_job *
take_due(wp_keeper *keeper, uint64_t now, uint64_t *next, bool *limits_run)
{
    wp_job *due = NULL;
    wp_lock_take(&keeper->side.lock);
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
    wp_lock_give(&keeper->side.lock);
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

static void *
keeper_main(void *argument)
{
    wp_pool *pool = argument;
    wp_side *side = &pool->keeper.side;
    wp_thread_set_name("wp-keeper");
    for (;;) {
        uint32_t seen = wp_load_acquire(&side->signal);
        bool leaving = wp_side_is_leaving(side);
        uint64_t next = fire_due(&pool->keeper);
        if (leaving) {
            return wp_side_end(pool, side);
        }
        wp_word_wait(&side->signal, seen, next);
    }
}

/* ---- Interface ---- */

/* Keeper's lock held. */
static enum wp_result
admit(wp_pool *pool, wp_job *job)
{
    wp_keeper *keeper = &pool->keeper;
    if (!wp_side_start(pool, &keeper->side, keeper_main)) {
        enum wp_result phase = wp_phase_result(pool); /* A pool that has been closed has sent its keeper away. */
        return phase != WP_OK ? phase : WP_NO_THREAD;
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
    wp_lock_take(&keeper->side.lock);
    if (job->extra->timer == WP_TIMER_NONE && limits_run && limit == WP_FOREVER) {
        wp_lock_give(&keeper->side.lock);
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
    wp_lock_give(&keeper->side.lock);
    if (earliest) {
        wp_side_look_up(&keeper->side);
    }
    return result;
}

void
wp_keeper_forget(wp_pool *pool, wp_job *job)
{
    wp_keeper *keeper = &pool->keeper;
    wp_lock_take(&keeper->side.lock);
    if (job->extra->timer >= WP_TIMER_FIRST) {
        take_out(keeper, job);
    }
    if (job->extra->timer != WP_TIMER_NONE) {
        keeper->members--;
    }
    job->extra->timer = WP_TIMER_NONE;
    wp_lock_give(&keeper->side.lock);
}
