/* See wp_parallel.h. */
#include "wp_parallel.h"

#include "wp_internal.h"

#include <stdlib.h>

/* Pieces for each thread that may take part, where the grain is left to us: enough that unequal ones even out, so few
 * that taking one does not count. */
#define PIECES_PER_THREAD 32u
/* Invitations for each worker: one that leaves for more urgent work can come back. */
#define INVITATIONS_PER_WORKER 4u

typedef struct parallel {
    wp_range range; /* Its units are invitations. */
    /* Constant. Used only by who takes part, while the call has not returned. */
    wp_body *body;
    void *context;
    wp_token *token;   /* The caller's, or NULL. */
    const wp_job *job; /* The job that the caller is, or NULL. */
    size_t n;
    size_t piece; /* Numbers in each but the last. */
    size_t pieces;

    _Atomic(size_t) next;      /* The first piece that has not begun; beyond `pieces` when there is none. */
    _Atomic(uint32_t) outcome; /* enum wp_result: once it is not WP_OK, no piece begins. */
    wp_failed_piece failed;    /* Written by the one that makes the outcome WP_ERROR, before its piece has ended. */
} parallel;

static parallel *
parallel_of(wp_job *job)
{
    return (parallel *)(void *)job;
}

/* ---- Pieces ---- */

/* Whoever is first says how it ends. */
static bool
stop(parallel *p, enum wp_result outcome)
{
    uint32_t expected = WP_OK;
    return wp_cas_acq_rel(&p->outcome, &expected, (uint32_t)outcome);
}

static bool
should_stop(const parallel *p)
{
    return wp_job_should_stop(p->job) || (p->token != NULL && wp_token_is_cancelled(p->token));
}

/* The next piece; false if there is none, or none should begin. */
static bool
take_piece(parallel *p, size_t *begin, size_t *end)
{
    if (wp_load_relaxed(&p->outcome) != WP_OK || wp_load_relaxed(&p->next) >= p->pieces) {
        return false;
    }
    if (should_stop(p)) {
        stop(p, WP_STOPPED);
        return false;
    }
    size_t number = wp_add_relaxed(&p->next, 1);
    if (number >= p->pieces) {
        return false;
    }
    *begin = number * p->piece;
    *end = p->n - *begin > p->piece ? *begin + p->piece : p->n;
    return true;
}

static void
do_pieces(parallel *p, const wp_worker *self)
{
    size_t begin;
    size_t end;
    while (!wp_worker_is_wanted(self) && take_piece(p, &begin, &end)) {
        int status = p->body(begin, end, p->context);
        if (status != 0 && stop(p, WP_ERROR)) {
            p->failed = (wp_failed_piece){begin, end, status};
        }
    }
}

/* ---- Invitations ---- */

static uint32_t
accept_invitations(wp_job *job, wp_stretch *units, wp_worker *self)
{
    uint32_t accepted = 0;
    uint32_t number;
    uint32_t end;
    while (wp_stretch_take(units, 1, &number, &end)) {
        do_pieces(parallel_of(job), self);
        accepted++;
        if (wp_worker_is_wanted(self)) {
            break;
        }
    }
    return accepted;
}

static void
destroy(wp_job *job)
{
    wp_group_unref(parallel_of(job)->range.group);
    free(job);
}

static const wp_job_class parallel_class = {
    .name = "parallel range",
    .run_range = accept_invitations,
    .notify = wp_job_settle,
    .destroy = destroy,
};

/* NULL without memory. A claim is one invitation, so that each worker gets one. */
static parallel *
parallel_new(const parallel *plan, uint32_t invitations)
{
    parallel *p = malloc(sizeof *p);
    wp_group *group = p != NULL ? wp_group_new(NULL, 1, true) : NULL;
    if (group == NULL) {
        free(p);
        return NULL;
    }
    *p = *plan;
    wp_range_init(&p->range, &parallel_class, invitations, group, NULL);
    wp_group_unref(group); /* The range has its own. */
    return p;
}

/* All pieces have begun: what is left of the invitations is accepted in vain, and those who help are waited for. That
 * wait cannot be given up, because the body's context may lie on the caller's stack. Only in the child of a fork are
 * those who helped not there. */
static void
wait_for_helpers(parallel *p)
{
    wp_job *job = &p->range.job;
    while (wp_range_run_here(&p->range, UINT32_MAX) > 0) {
    }
    while (!wp_job_is_settled(job)) {
        if (wp_job_is_lost(job)) {
            stop(p, WP_BROKEN);
            return;
        }
        wp_job_wait(job, WP_FOREVER);
    }
}

static void
run_with_helpers(wp_pool *pool, unsigned lane, parallel *p)
{
    wp_pool_ref(pool);
    bool submitted = wp_pool_submit(pool, lane, &p->range.job, true) == WP_OK;
    do_pieces(p, NULL);
    if (submitted) {
        wait_for_helpers(p);
    }
    wp_pool_unref(pool);
}

/* ---- The call ---- */

static uint32_t
workers_of(wp_pool *pool)
{
    wp_lock_take(&pool->lock);
    uint32_t workers = pool->max_workers;
    wp_lock_give(&pool->lock);
    return workers;
}

static size_t
quotient_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum wp_result
outcome_of(parallel *p, wp_failed_piece *failed)
{
    enum wp_result outcome = (enum wp_result)wp_load_acquire(&p->outcome);
    if (outcome == WP_ERROR && failed != NULL) {
        *failed = p->failed;
    }
    return outcome;
}

/* Fills in the pieces of a plan, and how many more threads are of use. */
static uint32_t
cut(parallel *plan, size_t grain, size_t workers)
{
    plan->piece = grain;
    if (grain == 0) {
        plan->piece = plan->n > 0 ? quotient_up(plan->n, (workers + 1) * PIECES_PER_THREAD) : 1;
    }
    plan->pieces = quotient_up(plan->n, plan->piece);
    size_t most = smaller(workers * INVITATIONS_PER_WORKER, INT32_MAX);
    return plan->pieces > 1 ? (uint32_t)smaller(plan->pieces - 1, most) : 0;
}

static enum wp_result
run_alone(parallel *plan, wp_failed_piece *failed)
{
    do_pieces(plan, NULL);
    return outcome_of(plan, failed);
}

static enum wp_result
run(wp_pool *pool, unsigned lane, parallel *plan, size_t grain, wp_failed_piece *failed)
{
    uint32_t invitations = cut(plan, grain, workers_of(pool));
    parallel *p = invitations > 0 ? parallel_new(plan, invitations) : NULL;
    if (p == NULL) {
        return run_alone(plan, failed);
    }
    run_with_helpers(pool, lane, p);
    enum wp_result outcome = outcome_of(p, failed);
    wp_job_unref(&p->range.job);
    return outcome;
}

enum wp_result
wp_parallel(wp_pool *pool, unsigned lane, wp_token *token, size_t n, size_t grain, wp_body *body, void *context,
            wp_failed_piece *failed)
{
    parallel plan = {.body = body, .context = context, .n = n, .token = token};
    return lane < pool->config.n_lanes ? run(pool, lane, &plan, grain, failed) : WP_INVALID;
}

/* A job of no pool, which was called directly, has nobody to help it. */
enum wp_result
wp_job_parallel_range(wp_job *job, size_t n, size_t grain, wp_body *body, void *context, wp_failed_piece *failed)
{
    parallel plan = {.body = body, .context = context, .n = n, .job = job};
    if (job->pool == NULL) {
        cut(&plan, grain, 0);
        return run_alone(&plan, failed);
    }
    return run(job->pool, job->lane, &plan, grain, failed);
}

/* ---- As a backend for others ---- */

typedef struct others_jobs {
    void (*dojob)(void *);
    char *data;
    size_t size;
} others_jobs;

static int
do_others_jobs(size_t begin, size_t end, void *context)
{
    const others_jobs *jobs = context;
    for (; begin < end; begin++) {
        jobs->dojob(jobs->data + begin * jobs->size);
    }
    return 0;
}

void
wp_threads_callback(void *threads, void (*dojob)(void *), int numjobs, size_t jobdata_elsize, void *jobdata)
{
    const wp_threads *where = threads;
    others_jobs jobs = {.dojob = dojob, .data = jobdata, .size = jobdata_elsize};
    wp_parallel(where->pool, where->lane, NULL, numjobs > 0 ? (size_t)numjobs : 0, 1, do_others_jobs, &jobs, NULL);
}
