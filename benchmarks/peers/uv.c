/* libuv: work for its threads, and a callback on the loop's thread when a piece of it has ended.
 *
 *     uv empty JOBS WORKERS BOUND         (BOUND is not looked at)
 *
 * libuv takes the number of threads from the environment: UV_THREADPOOL_SIZE.
 */
#include "measure.h"

#include <uv.h>

static void
nothing(uv_work_t *request)
{
    (void)request;
}

static void
ended(uv_work_t *request, int status)
{
    (void)status;
    free(request);
}

static void
work(void *state, uint64_t jobs)
{
    uv_loop_t *loop = state;
    for (uint64_t i = 0; i < jobs; i++) {
        uv_work_t *request = malloc(sizeof *request);
        if (request == NULL || uv_queue_work(loop, request, nothing, ended) != 0) {
            fail("uv_queue_work");
        }
    }
    uv_run(loop, UV_RUN_DEFAULT);
}

int
main(int argc, char **argv)
{
    arguments a = read_arguments(argc, argv);
    char size[16];
    if (strcmp(a.shape, "empty") != 0) {
        unknown_shape(a.shape);
    }
    snprintf(size, sizeof size, "%u", a.workers);
    setenv("UV_THREADPOOL_SIZE", size, 1);
    measure(work, uv_default_loop(), a.jobs);
    return 0;
}
