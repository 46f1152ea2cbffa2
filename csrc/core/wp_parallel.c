/* See wp_parallel.h. */
#include "wp_parallel.h"

#include "wp_crew.h"
#include "wp_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* What is to be done, and how it ended. */
typedef struct plan {
    /* Constant. Used only while the call has not returned. */
    wp_body *body;
    void *context;
    wp_token *token;      /* The caller's, or NULL. */
    const wp_job *caller; /* The job that the caller is, or NULL. */
    size_t n;
    size_t grain;

    _Atomic(uint32_t) outcome; /* enum wp_result: written by the first piece that ends it. */
    wp_failed_piece failed;    /* Written by the piece that made the outcome WP_ERROR, before it has ended. */
} plan;

typedef struct parallel {
    wp_job job;
    wp_crew crew;
    plan plan;
} parallel;

static parallel *
parallel_of(wp_job *job)
{
    return (parallel *)(void *)job;
}

/* ---- Pieces ---- */

/* Whoever is first says how it ends. */
static bool
stop(plan *p, enum wp_result outcome)
{
    uint32_t expected = WP_OK;
    return wp_cas_acq_rel(&p->outcome, &expected, (uint32_t)outcome);
}

/* Does a piece, unless it should not begin; false if no other should. */
static bool
do_piece(plan *p, size_t begin, size_t end)
{
    if (wp_job_should_stop(p->caller) || (p->token != NULL && wp_token_is_cancelled(p->token))) {
        stop(p, WP_STOPPED);
        return false;
    }
    int status = p->body(begin, end, p->context);
    if (status == 0) {
        return true;
    }
    if (stop(p, WP_ERROR)) {
        p->failed = (wp_failed_piece){begin, end, status};
    }
    return false;
}

/* In the child of a fork the caller does not wait for workers that join, so the body must not be called by them. */
static bool
part(wp_job *job, uint64_t begin, uint64_t end)
{
    plan *p = &parallel_of(job)->plan;
    if (wp_job_is_lost(job)) {
        stop(p, WP_BROKEN);
        return false;
    }
    return do_piece(p, (size_t)begin, (size_t)end);
}

static void
destroy(wp_job *job)
{
    free(job);
}

static void
describe(const wp_job *job, char *text, size_t size)
{
    const parallel *p = (const parallel *)(const void *)job;
    (void)snprintf(text, size, "a parallel range of %zu", p->plan.n);
}

static const wp_crew_class parallel_crew = {.part = part};

static const wp_job_class parallel_class = {
    .name = "parallel range",
    .notify = wp_job_settle,
    .destroy = destroy,
    .describe = describe,
    .by_many = true,
};

/* ---- The call ---- */

static enum wp_result
outcome_of(plan *p, wp_failed_piece *failed)
{
    enum wp_result outcome = (enum wp_result)wp_load_acquire(&p->outcome);
    if (outcome == WP_ERROR && failed != NULL) {
        *failed = p->failed;
    }
    return outcome;
}

/* Piece by piece on the calling thread. */
static enum wp_result
run_alone(plan *p, wp_failed_piece *failed)
{
    size_t grain = p->grain > 0 ? p->grain : p->n;
    size_t end;
    bool goes_on = true;
    for (size_t begin = 0; goes_on && begin < p->n; begin = end) {
        end = p->n - begin > grain ? begin + grain : p->n;
        goes_on = do_piece(p, begin, end);
    }
    return outcome_of(p, failed);
}

/* The wait for others' pieces cannot be given up, because the body's context may lie on the caller's stack. In the child
 * of a fork there are no others. */
static void
run_with_others(wp_pool *pool, unsigned lane, parallel *p)
{
    wp_pool_ref(pool);
    wp_crew_start(&p->crew, pool, lane);
    wp_crew_work(&p->crew, NULL, WP_FOREVER);
    wp_crew_leave(&p->crew);
    wp_claim_leave(wp_worker_in(pool));
    while (!wp_job_is_settled(&p->job) && !wp_job_is_lost(&p->job)) {
        wp_job_wait(&p->job, WP_FOREVER);
    }
    wp_pool_unref(pool);
}

static enum wp_result
run(wp_pool *pool, unsigned lane, plan *plan, wp_failed_piece *failed)
{
    bool is_one_piece = plan->n < 2 || plan->grain >= plan->n;
    parallel *p = is_one_piece ? NULL : malloc(sizeof *p);
    if (p == NULL) {
        return run_alone(plan, failed);
    }
    p->plan = *plan;
    wp_job_init(&p->job, &parallel_class, 0, NULL);
    wp_crew_init(&p->crew, &p->job, &parallel_crew, plan->n, plan->grain);
    run_with_others(pool, lane, p);
    if (!wp_job_is_settled(&p->job)) {
        stop(&p->plan, WP_BROKEN);
    }
    enum wp_result outcome = outcome_of(&p->plan, failed);
    wp_job_unref(&p->job);
    return outcome;
}

enum wp_result
wp_parallel(wp_pool *pool, unsigned lane, wp_token *token, size_t n, size_t grain, wp_body *body, void *context,
            wp_failed_piece *failed)
{
    plan plan = {.body = body, .context = context, .token = token, .n = n, .grain = grain};
    return lane < pool->config.n_lanes ? run(pool, lane, &plan, failed) : WP_INVALID;
}

/* A job of no pool, which was called directly, has nobody to help it. */
enum wp_result
wp_job_parallel_range(wp_job *job, size_t n, size_t grain, wp_body *body, void *context, wp_failed_piece *failed)
{
    plan plan = {.body = body, .context = context, .caller = job, .n = n, .grain = grain};
    return job->pool != NULL ? run(job->pool, job->lane, &plan, failed) : run_alone(&plan, failed);
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
