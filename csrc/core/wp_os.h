/* What the pool needs from the operating system: a clock, processors, threads, and words to sleep on.
 *
 * PURPOSE. Every call that differs between systems is behind this header, so that the rest of the core is plain C11.
 *
 * DESIGN. wp_os.c holds what POSIX gives everywhere. The word to sleep on has two implementations with one contract:
 * wp_wait_futex.c (Linux) and wp_wait_portable.c (mutexes and condition variables; any POSIX system, or Linux when
 * WP_PORTABLE_WAIT is defined, which is how the tests run both).
 */
#ifndef WP_OS_H
#define WP_OS_H

#include "wp_atomic.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Times are nanoseconds on the monotonic clock; a deadline is a point on it, and this one never comes. */
#define WP_FOREVER UINT64_MAX

uint64_t wp_clock(void);

static inline uint64_t
wp_smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The time that is `ns` after another; WP_FOREVER if there is no such time, and so after WP_FOREVER ns. */
static inline uint64_t
wp_later(uint64_t time, uint64_t ns)
{
    return ns < WP_FOREVER - time ? time + ns : WP_FOREVER;
}

/* The deadline `seconds` from now; WP_FOREVER for NaN, infinity or anything that does not fit; now for less than 0. */
uint64_t wp_deadline_after(double seconds);

/* How many processors this process may use: the smaller of its affinity mask and its cgroup's processor quota (rounded
 * up), at least 1. */
unsigned wp_processors(void);

/* The same by the affinity mask alone, which is cheap to ask for. */
unsigned wp_processors_by_affinity(void);

/* The processor that the calling thread is on, or was a moment ago; -1 where the system does not say so cheaply. */
int wp_processor(void);

/* Names the calling thread, as debuggers and top show it; the system may cut it (Linux: 15 bytes). */
void wp_thread_set_name(const char *name);

/* Lets another thread have this processor, if one waits for it. */
void wp_yield(void);

/* Starts a thread in which every signal is blocked but those that a thread raises by its own fault: so none comes before
 * it is ready, and to a thread that never unblocks them none comes at all. stack_size: bytes; 0 for the default, which is
 * 8 MiB, or the system's if that is more. Returns 0 or an errno value. */
#define WP_DEFAULT_STACK ((size_t)8 << 20)
int wp_thread_start(pthread_t *thread, void *(*main)(void *), void *argument, size_t stack_size);

/* Whether a thread could have a stack of so many bytes now: 0; EINVAL for less than the system allows, ENOMEM for more than
 * there is room for. */
int wp_stack_size_check(size_t stack_size);

enum wp_wait_result { WP_WAIT_WOKEN, WP_WAIT_TIMED_OUT, WP_WAIT_INTERRUPTED };

/* Sleeps while *word holds `expected`, until woken, the deadline or a signal handler. Returns at once if it holds
 * anything else. May return WP_WAIT_WOKEN for no reason: call it in a loop that looks at the word.
 * Where the system cannot report a signal (the portable build) it returns WP_WAIT_INTERRUPTED every 50 ms instead. */
enum wp_wait_result wp_word_wait(wp_word *word, uint32_t expected, uint64_t deadline);

/* Wakes up to `count` threads that sleep on the word. Only the address is used, so it is safe (a spurious wake-up at
 * worst) on a word whose memory was freed after the caller's last write to it. */
void wp_word_wake(wp_word *word, unsigned count);
#define WP_WAKE_ALL 0x7fffffffu

/* In a forked child, before any other call: forgets the threads that slept on words. */
void wp_word_after_fork(void);

#endif
