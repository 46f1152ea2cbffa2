/* OpenMP tasks: one thread of the team makes them, all run them.
 *
 *     openmp empty JOBS WORKERS BOUND         (BOUND is not looked at)
 *
 * The tasks count themselves, or the compiler would leave nothing of them.
 */
#include "measure.h"

#include <omp.h>

static _Thread_local volatile uint64_t done;

static void
work(void *state, uint64_t jobs)
{
    const unsigned *workers = state;
#pragma omp parallel num_threads(*workers)
#pragma omp single
    for (uint64_t i = 0; i < jobs; i++) {
#pragma omp task
        done = done + 1;
    }
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
