/* GLib: a GThreadPool of threads of its own.
 *
 *     glib empty JOBS WORKERS BOUND         (BOUND is not looked at)
 *
 * It has no way to wait for all jobs but to free the pool, so a pool is made for each measurement.
 */
#include "measure.h"

#include <glib.h>

static void
nothing(gpointer job, gpointer state)
{
    (void)job;
    (void)state;
}

static void
work(void *state, uint64_t jobs)
{
    const unsigned *workers = state;
    GThreadPool *pool = g_thread_pool_new(nothing, NULL, (gint)*workers, TRUE, NULL);
    if (pool == NULL) {
        fail("g_thread_pool_new");
    }
    for (uint64_t i = 0; i < jobs; i++) {
        g_thread_pool_push(pool, (gpointer)workers, NULL); /* A job must not be NULL. */
    }
    g_thread_pool_free(pool, FALSE, TRUE);
}

int
main(int argc, char **argv)
{
    arguments a = read_arguments(argc, argv);
    if (strcmp(a.shape, "empty") != 0) {
        unknown_shape(a.shape);
    }
    measure(work, &a.workers, a.jobs);
    return 0;
}
