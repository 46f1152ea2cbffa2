/* Forks: a child can use every pool of its parent afresh, whatever state that was in, and knows which jobs it lost; the
 * parent notices nothing. Each child ends itself, with the number of checks that failed in it.
 */
#include "fixture.h"

#include "wp_handle.h"
#include "wp_parallel.h"
#include "wp_stage.h"

#include <sys/wait.h>

/* ThreadSanitizer starts no threads in the forked child of a process that had some, and AddressSanitizer's malloc cannot
 * be used in a child that was forked while another thread was in it. Everything else is checked with them too. */
#if defined(__SANITIZE_THREAD__)
#define NO_THREADS_IN_CHILD 1
#elif defined(__SANITIZE_ADDRESS__)
#define NO_FORK_AT_ANY_MOMENT 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NO_THREADS_IN_CHILD 1
#elif __has_feature(address_sanitizer)
#define NO_FORK_AT_ANY_MOMENT 1
#endif
#endif
#ifndef NO_THREADS_IN_CHILD
#define NO_THREADS_IN_CHILD 0
#endif
#ifndef NO_FORK_AT_ANY_MOMENT
#define NO_FORK_AT_ANY_MOMENT 0
#endif

typedef void in_child(void *context);

/* What a child does first. Side threads block the signal that ends it if it hangs. */
static void
begin_child(void)
{
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    (void)alarm(20);
    atomic_store(&check_failures, 0);
}

static void
exit_child(void)
{
    (void)fflush(stdout);
    _exit(atomic_load(&check_failures));
}

/* Forks, runs the function in the child, and checks that all went well there. */
static void
fork_and_run(in_child *function, void *context)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        begin_child();
        function(context);
        exit_child();
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0) {
    }
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
}

static void
use_pool(wp_pool *pool)
{
    if (NO_THREADS_IN_CHILD) {
        return;
    }
    wp_word count = 0;
    for (int i = 0; i < 100; i++) {
        post(pool, 0, count_up, &count);
    }
    CHECK_INT(drain(pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&count), 100);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    wait_at_rest(pool);
    check_sums(pool);
}

/* ---- In each state ---- */

static void
use_and_end(void *context)
{
    wp_pool *pool = context;
    CHECK_INT(stats_of(pool).workers, 0);
    CHECK_INT(stats_of(pool).unfinished, 0);
    CHECK_INT(drain(pool, 0), WP_OK);
    use_pool(pool);
    end_pool(pool);
}

static void
test_before_use(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    fork_and_run(use_and_end, pool);
    use_pool(pool);
    end_pool(pool);
}

static void
test_at_rest(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    use_pool(pool);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE);
    wait_at_rest(pool);
    uint64_t submitted = stats_of(pool).lanes[0].submitted;
    fork_and_run(use_and_end, pool);
    CHECK_INT(stats_of(pool).lanes[0].submitted, submitted);
    use_pool(pool);
    end_pool(pool);
}

static void
check_closed(void *context)
{
    wp_pool *pool = context;
    wp_job *job = wp_function_job(do_nothing, NULL, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_CLOSED);
    wp_job_unref(job);
    end_pool(pool);
}

static void
test_closed(void)
{
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    use_pool(pool);
    wp_pool_close(pool);
    fork_and_run(check_closed, pool);
    end_pool(pool);
}

/* ---- Jobs of before ---- */

typedef struct busy {
    wp_pool *pool;
    wp_token *token;
    gate g;
    wp_job *running;
    wp_job *waiting[6];
} busy;

static wp_job *
job_with(wp_token *token, uint64_t queue_timeout, uint64_t run_timeout)
{
    wp_function_options options = WP_NO_OPTIONS;
    options.token = token;
    options.queue_timeout = queue_timeout;
    options.run_timeout = run_timeout;
    return wp_function_job(do_nothing, NULL, &options);
}

static void
check_jobs_are_lost(void *context)
{
    busy *b = context;
    CHECK(wp_job_is_lost(b->running));
    CHECK_INT(wp_job_wait(b->running, 0), WP_WAIT_TIMED_OUT);
    for (int i = 0; i < 6; i++) {
        CHECK(wp_job_is_lost(b->waiting[i]));
        CHECK(!wp_job_run_here(b->waiting[i]));
    }
    CHECK_INT(stats_of(b->pool).lanes[0].waiting, 0);
    CHECK_INT(stats_of(b->pool).lanes[0].submitted, 0);
    use_pool(b->pool);
    /* Whoever does not know, or cancels a token of theirs, does no harm. */
    CHECK(wp_job_cancel(b->waiting[0]));
    CHECK(wp_job_is_settled(b->waiting[0]));
    wp_token_cancel(b->token);
    CHECK(wp_job_is_lost(b->waiting[3]));
    wp_job_stop(b->running);
    CHECK_INT(wp_pool_cancel_waiting(b->pool), 0);
    for (int i = 0; i < 6; i++) {
        wp_job_unref(b->waiting[i]);
    }
    use_pool(b->pool);
    end_pool(b->pool);
}

static void
check_break(void *context)
{
    busy *b = context;
    wp_pool_break(b->pool);
    CHECK(wp_job_is_lost(b->waiting[0]));
    end_pool(b->pool);
}

/* One job runs, others wait, with limits and a token. */
static void
test_in_use(void)
{
    busy b = {.pool = pool_for(1, 1, WP_UNBOUNDED), .token = wp_token_new(NULL, WP_FOREVER)};
    b.running = submit(b.pool, 0, stand_at_gate, &b.g);
    event_wait(&b.g.begun, 1);
    for (int i = 0; i < 6; i++) {
        b.waiting[i] =
            job_with(i >= 3 ? b.token : NULL, i % 2 ? 100000 * MS : WP_FOREVER, i % 3 == 0 ? WP_FOREVER : 100000 * MS);
        CHECK_INT(wp_pool_submit(b.pool, 0, b.waiting[i], false), WP_OK);
    }
    fork_and_run(check_jobs_are_lost, &b);
    fork_and_run(check_break, &b);
    for (int i = 0; i < 6; i++) {
        CHECK(!wp_job_is_lost(b.waiting[i]));
        CHECK_INT(wp_job_state(b.waiting[i]), WP_PENDING);
    }
    event_set(&b.g.open);
    CHECK_INT(finish(b.running), WP_DONE);
    for (int i = 0; i < 6; i++) {
        CHECK_INT(finish(b.waiting[i]), WP_DONE);
    }
    wp_token_unref(b.token);
    end_pool(b.pool);
}

/* ---- Limits in the child ---- */

static void
use_limits(void *context)
{
    wp_pool *pool = context;
    if (!NO_THREADS_IN_CHILD) {
        gate g = {0};
        wp_job *first = submit(pool, 0, stand_at_gate, &g);
        event_wait(&g.begun, 1);
        wp_job *job = job_with(NULL, MS, WP_FOREVER);
        CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
        CHECK_INT(finish(job), WP_EXPIRED);
        event_set(&g.open);
        CHECK_INT(finish(first), WP_DONE);
    }
    end_pool(pool);
}

/* The keeper of the parent is not there; another is started. */
static void
test_keeper(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    wp_job *job = job_with(NULL, 100000 * MS, 100000 * MS);
    CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
    CHECK_INT(finish(job), WP_DONE);
    fork_and_run(use_limits, pool);
    end_pool(pool);
}

/* ---- At any moment ---- */

typedef struct churn {
    wp_pool *pool;
    wp_word stop;
} churn;

static void *
churn_main(void *argument)
{
    churn *c = argument;
    wp_word count = 0;
    uint64_t seed = 3;
    while (!wp_load_acquire(&c->stop)) {
        wp_job *job = job_with(NULL, check_rand(&seed) % 3 ? WP_FOREVER : 1000 * MS, WP_FOREVER);
        if (wp_pool_submit(c->pool, 0, job, false) == WP_OK && check_rand(&seed) % 4 == 0) {
            wp_job_cancel(job);
        }
        wp_job_unref(job);
        post(c->pool, 0, count_up, &count);
        if (check_rand(&seed) % 64 == 0) {
            drain(c->pool, soon());
        }
    }
    drain(c->pool, soon());
    return NULL;
}

static void
use_only(void *context)
{
    use_pool(context);
    end_pool(context);
}

/* The fork comes in the middle of whatever the others do: locks are held, workers on their way, jobs half queued. */
static void
test_at_any_moment(void)
{
    churn c = {.pool = pool_for(2, 1, WP_UNBOUNDED)};
    pthread_t threads[2] = {start_thread(churn_main, &c), start_thread(churn_main, &c)};
    const int forks = NO_FORK_AT_ANY_MOMENT ? 0 : IS_SANITIZED ? 10 : 50;
    for (int i = 0; i < forks; i++) {
        fork_and_run(use_only, c.pool);
    }
    wp_store_release(&c.stop, 1);
    join_thread(threads[0]);
    join_thread(threads[1]);
    end_pool(c.pool);
}

/* ---- Forks by a worker ---- */

typedef struct forker {
    wp_pool *pool;
    wp_word after; /* Jobs that ran after the one that forked. */
    int status;
    bool returns;
} forker;

static void
use_from_job(void *context)
{
    use_pool(((forker *)context)->pool);
}

static int
fork_in_job(wp_job *job, void *argument)
{
    (void)job;
    fork_and_run(use_from_job, argument);
    return 0;
}

static void
test_by_a_job(void)
{
    forker f = {.pool = pool_for(2, 1, WP_UNBOUNDED)};
    CHECK_INT(finish(submit(f.pool, 0, fork_in_job, &f)), WP_DONE);
    use_pool(f.pool);
    end_pool(f.pool);
}

/* In the child the job returns: then that thread, the only one, ends, and the process with it. It does not go on with
 * jobs of the parent's. */
static void
exit_quietly(void)
{
    _exit(0); /* Before the sanitizers, which would tell of all that the child cannot free. */
}

static int
fork_and_return(wp_job *job, void *argument)
{
    forker *f = argument;
    (void)job;
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        begin_child();
        (void)atexit(exit_quietly);
        return 0;
    }
    while (waitpid(child, &f->status, 0) < 0) {
    }
    return 0;
}

static int
count_after(wp_job *job, void *argument)
{
    forker *f = argument;
    (void)job;
    wp_add_acq_rel(&f->after, 1);
    return 0;
}

static void
test_job_returns_in_child(void)
{
    if (NO_THREADS_IN_CHILD) {
        return; /* Nor may the thread end that is the child's only one. */
    }
    forker f = {.pool = pool_for(1, 1, WP_UNBOUNDED), .status = -1};
    gate g = {0};
    wp_job *first = submit(f.pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_job *job = submit(f.pool, 0, fork_and_return, &f);
    for (int i = 0; i < 10; i++) {
        post(f.pool, 0, count_after, &f);
    }
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(job), WP_DONE);
    CHECK(WIFEXITED(f.status));
    CHECK_INT(WEXITSTATUS(f.status), 0);
    CHECK_INT(drain(f.pool, soon()), WP_OK);
    CHECK_INT(wp_load_acquire(&f.after), 10);
    end_pool(f.pool);
}

/* ---- Forks by who waits ---- */

static bool is_child;

static int
fork_here(wp_job *job, void *argument)
{
    (void)job;
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        begin_child();
        is_child = true;
    }
    *(pid_t *)argument = child;
    return 0;
}

static void
check_child(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0) {
    }
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
}

/* The thread that runs a job of its own while it waits goes on in the child. What it did there is no job of the child's
 * pool. */
static void
test_by_a_waiter(void)
{
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    pid_t child = -1;
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_job *job = submit(pool, 0, fork_here, &child);
    CHECK(wp_job_run_here(job));
    CHECK(wp_job_is_settled(job));
    if (is_child) {
        use_only(pool);
        exit_child();
    }
    check_child(child);
    wp_job_unref(job);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

typedef struct forking_range {
    wp_range range;
    pid_t child;
} forking_range;

static uint32_t
fork_in_unit(wp_job *job, wp_stretch *units, wp_worker *self)
{
    uint32_t at;
    uint32_t end;
    uint32_t done = 0;
    (void)self;
    for (; wp_stretch_take(units, 1, &at, &end); done++) {
        if (at == 1) {
            fork_here(job, &((forking_range *)(void *)job)->child);
        }
    }
    return done;
}

static void
destroy_range(wp_job *job)
{
    wp_group_unref(((wp_range *)(void *)job)->group);
    free(job);
}

static void
test_by_a_helper(void)
{
    static const wp_job_class class = {.name = "forks",
                                       .run_range = fork_in_unit,
                                       .notify = wp_job_settle,
                                       .destroy = destroy_range,
                                       .claim_ns = 1000};
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_group *group = wp_group_new(NULL, 10, true);
    forking_range *f = calloc(1, sizeof *f);
    wp_range_init(&f->range, &class, 10, group, NULL);
    CHECK_INT(wp_pool_submit(pool, 0, &f->range.job, false), WP_OK);
    CHECK_INT(wp_range_run_here(&f->range, 10), 10);
    CHECK(wp_job_is_settled(&f->range.job));
    if (is_child) {
        use_only(pool);
        exit_child();
    }
    check_child(f->child);
    wp_job_unref(&f->range.job);
    wp_group_unref(group);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

/* A worker that is a guest in another lane forks there. */
static int
fork_as_guest(wp_job *job, void *argument)
{
    forker *f = argument;
    pid_t child = -1;
    (void)job;
    wp_job *other = submit(f->pool, 1, fork_here, &child);
    CHECK(wp_job_run_here(other));
    wp_job_unref(other);
    if (is_child) {
        if (!NO_THREADS_IN_CHILD) {
            CHECK_INT(finish(submit(f->pool, 1, do_nothing, NULL)), WP_DONE);
        }
        exit_child();
    }
    check_child(child);
    return 0;
}

static void
test_by_a_guest(void)
{
    wp_pool_config config = config_for(1, 2, WP_UNBOUNDED);
    config.lanes[1].max_running = 1;
    forker f = {.pool = wp_pool_new(&config)};
    CHECK_INT(finish(submit(f.pool, 0, fork_as_guest, &f)), WP_DONE);
    end_pool(f.pool);
}

/* ---- What C code holds ---- */

/* A piece of a parallel range forks: in the child the range ends there, and its body is not called again. */
typedef struct forking_pieces {
    pid_t child;
    wp_word calls;
} forking_pieces;

static int
fork_in_piece(size_t begin, size_t end, void *context)
{
    forking_pieces *f = context;
    (void)end;
    CHECK(!is_child);
    if (begin == 500) {
        fork_here(NULL, &f->child);
    }
    wp_add_acq_rel(&f->calls, 1);
    return 0;
}

static void
test_by_a_piece(void)
{
    if (NO_THREADS_IN_CHILD) {
        return; /* The child may call for help before it finds out. */
    }
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g); /* So that the caller does it all. */
    event_wait(&g.begun, 1);
    forking_pieces f = {.child = -1};
    enum wp_result result = wp_parallel(pool, 0, NULL, 1000, 1, fork_in_piece, &f, NULL);
    if (is_child) {
        CHECK_INT(result, WP_BROKEN);
        CHECK_INT(wp_load_acquire(&f.calls), 501);
        use_only(pool);
        exit_child();
    }
    CHECK_INT(result, WP_OK);
    CHECK_INT(wp_load_acquire(&f.calls), 1000);
    check_child(f.child);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    end_pool(pool);
}

/* Handles of the parent's jobs are lost in the child; those of jobs that had ended are not. */
typedef struct two_handles {
    wp_pool *pool;
    wp_handle *ended;
    wp_handle *running;
} two_handles;

static void
ask_handles(void *context)
{
    const two_handles *h = context;
    CHECK_INT(wp_handle_wait(h->ended, WP_NEVER), WP_OK);
    CHECK_INT(wp_handle_state(h->ended), WP_DONE);
    CHECK_INT(wp_handle_wait(h->running, WP_NEVER), WP_BROKEN);
    CHECK_INT(wp_handle_state(h->running), WP_LOST);
    CHECK_INT(wp_handle_stop(h->running), 0);
    wp_handle_release(h->ended);
    wp_handle_release(h->running);
    use_pool(h->pool);
}

static void
test_handles(void)
{
    two_handles h = {.pool = pool_for(1, 1, WP_UNBOUNDED)};
    gate g = {0};
    CHECK_INT(wp_handle_submit(h.pool, 0, NULL, do_nothing, NULL, WP_NEVER, false, &h.ended), WP_OK);
    while (wp_handle_wait(h.ended, WP_NEVER) == WP_INTERRUPTED) {
    }
    CHECK_INT(wp_handle_submit(h.pool, 0, NULL, stand_at_gate, &g, WP_NEVER, false, &h.running), WP_OK);
    event_wait(&g.begun, 1);
    fork_and_run(ask_handles, &h);
    event_set(&g.open);
    while (wp_handle_wait(h.running, WP_NEVER) == WP_INTERRUPTED) {
    }
    CHECK_INT(wp_handle_state(h.running), WP_DONE);
    wp_handle_release(h.ended);
    wp_handle_release(h.running);
    end_pool(h.pool);
}

/* ---- Stages ---- */

typedef struct staged {
    wp_pool *pool;
    wp_stage *stage;
    gate g;
    wp_word stop;
} staged;

static enum wp_result
stage_get(wp_stage *stage, wp_stage_result *result)
{
    enum wp_result got;
    do {
        got = wp_stage_get(stage, soon(), result);
    } while (got == WP_INTERRUPTED);
    return got;
}

/* In the child a stage of before takes nothing, gives what was there, says that the rest is lost, and lets go of
 * everybody. */
static void
use_stage_of_parent(staged *s, int results)
{
    wp_stage_result result;
    enum wp_result got;
    int n = 0;
    CHECK_INT(wp_stage_put(s->stage, NULL, soon()), WP_CLOSED);
    while ((got = stage_get(s->stage, &result)) == WP_OK) {
        n++;
    }
    CHECK(got == WP_BROKEN || (got == WP_FINISHED && results < 0));
    CHECK(results < 0 || n == results);
    wp_stage_cancel(s->stage);
    wp_stage_close(s->stage);
    got = stage_get(s->stage, &result);
    CHECK(got == WP_BROKEN || (got == WP_FINISHED && results < 0));
    use_pool(s->pool);
    wp_stage_unref(s->stage);
    use_pool(s->pool);
}

static int
stand_if_told(wp_job *job, void *argument)
{
    return argument != NULL ? stand_at_gate(job, argument) : 0;
}

static void
use_staged(void *context)
{
    use_stage_of_parent(context, 3);
}

static void
test_stage(void)
{
    staged s = {.pool = pool_for(1, 1, WP_UNBOUNDED)};
    wp_stage_result result;
    s.stage = wp_stage_new(s.pool, 0, stand_if_told, 20);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(wp_stage_put(s.stage, i == 3 ? &s.g : NULL, soon()), WP_OK);
    }
    event_wait(&s.g.begun, 1);
    fork_and_run(use_staged, &s);
    event_set(&s.g.open);
    wp_stage_close(s.stage);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(stage_get(s.stage, &result), WP_OK);
    }
    CHECK_INT(stage_get(s.stage, &result), WP_FINISHED);
    wp_stage_unref(s.stage);
    end_pool(s.pool);
}

static void *
stream_main(void *argument)
{
    staged *s = argument;
    while (!wp_load_acquire(&s->stop)) {
        enum wp_result put = wp_stage_put(s->stage, NULL, soon());
        CHECK(put == WP_OK || put == WP_INTERRUPTED);
    }
    wp_stage_close(s->stage);
    return NULL;
}

static void *
stage_reader_main(void *argument)
{
    staged *s = argument;
    wp_stage_result result;
    while (stage_get(s->stage, &result) == WP_OK) {
    }
    return NULL;
}

static void
use_stream(void *context)
{
    use_stage_of_parent(context, -1);
}

static void
test_stage_at_any_moment(void)
{
    staged s = {.pool = pool_for(2, 1, WP_UNBOUNDED)};
    s.stage = wp_stage_new(s.pool, 0, stand_if_told, 30);
    pthread_t threads[2] = {start_thread(stream_main, &s), start_thread(stage_reader_main, &s)};
    const int forks = NO_FORK_AT_ANY_MOMENT ? 0 : IS_SANITIZED ? 10 : 50;
    for (int i = 0; i < forks; i++) {
        fork_and_run(use_stream, &s);
        wp_stage_cancel(s.stage);
    }
    wp_store_release(&s.stop, 1);
    join_thread(threads[0]);
    join_thread(threads[1]);
    wp_stage_unref(s.stage);
    end_pool(s.pool);
}

/* A job of a stage forks and goes on in the child, on a worker or on the reader that helps. */
static int
fork_in_stage(wp_job *job, void *argument)
{
    pid_t child = -1;
    if (argument == NULL) {
        return 0;
    }
    fork_here(job, &child);
    if (is_child) {
        (void)atexit(exit_quietly);
    } else {
        check_child(child);
    }
    return 7;
}

static int
sleep_a_little(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    usleep(2000);
    return 0;
}

static void
read_with_fork(wp_pool *pool, wp_stage *stage)
{
    wp_stage_result result;
    int n = 0;
    for (int i = 0; i < 8; i++) {
        CHECK_INT(wp_stage_put(stage, i == 3 ? &result : NULL, soon()), WP_OK);
    }
    wp_stage_close(stage);
    while (stage_get(stage, &result) == WP_OK) {
        n++;
    }
    if (is_child) {
        CHECK(n >= 1); /* Of the job that forked, at least. */
        use_only(pool);
        exit_child();
    }
    CHECK_INT(n, 8);
    wp_stage_unref(stage);
    end_pool(pool);
}

static void
test_by_a_job_of_a_stage(void)
{
    if (NO_THREADS_IN_CHILD) {
        return; /* Nor may the thread end that is the child's only one. */
    }
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    read_with_fork(pool, wp_stage_new(pool, 0, fork_in_stage, 20));
}

/* The reader helps, since it knows that jobs are short and the worker is elsewhere. */
static void
test_by_a_reader(void)
{
    wp_stage_result result;
    wp_pool *pool = pool_for(1, 1, WP_UNBOUNDED);
    wp_stage *stage = wp_stage_new(pool, 0, fork_in_stage, 400);
    for (int i = 0; i < 300; i++) {
        CHECK_INT(wp_stage_put(stage, NULL, soon()), WP_OK);
    }
    for (int i = 0; i < 300; i++) {
        CHECK_INT(stage_get(stage, &result), WP_OK);
    }
    wp_job *elsewhere = submit(pool, 0, sleep_a_little, NULL);
    read_with_fork(pool, stage);
    wp_job_unref(elsewhere);
}

/* ---- The host ---- */

static void
on_forked(void *context)
{
    wp_add_acq_rel((wp_word *)context, 1);
}

static void
check_told(void *context)
{
    CHECK_INT(wp_load_acquire((wp_word *)context), 1);
}

static void
test_host_is_told(void)
{
    wp_word told = 0;
    wp_pool_config config = config_for(1, 1, 10);
    config.hooks = (wp_hooks){.forked = on_forked, .context = &told};
    wp_pool *pool = wp_pool_new(&config);
    fork_and_run(check_told, &told);
    CHECK_INT(wp_load_acquire(&told), 0);
    end_pool(pool);
}

/* ---- Tokens ---- */

typedef struct held_tree {
    wp_watch watch;
    wp_token *token;
    wp_token *child;
    event held;
    event go_on;
} held_tree;

/* With the tree's lock held. */
static void
hold_tree(wp_watch *watch)
{
    held_tree *h = (held_tree *)(void *)watch;
    event_set(&h->held);
    event_wait(&h->go_on, 1);
}

static void *
cancel_tree(void *argument)
{
    const held_tree *h = argument;
    wp_token_cancel(h->token);
    return NULL;
}

static void
use_tree(void *context)
{
    held_tree *h = context;
    wp_watch_stop(&h->watch, h->token); /* Of before: nothing is done. */
    wp_word woken = 0;
    wp_watch watch = {.wake = &woken};
    wp_token *child = wp_token_new(NULL, WP_FOREVER);
    CHECK(wp_watch_start(&watch, child));
    CHECK(wp_token_cancel(child));
    CHECK_INT(wp_load_acquire(&woken), 1);
    wp_token_unref(child);
    CHECK(wp_token_is_cancelled(h->token));
    wp_token_unref(h->child);
    CHECK(!wp_token_cancel(h->token));
    wp_token *late = wp_token_new(h->token, WP_FOREVER);
    CHECK(wp_token_is_cancelled(late));
    wp_token_unref(late);
    wp_token_unref(h->token);
}

/* Another thread is at a tree of tokens while this one forks. */
static void
test_tree_of_tokens_in_use(void)
{
    held_tree h = {.watch = {.hear = hold_tree}, .token = wp_token_new(NULL, WP_FOREVER)};
    h.child = wp_token_new(h.token, WP_FOREVER);
    CHECK(wp_watch_start(&h.watch, h.token));
    pthread_t thread = start_thread(cancel_tree, &h);
    event_wait(&h.held, 1);
    fork_and_run(use_tree, &h);
    event_set(&h.go_on);
    join_thread(thread);
    wp_token_unref(h.child);
    wp_token_unref(h.token);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_before_use);
    RUN(test_at_rest);
    RUN(test_closed);
    RUN(test_in_use);
    RUN(test_keeper);
    RUN(test_at_any_moment);
    RUN(test_by_a_job);
    RUN(test_job_returns_in_child);
    RUN(test_by_a_waiter);
    RUN(test_by_a_helper);
    RUN(test_by_a_guest);
    RUN(test_by_a_piece);
    RUN(test_handles);
    RUN(test_stage);
    RUN(test_stage_at_any_moment);
    RUN(test_by_a_job_of_a_stage);
    RUN(test_by_a_reader);
    RUN(test_host_is_told);
    RUN(test_tree_of_tokens_in_use);
    return check_done();
}
