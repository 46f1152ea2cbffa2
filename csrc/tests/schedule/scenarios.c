/* What the core is put through under the scheduler: small stories in which every job must end once, and nobody may be left
 * asleep. Each is run under thousands of schedules; see schedule.h.
 *
 * Capacities are 0 to 4, workers 1 to 3. Threads of a story wait for each other without time limits wherever they can: a
 * wake-up that is lost then leaves everybody asleep, which the scheduler reports. Jobs that wait for each other ("stand
 * together") show that none is hidden behind another while a worker is free.
 */
#include "wp_function.h"
#include "wp_internal.h"
#include "wp_stage.h"

#include "schedule.h"

#include <stdlib.h>
#include <string.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            schedule_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                        \
        }                                                                                                              \
    } while (0)

/* A number from `least` to `most`; the least where scenarios are small. */
static uint32_t
between(uint32_t least, uint32_t most)
{
    return least + schedule_random(most - least + 1);
}

/* As above, but `small` in a small scenario. */
static uint32_t
between_or(uint32_t small, uint32_t least, uint32_t most)
{
    return schedule_is_small() ? small : between(least, most);
}

static bool
one_in(uint32_t n)
{
    return !schedule_is_small() && schedule_random(n) == 0;
}

/* ---- What must hold at every moment ---- */

/* The pool's own counts, where nobody holds its lock. */
static void
look_at_pool(void *context)
{
    wp_pool *pool = context;
    if (atomic_load_explicit(&pool->lock.word, memory_order_relaxed) != WP_LOCK_FREE) {
        return;
    }
    uint32_t idle = 0;
    for (const wp_worker *worker = pool->idle; worker != NULL; worker = worker->next_idle) {
        MUST(worker->is_idle);
        idle++;
    }
    MUST(idle == pool->n_idle);
    MUST(pool->n_workers <= pool->n_threads);
    uint32_t ready = atomic_load_explicit(&pool->ready, memory_order_relaxed);
    for (unsigned i = 0; i < pool->config.n_lanes; i++) {
        const wp_lane *lane = &pool->lanes[i];
        MUST((ready >> i & 1) == (lane->waiting > 0 && lane->running < lane->max_running));
        MUST(lane->running <= lane->max_running);
    }
}

static wp_pool *
new_pool(uint32_t workers, uint32_t lanes, uint64_t capacity, uint64_t idle_timeout)
{
    wp_pool_config config = {
        .max_workers = workers, .n_lanes = lanes, .idle_timeout = idle_timeout, .thread_name = "test"};
    for (uint32_t i = 0; i < lanes; i++) {
        config.lanes[i].capacity = capacity;
    }
    wp_pool *pool = wp_pool_new(&config);
    MUST(pool != NULL);
    schedule_set_invariant(look_at_pool, pool);
    return pool;
}

static void
join_pool(wp_pool *pool)
{
    while (wp_pool_join(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
}

/* Waits until nothing is unfinished, through interruptions. */
static void
drain_pool(wp_pool *pool)
{
    while (wp_pool_drain(pool, WP_FOREVER) != WP_OK) {
    }
}

/* Closes and drops it; every job that it took has ended, in one way. */
static void
end_pool(wp_pool *pool)
{
    wp_pool_stats stats;
    wp_pool_close(pool);
    join_pool(pool);
    wp_pool_stats_get(pool, &stats);
    MUST(stats.unfinished == 0);
    for (unsigned i = 0; i < stats.n_lanes; i++) {
        uint64_t ended = 0;
        for (unsigned state = 0; state < WP_STATES; state++) {
            ended += stats.lanes[i].ended[state];
        }
        MUST(stats.lanes[i].waiting == 0);
        MUST(ended == stats.lanes[i].submitted);
    }
    schedule_set_invariant(NULL, NULL);
    wp_pool_unref(pool);
}

/* ---- Jobs ---- */

enum { MOST_JOBS = 40 };

/* What the threads of a story share. */
typedef struct story {
    wp_pool *pool;
    wp_results *results;
    wp_stage *stage;
    wp_token *token;
    uint64_t takes;     /* Each job: ns of virtual time. */
    uint32_t each;      /* Jobs of each submitter. */
    uint64_t deadline;  /* Of submitters. */
    wp_word next;       /* The number of the next submitter. */
    wp_word submitters; /* That still submit. */
    wp_word together;   /* Jobs that stand together have begun. */
    uint32_t crowd;     /* So many do. */
    wp_lock host;       /* What jobs that run one at a time need. */
    wp_word accepted[MOST_JOBS];
    wp_word runs[MOST_JOBS];
    wp_word reports[MOST_JOBS];
    wp_job *jobs[MOST_JOBS];
} story;

/* The argument of a job. */
typedef struct part {
    story *s;
    uint32_t number;
} part;

static part parts[MOST_JOBS];

static void *
part_of(story *s, uint32_t number)
{
    MUST(number < MOST_JOBS);
    parts[number] = (part){s, number};
    return &parts[number];
}

static int
run_part(wp_job *job, void *argument)
{
    const part *p = argument;
    (void)job;
    wp_add_acq_rel(&p->s->runs[p->number], 1);
    schedule_spend(p->s->takes);
    return 0;
}

/* The same for a stage, with a status by which its result is known again. */
static int
run_item(wp_job *job, void *argument)
{
    return run_part(job, argument) + 7;
}

/* Runs until all of the crowd have begun. */
static int
stand_together(wp_job *job, void *argument)
{
    const part *p = argument;
    (void)job;
    wp_add_acq_rel(&p->s->runs[p->number], 1);
    uint32_t seen = wp_add_acq_rel(&p->s->together, 1) + 1;
    wp_word_wake(&p->s->together, WP_WAKE_ALL);
    while (seen < p->s->crowd) {
        wp_word_wait(&p->s->together, seen, WP_FOREVER);
        seen = wp_load_acquire(&p->s->together);
    }
    return 0;
}

static enum wp_result
submit_waiting(story *s, unsigned lane, wp_job *job)
{
    enum wp_result result;
    do {
        result = wp_pool_submit_wait(s->pool, lane, job, s->deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

static enum wp_result
submit_function(story *s, wp_function *function, uint32_t number)
{
    wp_job *job = wp_function_job(function, part_of(s, number), NULL);
    enum wp_result result = submit_waiting(s, 0, job);
    if (result == WP_OK) {
        wp_add_acq_rel(&s->accepted[number], 1);
    }
    wp_job_unref(job);
    return result;
}

/* Every job that was accepted ran, and no other. */
static void
check_runs(const story *s)
{
    for (uint32_t i = 0; i < MOST_JOBS; i++) {
        uint32_t accepted = wp_load_acquire((wp_word *)(uintptr_t)&s->accepted[i]);
        uint32_t runs = wp_load_acquire((wp_word *)(uintptr_t)&s->runs[i]);
        if (runs != accepted) {
            schedule_fail("job %u was accepted %u times and ran %u times", i, accepted, runs);
        }
    }
}

static uint64_t
some_time(void)
{
    static const uint64_t times[] = {50, 0, 3000, 60000, 2000000};
    return times[schedule_random(5)];
}

/* ---- The lock ---- */

typedef struct locked {
    wp_lock lock;
    wp_word inside;
} locked;

static void *
lock_main(void *argument)
{
    locked *l = argument;
    for (int i = 0; i < 2; i++) {
        wp_lock_take(&l->lock);
        MUST(wp_add_acq_rel(&l->inside, 1) == 0);
        wp_sub_acq_rel(&l->inside, 1);
        wp_lock_give(&l->lock);
    }
    return NULL;
}

static void
lock(void)
{
    locked l = {.inside = 0};
    pthread_t threads[2];
    uint32_t n = between_or(2, 1, 2);
    for (uint32_t i = 0; i < n; i++) {
        threads[i] = schedule_start(lock_main, &l);
    }
    lock_main(&l);
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    MUST(wp_load_relaxed(&l.lock.word) == WP_LOCK_FREE);
}

/* ---- Submitting, claiming, sleeping, waking ---- */

static void *
submitter_main(void *argument)
{
    story *s = argument;
    uint32_t first = wp_add_acq_rel(&s->next, 1) * s->each;
    for (uint32_t i = 0; i < s->each; i++) {
        enum wp_result result = submit_function(s, run_part, first + i);
        MUST(result == WP_OK || result == WP_CLOSED || (result == WP_LATE && s->deadline != WP_FOREVER));
    }
    return NULL;
}

static void
submit_from(story *s, uint32_t submitters)
{
    pthread_t threads[3];
    for (uint32_t i = 0; i < submitters; i++) {
        threads[i] = schedule_start(submitter_main, s);
    }
    for (uint32_t i = 0; i < submitters; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void
submit(void)
{
    story s = {.takes = some_time(), .each = between(1, 4), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(2, 1, 3), 1, between(1, 4), WP_FOREVER);
    submit_from(&s, between_or(1, 1, 3));
    end_pool(s.pool);
    check_runs(&s);
}

/* Submitters that sleep for room, while nothing but claims will wake them. */
static void
room(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 3, 5), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(1, 1, 2), 1, between(1, 3), WP_FOREVER);
    submit_from(&s, 2);
    end_pool(s.pool);
    check_runs(&s);
}

/* Submits jobs that hang on a token. */
static void *
stopped_main(void *argument)
{
    story *s = argument;
    uint32_t first = wp_add_acq_rel(&s->next, 1) * s->each;
    for (uint32_t i = 0; i < s->each; i++) {
        wp_function_options options = WP_NO_OPTIONS;
        options.token = s->token;
        wp_job *job = wp_function_job(run_part, part_of(s, first + i), &options);
        enum wp_result result = submit_waiting(s, 0, job);
        MUST(result == WP_OK || result == WP_STOPPED || result == WP_LATE);
        wp_job_unref(job);
    }
    return NULL;
}

static void *
token_canceller_main(void *argument)
{
    story *s = argument;
    wp_token_cancel(s->token);
    return NULL;
}

/* Sleepers for room that give up, at any moment, by time or by a token: a wake-up that was theirs is passed on. */
static void
giving_up(void)
{
    story s = {.takes = some_time(), .each = 3, .deadline = WP_FOREVER};
    s.pool = new_pool(1, 1, between(1, 2), WP_FOREVER);
    story hasty = {.pool = s.pool, .takes = s.takes, .each = between_or(1, 1, 2)};
    hasty.deadline = one_in(2) ? wp_clock() + 1000 : WP_FOREVER;
    hasty.token = wp_token_new(NULL, one_in(2) ? wp_clock() + 1000 : WP_FOREVER);
    wp_store_relaxed(&hasty.next, 4);
    pthread_t threads[4] = {schedule_start(submitter_main, &s), schedule_start(stopped_main, &hasty),
                            schedule_start(token_canceller_main, &hasty)};
    uint32_t n = 3;
    if (one_in(2)) {
        threads[n++] = schedule_start(stopped_main, &hasty);
    }
    while (n > 0) {
        pthread_join(threads[--n], NULL);
    }
    end_pool(s.pool);
    check_runs(&s);
    wp_token_unref(hasty.token);
}

/* ---- Jobs that stand together ---- */

static void *
crowd_main(void *argument)
{
    story *s = argument;
    uint32_t first = wp_add_acq_rel(&s->next, 1) * s->each;
    for (uint32_t i = 0; i < s->each; i++) {
        MUST(submit_function(s, stand_together, first + i) == WP_OK);
    }
    return NULL;
}

/* Without a waiting line, whoever is let in gets a worker of its own. */
static void
rendezvous(void)
{
    uint32_t workers = between_or(2, 1, 3);
    story s = {.each = 1, .deadline = WP_FOREVER, .crowd = workers};
    s.pool = new_pool(workers, 1, 0, one_in(4) ? 5000 : WP_FOREVER);
    for (uint32_t round = 0; round < between_or(1, 1, 3); round++) {
        pthread_t threads[3];
        wp_store_relaxed(&s.together, 0);
        for (uint32_t i = 0; i < workers; i++) {
            threads[i] = schedule_start(crowd_main, &s);
        }
        for (uint32_t i = 0; i < workers; i++) {
            pthread_join(threads[i], NULL);
        }
        drain_pool(s.pool);
    }
    end_pool(s.pool);
    check_runs(&s);
}

/* As many jobs as are let in without waiting all run at the same time. */
static void
hand_over(void)
{
    uint32_t workers = between_or(1, 1, 3);
    story s = {.crowd = UINT32_MAX, .deadline = 0};
    s.pool = new_pool(workers, 1, 0, WP_FOREVER);
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < workers + 2; i++) {
        wp_job *job = wp_function_job(stand_together, part_of(&s, i), NULL);
        bool taken = wp_pool_submit(s.pool, 0, job, false) == WP_OK;
        wp_add_acq_rel(&s.accepted[i], taken);
        accepted += taken;
        wp_job_unref(job);
    }
    MUST(accepted >= 1 && accepted <= workers);
    s.crowd = accepted + 1; /* With this thread, which comes last. */
    wp_add_acq_rel(&s.together, 1);
    wp_word_wake(&s.together, WP_WAKE_ALL);
    end_pool(s.pool);
    check_runs(&s);
}

/* Short jobs first, so that the next are claimed several at a time, and workers patrol; then jobs that stand together. */
static void
hidden(void)
{
    uint32_t workers = between_or(2, 2, 3);
    story s = {.takes = one_in(3) ? 3000 : 50, .each = between_or(5, 1, 12), .deadline = WP_FOREVER, .crowd = workers};
    s.pool = new_pool(workers, 1, one_in(2) ? 1000 : 64, WP_FOREVER);
    submit_from(&s, 1);
    if (one_in(2)) {
        drain_pool(s.pool);
    }
    uint32_t late = one_in(2); /* One comes when another has begun, while a patrol may look in. */
    s.each = workers - late;
    wp_store_relaxed(&s.next, (MOST_JOBS - 1) / s.each - 1);
    pthread_t crowd = schedule_start(crowd_main, &s);
    pthread_join(crowd, NULL);
    while (late && wp_load_acquire(&s.together) == 0) {
        wp_word_wait(&s.together, 0, WP_FOREVER);
    }
    if (late) {
        MUST(submit_function(&s, stand_together, MOST_JOBS - 1) == WP_OK);
    }
    end_pool(s.pool);
    check_runs(&s);
}

/* ---- Jobs that run one at a time ---- */

/* A job for which a worker must have the host's lock; one that stands together lets go of it meanwhile. */
typedef struct hosted {
    wp_job job;
    story *s;
    uint32_t number;
    bool stands;
} hosted;

static wp_lock *
host_of(wp_worker *self)
{
    return &((story *)wp_pool_hook_context(wp_worker_pool(self)))->host;
}

static void
enter_host(wp_worker *self)
{
    wp_lock_take(host_of(self));
}

static void
leave_host(wp_worker *self)
{
    wp_lock_give(host_of(self));
}

static wp_state
run_hosted(wp_job *job, wp_worker *self)
{
    const hosted *h = (hosted *)(void *)job;
    if (h->stands) {
        leave_host(self);
        stand_together(job, part_of(h->s, h->number));
        enter_host(self);
    } else {
        run_part(job, part_of(h->s, h->number));
    }
    return WP_DONE;
}

static void
destroy_hosted(wp_job *job)
{
    free(job);
}

static const wp_job_class hosted_class = {.name = "hosted",
                                          .run = run_hosted,
                                          .enter = enter_host,
                                          .leave = leave_host,
                                          .notify = wp_job_settle,
                                          .destroy = destroy_hosted,
                                          .claim_ns = 200000,
                                          .spread_ns = 20000,
                                          .one_at_a_time = true};

static void
submit_hosted(story *s, unsigned lane, uint32_t number, bool stands)
{
    hosted *h = calloc(1, sizeof *h);
    *h = (hosted){.s = s, .number = number, .stands = stands};
    wp_job_init(&h->job, &hosted_class, 0, NULL);
    MUST(wp_pool_submit(s->pool, lane, &h->job, false) == WP_OK);
    wp_add_acq_rel(&s->accepted[number], 1);
    wp_job_unref(&h->job);
}

/* Short jobs are left to one worker, also by those who submit while they have the lock. Jobs that stand together need all
 * workers, wherever they wait: in the lane, or claimed by one that got stuck. One of them may need no lock. */
static void
one_at_a_time(void)
{
    uint32_t workers = between_or(2, 2, 3);
    story s = {.takes = 50, .deadline = WP_FOREVER, .crowd = workers};
    uint32_t lanes = between_or(1, 1, 2);
    wp_pool_config config = {.max_workers = workers, .n_lanes = lanes, .idle_timeout = one_in(4) ? 1000 : WP_FOREVER};
    config.lanes[0].capacity = one_in(2) ? 1000 : 64;
    config.lanes[1].capacity = 64;
    config.hooks.context = &s;
    s.pool = wp_pool_new(&config);
    s.pool->processors = between(1, 2); /* With fewer than workers, some patrols are too many. */
    schedule_set_invariant(look_at_pool, s.pool);
    uint32_t n = between_or(3, 0, 12);
    uint32_t before = between_or(3, 0, n); /* Of the short jobs, so many before the crowd. */
    uint32_t free_one = one_in(3) ? n : UINT32_MAX;
    bool has_lock = one_in(2);
    for (uint32_t i = 0; i < before; i++) {
        submit_hosted(&s, i % lanes, i, false);
    }
    if (one_in(2)) {
        drain_pool(s.pool);
    }
    if (has_lock) {
        wp_lock_take(&s.host);
    }
    for (uint32_t i = n; i < n + workers; i++) {
        if (i == free_one) {
            MUST(submit_function(&s, stand_together, i) == WP_OK);
        } else {
            submit_hosted(&s, between(0, lanes - 1), i, true);
        }
    }
    for (uint32_t i = before; i < n; i++) {
        submit_hosted(&s, between(0, lanes - 1), i, false);
    }
    if (has_lock) {
        wp_lock_give(&s.host);
    }
    if (one_in(2)) {
        drain_pool(s.pool);
    }
    end_pool(s.pool);
    check_runs(&s);
}

/* A job that does not need the lock is not kept waiting for it by one that does, as long as there is a worker for it. */
static void
one_at_a_time_mixed(void)
{
    story s = {.takes = 50, .deadline = WP_FOREVER};
    wp_pool_config config = {.max_workers = 2, .n_lanes = 1, .idle_timeout = WP_FOREVER};
    config.lanes[0].capacity = 64;
    config.hooks.context = &s;
    s.pool = wp_pool_new(&config);
    schedule_set_invariant(look_at_pool, s.pool);
    uint32_t before = between_or(3, 0, 12);
    for (uint32_t i = 0; i < before; i++) {
        submit_hosted(&s, 0, i, false);
    }
    drain_pool(s.pool);
    wp_lock_take(&s.host);
    submit_hosted(&s, 0, before, false);
    wp_job *job = wp_function_job(run_part, part_of(&s, before + 1), NULL);
    MUST(submit_waiting(&s, 0, job) == WP_OK);
    wp_add_acq_rel(&s.accepted[before + 1], 1);
    while (wp_job_wait(job, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
    wp_job_unref(job);
    wp_lock_give(&s.host);
    end_pool(s.pool);
    check_runs(&s);
}

/* ---- Workers that come and go ---- */

static void
retire(void)
{
    story s = {.takes = some_time(), .each = between_or(1, 1, 4), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(1, 1, 3), 1, between(1, 4), 1000);
    submit_from(&s, between_or(2, 1, 3));
    end_pool(s.pool);
    check_runs(&s);
}

static void *
resizer_main(void *argument)
{
    story *s = argument;
    uint32_t times = between_or(1, 1, 3);
    for (uint32_t i = 0; i < times; i++) {
        wp_pool_resize(s->pool, 1);
        wp_pool_resize(s->pool, between_or(2, 1, 3));
    }
    return NULL;
}

static void
resize(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 1, 4), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(2, 1, 3), 1, between(one_in(4) ? 0 : 1, 4), one_in(4) ? 1000 : WP_FOREVER);
    pthread_t resizer = schedule_start(resizer_main, &s);
    submit_from(&s, between_or(1, 1, 2));
    pthread_join(resizer, NULL);
    end_pool(s.pool);
    check_runs(&s);
}

static void *
closer_main(void *argument)
{
    story *s = argument;
    wp_pool_close(s->pool);
    return NULL;
}

/* A pool that is closed in the middle: what was accepted runs, and the others are told. */
static void
close_early(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 1, 4), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(1, 1, 3), 1, between(one_in(4) ? 0 : 1, 4), one_in(4) ? 1000 : WP_FOREVER);
    pthread_t closer = schedule_start(closer_main, &s);
    submit_from(&s, between_or(1, 1, 2));
    pthread_join(closer, NULL);
    end_pool(s.pool);
    check_runs(&s);
}

static void
note_freed(void *context)
{
    wp_add_acq_rel((wp_word *)context, 1);
}

/* A pool that is dropped with jobs in it: they run, and whoever is the last frees it, once. */
static void
drop(void)
{
    wp_word freed = 0;
    story s = {.takes = some_time(), .each = between_or(2, 1, 4), .deadline = WP_FOREVER};
    wp_pool_config config = {.max_workers = between(1, 2), .n_lanes = 1, .idle_timeout = WP_FOREVER};
    config.lanes[0].capacity = 4;
    config.hooks = (wp_hooks){.freed = note_freed, .context = &freed};
    s.pool = wp_pool_new(&config);
    wp_pool_ref(s.pool);
    pthread_t submitter = schedule_start(submitter_main, &s);
    wp_pool_unref(s.pool);
    pthread_join(submitter, NULL);
    wp_pool_unref(s.pool);
    while (wp_load_acquire(&freed) == 0) {
        wp_pause();
    }
    MUST(wp_load_acquire(&freed) == 1);
    check_runs(&s);
}

static void *
drainer_main(void *argument)
{
    story *s = argument;
    enum wp_result result;
    do {
        result = wp_pool_drain(s->pool, s->deadline);
    } while (result == WP_INTERRUPTED);
    MUST(result == WP_OK);
    return NULL;
}

static void
drain(void)
{
    story s = {.takes = some_time(), .each = between_or(1, 1, 3), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(1, 1, 2), 1, 4, one_in(3) ? 1000 : WP_FOREVER);
    pthread_t drainers[2];
    uint32_t n = between(1, 2);
    for (uint32_t i = 0; i < n; i++) {
        drainers[i] = schedule_start(drainer_main, &s);
    }
    submit_from(&s, between(1, 2));
    drainer_main(&s);
    check_runs(&s);
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(drainers[i], NULL);
    }
    end_pool(s.pool);
}

/* ---- Cancelling ---- */

static void *
canceller_main(void *argument)
{
    story *s = argument;
    uint32_t how = schedule_random(3);
    if (how == 0) {
        wp_token_cancel(s->token);
    } else if (how == 1) {
        wp_pool_cancel_waiting(s->pool);
    } else {
        for (uint32_t i = 0; i < s->each; i++) {
            wp_job_cancel(s->jobs[i]);
        }
    }
    return NULL;
}

/* Runs jobs of others, as who waits for them does. */
static void *
helper_main(void *argument)
{
    story *s = argument;
    for (uint32_t i = s->each; i-- > 0;) {
        if (wp_job_state(s->jobs[i]) == WP_PENDING) {
            wp_job_run_here(s->jobs[i]);
        }
    }
    return NULL;
}

/* Jobs that are cancelled one by one, all at once or by a token, taken back by who waits, and expire, all at the same
 * time: each ends in one way and ran accordingly. */
static void
cancel(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 1, 4), .deadline = WP_FOREVER};
    s.pool = new_pool(between_or(1, 1, 2), 1, between_or(1, 1, 3), WP_FOREVER);
    s.token = wp_token_new(NULL, WP_FOREVER);
    bool accepted[4];
    for (uint32_t i = 0; i < s.each; i++) {
        wp_function_options options = WP_NO_OPTIONS;
        options.token = s.token;
        options.queue_timeout = one_in(4) ? 2000 : WP_FOREVER;
        s.jobs[i] = wp_function_job(run_part, part_of(&s, i), &options);
    }
    pthread_t canceller = schedule_start(canceller_main, &s);
    bool helps = one_in(2);
    pthread_t helper = helps ? schedule_start(helper_main, &s) : canceller;
    for (uint32_t i = 0; i < s.each; i++) {
        enum wp_result result = submit_waiting(&s, 0, s.jobs[i]);
        accepted[i] = result == WP_OK;
        MUST(result == WP_OK || result == WP_STOPPED);
    }
    pthread_join(canceller, NULL);
    if (helps) {
        pthread_join(helper, NULL);
    }
    for (uint32_t i = 0; i < s.each; i++) {
        while (accepted[i] && wp_job_wait(s.jobs[i], WP_FOREVER) == WP_WAIT_INTERRUPTED) {
        }
        bool ran = accepted[i] && wp_job_state(s.jobs[i]) == WP_DONE;
        MUST(wp_load_relaxed(&s.runs[i]) == ran);
    }
    end_pool(s.pool);
    for (uint32_t i = 0; i < s.each; i++) {
        MUST(wp_load_relaxed(&s.jobs[i]->references) == 1);
        wp_job_unref(s.jobs[i]);
    }
    wp_token_unref(s.token);
}

/* As above; but once the pool has been drained every job has ended, whoever ended it, and everybody can see that. */
static void
drain_cancelled(void)
{
    story s = {.takes = some_time(), .each = between_or(1, 1, 3), .deadline = WP_FOREVER};
    s.pool = new_pool(1, 1, 4, WP_FOREVER);
    s.token = wp_token_new(NULL, WP_FOREVER);
    for (uint32_t i = 0; i < s.each; i++) {
        wp_function_options options = WP_NO_OPTIONS;
        options.token = s.token;
        options.queue_timeout = one_in(4) ? 2000 : WP_FOREVER;
        s.jobs[i] = wp_function_job(run_part, part_of(&s, i), &options);
        MUST(wp_pool_submit(s.pool, 0, s.jobs[i], false) == WP_OK);
    }
    pthread_t canceller = schedule_start(canceller_main, &s);
    pthread_t helper = schedule_start(helper_main, &s);
    drainer_main(&s);
    for (uint32_t i = 0; i < s.each; i++) {
        MUST(wp_job_is_settled(s.jobs[i]));
    }
    pthread_join(canceller, NULL);
    pthread_join(helper, NULL);
    end_pool(s.pool);
    for (uint32_t i = 0; i < s.each; i++) {
        wp_job_unref(s.jobs[i]);
    }
    wp_token_unref(s.token);
}

/* ---- Results ---- */

static void
submitter_ends(story *s)
{
    if (wp_sub_acq_rel(&s->submitters, 1) == 1) {
        if (s->results != NULL) {
            wp_results_close(s->results);
        } else {
            wp_stage_close(s->stage);
        }
    }
}

static void *
reporting_main(void *argument)
{
    story *s = argument;
    uint32_t first = wp_add_acq_rel(&s->next, 1) * s->each;
    for (uint32_t i = 0; i < s->each; i++) {
        enum wp_result result;
        void *job = part_of(s, first + i);
        do {
            result = wp_function_submit(s->pool, 0, s->results, run_part, job, s->deadline);
        } while (result == WP_INTERRUPTED);
        MUST(result == WP_OK || result == WP_CLOSED || (result == WP_LATE && s->deadline != WP_FOREVER));
        wp_add_acq_rel(&s->accepted[first + i], result == WP_OK);
    }
    submitter_ends(s);
    return NULL;
}

static void *
reader_main(void *argument)
{
    story *s = argument;
    for (;;) {
        wp_job *job;
        enum wp_result result = wp_results_next(s->results, WP_FOREVER, &job);
        if (result == WP_FINISHED) {
            return NULL;
        }
        if (result == WP_OK) {
            const part *p = wp_function_argument(job);
            wp_add_acq_rel(&s->reports[p->number], 1);
            wp_job_unref(job);
        }
    }
}

static void
check_reports(const story *s)
{
    for (uint32_t i = 0; i < MOST_JOBS; i++) {
        uint32_t accepted = wp_load_relaxed((wp_word *)(uintptr_t)&s->accepted[i]);
        uint32_t reports = wp_load_relaxed((wp_word *)(uintptr_t)&s->reports[i]);
        if (accepted != reports) {
            schedule_fail("job %u was accepted %u times and reported %u times", i, accepted, reports);
        }
    }
}

static void *
results_closer_main(void *argument)
{
    story *s = argument;
    wp_results_close(s->results);
    return NULL;
}

/* Submitters held up by readers: every job is reported to one of them, and everybody comes to an end. */
static void
results(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 1, 4), .deadline = WP_FOREVER};
    uint32_t submitters = between_or(1, 1, 2);
    uint32_t readers = between(1, 2);
    pthread_t threads[5];
    uint32_t n = 0;
    wp_store_relaxed(&s.submitters, submitters);
    s.deadline = one_in(5) ? wp_clock() + 5000 : WP_FOREVER;
    s.pool = new_pool(between_or(1, 1, 2), 1, between(1, 4), WP_FOREVER);
    s.results = wp_results_new(between(1, 4));
    for (uint32_t i = 0; i < submitters; i++) {
        threads[n++] = schedule_start(reporting_main, &s);
    }
    for (uint32_t i = 1; i < readers; i++) {
        threads[n++] = schedule_start(reader_main, &s);
    }
    if (one_in(6)) {
        threads[n++] = schedule_start(results_closer_main, &s);
    }
    reader_main(&s);
    while (n > 0) {
        pthread_join(threads[--n], NULL);
    }
    end_pool(s.pool);
    check_runs(&s);
    check_reports(&s);
    wp_results_unref(s.results);
}

/* ---- Stages ---- */

static void *
putter_main(void *argument)
{
    story *s = argument;
    uint32_t first = wp_add_acq_rel(&s->next, 1) * s->each;
    for (uint32_t i = 0; i < s->each; i++) {
        enum wp_result result;
        void *item = part_of(s, first + i);
        do {
            result = wp_stage_put(s->stage, item, s->deadline);
        } while (result == WP_INTERRUPTED);
        MUST(result == WP_OK || result == WP_CLOSED || (result == WP_LATE && s->deadline != WP_FOREVER) ||
             (result == WP_BROKEN && wp_pool_is_broken(s->pool)));
        wp_add_acq_rel(&s->accepted[first + i], result == WP_OK);
    }
    submitter_ends(s);
    return NULL;
}

/* Gets a result; false if there will be none. */
static bool
get_and_note(story *s)
{
    wp_stage_result result;
    enum wp_result got;
    while ((got = wp_stage_get(s->stage, WP_FOREVER, &result)) == WP_INTERRUPTED) {
    }
    if (got == WP_OK) {
        const part *p = result.argument;
        MUST(result.status == (result.given_up ? 0 : 7));
        wp_add_acq_rel(&s->reports[p->number], 1);
        wp_add_acq_rel(&s->runs[p->number], result.given_up); /* So that each counts as run once. */
    }
    return got != WP_FINISHED;
}

static void *
getter_main(void *argument)
{
    while (get_and_note(argument)) {
    }
    return NULL;
}

static void *
stage_canceller_main(void *argument)
{
    story *s = argument;
    wp_stage_cancel(s->stage);
    return NULL;
}

static void *
stage_closer_main(void *argument)
{
    story *s = argument;
    wp_stage_close(s->stage);
    return NULL;
}

/* Everything that waits is given up, whoever has claimed it. */
static void *
pool_canceller_main(void *argument)
{
    story *s = argument;
    wp_pool_cancel_waiting(s->pool);
    return NULL;
}

static void *
pool_breaker_main(void *argument)
{
    story *s = argument;
    wp_pool_break(s->pool);
    return NULL;
}

/* More urgent jobs, for which workers give back what they have claimed of the stage. */
static void *
hurry_main(void *argument)
{
    story *s = argument;
    for (uint32_t i = 0; i < between_or(1, 1, 4); i++) {
        MUST(submit_function(s, run_part, MOST_JOBS - 1 - i) == WP_OK);
    }
    return NULL;
}

static void
run_stage(uint32_t putters, uint32_t getters, void *(*third)(void *))
{
    unsigned lane = third == hurry_main; /* Then two workers, or none finds in the line what another gave back. */
    story s = {.takes = some_time(), .each = between_or(2, 1 + 2 * lane, 5), .deadline = WP_FOREVER};
    pthread_t threads[6];
    uint32_t n = 0;
    wp_store_relaxed(&s.submitters, putters);
    s.pool = new_pool(between_or(1 + lane, 1 + lane, 2), 1 + lane, between(1, 4) + 4 * lane, WP_FOREVER);
    s.stage = wp_stage_new(s.pool, lane, run_item, between(1, 4) + 4 * lane); /* Or a put at once hardly comes. */
    for (uint32_t i = 0; i < putters; i++) {
        threads[n++] = schedule_start(putter_main, &s);
    }
    for (uint32_t i = 1; i < getters; i++) {
        threads[n++] = schedule_start(getter_main, &s);
    }
    if (third != NULL) {
        threads[n++] = schedule_start(third, &s);
    }
    getter_main(&s);
    while (n > 0) {
        pthread_join(threads[--n], NULL);
    }
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    for (uint32_t i = 0; i < MOST_JOBS && lane > 0; i++) {
        wp_add_acq_rel(&s.reports[i],
                       i > MOST_JOBS - 5 && wp_load_relaxed(&s.accepted[i])); /* The urgent ones are not. */
    }
    check_reports(&s);
}

static void
stage(void)
{
    run_stage(between(1, 2), between(1, 2), NULL);
}

static void
stage_cancel(void)
{
    run_stage(between(1, 2), between(1, 2), stage_canceller_main);
}

static void
stage_close(void)
{
    run_stage(between(1, 2), between(1, 2), stage_closer_main);
}

enum { BESIDE = 3 };

/* Jobs that are not the stage's: nothing that becomes of it wakes who waits to submit them. */
static void *
beside_main(void *argument)
{
    story *s = argument;
    for (uint32_t i = 0; i < BESIDE; i++) {
        MUST(submit_function(s, run_part, MOST_JOBS - 1 - i) == WP_OK);
    }
    return NULL;
}

/* A put that was woken for room, and finds the stage closed, passes the room on. */
static void
stage_close_beside(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 2, 4), .deadline = WP_FOREVER};
    wp_store_relaxed(&s.submitters, 1);
    s.pool = new_pool(1, 1, between(1, 2), WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 0, run_item, between(1, 4));
    pthread_t threads[] = {schedule_start(putter_main, &s), schedule_start(beside_main, &s),
                           schedule_start(stage_closer_main, &s)};
    getter_main(&s);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    for (uint32_t i = 0; i < BESIDE; i++) {
        wp_add_acq_rel(&s.reports[MOST_JOBS - 1 - i], 1); /* They report to nobody. */
    }
    check_reports(&s);
}

/* Nobody reads before all submitters are done: only the close ends their waiting for places. */
static void
stage_unread(void)
{
    story s = {.takes = some_time(), .each = between_or(3, 2, 4), .deadline = WP_FOREVER};
    uint32_t putters = between(1, 2);
    pthread_t threads[2];
    wp_store_relaxed(&s.submitters, putters);
    s.pool = new_pool(between_or(1, 1, 2), 1, between(1, 4), WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 0, run_item, between_or(1, 1, 3));
    for (uint32_t i = 0; i < putters; i++) {
        threads[i] = schedule_start(putter_main, &s);
    }
    pthread_t closer = schedule_start(stage_closer_main, &s);
    for (uint32_t i = 0; i < putters; i++) {
        pthread_join(threads[i], NULL);
    }
    getter_main(&s);
    pthread_join(closer, NULL);
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    check_reports(&s);
}

/* Short jobs, which the reader runs itself; then it stays away, and what is put must be run all the same. */
static void
stage_left_alone(void)
{
    story s = {.takes = between(0, 2) * 50, .each = between(1, 3), .deadline = WP_FOREVER};
    uint32_t rounds = between(1, 3);
    wp_store_relaxed(&s.submitters, rounds + 2);
    s.pool = new_pool(between_or(1, 1, 2), 1, between(1, 4), WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 0, run_item, 3);
    for (uint32_t i = 0; i < rounds; i++) {
        putter_main(&s);
        for (uint32_t k = 0; k < s.each; k++) {
            get_and_note(&s);
        }
    }
    putter_main(&s);
    while (wp_pool_drain(s.pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
    submitter_ends(&s);
    getter_main(&s);
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    check_reports(&s);
}

static void
stage_and_pool(void)
{
    run_stage(between(1, 2), between(1, 2), between(0, 1) == 0 ? pool_canceller_main : pool_breaker_main);
}

static void
stage_hurried(void)
{
    run_stage(between_or(1, 1, 2), between_or(1, 1, 2), hurry_main);
}

/* Puts into the next stage, from a worker of the pool. */
static int
pass_on(wp_job *job, void *argument)
{
    const part *p = argument;
    story *s = p->s;
    (void)job;
    while (wp_stage_put(s->stage, argument, WP_FOREVER) != WP_OK) {
    }
    wp_add_acq_rel(&s->accepted[p->number], 1);
    return 0;
}

/* A job that reads them again, on a worker too. */
static int
read_all(wp_job *job, void *argument)
{
    story *s = ((const part *)argument)->s;
    (void)job;
    wp_add_acq_rel(&s->together, 1);
    getter_main(s);
    return 0;
}

static void *
feeder_main(void *argument)
{
    story *s = argument;
    wp_stage *first = wp_stage_new(s->pool, 0, pass_on, 0);
    for (uint32_t i = 0; i < s->each; i++) {
        MUST(wp_stage_put(first, part_of(s, i), WP_FOREVER) == WP_OK);
    }
    wp_stage_unref(first);
    for (uint32_t i = 0; i < s->each; i++) {
        while (wp_load_acquire(&s->accepted[i]) == 0) {
            wp_yield();
        }
    }
    wp_stage_close(s->stage);
    return NULL;
}

/* Workers put, and may read as well; there may be no worker but those, and one place for results. */
static void
stage_workers(void)
{
    story s = {.takes = some_time(), .each = between_or(3, 1, 8), .deadline = WP_FOREVER};
    bool on_worker = between(0, 1);
    s.pool = new_pool(on_worker ? 2 : between_or(1, 1, 2), 1, WP_UNBOUNDED, WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 0, run_item, between(1, 2));
    if (on_worker) { /* It must have begun, or those that put might have all workers, and wait for it. */
        wp_job *reader = wp_function_job(read_all, part_of(&s, MOST_JOBS - 1), NULL);
        MUST(wp_pool_submit(s.pool, 0, reader, false) == WP_OK);
        while (wp_load_acquire(&s.together) == 0) {
            wp_yield();
        }
        feeder_main(&s);
        while (wp_job_wait(reader, WP_FOREVER) != WP_WAIT_WOKEN) {
        }
        wp_job_unref(reader);
    } else {
        pthread_t feeder = schedule_start(feeder_main, &s);
        getter_main(&s);
        pthread_join(feeder, NULL);
    }
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    check_reports(&s);
}

/* The only worker reads: it must run what others put just as it falls asleep. */
static void
stage_read_by_worker(void)
{
    story s = {.takes = some_time(), .each = between_or(2, 1, 5), .deadline = WP_FOREVER};
    pthread_t threads[2];
    uint32_t putters = between(1, 2);
    wp_store_relaxed(&s.submitters, putters);
    s.pool = new_pool(1, 1, between(1, 4), WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 0, run_item, between(1, 4));
    wp_job *reader = wp_function_job(read_all, part_of(&s, MOST_JOBS - 1), NULL);
    MUST(wp_pool_submit(s.pool, 0, reader, true) == WP_OK);
    for (uint32_t i = 0; i < putters; i++) {
        threads[i] = schedule_start(putter_main, &s);
    }
    for (uint32_t i = 0; i < putters; i++) {
        pthread_join(threads[i], NULL);
    }
    while (wp_job_wait(reader, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
    wp_job_unref(reader);
    wp_stage_unref(s.stage);
    end_pool(s.pool);
    check_runs(&s);
    check_reports(&s);
}

/* A reader that helps keeps the stream going all by itself, while the only worker patrols. A job in another lane, or in the
 * same, is none of the reader's business: the patrol must not take the stream for a reason to sleep on. */
static void
patrol(void)
{
    story s = {.takes = 50, .deadline = WP_FOREVER};
    wp_stage_result result;
    unsigned lane = between(0, 1);
    s.pool = new_pool(1, 2, 8, WP_FOREVER);
    s.stage = wp_stage_new(s.pool, 1, run_item, 4);
    wp_store_relaxed(&s.pool->lanes[lane].pace.mean_ns, 50); /* As if it were known. */
    uint32_t before = between_or(10, 5, 30);
    for (uint32_t i = 0; i < before || wp_load_relaxed(&s.runs[1]) == 0; i++) {
        if (i == before) {
            MUST(submit_function(&s, run_part, 1) == WP_OK);
        }
        while (wp_stage_put(s.stage, part_of(&s, 0), WP_FOREVER) != WP_OK) {
        }
        while (wp_stage_get(s.stage, WP_FOREVER, &result) != WP_OK) {
        }
    }
    wp_stage_unref(s.stage);
    end_pool(s.pool);
}

/* ---- Ranges ---- */

/* A range whose units count themselves. */
typedef struct counted {
    wp_range range;
    story *s;
} counted;

static uint32_t
run_units(wp_job *job, wp_stretch *units, wp_worker *self)
{
    const counted *c = (counted *)(void *)job;
    uint32_t done = 0;
    uint32_t at;
    uint32_t end;
    (void)self;
    while (wp_stretch_take(units, 1, &at, &end)) {
        wp_add_acq_rel(&c->s->runs[at], 1);
        schedule_spend(c->s->takes);
        done++;
        if (one_in(8)) {
            break; /* As if it were wanted elsewhere. */
        }
    }
    return done;
}

static void
give_up_units(wp_job *job, uint32_t begin, uint32_t end)
{
    const counted *c = (counted *)(void *)job;
    for (uint32_t i = begin; i < end; i++) {
        wp_add_acq_rel(&c->s->runs[i], 1);
    }
}

static void
destroy_counted(wp_job *job)
{
    counted *c = (counted *)(void *)job;
    wp_group_unref(c->range.group);
    free(c);
}

static const wp_job_class counted_class = {.name = "counted",
                                           .run_range = run_units,
                                           .given_up = give_up_units,
                                           .notify = wp_job_settle,
                                           .destroy = destroy_counted,
                                           .claim_ns = 20000};

static void *
range_canceller_main(void *argument)
{
    wp_range_cancel(argument);
    return NULL;
}

/* Units done by workers and by who waits, while the rest may be given up: each is accounted for once, and the waiting
 * thread hears of the end through its group. */
static void
range(void)
{
    story s = {.takes = some_time()};
    uint32_t units = between_or(3, 1, 8);
    s.pool = new_pool(between_or(1, 1, 3), 1, WP_UNBOUNDED, WP_FOREVER);
    wp_group *group = wp_group_new(NULL, between_or(2, 1, 4), one_in(2));
    counted *c = calloc(1, sizeof *c);
    c->s = &s;
    wp_range_init(&c->range, &counted_class, units, group, NULL);
    MUST(wp_pool_submit(s.pool, 0, &c->range.job, false) == WP_OK);
    bool cancels = schedule_random(2) == 0;
    pthread_t canceller = cancels ? schedule_start(range_canceller_main, &c->range) : pthread_self();
    if (one_in(2)) {
        wp_range_run_here(&c->range, between(1, 3));
    }
    uint32_t seen = wp_group_listen(group);
    while (!wp_job_is_settled(&c->range.job)) {
        wp_group_sleep(group, seen, WP_FOREVER);
        seen = wp_group_progress(group);
    }
    wp_group_ignore(group);
    for (uint32_t i = 0; i < MOST_JOBS; i++) {
        MUST(wp_load_relaxed(&s.runs[i]) == (i < units));
    }
    if (cancels) {
        pthread_join(canceller, NULL);
    }
    wp_job_unref(&c->range.job);
    wp_group_unref(group);
    end_pool(s.pool);
}

/* The first unit waits for the others, which were claimed with it: to be given up, as nobody else can do them. */
static uint32_t
wait_for_rest(wp_job *job, wp_stretch *units, wp_worker *self)
{
    const counted *c = (counted *)(void *)job;
    uint32_t done = 0;
    uint32_t at;
    uint32_t end;
    (void)self;
    for (; wp_stretch_take(units, 1, &at, &end); done++) {
        wp_add_acq_rel(&c->s->runs[at], 1);
        for (uint32_t i = 0; at == 0 && i < c->range.units; i++) {
            while (wp_load_acquire(&c->s->runs[i]) == 0) {
                wp_yield();
            }
        }
    }
    return done;
}

static const wp_job_class waiting_class = {.name = "waiting",
                                           .run_range = wait_for_rest,
                                           .given_up = give_up_units,
                                           .notify = wp_job_settle,
                                           .destroy = destroy_counted,
                                           .claim_ns = 20000};

static void
range_given_up(void)
{
    story s = {.takes = 0, .deadline = WP_FOREVER};
    uint32_t units = between_or(3, 2, 8);
    s.pool = new_pool(1, 1, WP_UNBOUNDED, WP_FOREVER);
    wp_group *group = wp_group_new(NULL, between_or(3, 2, 8), true);
    counted *c = calloc(1, sizeof *c);
    c->s = &s;
    wp_range_init(&c->range, &waiting_class, units, group, NULL);
    MUST(wp_pool_submit(s.pool, 0, &c->range.job, false) == WP_OK);
    bool helps = one_in(2);
    pthread_t canceller = schedule_start(range_canceller_main, &c->range);
    if (helps) {
        wp_range_run_here(&c->range, between(1, 8));
    }
    if (one_in(2)) {
        drainer_main(&s);
        MUST(wp_job_is_settled(&c->range.job));
    }
    while (wp_job_wait(&c->range.job, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
    pthread_join(canceller, NULL);
    for (uint32_t i = 0; i < units; i++) {
        MUST(wp_load_relaxed(&s.runs[i]) == 1);
    }
    wp_job_unref(&c->range.job);
    wp_group_unref(group);
    end_pool(s.pool);
}

/* ---- Lanes ---- */

/* Two lanes, one of which lets only one job run at a time; the other comes between claims. */
static void
lanes(void)
{
    story s = {.takes = some_time(), .deadline = WP_FOREVER};
    wp_pool_config config = {.max_workers = between_or(2, 1, 3), .n_lanes = 2, .idle_timeout = WP_FOREVER};
    config.lanes[0] = (wp_lane_config){.capacity = between(one_in(3) ? 0 : 1, 3), .max_running = 1};
    config.lanes[1] = (wp_lane_config){.capacity = between(one_in(3) ? 0 : 1, 64)};
    config.fairness = between(0, 3);
    s.pool = wp_pool_new(&config);
    schedule_set_invariant(look_at_pool, s.pool);
    uint32_t n = between_or(3, 2, 10);
    for (uint32_t i = 0; i < n; i++) {
        wp_job *job = wp_function_job(run_part, part_of(&s, i), NULL);
        MUST(submit_waiting(&s, i % 2, job) == WP_OK);
        wp_add_acq_rel(&s.accepted[i], 1);
        wp_job_unref(job);
    }
    end_pool(s.pool);
    check_runs(&s);
}

/* ---- Jobs that wait for jobs ---- */

/* Waits for another job, like a worker that has nothing else to do. */
static enum wp_result
wait_inside(wp_job *job)
{
    char report[300];
    wp_blocked blocked;
    enum wp_result result;
    wp_blocked_init(&blocked, job->pool, job->lane, job, false);
    do {
        result = wp_blocked_wait(&blocked, WP_FOREVER, report, sizeof report);
    } while (result == WP_INTERRUPTED);
    MUST(result != WP_DEADLOCK || strstr(report, "waits for") != NULL);
    return result;
}

/* Waits for a job of the other lane, which waits for one of this, and so on. */
static int
nest(wp_job *job, void *argument)
{
    const part *p = argument;
    story *s = p->s;
    wp_add_acq_rel(&s->runs[p->number], 1);
    schedule_spend(s->takes);
    uint32_t below = p->number + 2;
    if (below < s->each) {
        s->jobs[below] = wp_function_job(nest, part_of(s, below), NULL);
        MUST(wp_pool_submit(s->pool, 1 - job->lane, s->jobs[below], true) == WP_OK);
        wp_add_acq_rel(&s->accepted[below], 1);
        MUST(wait_inside(s->jobs[below]) == WP_OK);
        wp_job_unref(s->jobs[below]);
    }
    return 0;
}

/* Two towers of jobs, in two lanes that each let one run at a time: they stand still for each other. */
static void
nested(void)
{
    story s = {.takes = some_time(), .deadline = WP_FOREVER, .each = between_or(4, 2, 8)};
    wp_pool_config config = {.max_workers = between_or(2, 1, 3), .n_lanes = 2, .idle_timeout = WP_FOREVER};
    config.lanes[0] = (wp_lane_config){.capacity = WP_UNBOUNDED, .max_running = 1};
    config.lanes[1] = (wp_lane_config){.capacity = WP_UNBOUNDED, .max_running = one_in(3) ? 0 : 1};
    s.pool = wp_pool_new(&config);
    for (uint32_t i = 0; i < 2; i++) {
        wp_job *job = wp_function_job(nest, part_of(&s, i), NULL);
        MUST(wp_pool_submit(s.pool, i, job, false) == WP_OK);
        wp_add_acq_rel(&s.accepted[i], 1);
        wp_job_unref(job);
    }
    drain_pool(s.pool);
    end_pool(s.pool);
    check_runs(&s);
}

/* Waits for the next of the circle, once all are there. */
static int
wait_for_next(wp_job *job, void *argument)
{
    const part *p = argument;
    story *s = p->s;
    (void)job;
    while (wp_load_acquire(&s->together) == 0) {
        wp_word_wait(&s->together, 0, WP_FOREVER);
    }
    wp_add_acq_rel(&s->runs[p->number], 1);
    enum wp_result result = wait_inside(s->jobs[(p->number + 1) % s->each]);
    MUST(result == WP_OK || result == WP_DEADLOCK);
    wp_add_acq_rel(&s->reports[0], result == WP_DEADLOCK);
    return 0;
}

/* One is told, and only one: then the others go on. */
static void
circle(void)
{
    story s = {.deadline = WP_FOREVER, .each = between_or(2, 1, 4)};
    s.pool = new_pool(between_or(2, 1, 3), 1, WP_UNBOUNDED, WP_FOREVER);
    for (uint32_t i = 0; i < s.each; i++) {
        s.jobs[i] = wp_function_job(wait_for_next, part_of(&s, i), NULL);
    }
    for (uint32_t i = 0; i < s.each; i++) {
        MUST(wp_pool_submit(s.pool, 0, s.jobs[i], false) == WP_OK);
        wp_add_acq_rel(&s.accepted[i], 1);
    }
    wp_store_release(&s.together, 1);
    wp_word_wake(&s.together, WP_WAKE_ALL);
    drain_pool(s.pool);
    MUST(wp_load_relaxed(&s.reports[0]) == 1);
    for (uint32_t i = 0; i < s.each; i++) {
        MUST(wp_job_is_settled(s.jobs[i]));
        wp_job_unref(s.jobs[i]);
    }
    end_pool(s.pool);
    check_runs(&s);
}

static const scenario scenarios[] = {
    {"lock", lock},
    {"submit", submit},
    {"room", room},
    {"giving-up", giving_up},
    {"rendezvous", rendezvous},
    {"hand-over", hand_over},
    {"hidden", hidden},
    {"one-at-a-time", one_at_a_time},
    {"one-at-a-time-mixed", one_at_a_time_mixed},
    {"retire", retire},
    {"resize", resize},
    {"close", close_early},
    {"drop", drop},
    {"drain", drain},
    {"cancel", cancel},
    {"drain-cancelled", drain_cancelled},
    {"results", results},
    {"stage", stage},
    {"stage-cancel", stage_cancel},
    {"stage-close", stage_close},
    {"stage-close-beside", stage_close_beside},
    {"stage-unread", stage_unread},
    {"stage-and-pool", stage_and_pool},
    {"stage-hurried", stage_hurried},
    {"stage-left-alone", stage_left_alone},
    {"stage-workers", stage_workers},
    {"stage-read-by-worker", stage_read_by_worker},
    {"patrol", patrol},
    {"range", range},
    {"range-given-up", range_given_up},
    {"lanes", lanes},
    {"nested", nested},
    {"circle", circle},
};

int
main(int argc, char **argv)
{
    return schedule_main(argc, argv, scenarios, (int)(sizeof scenarios / sizeof scenarios[0]));
}
