/*
 * Pools of any configuration, and anything done to them in any order (csrc/core): every accepted job ends in one outcome
 * that fits what was done to it, the sums add up, and the threads leave.
 *
 * INPUT. Choices: lanes and their limits, numbers of workers, times and sizes, with any 64 bits among them; then what is
 * done: jobs of several kinds submitted with any time limits, cancelled, stopped, taken back and run here; tokens
 * cancelled; resizes, discards, a close or a break.
 *
 * DESIGN. One thread acts; the workers run beside it, so what happens is not the same in every run of an input, but what
 * is checked holds for all. Jobs of one kind wait at a gate, so that others have to queue; it is opened before
 * anything that would wait for them. test_stress.c has many threads that act; here are fewer, with stranger values.
 *
 * CHECKED. What was refused never runs; what was accepted runs at most once, and its outcome says whether it did. A time
 * limit of more than an hour is never reached. Pools whose threads cannot be started (a stack larger than the address
 * space) say so, and nothing is lost with them.
 */
#include "wp_function.h"
#include "wp_internal.h"

#include "fuzz.h"

enum { MAX_JOBS = 40, MAX_STEPS = 80 };

static const uint64_t an_hour = UINT64_C(3600) * 1000 * 1000 * 1000;

/* ---- Jobs ---- */

enum kind { QUICK, FAILS, AT_GATE, UNTIL_STOPPED, KINDS };

typedef struct task {
    wp_job *job;
    enum kind kind;
    wp_word runs;
    bool is_accepted;
    bool may_be_cancelled;
    bool may_be_lost;
    uint64_t queue_timeout;
    uint64_t run_timeout;
} task;

/* A pool and what was done to it. */
typedef struct arena {
    wp_pool *pool;
    wp_token *token;
    wp_word gate; /* 1: open */
    uint32_t n_lanes;
    size_t n_tasks;
    task tasks[MAX_JOBS];
} arena;

static arena a;

static int
run_task(wp_job *job, void *argument)
{
    task *t = argument;
    FUZZ_CHECK(wp_add_acq_rel(&t->runs, 1) == 0);
    while (t->kind == AT_GATE && wp_load_acquire(&a.gate) == 0) {
        wp_word_wait(&a.gate, 0, WP_FOREVER);
    }
    while (t->kind == UNTIL_STOPPED && !wp_job_should_stop(job) && wp_load_acquire(&a.gate) == 0) {
        wp_word_wait(&a.gate, 0, wp_clock() + 100000);
    }
    return t->kind == FAILS ? 7 : 0;
}

static void
open_gate(void)
{
    wp_store_release(&a.gate, 1);
    wp_word_wake(&a.gate, WP_WAKE_ALL);
}

/* ---- Pools ---- */

/* Small numbers, and any. */
static uint64_t
pick_number(fuzz_input *in, uint64_t most)
{
    const uint64_t number = fuzz_one_in(in, 4) ? fuzz_bits(in) : fuzz_pick(in, 3);
    return number < most ? number : most;
}

static uint64_t
pick_time(fuzz_input *in)
{
    static const uint64_t times[] = {WP_FOREVER, 0, 1, 100000, WP_FOREVER - 1};
    return fuzz_one_in(in, 8) ? fuzz_bits(in) : times[fuzz_pick(in, 4)];
}

static size_t
pick_stack_size(fuzz_input *in)
{
    static const size_t sizes[] = {0, (size_t)1 << 20, SIZE_MAX, (size_t)1 << 60};
    return fuzz_one_in(in, 8) ? sizes[fuzz_pick(in, 3)] : 0;
}

static void
make_pool(fuzz_input *in)
{
    wp_pool_config config = {.n_lanes = 1 + (uint32_t)fuzz_pick(in, WP_MAX_LANES - 1)};
    config.max_workers = 1 + (uint32_t)pick_number(in, UINT32_MAX - 1);
    config.fairness = (uint32_t)pick_number(in, UINT32_MAX);
    config.idle_timeout = pick_time(in);
    config.stack_size = pick_stack_size(in);
    for (uint32_t i = 0; i < config.n_lanes; i++) {
        config.lanes[i].capacity = pick_number(in, WP_UNBOUNDED);
        config.lanes[i].max_running = (uint32_t)pick_number(in, UINT32_MAX);
    }
    for (size_t i = fuzz_pick(in, sizeof config.thread_name - 1); i-- > 0;) {
        config.thread_name[i] = (char)fuzz_byte(in);
    }
    memset(&a, 0, sizeof a);
    a.n_lanes = config.n_lanes;
    a.pool = wp_pool_new(&config);
    a.token = wp_token_new(NULL, WP_FOREVER);
    FUZZ_CHECK(a.pool != NULL && a.token != NULL);
    FUZZ_CHECK(wp_pool_n_lanes(a.pool) == config.n_lanes);
}

/* ---- What is done ---- */

static void
submit(fuzz_input *in)
{
    task *t = &a.tasks[a.n_tasks];
    wp_function_options options = WP_NO_OPTIONS;
    if (a.n_tasks == MAX_JOBS) {
        return;
    }
    a.n_tasks++;
    t->kind = (enum kind)fuzz_pick(in, KINDS - 1);
    if (fuzz_one_in(in, 3)) {
        options.queue_timeout = pick_time(in);
        options.run_timeout = pick_time(in);
        options.token = fuzz_one_in(in, 2) ? a.token : NULL;
    }
    t->queue_timeout = options.queue_timeout;
    t->run_timeout = options.run_timeout;
    t->may_be_cancelled = options.token != NULL && wp_token_is_cancelled(a.token);
    t->job = wp_function_job(run_task, t, &options);
    FUZZ_CHECK(t->job != NULL);
    const unsigned lane = (unsigned)fuzz_pick(in, a.n_lanes - 1);
    const enum wp_result result = wp_pool_submit(a.pool, lane, t->job, fuzz_one_in(in, 4));
    FUZZ_CHECK(result == WP_OK || result == WP_FULL || result == WP_CLOSED || result == WP_BROKEN ||
               result == WP_NO_THREAD || (result == WP_STOPPED && t->may_be_cancelled));
    t->is_accepted = result == WP_OK;
    t->may_be_cancelled = t->may_be_cancelled || options.token != NULL;
}

static task *
pick_task(fuzz_input *in)
{
    task *t = a.n_tasks > 0 ? &a.tasks[fuzz_pick(in, a.n_tasks - 1)] : NULL;
    return t != NULL && t->is_accepted ? t : NULL;
}

static void
cancel_one(fuzz_input *in)
{
    task *t = pick_task(in);
    if (t != NULL && wp_job_cancel(t->job)) {
        FUZZ_CHECK(wp_job_state(t->job) == WP_CANCELLED);
        t->may_be_cancelled = true;
    }
}

static void
stop_one(fuzz_input *in)
{
    task *t = pick_task(in);
    if (t != NULL) {
        t->may_be_cancelled = true;
        wp_job_stop(t->job);
    }
}

static void
run_one_here(fuzz_input *in)
{
    task *t = pick_task(in);
    if (t != NULL) {
        open_gate();
        wp_job_run_here(t->job);
    }
}

/* Any job that waits may be the one that goes. */
static void
cancel_some(fuzz_input *in)
{
    for (size_t i = 0; i < a.n_tasks; i++) {
        a.tasks[i].may_be_cancelled = true;
    }
    switch (fuzz_pick(in, 2)) {
    case 0:
        wp_pool_discard_oldest(a.pool, (unsigned)fuzz_pick(in, a.n_lanes - 1));
        break;
    case 1:
        FUZZ_CHECK(wp_pool_cancel_waiting(a.pool) <= a.n_tasks);
        break;
    default:
        wp_token_cancel(a.token);
    }
}

static void
look(void)
{
    wp_pool_stats stats;
    wp_pool_stats_get(a.pool, &stats);
    FUZZ_CHECK(stats.n_lanes == a.n_lanes && stats.unfinished <= a.n_tasks);
}

static void
drain(void)
{
    open_gate();
    while (wp_pool_drain(a.pool, WP_FOREVER) != WP_OK) {
    }
}

static void
end_early(fuzz_input *in)
{
    if (fuzz_one_in(in, 2)) {
        for (size_t i = 0; i < a.n_tasks; i++) {
            a.tasks[i].may_be_lost = true;
        }
        wp_pool_break(a.pool);
    } else {
        wp_pool_close(a.pool);
    }
}

static void
act(fuzz_input *in)
{
    switch (fuzz_pick(in, 15)) {
    default:
        submit(in);
        break;
    case 8:
        cancel_one(in);
        break;
    case 9:
        stop_one(in);
        break;
    case 10:
        run_one_here(in);
        break;
    case 11:
        cancel_some(in);
        break;
    case 12:
        wp_pool_resize(a.pool, 1 + (uint32_t)pick_number(in, UINT32_MAX - 1));
        break;
    case 13:
        look();
        break;
    case 14:
        drain();
        break;
    case 15:
        end_early(in);
    }
}

/* ---- How it has to end ---- */

static void
check_task(task *t)
{
    const uint32_t runs = wp_load_acquire(&t->runs);
    if (!t->is_accepted) {
        FUZZ_CHECK(runs == 0);
        return;
    }
    FUZZ_CHECK(wp_job_is_settled(t->job));
    switch (wp_job_state(t->job)) {
    case WP_DONE:
        FUZZ_CHECK(runs == 1 && t->kind != FAILS);
        break;
    case WP_FAILED:
        FUZZ_CHECK(runs == 1 && t->kind == FAILS);
        break;
    case WP_CANCELLED:
        FUZZ_CHECK(t->may_be_cancelled || t->may_be_lost);
        break;
    case WP_EXPIRED:
        FUZZ_CHECK(runs == 0 && t->queue_timeout < an_hour);
        break;
    case WP_TIMED_OUT:
        FUZZ_CHECK(runs == 1 && t->run_timeout < an_hour);
        break;
    case WP_LOST:
        FUZZ_CHECK(runs == 0 && t->may_be_lost);
        break;
    default:
        FUZZ_CHECK(false);
    }
}

static void
check_sums(void)
{
    wp_pool_stats stats;
    uint64_t submitted = 0;
    uint64_t accepted = 0;
    wp_pool_stats_get(a.pool, &stats);
    FUZZ_CHECK(stats.unfinished == 0 && stats.workers == 0);
    for (uint32_t i = 0; i < stats.n_lanes; i++) {
        uint64_t ended = 0;
        for (int state = 0; state < WP_STATES; state++) {
            ended += stats.lanes[i].ended[state];
        }
        FUZZ_CHECK(stats.lanes[i].waiting == 0 && ended == stats.lanes[i].submitted);
        submitted += stats.lanes[i].submitted;
    }
    for (size_t i = 0; i < a.n_tasks; i++) {
        accepted += a.tasks[i].is_accepted;
    }
    FUZZ_CHECK(submitted == accepted);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    make_pool(&in);
    for (size_t step = 0; step < MAX_STEPS && in.left > 0; step++) {
        act(&in);
    }
    open_gate();
    wp_pool_close(a.pool);
    while (wp_pool_join(a.pool, WP_FOREVER) != WP_OK) {
    }
    for (size_t i = 0; i < a.n_tasks; i++) {
        check_task(&a.tasks[i]);
    }
    check_sums();
    for (size_t i = 0; i < a.n_tasks; i++) {
        wp_job_unref(a.tasks[i].job);
    }
    wp_token_unref(a.token);
    wp_pool_unref(a.pool);
    return 0;
}
