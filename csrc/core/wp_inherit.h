/* What a thread passes on to those that it starts.
 *
 * PURPOSE. Workers are started by whoever needs one: a submitter, another worker after a job, a side thread. A new thread
 * has the signal mask, the niceness, the processors and more of the one that started it, so without care what one job does
 * to its own thread would spread to workers that are started later, and what a library does to a thread that submits, to
 * the pool.
 *
 * DESIGN. The pool notes what its maker passes on: when it is made, and anew whenever the maker itself starts a worker. A
 * new worker takes it from there. It asks what it has before it sets anything, so that where nothing differs nothing is
 * set: a system may forbid that. What the system does not let a thread take back (a niceness that was raised, capabilities,
 * a filter of system calls) is not changed, and spreads to the workers that this worker starts.
 *
 * The scheduling and the processors of the process's main thread can be changed from outside, by taskset or a cgroup. If
 * it is the maker, a new worker looks what they are now.
 */
#ifndef WP_INHERIT_H
#define WP_INHERIT_H

#include "wp_atomic.h"

#include <fenv.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __linux__

/* Processors and nodes of memory, by bit. The system has no more of them. */
#define WP_CPU_WORDS (8192 / (8 * sizeof(unsigned long)))
#define WP_NODE_WORDS (1024 / (8 * sizeof(unsigned long)))

/* The first version of the kernel's struct sched_attr. Its name is not taken: newer C libraries have it too. */
typedef struct wp_scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t times[3];
} wp_scheduling;

typedef struct wp_cpus {
    long size; /* Bytes that the system uses; 0 or less: unknown. */
    unsigned long words[WP_CPU_WORDS];
} wp_cpus;

typedef struct wp_memory_policy {
    bool known;
    int mode;
    unsigned long nodes[WP_NODE_WORDS];
} wp_memory_policy;

#endif

typedef struct wp_inherited {
    uint64_t maker; /* The thread whose it is; 0: of none yet. */
    sigset_t mask;
    fenv_t floating; /* Rounding, traps, and what is done with subnormal numbers. */
#ifdef __linux__
    bool of_main; /* The maker is the process's main thread. */
    wp_scheduling scheduling;
    wp_cpus cpus;
    wp_memory_policy memory;
    long io_priority; /* Less than 0: unknown. */
    long timer_slack; /* Likewise. */
#endif
} wp_inherited;

/* Notes what the calling thread passes on, and that it is the maker. */
void wp_inherited_note(wp_inherited *noted);

/* Whether the calling thread is the maker, or there is none yet. */
bool wp_inherited_is_mine(const wp_inherited *noted);

/* Gives the calling thread, just started, what was noted. Last of all it gets the mask: from then on signals may come. */
void wp_inherited_take(const wp_inherited *noted);

#endif
