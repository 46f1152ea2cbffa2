/* See wp_results.h. */
#include "wp_internal.h"

#include <stdlib.h>

#define FIRST_SIZE 16
/* Submitters are not kept asleep while jobs run for so long (ns) and workers may be without any. */
#define LONG_RUN_NS 50000u

struct wp_results {
    wp_word references;
    wp_lock lock;
    uint64_t capacity;    /* Constant. */
    wp_job **unread;      /* Lock: ring of finished jobs, each with a reference. */
    uint64_t size;        /* Lock: what the ring holds; a power of two, never less than `reserved`. */
    uint64_t head;        /* Lock: the next to be read. */
    uint64_t tail;        /* Lock. */
    uint64_t reserved;    /* Lock: accepted and not read. */
    uint64_t next_index;  /* Lock. */
    wp_closable closable; /* With `lock`. */
    uint32_t readers;     /* Lock: threads that sleep for a result. */
    uint32_t blocked;     /* Lock: threads that sleep for room. */
    wp_word helpers; /* Changed under the lock: readers that run jobs of the queue, and sleep because there are none. */
    wp_word arrived; /* Changes when readers should look again. */
    wp_word room;    /* Changes when submitters should. */
};

wp_results *
wp_results_new(uint64_t capacity)
{
    wp_results *results = calloc(1, sizeof *results);
    if (results != NULL) {
        wp_store_relaxed(&results->references, 1);
        results->capacity = capacity;
        wp_closable_init(&results->closable, &results->lock, NULL);
    }
    return results;
}

void
wp_results_ref(wp_results *results)
{
    wp_add_relaxed(&results->references, 1);
}

void
wp_results_unref(wp_results *results)
{
    if (wp_sub_acq_rel(&results->references, 1) != 1) {
        return;
    }
    for (; results->head != results->tail; results->head++) {
        wp_job_unref(results->unread[results->head & (results->size - 1)]);
    }
    free(results->unread);
    free(results);
}

wp_closable *
wp_results_closable(wp_results *results)
{
    return &results->closable;
}

/* Lock held. */
static bool
is_closed(const wp_results *results)
{
    return wp_load_relaxed(&results->closable.closed) != 0;
}

/* Makes the ring large enough for one more reservation, so that delivering never needs memory. Lock held. */
static bool
make_room(wp_results *results)
{
    if (results->reserved < results->size) {
        return true;
    }
    uint64_t size = results->size > 0 ? results->size * 2 : FIRST_SIZE;
    wp_job **unread = size <= SIZE_MAX / sizeof *unread ? malloc((size_t)size * sizeof *unread) : NULL;
    if (unread == NULL) {
        return false;
    }
    for (uint64_t at = results->head; at != results->tail; at++) {
        unread[at & (size - 1)] = results->unread[at & (results->size - 1)];
    }
    free(results->unread);
    results->unread = unread;
    results->size = size;
    return true;
}

/* Hands a wake-up on that this thread got and does not use. */
static void
pass_room(wp_results *results)
{
    wp_add_acq_rel(&results->room, 1);
    wp_word_wake(&results->room, 1);
}

enum wp_result
wp_results_reserve(wp_results *results, uint64_t *index)
{
    enum wp_result result = WP_OK;
    wp_lock_take(&results->lock);
    if (is_closed(results)) {
        result = WP_CLOSED;
    } else if (results->reserved >= results->capacity) {
        result = WP_FULL;
    } else if (!make_room(results)) {
        result = WP_NO_MEMORY;
    } else {
        results->reserved++;
        *index = results->next_index++;
    }
    wp_lock_give(&results->lock);
    if (result == WP_NO_MEMORY) {
        pass_room(results); /* It may have been woken for the place. */
    }
    return result;
}

/* A place is free again. Sleeping submitters are woken when half of the places are, or at once where a wake-up is cheap
 * beside the job that had the place; and then as many as there are places. Lock held; returns how many to wake. */
static uint32_t
free_place(wp_results *results, bool at_once)
{
    results->reserved--;
    if (results->blocked == 0 || (results->reserved > results->capacity / 2 && !at_once)) {
        return 0;
    }
    wp_add_acq_rel(&results->room, 1);
    uint64_t room = results->capacity - results->reserved;
    return room < WP_WAKE_ALL ? (uint32_t)room : WP_WAKE_ALL;
}

/* After the last result of a closed queue, every sleeping reader must learn that there are no more. Lock held. */
static bool
has_finished(wp_results *results)
{
    return is_closed(results) && results->reserved == 0;
}

static void
wake_after(wp_results *results, uint32_t places, bool finished)
{
    if (places > 0) {
        wp_word_wake(&results->room, places);
    }
    if (finished) {
        wp_add_acq_rel(&results->arrived, 1);
        wp_word_wake(&results->arrived, WP_WAKE_ALL);
    }
}

void
wp_results_unreserve(wp_results *results, uint64_t index)
{
    wp_lock_take(&results->lock);
    if (index + 1 == results->next_index) {
        results->next_index = index; /* Numbers have no gap unless another submitter took one meanwhile. */
    }
    uint32_t places = free_place(results, true);
    bool finished = has_finished(results);
    wp_lock_give(&results->lock);
    wake_after(results, places, finished);
}

/* Lock held. */
static enum wp_result
look_for_place(const wp_results *results)
{
    return is_closed(results) ? WP_CLOSED : results->reserved >= results->capacity ? WP_FULL : WP_OK;
}

static enum wp_result
sleep_for_room(void *context, uint32_t seen, uint64_t deadline)
{
    wp_results *results = context;
    wp_lock_take(&results->lock);
    enum wp_result result = look_for_place(results);
    results->blocked += result == WP_FULL;
    wp_lock_give(&results->lock);
    if (result != WP_FULL) {
        return result;
    }
    enum wp_result slept = wp_result_of_wait(wp_word_wait(&results->room, seen, deadline));
    wp_lock_take(&results->lock);
    results->blocked--;
    result = look_for_place(results); /* There may be one, though not enough for a wake-up. */
    wp_lock_give(&results->lock);
    return result == WP_FULL && slept != WP_OK ? slept : result;
}

enum wp_result
wp_results_wait_room(wp_results *results, const wp_until *until)
{
    enum wp_result result = wp_wait_for_room(&results->room, until, sleep_for_room, results);
    if (result != WP_OK) {
        pass_room(results);
    }
    return result;
}

/* The job gives its reference to the queue up here: else the two would keep each other, when nobody reads any more. */
void
wp_results_deliver(wp_results *results, wp_job *job)
{
    wp_job_ref(job);
    wp_lock_take(&results->lock);
    __atomic_store_n(&job->extra->results, NULL, __ATOMIC_RELAXED); /* See wp_worker_serves. */
    results->unread[results->tail++ & (results->size - 1)] = job;
    bool wake = results->readers > 0;
    if (wake) {
        wp_add_acq_rel(&results->arrived, 1);
    }
    wp_lock_give(&results->lock);
    if (wake) {
        wp_word_wake(&results->arrived, 1);
    }
    wp_results_unref(results);
}

/* Takes the next result if there is one, lock held. */
static enum wp_result
take_next(wp_results *results, wp_job **job, uint32_t *places)
{
    if (results->head == results->tail) {
        return has_finished(results) ? WP_FINISHED : WP_FULL;
    }
    *job = results->unread[results->head++ & (results->size - 1)];
    *places = free_place(results, (*job)->extra->ran >= LONG_RUN_NS);
    return WP_OK;
}

/* Waits for the next result until it comes, something ends the wait, or (WP_FULL) the pool, if one is given, is closed and
 * the queue is not. */
static enum wp_result
next_or_woken(wp_results *results, wp_pool *pool, uint64_t deadline, wp_job **job)
{
    enum wp_result result;
    enum wp_result slept = WP_OK;
    uint32_t places = 0;
    wp_lock_take(&results->lock);
    while ((result = take_next(results, job, &places)) == WP_FULL && slept == WP_OK) {
        uint32_t seen = wp_load_relaxed(&results->arrived);
        if (pool != NULL && wp_closable_is_closed(wp_pool_closable(pool)) && !is_closed(results)) {
            break;
        }
        results->readers++;
        wp_lock_give(&results->lock);
        slept = wp_result_of_wait(wp_word_wait(&results->arrived, seen, deadline));
        wp_lock_take(&results->lock);
        results->readers--;
    }
    bool finished = result == WP_OK && has_finished(results);
    wp_lock_give(&results->lock);
    wake_after(results, places, finished);
    return result == WP_FULL && slept != WP_OK ? slept : result;
}

enum wp_result
wp_results_next(wp_results *results, uint64_t deadline, wp_job **job)
{
    return next_or_woken(results, NULL, deadline, job);
}

/* The pool's closing closes the queue, by who waits at it: then a place that is given back later wakes the readers too. */
bool
wp_results_close_with(wp_results *results, wp_pool *pool)
{
    bool closes = wp_closable_is_closed(wp_pool_closable(pool));
    if (closes) {
        wp_results_close(results);
    }
    return closes;
}

enum wp_result
wp_results_next_of(wp_results *results, wp_pool *pool, uint64_t deadline, wp_job **job)
{
    wp_sleeper sleeper;
    if (!wp_closable_watch(wp_pool_closable(pool), &sleeper, &results->arrived)) {
        wp_results_close_with(results, pool);
        return wp_results_next(results, deadline, job);
    }
    enum wp_result result;
    do {
        result = next_or_woken(results, pool, deadline, job);
    } while (result == WP_FULL && !wp_results_close_with(results, pool));
    wp_closable_leave(wp_pool_closable(pool), &sleeper);
    return result == WP_FULL ? wp_results_next(results, deadline, job) : result;
}

/* A helper looks for jobs after it has said that it sleeps; who submits one looks for helpers after that. Both look
 * under the pool's lock or after it, so one of them sees the other. */
uint32_t
wp_results_listen(wp_results *results)
{
    wp_lock_take(&results->lock);
    uint32_t seen = wp_load_relaxed(&results->arrived);
    results->readers++;
    wp_add_acq_rel(&results->helpers, 1);
    wp_lock_give(&results->lock);
    return seen;
}

enum wp_wait_result
wp_results_sleep(wp_results *results, uint32_t seen, uint64_t deadline)
{
    return wp_word_wait(&results->arrived, seen, deadline);
}

void
wp_results_ignore(wp_results *results)
{
    wp_lock_take(&results->lock);
    results->readers--;
    wp_sub_acq_rel(&results->helpers, 1);
    wp_lock_give(&results->lock);
}

void
wp_results_call_helpers(wp_results *results)
{
    if (wp_load_acquire(&results->helpers) == 0) {
        return;
    }
    wp_add_acq_rel(&results->arrived, 1);
    wp_word_wake(&results->arrived, WP_WAKE_ALL);
}

void
wp_results_visit_unread(wp_results *results, bool (*visit)(void *, wp_job *), void *context)
{
    wp_lock_take(&results->lock);
    for (uint64_t at = results->head; at != results->tail; at++) {
        if (!visit(context, results->unread[at & (results->size - 1)])) {
            break;
        }
    }
    wp_lock_give(&results->lock);
}

void
wp_results_close(wp_results *results)
{
    wp_lock_take(&results->lock);
    wp_closable_close(&results->closable);
    wp_add_acq_rel(&results->room, 1);
    wp_lock_give(&results->lock);
    wake_after(results, WP_WAKE_ALL, true);
}

void
wp_results_count(wp_results *results, uint64_t *reserved, uint64_t *unread)
{
    wp_lock_take(&results->lock);
    *reserved = results->reserved;
    *unread = results->tail - results->head;
    wp_lock_give(&results->lock);
}
