/* A scheduler for threads of the core, so that a test decides who goes on at each atomic operation.
 *
 * PURPOSE. A race that needs three threads to be at three certain lines does not come up by chance, and when it does it
 * cannot be had again. Here the real code runs on real threads, but only one at a time: at each atomic operation, each
 * pause, each sleep and each wake-up the scheduler says which thread goes on. It takes its choices from a seed or from a
 * plan, so every run can be had again.
 *
 * TIME is virtual. The clock moves a little each time it is read, and far when the scheduler lets somebody's timed sleep
 * end: that may be chosen while others could go on, because a real thread can be off its processor for any time.
 *
 * WHAT IT FINDS. A run fails when everybody sleeps without a limit, when it does not end, when a check or an invariant
 * fails, or when the process crashes. It prints the seed or plan, where each thread stands, and the last steps.
 *
 * WHAT IT DOES NOT. Operations happen in one order for all threads (sequential consistency), so a memory order that is
 * too weak is not found here; ThreadSanitizer and other processors are there for that.
 */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include <pthread.h>

/* One scenario: `body` is run as the first thread, and all that it started must have ended when it returns (or end
 * then by themselves). Random choices within it are schedule_random's. */
typedef struct scenario {
    const char *name;
    void (*body)(void);
} scenario;

/* The main function of a program of scenarios; the arguments are explained by --help. Returns the exit status. */
int schedule_main(int argc, char **argv, const scenario *scenarios, int n);

/* A number below `below`, from the seed; the same in each run of one seed, and 0 in those that follow a plan. */
uint32_t schedule_random(uint32_t below);

/* In runs that follow a plan a scenario is as small as it can be. */
bool schedule_is_small(void);

/* Lets the virtual clock move on by so many ns. */
void schedule_spend(uint64_t ns);

/* Starts another thread of the scenario, which is joined by pthread_join. */
pthread_t schedule_start(void *(*main)(void *), void *argument);

/* The run has failed: prints why, how to have it again, and what led to it, and ends the process. */
void schedule_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Called before each step of a run, until it is over: it may only look. NULL for none. */
void schedule_set_invariant(void (*invariant)(void *context), void *context);

#endif
