/*
 * Inner threads: those that OpenMP and BLAS libraries start inside a job.
 *
 * PURPOSE. Two workers that each multiply matrices with a BLAS of eight threads keep sixteen threads busy, and are slower
 * than one. A thread that says here how many threads libraries may use on its behalf is taken at its word by those that
 * are in the process.
 *
 * WHAT CAN BE LIMITED, AND HOW FAR THAT REACHES.
 *
 *   the thread    OpenMP (libgomp, libomp, libiomp5), and with it every library that takes its threads from there, such
 *                 as OpenBLAS and BLIS built with OpenMP; MKL.
 *   the process   OpenBLAS built with threads of its own, as in the wheels of NumPy and SciPy, and BLIS: they have one
 *                 number for all callers. It is set while any limited thread is there, to the least of their limits, and
 *                 put back with the last.
 *
 * A limit never raises a number. What has no function for it (Apple's Accelerate, TBB), or is told a number with each
 * piece of work (numba), is left as it is.
 *
 * WHEN. Libraries come and go, so they are looked for when a thread begins, and again by wp_inner_renew(), which takes well
 * under a microsecond if none has been loaded since. A library that a job loads and uses at once is not limited there.
 *
 * STATE. This is the one place with memory of the process rather than of a pool, because what it keeps watch over belongs
 * to the process: the limited threads, and the numbers to put back. A lock of its own guards it; the setters of libraries
 * are called with it held, and do not come back here.
 */
#ifndef WP_INNER_H
#define WP_INNER_H

#include <stdint.h>

/* From now on, and until wp_inner_end(), libraries may use `limit` threads (1 to INT32_MAX) for the calling thread, itself
 * included. */
void wp_inner_begin(uint32_t limit);

/* Limits what has been loaded since, for the calling thread. Does nothing on a thread that is not limited. */
void wp_inner_renew(void);

/* The calling thread is about to end, or wants its limit no more. What reaches no further than the thread stays as it is. */
void wp_inner_end(void);

/* In a forked child: the limited threads are gone. What they had set stays until the next one has come and gone. */
void wp_inner_forked(void);

#endif
