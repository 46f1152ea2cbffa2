/* Parallel ranges: every number is done once, by whoever is there; a failure, a token or a pool that is no more ends one
 * and says so; calls inside of calls come back; and a backend for others calls each of their jobs, whatever happens.
 */
#include "fixture.h"

#include "wp_parallel.h"

enum { MOST = 100000 };

/* What a body is to do. */
typedef struct work {
    wp_word *times; /* How often each number was done; MOST of them. */
    size_t grain;
    size_t n;
    wp_word calls;
    wp_word outside; /* Calls on no worker. */
    size_t fails_at; /* The number whose piece fails. */
    wp_token *token; /* To be cancelled by the piece with this number: */
    size_t cancels_at;
    gate *g; /* Where the piece with this number stands: */
    size_t stands_at;
    wp_pool *pool; /* For calls inside of calls: */
    int depth;
} work;

static int
do_numbers(size_t begin, size_t end, void *context)
{
    work *w = context;
    CHECK(begin < end && end <= w->n);
    CHECK(w->grain == 0 || (begin % w->grain == 0 && (end - begin == w->grain || end == w->n)));
    wp_add_acq_rel(&w->calls, 1);
    if (wp_worker_self() == NULL) {
        wp_add_acq_rel(&w->outside, 1);
    }
    for (size_t i = begin; i < end; i++) {
        wp_add_acq_rel(&w->times[i], 1);
    }
    if (w->g != NULL && begin <= w->stands_at && w->stands_at < end) {
        stand_at_gate(NULL, w->g);
    }
    if (w->token != NULL && begin <= w->cancels_at && w->cancels_at < end) {
        wp_token_cancel(w->token);
    }
    while (w->token != NULL && begin > w->cancels_at && !wp_token_is_cancelled(w->token)) {
        usleep(50); /* The piece that cancels has begun before. */
    }
    if (begin > w->fails_at) {
        usleep(1000); /* So that the others cannot all be done before the one that fails has said so. */
    }
    return begin <= w->fails_at && w->fails_at < end ? 42 : 0;
}

static work
work_for(size_t n, size_t grain)
{
    work w = {.n = n, .grain = grain, .fails_at = SIZE_MAX};
    w.times = calloc(n > 0 ? n : 1, sizeof *w.times);
    return w;
}

/* How many numbers were done; none of them twice. */
static size_t
end_work(work *w)
{
    size_t done = 0;
    for (size_t i = 0; i < w->n; i++) {
        uint32_t times = wp_load_acquire(&w->times[i]);
        CHECK(times <= 1);
        done += times;
    }
    free(w->times);
    return done;
}

static enum wp_result
run(wp_pool *pool, unsigned lane, work *w)
{
    return wp_parallel(pool, lane, NULL, w->n, w->grain, do_numbers, w, NULL);
}

/* ---- All of it, once ---- */

static void
test_every_number_once(void)
{
    static const size_t sizes[] = {0, 1, 2, 3, 97, 1000, 65537, MOST};
    static const size_t grains[] = {0, 1, 7, 1000, SIZE_MAX};
    for (uint32_t workers = 1; workers <= 3; workers++) {
        wp_pool *pool = pool_for(workers, 1, 1);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (size_t j = 0; j < sizeof grains / sizeof grains[0]; j++) {
                work w = work_for(sizes[i], grains[j]);
                CHECK_INT(run(pool, 0, &w), WP_OK);
                CHECK_INT(end_work(&w), sizes[i]);
            }
        }
        end_pool(pool);
    }
}

/* The numbers are not looked at, so there may be as many as there can be. */
static int
add_up(size_t begin, size_t end, void *context)
{
    wp_add_relaxed((_Atomic(size_t) *)context, end - begin);
    return 0;
}

static void
test_as_many_numbers_as_there_are(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    _Atomic(size_t) sum = 0;
    CHECK_INT(wp_parallel(pool, 0, NULL, SIZE_MAX, SIZE_MAX / 1000, add_up, &sum, NULL), WP_OK);
    CHECK(sum == SIZE_MAX);
    end_pool(pool);
}

/* One piece stands still until all others are done: by the caller, or by another worker. */
static void *
open_when_done(void *context)
{
    work *w = context;
    UNTIL(wp_load_acquire(&w->times[w->n - 1]) == 1);
    event_set(&w->g->open);
    return NULL;
}

static void
test_long_piece_holds_up_no_other(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    for (int round = 0; round < 20; round++) {
        gate g = {0};
        work w = work_for(1000, 1);
        w.g = &g;
        w.stands_at = (size_t)round;
        pthread_t opener = start_thread(open_when_done, &w);
        CHECK_INT(run(pool, 0, &w), WP_OK);
        join_thread(opener);
        CHECK_INT(end_work(&w), 1000);
    }
    end_pool(pool);
}

static void
test_caller_is_alone(void)
{
    wp_pool *pool = pool_for(1, 2, 10);
    gate g = {0};
    wp_job *busy = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    work w = work_for(5000, 1);
    CHECK_INT(run(pool, 1, &w), WP_OK);
    CHECK_INT(wp_load_relaxed(&w.outside), wp_load_relaxed(&w.calls));
    CHECK_INT(end_work(&w), 5000);
    event_set(&g.open);
    CHECK_INT(finish(busy), WP_DONE);
    end_pool(pool);
}

static int
run_nested(size_t begin, size_t end, void *context)
{
    work *w = context;
    for (; begin < end; begin++) {
        work inner = work_for(200, 1);
        inner.pool = w->pool;
        inner.depth = w->depth - 1;
        CHECK_INT(wp_parallel(w->pool, (unsigned)(w->depth % 2), NULL, inner.depth > 0 ? 4 : 200, 1,
                              inner.depth > 0 ? run_nested : do_numbers, &inner, NULL),
                  WP_OK);
        CHECK_INT(end_work(&inner), inner.depth > 0 ? 0 : 200);
        wp_add_acq_rel(&w->calls, 1);
    }
    return 0;
}

static void
test_calls_inside_of_calls(void)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        wp_pool_config config = config_for(workers, 2, 1);
        config.lanes[1].max_running = 1;
        wp_pool *pool = wp_pool_new(&config);
        work w = {.pool = pool, .depth = 3, .n = 8};
        CHECK_INT(wp_parallel(pool, 0, NULL, 8, 1, run_nested, &w, NULL), WP_OK);
        CHECK_INT(wp_load_relaxed(&w.calls), 8);
        end_pool(pool);
    }
}

typedef struct caller {
    wp_pool *pool;
    size_t n;
    pthread_t thread;
} caller;

static void *
call_many_times(void *argument)
{
    const caller *c = argument;
    for (int round = 0; round < 50; round++) {
        work w = work_for(c->n, 1);
        CHECK_INT(run(c->pool, (unsigned)round % 2, &w), WP_OK);
        CHECK_INT(end_work(&w), c->n);
    }
    return NULL;
}

static void
test_many_callers(void)
{
    wp_pool *pool = pool_for(2, 2, 5);
    caller callers[4];
    for (size_t i = 0; i < 4; i++) {
        callers[i] = (caller){.pool = pool, .n = 10 + 300 * i};
        callers[i].thread = start_thread(call_many_times, &callers[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        join_thread(callers[i].thread);
    }
    end_pool(pool);
}

/* ---- Less than all of it ---- */

static void
test_a_piece_that_fails(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    static const size_t places[] = {0, 1, 500, 9999};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        work w = work_for(10000, 1);
        wp_failed_piece failed = {0};
        w.fails_at = places[i];
        CHECK_INT(wp_parallel(pool, 0, NULL, w.n, 1, do_numbers, &w, &failed), WP_ERROR);
        CHECK(failed.begin <= places[i] && places[i] < failed.end);
        CHECK_INT(failed.status, 42);
        size_t done = end_work(&w);
        CHECK(done > places[i]); /* Pieces begin in order. */
        CHECK(done < 10000 || places[i] == 9999);
    }
    end_pool(pool);
}

static void
test_a_token(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    work w = work_for(10000, 1);
    w.token = wp_token_new(NULL, WP_FOREVER);
    w.cancels_at = 100;
    CHECK_INT(wp_parallel(pool, 0, w.token, w.n, 1, do_numbers, &w, NULL), WP_STOPPED);
    CHECK_INT(wp_parallel(pool, 0, w.token, w.n, 1, do_numbers, &w, NULL), WP_STOPPED);
    CHECK_INT(wp_parallel(pool, 0, w.token, 1, 1, do_numbers, &w, NULL), WP_STOPPED);
    wp_token_unref(w.token);
    size_t done = end_work(&w);
    CHECK(done > 100 && done < 200);
    end_pool(pool);
}

static void
test_a_token_after_the_end(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    work w = work_for(10, 10);
    w.token = wp_token_new(NULL, WP_FOREVER);
    w.cancels_at = 9;
    CHECK_INT(wp_parallel(pool, 0, w.token, w.n, 10, do_numbers, &w, NULL), WP_OK);
    wp_token_unref(w.token);
    CHECK_INT(end_work(&w), 10);
    end_pool(pool);
}

/* A job that calls one stops with it; a job of no pool does it alone. */
typedef struct job_with_range {
    work *w;
    event begun;
    int result;
} job_with_range;

static int
until_job_stops(size_t begin, size_t end, void *context)
{
    job_with_range *j = context;
    (void)begin;
    (void)end;
    event_set(&j->begun);
    usleep(100);
    return 0;
}

static int
range_until_stopped(wp_job *job, void *argument)
{
    job_with_range *j = argument;
    j->result = wp_job_parallel(job, SIZE_MAX, 1, until_job_stops, j, NULL);
    return 0;
}

static void
test_a_job_that_is_stopped(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    job_with_range j = {.result = -1};
    wp_job *job = submit(pool, 0, range_until_stopped, &j);
    event_wait(&j.begun, 1);
    CHECK(wp_job_stop(job));
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(j.result, WP_STOPPED);
    end_pool(pool);
}

static int
range_of_job(wp_job *job, void *argument)
{
    work *w = argument;
    return wp_job_parallel(job, w->n, w->grain, do_numbers, w, NULL);
}

static void
test_a_job_with_a_range(void)
{
    static const wp_job_class direct_class = {.api = &wp_view_api, .name = "direct"};
    wp_pool *pool = pool_for(2, 2, 1);
    work w = work_for(5000, 7);
    CHECK_INT(finish(submit(pool, 1, range_of_job, &w)), WP_DONE);
    CHECK_INT(end_work(&w), 5000);
    end_pool(pool);

    wp_job direct;
    wp_job_init(&direct, &direct_class, 0, NULL);
    for (size_t grain = 0; grain < 3; grain++) {
        work v = work_for(100, grain);
        CHECK_INT(range_of_job(&direct, &v), WP_OK);
        CHECK_INT(end_work(&v), 100);
    }
    work u = work_for(100, 0);
    CHECK_INT(range_of_job(NULL, &u), WP_OK);
    CHECK_INT(end_work(&u), 100);
    u = work_for(100, 0);
    u.fails_at = 5;
    wp_failed_piece failed = {0};
    CHECK_INT(wp_job_parallel(NULL, u.n, 0, do_numbers, &u, &failed), WP_ERROR);
    CHECK_INT(failed.status, 42);
    CHECK_INT(failed.end, 100);
    CHECK_INT(end_work(&u), 100);
}

/* What waits is cancelled while a piece runs: helpers that have not come, but no piece. */
static void *
cancel_all_that_waits(void *context)
{
    work *w = context;
    event_wait(&w->g->begun, 1);
    wp_pool_cancel_waiting(w->pool);
    event_set(&w->g->open);
    return NULL;
}

static void
test_what_waits_is_cancelled(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *busy = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    gate h = {0};
    work w = work_for(1000, 1);
    w.g = &h;
    w.pool = pool;
    pthread_t canceller = start_thread(cancel_all_that_waits, &w);
    CHECK_INT(run(pool, 0, &w), WP_OK);
    join_thread(canceller);
    CHECK_INT(end_work(&w), 1000);
    event_set(&g.open);
    CHECK_INT(finish(busy), WP_DONE);
    end_pool(pool);
}

static void
test_a_pool_that_is_closed(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    wp_pool_close(pool);
    work w = work_for(1000, 1);
    CHECK_INT(run(pool, 0, &w), WP_OK);
    CHECK_INT(wp_load_relaxed(&w.outside), wp_load_relaxed(&w.calls));
    CHECK_INT(end_work(&w), 1000);
    work fails = work_for(1000, 1);
    wp_failed_piece failed = {0};
    fails.fails_at = 500;
    CHECK_INT(wp_parallel(pool, 0, NULL, 1000, 1, do_numbers, &fails, &failed), WP_ERROR);
    CHECK(failed.begin <= 500 && 500 < failed.end);
    CHECK_INT(end_work(&fails), failed.end);
    end_pool(pool);
}

static void
test_a_pool_that_is_broken(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    wp_pool_break(pool);
    work w = work_for(1000, 1);
    CHECK_INT(run(pool, 0, &w), WP_OK);
    CHECK_INT(end_work(&w), 1000);
    end_pool(pool);
}

static void
test_no_such_lane(void)
{
    wp_pool *pool = pool_for(1, 2, 10);
    work w = work_for(10, 1);
    CHECK_INT(run(pool, 2, &w), WP_INVALID);
    CHECK_INT(end_work(&w), 0);
    end_pool(pool);
}

/* A more urgent job need not wait until the range is done. */
typedef struct rush {
    wp_pool *pool;
    wp_word ran;
    wp_word pieces_after;
} rush;

static int
note_the_rush(wp_job *job, void *argument)
{
    (void)job;
    wp_store_release(&((rush *)argument)->ran, 1);
    return 0;
}

static int
cause_a_rush(size_t begin, size_t end, void *context)
{
    rush *r = context;
    (void)end;
    if (begin == 0) {
        post(r->pool, 0, note_the_rush, r);
    } else if (wp_load_acquire(&r->ran)) {
        wp_add_acq_rel(&r->pieces_after, 1);
    }
    return 0;
}

static int
range_on_a_worker(wp_job *job, void *argument)
{
    rush *r = argument;
    (void)job;
    return wp_parallel(r->pool, 1, NULL, 1000, 1, cause_a_rush, r, NULL);
}

static void
test_urgent_work_comes_first(void)
{
    wp_pool *pool = pool_for(2, 2, 10);
    rush r = {.pool = pool};
    CHECK_INT(finish(submit(pool, 1, range_on_a_worker, &r)), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&r.ran), 1);
    end_pool(pool);
}

/* ---- As a backend for others ---- */

typedef struct others {
    wp_word runs;
    wp_pool *pool; /* If set: what waits is cancelled, and it is closed. */
    char padding[40];
} others;

static void
run_other(void *data)
{
    others *job = data;
    wp_add_acq_rel(&job->runs, 1);
    if (job->pool != NULL) {
        wp_pool_cancel_waiting(job->pool);
        wp_pool_close(job->pool);
    }
}

static void
check_others(wp_threads *threads, int n, wp_pool *ended_by_first)
{
    others *jobs = calloc((size_t)n + 1, sizeof *jobs);
    jobs[0].pool = ended_by_first;
    wp_threads_callback(threads, run_other, n, sizeof *jobs, jobs);
    for (int i = 0; i < n; i++) {
        CHECK_INT(wp_load_acquire(&jobs[i].runs), 1);
    }
    CHECK_INT(wp_load_acquire(&jobs[n].runs), 0);
    free(jobs);
}

static void
test_backend_calls_each_job_once(void)
{
    static const int sizes[] = {0, 1, 2, 16, 1000};
    wp_pool *pool = pool_for(2, 2, 1);
    wp_threads threads = {pool, 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int round = 0; round < 20; round++) {
            check_others(&threads, sizes[i], NULL);
        }
    }
    check_others(&threads, 300, pool);
    check_others(&threads, 300, NULL);
    end_pool(pool);
}

/* Each job waits for the one before it, as those of a library may. */
typedef struct chained {
    struct chained *before;
    event over;
} chained;

static void
run_chained(void *data)
{
    chained *job = data;
    if (job->before != NULL) {
        event_wait(&job->before->over, 1);
    }
    event_set(&job->over);
}

static void
test_backend_begins_in_order(void)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        wp_pool *pool = pool_for(workers, 1, 1);
        wp_threads threads = {pool, 0};
        for (int round = 0; round < 100; round++) {
            chained jobs[40] = {0};
            for (int i = 1; i < 40; i++) {
                jobs[i].before = &jobs[i - 1];
            }
            wp_threads_callback(&threads, run_chained, 40, sizeof jobs[0], jobs);
            CHECK_INT(wp_load_acquire(&jobs[39].over.count), 1);
        }
        end_pool(pool);
    }
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_every_number_once);
    RUN(test_as_many_numbers_as_there_are);
    RUN(test_long_piece_holds_up_no_other);
    RUN(test_caller_is_alone);
    RUN(test_calls_inside_of_calls);
    RUN(test_many_callers);
    RUN(test_a_piece_that_fails);
    RUN(test_a_token);
    RUN(test_a_token_after_the_end);
    RUN(test_a_job_that_is_stopped);
    RUN(test_a_job_with_a_range);
    RUN(test_what_waits_is_cancelled);
    RUN(test_a_pool_that_is_closed);
    RUN(test_a_pool_that_is_broken);
    RUN(test_no_such_lane);
    RUN(test_urgent_work_comes_first);
    RUN(test_backend_calls_each_job_once);
    RUN(test_backend_begins_in_order);
    return check_done();
}
