/* What the peers in C and C++ share: their arguments, and the one line of JSON that they print.
 *
 *     PROGRAM SHAPE JOBS WORKERS BOUND
 *
 * A program does its work once with a tenth of the jobs, to get warm, and then measures: what a job costs in time, in
 * processor time of the whole process, and in context switches. All three end up in one object on the standard output.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define MOST_WORKERS 1024

typedef struct arguments {
    const char *shape;
    uint64_t jobs;
    unsigned workers;
    uint64_t bound; /* Jobs, or results, that may wait; 0: any number. What else it means, a program says. */
} arguments;

typedef struct usage {
    uint64_t wall_ns;
    uint64_t cpu_ns;
    uint64_t switches;
} usage;

static inline uint64_t
clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline uint64_t
number_or_exit(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0' || number < least || number > most) {
        fprintf(stderr, "%s is not a number between %llu and %llu\n", text, (unsigned long long)least,
                (unsigned long long)most);
        exit(2);
    }
    return number;
}

static inline arguments
read_arguments(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s SHAPE JOBS WORKERS BOUND\n", argv[0]);
        exit(2);
    }
    return (arguments){
        .shape = argv[1],
        .jobs = number_or_exit(argv[2], 1, UINT64_C(1) << 40),
        .workers = (unsigned)number_or_exit(argv[3], 1, MOST_WORKERS),
        .bound = number_or_exit(argv[4], 0, UINT64_C(1) << 40),
    };
}

static inline void
unknown_shape(const char *shape)
{
    fprintf(stderr, "there is no shape %s\n", shape);
    exit(2);
}

static inline void
fail(const char *what)
{
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static inline usage
usage_now(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (usage){
        .wall_ns = clock_ns(CLOCK_MONOTONIC),
        .cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
        .switches = (uint64_t)(used.ru_nvcsw + used.ru_nivcsw),
    };
}

static inline void
print_usage_since(usage before, uint64_t jobs)
{
    usage now = usage_now();
    double n = (double)jobs;
    printf("{\"ns\": %.3f, \"cpu_ns\": %.3f, \"switches\": %.6f}\n", (double)(now.wall_ns - before.wall_ns) / n,
           (double)(now.cpu_ns - before.cpu_ns) / n, (double)(now.switches - before.switches) / n);
}

/* Does the work with a tenth of the jobs, then with all of them, and prints what that took. */
static inline void
measure(void (*work)(void *state, uint64_t jobs), void *state, uint64_t jobs)
{
    work(state, jobs / 10 + 1);
    usage before = usage_now();
    work(state, jobs);
    print_usage_since(before, jobs);
}

/* Makes requests one after another, each `pause_ns` after the one before has ended, and prints what one takes: its time
 * from beginning to end, and the processor time of the process but for the pauses, in which this thread spins. */
static inline void
measure_spaced(void (*request)(void *state), void *state, uint64_t requests, uint64_t pause_ns)
{
    uint64_t spent = 0;  /* Time in requests. */
    uint64_t paused = 0; /* Processor time in pauses. */
    for (uint64_t i = 0; i < requests / 10 + 1; i++) {
        request(state);
    }
    usage before = usage_now();
    for (uint64_t i = 0; i < requests; i++) {
        uint64_t thread_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        uint64_t until = clock_ns(CLOCK_MONOTONIC) + pause_ns;
        while (clock_ns(CLOCK_MONOTONIC) < until) {
        }
        paused += clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread_cpu;
        uint64_t begin = clock_ns(CLOCK_MONOTONIC);
        request(state);
        spent += clock_ns(CLOCK_MONOTONIC) - begin;
    }
    usage now = usage_now();
    double n = (double)requests;
    printf("{\"ns\": %.3f, \"cpu_ns\": %.3f, \"switches\": %.6f}\n", (double)spent / n,
           (double)(now.cpu_ns - before.cpu_ns - paused) / n, (double)(now.switches - before.switches) / n);
}

#endif
