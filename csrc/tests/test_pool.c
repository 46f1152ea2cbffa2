/* Submitting, lanes and claims: a job that is accepted runs once and in its turn; one that is not is untouched; no
 * thread waits for room that is there, and no worker for itself.
 */
#include "fixture.h"

/* ---- Submit ---- */

static void
test_every_job_runs_once(void)
{
    wp_pool *pool = pool_for(4, 1, WP_UNBOUNDED);
    wp_word count = 0;
    for (int i = 0; i < 10000; i++) {
        post(pool, 0, count_up, &count);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 10000);
    end_pool(pool);
}

static int
return_five(wp_job *job, void *argument)
{
    *(uint32_t *)argument = wp_job_worker(job);
    return 5;
}

static void
test_outcome_and_status(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    uint32_t worker = 99;
    wp_job *job = submit(pool, 0, return_five, &worker);
    wait_settled(job);
    CHECK_INT(wp_job_state(job), WP_FAILED);
    CHECK_INT(wp_function_status(job), 5);
    CHECK_INT(worker, 0);
    UNTIL(wp_load_relaxed(&job->references) == 1); /* The pool lets go of it. */
    wp_job_unref(job);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

/* One worker is kept busy: what is submitted from then on waits. */
static wp_job *
occupy(wp_pool *pool, unsigned lane, gate *g)
{
    wp_job *job = submit(pool, lane, stand_at_gate, g);
    event_wait(&g->begun, 1);
    return job;
}

static void
test_full_lane_leaves_job_untouched(void)
{
    wp_pool *pool = pool_for(1, 2, 2);
    gate g = {0};
    wp_word count = 0;
    wp_job *first = occupy(pool, 0, &g);
    post(pool, 0, count_up, &count);
    post(pool, 0, count_up, &count);
    wp_job *job = wp_function_job(count_up, &count, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_FULL);
    CHECK_INT(wp_job_state(job), WP_NEW);
    CHECK_INT(wp_load_relaxed(&job->references), 1);
    CHECK_INT(stats_of(pool).lanes[0].rejected, 1);
    CHECK_INT(stats_of(pool).lanes[0].waiting, 2);
    post(pool, 1, count_up, &count); /* Lanes have room each for itself. */
    CHECK_INT(wp_pool_submit(pool, 0, job, true), WP_OK);
    event_set(&g.open);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 4);
    end_pool(pool);
}

/* ---- Without a waiting line ---- */

static void
test_rendezvous(void)
{
    wp_pool *pool = pool_for(2, 1, 0);
    gate g = {0};
    wp_job *jobs[3];
    for (int i = 0; i < 2; i++) { /* Two workers can be had, so two jobs are taken at once. */
        jobs[i] = submit(pool, 0, stand_at_gate, &g);
    }
    jobs[2] = wp_function_job(stand_at_gate, &g, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, jobs[2], false), WP_FULL);
    event_wait(&g.begun, 2);
    CHECK_INT(wp_pool_submit(pool, 0, jobs[2], false), WP_FULL);
    submitter s = {.pool = pool, .job = jobs[2]};
    submitter_start(&s);
    UNTIL(blocked_in(pool, 0) == 1);
    event_set(&g.open);
    event_wait(&s.over, 1);
    CHECK_INT(s.result, WP_OK);
    join_thread(s.thread);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
    end_pool(pool);
}

static void
test_rendezvous_many(void)
{
    wp_pool *pool = pool_for(2, 1, 0);
    wp_word count = 0;
    for (int i = 0; i < 500; i++) {
        wp_job *job = wp_function_job(count_up, &count, NULL);
        CHECK_INT(submit_wait(pool, 0, job, soon()), WP_OK);
        wp_job_unref(job);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 500);
    end_pool(pool);
}

/* A free worker is one worker, though each of several lanes may be given it. */
static void
test_rendezvous_counts_a_worker_once(void)
{
    wp_pool *pool = pool_for(1, 3, 0);
    gate g = {0};
    wp_job *job = submit(pool, 2, stand_at_gate, &g);
    wp_job *other = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, other, false), WP_FULL);
    CHECK_INT(wp_pool_submit(pool, 1, other, false), WP_FULL);
    event_wait(&g.begun, 1);
    CHECK_INT(wp_pool_submit(pool, 0, other, false), WP_FULL);
    event_set(&g.open);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(submit_wait(pool, 0, other, soon()), WP_OK);
    CHECK_INT(finish(other), WP_DONE);
    end_pool(pool);
}

/* With max_running reached there is nobody to hand a job of that lane to, though workers are free. */
static void
test_rendezvous_with_max_running(void)
{
    wp_pool_config config = config_for(3, 1, 0);
    config.lanes[0].max_running = 1;
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    wp_job *first = occupy(pool, 0, &g);
    wp_job *second = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, second, false), WP_FULL);
    submitter s = {.pool = pool, .job = second};
    submitter_start(&s);
    UNTIL(blocked_in(pool, 0) == 1);
    event_set(&g.open);
    event_wait(&s.over, 1);
    CHECK_INT(s.result, WP_OK);
    join_thread(s.thread);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    end_pool(pool);
}

/* A worker that becomes free is offered to every lane without a waiting line: in the first the sleeper may be one that
 * was woken before and has not come to the lock yet. That one is put there by hand. */
static void
test_free_worker_is_offered_to_all_lanes(void)
{
    wp_pool *pool = pool_for(1, 2, 0);
    gate g = {0};
    wp_job *first = occupy(pool, 0, &g);
    submitter s = {.pool = pool, .lane = 1, .job = wp_function_job(do_nothing, NULL, NULL)};
    submitter_start(&s);
    UNTIL(blocked_in(pool, 1) == 1);
    wp_lock_take(&pool->lock);
    pool->lanes[0].blocked++;
    wp_lock_give(&pool->lock);
    event_set(&g.open);
    event_wait(&s.over, 1);
    CHECK_INT(s.result, WP_OK);
    join_thread(s.thread);
    wp_lock_take(&pool->lock);
    pool->lanes[0].blocked--;
    wp_lock_give(&pool->lock);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(s.job), WP_DONE);
    end_pool(pool);
}

/* ---- Waiting for room ---- */

/* A pool of one worker, which is busy, and one lane, which is full. */
typedef struct full_pool {
    wp_pool *pool;
    gate g;
    wp_job *running;
    wp_job *waiting[4];
} full_pool;

static void
fill(full_pool *f)
{
    *f = (full_pool){.pool = pool_for(1, 1, 4)};
    f->running = occupy(f->pool, 0, &f->g);
    for (int i = 0; i < 4; i++) {
        f->waiting[i] = submit(f->pool, 0, do_nothing, NULL);
    }
}

static void
empty(full_pool *f)
{
    event_set(&f->g.open);
    CHECK_INT(finish(f->running), WP_DONE);
    for (int i = 0; i < 4; i++) {
        wait_settled(f->waiting[i]);
        wp_job_unref(f->waiting[i]);
    }
    end_pool(f->pool);
}

static void
test_room_deadline(void)
{
    full_pool f;
    fill(&f);
    uint64_t deadline = wp_clock() + 20 * MS;
    CHECK_INT(wait_room(f.pool, 0, NULL, deadline), WP_LATE);
    CHECK(wp_clock() >= deadline);
    CHECK_INT(wait_room(f.pool, 0, NULL, 0), WP_LATE);
    wp_job *job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(submit_wait(f.pool, 0, job, wp_clock() + 5 * MS), WP_LATE);
    CHECK_INT(wp_job_state(job), WP_NEW);
    wp_job_unref(job);
    CHECK_INT(blocked_in(f.pool, 0), 0);
    empty(&f);
}

typedef struct room_waiter {
    wp_pool *pool;
    wp_token *token;
    enum wp_result result;
    pthread_t thread;
} room_waiter;

static void *
room_waiter_main(void *argument)
{
    room_waiter *w = argument;
    w->result = wait_room(w->pool, 0, w->token, WP_FOREVER);
    return NULL;
}

static void
room_waiter_start(room_waiter *w)
{
    w->thread = start_thread(room_waiter_main, w);
    UNTIL(blocked_in(w->pool, 0) == 1);
}

static void
test_room_token(void)
{
    full_pool f;
    fill(&f);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    room_waiter w = {.pool = f.pool, .token = token};
    room_waiter_start(&w);
    CHECK(wp_token_cancel(token));
    join_thread(w.thread);
    CHECK_INT(w.result, WP_STOPPED);
    CHECK_INT(wait_room(f.pool, 0, token, WP_FOREVER), WP_STOPPED);
    wp_token_unref(token);

    token = wp_token_new(NULL, wp_clock() + 10 * MS);
    CHECK_INT(wait_room(f.pool, 0, token, WP_FOREVER), WP_STOPPED);
    wp_token_unref(token);
    empty(&f);
}

static void
test_room_close(void)
{
    full_pool f;
    fill(&f);
    room_waiter w = {.pool = f.pool};
    room_waiter_start(&w);
    wp_pool_close(f.pool);
    join_thread(w.thread);
    CHECK_INT(w.result, WP_CLOSED);
    wp_job *job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(f.pool, 0, job, true), WP_CLOSED);
    CHECK_INT(submit_wait(f.pool, 0, job, WP_FOREVER), WP_CLOSED);
    wp_job_unref(job);
    empty(&f);
}

static void
test_room_break(void)
{
    full_pool f;
    fill(&f);
    room_waiter w = {.pool = f.pool};
    room_waiter_start(&w);
    wp_pool_break(f.pool);
    join_thread(w.thread);
    CHECK_INT(w.result, WP_BROKEN);
    CHECK_INT(wp_job_state(f.waiting[0]), WP_LOST);
    empty(&f);
}

/* As many sleepers get in as there is room, whatever becomes of the one that is woken first. */
static void
test_room_for_many_sleepers(void)
{
    full_pool f;
    fill(&f);
    submitter s[8];
    for (int i = 0; i < 8; i++) {
        s[i] = (submitter){.pool = f.pool, .job = wp_function_job(do_nothing, NULL, NULL)};
        submitter_start(&s[i]);
    }
    UNTIL(blocked_in(f.pool, 0) == 8);
    event_set(&f.g.open);
    for (int i = 0; i < 8; i++) {
        join_thread(s[i].thread);
        CHECK_INT(s[i].result, WP_OK);
        CHECK_INT(finish(s[i].job), WP_DONE);
    }
    empty(&f);
}

/* The worker stands at the gate: room comes from the cancellation alone, and from one place of four. */
static void
test_cancel_gives_room_at_once(void)
{
    full_pool f;
    fill(&f);
    submitter s = {.pool = f.pool, .job = wp_function_job(do_nothing, NULL, NULL)};
    submitter_start(&s);
    UNTIL(blocked_in(f.pool, 0) == 1);
    CHECK(wp_job_cancel(f.waiting[1]));
    event_wait(&s.over, 1);
    join_thread(s.thread);
    CHECK_INT(s.result, WP_OK);
    CHECK_INT(stats_of(f.pool).lanes[0].rejected, 0);
    CHECK_INT(stats_of(f.pool).lanes[0].waiting, 4);
    CHECK_INT(wp_job_state(f.waiting[1]), WP_CANCELLED);
    CHECK(wp_job_is_settled(f.waiting[1]));
    CHECK(!wp_job_cancel(f.waiting[1]));
    wp_job *job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(f.pool, 0, job, false), WP_FULL);
    CHECK_INT(wp_pool_submit_wait(f.pool, 0, job, wp_clock() + MS), WP_LATE);
    CHECK_INT(stats_of(f.pool).lanes[0].rejected, 2);
    CHECK(wp_job_cancel(f.waiting[3]));
    CHECK_INT(wp_pool_submit(f.pool, 0, job, false), WP_OK);
    wp_job_unref(job);
    wp_job_unref(s.job);
    empty(&f);
}

/* Jobs that take long leave the line one by one; a sleeper must not wait until half of it is free. */
static void
test_slow_jobs_give_room_one_by_one(void)
{
    wp_pool *pool = pool_for(1, 1, 4);
    gate g[3] = {0};
    wp_job *jobs[3];
    jobs[0] = occupy(pool, 0, &g[0]);
    jobs[1] = submit(pool, 0, stand_at_gate, &g[1]);
    jobs[2] = submit(pool, 0, stand_at_gate, &g[2]);
    post(pool, 0, do_nothing, NULL);
    post(pool, 0, do_nothing, NULL);
    submitter s = {.pool = pool, .job = wp_function_job(do_nothing, NULL, NULL)};
    submitter_start(&s);
    UNTIL(blocked_in(pool, 0) == 1);
    usleep(2000); /* Makes the first job a long one. */
    event_set(&g[0].open);
    event_wait(&g[1].begun, 1);
    event_wait(&s.over, 1);
    join_thread(s.thread);
    CHECK_INT(s.result, WP_OK);
    event_set(&g[1].open);
    event_set(&g[2].open);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
    CHECK_INT(finish(s.job), WP_DONE);
    end_pool(pool);
}

/* ---- Whose turn it is ---- */

/* Fills two lanes behind a busy worker and returns the order in which the lanes were served. */
static void
serve_two_lanes(uint32_t fairness, int jobs, order *log)
{
    static note notes[2];
    wp_pool_config config = config_for(1, 2, WP_UNBOUNDED);
    config.fairness = fairness;
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    wp_job *first = occupy(pool, 0, &g);
    for (int lane = 0; lane < 2; lane++) {
        notes[lane] = (note){log, lane};
        for (int i = 0; i < jobs; i++) {
            post(pool, (unsigned)lane, write_note, &notes[lane]);
        }
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&log->length), 2 * jobs);
    end_pool(pool);
}

static void
test_strict_priority(void)
{
    static order log;
    serve_two_lanes(0, 200, &log);
    for (int i = 0; i < 400; i++) {
        CHECK_INT(log.entries[i], i / 200);
    }
}

/* While both lanes have jobs, no run of urgent ones is longer than fairness allows, and none is shorter without need. */
static void
test_fairness(void)
{
    static order log;
    serve_two_lanes(8, 400, &log);
    int since = 0;
    int urgent_left = 400;
    for (int i = 0; urgent_left > 0; i++) {
        since = log.entries[i] == 1 ? 0 : since + 1;
        urgent_left -= log.entries[i] == 0;
        CHECK(since < 8);
        CHECK(i == 0 || log.entries[i] == 0 || log.entries[i - 1] == 0);
    }
}

static void
test_fairness_among_many_lanes(void)
{
    enum { LANES = 5, JOBS = 100, FAIRNESS = 6 };
    static order log;
    static note notes[LANES];
    wp_pool_config config = config_for(1, LANES, WP_UNBOUNDED);
    config.fairness = FAIRNESS;
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    wp_job *first = occupy(pool, 0, &g);
    for (int lane = 0; lane < LANES; lane++) {
        notes[lane] = (note){&log, lane};
        for (int i = 0; i < JOBS; i++) {
            post(pool, (unsigned)lane, write_note, &notes[lane]);
        }
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    int since[LANES] = {0};
    int left[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        left[lane] = JOBS;
    }
    for (int i = 0; i < LANES * JOBS; i++) {
        for (int lane = 0; lane < LANES; lane++) {
            bool served = log.entries[i] == lane;
            left[lane] -= served;
            since[lane] = served || left[lane] == 0 ? 0 : since[lane] + 1;
            CHECK(since[lane] < FAIRNESS);
        }
    }
    end_pool(pool);
}

typedef struct crowd {
    wp_word now;
    wp_word most;
    event *pause;
} crowd;

static int
join_crowd(wp_job *job, void *argument)
{
    crowd *c = argument;
    (void)job;
    uint32_t now = wp_add_acq_rel(&c->now, 1) + 1;
    uint32_t most = wp_load_relaxed(&c->most);
    while (now > most && !wp_cas_weak_acq_rel(&c->most, &most, now)) {
    }
    sched_yield();
    wp_sub_acq_rel(&c->now, 1);
    return 0;
}

static void
test_max_running(void)
{
    wp_pool_config config = config_for(6, 2, WP_UNBOUNDED);
    config.lanes[1].max_running = 2;
    wp_pool *pool = wp_pool_new(&config);
    crowd limited = {0};
    wp_word count = 0;
    for (int i = 0; i < 2000; i++) {
        post(pool, 1, join_crowd, &limited);
        post(pool, 0, count_up, &count);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK(wp_load_relaxed(&limited.most) <= 2);
    CHECK_INT(wp_load_acquire(&count), 2000);
    end_pool(pool);
}

/* Jobs of the limited lane wait while free workers do others; nobody may take one back beside the limit. */
static void
test_max_running_holds_back(void)
{
    wp_pool_config config = config_for(2, 2, 10);
    config.lanes[0].max_running = 1;
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    wp_job *first = occupy(pool, 0, &g);
    wp_job *second = submit(pool, 0, do_nothing, NULL);
    CHECK_INT(finish(submit(pool, 1, do_nothing, NULL)), WP_DONE);
    CHECK_INT(wp_job_state(second), WP_PENDING);
    CHECK(!wp_job_run_here(second));
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    end_pool(pool);
}

/* The pool learns that these jobs are short, so that it claims many together. */
static void
teach_short(wp_pool *pool, unsigned lane)
{
    static wp_word count;
    while (wp_pace_mean(&pool->lanes[lane].pace) == WP_PACE_UNKNOWN || wp_pace_mean(&pool->lanes[lane].pace) > 4000) {
        for (int i = 0; i < 200; i++) {
            post(pool, lane, count_up, &count);
        }
        CHECK_INT(drain(pool, soon()), WP_OK);
    }
    wait_at_rest(pool);
}

/* Jobs that wait in the lane itself. */
static uint64_t
not_claimed(wp_pool *pool, unsigned lane)
{
    wp_lock_take(&pool->lock);
    uint64_t waiting = pool->lanes[lane].waiting;
    wp_lock_give(&pool->lock);
    return waiting;
}

/* Jobs of the lane that are claimed and not begun. */
static uint64_t
hidden_in(wp_pool *pool, unsigned lane)
{
    wp_lock_take(&pool->lock);
    uint64_t hidden = wp_claims_hidden(pool, lane);
    wp_lock_give(&pool->lock);
    return hidden;
}

/* A bulk claim is under way when an urgent job comes: it goes before what was claimed and not begun. */
static void
test_urgent_before_claimed_bulk(void)
{
    static order log;
    static note notes[21];
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    gate before = {0};
    gate in_claim = {0};
    teach_short(pool, 1);
    wp_job *blocker = submit(pool, 0, stand_at_gate, &before);
    event_wait(&before.begun, 1);
    wp_job *first = submit(pool, 1, stand_at_gate, &in_claim);
    wp_job *bulk[20];
    for (int i = 0; i < 20; i++) {
        notes[i] = (note){&log, i};
        bulk[i] = submit(pool, 1, write_note, &notes[i]);
    }
    event_set(&before.open);
    event_wait(&in_claim.begun, 1);
    CHECK(not_claimed(pool, 1) < 20); /* Some of the bulk is claimed. */
    CHECK(wp_job_cancel(bulk[0]));    /* Claimed and cancelled: must not come back. */
    notes[20] = (note){&log, 20};
    wp_job *urgent = submit(pool, 0, write_note, &notes[20]);
    event_set(&in_claim.open);
    CHECK_INT(finish(urgent), WP_DONE);
    CHECK_INT(finish(blocker), WP_DONE);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(bulk[0]), WP_CANCELLED);
    for (int i = 1; i < 20; i++) {
        CHECK_INT(finish(bulk[i]), WP_DONE);
    }
    CHECK_INT(wp_load_acquire(&log.length), 20);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(log.entries[i], i == 0 ? 20 : i);
    }
    end_pool(pool);
}

typedef struct canceller {
    wp_pool *pool;
    uint64_t cancelled;
    bool discarded;
} canceller;

static int
discard_and_cancel_all(wp_job *job, void *argument)
{
    canceller *c = argument;
    (void)job;
    c->discarded = wp_pool_discard_oldest(c->pool, 1);
    c->cancelled = wp_pool_cancel_waiting(c->pool);
    return 0;
}

/* A job that was cancelled after it was claimed is not given back to the lane: it would be found there, as the oldest
 * or by who cancels everything, and never be got rid of while the only worker waits for that. */
static void
test_cancelled_in_claim_is_not_given_back(void)
{
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    gate before = {0};
    gate in_claim = {0};
    teach_short(pool, 1);
    wp_job *blocker = submit(pool, 0, stand_at_gate, &before);
    event_wait(&before.begun, 1);
    wp_job *first = submit(pool, 1, stand_at_gate, &in_claim);
    wp_job *bulk[4];
    for (int i = 0; i < 4; i++) {
        bulk[i] = submit(pool, 1, do_nothing, NULL);
    }
    event_set(&before.open);
    event_wait(&in_claim.begun, 1);
    CHECK_INT(not_claimed(pool, 1), 0);
    CHECK(wp_job_cancel(bulk[0]));
    CHECK(wp_job_cancel(bulk[2]));
    canceller c = {.pool = pool};
    wp_job *urgent = submit(pool, 0, discard_and_cancel_all, &c);
    event_set(&in_claim.open);
    CHECK_INT(finish(urgent), WP_DONE);
    CHECK(c.discarded);
    CHECK_INT(c.cancelled, 1);
    CHECK_INT(finish(blocker), WP_DONE);
    CHECK_INT(finish(first), WP_DONE);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(finish(bulk[i]), WP_CANCELLED);
    }
    end_pool(pool);
}

/* ---- What is claimed and not begun ---- */

/* Both workers are busy; then the first claims several jobs together, and the first of those takes long. The others are
 * done by whoever is free. */
static void
test_claimed_jobs_are_taken_over(void)
{
    wp_pool *pool = pool_for(2, 2, WP_UNBOUNDED);
    gate before[2] = {0};
    gate in_claim = {0};
    wp_word count = 0;
    wp_job *blockers[2];
    teach_short(pool, 1);
    for (int i = 0; i < 2; i++) {
        blockers[i] = submit(pool, 0, stand_at_gate, &before[i]);
        event_wait(&before[i].begun, 1);
    }
    wp_job *first = submit(pool, 1, stand_at_gate, &in_claim);
    for (int i = 0; i < 9; i++) {
        post(pool, 1, count_up, &count);
    }
    event_set(&before[0].open);
    event_wait(&in_claim.begun, 1);
    CHECK(hidden_in(pool, 1) > 0);
    CHECK_INT(stats_of(pool).lanes[1].waiting, 9); /* Claimed or not. */
    event_set(&before[1].open);
    UNTIL(wp_load_acquire(&count) == 9);
    CHECK_INT(hidden_in(pool, 1), 0);
    event_set(&in_claim.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(blockers[0]), WP_DONE);
    CHECK_INT(finish(blockers[1]), WP_DONE);
    end_pool(pool);
}

static int
meet(wp_job *job, void *argument)
{
    event *e = argument;
    (void)job;
    event_set(e);
    event_wait(e, 2);
    return 0;
}

/* Two jobs that wait for each other are claimed by the only worker; then there may be a second one, perhaps after the
 * pool was closed. It comes, and does not leave before it has looked at what the first has claimed. */
static void
meet_on_a_new_worker(bool closed)
{
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    gate before = {0};
    event meeting = {0};
    teach_short(pool, 1);
    wp_job *blocker = occupy(pool, 0, &before);
    wp_job *jobs[2] = {submit(pool, 1, meet, &meeting), submit(pool, 1, meet, &meeting)};
    event_set(&before.open);
    event_wait(&meeting, 1);
    CHECK_INT(hidden_in(pool, 1), 1);
    if (closed) {
        wp_pool_close(pool);
    }
    wp_pool_resize(pool, 2);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
    CHECK_INT(finish(blocker), WP_DONE);
    end_pool(pool);
}

static void
test_new_worker_takes_claimed_jobs_over(void)
{
    meet_on_a_new_worker(false);
}

static void
test_claimed_jobs_are_taken_over_while_closing(void)
{
    meet_on_a_new_worker(true);
}

/* ---- Jobs taken back, nested and discarded ---- */

static void
test_take_back(void)
{
    wp_pool *pool = pool_for(1, 1, 2);
    gate g = {0};
    uint32_t worker = 0;
    wp_job *first = occupy(pool, 0, &g);
    wp_job *second = submit(pool, 0, return_five, &worker);
    wp_job *third = submit(pool, 0, do_nothing, NULL);
    CHECK(wp_job_run_here(second));
    CHECK_INT(wp_job_state(second), WP_FAILED);
    CHECK(wp_job_is_settled(second));
    CHECK_INT(worker, WP_NO_WORKER);
    CHECK(!wp_job_run_here(second));
    CHECK(!wp_job_run_here(first)); /* Runs already. */
    CHECK_INT(stats_of(pool).lanes[0].waiting, 1);
    CHECK_INT(wp_load_relaxed(&second->references), 1);
    wp_job_unref(second);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(third), WP_DONE);
    end_pool(pool);
}

static void
test_run_here_without_submitting(void)
{
    wp_pool *pool = pool_for(1, 1, 1);
    wp_word count = 0;
    wp_job *job = wp_function_job(count_up, &count, NULL);
    wp_pool_run_here(pool, 0, job);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(wp_load_acquire(&count), 1);
    CHECK_INT(stats_of(pool).workers, 0);
    CHECK_INT(stats_of(pool).lanes[0].submitted, 1);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 1);
    end_pool(pool);
}

typedef struct nested {
    wp_pool *pool;
    int depth;
} nested;

static int
submit_and_wait(wp_job *job, void *argument)
{
    const nested *n = argument;
    (void)job;
    if (n->depth == 0) {
        return 0;
    }
    nested inner = {n->pool, n->depth - 1};
    wp_job *child = wp_function_job(submit_and_wait, &inner, NULL);
    CHECK_INT(submit_wait(n->pool, 0, child, soon()), WP_OK);
    if (!wp_job_run_here(child)) {
        wait_settled(child);
    }
    CHECK(wp_worker_job(wp_worker_self()) == job);
    int status = wp_function_status(child);
    CHECK_INT(finish(child), status == 0 && n->depth == 1 ? WP_DONE : WP_FAILED);
    return status + 1;
}

static void
test_nested_on_one_worker(void)
{
    wp_pool *pool = pool_for(1, 1, 1);
    nested n = {pool, 100};
    wp_job *job = submit(pool, 0, submit_and_wait, &n);
    wait_settled(job);
    CHECK_INT(wp_function_status(job), 100);
    wp_job_unref(job);
    end_pool(pool);
}

/* A job of the first lane waits for one of the second, which limits how many run, and so on: the only worker runs them
 * all, as one of those that may. */
static int
submit_across_lanes(wp_job *job, void *argument)
{
    const nested *n = argument;
    (void)job;
    if (n->depth == 0) {
        return 0;
    }
    nested inner = {n->pool, n->depth - 1};
    wp_job *child = submit(n->pool, (unsigned)n->depth % 3, submit_across_lanes, &inner);
    CHECK(wp_job_run_here(child));
    return finish(child) == WP_DONE ? 0 : 1;
}

static void
test_nested_across_limited_lanes(void)
{
    wp_pool_config config = config_for(1, 3, 10);
    config.lanes[1].max_running = 1;
    config.lanes[2].max_running = 2;
    wp_pool *pool = wp_pool_new(&config);
    nested n = {pool, 20};
    CHECK_INT(finish(submit(pool, 0, submit_across_lanes, &n)), WP_DONE);
    wait_at_rest(pool);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pool->lanes[i].running, 0);
    }
    CHECK_INT(finish(submit(pool, 1, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

static int
submit_fifty(wp_job *job, void *argument)
{
    const nested *n = argument;
    static wp_word count;
    (void)job;
    for (int i = 0; i < 50; i++) {
        wp_job *child = wp_function_job(count_up, &count, NULL);
        CHECK_INT(submit_wait(n->pool, 0, child, soon()), WP_OK);
        wp_job_unref(child);
    }
    return 0;
}

static void
test_worker_may_exceed_its_queue(void)
{
    wp_pool *pool = pool_for(1, 1, 2);
    nested n = {pool, 0};
    CHECK_INT(finish(submit(pool, 0, submit_fifty, &n)), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 51);
    end_pool(pool);

    pool = pool_for(1, 1, 0);
    n.pool = pool;
    CHECK_INT(finish(submit(pool, 0, submit_fifty, &n)), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
}

static void
test_discard_oldest(void)
{
    full_pool f;
    fill(&f);
    CHECK(wp_pool_discard_oldest(f.pool, 0));
    CHECK_INT(wp_job_state(f.waiting[0]), WP_CANCELLED);
    CHECK_INT(wp_job_state(f.waiting[1]), WP_PENDING);
    CHECK(wp_job_cancel(f.waiting[1]));
    CHECK(wp_pool_discard_oldest(f.pool, 0));
    CHECK_INT(wp_job_state(f.waiting[2]), WP_CANCELLED);
    CHECK(wp_pool_discard_oldest(f.pool, 0));
    CHECK(!wp_pool_discard_oldest(f.pool, 0));
    CHECK_INT(stats_of(f.pool).lanes[0].ended[WP_CANCELLED], 4);
    empty(&f);
}

static void
test_cancel_waiting(void)
{
    full_pool f;
    fill(&f);
    CHECK(!wp_job_cancel(f.running));
    CHECK_INT(wp_pool_cancel_waiting(f.pool), 4);
    CHECK_INT(wp_pool_cancel_waiting(f.pool), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(wp_job_state(f.waiting[i]), WP_CANCELLED);
        CHECK_INT(wp_load_relaxed(&f.waiting[i]->references), 1);
    }
    empty(&f);
}

static void
test_stop_a_running_job(void)
{
    wp_pool *pool = pool_for(1, 1, 2);
    event begun = {0};
    wp_job *job = submit(pool, 0, run_until_stopped, &begun);
    event_wait(&begun, 1);
    CHECK(wp_job_stop(job));
    CHECK_INT(finish(job), WP_FAILED);
    job = submit(pool, 0, do_nothing, NULL);
    wait_settled(job);
    CHECK(!wp_job_stop(job));
    wp_job_unref(job);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_every_job_runs_once);
    RUN(test_outcome_and_status);
    RUN(test_full_lane_leaves_job_untouched);
    RUN(test_rendezvous);
    RUN(test_rendezvous_many);
    RUN(test_rendezvous_counts_a_worker_once);
    RUN(test_rendezvous_with_max_running);
    RUN(test_free_worker_is_offered_to_all_lanes);
    RUN(test_room_deadline);
    RUN(test_room_token);
    RUN(test_room_close);
    RUN(test_room_break);
    RUN(test_room_for_many_sleepers);
    RUN(test_cancel_gives_room_at_once);
    RUN(test_slow_jobs_give_room_one_by_one);
    RUN(test_strict_priority);
    RUN(test_fairness);
    RUN(test_fairness_among_many_lanes);
    RUN(test_max_running);
    RUN(test_max_running_holds_back);
    RUN(test_urgent_before_claimed_bulk);
    RUN(test_cancelled_in_claim_is_not_given_back);
    RUN(test_claimed_jobs_are_taken_over);
    RUN(test_new_worker_takes_claimed_jobs_over);
    RUN(test_claimed_jobs_are_taken_over_while_closing);
    RUN(test_take_back);
    RUN(test_run_here_without_submitting);
    RUN(test_nested_on_one_worker);
    RUN(test_nested_across_limited_lanes);
    RUN(test_worker_may_exceed_its_queue);
    RUN(test_discard_oldest);
    RUN(test_cancel_waiting);
    RUN(test_stop_a_running_job);
    return check_done();
}
