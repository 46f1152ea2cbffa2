/* Stages: every accepted job runs once or is given up, and is reported exactly once; no reader or submitter sleeps while
 * there is something for it; a job that takes long holds up no other.
 *
 * The stage is compiled into this program, not taken from the library: so tests see when its threads sleep, and its
 * atomic operations can be made to take their time, which opens each window that a race needs.
 */
#include <stdatomic.h>

static void schedule_point(void);
#define WP_SCHEDULE_POINT() schedule_point()

#include "../core/wp_stage.c"

#include "fixture.h"

/* ---- Schedules ---- */

static atomic_bool is_shaken;
static atomic_ullong seeds;

/* While the schedule is shaken, one operation in a few lets others go first. */
static void
schedule_point(void)
{
    static _Thread_local uint64_t seed;
    if (!atomic_load_explicit(&is_shaken, memory_order_relaxed)) {
        return;
    }
    if (seed == 0) {
        seed = atomic_fetch_add(&seeds, 1);
    }
    uint64_t dice = check_rand(&seed) % 64;
    if (dice == 0) {
        usleep(1);
    } else if (dice < 6) {
        sched_yield();
    }
}

static void
shake(bool on)
{
    atomic_store(&is_shaken, on);
}

/* ---- What the tests share ---- */

/* An argument: how often it ran and how often it was reported. */
typedef struct item {
    wp_word runs;
    wp_word reports;
    wp_word given_up;
    gate *g; /* It stands at this gate; or NULL. */
} item;

/* Counts the run and returns a status by which the result is known again. */
static int
run_item(wp_job *job, void *argument)
{
    item *i = argument;
    wp_add_acq_rel(&i->runs, 1);
    if (i->g != NULL) {
        stand_at_gate(job, i->g);
    }
    return 7;
}

static enum wp_result
put_until(wp_stage *stage, void *argument, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_stage_put(stage, argument, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

static void
put(wp_stage *stage, void *argument)
{
    CHECK_INT(put_until(stage, argument, soon()), WP_OK);
}

static enum wp_result
get_until_many(wp_stage *stage, uint64_t deadline, wp_stage_result *results, uint32_t most, uint32_t *n)
{
    enum wp_result got;
    do {
        got = wp_stage_get_many(stage, deadline, results, most, n);
    } while (got == WP_INTERRUPTED);
    return got;
}

static enum wp_result
get_until(wp_stage *stage, uint64_t deadline, wp_stage_result *result)
{
    uint32_t n;
    return get_until_many(stage, deadline, result, 1, &n);
}

/* The next result; its argument. */
static void *
get(wp_stage *stage)
{
    wp_stage_result result = {0};
    CHECK_INT(get_until(stage, soon(), &result), WP_OK);
    return result.argument;
}

/* Counts a result of an item. */
static void
note_report(const wp_stage_result *result)
{
    item *i = result->argument;
    if (!CHECK(i != NULL)) {
        return;
    }
    wp_add_acq_rel(&i->reports, 1);
    wp_add_acq_rel(&i->given_up, result->given_up);
    CHECK_INT(result->status, result->given_up ? 0 : 7);
}

/* Reads until there are no more results; returns how many there were. */
static uint32_t
read_items(wp_stage *stage)
{
    wp_stage_result result;
    uint32_t n = 0;
    enum wp_result got;
    while ((got = get_until(stage, soon(), &result)) == WP_OK) {
        note_report(&result);
        n++;
    }
    CHECK_INT(got, WP_FINISHED);
    return n;
}

/* Each was reported once, and ran unless it was given up. Returns how many were given up. */
static uint32_t
check_items(item *items, uint32_t n)
{
    uint32_t given_up = 0;
    for (uint32_t i = 0; i < n; i++) {
        CHECK_INT(wp_load_acquire(&items[i].reports), 1);
        CHECK_INT(wp_load_acquire(&items[i].runs) + wp_load_acquire(&items[i].given_up), 1);
        given_up += wp_load_acquire(&items[i].given_up);
    }
    return given_up;
}

/* ---- Many of everything ---- */

typedef struct crowd {
    wp_stage *stage;
    item *items;
    uint32_t n;
    wp_word next; /* To be put. */
    wp_word left; /* Producers that are not done. */
    wp_word read;
} crowd;

static void *
producer_main(void *argument)
{
    crowd *c = argument;
    for (uint32_t i = wp_add_acq_rel(&c->next, 1); i < c->n; i = wp_add_acq_rel(&c->next, 1)) {
        put(c->stage, &c->items[i]);
    }
    if (wp_sub_acq_rel(&c->left, 1) == 1) {
        wp_stage_close(c->stage);
    }
    return NULL;
}

static void *
reader_main(void *argument)
{
    crowd *c = argument;
    wp_add_acq_rel(&c->read, read_items(c->stage));
    return NULL;
}

static void
run_crowd_in(uint32_t workers, uint64_t waiting, uint32_t capacity, uint32_t producers, uint32_t readers, uint32_t n)
{
    pthread_t threads[8];
    wp_pool *pool = pool_for(workers, 1, waiting);
    crowd c = {.stage = wp_stage_new(pool, 0, run_item, capacity), .items = calloc(n, sizeof(item)), .n = n};
    wp_store_relaxed(&c.left, producers);
    for (uint32_t i = 0; i < producers + readers; i++) {
        threads[i] = start_thread(i < producers ? producer_main : reader_main, &c);
    }
    for (uint32_t i = 0; i < producers + readers; i++) {
        join_thread(threads[i]);
    }
    CHECK_INT(wp_load_acquire(&c.read), n);
    CHECK_INT(check_items(c.items, n), 0);
    wp_stage_unref(c.stage);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
    free(c.items);
}

static void
run_crowd(uint32_t workers, uint32_t capacity, uint32_t producers, uint32_t readers, uint32_t n)
{
    run_crowd_in(workers, 50, capacity, producers, readers, n);
}

static void
test_every_job_once(void)
{
    static const uint32_t capacities[] = {1, 2, 3, 5, 7, 100, 1000};
    for (uint32_t i = 0; i < 7; i++) {
        for (uint32_t workers = 1; workers <= 3; workers++) {
            run_crowd(workers, capacities[i], 1, 1, IS_SANITIZED ? 500 : 3000);
            run_crowd(workers, capacities[i], 2, 1, IS_SANITIZED ? 500 : 2000);
            run_crowd(workers, capacities[i], 1 + i % 3, 2 + i % 2, IS_SANITIZED ? 500 : 2000);
        }
    }
}

/* ---- Beside more urgent jobs ---- */

typedef struct hurry {
    wp_pool *pool;
    wp_word stop;
    wp_word done;
} hurry;

static void *
hurry_main(void *argument)
{
    hurry *h = argument;
    while (!wp_load_acquire(&h->stop)) {
        wp_job *job = wp_function_job(count_up, &h->done, NULL);
        CHECK_INT(submit_wait(h->pool, 0, job, soon()), WP_OK);
        wp_job_unref(job);
        usleep(20);
    }
    return NULL;
}

/* Workers give back what they have not begun, again and again, while the chunk that it came from still grows. */
static void
test_urgent_jobs(void)
{
    enum { N = IS_SANITIZED ? 3000 : 30000 };
    wp_pool *pool = pool_for(3, 2, 500);
    hurry h = {.pool = pool};
    crowd c = {.stage = wp_stage_new(pool, 1, run_item, 300), .items = calloc(N, sizeof(item)), .n = N};
    wp_store_relaxed(&c.left, 1);
    pthread_t urgent = start_thread(hurry_main, &h);
    pthread_t producer = start_thread(producer_main, &c);
    CHECK_INT(read_items(c.stage), N);
    join_thread(producer);
    wp_store_release(&h.stop, 1);
    join_thread(urgent);
    CHECK_INT(check_items(c.items, N), 0);
    wp_stage_unref(c.stage);
    end_pool(pool);
    free(c.items);
}

/* Runs jobs until the stage knows that they are short. Nothing is left over. */
static void
warm_up(wp_stage *stage)
{
    static item items[300];
    memset(items, 0, sizeof items);
    for (int i = 0; i < 300; i++) {
        put(stage, &items[i]);
    }
    for (int i = 0; i < 300; i++) {
        get(stage);
    }
}

/* A job that holds its worker up until the gate opens. */
static void
occupy(wp_pool *pool, gate *g)
{
    post(pool, 0, stand_at_gate, g);
    event_wait(&g->begun, 1);
}

/* The only jobs of a chunk that wait are some that were given back, from its middle. The next one that it gets is not
 * next to those. */
static void
test_put_after_give_back(void)
{
    enum { N = 65 };
    static item items[N];
    gate gates[4] = {0};
    memset(items, 0, sizeof items);
    items[0].g = &gates[2];
    items[63].g = &gates[3];
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 400);
    warm_up(stage);
    occupy(pool, &gates[0]);
    occupy(pool, &gates[1]);
    for (int i = 0; i < 64; i++) {
        put(stage, &items[i]);
    }
    event_set(&gates[0].open); /* This worker claims the first job and more, and is held up in the first. */
    event_wait(&gates[2].begun, 1);
    event_set(&gates[1].open); /* This one claims all that wait, and is held up in the last. */
    event_wait(&gates[3].begun, 1);
    wp_claims_recall(pool);
    put(stage, &items[64]);
    wp_stage_close(stage);
    event_set(&gates[2].open);
    event_set(&gates[3].open);
    CHECK_INT(read_items(stage), N);
    CHECK_INT(check_items(items, N), 0);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* ---- Sleeping and waking ---- */

static bool
is_asleep(wp_word *sleepers)
{
    return (wp_load_acquire(sleepers) & SLEEPERS) != 0;
}

typedef struct sleeper {
    wp_stage *stage;
    item *item;
    enum wp_result result;
    pthread_t thread;
} sleeper;

static void *
get_main(void *argument)
{
    sleeper *s = argument;
    wp_stage_result result;
    uint64_t deadline = soon();
    s->result = get_until(s->stage, deadline, &result);
    CHECK(wp_clock() < deadline); /* It was woken. */
    return NULL;
}

static void *
put_main(void *argument)
{
    sleeper *s = argument;
    uint64_t deadline = soon();
    s->result = put_until(s->stage, s->item, deadline);
    CHECK(wp_clock() < deadline);
    return NULL;
}

/* The stage is closed just as readers fall asleep. */
static void
test_close_wakes_readers(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    shake(true);
    for (int round = 0; round < 500; round++) {
        wp_stage *stage = wp_stage_new(pool, 0, run_item, 3);
        sleeper s[2] = {{.stage = stage}, {.stage = stage}};
        s[0].thread = start_thread(get_main, &s[0]);
        s[1].thread = start_thread(get_main, &s[1]);
        while (round % 4 && !is_asleep(&stage->asleep)) {
        }
        wp_stage_close(stage);
        join_thread(s[0].thread);
        join_thread(s[1].thread);
        CHECK_INT(s[0].result, WP_FINISHED);
        CHECK_INT(s[1].result, WP_FINISHED);
        wp_stage_unref(stage);
    }
    shake(false);
    end_pool(pool);
}

/* The same with submitters that find no place. Nobody reads. */
static void
test_close_wakes_submitters(void)
{
    static item items[3];
    wp_pool *pool = pool_for(1, 1, 10);
    shake(true);
    for (int round = 0; round < 500; round++) {
        memset(items, 0, sizeof items);
        wp_stage *stage = wp_stage_new(pool, 0, run_item, 1);
        put(stage, &items[0]);
        sleeper s[2] = {{.stage = stage, .item = &items[1]}, {.stage = stage, .item = &items[2]}};
        s[0].thread = start_thread(put_main, &s[0]);
        s[1].thread = start_thread(put_main, &s[1]);
        while (round % 4 && !is_asleep(&stage->blocked)) {
        }
        wp_stage_close(stage);
        join_thread(s[0].thread);
        join_thread(s[1].thread);
        CHECK_INT(s[0].result, WP_CLOSED);
        CHECK_INT(s[1].result, WP_CLOSED);
        CHECK_INT(read_items(stage), 1);
        wp_stage_unref(stage);
    }
    shake(false);
    end_pool(pool);
}

/* The same with submitters that find no room in the lane. The job that holds it up ends after the close: one of them is
 * woken for its room, does not need it, and tells the other. */
static void
test_close_passes_room_on(void)
{
    static item items[3];
    gate g = {0};
    memset(items, 0, sizeof items);
    wp_pool *pool = pool_for(1, 1, 1);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 10);
    occupy(pool, &g);
    put(stage, &items[0]);
    sleeper s[2] = {{.stage = stage, .item = &items[1]}, {.stage = stage, .item = &items[2]}};
    s[0].thread = start_thread(put_main, &s[0]);
    s[1].thread = start_thread(put_main, &s[1]);
    UNTIL(blocked_in(pool, 0) == 2);
    wp_stage_close(stage);
    event_set(&g.open);
    join_thread(s[0].thread);
    join_thread(s[1].thread);
    CHECK_INT(s[0].result, WP_CLOSED);
    CHECK_INT(s[1].result, WP_CLOSED);
    CHECK_INT(read_items(stage), 1);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* The same with a job that closes the stage and waits for the submitter, which waits for room that only this job's worker
 * can make. */
typedef struct closer {
    sleeper s;
    gate g;
} closer;

static int
close_and_join(wp_job *job, void *argument)
{
    closer *c = argument;
    stand_at_gate(job, &c->g);
    wp_stage_close(c->s.stage);
    join_thread(c->s.thread);
    return 0;
}

static void
test_close_by_the_only_worker(void)
{
    static item items[2];
    memset(items, 0, sizeof items);
    wp_pool *pool = pool_for(1, 1, 1);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 0);
    closer c = {.s = {.stage = stage, .item = &items[1]}};
    wp_job *closing = submit(pool, 0, close_and_join, &c);
    event_wait(&c.g.begun, 1);
    put(stage, &items[0]);
    c.s.thread = start_thread(put_main, &c.s);
    UNTIL(blocked_in(pool, 0) == 1);
    event_set(&c.g.open);
    CHECK_INT(finish(closing), WP_DONE);
    CHECK_INT(c.s.result, WP_CLOSED);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* The pool is closed just as readers, or submitters that find no place, fall asleep. */
static void
test_closing_the_pool_wakes_everybody(void)
{
    static item items[2];
    shake(true);
    for (int round = 0; round < 200; round++) {
        memset(items, 0, sizeof items);
        wp_pool *pool = pool_for(1, 1, 10);
        wp_stage *empty = wp_stage_new(pool, 0, run_item, 1);
        wp_stage *full = wp_stage_new(pool, 0, run_item, 1);
        put(full, &items[0]);
        sleeper reader = {.stage = empty};
        sleeper submitter = {.stage = full, .item = &items[1]};
        reader.thread = start_thread(get_main, &reader);
        submitter.thread = start_thread(put_main, &submitter);
        while (round % 4 && !(is_asleep(&empty->asleep) && is_asleep(&full->blocked))) {
        }
        wp_pool_close(pool);
        join_thread(reader.thread);
        join_thread(submitter.thread);
        CHECK_INT(reader.result, WP_FINISHED);
        CHECK_INT(submitter.result, WP_CLOSED);
        CHECK_INT(read_items(full), 1);
        wp_stage_unref(empty);
        wp_stage_unref(full);
        end_pool(pool);
    }
    shake(false);
}

/* Readers and submitters come and go, and each takes or brings as much as it likes: a result that one was called for and
 * leaves is for another who sleeps. */
static void
test_readers_share_wake_ups(void)
{
    shake(true);
    for (int round = 0; round < 30; round++) {
        run_crowd(2, 1 + (uint32_t)round % 4, 3, 5, 100);
    }
    shake(false);
}

/* One reader sleeps for any result; another, which comes later and goes again, would rather be called for many. The first
 * is still called for any. */
static void
test_naps_beside_sleep(void)
{
    gate before = {0};
    gate g = {0};
    item items[2] = {{.g = NULL}, {.g = &g}};
    wp_stage_result result;
    wp_pool_config config = config_for(1, 1, 10);
    config.lanes[0].max_running = 1; /* Readers do not run the jobs: the second would hold them up. */
    wp_pool *pool = wp_pool_new(&config);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 100);
    sleeper s = {.stage = stage};
    s.thread = start_thread(get_main, &s);
    UNTIL(is_asleep(&stage->asleep));
    wp_pace_note(stage->group->pace, 50, 1);                             /* As if jobs were known to be short. */
    CHECK_INT(get_until(stage, wp_clock() + MS / 10, &result), WP_LATE); /* Not long enough to sleep lightly. */
    occupy(pool, &before); /* Until both jobs are there: so the first result is not the last. */
    put(stage, &items[0]);
    put(stage, &items[1]);
    event_set(&before.open);
    join_thread(s.thread);
    CHECK_INT(s.result, WP_OK);
    event_set(&g.open);
    get(stage);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* ---- Given up ---- */

/* The next `n` results are of jobs that were given up. */
static void
get_given_up(wp_stage *stage, int n)
{
    for (int i = 0; i < n; i++) {
        wp_stage_result result = {0};
        uint64_t deadline = soon();
        CHECK_INT(get_until(stage, deadline, &result), WP_OK);
        CHECK(wp_clock() < deadline);
        CHECK(result.given_up);
        note_report(&result);
    }
}

/* One job runs and others of its chunk wait. */
typedef struct held {
    wp_pool *pool;
    wp_stage *stage;
    gate g;
    item items[10];
} held;

static void
hold(held *h)
{
    *h = (held){.pool = pool_for(1, 1, 100)};
    h->stage = wp_stage_new(h->pool, 0, run_item, 20);
    h->items[0].g = &h->g;
    put(h->stage, &h->items[0]);
    event_wait(&h->g.begun, 1);
    for (int i = 1; i < 10; i++) {
        put(h->stage, &h->items[i]);
    }
}

/* The job that runs ends, and is reported, and so is one that is put now. */
static void
let_go(held *h, enum wp_result next)
{
    item last = {.g = NULL};
    event_set(&h->g.open);
    CHECK_INT(put_until(h->stage, &last, soon()), next);
    wp_stage_close(h->stage);
    CHECK_INT(read_items(h->stage), next == WP_OK ? 2 : 1);
    CHECK_INT(check_items(h->items, 10), 9);
    wp_stage_unref(h->stage);
    end_pool(h->pool);
}

/* A reader hears at once of the jobs that were given up, whatever else is in their chunk. */
static void
test_given_up_at_once(void)
{
    held h;
    hold(&h);
    wp_stage_cancel(h.stage);
    get_given_up(h.stage, 9);
    CHECK_INT(stats_of(h.pool).unfinished, 1);
    let_go(&h, WP_OK);
}

static void
test_given_up_by_the_pool(void)
{
    held h;
    hold(&h);
    CHECK_INT(wp_pool_cancel_waiting(h.pool), 9);
    get_given_up(h.stage, 9);
    let_go(&h, WP_OK);
}

static void
test_given_up_by_a_broken_pool(void)
{
    held h;
    hold(&h);
    wp_pool_break(h.pool);
    get_given_up(h.stage, 9);
    let_go(&h, WP_BROKEN);
}

/* Asks whether it should stop until it should, and returns a status by which the result is known again. */
static int
run_item_until_stopped(wp_job *job, void *argument)
{
    item *i = argument;
    wp_add_acq_rel(&i->runs, 1);
    return run_until_stopped(job, &i->g->begun);
}

static void
test_cancel_stops_what_runs(void)
{
    static item items[600];
    gate g = {0};
    memset(items, 0, sizeof items);
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_stage *stage = wp_stage_new(pool, 0, run_item_until_stopped, 1000);
    for (int i = 0; i < 600; i++) {
        items[i].g = &g;
        put(stage, &items[i]);
    }
    event_wait(&g.begun, 2);
    wp_stage_cancel(stage);
    wp_stage_close(stage);
    CHECK_INT(read_items(stage), 600);
    CHECK(check_items(items, 600) > 590); /* Workers that stopped may have begun others before those were given up. */
    wp_stage_unref(stage);
    end_pool(pool);
}

/* A job with two children: one before its stage is cancelled, and one after. */
typedef struct parent {
    gate g;
    gate of_child;
    wp_handle *early;
    wp_handle *late;
    enum wp_result submitted;
    bool ends_first;
} parent;

static int
child_until_stopped(wp_job *job, void *argument)
{
    return run_until_stopped(job, argument);
}

static int
run_parent(wp_job *job, void *argument)
{
    parent *p = argument;
    CHECK_INT(wp_job_submit(job, WP_SAME_LANE, child_until_stopped, &p->of_child.begun, &p->early), WP_OK);
    event_set(&p->g.begun);
    wp_job_fail(job, "it keeps no words");
    while (!p->ends_first && !wp_job_should_stop(job)) {
    }
    if (!p->ends_first) {
        p->submitted = (enum wp_result)wp_job_submit(job, WP_SAME_LANE, child_until_stopped, NULL, &p->late);
    }
    return 7;
}

static void
end_children(const parent *p)
{
    CHECK(p->late == NULL);
    CHECK_INT(p->submitted, p->ends_first ? WP_OK : WP_STOPPED);
    CHECK_INT(wp_handle_wait(p->early, soon()), WP_OK);
    wp_handle_release(p->early);
}

/* When the stage is cancelled its jobs get no more children, and those that they have are stopped, whether the parent still
 * runs or has ended; in whichever chunk. Jobs that are put afterwards have children like any others. */
static void
test_cancel_reaches_children(void)
{
    static parent parents[4];
    memset(parents, 0, sizeof parents);
    parents[0].ends_first = parents[2].ends_first = true;
    wp_pool *pool = pool_for(6, 1, WP_UNBOUNDED);
    wp_stage *stage = wp_stage_new(pool, 0, run_parent, 10);
    for (int i = 0; i < 2; i++) {
        put(stage, &parents[i]);
        event_wait(&parents[i].g.begun, 1);
        event_wait(&parents[i].of_child.begun, 1);
    }
    wp_stage_cancel(stage);
    end_children(&parents[0]);
    CHECK(get(stage) != NULL);
    CHECK(get(stage) != NULL);
    end_children(&parents[1]);
    for (int i = 2; i < 4; i++) {
        put(stage, &parents[i]);
        event_wait(&parents[i].of_child.begun, 1);
    }
    CHECK_INT(wp_handle_wait(parents[2].early, wp_clock() + 5 * MS), WP_LATE);
    wp_stage_cancel(stage);
    end_children(&parents[2]);
    CHECK(get(stage) != NULL);
    CHECK(get(stage) != NULL);
    end_children(&parents[3]);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* Whoever cancels takes a while; jobs that are put meanwhile may be given up as well, those that are put afterwards not,
 * nor are they asked to stop. */
static int
run_unless_stopped(wp_job *job, void *argument)
{
    item *i = argument;
    wp_add_acq_rel(&i->runs, 1);
    for (int looks = 0; i->g != NULL && looks < 100; looks++) {
        CHECK(!wp_job_should_stop(job));
    }
    return 7;
}

typedef struct canceller {
    wp_stage *stage;
    wp_word begun;
    wp_word stop;
} canceller;

static void *
cancel_once(void *argument)
{
    canceller *c = argument;
    wp_store_release(&c->begun, 1);
    wp_stage_cancel(c->stage);
    return NULL;
}

static void
test_put_after_cancel(void)
{
    static item items[20];
    gate unused = {0};
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_stage *stage = wp_stage_new(pool, 0, run_unless_stopped, 30);
    shake(true);
    for (int round = 0; round < 300; round++) {
        memset(items, 0, sizeof items);
        canceller c = {.stage = stage};
        put(stage, &items[0]);
        pthread_t thread = start_thread(cancel_once, &c);
        while (!wp_load_acquire(&c.begun)) {
        }
        for (int i = 1; i < 10; i++) {
            put(stage, &items[i]);
        }
        join_thread(thread);
        for (int i = 10; i < 20; i++) {
            items[i].g = &unused; /* Must run, and not be asked to stop. */
            put(stage, &items[i]);
        }
        for (int i = 0; i < 20; i++) {
            wp_stage_result result = {0};
            CHECK_INT(get_until(stage, soon(), &result), WP_OK);
            note_report(&result);
            CHECK(!result.given_up || ((item *)result.argument)->g == NULL);
        }
        check_items(items, 20);
    }
    shake(false);
    wp_stage_unref(stage);
    end_pool(pool);
}

static void *
cancel_for_ever(void *argument)
{
    canceller *c = argument;
    while (!wp_load_acquire(&c->stop)) {
        wp_stage_cancel(c->stage);
        usleep(20);
    }
    return NULL;
}

/* Chunks end, are freed and used again while they are looked for. */
static void
test_cancel_at_any_moment(void)
{
    enum { N = IS_SANITIZED ? 3000 : 20000 };
    for (int round = 0; round < 4; round++) {
        wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
        crowd c = {.stage = wp_stage_new(pool, 0, run_item, 2000), .items = calloc(N, sizeof(item)), .n = N};
        canceller cancellers[2] = {{.stage = c.stage}, {.stage = c.stage}};
        pthread_t threads[3] = {start_thread(cancel_for_ever, &cancellers[0]),
                                start_thread(cancel_for_ever, &cancellers[1])};
        wp_store_relaxed(&c.left, 1);
        shake(round % 2);
        threads[2] = start_thread(producer_main, &c);
        CHECK_INT(read_items(c.stage), N);
        shake(false);
        wp_store_release(&cancellers[0].stop, 1);
        wp_store_release(&cancellers[1].stop, 1);
        for (int i = 0; i < 3; i++) {
            join_thread(threads[i]);
        }
        check_items(c.items, N);
        wp_stage_unref(c.stage);
        CHECK_INT(drain(pool, soon()), WP_OK);
        end_pool(pool);
        free(c.items);
    }
}

/* ---- A reader that helps ---- */

/* As if the stage's jobs had been measured. */
static void
know_as_short(wp_stage *stage)
{
    wp_store_release(&stage->group->pace->mean_ns, 50);
}

/* A reader claims the jobs of the stage and is held up in the first, while the only worker is held up by another job. */
typedef struct helped {
    wp_pool *pool;
    wp_stage *stage;
    gate elsewhere;
    gate g;
    item items[20];
    sleeper reader;
} helped;

static void
let_help(helped *h)
{
    *h = (helped){.pool = pool_for(1, 1, 100)};
    h->stage = wp_stage_new(h->pool, 0, run_item, 30);
    h->reader.stage = h->stage;
    h->items[0].g = &h->g;
    occupy(h->pool, &h->elsewhere);
    for (int i = 0; i < 20; i++) {
        put(h->stage, &h->items[i]);
    }
    know_as_short(h->stage);
    h->reader.thread = start_thread(get_main, &h->reader);
    event_wait(&h->g.begun, 1);
    CHECK_INT(stats_of(h->pool).lanes[0].waiting, 19);
}

static void
end_help(helped *h, uint32_t given_up)
{
    event_set(&h->g.open);
    join_thread(h->reader.thread);
    CHECK_INT(h->reader.result, WP_OK); /* Of the one job that was not counted. */
    CHECK_INT(wp_load_acquire(&h->items[0].reports), 0);
    wp_store_release(&h->items[0].reports, 1);
    CHECK_INT(check_items(h->items, 20), given_up);
    wp_stage_unref(h->stage);
    CHECK_INT(drain(h->pool, soon()), WP_OK);
    end_pool(h->pool);
}

/* What it claimed and has not begun is there for an idle worker, and the results for another reader. */
static void
test_helper_holds_up_no_other(void)
{
    helped h;
    let_help(&h);
    event_set(&h.elsewhere.open);
    for (int i = 1; i < 20; i++) {
        wp_stage_result result = {0};
        CHECK_INT(get_until(h.stage, soon(), &result), WP_OK);
        note_report(&result);
    }
    end_help(&h, 0);
}

/* And for who cancels, one way or the other. */
static void
test_helper_gives_up_what_it_has_not_begun(void)
{
    for (int by_pool = 0; by_pool < 2; by_pool++) {
        helped h;
        let_help(&h);
        if (by_pool) {
            CHECK_INT(wp_pool_cancel_waiting(h.pool), 19);
        } else {
            wp_stage_cancel(h.stage);
        }
        get_given_up(h.stage, 19);
        event_set(&h.elsewhere.open);
        end_help(&h, 19);
    }
}

/* ---- In lanes of all kinds ---- */

typedef struct counted_runs {
    gate g;
    wp_word now;
    wp_word most;
} counted_runs;

static int
count_runs(wp_job *job, void *argument)
{
    counted_runs *c = argument;
    uint32_t now = wp_add_acq_rel(&c->now, 1) + 1;
    if (now > wp_load_acquire(&c->most)) {
        wp_store_release(&c->most, now);
    }
    stand_at_gate(job, &c->g);
    wp_sub_acq_rel(&c->now, 1);
    return 0;
}

/* A lane limits how many of its jobs run. A reader does not count as a worker, so it runs none, however short they are. */
static void
test_max_running(void)
{
    counted_runs runs = {.now = 0};
    wp_pool_config config = config_for(1, 2, 100);
    config.lanes[1].max_running = 2;
    wp_pool *pool = wp_pool_new(&config);
    wp_stage *stage = wp_stage_new(pool, 1, count_runs, 100);
    sleeper reader = {.stage = stage};
    for (int i = 0; i < 4; i++) {
        put(stage, &runs);
    }
    event_wait(&runs.g.begun, 1);
    know_as_short(stage);
    reader.thread = start_thread(get_main, &reader);
    UNTIL(is_asleep(&stage->asleep) || wp_load_acquire(&runs.now) == 2);
    wp_pool_resize(pool, 3);
    UNTIL(stats_of(pool).workers >= 2 && wp_load_acquire(&runs.now) >= 2);
    wp_pool_resize(pool, 4);
    event_set(&runs.g.open);
    join_thread(reader.thread);
    for (int i = 1; i < 4; i++) {
        get(stage);
    }
    CHECK_INT(wp_load_acquire(&runs.most), 2);
    wp_stage_unref(stage);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
}

/* Jobs are handed over to free workers where none may wait. */
static void
test_hand_over(void)
{
    item items[3] = {{.g = NULL}};
    gate g = {0};
    wp_pool *pool = pool_for(1, 1, 0);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 10);
    items[0].g = &g;
    put(stage, &items[0]);
    event_wait(&g.begun, 1);
    CHECK_INT(wp_stage_put(stage, &items[1], 0), WP_FULL);
    CHECK_INT(stats_of(pool).lanes[0].rejected, 1);
    CHECK_INT(put_until(stage, &items[1], wp_clock() + MS), WP_LATE);
    CHECK_INT(stats_of(pool).lanes[0].rejected, 2);
    sleeper s = {.stage = stage, .item = &items[1]};
    s.thread = start_thread(put_main, &s);
    UNTIL(blocked_in(pool, 0) == 1);
    CHECK_INT(stats_of(pool).lanes[0].rejected, 2);
    event_set(&g.open);
    join_thread(s.thread);
    CHECK_INT(s.result, WP_OK);
    put(stage, &items[2]);
    wp_stage_close(stage);
    CHECK_INT(read_items(stage), 3);
    CHECK_INT(check_items(items, 3), 0);
    wp_stage_unref(stage);
    end_pool(pool);
    run_crowd_in(2, 0, 10, 3, 3, 300);
}

/* A submitter that was woken for room in the lane, and then finds no place for a result, wakes another instead. */
static void
test_room_is_passed_on(void)
{
    item items[2] = {{.g = NULL}};
    gate gates[2] = {0};
    wp_pool *pool = pool_for(1, 1, 1);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 1);
    put(stage, &items[0]);
    CHECK_INT(drain(pool, soon()), WP_OK);
    occupy(pool, &gates[0]);
    post(pool, 0, stand_at_gate, &gates[1]);
    sleeper first = {.stage = stage, .item = &items[1]};
    submitter second = {.pool = pool, .job = wp_function_job(do_nothing, NULL, NULL), .deadline = soon()};
    first.thread = start_thread(put_main, &first);
    UNTIL(blocked_in(pool, 0) == 1);
    submitter_start(&second);
    UNTIL(blocked_in(pool, 0) == 2);
    event_set(&gates[0].open);
    event_wait(&gates[1].begun, 1);
    join_thread(second.thread);
    CHECK_INT(second.result, WP_OK);
    wp_job_unref(second.job);
    event_set(&gates[1].open);
    get(stage);
    join_thread(first.thread);
    CHECK_INT(first.result, WP_OK);
    get(stage);
    wp_stage_unref(stage);
    CHECK_INT(drain(pool, soon()), WP_OK);
    end_pool(pool);
}

/* No worker can be started: nothing is accepted that nobody would run. */
static void
test_no_thread(void)
{
    for (uint32_t capacity = 0; capacity < 2; capacity++) {
        item items[1] = {{.g = NULL}};
        wp_pool *pool = pool_for(2, 1, 10);
        wp_stage *stage = wp_stage_new(pool, 0, run_item, capacity);
        pool->config.stack_size = (size_t)1 << 60;
        for (int i = 0; i < 3; i++) {
            CHECK_INT(put_until(stage, &items[0], soon()), WP_NO_THREAD);
        }
        CHECK_INT(stats_of(pool).lanes[0].submitted, 0);
        CHECK_INT(stats_of(pool).workers, 0);
        pool->config.stack_size = 0;
        put(stage, &items[0]);
        wp_stage_close(stage);
        CHECK_INT(read_items(stage), capacity);
        CHECK_INT(drain(pool, soon()), WP_OK);
        CHECK_INT(wp_load_acquire(&items[0].runs), 1);
        wp_stage_unref(stage);
        end_pool(pool);
    }
}

/* What was accepted is run and reported after the pool was closed, and after every reference but the stage's is gone. */
static void
test_closed_pool(void)
{
    item items[5] = {{.g = NULL}};
    gate g = {0};
    wp_pool *pool = pool_for(1, 1, 10);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 10);
    items[0].g = &g;
    for (int i = 0; i < 4; i++) {
        put(stage, &items[i]);
    }
    wp_pool_close(pool);
    CHECK_INT(put_until(stage, &items[4], soon()), WP_CLOSED);
    wp_pool_unref(pool);
    event_set(&g.open);
    wp_stage_close(stage);
    CHECK_INT(read_items(stage), 4);
    CHECK_INT(check_items(items, 4), 0);
    wp_stage_unref(stage);
}

/* Nobody reads; the last reference may go before the jobs have run. */
static void
test_no_results(void)
{
    enum { N = 1000 };
    wp_word count = 0;
    wp_stage_result result;
    wp_pool *pool = pool_for(2, 1, 20);
    wp_stage *stage = wp_stage_new(pool, 0, count_up, 0);
    for (int i = 0; i < N; i++) {
        put(stage, &count);
    }
    CHECK_INT(wp_stage_get(stage, soon(), &result), WP_FINISHED);
    wp_stage_ref(stage);
    wp_stage_unref(stage);
    put(stage, &count);
    wp_stage_unref(stage);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), N + 1);
    end_pool(pool);
}

/* ---- Waiting for so long ---- */

static void
test_limits_of_time(void)
{
    item items[2] = {{.g = NULL}};
    gate g = {0};
    wp_stage_result result;
    wp_pool *pool = pool_for(1, 1, 10);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 1);
    CHECK_INT(wp_stage_get(stage, 0, &result), WP_LATE);
    items[0].g = &g;
    put(stage, &items[0]);
    for (int round = 0; round < 2; round++) {
        uint64_t begin = wp_clock();
        CHECK_INT(wp_stage_get(stage, 0, &result), WP_LATE);
        CHECK_INT(wp_stage_put(stage, &items[1], 0), WP_FULL);
        CHECK_INT(get_until(stage, wp_clock() + 3 * MS, &result), WP_LATE);
        CHECK_INT(put_until(stage, &items[1], wp_clock() + 3 * MS), WP_LATE);
        CHECK(wp_clock() - begin >= 6 * MS);
        know_as_short(stage); /* Then it looks for a while, and naps, and sleeps. */
    }
    event_set(&g.open);
    wp_stage_close(stage);
    CHECK_INT(read_items(stage), 1);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* ---- Several at a time ---- */

static void
test_many_at_once(void)
{
    enum { N = 700 };
    static item items[N];
    void *arguments[N];
    wp_stage_result results[64];
    wp_pool *pool = pool_for(2, 1, 100);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 300);
    uint32_t done = 0;
    memset(items, 0, sizeof items);
    for (int i = 0; i < N; i++) {
        arguments[i] = &items[i];
    }
    CHECK_INT(wp_stage_put_many(stage, arguments, 0, 0, &done), WP_OK);
    CHECK_INT(done, 0);
    enum wp_result result = wp_stage_put_many(stage, arguments, N, wp_clock() + 20 * MS, &done);
    CHECK(result == WP_LATE || result == WP_INTERRUPTED);
    CHECK(done <= 300); /* Nobody read. */
    for (uint32_t put_now, read = 0; read < N;) {
        uint32_t n = 0;
        result = wp_stage_put_many(stage, arguments + done, N - done, 0, &put_now);
        CHECK_INT(result, done + put_now < N ? WP_FULL : WP_OK);
        done += put_now;
        if (get_until_many(stage, soon(), results, 64, &n) != WP_OK) {
            break;
        }
        CHECK(n >= 1 && n <= 64);
        for (uint32_t i = 0; i < n; i++) {
            note_report(&results[i]);
        }
        read += n;
    }
    CHECK_INT(check_items(items, N), 0);
    wp_stage_close(stage);
    CHECK_INT(wp_stage_put_many(stage, arguments, 3, soon(), &done), WP_CLOSED);
    CHECK_INT(done, 0);
    CHECK_INT(get_until_many(stage, soon(), results, 64, &done), WP_FINISHED);
    CHECK_INT(done, 0);
    wp_stage_unref(stage);
    end_pool(pool);
}

/* ---- Workers that put and get ---- */

/* A job that reads what a stage of its own pool makes. If it has the only worker it runs that itself. */
static int
use_stage(wp_job *job, void *argument)
{
    static item items[20];
    wp_stage *stage = wp_stage_new(argument, 0, run_item, 20);
    (void)job;
    memset(items, 0, sizeof items);
    for (int i = 0; i < 20; i++) {
        put(stage, &items[i]);
    }
    wp_stage_close(stage);
    CHECK_INT(read_items(stage), 20);
    CHECK_INT(check_items(items, 20), 0);
    wp_stage_unref(stage); /* On a worker. */
    return 0;
}

static void
test_worker_reads_its_own(void)
{
    for (uint32_t most = 0; most < 2; most++) {
        wp_pool_config config = config_for(1, 1, 5);
        config.lanes[0].max_running = most;
        wp_pool *pool = wp_pool_new(&config);
        CHECK_INT(finish(submit(pool, 0, use_stage, pool)), WP_DONE);
        end_pool(pool);
    }
}

static int
get_one(wp_job *job, void *argument)
{
    (void)job;
    get_main(argument);
    return ((sleeper *)argument)->result;
}

/* The only worker sleeps for a result when the job comes that will have it. */
static void
test_worker_that_reads_is_called(void)
{
    item it = {.g = NULL};
    wp_pool *pool = pool_for(1, 1, 5);
    wp_stage *stage = wp_stage_new(pool, 0, run_item, 5);
    sleeper s = {.stage = stage};
    wp_job *reader = submit(pool, 0, get_one, &s);
    UNTIL(is_asleep(&stage->asleep));
    put(stage, &it);
    CHECK_INT(finish(reader), WP_DONE);
    wp_stage_unref(stage);
    end_pool(pool);
}

typedef struct pipe_item {
    item base;
    wp_stage *next;
} pipe_item;

static int
pass_on(wp_job *job, void *argument)
{
    pipe_item *p = argument;
    (void)job;
    put(p->next, &p->base);
    return 0;
}

/* The jobs of one stage put into another, which has one place: somebody must run the job that has it. */
static void
test_pipeline(void)
{
    enum { N = 100 };
    static pipe_item items[N];
    for (uint32_t workers = 1; workers <= 2; workers++) {
        memset(items, 0, sizeof items);
        wp_pool *pool = pool_for(workers, 1, WP_UNBOUNDED);
        wp_stage *first = wp_stage_new(pool, 0, pass_on, 0);
        wp_stage *second = wp_stage_new(pool, 0, run_item, 1);
        for (int i = 0; i < N; i++) {
            items[i].next = second;
            put(first, &items[i]);
        }
        for (int i = 0; i < N; i++) {
            wp_stage_result result = {0};
            if (CHECK_INT(get_until(second, soon(), &result), WP_OK)) {
                note_report(&result);
            }
        }
        for (int i = 0; i < N; i++) {
            CHECK_INT(check_items(&items[i].base, 1), 0);
        }
        wp_stage_unref(first);
        CHECK_INT(drain(pool, soon()), WP_OK); /* A result can be here before the put that it came from has returned. */
        wp_stage_unref(second);
        end_pool(pool);
    }
}

int
main(void)
{
    check_time_limit(55);
    atomic_store(&seeds, check_seed(11));
    RUN(test_every_job_once);
    RUN(test_urgent_jobs);
    RUN(test_put_after_give_back);
    RUN(test_close_wakes_readers);
    RUN(test_close_wakes_submitters);
    RUN(test_close_passes_room_on);
    RUN(test_close_by_the_only_worker);
    RUN(test_closing_the_pool_wakes_everybody);
    RUN(test_readers_share_wake_ups);
    RUN(test_naps_beside_sleep);
    RUN(test_given_up_at_once);
    RUN(test_given_up_by_the_pool);
    RUN(test_given_up_by_a_broken_pool);
    RUN(test_cancel_stops_what_runs);
    RUN(test_cancel_reaches_children);
    RUN(test_put_after_cancel);
    RUN(test_cancel_at_any_moment);
    RUN(test_helper_holds_up_no_other);
    RUN(test_helper_gives_up_what_it_has_not_begun);
    RUN(test_max_running);
    RUN(test_hand_over);
    RUN(test_room_is_passed_on);
    RUN(test_no_thread);
    RUN(test_closed_pool);
    RUN(test_no_results);
    RUN(test_limits_of_time);
    RUN(test_many_at_once);
    RUN(test_worker_reads_its_own);
    RUN(test_worker_that_reads_is_called);
    RUN(test_pipeline);
    return check_done();
}
