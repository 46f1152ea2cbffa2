/* The core's program: reads the arguments and runs a shape. Built from csrc/core at -O2, with statistics on. */
#include "shapes.h"

wp_pool *
pool_or_exit(unsigned workers, uint64_t capacity)
{
    wp_pool_config config = {.max_workers = workers, .n_lanes = 1, .idle_timeout = WP_FOREVER, .thread_name = "core"};
    config.lanes[0].capacity = capacity > 0 ? capacity : WP_UNBOUNDED;
    wp_pool *pool = wp_pool_new(&config);
    if (pool == NULL) {
        fail("wp_pool_new");
    }
    return pool;
}

void
pool_end(wp_pool *pool)
{
    wp_pool_close(pool);
    while (wp_pool_join(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
    wp_pool_unref(pool);
}

void
submit_or_exit(wp_pool *pool, wp_function *function, void *argument)
{
    wp_job *job = wp_function_job(function, argument, NULL);
    if (job == NULL || wp_pool_submit_wait(pool, 0, job, WP_FOREVER) != WP_OK) {
        fail("a submission");
    }
    wp_job_unref(job);
}

int
main(int argc, char **argv)
{
    arguments a = read_arguments(argc, argv);
    if (strcmp(a.shape, "channels") == 0) {
        run_channels(&a, a.bound, false);
    } else if (strcmp(a.shape, "channels-16") == 0) {
        run_channels(&a, a.bound, true);
    } else if (strcmp(a.shape, "channels-2") == 0) {
        run_channels(&a, 2 * a.bound, false);
    } else if (strcmp(a.shape, "empty") == 0) {
        run_empty(&a);
    } else if (strcmp(a.shape, "tail") == 0) {
        run_tail(&a, false);
    } else if (strcmp(a.shape, "tail-1") == 0) {
        run_tail(&a, true);
    } else if (strcmp(a.shape, "spaced") == 0) {
        run_spaced(&a, false);
    } else if (strcmp(a.shape, "spaced-worker") == 0) {
        run_spaced(&a, true);
    } else {
        unknown_shape(a.shape);
    }
    return 0;
}
