/* The loop that map_array is compared with, as a shared object: a function that is not known when this is compiled, over
 * two arrays, on so many threads. */
#include <stddef.h>

void openmp_loop(double (*function)(double), const double *in, double *out, size_t n, int threads);

void
openmp_loop(double (*function)(double), const double *in, double *out, size_t n, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        out[i] = function(in[i]);
    }
}
