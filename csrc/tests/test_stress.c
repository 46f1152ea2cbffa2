/* Everything at once, at random: from 1 to 64 threads submit, cancel, stop, take back, wait, resize, drain and look on, with
 * tokens, time limits, results queues and ranges, on pools of random shape that are closed, broken or forgotten under
 * their hands.
 *
 * Whatever happens, every accepted job ends in exactly one outcome, which fits what was done to it; every unit of a range
 * is done or given up; every result arrives; the pool's sums add up; and all that was made is destroyed. CHECK_SEED
 * repeats the choices of a run, though not its schedule.
 */
#include "fixture.h"

#define ROUND_MS (IS_SANITIZED ? 120u : 200u)

enum { KEPT = 32, TOKENS = 4, MAX_DEPTH = 3 };

/* ---- A round ---- */

typedef struct arena {
    wp_pool *pool;
    wp_results *results;
    uint32_t lanes;
    wp_word stop;

    wp_word made; /* Jobs, and those destroyed. */
    wp_word destroyed;
    wp_word accepted;
    wp_word told[WP_STATES]; /* Ends, by outcome. */
    wp_word ranges_accepted;
    wp_word ranges_ended;
    _Atomic(uint64_t) units_accepted;
    _Atomic(uint64_t) units_done;
    wp_word results_accepted;
    wp_word results_read;

    wp_lock tokens_lock; /* The tokens are shared: any thread may cancel any, and puts a new one in its place. */
    wp_token *tokens[TOKENS];
} arena;

/* ---- Jobs ---- */

enum kind { QUICK, FAIL, SPIN, UNTIL_STOPPED, NESTED, KINDS };

typedef struct task {
    wp_job job;
    wp_extra extra;
    arena *a;
    enum kind kind;
    unsigned lane;
    int depth;
    wp_word ran;
    wp_word told;
} task;

static task *make_task(arena *a, enum kind kind, unsigned lane, int depth);

static void
run_child(task *t)
{
    task *child = make_task(t->a, t->depth < MAX_DEPTH ? NESTED : QUICK, t->lane, t->depth + 1);
    enum wp_result result = submit_wait(t->a->pool, t->lane, &child->job, WP_FOREVER);
    if (result == WP_OK) {
        wp_add_acq_rel(&t->a->accepted, 1);
        if (!wp_job_run_here(&child->job)) {
            wait_settled(&child->job);
        }
    }
    wp_job_unref(&child->job);
}

static wp_state
run_task(wp_job *job, wp_worker *self)
{
    task *t = (task *)(void *)job;
    (void)self;
    CHECK_INT(wp_add_acq_rel(&t->ran, 1), 0);
    switch (t->kind) {
    case FAIL:
        return WP_FAILED;
    case SPIN:
        for (int i = 0; i < 200 && !wp_job_should_stop(job); i++) {
            wp_pause();
        }
        return WP_DONE;
    case UNTIL_STOPPED:
        /* The keeper may have left a closed pool before a thread that is no worker is done with its job. */
        while (!wp_job_should_stop(job) && wp_clock() < wp_job_deadline(job)) {
            sched_yield();
        }
        return WP_CANCELLED;
    case NESTED:
        run_child(t);
        return WP_DONE;
    default:
        return WP_DONE;
    }
}

static bool
fits(const task *t, wp_state outcome, bool ran)
{
    switch (outcome) {
    case WP_DONE:
        return ran && t->kind != FAIL;
    case WP_FAILED:
        return ran && t->kind == FAIL;
    case WP_TIMED_OUT:
        return ran && t->extra.run_timeout != WP_FOREVER;
    case WP_CANCELLED:
        return !ran || t->kind == UNTIL_STOPPED;
    case WP_EXPIRED:
        return !ran && t->extra.queue_timeout != WP_FOREVER;
    case WP_LOST:
        return !ran && wp_pool_is_closed(t->a->pool);
    default:
        return false;
    }
}

static void
on_notify(wp_job *job)
{
    task *t = (task *)(void *)job;
    wp_state outcome = wp_job_state(job);
    CHECK_INT(wp_add_acq_rel(&t->told, 1), 0);
    CHECK(!wp_job_is_settled(job));
    CHECK(fits(t, outcome, wp_load_acquire(&t->ran) > 0));
    wp_add_acq_rel(&t->a->told[outcome], 1);
    wp_job_settle(job);
}

static void
destroy_task(wp_job *job)
{
    task *t = (task *)(void *)job;
    wp_token_unref(t->extra.token);
    if (t->extra.results != NULL) {
        wp_results_unref(t->extra.results);
    }
    wp_add_acq_rel(&t->a->destroyed, 1);
    free(t);
}

static const wp_job_class task_class = {
    .name = "task", .run = run_task, .notify = on_notify, .destroy = destroy_task, .claim_ns = 20000};

static task *
make_task(arena *a, enum kind kind, unsigned lane, int depth)
{
    task *t = calloc(1, sizeof *t);
    wp_extra_init(&t->extra);
    t->a = a;
    t->kind = kind;
    t->lane = lane;
    t->depth = depth;
    wp_job_init(&t->job, &task_class, 0, NULL);
    CHECK(wp_job_ask_for_notice(&t->job));
    wp_add_acq_rel(&a->made, 1);
    return t;
}

/* ---- Ranges ---- */

typedef struct stripe {
    wp_range range;
    wp_extra extra;
    arena *a;
    wp_word *times;
} stripe;

static uint32_t
run_units(wp_job *job, wp_stretch *units, wp_worker *self)
{
    stripe *s = (stripe *)(void *)job;
    uint32_t done = 0;
    uint32_t begin;
    uint32_t end;
    while (wp_stretch_take(units, 1 + s->range.units % 3, &begin, &end)) {
        for (uint32_t at = begin; at < end; at++) {
            CHECK_INT(wp_add_acq_rel(&s->times[at], 1), 0);
        }
        done += end - begin;
        if (wp_worker_is_wanted(self)) {
            break;
        }
    }
    wp_add_acq_rel(&s->a->units_done, done);
    return done;
}

static void
destroy_stripe(wp_job *job)
{
    stripe *s = (stripe *)(void *)job;
    wp_group_unref(s->range.group);
    wp_token_unref(s->extra.token);
    wp_add_acq_rel(&s->a->destroyed, 1);
    free(s->times);
    free(s);
}

static const wp_job_class stripe_class = {
    .name = "stripe", .run_range = run_units, .notify = wp_job_settle, .destroy = destroy_stripe, .claim_ns = 5000};

static stripe *
make_stripe(arena *a, uint32_t units, uint32_t most_claimed, wp_token *token)
{
    stripe *s = calloc(1, sizeof *s);
    wp_extra_init(&s->extra);
    s->extra.token = token;
    s->a = a;
    s->times = calloc(units, sizeof *s->times);
    wp_group *group = wp_group_new(NULL, most_claimed, most_claimed % 2 == 0);
    wp_range_init(&s->range, &stripe_class, units, group, token != NULL ? &s->extra : NULL);
    wp_group_unref(group);
    wp_add_acq_rel(&a->made, 1);
    return s;
}

/* ---- What the threads do ---- */

typedef struct player {
    arena *a;
    uint64_t seed;
    task *kept[KEPT];
    pthread_t thread;
} player;

static uint32_t
dice(player *p, uint32_t sides)
{
    return (uint32_t)(check_rand(&p->seed) % sides);
}

static uint64_t
shortly(player *p)
{
    return wp_clock() + dice(p, 1000000);
}

static wp_token *
borrow_token(player *p)
{
    arena *a = p->a;
    wp_lock_take(&a->tokens_lock);
    wp_token *token = a->tokens[dice(p, TOKENS)];
    wp_token_ref(token);
    wp_lock_give(&a->tokens_lock);
    return token;
}

static void
cancel_token(player *p)
{
    arena *a = p->a;
    uint32_t at = dice(p, TOKENS);
    wp_token *parent = borrow_token(p);
    wp_token *fresh = wp_token_new(dice(p, 2) ? parent : NULL, dice(p, 8) ? WP_FOREVER : shortly(p));
    wp_token_unref(parent);
    if (dice(p, 4) == 0) { /* Else it might be born cancelled, and all that come after it. */
        wp_token_unref(fresh);
        fresh = wp_token_new(NULL, WP_FOREVER);
    }
    wp_lock_take(&a->tokens_lock);
    wp_token *old = a->tokens[at];
    a->tokens[at] = fresh;
    wp_lock_give(&a->tokens_lock);
    wp_token_cancel(old);
    wp_token_unref(old);
}

static task *
random_task(player *p)
{
    arena *a = p->a;
    task *t = make_task(a, (enum kind)dice(p, KINDS), dice(p, a->lanes), 0);
    bool limited = t->kind == UNTIL_STOPPED; /* Somebody must stop it. */
    if (limited || dice(p, 4) == 0) {
        t->job.extra = &t->extra;
        t->extra.run_timeout = limited || dice(p, 3) == 0 ? dice(p, 500000) : WP_FOREVER;
        t->extra.queue_timeout = dice(p, 3) == 0 ? dice(p, 2000000) : WP_FOREVER;
        t->extra.token = dice(p, 3) == 0 ? borrow_token(p) : NULL;
    }
    return t;
}

/* Keeps the task for later, in the place of another. */
static void
keep(player *p, task *t)
{
    task **place = &p->kept[dice(p, KEPT)];
    if (*place != NULL) {
        wp_job_unref(&(*place)->job);
    }
    *place = t;
}

static void
submit_task(player *p)
{
    arena *a = p->a;
    task *t = random_task(p);
    enum wp_result result = dice(p, 2) ? wp_pool_submit(a->pool, t->lane, &t->job, dice(p, 16) == 0)
                                       : wp_pool_submit_wait(a->pool, t->lane, &t->job, shortly(p));
    if (result == WP_OK) {
        wp_add_acq_rel(&a->accepted, 1);
        keep(p, t);
    } else {
        CHECK_INT(wp_job_state(&t->job), WP_NEW);
        CHECK_INT(wp_load_acquire(&t->told), 0);
        wp_job_unref(&t->job);
    }
}

static void
submit_with_result(player *p)
{
    arena *a = p->a;
    uint64_t index;
    if (wp_results_reserve(a->results, &index) != WP_OK) {
        return;
    }
    task *t = random_task(p);
    t->job.extra = &t->extra;
    t->extra.index = index;
    t->extra.results = a->results;
    wp_results_ref(a->results);
    if (wp_pool_submit(a->pool, t->lane, &t->job, false) == WP_OK) {
        wp_add_acq_rel(&a->accepted, 1);
        wp_add_acq_rel(&a->results_accepted, 1);
        keep(p, t);
    } else {
        wp_results_unreserve(a->results, index);
        wp_job_unref(&t->job);
    }
}

static bool
read_result(arena *a, uint64_t deadline)
{
    wp_job *job;
    enum wp_result result = wp_results_next(a->results, deadline, &job);
    if (result == WP_OK) {
        CHECK(wp_job_is_settled(job));
        wp_add_acq_rel(&a->results_read, 1);
        wp_job_unref(job);
    }
    return result == WP_OK || result == WP_INTERRUPTED;
}

static void
run_unsubmitted(player *p)
{
    task *t = random_task(p);
    if (wp_pool_run_here(p->a->pool, t->lane, &t->job) != WP_OK) {
        CHECK(wp_pool_is_closed(p->a->pool)); /* Whose keeper has left, so nobody could watch a time limit. */
        wp_job_unref(&t->job);
        return;
    }
    wp_add_acq_rel(&p->a->accepted, 1);
    CHECK(wp_job_is_settled(&t->job));
    keep(p, t);
}

static void
play_with_kept(player *p)
{
    task *t = p->kept[dice(p, KEPT)];
    if (t == NULL) {
        return;
    }
    switch (dice(p, 5)) {
    case 0:
        wp_job_cancel(&t->job);
        break;
    case 1:
        wp_job_stop(&t->job);
        break;
    case 2:
        wp_job_run_here(&t->job);
        break;
    case 3:
        if (wp_job_wait(&t->job, shortly(p)) == WP_WAIT_WOKEN) {
            CHECK_INT(wp_load_acquire(&t->told), 1);
        }
        break;
    default:
        CHECK(wp_load_acquire(&t->told) <= 1);
        break;
    }
}

static void
play_with_range(player *p)
{
    arena *a = p->a;
    uint32_t units = 1 + dice(p, 100);
    stripe *s = make_stripe(a, units, 1 + dice(p, 40), dice(p, 3) == 0 ? borrow_token(p) : NULL);
    if (wp_pool_submit(a->pool, dice(p, a->lanes), &s->range.job, false) == WP_OK) {
        wp_add_acq_rel(&a->ranges_accepted, 1);
        wp_add_acq_rel(&a->units_accepted, units);
        for (uint32_t i = dice(p, 10); i > 0; i--) {
            wp_range_run_here(&s->range, 1 + dice(p, 10));
        }
        if (dice(p, 4) == 0) {
            wp_range_cancel(&s->range);
        }
        wait_settled(&s->range.job);
        wp_state outcome = wp_job_state(&s->range.job);
        CHECK(outcome == WP_DONE || outcome == WP_CANCELLED);
        wp_add_acq_rel(&a->ranges_ended, 1);
    }
    wp_job_unref(&s->range.job);
}

static void
ignore_line(void *context, uint32_t worker, const char *text)
{
    (void)context;
    (void)worker;
    CHECK(text[0] != '\0');
}

static void
look_on(player *p)
{
    wp_pool_stats stats = stats_of(p->a->pool);
    for (unsigned i = 0; i < stats.n_lanes; i++) {
        CHECK(sum_of_outcomes(&stats.lanes[i]) <= stats.lanes[i].submitted);
    }
    wp_pool_describe_running(p->a->pool, ignore_line, NULL);
}

static void
play_with_pool(player *p)
{
    arena *a = p->a;
    switch (dice(p, 8)) {
    case 0:
        wp_pool_resize(a->pool, 1 + dice(p, 8));
        break;
    case 1:
        wp_pool_drain(a->pool, shortly(p));
        break;
    case 2:
        wp_pool_discard_oldest(a->pool, dice(p, a->lanes));
        break;
    case 3:
        if (dice(p, 8) == 0) {
            wp_pool_cancel_waiting(a->pool);
        }
        break;
    case 4:
        if (wp_pool_wait_room(a->pool, dice(p, a->lanes), NULL, shortly(p)) == WP_OK) {
            wp_pool_pass_room(a->pool, dice(p, a->lanes));
        }
        break;
    default:
        look_on(p);
        break;
    }
}

static void
play(player *p)
{
    uint32_t what = dice(p, 32);
    if (what < 12) {
        submit_task(p);
    } else if (what < 15) {
        submit_with_result(p);
    } else if (what < 18) {
        read_result(p->a, dice(p, 2) ? 0 : shortly(p));
    } else if (what < 19) {
        run_unsubmitted(p);
    } else if (what < 28) {
        play_with_kept(p);
    } else if (what < 30) {
        play_with_range(p);
    } else if (what < 31) {
        cancel_token(p);
    } else {
        play_with_pool(p);
    }
}

static void *
player_main(void *argument)
{
    player *p = argument;
    while (!wp_load_acquire(&p->a->stop)) {
        play(p);
    }
    for (int i = 0; i < KEPT; i++) {
        if (p->kept[i] != NULL) {
            wait_settled(&p->kept[i]->job);
            CHECK_INT(wp_load_acquire(&p->kept[i]->told), 1);
            wp_job_unref(&p->kept[i]->job);
        }
    }
    return NULL;
}

/* ---- Rounds ---- */

static void
make_arena(arena *a, uint64_t *seed)
{
    static const uint64_t capacities[] = {0, 1, 3, 16, 100, WP_UNBOUNDED};
    static const uint32_t fairness[] = {0, 1, 4, 64};
    *a = (arena){.lanes = 1 + (uint32_t)(check_rand(seed) % 4)};
    wp_pool_config config = config_for(1 + (uint32_t)(check_rand(seed) % 8), a->lanes, 0);
    for (uint32_t i = 0; i < a->lanes; i++) {
        config.lanes[i].capacity = capacities[check_rand(seed) % 6];
        config.lanes[i].max_running = check_rand(seed) % 3 ? 0 : 1 + (uint32_t)(check_rand(seed) % 3);
    }
    config.fairness = fairness[check_rand(seed) % 4];
    config.idle_timeout = check_rand(seed) % 2 ? WP_FOREVER : check_rand(seed) % (2 * MS);
    a->pool = wp_pool_new(&config);
    a->results = wp_results_new(1 + check_rand(seed) % 50);
    for (int i = 0; i < TOKENS; i++) {
        a->tokens[i] = wp_token_new(NULL, WP_FOREVER);
    }
}

static void
end_arena(arena *a)
{
    wp_results_close(a->results);
    while (read_result(a, WP_FOREVER)) {
    }
    wp_results_unref(a->results);
    for (int i = 0; i < TOKENS; i++) {
        wp_token_unref(a->tokens[i]);
    }
    CHECK_INT(drain(a->pool, soon()), WP_OK);
    end_pool(a->pool);
    uint32_t told = 0;
    for (int i = 0; i < WP_STATES; i++) {
        told += wp_load_acquire(&a->told[i]);
    }
    CHECK_INT(told, wp_load_acquire(&a->accepted));
    CHECK_INT(wp_load_acquire(&a->results_read), wp_load_acquire(&a->results_accepted));
    CHECK_INT(wp_load_acquire(&a->ranges_ended), wp_load_acquire(&a->ranges_accepted));
    CHECK(wp_load_acquire(&a->units_done) <= wp_load_acquire(&a->units_accepted));
    CHECK_INT(wp_load_acquire(&a->destroyed), wp_load_acquire(&a->made));
}

static void
play_round(int threads, uint64_t *seed)
{
    static player players[64];
    static arena a;
    make_arena(&a, seed);
    for (int i = 0; i < threads; i++) {
        players[i] = (player){.a = &a, .seed = check_rand(seed)};
        players[i].thread = start_thread(player_main, &players[i]);
    }
    usleep(ROUND_MS * 1000);        /* So long is the game. */
    switch (check_rand(seed) % 4) { /* Most often the end comes while everybody plays. */
    case 0:
        wp_pool_close(a.pool);
        break;
    case 1:
        wp_pool_break(a.pool);
        break;
    case 2:
        wp_pool_cancel_waiting(a.pool);
        break;
    default:
        break;
    }
    wp_store_release(&a.stop, 1);
    for (int i = 0; i < threads; i++) {
        join_thread(players[i].thread);
    }
    end_arena(&a);
}

static uint64_t seed_of_rounds;

static void
play_rounds(int threads, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        play_round(threads, &seed_of_rounds);
    }
}

static void
test_1_thread(void)
{
    play_rounds(1, 3);
}

static void
test_2_threads(void)
{
    play_rounds(2, 6);
}

static void
test_5_threads(void)
{
    play_rounds(5, 6);
}

static void
test_16_threads(void)
{
    play_rounds(16, 4);
}

static void
test_64_threads(void)
{
    play_rounds(64, 2);
}

int
main(void)
{
    check_time_limit(100);
    seed_of_rounds = check_seed(5);
    RUN(test_1_thread);
    RUN(test_2_threads);
    RUN(test_5_threads);
    RUN(test_16_threads);
    RUN(test_64_threads);
    return check_done();
}
