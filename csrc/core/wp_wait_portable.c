/* Words to sleep on where there is no futex; the contract is in wp_os.h.
 *
 * DESIGN. A small table of buckets, each a mutex and a condition variable; a word's address picks its bucket. A sleeper
 * looks at its word under the bucket's mutex, and a waker takes the same mutex after the word was changed: so a change
 * falls either before the look, or is followed by a wake-up that the sleeper cannot miss. A wake-up goes to all
 * sleepers of the bucket, because they may sleep on different words; those that were not meant go back to sleep.
 *
 * TIME. Limits are times on the monotonic clock. A condition variable is on the wall clock unless it is told otherwise,
 * and whoever sets that back by a day would keep every sleeper of the moment asleep for a day.
 *
 * STATE. The table is process-wide: words have no room for a mutex of their own. A forked child starts it anew.
 */
#include "wp_os.h"

#if !defined(__linux__) || defined(WP_PORTABLE_WAIT)

#include <errno.h>
#include <time.h>

#define BUCKETS 64
/* A condition variable's wait does not end when a signal handler ran, so an interruptible wait looks up this often. */
#define SLICE_NS 50000000u

typedef struct bucket {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} bucket;

static bucket table[BUCKETS]; /* Made once, before the first use. */
static pthread_once_t table_made = PTHREAD_ONCE_INIT;

/* No static initialiser names a clock. These calls fail for nonsense only. */
static void
make_table(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    for (size_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&table[i].mutex, NULL);
        pthread_cond_init(&table[i].changed, &attributes);
    }
    pthread_condattr_destroy(&attributes);
}

static bucket *
bucket_of(const wp_word *word)
{
    uint64_t key = (uint64_t)(uintptr_t)word;
    pthread_once(&table_made, make_table);
    return &table[(key * UINT64_C(0x9E3779B97F4A7C15)) >> 58];
}

static struct timespec
timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

/* Sleeps in the bucket, whose mutex is held, until the time on the monotonic clock; ETIMEDOUT if that came first. macOS
 * knows no clock of a condition variable, but how long to wait. */
static int
sleep_until(bucket *home, uint64_t time)
{
#ifdef __APPLE__
    uint64_t now = wp_clock();
    struct timespec left = timespec_of(time > now ? time - now : 0);
    return pthread_cond_timedwait_relative_np(&home->changed, &home->mutex, &left);
#else
    struct timespec until = timespec_of(time);
    return pthread_cond_timedwait(&home->changed, &home->mutex, &until);
#endif
}

enum wp_wait_result
wp_word_wait(wp_word *word, uint32_t expected, uint64_t deadline)
{
    bucket *home = bucket_of(word);
    uint64_t slice_end = wp_clock() + SLICE_NS;
    enum wp_wait_result result = WP_WAIT_WOKEN;

    pthread_mutex_lock(&home->mutex);
    if (wp_load_acquire(word) == expected &&
        sleep_until(home, deadline < slice_end ? deadline : slice_end) == ETIMEDOUT) {
        result = wp_clock() >= deadline ? WP_WAIT_TIMED_OUT : WP_WAIT_INTERRUPTED;
    }
    pthread_mutex_unlock(&home->mutex);
    return result;
}

void
wp_word_wake(wp_word *word, unsigned count)
{
    (void)count;
    bucket *home = bucket_of(word);
    pthread_mutex_lock(&home->mutex);
    pthread_cond_broadcast(&home->changed);
    pthread_mutex_unlock(&home->mutex);
}

void
wp_word_after_fork(void)
{
    make_table();
}

#else
typedef int wp_wait_portable_is_not_used_here;
#endif
