/* Empty jobs: what it costs to hand one over, with one thread that submits and then waits for all. */
#include "shapes.h"

static int
nothing(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    return 0;
}

static void
work(void *context, uint64_t jobs)
{
    wp_pool *pool = context;
    wp_stage *stage = wp_stage_new(pool, 0, nothing, 0);
    if (stage == NULL) {
        fail("wp_stage_new");
    }
    for (uint64_t i = 0; i < jobs; i++) {
        if (wp_stage_put(stage, NULL, WP_FOREVER) != WP_OK) {
            fail("wp_stage_put");
        }
    }
    wp_stage_unref(stage);
    while (wp_pool_drain(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
}

void
run_empty(const arguments *a)
{
    wp_pool *pool = pool_or_exit(a->workers, a->bound);
    measure(work, pool, a->jobs);
    pool_end(pool);
}
