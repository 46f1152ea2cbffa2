/* Requests with a pause between them: what a pool gains or loses by staying awake for the next one.
 *
 * The thread that submits spins through each pause, as a server does that is busy with something else; what it uses for
 * that is not counted. So the processor time of a request is what the pool uses, the submission and the wait.
 */
#include "shapes.h"

static int
nothing(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    return 0;
}

static wp_job *
submitted(wp_pool *pool)
{
    wp_job *job = wp_function_job(nothing, NULL, NULL);
    if (job == NULL || wp_pool_submit_wait(pool, 0, job, WP_FOREVER) != WP_OK) {
        fail("a submission");
    }
    return job;
}

static void
wait_for(wp_job *job)
{
    while (wp_job_wait(job, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
    wp_job_unref(job);
}

static void
request_from_worker(void *state)
{
    wait_for(submitted(state));
}

static void
request(void *state)
{
    wp_job *job = submitted(state);
    wp_job_run_here(job);
    wait_for(job);
}

void
run_spaced(const arguments *a, bool by_worker)
{
    wp_pool *pool = pool_or_exit(a->workers, 1024);
    measure_spaced(by_worker ? request_from_worker : request, pool, a->jobs, a->bound);
    pool_end(pool);
}
