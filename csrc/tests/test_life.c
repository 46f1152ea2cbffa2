/* The life of a pool and its threads: workers come when there is work and go when they should, whoever waits for an end
 * learns of it, and a thread that cannot be started leaves no job behind that nobody comes for.
 */
#include "fixture.h"

#include <errno.h>
#include <sys/syscall.h>

static wp_job *
occupy(wp_pool *pool, gate *g)
{
    wp_job *job = submit(pool, 0, stand_at_gate, g);
    event_wait(&g->begun, 1);
    return job;
}

/* ---- Workers come and go ---- */

static void
test_lazy_start(void)
{
    wp_pool *pool = pool_for(8, 1, WP_UNBOUNDED);
    CHECK_INT(stats_of(pool).workers, 0);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
        wait_at_rest(pool);
        CHECK_INT(stats_of(pool).workers, 1);
    }
    end_pool(pool);
}

static void
test_as_many_workers_as_long_jobs(void)
{
    wp_pool *pool = pool_for(8, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *jobs[8];
    for (int i = 0; i < 8; i++) {
        jobs[i] = submit(pool, 0, stand_at_gate, &g);
    }
    event_wait(&g.begun, 8); /* Eight at a time: so many workers. */
    CHECK_INT(stats_of(pool).workers, 8);
    CHECK_INT(stats_of(pool).busy, 8);
    event_set(&g.open);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
    end_pool(pool);
}

static void
test_resize_up(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    wp_job *second = submit(pool, 0, stand_at_gate, &g);
    CHECK_INT(wp_job_state(second), WP_PENDING);
    wp_pool_resize(pool, 2);
    event_wait(&g.begun, 2);
    CHECK_INT(stats_of(pool).max_workers, 2);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    end_pool(pool);
}

/* More workers are more room where jobs are handed over, and whoever sleeps for it learns of that. */
static void
test_resize_up_is_room(void)
{
    wp_pool *pool = pool_for(1, 1, 0);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    submitter s = {.pool = pool, .job = wp_function_job(stand_at_gate, &g, NULL)};
    submitter_start(&s);
    UNTIL(blocked_in(pool, 0) == 1);
    wp_pool_resize(pool, 2);
    event_wait(&g.begun, 2);
    join_thread(s.thread);
    CHECK_INT(s.result, WP_OK);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(s.job), WP_DONE);
    end_pool(pool);
}

static void
test_resize_down(void)
{
    wp_pool *pool = pool_for(4, 1, 100);
    gate g = {0};
    wp_word count = 0;
    wp_job *jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = submit(pool, 0, stand_at_gate, &g);
    }
    event_wait(&g.begun, 4);
    for (int i = 0; i < 50; i++) {
        post(pool, 0, count_up, &count);
    }
    wp_pool_resize(pool, 1);
    CHECK_INT(stats_of(pool).workers, 4); /* They run jobs. */
    event_set(&g.open);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(finish(jobs[i]), WP_DONE);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    UNTIL(stats_of(pool).workers == 1);
    CHECK_INT(wp_load_acquire(&count), 50);
    wp_pool_resize(pool, 3); /* Joins those that left. */
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

static void
test_resize_down_sleepers(void)
{
    wp_pool *pool = pool_for(4, 1, 100);
    gate g = {0};
    for (int i = 0; i < 4; i++) {
        post(pool, 0, stand_at_gate, &g);
    }
    event_wait(&g.begun, 4);
    event_set(&g.open);
    wait_at_rest(pool);
    wp_pool_resize(pool, 2);
    UNTIL(stats_of(pool).workers == 2);
    wait_at_rest(pool);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

static void
test_idle_workers_retire(void)
{
    wp_pool_config config = config_for(3, 1, 10);
    config.idle_timeout = 5 * MS;
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    for (int i = 0; i < 3; i++) {
        post(pool, 0, stand_at_gate, &g);
    }
    event_wait(&g.begun, 3);
    event_set(&g.open);
    UNTIL(stats_of(pool).workers == 0);
    CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], 3);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

/* Jobs come just as idle workers retire. */
static void
test_retiring_and_submitting(void)
{
    wp_pool_config config = config_for(2, 1, WP_UNBOUNDED);
    config.idle_timeout = 50000;
    wp_pool *pool = wp_pool_new(&config);
    for (int i = 0; i < 500; i++) {
        wp_job *job = submit(pool, 0, do_nothing, NULL);
        CHECK_INT(finish(job), WP_DONE);
        for (uint64_t until = wp_clock() + 20000u + (uint64_t)i * 100; wp_clock() < until;) {
        }
    }
    end_pool(pool);
}

/* A worker is called at the very moment at which its time is over: it may neither sleep again nor leave before the call
 * is complete. The caller is played by the test, which takes its time. */
static void
test_called_at_the_last_moment(void)
{
    wp_pool_config config = config_for(1, 1, 10);
    config.idle_timeout = 10 * MS;
    wp_pool *pool = wp_pool_new(&config);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    wp_worker *called = NULL;
    while (called == NULL) {
        wp_lock_take(&pool->lock);
        called = pool->idle;
        if (called != NULL) {
            wp_leave_idle_list(pool, called);
            pool->waking = true;
        } else if (pool->n_workers == 0) {
            break; /* It took us longer than 10 ms to come here, and there is nothing to be seen. */
        }
        wp_lock_give(&pool->lock);
    }
    if (called == NULL) {
        wp_lock_give(&pool->lock);
        end_pool(pool);
        return;
    }
    for (uint64_t until = wp_clock() + 50 * MS; wp_clock() < until;) {
        usleep(1000);
        CHECK_INT(stats_of(pool).workers, 1);
        CHECK_INT(stats_of(pool).busy, 1);
    }
    wp_store_release(&called->signal, 1);
    wp_word_wake(&called->signal, 1);
    UNTIL(stats_of(pool).workers == 0); /* It sleeps once more and then its time is over. */
    end_pool(pool);
}

/* ---- What the host is told ---- */

typedef struct host {
    wp_word started;
    wp_word stopped;
    wp_word idle;
    wp_word freed;
    wp_word unlisted;
    int start_result;
    event hold; /* The second worker's start waits for it, if `holds`. */
    event held;
    bool holds;
} host;

static int
on_start(void *context, wp_worker *worker)
{
    host *h = context;
    CHECK(wp_worker_self() == worker);
    *wp_worker_local(worker) = h;
    wp_add_acq_rel(&h->started, 1);
    if (h->holds && wp_worker_index(worker) == 1) {
        event_set(&h->held);
        event_wait(&h->hold, 1);
    }
    return h->start_result;
}

static void
on_stop(void *context, wp_worker *worker)
{
    host *h = context;
    CHECK(*wp_worker_local(worker) == h);
    wp_add_acq_rel(&h->stopped, 1);
}

static void
on_idle(void *context, wp_worker *worker)
{
    host *h = context;
    CHECK(wp_worker_self() == worker);
    wp_add_acq_rel(&h->idle, 1);
}

static void
on_freed(void *context)
{
    host *h = context;
    CHECK_INT(wp_load_acquire(&h->unlisted), 1);
    wp_add_acq_rel(&h->freed, 1);
}

static void
on_unlisted(void *context)
{
    host *h = context;
    wp_add_acq_rel(&h->unlisted, 1);
}

static wp_pool_config
config_with_host(uint32_t workers, host *h)
{
    wp_pool_config config = config_for(workers, 1, 100);
    config.hooks = (wp_hooks){.worker_start = on_start,
                              .worker_stop = on_stop,
                              .worker_idle = on_idle,
                              .unlisted = on_unlisted,
                              .freed = on_freed,
                              .context = h};
    return config;
}

static void
test_hooks(void)
{
    host h = {0};
    wp_pool_config config = config_with_host(2, &h);
    wp_pool *pool = wp_pool_new(&config);
    CHECK(wp_pool_hook_context(pool) == &h);
    gate g = {0};
    post(pool, 0, stand_at_gate, &g);
    post(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 2);
    CHECK_INT(wp_load_acquire(&h.started), 2);
    CHECK_INT(wp_load_acquire(&h.idle), 0);
    event_set(&g.open);
    wait_at_rest(pool);
    CHECK_INT(wp_load_acquire(&h.idle), 2);
    CHECK_INT(wp_load_acquire(&h.stopped), 0);
    CHECK(wp_pool_try_ref(pool));
    wp_pool_unref(pool);
    end_pool(pool);
    UNTIL(wp_load_acquire(&h.freed) == 1);
    CHECK_INT(wp_load_acquire(&h.stopped), 2);
}

static void
test_worker_that_cannot_be_initialised(void)
{
    host h = {.start_result = -1};
    wp_pool_config config = config_with_host(2, &h);
    wp_pool *pool = wp_pool_new(&config);
    wp_job *job = submit(pool, 0, do_nothing, NULL);
    CHECK_INT(finish(job), WP_LOST);
    job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_BROKEN);
    CHECK_INT(wait_room(pool, 0, NULL, WP_FOREVER), WP_BROKEN);
    CHECK_INT(wp_job_state(job), WP_NEW);
    wp_job_unref(job);
    end_pool(pool);
    UNTIL(wp_load_acquire(&h.freed) == 1);
}

/* A worker that takes long to be initialised holds up nobody: idle workers are called meanwhile, and others started. */
static void
test_slow_initialisation(void)
{
    host h = {.holds = true};
    wp_pool_config config = config_with_host(3, &h);
    wp_pool *pool = wp_pool_new(&config);
    gate first = {0};
    wp_job *job = occupy(pool, &first);
    wp_job *second = submit(pool, 0, do_nothing, NULL); /* For which the second worker is started. */
    event_wait(&h.held, 1);
    event_set(&first.open);
    CHECK_INT(finish(job), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    UNTIL(stats_of(pool).busy == 1);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE); /* By the first, which slept. */
    gate both = {0};
    UNTIL(stats_of(pool).busy == 1);
    wp_job *jobs[2] = {submit(pool, 0, stand_at_gate, &both), NULL};
    event_wait(&both.begun, 1);
    jobs[1] = submit(pool, 0, stand_at_gate, &both);
    post(pool, 0, do_nothing, NULL); /* One for the second worker, one for a third. */
    event_wait(&both.begun, 2);
    event_set(&h.hold);
    event_set(&both.open);
    CHECK_INT(finish(jobs[0]), WP_DONE);
    CHECK_INT(finish(jobs[1]), WP_DONE);
    end_pool(pool);
    UNTIL(wp_load_acquire(&h.freed) == 1);
}

/* Nobody closes the pool: with the last reference it closes itself, does what waits, and is freed. */
static void
test_forgotten_pool(void)
{
    host h = {0};
    wp_pool_config config = config_with_host(2, &h);
    wp_pool *pool = wp_pool_new(&config);
    gate g = {0};
    wp_word count = 0;
    for (int i = 0; i < 2; i++) {
        post(pool, 0, stand_at_gate, &g);
    }
    for (int i = 0; i < 20; i++) {
        post(pool, 0, count_up, &count);
    }
    event_wait(&g.begun, 2);
    wp_pool_ref(pool);
    wp_pool_unref(pool);
    CHECK(!wp_pool_is_closed(pool));
    wp_pool_unref(pool);
    event_set(&g.open);
    UNTIL(wp_load_acquire(&h.freed) == 1);
    CHECK_INT(wp_load_acquire(&count), 20);
    CHECK_INT(wp_load_acquire(&h.stopped), 2);

    h = (host){0};
    wp_pool_unref(wp_pool_new(&config)); /* One without threads. */
    CHECK_INT(wp_load_acquire(&h.freed), 1);
}

/* ---- Ends ---- */

static void
test_drain(void)
{
    wp_pool *pool = pool_for(2, 1, 100);
    CHECK_INT(drain(pool, 0), WP_OK);
    gate g = {0};
    wp_job *job = occupy(pool, &g);
    wp_word count = 0;
    for (int i = 0; i < 20; i++) {
        post(pool, 0, count_up, &count);
    }
    CHECK_INT(drain(pool, wp_clock() + 10 * MS), WP_LATE);
    CHECK_INT(drain(pool, 0), WP_LATE);
    event_set(&g.open);
    CHECK_INT(drain(pool, WP_FOREVER), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 20);
    CHECK_INT(stats_of(pool).unfinished, 0);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

static void *
drain_main(void *pool)
{
    CHECK_INT(drain(pool, soon()), WP_OK);
    return NULL;
}

static void
test_drain_by_many(void)
{
    wp_pool *pool = pool_for(1, 1, 100);
    pthread_t threads[4];
    gate g = {0};
    wp_job *job = occupy(pool, &g);
    wp_job *waiting = submit(pool, 0, do_nothing, NULL);
    for (int i = 0; i < 4; i++) {
        threads[i] = start_thread(drain_main, pool);
    }
    UNTIL(wp_job_cancel(waiting));
    event_set(&g.open);
    for (int i = 0; i < 4; i++) {
        join_thread(threads[i]);
    }
    CHECK_INT(finish(job), WP_DONE);
    wp_job_unref(waiting);
    end_pool(pool);
}

static void
test_close_runs_what_waits(void)
{
    wp_pool *pool = pool_for(1, 1, 100);
    gate g = {0};
    wp_word count = 0;
    wp_job *job = occupy(pool, &g);
    for (int i = 0; i < 20; i++) {
        post(pool, 0, count_up, &count);
    }
    wp_pool_close(pool);
    wp_pool_close(pool);
    CHECK(wp_pool_is_closed(pool));
    CHECK_INT(join(pool, wp_clock() + 5 * MS), WP_LATE);
    CHECK_INT(join(pool, 0), WP_LATE);
    event_set(&g.open);
    CHECK_INT(join(pool, WP_FOREVER), WP_OK);
    CHECK_INT(join(pool, 0), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 20);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

static void
test_break(void)
{
    wp_pool *pool = pool_for(1, 2, 100);
    gate g = {0};
    wp_job *job = occupy(pool, &g);
    wp_job *waiting[2] = {submit(pool, 0, do_nothing, NULL), submit(pool, 1, do_nothing, NULL)};
    CHECK(!wp_job_is_lost(waiting[0]));
    wp_pool_break(pool);
    for (int i = 0; i < 2; i++) {
        CHECK(wp_job_is_settled(waiting[i]));
        CHECK(wp_job_is_lost(waiting[i]));
        CHECK_INT(finish(waiting[i]), WP_LOST);
    }
    CHECK(!wp_job_is_lost(job));
    event_set(&g.open);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

/* ---- Seen from outside ---- */

typedef struct report {
    char text[8][64];
    int lines;
    uint32_t workers;
} report;

static void
add_line(void *context, uint32_t worker, const char *text)
{
    report *r = context;
    if (CHECK(r->lines < 8)) {
        snprintf(r->text[r->lines++], sizeof r->text[0], "%s", text);
        r->workers |= 1u << worker;
    }
}

static void
test_describe_running(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    gate g = {0};
    report r = {0};
    wp_pool_describe_running(pool, add_line, &r);
    CHECK_INT(r.lines, 0);
    post(pool, 0, stand_at_gate, &g);
    post(pool, 0, stand_at_gate, &g);
    post(pool, 0, do_nothing, NULL);
    event_wait(&g.begun, 2);
    wp_pool_describe_running(pool, add_line, &r);
    CHECK_INT(r.lines, 2);
    CHECK_STR(r.text[0], "C function");
    CHECK_INT(r.workers, 3);
    event_set(&g.open);
    wait_at_rest(pool);
    r.lines = 0;
    wp_pool_describe_running(pool, add_line, &r);
    CHECK_INT(r.lines, 0);
    end_pool(pool);
}

static void *
describe_main(void *argument)
{
    wp_pool *pool = argument;
    while (!wp_pool_is_closed(pool)) {
        report r = {0};
        wp_pool_describe_running(pool, add_line, &r);
        wp_pool_stats stats = stats_of(pool);
        CHECK(stats.busy <= stats.workers);
        CHECK(stats.workers <= 4);
        CHECK(sum_of_outcomes(&stats.lanes[0]) <= stats.lanes[0].submitted);
        usleep(20); /* The pool is for those who work. */
    }
    return NULL;
}

static void
test_looking_on_while_jobs_run(void)
{
    wp_pool *pool = pool_for(4, 1, WP_UNBOUNDED);
    pthread_t thread = start_thread(describe_main, pool);
    wp_word count = 0;
    const uint32_t jobs = IS_SANITIZED ? 2000 : 20000;
    for (uint32_t i = 0; i < jobs; i++) {
        post(pool, 0, count_up, &count);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), jobs);
    wp_pool_close(pool);
    join_thread(thread);
    end_pool(pool);
}

static void
test_stats(void)
{
    wp_pool *pool = pool_for(2, 3, 5);
    gate g = {0};
    wp_job *jobs[2] = {submit(pool, 1, stand_at_gate, &g), submit(pool, 1, stand_at_gate, &g)};
    event_wait(&g.begun, 2);
    for (int i = 0; i < 5; i++) {
        post(pool, 2, do_nothing, NULL);
    }
    wp_job *extra = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 2, extra, false), WP_FULL);
    wp_job_unref(extra);
    wp_pool_stats stats = stats_of(pool);
    CHECK_INT(stats.n_lanes, 3);
    CHECK_INT(stats.unfinished, 7);
    CHECK_INT(stats.lanes[2].submitted, 5);
    CHECK_INT(stats.lanes[2].waiting, 5);
    CHECK_INT(stats.lanes[2].capacity, 5);
    CHECK_INT(stats.lanes[2].rejected, 1);
    CHECK_INT(stats.lanes[1].waiting, 0);
    usleep(5000);
    CHECK(wp_pool_discard_oldest(pool, 2));
    event_set(&g.open);
    CHECK_INT(finish(jobs[0]), WP_DONE);
    CHECK_INT(finish(jobs[1]), WP_DONE);
    CHECK_INT(drain(pool, soon()), WP_OK);
    wait_at_rest(pool);
    stats = stats_of(pool);
    CHECK_INT(stats.lanes[2].ended[WP_DONE], 4);
    CHECK_INT(stats.lanes[2].ended[WP_CANCELLED], 1);
    CHECK_INT(stats.lanes[1].ended[WP_DONE], 2);
    CHECK(stats.lanes[2].waited_ns[3] >= 5 * MS);
    CHECK(stats.lanes[1].ran_ns[0] >= 5 * MS);
    CHECK(stats.lanes[1].ran_ns[0] <= stats.lanes[1].ran_ns[3]);
    CHECK(stats.busy_ns >= 10 * MS);
    CHECK_INT(stats.lanes[0].submitted, 0);
    CHECK_INT(stats.lanes[0].ran_ns[3], 0);
    end_pool(pool);
}

/* ---- Threads ---- */

typedef struct thread_facts {
    char name[32];
    size_t stack;
} thread_facts;

static int
note_facts(wp_job *job, void *argument)
{
    thread_facts *facts = argument;
    (void)job;
    pthread_getname_np(pthread_self(), facts->name, sizeof facts->name);
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &facts->stack);
    pthread_attr_destroy(&attributes);
    return 0;
}

static void
test_threads(void)
{
    wp_pool_config config = config_for(1, 1, 10);
    snprintf(config.thread_name, sizeof config.thread_name, "a-long-thread-name");
    wp_pool *pool = wp_pool_new(&config);
    thread_facts facts = {0};
    CHECK_INT(finish(submit(pool, 0, note_facts, &facts)), WP_DONE);
    CHECK_STR(facts.name, "a-long-thread-n");
    CHECK(facts.stack >= (size_t)8 << 20);
    end_pool(pool);

    config = config_for(1, 1, 10);
    config.stack_size = (size_t)1 << 20;
    pool = wp_pool_new(&config);
    CHECK_INT(finish(submit(pool, 0, note_facts, &facts)), WP_DONE);
    CHECK_STR(facts.name, "test_0");
    CHECK(facts.stack < (size_t)8 << 20);
    end_pool(pool);

    config.stack_size = ((size_t)1 << 20) + 1; /* No whole number of pages. */
    pool = wp_pool_new(&config);
    CHECK_INT(finish(submit(pool, 0, note_facts, &facts)), WP_DONE);
    CHECK(facts.stack > (size_t)1 << 20);
    end_pool(pool);
}

static void
test_stack_sizes_that_can_be(void)
{
    static const size_t sizes[] = {0, (size_t)1 << 20, ((size_t)1 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CHECK_INT(wp_stack_size_check(sizes[i]), 0);
    }
    CHECK_INT(wp_stack_size_check(1), EINVAL);
    CHECK_INT(wp_stack_size_check((size_t)1 << 60), ENOMEM);
    CHECK_INT(wp_stack_size_check(SIZE_MAX), ENOMEM);
}

/* The indices of the workers that run at one time are all different, and small. */
static int
note_index(wp_job *job, void *argument)
{
    gate *g = argument;
    uint32_t index = wp_job_worker(job);
    CHECK(index == wp_worker_index(wp_worker_self()));
    CHECK(index < 4);
    stand_at_gate(job, g);
    return (int)index + 1;
}

static void
test_worker_indices(void)
{
    wp_pool *pool = pool_for(4, 1, 10);
    gate g = {0};
    wp_job *jobs[4];
    int seen = 0;
    for (int i = 0; i < 4; i++) {
        jobs[i] = submit(pool, 0, note_index, &g);
    }
    event_wait(&g.begun, 4);
    event_set(&g.open);
    for (int i = 0; i < 4; i++) {
        wait_settled(jobs[i]);
        seen |= 1 << wp_function_status(jobs[i]);
        wp_job_unref(jobs[i]);
    }
    CHECK_INT(seen, 2 + 4 + 8 + 16);
    CHECK(wp_worker_self() == NULL);
    end_pool(pool);
}

/* Numbers are taken from the smallest on, and given back: more of them than fit in one word. */
static void
test_numbers(void)
{
    enum { MANY = 1000 };
    wp_numbers numbers = {0};
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_INT(wp_numbers_take(&numbers), i);
    }
    static const uint32_t given[] = {700, 3, 64, 999, 63};
    static const uint32_t taken[] = {3, 63, 64, 700, 999, 1000};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        wp_numbers_give(&numbers, given[i]);
    }
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        CHECK_INT(wp_numbers_take(&numbers), taken[i]);
    }
    wp_numbers_free(&numbers);
}

/* The sums are right while workers come and go, of which there are more than are looked at under one lock. */
static void
test_stats_of_many_workers(void)
{
    enum { WORKERS = 150, ROUNDS = 5 };
    wp_pool *pool = pool_for(WORKERS, 1, WORKERS);
    uint64_t expected = 0;
    for (int round = 0; round < ROUNDS; round++) {
        gate g = {0};
        wp_job *jobs[WORKERS];
        for (int i = 0; i < WORKERS; i++) {
            jobs[i] = submit(pool, 0, stand_at_gate, &g);
        }
        event_wait(&g.begun, WORKERS);
        CHECK_INT(stats_of(pool).workers, WORKERS);
        CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], expected);
        event_set(&g.open);
        for (int i = 0; i < WORKERS; i++) {
            CHECK_INT(finish(jobs[i]), WP_DONE);
        }
        expected += WORKERS;
        wp_pool_resize(pool, 1);
        for (int i = 0; i < 100; i++) { /* They leave meanwhile. */
            CHECK_INT(stats_of(pool).lanes[0].ended[WP_DONE], expected);
        }
        wp_pool_resize(pool, WORKERS);
    }
    end_pool(pool);
}

/* ---- Threads that cannot be started ---- */

/* No system gives a thread such a stack. */
#define IMPOSSIBLE_STACK ((size_t)1 << 60)

static void
test_first_thread_cannot_be_started(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    pool->config.stack_size = IMPOSSIBLE_STACK;
    wp_job *job = wp_function_job(do_nothing, NULL, NULL);
    for (int i = 0; i < 3; i++) { /* The second time as well, however soon. */
        CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_NO_THREAD);
        CHECK_INT(wp_job_state(job), WP_NEW);
        CHECK_INT(wp_load_relaxed(&job->references), 1);
        CHECK_INT(stats_of(pool).unfinished, 0);
        CHECK_INT(stats_of(pool).lanes[0].waiting, 0);
        CHECK_INT(stats_of(pool).lanes[0].submitted, 0);
    }
    pool->config.stack_size = 0;
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

static void
test_second_thread_cannot_be_started(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    gate g = {0};
    wp_job *first = occupy(pool, &g);
    pool->config.stack_size = IMPOSSIBLE_STACK;
    wp_job *second = submit(pool, 0, do_nothing, NULL);
    CHECK_INT(stats_of(pool).workers, 1);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    end_pool(pool);
}

/* The test plays a submitter that has decided to start a worker, up to where it gave back the lock. */
static void
decide_to_start(wp_pool *pool)
{
    pool->config.stack_size = IMPOSSIBLE_STACK;
    wp_lock_take(&pool->lock);
    pool->n_workers++;
    pool->n_threads++;
    pool->waking = true;
    wp_lock_give(&pool->lock);
}

/* Meanwhile another job came, and nobody was called for it because that worker was on its way. */
static void
test_failed_start_calls_who_sleeps(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    wait_at_rest(pool);
    decide_to_start(pool);
    wp_job *job = submit(pool, 0, do_nothing, NULL);
    CHECK_INT(wp_job_state(job), WP_PENDING);
    CHECK(wp_worker_start(pool) != 0);
    CHECK_INT(finish(job), WP_DONE);
    end_pool(pool);
}

/* The same, where there is no other worker: the other job has been accepted, and must end. */
static void
test_failed_start_leaves_no_job(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    decide_to_start(pool);
    wp_job *job = submit(pool, 0, do_nothing, NULL);
    wp_errands errands = {.start = true};
    wp_errands_run(pool, &errands);
    CHECK_INT(finish(job), WP_LOST);
    CHECK_INT(drain(pool, soon()), WP_OK);
    pool->config.stack_size = 0;
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    end_pool(pool);
}

static void *
join_main(void *pool)
{
    CHECK_INT(join(pool, soon()), WP_OK);
    return NULL;
}

/* Whoever waits for the last thread to leave must learn that it never came. */
static void
test_failed_start_while_closing(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    decide_to_start(pool);
    wp_pool_close(pool);
    pthread_t thread = start_thread(join_main, pool);
    CHECK(wp_worker_start(pool) != 0);
    join_thread(thread);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_lazy_start);
    RUN(test_as_many_workers_as_long_jobs);
    RUN(test_resize_up);
    RUN(test_resize_up_is_room);
    RUN(test_resize_down);
    RUN(test_resize_down_sleepers);
    RUN(test_idle_workers_retire);
    RUN(test_retiring_and_submitting);
    RUN(test_called_at_the_last_moment);
    RUN(test_hooks);
    RUN(test_worker_that_cannot_be_initialised);
    RUN(test_slow_initialisation);
    RUN(test_forgotten_pool);
    RUN(test_drain);
    RUN(test_drain_by_many);
    RUN(test_close_runs_what_waits);
    RUN(test_break);
    RUN(test_describe_running);
    RUN(test_looking_on_while_jobs_run);
    RUN(test_stats);
    RUN(test_threads);
    RUN(test_stack_sizes_that_can_be);
    RUN(test_worker_indices);
    RUN(test_numbers);
    RUN(test_stats_of_many_workers);
    RUN(test_first_thread_cannot_be_started);
    RUN(test_second_thread_cannot_be_started);
    RUN(test_failed_start_calls_who_sleeps);
    RUN(test_failed_start_leaves_no_job);
    RUN(test_failed_start_while_closing);
    return check_done();
}
