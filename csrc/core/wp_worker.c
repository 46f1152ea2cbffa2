/* A worker's life: start, claim, run, sleep (wp_idle.c), retire.
 *
 * The loop holds the pool's lock while it looks for work and gives it back for everything else.
 */
#include "wp_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* After a thread could not be started, the next attempt waits this long (ns): each costs a failing system call. */
#define START_AGAIN_NS 100000000u

/* A worker that has done so many jobs since it last slept, each in less than this (ns), serves a stream: more are about
 * to come. A test may want another number. */
#ifndef WP_STREAM
#define WP_STREAM 64u
#endif
#define STREAM_NS 1000u
/* So does one that was called so often (counted twice) in vain, each time so soon (ns) after it fell asleep. */
#define TOO_OFTEN_IN_VAIN 8u
#define SOON_NS 100000u
/* More jobs than this that were taken since its last call count as this many. */
#define MANY_TAKEN 1000
/* Then a claim of fewer jobs than this, which left none, is not worth its cost: the next one is given a moment to grow. */
#define SMALL_CLAIM 64u
#define MOMENT 40 /* Pauses: about a microsecond on x86-64. */

/* The worker that this thread is. Thread-local, so it is no shared state. */
static _Thread_local wp_worker *self_worker;

wp_worker *
wp_worker_self(void)
{
    return self_worker;
}

wp_worker *
wp_worker_in(const wp_pool *pool)
{
    wp_worker *self = wp_worker_self();
    return self != NULL && self->pool == pool && !self->is_orphan ? self : NULL;
}

wp_pool *
wp_worker_pool(const wp_worker *worker)
{
    return worker->pool;
}

uint32_t
wp_worker_index(const wp_worker *worker)
{
    return worker->index;
}

void **
wp_worker_local(wp_worker *worker)
{
    return &worker->local;
}

bool
wp_worker_hides_any(wp_worker *worker)
{
    return wp_stretch_left(&worker->stretch) > 0;
}

void
wp_worker_leave_claim(wp_worker *worker)
{
    wp_claim_leave(worker);
}

bool
wp_worker_is_wanted(const wp_worker *self)
{
    uint32_t more_urgent = self != NULL ? (1u << self->lane) - 1 : 0;
    return more_urgent != 0 && (wp_load_relaxed(&self->pool->ready) & more_urgent) != 0;
}

/* ---- Coming back ---- */

/* Whoever counted on this worker has called nobody. */
static void
stay_away(wp_worker *self)
{
    if (wp_load_relaxed(&self->coming_back) == WP_AWAY ||
        wp_exchange_acq_rel(&self->coming_back, WP_AWAY) != WP_COUNTED_ON) {
        return;
    }
    wp_pool *pool = self->pool;
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    wp_call_help(pool, false, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

void
wp_worker_stays_away(void)
{
    if (self_worker != NULL) {
        stay_away(self_worker);
    }
}

/* Lock held: it is there. */
static void
is_back(wp_worker *self)
{
    uint32_t before = wp_load_relaxed(&self->coming_back);
    self->was_counted_on = before == WP_COUNTED_ON;
    if (before != WP_AWAY) {
        wp_store_relaxed(&self->coming_back, WP_AWAY);
    }
}

/* ---- The current job, which others may look at ---- */

/* Bit 0 of `current` is a lock of its own: while a report reads the job, the worker must not drop it. */
#define LOOKED_AT ((uintptr_t)1)

wp_job *
wp_worker_job(const wp_worker *worker)
{
    return (wp_job *)((uintptr_t)wp_load_relaxed(&worker->current) & ~LOOKED_AT);
}

wp_job *
wp_worker_set_current(wp_worker *worker, wp_job *job)
{
    wp_job *before = wp_worker_job(worker);
    wp_job *expected = before;
    while (!wp_cas_weak_acq_rel(&worker->current, &expected, job)) {
        expected = before;
        wp_pause(); /* Somebody writes one line of text about the job. */
    }
    return before;
}

/* The current job, which stays until wp_store_release(&worker->current, job); NULL if there is none to look at. */
static wp_job *
look_at_current(wp_worker *worker)
{
    wp_job *job = wp_load_acquire(&worker->current);
    bool is_held = job != NULL && !((uintptr_t)job & LOOKED_AT) &&
                   wp_cas_acq_rel(&worker->current, &job, (wp_job *)((uintptr_t)job | LOOKED_AT));
    return is_held ? job : NULL;
}

bool
wp_worker_serves(wp_worker *worker, const wp_group *group, const wp_results *results)
{
    wp_job *job = look_at_current(worker);
    if (job == NULL) {
        return true;
    }
    bool of_group = group != NULL && (job->flags & WP_JOB_IS_RANGE) && wp_range_of(job)->group == group;
    bool of_results =
        results != NULL && job->extra != NULL && __atomic_load_n(&job->extra->results, __ATOMIC_RELAXED) == results;
    wp_store_release(&worker->current, job);
    return of_group || of_results;
}

static void
describe_current(wp_worker *worker, char *text, size_t size)
{
    wp_job *job = look_at_current(worker);
    text[0] = '\0';
    if (job == NULL) {
        return;
    }
    if (job->class->describe != NULL) {
        job->class->describe(job, text, size);
    } else {
        snprintf(text, size, "%s", job->class->name);
    }
    wp_store_release(&worker->current, job);
}

void
wp_pool_describe_running(wp_pool *pool, void (*report)(void *, uint32_t, const char *), void *context)
{
    char text[256];
    wp_lock_take(&pool->lock);
    for (wp_worker *worker = pool->workers; worker != NULL; worker = worker->next_worker) {
        describe_current(worker, text, sizeof text);
        if (text[0] != '\0') {
            report(context, worker->index, text);
        }
    }
    wp_lock_give(&pool->lock);
}

/* ---- Running a claim ---- */

/* What a worker keeps in mind while it works through a claim. */
typedef struct work {
    wp_worker *self;
    const wp_job_class *entered; /* The class whose enter was called last, until its leave. */
    uint64_t now;                /* The clock as last read. */
    uint64_t since;              /* When the jobs not yet measured began. */
    uint64_t unmeasured;         /* Jobs that ended since. */
} work;

static void
read_clock(work *w)
{
    w->now = wp_clock();
}

/* The worker has what its class's jobs enter for, or does not need it any more, lock held. */
static void
stop_entering(wp_worker *self)
{
    self->pool->lanes[self->lane].entering -= self->is_entering;
    self->is_entering = false;
}

/* The worker has entered the job's class: nobody was called meanwhile, neither for what it claimed beyond this job nor for
 * what others did. */
static void
note_entered(wp_worker *self, wp_job *job)
{
    wp_pool *pool = self->pool;
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    stop_entering(self);
    uint32_t left = wp_stretch_left(&self->stretch) + 1;
    left += left == 1 && wp_claims_hide_any(pool, self);
    wp_call_help_in_time(pool, job, left, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

/* The job is of the class to enter; NULL to leave the last one. */
static void
change_class(work *w, wp_job *job)
{
    const wp_job_class *class = job != NULL ? job->class : NULL;
    if (w->entered == class) {
        return;
    }
    if (w->entered != NULL && w->entered->leave != NULL) {
        w->entered->leave(w->self);
    }
    w->entered = class;
    if (class != NULL && class->enter != NULL) {
        class->enter(w->self);
        /* Entering may take long (the host's lock); that is waiting, not running. */
        read_clock(w);
        w->since = w->now;
        w->unmeasured = 0;
    }
    if (w->self->is_entering) {
        note_entered(w->self, job);
    }
}

/* Puts the time since the last measurement down to the jobs that ended in it. */
static void
measure(work *w, unsigned lane)
{
    if (w->unmeasured == 0) {
        return;
    }
    uint64_t elapsed = w->now - w->since;
    wp_histogram_add(&w->self->tally->lanes[lane].ran, elapsed / w->unmeasured, w->unmeasured);
    wp_pace_note(&w->self->pool->lanes[lane].pace, elapsed, w->unmeasured);
    w->since = w->now;
    w->unmeasured = 0;
}

/* Whether to read the clock after the job. Those that are too short for that are measured together. */
static bool
wants_clock(const work *w, const wp_job *job)
{
    const wp_pace *pace = &w->self->pool->lanes[w->self->lane].pace;
    return !wp_pace_is_below(pace, WP_ALWAYS_MEASURED_NS) || job->extra != NULL || (job->flags & WP_JOB_TIMED) != 0;
}

/* A place at a job, or a job that others may still be at: it is counted elsewhere, and says nothing about the pace of the
 * lane's jobs. */
static void
pass_over(work *w, wp_job *job, wp_state outcome)
{
    read_clock(w);
    w->since = w->now;
    w->unmeasured = 0;
    if (outcome != WP_RUNNING) {
        wp_job_finish(job, outcome, w->now);
    }
}

static void
run_plain(work *w, wp_job *job)
{
    wp_worker *self = w->self;
    change_class(w, job);
    if (!wp_job_begin(job, self->index, w->now)) {
        return; /* Cancelled, or taken back by who waits for it; they have counted it. */
    }
    wp_tally_started(self->tally, job, w->now);
    wp_worker_set_current(self, job);
    wp_state outcome = job->class->run(job, self);
    wp_worker_set_current(self, NULL);
    if (outcome == WP_RUNNING || (job->flags & WP_JOB_IS_HAND)) {
        pass_over(w, job, outcome);
        return;
    }
    w->unmeasured++;
    if (wants_clock(w, job)) {
        read_clock(w);
        measure(w, job->lane);
        outcome = w->now >= job->deadline ? WP_TIMED_OUT : outcome;
    }
    wp_count(&self->tally->lanes[job->lane].ended[outcome], 1);
    self->ended++;
    if (self->may_come_back && wp_stretch_left(&self->stretch) == 0) {
        wp_worker_comes_back(self);
    }
    wp_job_finish(job, outcome, w->now);
}

/* Notes what a part of a range took and that its units are done. */
static void
count_units(work *w, wp_job *job, uint32_t done)
{
    read_clock(w);
    uint64_t elapsed = w->now - w->since;
    w->since = w->now;
    if (done > 0) {
        if (!wp_range_of(job)->group->class_measures) {
            wp_pace_note(wp_range_of(job)->group->pace, elapsed, done);
        }
        wp_histogram_add(&w->self->tally->lanes[job->lane].ran, elapsed / done, done);
        wp_count(&w->self->tally->lanes[job->lane].ended[WP_DONE], done);
        w->self->ended += done;
    }
}

/* A range is always claimed alone, with a reference to it. What it leaves because it is wanted elsewhere goes back; if
 * that fails for want of memory it goes on here. */
static void
run_range(work *w)
{
    wp_worker *self = w->self;
    wp_job *job = self->claimed[0].job;
    change_class(w, job);
    wp_tally_started(self->tally, job, w->now);
    while (wp_stretch_left(&self->stretch) > 0) {
        wp_worker_set_current(self, job);
        uint32_t done = job->class->run_range(job, &self->stretch, self);
        wp_worker_set_current(self, NULL);
        count_units(w, job, done);
        if (wp_stretch_left(&self->stretch) > 0) {
            wp_claim_give_back(self);
        }
        if (done > 0) {
            wp_range_done(wp_range_of(job), done);
        }
    }
    wp_job_unref(job);
}

static void
run_jobs(work *w)
{
    wp_worker *self = w->self;
    uint32_t at;
    uint32_t end;
    while (wp_stretch_take(&self->stretch, 1, &at, &end)) {
        wp_job *job = self->claimed[at].job;
        run_plain(w, job);
        wp_job_unref(job); /* While the class is entered: it may need that to let go of what the job holds. */
        if (wp_worker_is_wanted(self) && wp_stretch_left(&self->stretch) > 0) {
            wp_claim_give_back(self);
        }
    }
}

/* Returns how many jobs ended. */
static uint64_t
run_claim(wp_worker *self)
{
    work w = {.self = self};
    uint64_t before = self->ended;
    read_clock(&w);
    uint64_t begin = w.now;
    w.since = w.now;
    if (self->claims_range) {
        run_range(&w);
    } else {
        run_jobs(&w);
    }
    if (w.unmeasured > 0) {
        read_clock(&w);
        measure(&w, self->lane);
    }
    change_class(&w, NULL);
    wp_worker_comes_back(self);
    wp_count(&self->tally->busy_ns, w.now - begin);
    uint64_t done = self->ended - before;
    self->streak = w.now - begin < done * STREAM_NS ? self->streak + done : 0;
    return done;
}

/* ---- The loop ---- */

/* Reports the last claim, lock held. */
static void
report(wp_pool *pool, wp_worker *self, wp_errands *errands)
{
    stop_entering(self);
    if (self->has_claim) {
        self->has_claim = false;
        pool->lanes[self->lane].running--;
        wp_lane_refresh(pool, self->lane);
        if (pool->lanes[self->lane].capacity == 0) {
            wp_offer_room(pool, self->lane, errands); /* The lane may limit how many run. */
        }
    }
    if (self->ended > 0) {
        wp_report_ended(pool, self->ended, errands);
        self->ended = 0;
    }
}

/* Whether the host could initialise the worker. That may take long: meanwhile others are called, and started if there
 * is more to do than those that are being initialised will take. */
static bool
initialise(wp_pool *pool, wp_worker *self)
{
    if (pool->hooks.worker_start == NULL) {
        return true;
    }
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    pool->waking = false;
    pool->n_starting++;
    wp_call_help(pool, false, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    return pool->hooks.worker_start(pool->hooks.context, self) == 0;
}

/* The worker is there, lock held. */
static void
arrive(wp_pool *pool, wp_worker *self)
{
    self->was_called = true;
    self->taken_seen = pool->taken_here;
    if (pool->hooks.worker_start != NULL) {
        pool->n_starting--;
    } else {
        pool->waking = false;
    }
}

/* Notes how many jobs were run by those who wait for them since the worker fell asleep. The mean of that over its calls
 * moves by an eighth. */
static void
note_taken_here(const wp_pool *pool, wp_worker *self)
{
    uint64_t taken = pool->taken_here - self->taken_seen;
    int64_t noted = taken < MANY_TAKEN ? (int64_t)taken : MANY_TAKEN;
    self->taken_beside += (noted * 16 - self->taken_beside) / 8;
}

/* Whether the claim is of one job, which left none, where most are run by those who wait for them. */
static bool
is_crumb(wp_worker *self)
{
    return self->took_all && wp_stretch_left(&self->stretch) == 1 && self->taken_beside > 16;
}

/* A worker is called in vain where those who wait for their jobs run them themselves: it finds nothing, or comes just
 * before one of them. What matters is how often that is soon after it fell asleep. */
static void
note_call(wp_pool *pool, wp_worker *self, bool has_claimed)
{
    if (self->was_called) {
        note_taken_here(pool, self);
    }
    if (has_claimed && !is_crumb(self)) {
        self->calls_in_vain -= self->calls_in_vain > 0;
    } else if (self->was_called) {
        if (wp_clock() - self->slept_at >= SOON_NS) {
            self->calls_in_vain = 0;
        } else if (self->calls_in_vain < TOO_OFTEN_IN_VAIN) {
            self->calls_in_vain += 2;
        }
        self->was_in_vain = true;
        self->was_called = has_claimed;
    }
}

/* For what is left in the lane and, beyond the first job, in the claim. A worker that was called, or counted on, may have
 * been meant for what another has claimed; one that took over some of that, or came from a patrol to do so, may have left the rest. */
static void
call_help_after_claim(wp_pool *pool, wp_worker *self, bool takes_over, wp_errands *errands)
{
    uint32_t left = wp_stretch_left(&self->stretch);
    if (left == 1 && (takes_over || self->was_called || self->was_counted_on) && wp_claims_hide_any(pool, self)) {
        left = 2;
    }
    self->was_called = false;
    wp_call_help_in_time(pool, self->claimed[0].job, left, errands);
}

static bool
sleep_until_called(wp_pool *pool, wp_worker *self, wp_errands *errands)
{
    bool is_called_in_vain = self->was_in_vain && self->calls_in_vain >= TOO_OFTEN_IN_VAIN;
    bool serves_stream = self->streak >= WP_STREAM || is_called_in_vain;
    self->streak = 0;
    self->was_in_vain = false;
    self->takes_over = false;
    self->taken_seen = pool->taken_here;
    self->slept_at = wp_clock();
    return wp_worker_sleep(pool, self, serves_stream, errands);
}

/* Runs a claim and, where it was a small part of a stream, lets more jobs gather. */
static void
work_on_claim(wp_worker *self)
{
    bool took_all = self->took_all;
    uint64_t done = run_claim(self);
    bool gather = took_all && done < SMALL_CLAIM && self->streak >= WP_STREAM;
    for (int i = 0; gather && i < MOMENT; i++) {
        wp_pause();
    }
}

static void
work_until_leaving(wp_pool *pool, wp_worker *self)
{
    wp_errands errands = {0};
    bool rested = false;
    wp_lock_take(&pool->lock);
    arrive(pool, self);
    for (;;) {
        if (self->is_orphan) {
            wp_lock_give(&pool->lock);
            return;
        }
        is_back(self);
        report(pool, self, &errands);
        if (wp_has_surplus(pool)) {
            break;
        }
        bool takes_over = self->takes_over;
        bool claimed = wp_claim(pool, self);
        bool took_over = !claimed && wp_claim_from_others(pool, self);
        note_call(pool, self, claimed || took_over);
        if (claimed || took_over) {
            wp_offer_room(pool, self->lane, &errands);
            call_help_after_claim(pool, self, takes_over || took_over, &errands);
            wp_give_lock_and_run(pool, &errands);
            work_on_claim(self);
            rested = false;
            wp_lock_take(&pool->lock);
        } else if (wp_worker_should_leave(pool) || (rested && !sleep_until_called(pool, self, &errands))) {
            break;
        } else if (!rested) {
            rested = true;
            wp_worker_rest(pool, self, &errands);
        } else {
            rested = false;
        }
    }
    /* Work that this worker leaves is for others, who may now be started in its place. */
    pool->n_workers--;
    wp_call_help(pool, false, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

static void
name_thread(const wp_worker *self)
{
    char name[48];
    snprintf(name, sizeof name, "%s_%u", self->pool->config.thread_name, self->index);
    wp_thread_set_name(name);
}

/* The maker may note anew meanwhile, if it starts another. */
static void
inherit(wp_pool *pool)
{
    wp_lock_take(&pool->inherited_lock);
    wp_inherited inherited = pool->inherited;
    wp_lock_give(&pool->inherited_lock);
    wp_inherited_take(&inherited);
}

static void *
worker_main(void *argument)
{
    wp_worker *self = argument;
    wp_pool *pool = self->pool;
    self_worker = self;
    name_thread(self);
    inherit(pool);
    if (pool->hooks.worker_begin != NULL) {
        pool->hooks.worker_begin(pool->hooks.context, self);
    }
    if (!initialise(pool, self)) {
        wp_pool_break(pool);
    }
    if (!self->is_orphan) {
        work_until_leaving(pool, self);
    }
    if (!self->is_orphan && pool->hooks.worker_stop != NULL) {
        pool->hooks.worker_stop(pool->hooks.context, self);
    }
    if (!self->is_orphan) {
        self_worker = NULL;
        wp_pool_thread_left(pool, self);
    }
    return NULL;
}

/* ---- After a fork ---- */

/* What forked, a job or a hook, goes on in the child, as its only thread; but there this thread is no worker any more,
 * and ends after it. */
void
wp_worker_after_fork(const wp_pool *pool)
{
    wp_worker *self = self_worker;
    if (self != NULL && self->pool == pool) {
        self->is_orphan = true;
        wp_stretch_set(&self->stretch, 0, 0);
        wp_store_relaxed(&self->current, wp_worker_job(self)); /* Nobody looks at it here. */
    }
}

/* ---- Start ---- */

static wp_worker *
worker_new(wp_pool *pool)
{
    void *memory = NULL;
    if (posix_memalign(&memory, WP_CACHE_LINE, sizeof(wp_worker)) != 0) {
        return NULL;
    }
    wp_worker *worker = memory;
    *worker = (wp_worker){.pool = pool};
    worker->tally = wp_tally_new(pool->config.n_lanes);
    if (worker->tally == NULL) {
        free(worker);
        return NULL;
    }
    return worker;
}

void
wp_worker_free(wp_worker *worker)
{
    free(worker->tally);
    free(worker);
}

/* False without memory. */
static bool
link_worker(wp_pool *pool, wp_worker *worker)
{
    wp_lock_take(&pool->lock);
    worker->index = wp_numbers_take(&pool->numbers);
    bool linked = worker->index != WP_NO_NUMBER;
    if (linked) {
        worker->next_worker = pool->workers;
        worker->link = &pool->workers;
        if (pool->workers != NULL) {
            pool->workers->link = &worker->next_worker;
        }
        pool->workers = worker;
    }
    wp_lock_give(&pool->lock);
    return linked;
}

void
wp_worker_unlink(wp_pool *pool, wp_worker *worker)
{
    pool->unlinked++;
    wp_leave_claimers(worker);
    wp_numbers_give(&pool->numbers, worker->index);
    *worker->link = worker->next_worker;
    if (worker->next_worker != NULL) {
        worker->next_worker->link = worker->link;
    }
}

/* What came meanwhile called nobody, because this worker was on its way: that is made up for. */
static void
start_failed(wp_pool *pool, wp_worker *worker)
{
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    if (worker != NULL) {
        wp_worker_unlink(pool, worker);
    }
    pool->n_workers--;
    pool->waking = false;
    pool->start_again = wp_clock() + START_AGAIN_NS;
    if (pool->idle != NULL) {
        wp_call_help(pool, false, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    if (worker != NULL) {
        wp_worker_free(worker);
    }
    wp_pool_thread_left(pool, NULL);
}

static void
note_again(wp_pool *pool)
{
    wp_lock_take(&pool->inherited_lock);
    if (wp_inherited_is_mine(&pool->inherited)) {
        wp_inherited_note(&pool->inherited);
    }
    wp_lock_give(&pool->inherited_lock);
}

int
wp_worker_start(wp_pool *pool)
{
    note_again(pool);
    wp_pool_hold(pool); /* The worker's. */
    wp_worker *worker = worker_new(pool);
    if (worker != NULL && !link_worker(pool, worker)) {
        wp_worker_free(worker);
        worker = NULL;
    }
    if (worker == NULL) {
        start_failed(pool, NULL);
        return ENOMEM;
    }
    pthread_t thread; /* The worker stores its own: it may be gone before pthread_create returns here. */
    int error = wp_thread_start(&thread, worker_main, worker, wp_pool_stack_size(pool));
    if (error != 0) {
        start_failed(pool, worker);
    }
    return error;
}
