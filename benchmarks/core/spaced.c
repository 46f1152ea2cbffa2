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

static void
request(void *state)
{
    wp_pool *pool = state;
    wp_job *job = wp_function_job(nothing, NULL, NULL);
    if (job == NULL || wp_pool_submit_wait(pool, 0, job, WP_FOREVER) != WP_OK) {
        fail("a submission");
    }
    while (wp_job_wait(job, WP_FOREVER) != WP_WAIT_WOKEN) {
    }
    wp_job_unref(job);
}

void
run_spaced(const arguments *a)
{
    wp_pool *pool = pool_or_exit(a->workers, 1024);
    measure_spaced(request, pool, a->jobs, a->bound);
    pool_end(pool);
}
