/* Signals without end: every wait of every thread is interrupted again and again, by a handler that does not have system
 * calls restarted. Waits say so and are called again; limits hold, neither early nor much too late; nothing is lost.
 *
 * DESIGN. A thread sends SIGUSR1 to each of the others that take part every 100 us, and to the process. Workers take part
 * while they run jobs, and get some of the process's signals while they wait for more.
 */
#include "fixture.h"

#include "wp_results.h"
#include "wp_stage.h"
#include "wp_token.h"

enum { MOST_TARGETS = 16, MOST_JOBS = 400 };

static pthread_mutex_t targets_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t targets[MOST_TARGETS]; /* Mutex. */
static int n_targets;                   /* Mutex. */
static atomic_int handled;
static atomic_bool storming;

static void
on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void
expose_this_thread(void)
{
    pthread_mutex_lock(&targets_mutex);
    targets[n_targets++] = pthread_self();
    pthread_mutex_unlock(&targets_mutex);
}

static void
shelter_this_thread(void)
{
    pthread_mutex_lock(&targets_mutex);
    for (int i = 0; i < n_targets; i++) {
        if (pthread_equal(targets[i], pthread_self())) {
            targets[i] = targets[--n_targets];
            break;
        }
    }
    pthread_mutex_unlock(&targets_mutex);
}

static void *
storm(void *unused)
{
    (void)unused;
    while (atomic_load(&storming)) {
        pthread_mutex_lock(&targets_mutex);
        for (int i = 0; i < n_targets; i++) {
            pthread_kill(targets[i], SIGUSR1);
        }
        pthread_mutex_unlock(&targets_mutex);
        kill(getpid(), SIGUSR1);
        usleep(100);
    }
    return NULL;
}

static pthread_t
begin_storm(void)
{
    sigset_t set;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    atomic_store(&storming, true);
    expose_this_thread();
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* Inherited by the thread of the storm, which has none. */
    pthread_t thread = start_thread(storm, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return thread;
}

static void
end_storm(pthread_t thread)
{
    atomic_store(&storming, false);
    join_thread(thread);
    shelter_this_thread();
    CHECK(atomic_exchange(&handled, 0) > 0);
}

static int
take_a_moment(wp_job *job, void *argument)
{
    (void)job;
    expose_this_thread();
    usleep(100);
    shelter_this_thread();
    wp_add_acq_rel((wp_word *)argument, 1);
    return 0;
}

/* ---- Waits without a limit ---- */

typedef struct storm_submitter {
    wp_pool *pool;
    wp_word *ran;
    pthread_t thread;
} storm_submitter;

static void *
submit_in_storm(void *argument)
{
    const storm_submitter *s = argument;
    expose_this_thread();
    for (int i = 0; i < MOST_JOBS; i++) {
        wp_job *job = wp_function_job(take_a_moment, s->ran, NULL);
        CHECK_INT(submit_wait(s->pool, 0, job, WP_FOREVER), WP_OK);
        wp_job_unref(job);
    }
    shelter_this_thread();
    return NULL;
}

static void
test_blocked_submitters_drain_and_join(void)
{
    enum { SUBMITTERS = 3 };
    wp_word ran = 0;
    wp_pool *pool = pool_for(2, 1, 2);
    storm_submitter submitters[SUBMITTERS];
    pthread_t thread = begin_storm();
    for (int i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (storm_submitter){.pool = pool, .ran = &ran};
        submitters[i].thread = start_thread(submit_in_storm, &submitters[i]);
    }
    for (int i = 0; i < SUBMITTERS; i++) {
        join_thread(submitters[i].thread);
    }
    CHECK_INT(drain(pool, WP_FOREVER), WP_OK);
    CHECK_INT(wp_load_acquire(&ran), SUBMITTERS * MOST_JOBS);
    end_pool(pool);
    end_storm(thread);
}

/* ---- Results and stages ---- */

typedef struct storm_reader {
    wp_results *results;
    wp_stage *stage;
    uint32_t seen[MOST_JOBS];
    uint32_t n;
} storm_reader;

static void *
read_results_in_storm(void *argument)
{
    storm_reader *r = argument;
    wp_job *job;
    enum wp_result result;
    expose_this_thread();
    while ((result = wp_results_next(r->results, WP_FOREVER, &job)) != WP_FINISHED) {
        if (result == WP_OK) {
            r->seen[job->extra->index]++;
            r->n++;
            wp_job_unref(job);
        } else {
            CHECK_INT(result, WP_INTERRUPTED);
        }
    }
    shelter_this_thread();
    return NULL;
}

static void
test_results(void)
{
    wp_word ran = 0;
    storm_reader r = {.results = wp_results_new(3)};
    wp_pool *pool = pool_for(2, 1, 2);
    pthread_t thread = begin_storm();
    pthread_t reading = start_thread(read_results_in_storm, &r);
    for (int i = 0; i < MOST_JOBS; i++) {
        enum wp_result result;
        do {
            result = wp_function_submit(pool, 0, r.results, take_a_moment, &ran, WP_FOREVER);
        } while (result == WP_INTERRUPTED);
        CHECK_INT(result, WP_OK);
    }
    wp_results_close(r.results);
    join_thread(reading);
    CHECK_INT(r.n, MOST_JOBS);
    for (int i = 0; i < MOST_JOBS; i++) {
        CHECK_INT(r.seen[i], 1);
    }
    wp_results_unref(r.results);
    end_pool(pool);
    end_storm(thread);
}

static void *
read_stage_in_storm(void *argument)
{
    storm_reader *r = argument;
    wp_stage_result read;
    enum wp_result result;
    expose_this_thread();
    while ((result = wp_stage_get(r->stage, WP_FOREVER, &read)) != WP_FINISHED) {
        if (result == WP_OK) {
            CHECK(!read.given_up);
            r->n++;
        } else {
            CHECK_INT(result, WP_INTERRUPTED);
        }
    }
    shelter_this_thread();
    return NULL;
}

static void
test_stage(void)
{
    wp_word ran = 0;
    wp_pool *pool = pool_for(2, 1, WP_UNBOUNDED);
    storm_reader r = {.stage = wp_stage_new(pool, 0, take_a_moment, 4)};
    pthread_t thread = begin_storm();
    pthread_t reading = start_thread(read_stage_in_storm, &r);
    for (int i = 0; i < MOST_JOBS; i++) {
        enum wp_result result;
        do {
            result = wp_stage_put(r.stage, &ran, WP_FOREVER);
        } while (result == WP_INTERRUPTED);
        CHECK_INT(result, WP_OK);
    }
    wp_stage_close(r.stage);
    join_thread(reading);
    CHECK_INT(r.n, MOST_JOBS);
    CHECK_INT(wp_load_acquire(&ran), MOST_JOBS);
    wp_stage_unref(r.stage);
    end_pool(pool);
    end_storm(thread);
}

/* ---- Limits ---- */

/* Not before its time. How much later depends on the machine; a limit that began anew with each interruption would never
 * end in a storm, and the program's own limit would end it. */
static void
check_limit(uint64_t deadline, enum wp_result result)
{
    CHECK_INT(result, WP_LATE);
    CHECK(wp_clock() >= deadline);
}

static void
test_limits(void)
{
    gate g = {0};
    event begun = {0};
    wp_pool *pool = pool_for(2, 1, 1);
    wp_token *token = wp_token_new(NULL, WP_FOREVER);
    wp_results *results = wp_results_new(1);
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    pthread_t thread = begin_storm();

    const wp_function_options limit_of_run = {.queue_timeout = WP_FOREVER, .run_timeout = 30 * MS};
    wp_job *running = wp_function_job(run_until_stopped, &begun, &limit_of_run);
    const uint64_t run_begin = wp_clock();
    CHECK_INT(submit_wait(pool, 0, running, WP_FOREVER), WP_OK);
    CHECK_INT(finish(running), WP_TIMED_OUT);
    CHECK(wp_clock() - run_begin >= 30 * MS);

    wp_job *second = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 2);
    wp_job *waiting = submit(pool, 0, do_nothing, NULL);
    uint64_t deadline = wp_clock() + 30 * MS;
    wp_job *late = wp_function_job(do_nothing, NULL, NULL);
    check_limit(deadline, submit_wait(pool, 0, late, deadline));
    wp_job_unref(late);
    deadline = wp_clock() + 30 * MS;
    check_limit(deadline, wait_room(pool, 0, token, deadline));
    deadline = wp_clock() + 30 * MS;
    check_limit(deadline, drain(pool, deadline));
    wp_job *none;
    enum wp_result got;
    deadline = wp_clock() + 30 * MS;
    while ((got = wp_results_next(results, deadline, &none)) == WP_INTERRUPTED) {
    }
    check_limit(deadline, got);
    enum wp_wait_result waited;
    deadline = wp_clock() + 30 * MS;
    while ((waited = wp_job_wait(waiting, deadline)) == WP_WAIT_INTERRUPTED) {
    }
    CHECK_INT(waited, WP_WAIT_TIMED_OUT);
    CHECK(wp_clock() >= deadline);

    end_storm(thread);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(second), WP_DONE);
    CHECK_INT(finish(waiting), WP_DONE);
    wp_results_unref(results);
    wp_token_unref(token);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(60);
    RUN(test_blocked_submitters_drain_and_join);
    RUN(test_results);
    RUN(test_stage);
    RUN(test_limits);
    return check_done();
}
