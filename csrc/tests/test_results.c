/* Results queues: a job is accepted only with a place for its result, so workers never wait here and a slow reader holds
 * up whoever submits; each result is read exactly once, and every reader learns of the end.
 */
#include "fixture.h"

static enum wp_result
next(wp_results *results, uint64_t deadline, wp_job **job)
{
    enum wp_result result;
    do {
        result = wp_results_next(results, deadline, job);
    } while (result == WP_INTERRUPTED);
    return result;
}

/* The number of the next result, or -1 where there is none. */
static int
next_index(wp_results *results)
{
    wp_job *job;
    if (next(results, soon(), &job) != WP_OK) {
        return -1;
    }
    int index = (int)job->extra->index;
    CHECK(wp_job_is_settled(job));
    wp_job_unref(job);
    return index;
}

static enum wp_result
submit_to(wp_pool *pool, wp_results *results, wp_function *function, void *argument, uint64_t deadline)
{
    enum wp_result result;
    do {
        result = wp_function_submit(pool, 0, results, function, argument, deadline);
    } while (result == WP_INTERRUPTED);
    return result;
}

static uint64_t
reserved_in(wp_results *results)
{
    uint64_t reserved;
    uint64_t unread;
    wp_results_count(results, &reserved, &unread);
    return reserved;
}

static uint64_t
unread_in(wp_results *results)
{
    uint64_t reserved;
    uint64_t unread;
    wp_results_count(results, &reserved, &unread);
    CHECK(unread <= reserved);
    return unread;
}

/* ---- Credits ---- */

static void
test_places(void)
{
    wp_results *results = wp_results_new(3);
    uint64_t index;
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_INT(wp_results_reserve(results, &index), WP_OK);
        CHECK_INT(index, i);
    }
    CHECK_INT(wp_results_reserve(results, &index), WP_FULL);
    wp_results_unreserve(results, 2);
    CHECK_INT(wp_results_reserve(results, &index), WP_OK);
    CHECK_INT(index, 2); /* Numbers have no gap. */
    wp_results_unreserve(results, 1);
    CHECK_INT(wp_results_reserve(results, &index), WP_OK);
    CHECK_INT(index, 3); /* Unless another took one meanwhile. */
    CHECK_INT(reserved_in(results), 3);
    wp_results_close(results);
    CHECK_INT(wp_results_reserve(results, &index), WP_CLOSED);
    wp_results_unref(results);
}

static void
test_back_pressure(void)
{
    wp_pool *pool = pool_for(2, 1, 100);
    wp_results *results = wp_results_new(4);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(submit_to(pool, results, do_nothing, NULL, WP_FOREVER), WP_OK);
    }
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, wp_clock() + 10 * MS), WP_LATE);
    UNTIL(unread_in(results) == 4); /* All are done, and no worker waits for the reader. */
    wait_at_rest(pool);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, 0), WP_LATE);
    CHECK(next_index(results) >= 0);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, 0), WP_OK);
    CHECK_INT(reserved_in(results), 4);
    wp_results_unref(results); /* With results that nobody reads. */
    end_pool(pool);
}

/* A job that the pool does not take gives its place back. */
static void
test_rejected_job_gives_place_back(void)
{
    wp_pool *pool = pool_for(1, 1, 1);
    wp_results *results = wp_results_new(10);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, WP_FOREVER), WP_OK);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, wp_clock() + 5 * MS), WP_LATE);
    CHECK_INT(reserved_in(results), 1);
    wp_pool_close(pool);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, WP_FOREVER), WP_CLOSED);
    CHECK_INT(reserved_in(results), 1);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_results_close(results);
    CHECK_INT(next_index(results), 0);
    CHECK_INT(next_index(results), -1);
    wp_results_unref(results);
    end_pool(pool);
}

/* ---- Order and outcome ---- */

static void
test_order_of_arrival(void)
{
    wp_pool *pool = pool_for(3, 1, 10);
    wp_results *results = wp_results_new(3);
    gate gates[3] = {0};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(submit_to(pool, results, stand_at_gate, &gates[i], WP_FOREVER), WP_OK);
    }
    static const int order_of_end[] = {1, 2, 0};
    for (int i = 0; i < 3; i++) {
        event_wait(&gates[order_of_end[i]].begun, 1);
        event_set(&gates[order_of_end[i]].open);
        CHECK_INT(next_index(results), order_of_end[i]);
    }
    wp_results_unref(results);
    end_pool(pool);
}

static wp_job *
job_for(wp_results *results, wp_token *token, uint64_t queue_timeout, wp_function *function, void *argument)
{
    wp_function_options options = WP_NO_OPTIONS;
    options.results = results;
    options.token = token;
    options.queue_timeout = queue_timeout;
    CHECK_INT(wp_results_reserve(results, &options.index), WP_OK);
    return wp_function_job(function, argument, &options);
}

/* However a job ends, its result comes. */
static void
test_every_outcome_arrives(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_results *results = wp_results_new(WP_UNBOUNDED);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_job *jobs[5];
    for (int i = 0; i < 5; i++) {
        jobs[i] = job_for(results, token, i == 3 ? MS : WP_FOREVER, do_nothing, NULL);
        if (i < 4) {
            CHECK_INT(wp_pool_submit(pool, 0, jobs[i], false), WP_OK);
        }
    }
    CHECK_INT(next_index(results), 3); /* Expired. */
    CHECK(wp_job_run_here(jobs[2]));
    CHECK_INT(next_index(results), 2);
    wp_pool_run_here(pool, 0, jobs[4]);
    CHECK_INT(next_index(results), 4);
    CHECK(wp_job_cancel(jobs[1]));
    CHECK_INT(next_index(results), 1);
    wp_token_cancel(token);
    CHECK_INT(next_index(results), 0);
    CHECK_INT(reserved_in(results), 0);
    static const wp_state outcomes[] = {WP_CANCELLED, WP_CANCELLED, WP_DONE, WP_EXPIRED, WP_DONE};
    for (int i = 0; i < 5; i++) {
        CHECK_INT(finish(jobs[i]), outcomes[i]);
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_token_unref(token);
    wp_results_unref(results);
    end_pool(pool);

    pool = pool_for(1, 1, 10);
    results = wp_results_new(10);
    g = (gate){0};
    first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, WP_FOREVER), WP_OK);
    wp_pool_break(pool);
    wp_job *lost;
    CHECK_INT(next(results, soon(), &lost), WP_OK);
    CHECK_INT(finish(lost), WP_LOST);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    wp_results_unref(results);
    end_pool(pool);
}

static int
take_a_while(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    for (uint64_t until = wp_clock() + 2 * MS; wp_clock() < until;) {
        sched_yield();
    }
    return 0;
}

static void
test_times(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_results *results = wp_results_new(2);
    CHECK_INT(submit_to(pool, results, take_a_while, NULL, WP_FOREVER), WP_OK);
    CHECK_INT(submit_to(pool, results, do_nothing, NULL, WP_FOREVER), WP_OK);
    wp_job *jobs[2];
    CHECK_INT(next(results, soon(), &jobs[0]), WP_OK);
    CHECK_INT(next(results, soon(), &jobs[1]), WP_OK);
    CHECK(jobs[0]->extra->ran >= 2 * MS);
    CHECK(jobs[1]->extra->waited <= wp_clock());
    CHECK_INT(jobs[0]->worker, 0);
    wp_job_unref(jobs[0]);
    wp_job_unref(jobs[1]);
    wp_results_unref(results);
    end_pool(pool);
}

/* ---- Sleepers ---- */

typedef struct room_waiter {
    wp_results *results;
    wp_token *token;
    enum wp_result result;
    event over;
    pthread_t thread;
} room_waiter;

static void *
room_waiter_main(void *argument)
{
    room_waiter *w = argument;
    do {
        w->result = wp_results_wait_room(w->results, &(wp_until){.deadline = WP_FOREVER, .token = w->token});
    } while (w->result == WP_INTERRUPTED);
    event_set(&w->over);
    return NULL;
}

static void
test_waiting_for_a_place(void)
{
    wp_results *results = wp_results_new(1);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    uint64_t index;
    CHECK_INT(wp_results_reserve(results, &index), WP_OK);
    room_waiter stopped = {.results = results, .token = token};
    room_waiter served = {.results = results};
    stopped.thread = start_thread(room_waiter_main, &stopped);
    served.thread = start_thread(room_waiter_main, &served);
    wp_token_cancel(token);
    join_thread(stopped.thread);
    CHECK_INT(stopped.result, WP_STOPPED);
    CHECK_INT(wp_load_acquire(&served.over.count), 0);
    wp_results_unreserve(results, index);
    join_thread(served.thread);
    CHECK_INT(served.result, WP_OK);

    CHECK_INT(wp_results_reserve(results, &index), WP_OK);
    room_waiter closed = {.results = results};
    closed.thread = start_thread(room_waiter_main, &closed);
    wp_results_close(results);
    join_thread(closed.thread);
    CHECK_INT(closed.result, WP_CLOSED);
    wp_token_unref(token);
    wp_results_unref(results);
}

typedef struct late_comer {
    wp_pool *pool;
    wp_results *results;
    enum wp_result result;
    pthread_t thread;
} late_comer;

static void *
late_comer_main(void *argument)
{
    late_comer *l = argument;
    l->result = submit_to(l->pool, l->results, do_nothing, NULL, soon());
    return NULL;
}

/* Who waits for room in the lane hears that the queue is closed, and who waits for a place hears that the pool is. */
static void
test_closing_reaches_who_waits_elsewhere(void)
{
    gate g = {0};
    wp_pool *pool = pool_for(1, 1, 1);
    wp_results *roomy = wp_results_new(10);
    wp_results *narrow = wp_results_new(1);
    CHECK_INT(submit_to(pool, narrow, stand_at_gate, &g, soon()), WP_OK);
    event_wait(&g.begun, 1);
    CHECK_INT(submit_to(pool, roomy, do_nothing, NULL, soon()), WP_OK);
    late_comer for_room = {.pool = pool, .results = roomy};
    late_comer for_place = {.pool = pool, .results = narrow};
    for_room.thread = start_thread(late_comer_main, &for_room);
    for_place.thread = start_thread(late_comer_main, &for_place);
    UNTIL(blocked_in(pool, 0) == 1);
    wp_results_close(roomy);
    join_thread(for_room.thread);
    CHECK_INT(for_room.result, WP_CLOSED);
    wp_pool_close(pool);
    join_thread(for_place.thread);
    CHECK_INT(for_place.result, WP_CLOSED);
    event_set(&g.open);
    wp_results_unref(roomy);
    wp_results_unref(narrow);
    end_pool(pool);
}

typedef struct feeder {
    wp_pool *pool;
    wp_results *results;
    gate *gates;
    pthread_t thread;
} feeder;

enum { SLOW_JOBS = 12, SLOW_PLACES = 8 };

static void *
feed_gates(void *argument)
{
    feeder *f = argument;
    for (int i = 0; i < SLOW_JOBS; i++) {
        CHECK_INT(submit_to(f->pool, f->results, stand_at_gate, &f->gates[i], soon()), WP_OK);
    }
    return NULL;
}

/* Jobs that take long: each result that is read lets the next job in, so that no worker goes without while the reader
 * keeps up. */
static void
test_long_jobs_are_let_in_one_by_one(void)
{
    static gate gates[SLOW_JOBS];
    wp_pool *pool = pool_for(SLOW_PLACES, 1, 10);
    wp_results *results = wp_results_new(SLOW_PLACES);
    feeder f = {pool, results, gates, 0};
    f.thread = start_thread(feed_gates, &f);
    for (int i = 0; i < SLOW_PLACES; i++) {
        event_wait(&gates[i].begun, 1);
    }
    for (int i = 0; i < SLOW_JOBS; i++) {
        usleep(200);
        event_set(&gates[i].open);
        CHECK_INT(next_index(results), i);
        if (i + SLOW_PLACES < SLOW_JOBS) {
            event_wait(&gates[i + SLOW_PLACES].begun, 1);
        }
    }
    join_thread(f.thread);
    wp_results_unref(results);
    end_pool(pool);
}

/* ---- The end ---- */

static void *
reader_to_the_end(void *argument)
{
    while (next_index(argument) >= 0) {
    }
    return NULL;
}

static void
test_close_with_sleeping_readers(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    wp_results *results = wp_results_new(10);
    pthread_t threads[3];
    gate g = {0};
    for (int i = 0; i < 2; i++) {
        CHECK_INT(submit_to(pool, results, stand_at_gate, &g, WP_FOREVER), WP_OK);
    }
    for (int i = 0; i < 3; i++) {
        threads[i] = start_thread(reader_to_the_end, results);
    }
    event_wait(&g.begun, 2);
    wp_results_close(results);
    wp_results_close(results);
    event_set(&g.open);
    for (int i = 0; i < 3; i++) {
        join_thread(threads[i]);
    }
    CHECK_INT(reserved_in(results), 0);
    wp_results_unref(results);
    end_pool(pool);

    results = wp_results_new(1); /* Closed with nothing in it. */
    threads[0] = start_thread(reader_to_the_end, results);
    wp_results_close(results);
    join_thread(threads[0]);
    wp_results_unref(results);

    results = wp_results_new(1); /* The last place is given back after the close. */
    uint64_t index;
    CHECK_INT(wp_results_reserve(results, &index), WP_OK);
    threads[0] = start_thread(reader_to_the_end, results);
    wp_results_close(results);
    wp_results_unreserve(results, index);
    join_thread(threads[0]);
    wp_results_unref(results);
}

static void
test_read_deadline(void)
{
    wp_results *results = wp_results_new(1);
    wp_job *job;
    uint64_t deadline = wp_clock() + 10 * MS;
    CHECK_INT(next(results, deadline, &job), WP_LATE);
    CHECK(wp_clock() >= deadline);
    CHECK_INT(next(results, 0, &job), WP_LATE);
    wp_results_unref(results);
}

/* ---- Many ---- */

enum { JOBS = 10000, WORKERS = 5 };

typedef struct traffic {
    wp_pool *pool;
    wp_results *results;
    int jobs;        /* Of each writer. */
    wp_word writers; /* That still write. */
    wp_word runs[JOBS];
    wp_word reads[JOBS];
    wp_word next;
} traffic;

static int
count_run(wp_job *job, void *argument)
{
    (void)job;
    wp_add_acq_rel((wp_word *)argument, 1);
    return 0;
}

static void *
write_jobs(void *argument)
{
    traffic *t = argument;
    for (int i = 0; i < t->jobs; i++) {
        uint32_t which = wp_add_acq_rel(&t->next, 1);
        CHECK_INT(submit_to(t->pool, t->results, count_run, &t->runs[which], WP_FOREVER), WP_OK);
    }
    if (wp_sub_acq_rel(&t->writers, 1) == 1) {
        wp_results_close(t->results);
    }
    return NULL;
}

/* Told by what was submitted: the numbers may have gaps, where a job did not get in and another took the next. */
static void *
read_results(void *argument)
{
    traffic *t = argument;
    wp_job *job;
    while (next(t->results, soon(), &job) == WP_OK) {
        wp_add_acq_rel(&t->reads[(wp_word *)wp_function_argument(job) - t->runs], 1);
        wp_job_unref(job);
    }
    return NULL;
}

/* So many writers and readers, results and waiting jobs: each job runs once and each result is read once. */
static void
run_traffic(int writers, int readers, uint64_t places, uint64_t capacity)
{
    static traffic t;
    memset(&t, 0, sizeof t);
    t.pool = pool_for(WORKERS, 1, capacity);
    t.results = wp_results_new(places);
    t.jobs = JOBS / writers / (IS_SANITIZED ? 5 : 1);
    wp_store_relaxed(&t.writers, (uint32_t)writers);
    pthread_t threads[16];
    for (int i = 0; i < writers + readers; i++) {
        threads[i] = start_thread(i < writers ? write_jobs : read_results, &t);
    }
    for (int i = 0; i < writers + readers; i++) {
        join_thread(threads[i]);
    }
    int jobs = t.jobs * writers;
    int wrong = 0;
    for (int i = 0; i < JOBS; i++) {
        wrong += wp_load_relaxed(&t.runs[i]) != (uint32_t)(i < jobs);
        wrong += wp_load_relaxed(&t.reads[i]) != (uint32_t)(i < jobs);
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(reserved_in(t.results), 0);
    wp_results_unref(t.results);
    end_pool(t.pool);
}

static void
test_ten_thousand_jobs_on_five_workers(void)
{
    run_traffic(1, 1, 100, 100);
}

static void
test_many_writers_and_readers(void)
{
    run_traffic(4, 4, 10, 10);
    run_traffic(1, 4, WP_UNBOUNDED, WP_UNBOUNDED);
    run_traffic(4, 1, 5, 100);
    run_traffic(4, 2, 100, 2);
}

static void
test_narrow_places(void)
{
    run_traffic(5, 5, 1, 1);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_places);
    RUN(test_back_pressure);
    RUN(test_rejected_job_gives_place_back);
    RUN(test_order_of_arrival);
    RUN(test_every_outcome_arrives);
    RUN(test_times);
    RUN(test_waiting_for_a_place);
    RUN(test_long_jobs_are_let_in_one_by_one);
    RUN(test_close_with_sleeping_readers);
    RUN(test_read_deadline);
    RUN(test_ten_thousand_jobs_on_five_workers);
    RUN(test_many_writers_and_readers);
    RUN(test_narrow_places);
    RUN(test_closing_reaches_who_waits_elsewhere);
    return check_done();
}
