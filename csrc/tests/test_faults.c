/* Every allocation and every thread start of the core and of the native room fails once, in turn.
 *
 * PURPOSE. A scenario uses a part of the library. It is run again and again: first the first call that takes memory or
 * starts a thread fails, then the second, and so on until a run is over before its fault comes. Then the same with all
 * calls failing from that one on, and with all thread starts failing. Each run must come to its end with every promise
 * kept: what was refused has left nothing behind, what was accepted has ended once, and afterwards no memory and no thread
 * is left. A pool that outlived a single fault must work as if nothing had happened.
 *
 * DESIGN. The linker (--wrap) leads the calls of all objects of this program here, also those of the tests themselves,
 * which spare their own (start_quietly). What the C library allocates for itself is not reached. Memory is counted
 * block by block, so what the C library returns and the library frees is not mistaken for a block of ours.
 *
 * Which call is number k may differ from run to run where threads race; so a run that saw no fault ends the loop, and
 * a fault that was missed in one round is met in another.
 */
#include "fixture.h"

#ifndef WP_TESTS_WRAP

int
main(void)
{
    printf("ok - skipped: this linker cannot lead calls to another function\n");
    return 0;
}

#else

#define BLOCK_BITS 14 /* The mutex below guards them. */
#include "blocks.h"

#include "wp_call.h"
#include "wp_handle.h"
#include "wp_inner.h"
#include "wp_loop.h"
#include "wp_notes.h"
#include "wp_parallel.h"
#include "wp_stage.h"

#include <dlfcn.h>
#include <errno.h>

/* ---- What fails ---- */

enum { MEMORY = 1, THREADS = 2, FOREVER = 1 << 30 };

/* One way to go through the calls. */
typedef struct fault_mode {
    const char *name;
    int kinds; /* Which calls are counted, and fail. */
    int count; /* How many fail in a row. */
    bool ends; /* The faults end with the scenario's last job, so the pool must then work again. */
} fault_mode;

static const fault_mode modes[] = {
    {"one call fails", MEMORY | THREADS, 1, true},
    {"two calls fail", MEMORY | THREADS, 2, true},
    {"all calls fail from one on", MEMORY | THREADS, FOREVER, false},
    {"no thread starts from one on", THREADS, FOREVER, true},
    {"no memory from one on", MEMORY, FOREVER, true},
};

/* Written while nothing runs, but for the two counts. */
static const fault_mode *mode;
static int first_fault;
static atomic_bool is_armed;
static atomic_int calls;
static atomic_int faults;
static _Thread_local bool is_spared;

static bool
fails(int kind)
{
    if (!atomic_load(&is_armed) || is_spared || !(mode->kinds & kind)) {
        return false;
    }
    const int call = atomic_fetch_add(&calls, 1) + 1;
    const bool hit = call >= first_fault && call - first_fault < mode->count;
    atomic_fetch_add(&faults, hit);
    return hit;
}

/* ---- What is held ---- */

static pthread_mutex_t blocks_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int n_threads;

static void *
note_block(void *address)
{
    if (address != NULL && !is_spared) {
        pthread_mutex_lock(&blocks_mutex);
        CHECK(block_add(address));
        pthread_mutex_unlock(&blocks_mutex);
    }
    return address;
}

static void
forget_block(const void *address)
{
    pthread_mutex_lock(&blocks_mutex);
    block_remove(address);
    pthread_mutex_unlock(&blocks_mutex);
}

static long
blocks_held(void)
{
    pthread_mutex_lock(&blocks_mutex);
    const long held = n_blocks;
    pthread_mutex_unlock(&blocks_mutex);
    return held;
}

/* ---- The calls ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *argument);
int __real_pthread_join(pthread_t thread, void **result);
int __real_pthread_detach(pthread_t thread);

void *
__wrap_malloc(size_t size)
{
    return fails(MEMORY) ? NULL : note_block(__real_malloc(size));
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return fails(MEMORY) ? NULL : note_block(__real_calloc(n, size));
}

void *
__wrap_realloc(void *memory, size_t size)
{
    if (fails(MEMORY)) {
        return NULL;
    }
    forget_block(memory);
    return note_block(__real_realloc(memory, size));
}

int
__wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
    if (fails(MEMORY)) {
        return ENOMEM;
    }
    const int error = __real_posix_memalign(memory, alignment, size);
    note_block(error == 0 ? *memory : NULL);
    return error;
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails(MEMORY) ? NULL : note_block(__real_aligned_alloc(alignment, size));
}

char *
__wrap_strdup(const char *text)
{
    return fails(MEMORY) ? NULL : note_block(__real_strdup(text));
}

void
__wrap_free(void *memory)
{
    forget_block(memory);
    __real_free(memory);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *argument)
{
    if (fails(THREADS)) {
        return EAGAIN;
    }
    atomic_fetch_add(&n_threads, 1); /* Before it runs: it may detach itself. */
    const int error = __real_pthread_create(thread, attributes, main, argument);
    atomic_fetch_sub(&n_threads, error != 0);
    return error;
}

int
__wrap_pthread_join(pthread_t thread, void **result)
{
    const int error = __real_pthread_join(thread, result);
    atomic_fetch_sub(&n_threads, error == 0);
    return error;
}

int
__wrap_pthread_detach(pthread_t thread)
{
    const int error = __real_pthread_detach(thread);
    atomic_fetch_sub(&n_threads, error == 0);
    return error;
}

/* ---- Runs ---- */

/* Whether a refusal for such a reason may be: not in the first run, which has no faults. */
static bool
may_lack(int kind)
{
    return mode != NULL && mode->kinds & kind;
}

/* A result that is an error only where something was made to fail. */
static bool
is_accepted(enum wp_result result)
{
    CHECK(result == WP_OK || (result == WP_NO_MEMORY && may_lack(MEMORY)) ||
          (result == WP_NO_THREAD && (may_lack(THREADS) || may_lack(MEMORY))));
    return result == WP_OK;
}

/* A thing, or NULL where memory was made to fail. */
static bool
is_made(const void *thing)
{
    CHECK(thing != NULL || may_lack(MEMORY));
    return thing != NULL;
}

/* The scenario's own threads always start. */
static pthread_t
start_quietly(void *(*main)(void *), void *argument)
{
    is_spared = true;
    pthread_t thread = start_thread(main, argument);
    is_spared = false;
    return thread;
}

/* After a fault that is over the pool works as ever; after one that lasts it ends all the same. */
static void
end_recovered(wp_pool *pool)
{
    if (mode == NULL || mode->ends) {
        atomic_store(&is_armed, false);
        wp_word ran = 0;
        wp_job *job = wp_function_job(count_up, &ran, NULL);
        CHECK_INT(submit_wait(pool, 0, job, soon()), WP_OK);
        CHECK_INT(finish(job), WP_DONE);
        CHECK_INT(wp_load_acquire(&ran), 1);
        CHECK_INT(drain(pool, soon()), WP_OK);
    }
    end_pool(pool);
}

enum { MOST_FAULTS = 5000 };

/* The promise of every run: nothing is left. Threads that end by themselves get a moment to do so. */
static void
check_nothing_left(int blocks_before, int threads_before)
{
    const uint64_t end = soon();
    while (wp_clock() < end && (blocks_held() > blocks_before || atomic_load(&n_threads) > threads_before)) {
        usleep(50);
    }
    CHECK_INT(blocks_held(), blocks_before);
    CHECK_INT(atomic_load(&n_threads), threads_before);
}

/* One run, whose call number `first` is the first to fail; false if it was over before that. */
static bool
run_with_fault(void (*scenario)(void), const char *name, int first)
{
    static char text[128]; /* What the harness names if the run hangs or fails. */
    const int blocks_before = blocks_held();
    const int threads_before = atomic_load(&n_threads);
    const int failures = atomic_load(&check_failures);
    snprintf(text, sizeof text, "%s, %s: number %d", name, mode->name, first);
    check_name = text;
    first_fault = first;
    atomic_store(&calls, 0);
    atomic_store(&faults, 0);
    atomic_store(&is_armed, true);
    scenario();
    atomic_store(&is_armed, false);
    check_nothing_left(blocks_before, threads_before);
    check_name = name;
    return atomic_load(&faults) > 0 && atomic_load(&check_failures) == failures;
}

/* A scenario without faults, and then with each. */
static void
run_all(void (*scenario)(void), const char *name)
{
    const int blocks_before = blocks_held();
    const int threads_before = atomic_load(&n_threads);
    mode = NULL;
    scenario();
    check_nothing_left(blocks_before, threads_before);
    int runs = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        int first = 1;
        mode = &modes[i];
        while (first < MOST_FAULTS && run_with_fault(scenario, name, first)) {
            first++;
        }
        CHECK(first < MOST_FAULTS);
        runs += first;
    }
    mode = NULL;
    printf("# %s: %d runs\n", name, runs);
}

#define RUN_ALL(scenario)                                                                                              \
    static void test_##scenario(void)                                                                                  \
    {                                                                                                                  \
        run_all(scenario, #scenario);                                                                                  \
    }

/* ---- Pools are made ---- */

static void
make_pools(void)
{
    for (uint32_t lanes = 1; lanes <= 3; lanes += 2) {
        wp_pool *pool = pool_for(2, lanes, 8);
        if (is_made(pool)) {
            end_recovered(pool);
        }
    }
}
RUN_ALL(make_pools)

/* A pool more than ever before needs a place among those that a fork has to know. */
static void
test_make_one_pool_more(void)
{
    enum { MOST = 12 };
    wp_pool *pools[MOST];
    int n = 0;
    mode = &modes[0];
    for (int first = 1; n < MOST; first = first % 5 + 1) {
        const int before = blocks_held();
        first_fault = first;
        atomic_store(&calls, 0);
        atomic_store(&is_armed, true);
        wp_pool *pool = pool_for(2, 1, 8);
        atomic_store(&is_armed, false);
        if (pool != NULL) {
            CHECK(first == 5 || n == 0); /* The first takes the place of a pool that was there before. */
            pools[n++] = pool;
        } else {
            CHECK_INT(blocks_held(), before);
        }
    }
    for (int i = 0; i < MOST; i++) {
        end_recovered(pools[i]);
    }
    mode = NULL;
}

/* ---- Jobs are submitted ---- */

enum { JOBS = 40 };

/* Jobs of one thread, and how often each has run. */
typedef struct batch {
    wp_pool *pool;
    wp_job *jobs[JOBS]; /* NULL: refused. */
    wp_word ran[JOBS];
    const wp_function_options *options;
    bool waits; /* For room. */
} batch;

static void
submit_batch(batch *b, unsigned lane)
{
    for (int i = 0; i < JOBS; i++) {
        wp_job *job = wp_function_job(count_up, &b->ran[i], b->options);
        enum wp_result result = WP_NO_MEMORY;
        if (is_made(job)) {
            result = b->waits ? submit_wait(b->pool, lane, job, soon()) : wp_pool_submit(b->pool, lane, job, false);
        }
        b->jobs[i] = is_accepted(result) ? job : NULL;
        if (b->jobs[i] == NULL && job != NULL) {
            CHECK_INT(wp_job_state(job), WP_NEW);
            UNTIL(wp_load_acquire(&job->references) == 1); /* Others may look at it, to see whether it is lost. */
            wp_job_unref(job);
        }
    }
}

/* Every accepted job has run once, every other never. A job may be lost where another thread's submit was to start the
 * only worker and could not. */
static void
finish_batch(batch *b, bool may_lose)
{
    for (int i = 0; i < JOBS; i++) {
        const wp_state state = b->jobs[i] != NULL ? finish(b->jobs[i]) : WP_NEW;
        CHECK(state == WP_DONE || state == WP_NEW || (state == WP_LOST && may_lose && mode != NULL));
        CHECK_INT(wp_load_acquire(&b->ran[i]), state == WP_DONE);
    }
}

static void
submit_jobs(void)
{
    batch b = {.pool = pool_for(3, 2, WP_UNBOUNDED)};
    if (!is_made(b.pool)) {
        return;
    }
    submit_batch(&b, 1);
    finish_batch(&b, false);
    end_recovered(b.pool);
}
RUN_ALL(submit_jobs)

/* A pool without a line hands each job to a worker that is free, or that it starts for it. */
static void
hand_over_jobs(void)
{
    batch b = {.pool = pool_for(2, 1, 0), .waits = true};
    if (!is_made(b.pool)) {
        return;
    }
    submit_batch(&b, 0);
    finish_batch(&b, false);
    end_recovered(b.pool);
}
RUN_ALL(hand_over_jobs)

static void *
submit_main(void *argument)
{
    submit_batch(argument, 0);
    return NULL;
}

/* Several threads, blocked most of the time: whoever is woken for room and then fails must not keep it to itself. */
static void
submit_together(void)
{
    enum { THREADS_OF_ITS_OWN = 3 };
    wp_pool *pool = pool_for(2, 1, 2);
    batch batches[THREADS_OF_ITS_OWN] = {{.waits = true}, {.waits = true}, {.waits = true}};
    pthread_t threads[THREADS_OF_ITS_OWN];
    if (!is_made(pool)) {
        return;
    }
    for (int i = 0; i < THREADS_OF_ITS_OWN; i++) {
        batches[i].pool = pool;
        threads[i] = start_quietly(submit_main, &batches[i]);
    }
    for (int i = 0; i < THREADS_OF_ITS_OWN; i++) {
        join_thread(threads[i]);
        finish_batch(&batches[i], true);
    }
    end_recovered(pool);
}

static void
test_submit_together(void)
{
    run_all(submit_together, "submit_together");
}

/* Time limits need the keeper's thread, and its heap has to grow. */
static void
submit_with_limits(void)
{
    wp_token *parent = wp_token_new(NULL, WP_FOREVER);
    wp_token *child = is_made(parent) ? wp_token_new(parent, soon()) : NULL;
    wp_pool *pool = is_made(child) ? pool_for(2, 1, WP_UNBOUNDED) : NULL;
    if (is_made(pool)) {
        const wp_function_options options = {
            .token = child, .queue_timeout = 20000 * MS, .run_timeout = 20000 * MS, .results = NULL};
        batch b = {.pool = pool, .options = &options};
        submit_batch(&b, 0);
        finish_batch(&b, false);
        CHECK(wp_token_cancel(parent));
        CHECK(wp_token_is_cancelled(child));
        end_recovered(pool);
    }
    wp_token_unref(child);
    wp_token_unref(parent);
}
RUN_ALL(submit_with_limits)

/* A limit that a job was accepted with holds, whatever failed meanwhile; a job that has none yet does not get in. */
static void
limits_hold(void)
{
    event begun = {0};
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    const wp_function_options run_limit = {.queue_timeout = WP_FOREVER, .run_timeout = MS};
    const wp_function_options queue_limit = {.queue_timeout = MS, .run_timeout = WP_FOREVER};
    wp_job *stuck = wp_function_job(run_until_stopped, &begun, &run_limit);
    wp_job *waits = wp_function_job(do_nothing, NULL, &queue_limit);
    if (is_made(stuck) && is_accepted(wp_pool_submit(pool, 0, stuck, false))) {
        const bool is_in = is_made(waits) && is_accepted(wp_pool_submit(pool, 0, waits, false));
        wait_settled(stuck);
        CHECK_INT(wp_job_state(stuck), WP_TIMED_OUT);
        if (is_in) {
            wait_settled(waits);
            CHECK(wp_job_state(waits) == WP_EXPIRED || wp_job_state(waits) == WP_DONE);
        }
    }
    if (stuck != NULL) {
        wp_job_unref(stuck);
    }
    if (waits != NULL) {
        wp_job_unref(waits);
    }
    end_recovered(pool);
}
RUN_ALL(limits_hold)

/* A job that its submitter runs has its limits from the same keeper. */
static void
run_on_submitter(void)
{
    event begun = {0};
    wp_token *token = wp_token_new(NULL, soon());
    wp_pool *pool = is_made(token) ? pool_for(1, 1, 1) : NULL;
    if (is_made(pool)) {
        const wp_function_options options = {.token = token, .queue_timeout = 20000 * MS, .run_timeout = MS};
        wp_job *job = wp_function_job(run_until_stopped, &begun, &options);
        if (is_made(job)) {
            if (is_accepted(wp_pool_run_here(pool, 0, job))) {
                CHECK_INT(wp_job_state(job), WP_TIMED_OUT);
            } else {
                CHECK_INT(wp_job_state(job), WP_NEW);
                CHECK_INT(wp_load_acquire(&begun.count), 0);
            }
            wp_job_unref(job);
        }
        end_recovered(pool);
    }
    wp_token_unref(token);
}
RUN_ALL(run_on_submitter)

/* ---- Workers come and go ---- */

static void
resize(void)
{
    static const uint32_t sizes[] = {1, 8, 2, 5, 1};
    batch batches[sizeof sizes / sizeof *sizes] = {0};
    wp_pool *pool = pool_for(3, 1, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        batches[i].pool = pool;
        submit_batch(&batches[i], 0);
        wp_pool_resize(pool, sizes[i]);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        finish_batch(&batches[i], false);
    }
    end_recovered(pool);
}
RUN_ALL(resize)

/* Jobs that each want a worker of their own: fewer do as well. */
static void
long_jobs(void)
{
    gate g = {0};
    wp_job *jobs[6] = {0};
    wp_pool *pool = pool_for(6, 1, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    uint32_t n = 0;
    for (int i = 0; i < 6; i++) {
        wp_job *job = wp_function_job(stand_at_gate, &g, NULL);
        if (is_made(job) && is_accepted(wp_pool_submit(pool, 0, job, false))) {
            jobs[n++] = job;
        } else if (job != NULL) {
            wp_job_unref(job);
        }
    }
    if (n > 0) {
        event_wait(&g.begun, 1);
    }
    if (mode == NULL) {
        event_wait(&g.begun, n);
    }
    event_set(&g.open);
    while (n > 0) {
        CHECK_INT(finish(jobs[--n]), WP_DONE);
    }
    end_recovered(pool);
}
RUN_ALL(long_jobs)

/* Workers that retire all the time, so that each burst starts others. A job that was accepted while one was leaving may
 * be lost if no other can be started, but not silently. */
static void
retire(void)
{
    wp_pool_config config = config_for(3, 1, WP_UNBOUNDED);
    config.idle_timeout = MS / 10;
    batch batches[4] = {0};
    wp_pool *pool = wp_pool_new(&config);
    if (!is_made(pool)) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        batches[i].pool = pool;
        submit_batch(&batches[i], 0);
        finish_batch(&batches[i], true);
        usleep(300);
    }
    end_recovered(pool);
}
RUN_ALL(retire)

/* ---- The end ---- */

static void
drain_cancel_and_close(void)
{
    gate g = {0};
    batch b = {.pool = pool_for(2, 1, WP_UNBOUNDED)};
    if (!is_made(b.pool)) {
        return;
    }
    wp_pool_resize(b.pool, 1);
    wp_job *first = wp_function_job(stand_at_gate, &g, NULL);
    const bool is_in = is_made(first) && is_accepted(wp_pool_submit(b.pool, 0, first, false));
    if (is_in) {
        UNTIL(wp_job_state(first) != WP_PENDING); /* Or it is the oldest, and the others get the worker. */
        submit_batch(&b, 0);
        CHECK_INT(drain(b.pool, wp_clock() + MS / 10), WP_LATE);
        wp_pool_discard_oldest(b.pool, 0);
        wp_pool_cancel_waiting(b.pool);
        for (int i = 0; i < JOBS; i++) {
            if (b.jobs[i] != NULL) {
                CHECK_INT(finish(b.jobs[i]), WP_CANCELLED);
            }
        }
    }
    event_set(&g.open);
    CHECK_INT(drain(b.pool, soon()), WP_OK);
    if (first != NULL) {
        wp_job_unref(first);
    }
    end_recovered(b.pool);
}
RUN_ALL(drain_cancel_and_close)

/* Dropped with jobs waiting, by who does not care any more. */
static void
forget_pool(void)
{
    wp_word ran = 0;
    uint32_t n = 0;
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    for (int i = 0; i < JOBS; i++) {
        wp_job *job = wp_function_job(count_up, &ran, NULL);
        if (is_made(job)) {
            n += is_accepted(wp_pool_submit(pool, 0, job, false));
            wp_job_unref(job);
        }
    }
    wp_pool_unref(pool);
    UNTIL(wp_load_acquire(&ran) == n);
}
RUN_ALL(forget_pool)

static void
break_pool(void)
{
    batch b = {.pool = pool_for(1, 1, WP_UNBOUNDED)};
    if (!is_made(b.pool)) {
        return;
    }
    submit_batch(&b, 0);
    wp_pool_break(b.pool);
    for (int i = 0; i < JOBS; i++) {
        if (b.jobs[i] != NULL) {
            const wp_state state = finish(b.jobs[i]);
            CHECK(state == WP_DONE || state == WP_LOST);
            CHECK_INT(wp_load_acquire(&b.ran[i]), state == WP_DONE);
        }
    }
    CHECK_INT(join(b.pool, soon()), WP_OK);
    check_sums(b.pool);
    wp_pool_unref(b.pool);
}
RUN_ALL(break_pool)

/* ---- Results ---- */

typedef struct reading {
    wp_results *results;
    uint32_t seen[JOBS];
    uint32_t n;
} reading;

/* Reads until the queue is closed and empty: no index twice. */
static void *
read_results(void *argument)
{
    reading *r = argument;
    wp_job *job;
    enum wp_result result;
    while ((result = wp_results_next(r->results, soon(), &job)) != WP_FINISHED) {
        if (result == WP_INTERRUPTED) {
            continue;
        }
        if (!CHECK_INT(result, WP_OK) || !CHECK(job->extra->index < JOBS)) {
            break;
        }
        CHECK_INT(r->seen[job->extra->index]++, 0);
        r->n++;
        wp_job_unref(job);
    }
    return NULL;
}

static void
report_results(wp_pool *pool, uint64_t capacity)
{
    reading r = {.results = wp_results_new(capacity)};
    wp_word ran = 0;
    uint32_t accepted = 0;
    if (!is_made(r.results)) {
        return;
    }
    pthread_t reader = start_quietly(read_results, &r);
    for (int i = 0; i < JOBS; i++) {
        enum wp_result result;
        do {
            result = wp_function_submit(pool, 0, r.results, count_up, &ran, soon());
        } while (result == WP_INTERRUPTED);
        accepted += is_accepted(result);
    }
    wp_results_close(r.results);
    join_thread(reader);
    CHECK_INT(r.n, accepted);
    CHECK_INT(wp_load_acquire(&ran), accepted);
    for (uint32_t i = 0; i < JOBS; i++) {
        CHECK_INT(r.seen[i], i < accepted); /* Numbers have no gap. */
    }
    wp_results_unref(r.results);
}

static void
results(void)
{
    wp_pool *pool = pool_for(2, 1, 10);
    if (!is_made(pool)) {
        return;
    }
    report_results(pool, 5);
    report_results(pool, WP_UNBOUNDED);
    end_recovered(pool);
}
RUN_ALL(results)

/* ---- Stages ---- */

enum { PUTTERS = 2, PUT_EACH = 600 };

typedef struct putting {
    wp_stage *stage;
    wp_word *counts; /* Of this putter: how often each argument was reported. */
    uint32_t accepted;
} putting;

static wp_word stage_ran;

static int
count_argument(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    wp_add_acq_rel(&stage_ran, 1);
    return 0;
}

static void *
put_arguments(void *argument)
{
    putting *p = argument;
    void *arguments[50];
    for (int i = 0; i < PUT_EACH; i += 50) {
        uint32_t done = 0;
        enum wp_result result = WP_OK;
        for (int k = 0; k < 50; k++) {
            arguments[k] = &p->counts[i + k];
        }
        for (uint32_t all = 0; all < 50; all += done) {
            result = wp_stage_put_many(p->stage, arguments + all, 50 - all, soon(), &done);
            p->accepted += done;
            if (result != WP_INTERRUPTED && !is_accepted(result)) {
                break; /* What was not accepted is left out. */
            }
        }
    }
    return NULL;
}

/* Reads until the stage is finished. */
static uint32_t
get_all(wp_stage *stage)
{
    wp_stage_result read;
    uint32_t n = 0;
    enum wp_result result;
    while ((result = wp_stage_get(stage, soon(), &read)) != WP_FINISHED) {
        if (result != WP_INTERRUPTED) {
            if (!CHECK_INT(result, WP_OK)) {
                break;
            }
            CHECK_INT(wp_add_acq_rel((wp_word *)read.argument, 1), 0);
            CHECK(!read.given_up || mode != NULL);
            n++;
        }
    }
    return n;
}

static void *
read_stage(void *argument)
{
    putting *p = argument;
    p->accepted = get_all(p->stage);
    return NULL;
}

static void
stage(void)
{
    static wp_word counts[PUTTERS][PUT_EACH];
    memset(counts, 0, sizeof counts);
    wp_store_relaxed(&stage_ran, 0);
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    wp_stage *s = is_made(pool) ? wp_stage_new(pool, 0, count_argument, 64) : NULL;
    if (s != NULL) {
        putting putters[PUTTERS] = {{.stage = s, .counts = counts[0]}, {.stage = s, .counts = counts[1]}};
        putting reader = {.stage = s};
        pthread_t threads[PUTTERS];
        pthread_t reading = start_quietly(read_stage, &reader);
        for (int i = 0; i < PUTTERS; i++) {
            threads[i] = start_quietly(put_arguments, &putters[i]);
        }
        for (int i = 0; i < PUTTERS; i++) {
            join_thread(threads[i]);
        }
        wp_stage_close(s);
        join_thread(reading);
        CHECK_INT(reader.accepted, putters[0].accepted + putters[1].accepted);
        CHECK(wp_load_acquire(&stage_ran) <= reader.accepted);
        wp_stage_unref(s);
    } else {
        CHECK(may_lack(MEMORY));
    }
    if (pool != NULL) {
        end_recovered(pool);
    }
}
RUN_ALL(stage)

static void
stage_that_is_cancelled(void)
{
    static wp_word counts[PUT_EACH];
    memset(counts, 0, sizeof counts);
    gate g = {0};
    wp_pool *pool = pool_for(1, 2, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    wp_job *first = wp_function_job(stand_at_gate, &g, NULL);
    const bool is_in = is_made(first) && is_accepted(wp_pool_submit(pool, 0, first, false));
    wp_stage *s = is_in ? wp_stage_new(pool, 1, count_argument, PUT_EACH) : NULL;
    if (s != NULL) {
        putting p = {.stage = s, .counts = counts};
        put_arguments(&p);
        wp_stage_cancel(s);
        wp_stage_close(s);
        event_set(&g.open);
        wp_stage_result read;
        uint32_t n = 0;
        enum wp_result result;
        while ((result = wp_stage_get(s, soon(), &read)) == WP_OK || result == WP_INTERRUPTED) {
            n += result == WP_OK;
        }
        CHECK_INT(result, WP_FINISHED);
        CHECK_INT(n, p.accepted);
        wp_stage_unref(s);
    }
    event_set(&g.open);
    if (first != NULL) {
        wp_job_unref(first);
    }
    end_recovered(pool);
}
RUN_ALL(stage_that_is_cancelled)

/* ---- Ranges ---- */

enum { UNITS = 500 };

/* A range whose units count themselves, in memory that the scenario owns. */
typedef struct units {
    wp_range range;
    wp_word *times;
    wp_word *given_up;
} units;

static uint32_t
run_units(wp_job *job, wp_stretch *stretch, wp_worker *self)
{
    units *u = (units *)(void *)job;
    uint32_t done = 0;
    uint32_t at;
    uint32_t end;
    while (wp_stretch_take(stretch, 1, &at, &end)) {
        wp_add_acq_rel(&u->times[at], 1);
        done++;
        if (wp_worker_is_wanted(self) || (self == NULL && done == 3)) {
            break;
        }
    }
    return done;
}

static void
give_up_units(wp_job *job, uint32_t begin, uint32_t end)
{
    units *u = (units *)(void *)job;
    for (; begin < end; begin++) {
        wp_add_acq_rel(&u->given_up[begin], 1);
    }
}

static void
destroy_units(wp_job *job)
{
    wp_group_unref(((units *)(void *)job)->range.group);
    free(job);
}

static const wp_job_class units_class = {.name = "units",
                                         .run_range = run_units,
                                         .given_up = give_up_units,
                                         .notify = wp_job_settle,
                                         .destroy = destroy_units,
                                         .claim_ns = 20000};

/* Submits a range to the less urgent of two lanes, while jobs that come to the other interrupt it; the caller helps, and
 * may cancel the rest. Each unit is done once or given up once. */
static void
do_range(wp_pool *pool, wp_group *group, bool cancel)
{
    static wp_word times[UNITS];
    static wp_word given_up[UNITS];
    memset(times, 0, sizeof times);
    memset(given_up, 0, sizeof given_up);
    units *u = malloc(sizeof *u);
    if (!is_made(u)) {
        return;
    }
    u->times = times;
    u->given_up = given_up;
    wp_range_init(&u->range, &units_class, UNITS, group, NULL);
    const bool is_in = is_accepted(wp_pool_submit(pool, 1, &u->range.job, false));
    if (is_in) {
        batch b = {.pool = pool};
        submit_batch(&b, 0);
        wp_range_run_here(&u->range, 10);
        if (cancel) {
            wp_job_stop(&u->range.job);
        }
        finish_batch(&b, true);
        wait_settled(&u->range.job);
        const wp_state state = wp_job_state(&u->range.job);
        CHECK(state == WP_DONE || ((cancel || mode != NULL) && state == WP_CANCELLED));
    }
    for (int i = 0; i < UNITS; i++) {
        CHECK_INT(wp_load_acquire(&times[i]) + wp_load_acquire(&given_up[i]), is_in);
    }
    wp_job_unref(&u->range.job);
}

static void
ranges(void)
{
    wp_pool *pool = pool_for(3, 2, WP_UNBOUNDED);
    wp_group *group = is_made(pool) ? wp_group_new(NULL, 100, false) : NULL;
    if (group != NULL) {
        do_range(pool, group, false);
        do_range(pool, group, true);
        wp_group_unref(group);
    }
    if (pool != NULL) {
        end_recovered(pool);
    }
}
RUN_ALL(ranges)

/* ---- Crews ---- */

static int
count_numbers(size_t begin, size_t end, void *context)
{
    wp_word *counts = context;
    for (; begin < end; begin++) {
        wp_add_acq_rel(&counts[begin], 1);
    }
    return 0;
}

static void
check_all_once(const wp_word *counts, int n)
{
    for (int i = 0; i < n; i++) {
        CHECK_INT(wp_load_acquire(&counts[i]), 1);
    }
}

static int
do_parallel(wp_job *job, void *argument)
{
    return wp_job_parallel(job, UNITS, 10, count_numbers, argument, NULL);
}

/* What cannot be had is done without: the caller does all of it. */
static void
parallel_ranges(void)
{
    wp_word counts[UNITS] = {0};
    wp_word inner[UNITS] = {0};
    wp_pool *pool = pool_for(3, 2, WP_UNBOUNDED);
    if (!is_made(pool)) {
        return;
    }
    CHECK_INT(wp_parallel(pool, 1, NULL, UNITS, 7, count_numbers, counts, NULL), WP_OK);
    check_all_once(counts, UNITS);
    wp_job *job = wp_function_job(do_parallel, inner, NULL);
    if (is_made(job) && is_accepted(wp_pool_submit(pool, 0, job, false))) {
        wait_settled(job);
        CHECK_INT(wp_job_state(job), WP_DONE);
        CHECK_INT(wp_function_status(job), 0);
        check_all_once(inner, UNITS);
    }
    if (job != NULL) {
        wp_job_unref(job);
    }
    end_recovered(pool);
}
RUN_ALL(parallel_ranges)

/* ---- Notes, children, handles ---- */

static int
fail_with_text(wp_job *job, void *argument)
{
    (void)argument;
    wp_job_progress(job, 0.5);
    return wp_job_fail(job, "as it should");
}

/* A child that was accepted ends; one that failed says why, or that there was no memory for it. */
static int
have_children(wp_job *job, void *argument)
{
    wp_word *ran = argument;
    wp_handle *handle = NULL;
    uint32_t accepted = 0;
    wp_job_progress(job, 0.25);
    for (int i = 0; i < 5; i++) {
        accepted += is_accepted((enum wp_result)wp_job_submit(job, WP_SAME_LANE, count_up, ran, NULL));
    }
    if (is_accepted((enum wp_result)wp_job_submit(job, WP_SAME_LANE, fail_with_text, NULL, &handle))) {
        CHECK_INT(wp_handle_wait(handle, WP_FOREVER), WP_OK);
        CHECK_INT(wp_handle_state(handle), WP_FAILED);
        CHECK_INT(wp_handle_status(handle), -1);
        CHECK(wp_handle_message(handle) != NULL);
        wp_handle_release(handle);
    }
    return (int)accepted;
}

static void
children(void)
{
    wp_word ran = 0;
    wp_handle *handle = NULL;
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    wp_pool *pool = is_made(token) ? pool_for(1, 2, WP_UNBOUNDED) : NULL;
    if (is_made(pool)) {
        wp_function_options options = WP_NO_OPTIONS;
        options.token = token;
        if (is_accepted(wp_handle_submit(pool, 1, &options, have_children, &ran, soon(), false, &handle))) {
            CHECK_INT(wp_handle_wait(handle, WP_FOREVER), WP_OK);
            CHECK_INT(drain(pool, soon()), WP_OK);
            CHECK_INT(wp_load_acquire(&ran), wp_handle_status(handle));
            wp_handle_release(handle);
        }
        end_recovered(pool);
    }
    wp_token_unref(token);
}
RUN_ALL(children)

/* ---- The attendant ---- */

static bool
attend(void *context)
{
    wp_add_acq_rel((wp_word *)context, 1);
    return false;
}

static void
attendant(void)
{
    wp_word attended = 0;
    wp_pool_config config = config_for(1, 1, 4);
    config.hooks.attend = attend;
    config.hooks.context = &attended;
    wp_pool *pool = wp_pool_new(&config);
    if (!is_made(pool)) {
        return;
    }
    const bool asked = wp_pool_ask_attendant(pool);
    CHECK(asked || may_lack(THREADS));
    if (asked) {
        UNTIL(wp_load_acquire(&attended) > 0);
    }
    end_recovered(pool);
}
RUN_ALL(attendant)

/* ---- Native functions ---- */

static double
scale(int32_t a, double b, float c, const char *d, int64_t e, uint8_t f)
{
    return a * b + (double)c + (double)*d + (double)e + f;
}

static void
prepare_call(bool force_libffi)
{
    static const char text[] = "double (int32_t, double, float, const char *, int64_t, uint8_t)";
    wp_signature *signature = NULL;
    wp_signature_error error;
    const int parsed = wp_signature_parse(text, &signature, &error);
    if (parsed != WP_SIG_OK) {
        CHECK_INT(parsed, WP_SIG_NOMEM);
        CHECK(may_lack(MEMORY) && signature == NULL);
        return;
    }
    wp_call call = {0};
    const int prepared = wp_call_prepare(&call, signature, force_libffi);
    if (prepared == WP_CALL_OK) {
        uint64_t slots[6] = {0};
        uint64_t result = 0;
        const double b = 1.5;
        const float c = 0.5f;
        const char d = 3;
        slots[0] = 2;
        memcpy(&slots[1], &b, sizeof b);
        memcpy(&slots[2], &c, sizeof c);
        slots[3] = (uint64_t)(uintptr_t)&d;
        slots[4] = 4;
        slots[5] = 5;
        wp_call_invoke(&call, (wp_fn)scale, slots, &result, 1);
        double value;
        memcpy(&value, &result, sizeof value);
        CHECK(value == 15.5);
        wp_loop loop;
        wp_loop_prepare(&loop, signature, &call, (wp_fn)scale, WP_LOOP_UNCHECKED);
    } else {
        CHECK(prepared == WP_CALL_UNSUPPORTED || (prepared == WP_CALL_NOMEM && may_lack(MEMORY)));
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

static void
native_call(void)
{
    prepare_call(false);
    prepare_call(true);
}
RUN_ALL(native_call)

/* ---- Inner threads ---- */

static void *
limit_inner_threads(void *unused)
{
    (void)unused;
    wp_inner_begin(2);
    wp_inner_renew();
    wp_inner_end();
    return NULL;
}

/* What there is no memory for is not limited, and nothing else happens. */
static void
inner_threads(void)
{
    join_thread(start_quietly(limit_inner_threads, NULL));
}

static void
test_inner_threads(void)
{
    is_spared = true;
    if (dlopen("libgomp.so.1", RTLD_NOW) == NULL) {
        printf("# there is no libgomp\n");
    }
    is_spared = false;
    run_all(inner_threads, "inner_threads");
}

int
main(void)
{
    check_time_limit(IS_SANITIZED ? 240 : 60);
    make_pools(); /* What is kept for the next pool, whenever that comes, is there from now on. */
    RUN(test_make_pools);
    RUN(test_make_one_pool_more);
    RUN(test_submit_jobs);
    RUN(test_hand_over_jobs);
    RUN(test_submit_together);
    RUN(test_submit_with_limits);
    RUN(test_limits_hold);
    RUN(test_run_on_submitter);
    RUN(test_resize);
    RUN(test_long_jobs);
    RUN(test_retire);
    RUN(test_drain_cancel_and_close);
    RUN(test_forget_pool);
    RUN(test_break_pool);
    RUN(test_results);
    RUN(test_stage);
    RUN(test_stage_that_is_cancelled);
    RUN(test_ranges);
    RUN(test_parallel_ranges);
    RUN(test_children);
    RUN(test_attendant);
    RUN(test_native_call);
    RUN(test_inner_threads);
    return check_done();
}

#endif
