/* Words to sleep on, by Linux's futex; the contract is in wp_os.h. */
#include "wp_os.h"

#if defined(__linux__) && !defined(WP_PORTABLE_WAIT)

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum wp_wait_result
wp_word_wait(wp_word *word, uint32_t expected, uint64_t deadline)
{
    /* The BITSET form takes an absolute time on the monotonic clock, so a retry needs no arithmetic. */
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000u), .tv_nsec = (long)(deadline % 1000000000u)};
    WP_SCHEDULE_POINT();
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline == WP_FOREVER ? NULL : &until,
                      NULL, FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN) {
        return WP_WAIT_WOKEN;
    }
    return errno == ETIMEDOUT ? WP_WAIT_TIMED_OUT : WP_WAIT_INTERRUPTED;
}

void
wp_word_wake(wp_word *word, unsigned count)
{
    WP_SCHEDULE_POINT();
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

void
wp_word_after_fork(void)
{
    /* The kernel's queues belong to threads, and the child has none of them. */
}

#else
typedef int wp_wait_futex_is_not_used_here;
#endif
