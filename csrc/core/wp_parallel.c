/* See wp_parallel.h. */
#include "wp_parallel.h"

#include "wp_internal.h"

#include <stdlib.h>

/* Pieces for each thread that may take part: enough that unequal ones even out, so few that what a piece costs (a few
 * nanoseconds, and a claim now and then) does not count. */
#define PIECES_PER_THREAD 32u
/* Work in one claim, as everywhere. */
#define CLAIM_NS 20000u

typedef struct parallel {
    wp_range range;
    wp_body *body; /* Constant, like the next three. */
    void *context; /* The caller's; it is there until the last piece has ended. */
    size_t n;
    size_t piece;           /* Numbers in each but the last. */
    wp_word has_failed;     /* 1: a piece failed, the others are left out. */
    wp_failed_piece failed; /* Written by the one that set has_failed, before its piece has ended. */
} parallel;

/* With a token it carries an extra behind it. */
typedef struct parallel_with_extra {
    parallel base;
    wp_extra extra;
} parallel_with_extra;

static parallel *
parallel_of(wp_job *job)
{
    return (parallel *)(void *)job;
}

/* ---- Pieces ---- */

static int
call_body(parallel *p, size_t begin, size_t *end)
{
    *end = p->n - begin > p->piece ? begin + p->piece : p->n;
    return p->body(begin, *end, p->context);
}

/* A piece after one that failed counts as done: there are too few of them to take the trouble of giving them up. */
static void
do_piece(parallel *p, uint32_t number)
{
    size_t begin = (size_t)number * p->piece;
    size_t end;
    if (wp_load_relaxed(&p->has_failed)) {
        return;
    }
    int status = call_body(p, begin, &end);
    uint32_t nobody = 0;
    if (status != 0 && wp_cas_acq_rel(&p->has_failed, &nobody, 1)) {
        p->failed = (wp_failed_piece){begin, end, status};
    }
}

static uint32_t
run_pieces(wp_job *job, wp_stretch *units, wp_worker *self)
{
    uint32_t done = 0;
    uint32_t number;
    uint32_t end;
    while (wp_stretch_take(units, 1, &number, &end)) {
        do_piece(parallel_of(job), number);
        done++;
        if (wp_worker_is_wanted(self)) {
            break;
        }
    }
    return done;
}

static void
destroy(wp_job *job)
{
    if (job->extra != NULL) {
        wp_token_unref(job->extra->token);
    }
    wp_group_unref(parallel_of(job)->range.group);
    free(job);
}

static const wp_job_class parallel_class = {
    .name = "parallel range",
    .run_range = run_pieces,
    .notify = wp_job_settle,
    .destroy = destroy,
    .claim_ns = CLAIM_NS,
};

/* ---- The call ---- */

/* NULL without memory. */
static parallel *
parallel_new(const parallel *plan, uint32_t units, wp_token *token)
{
    parallel *p = malloc(token != NULL ? sizeof(parallel_with_extra) : sizeof *p);
    wp_group *group = p != NULL ? wp_group_new(NULL, units, false) : NULL;
    if (group == NULL) {
        free(p);
        return NULL;
    }
    *p = *plan;
    wp_extra *extra = token != NULL ? &((parallel_with_extra *)(void *)p)->extra : NULL;
    if (extra != NULL) {
        wp_extra_init(extra);
        wp_token_ref(token);
        extra->token = token;
    }
    wp_range_init(&p->range, &parallel_class, units, group, extra);
    wp_group_unref(group); /* The range has its own. */
    return p;
}

static enum wp_result
report_failure(const parallel *p, wp_failed_piece *failed)
{
    if (failed != NULL) {
        *failed = p->failed;
    }
    return WP_ERROR;
}

static enum wp_result
run_alone(parallel *p, wp_token *token, wp_failed_piece *failed)
{
    size_t end;
    for (size_t begin = 0; begin < p->n; begin = end) {
        if (token != NULL && wp_token_is_cancelled(token)) {
            return WP_STOPPED;
        }
        int status = call_body(p, begin, &end);
        if (status != 0) {
            p->failed = (wp_failed_piece){begin, end, status};
            return report_failure(p, failed);
        }
    }
    return WP_OK;
}

/* Does pieces as long as there are any, then sleeps until those of others have ended. That wait cannot be given up: the
 * body's context may lie on the caller's stack. Only where a piece has forked, the child's threads are not there. */
static enum wp_result
take_part(parallel *p, wp_failed_piece *failed)
{
    wp_job *job = &p->range.job;
    wp_group *group = p->range.group;
    while (wp_range_run_here(&p->range, wp_pace_claim(group->pace, CLAIM_NS, group->most_claimed)) > 0) {
    }
    while (!wp_job_is_settled(job)) {
        if (wp_job_is_lost(job)) {
            return WP_BROKEN;
        }
        wp_job_wait(job, WP_FOREVER);
    }
    if (wp_load_relaxed(&p->has_failed)) {
        return report_failure(p, failed);
    }
    if (wp_job_state(job) == WP_DONE) {
        return WP_OK;
    }
    return wp_pool_is_broken(job->pool) ? WP_BROKEN : WP_STOPPED;
}

static uint32_t
threads_for(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    uint32_t threads = pool->max_workers + 1;
    wp_lock_give(&pool->lock);
    return threads;
}

static size_t
quotient_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

enum wp_result
wp_parallel(wp_pool *pool, unsigned lane, wp_token *token, size_t n, size_t grain, wp_body *body, void *context,
            wp_failed_piece *failed)
{
    if (lane >= pool->config.n_lanes) {
        return WP_INVALID;
    }
    size_t fair = quotient_up(n, (size_t)threads_for(pool) * PIECES_PER_THREAD);
    size_t least = grain > 0 ? grain : 1;
    parallel plan = {.body = body, .context = context, .n = n, .piece = fair > least ? fair : least};
    size_t units = quotient_up(n, plan.piece);
    parallel *p = units > 1 ? parallel_new(&plan, (uint32_t)units, token) : NULL;
    if (p == NULL) {
        return run_alone(&plan, token, failed);
    }
    wp_pool_ref(pool);
    enum wp_result result = wp_pool_submit(pool, lane, &p->range.job, true);
    if (result == WP_OK) {
        result = take_part(p, failed);
    } else if (result != WP_STOPPED) {
        result = run_alone(&plan, token, failed); /* Nobody else is there for it. */
    }
    wp_job_unref(&p->range.job);
    wp_pool_unref(pool);
    return result;
}

/* ---- As a backend for others ---- */

typedef struct others_jobs {
    void (*dojob)(void *);
    char *data;
    size_t size;
    size_t n;
    _Atomic(size_t) next; /* The first that has not begun. */
} others_jobs;

/* However pieces are claimed and given back, the next one is the first that has not begun: some libraries' jobs wait for
 * those before them. */
static int
do_others_job(size_t begin, size_t end, void *context)
{
    others_jobs *jobs = context;
    for (; begin < end; begin++) {
        size_t number = wp_add_relaxed(&jobs->next, 1);
        jobs->dojob(jobs->data + number * jobs->size);
    }
    return 0;
}

void
wp_threads_callback(void *threads, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata)
{
    const wp_threads *where = threads;
    others_jobs jobs = {.dojob = dojob, .data = jobdata, .size = jobdata_elsize};
    jobs.n = numjobs > 0 ? (size_t)numjobs : 0;
    wp_store_relaxed(&jobs.next, 0);
    wp_parallel(where->pool, where->lane, NULL, jobs.n, 1, do_others_job, &jobs, NULL);
    size_t begun = wp_load_relaxed(&jobs.next); /* Fewer than all if what waits in the pool was cancelled. */
    do_others_job(begun, jobs.n, &jobs);
}
