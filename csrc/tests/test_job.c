/* A job's word: one winner takes it out of PENDING, it ends in one outcome, that outcome is visible to whoever waits and
 * to nobody before its time, and the last reference destroys it.
 */
#include "fixture.h"

typedef struct probe {
    wp_job job;
    event notified;
    event destroyed; /* Where the job lies on the stack. */
} probe;

static void
on_notify(wp_job *job)
{
    event_set(&((probe *)(void *)job)->notified);
}

static void
on_destroy(wp_job *job)
{
    event_set(&((probe *)(void *)job)->destroyed);
}

static const wp_job_class probe_class = {.name = "probe", .notify = on_notify, .destroy = on_destroy};

static void
probe_init(probe *p, wp_state state)
{
    *p = (probe){0};
    wp_job_init(&p->job, &probe_class, 0, NULL);
    wp_or_acq_rel(&p->job.word, (uint32_t)state << WP_JOB_STATE_SHIFT);
}

static void
test_init(void)
{
    probe p;
    probe_init(&p, WP_NEW);
    CHECK_INT(wp_job_state(&p.job), WP_NEW);
    CHECK(!wp_job_is_settled(&p.job));
    CHECK(!wp_job_should_stop(&p.job));
    CHECK_INT(wp_job_worker(&p.job), WP_NO_WORKER);
    CHECK(wp_job_deadline(&p.job) == UINT64_MAX);
    CHECK(p.job.ticket == WP_NO_TICKET);
    CHECK(!wp_job_is_lost(&p.job));
    CHECK_INT(wp_job_should_stop(NULL), 0);
    CHECK_INT(wp_job_worker(NULL), WP_NO_WORKER);
    CHECK(wp_job_deadline(NULL) == UINT64_MAX);
}

static void
test_references(void)
{
    probe p;
    probe_init(&p, WP_NEW);
    wp_job_ref(&p.job);
    wp_job_unref(&p.job);
    CHECK_INT(wp_load_relaxed(&p.destroyed.count), 0);
    wp_job_unref(&p.job);
    CHECK_INT(wp_load_relaxed(&p.destroyed.count), 1);
}

/* Each transition from each state. */
static void
test_transitions(void)
{
    for (int state = WP_NEW; state < WP_STATES; state++) {
        probe p;
        probe_init(&p, (wp_state)state);
        CHECK_INT(wp_job_take(&p.job, WP_EXPIRED), state == WP_PENDING);
        CHECK_INT(wp_job_state(&p.job), state == WP_PENDING ? WP_EXPIRED : state);
        probe_init(&p, (wp_state)state);
        CHECK_INT(wp_job_ask_to_stop(&p.job), state == WP_RUNNING);
        CHECK_INT(wp_job_should_stop(&p.job), state == WP_RUNNING);
        CHECK_INT(wp_job_state(&p.job), state);
        CHECK(!wp_job_is_settled(&p.job));
    }
}

static void
test_flags_outlive_the_state(void)
{
    probe p;
    probe_init(&p, WP_PENDING);
    CHECK(wp_job_ask_for_notice(&p.job));
    CHECK(wp_job_take(&p.job, WP_RUNNING));
    CHECK(wp_job_ask_to_stop(&p.job));
    CHECK(wp_job_conclude(&p.job, WP_FAILED)); /* The notice is due. */
    CHECK_INT(wp_job_state(&p.job), WP_FAILED);
    CHECK(wp_job_should_stop(&p.job));
    CHECK(!wp_job_is_settled(&p.job));
    CHECK_INT(wp_job_wait(&p.job, wp_clock() + 5 * MS), WP_WAIT_TIMED_OUT);
    CHECK(wp_job_ask_for_notice(&p.job)); /* It is still to come. */
    wp_job_settle(&p.job);
    CHECK(wp_job_is_settled(&p.job));
    CHECK_INT(wp_job_wait(&p.job, 0), WP_WAIT_WOKEN);
    CHECK(wp_job_ask_for_notice(&p.job));
}

static void
test_notice_too_late(void)
{
    probe p;
    probe_init(&p, WP_RUNNING);
    CHECK(!wp_job_conclude(&p.job, WP_DONE));
    CHECK(wp_job_is_settled(&p.job));
    CHECK(!wp_job_ask_for_notice(&p.job));
    CHECK_INT(wp_load_relaxed(&p.notified.count), 0);
}

static void
test_wait_deadline(void)
{
    probe p;
    probe_init(&p, WP_PENDING);
    uint64_t deadline = wp_clock() + 20 * MS;
    CHECK_INT(wp_job_wait(&p.job, deadline), WP_WAIT_TIMED_OUT);
    CHECK(wp_clock() >= deadline);
    CHECK_INT(wp_job_wait(&p.job, 0), WP_WAIT_TIMED_OUT);
}

/* ---- Races ---- */

enum { ROUNDS = 2000, RIVALS = 3 };

typedef struct race {
    probe p;
    wp_word round; /* The round that runs; each rival starts as it comes. */
    wp_word done;
    wp_word winners;
    wp_word waiters_told;
} race;

static void
await_round(race *r, uint32_t round)
{
    while (wp_load_acquire(&r->round) < round) {
        sched_yield();
    }
}

static void *
take_main(void *argument)
{
    race *r = argument;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await_round(r, round);
        if (wp_job_take(&r->p.job, round % 2 ? WP_CANCELLED : WP_RUNNING)) {
            wp_add_acq_rel(&r->winners, 1);
            if (wp_job_conclude(&r->p.job, round % 2 ? WP_CANCELLED : WP_DONE)) {
                on_notify(&r->p.job);
                wp_job_settle(&r->p.job);
            }
        }
        wp_add_acq_rel(&r->done, 1);
    }
    return NULL;
}

static void *
wait_main(void *argument)
{
    race *r = argument;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await_round(r, round);
        bool notice = wp_job_ask_for_notice(&r->p.job);
        wait_settled(&r->p.job);
        CHECK_INT(wp_job_state(&r->p.job), round % 2 ? WP_CANCELLED : WP_DONE);
        CHECK_INT(wp_load_acquire(&r->p.notified.count), notice);
        wp_add_acq_rel(&r->done, 1);
    }
    return NULL;
}

/* Several take the job, one waits for it and asks for a notice: one wins, the waiter is woken, and the notice comes if
 * and only if it was promised. */
static void
test_one_winner(void)
{
    static race r;
    pthread_t threads[RIVALS + 1];
    for (int i = 0; i < RIVALS; i++) {
        threads[i] = start_thread(take_main, &r);
    }
    threads[RIVALS] = start_thread(wait_main, &r);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        probe_init(&r.p, WP_PENDING);
        wp_store_release(&r.round, round);
        while (wp_load_acquire(&r.done) < round * (RIVALS + 1)) {
            sched_yield();
        }
        CHECK_INT(wp_load_acquire(&r.winners), round);
    }
    for (int i = 0; i <= RIVALS; i++) {
        join_thread(threads[i]);
    }
}

typedef struct shared {
    wp_job *job;
    uint32_t *value;
} shared;

static void *
read_result(void *argument)
{
    shared *s = argument;
    wait_settled(s->job);
    CHECK_INT(*s->value, 42);
    wp_job_unref(s->job);
    return NULL;
}

static int
write_result(wp_job *job, void *argument)
{
    (void)job;
    *(uint32_t *)argument = 42;
    return 0;
}

/* What a job wrote is there for all who waited. */
static void
test_many_waiters(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    for (int round = 0; round < 100; round++) {
        uint32_t value = 0;
        wp_job *job = wp_function_job(write_result, &value, NULL);
        shared s = {job, &value};
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            wp_job_ref(job);
            threads[i] = start_thread(read_result, &s);
        }
        CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
        wp_job_unref(job);
        for (int i = 0; i < 4; i++) {
            join_thread(threads[i]);
        }
    }
    end_pool(pool);
}

/* ---- Classes ---- */

static order seen;

enum { ENTER = 1, RUN_JOB, LEAVE, DESTROY };

static void
enter_class(wp_worker *self)
{
    CHECK(self == wp_worker_self());
    order_add(&seen, ENTER);
}

static void
leave_class(wp_worker *self)
{
    CHECK(self == wp_worker_self());
    order_add(&seen, LEAVE);
}

static wp_state
run_in_class(wp_job *job, wp_worker *self)
{
    CHECK(self == NULL || wp_worker_job(self) == job);
    order_add(&seen, RUN_JOB);
    return WP_DONE;
}

static void
destroy_in_class(wp_job *job)
{
    order_add(&seen, DESTROY);
    free(job);
}

static const wp_job_class entered_class = {.name = "entered",
                                           .run = run_in_class,
                                           .enter = enter_class,
                                           .leave = leave_class,
                                           .notify = wp_job_settle,
                                           .destroy = destroy_in_class,
                                           .claim_ns = 20000000};

static wp_job *
entered_job(void)
{
    wp_job *job = malloc(sizeof *job);
    wp_job_init(job, &entered_class, 0, NULL);
    return job;
}

/* Consecutive jobs of one class run within one entry, and are destroyed within it. */
static void
test_enter_and_leave(void)
{
    wp_pool *pool = pool_for(1, 1, 10);
    CHECK_INT(finish(submit(pool, 0, do_nothing, NULL)), WP_DONE); /* The pace is known: more than one is claimed. */
    wait_at_rest(pool);
    wp_store_relaxed(&pool->lanes[0].pace.mean_ns, 100);
    gate g = {0};
    wp_job *first = submit(pool, 0, stand_at_gate, &g);
    event_wait(&g.begun, 1);
    wp_store_relaxed(&pool->lanes[0].pace.mean_ns, 100);
    for (int i = 0; i < 3; i++) {
        wp_job *job = entered_job();
        CHECK_INT(wp_pool_submit(pool, 0, job, false), WP_OK);
        wp_job_unref(job);
    }
    wp_job *last = submit(pool, 0, do_nothing, NULL);
    event_set(&g.open);
    CHECK_INT(finish(first), WP_DONE);
    CHECK_INT(finish(last), WP_DONE);
    end_pool(pool);
    int runs = 0;
    int inside = 0;
    for (uint32_t i = 0; i < wp_load_acquire(&seen.length); i++) {
        int what = seen.entries[i];
        inside += (what == ENTER) - (what == LEAVE);
        CHECK(inside == 0 || inside == 1);
        CHECK(inside == 1 || what == LEAVE);
        runs += what == RUN_JOB;
    }
    CHECK_INT(runs, 3);
    CHECK_INT(inside, 0);
}

/* On a thread that is no worker the class is entered as well, and left. */
static void
test_enter_when_run_here(void)
{
    seen = (order){0};
    wp_pool *pool = pool_for(1, 1, 10);
    wp_job *job = entered_job();
    wp_pool_run_here(pool, 0, job);
    CHECK(wp_job_is_settled(job));
    wp_job_unref(job);
    static const int expected[] = {ENTER, RUN_JOB, LEAVE, DESTROY};
    CHECK_INT(wp_load_acquire(&seen.length), 4);
    CHECK(memcmp(seen.entries, expected, sizeof expected) == 0);
    end_pool(pool);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_init);
    RUN(test_references);
    RUN(test_transitions);
    RUN(test_flags_outlive_the_state);
    RUN(test_notice_too_late);
    RUN(test_wait_deadline);
    RUN(test_one_winner);
    RUN(test_many_waiters);
    RUN(test_enter_and_leave);
    RUN(test_enter_when_run_here);
    return check_done();
}
