/* oneTBB: a task_group that one thread fills; it takes part in the work when it waits.
 *
 *     tbb empty JOBS WORKERS BOUND         (BOUND is not looked at)
 *
 * WORKERS counts the thread that submits, as everywhere in oneTBB.
 */
#include "measure.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

static void
fill_and_wait(void *, uint64_t jobs)
{
    tbb::task_group group;
    for (uint64_t i = 0; i < jobs; i++) {
        group.run([] {});
    }
    group.wait();
}

int
main(int argc, char **argv)
{
    arguments a = read_arguments(argc, argv);
    if (strcmp(a.shape, "empty") != 0) {
        unknown_shape(a.shape);
    }
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, a.workers);
    tbb::task_arena arena(static_cast<int>(a.workers));
    arena.execute([&] { measure(fill_and_wait, nullptr, a.jobs); });
    return 0;
}
