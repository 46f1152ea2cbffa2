/* Words to sleep on where there is no futex; the contract is in wp_os.h.
 *
 * DESIGN. A small table of buckets, each a mutex and a condition variable; a word's address picks its bucket. A sleeper
 * looks at its word under the bucket's mutex, and a waker takes the same mutex after the word was changed: so a change
 * falls either before the look, or is followed by a wake-up that the sleeper cannot miss. A wake-up goes to all
 * sleepers of the bucket, because they may sleep on different words; those that were not meant go back to sleep.
 *
 * STATE. The table is process-wide: words have no room for a mutex of their own. A forked child starts it anew.
 */
#include "wp_os.h"

#if !defined(__linux__) || defined(WP_PORTABLE_WAIT)

#include <errno.h>
#include <string.h>
#include <time.h>

#define BUCKETS 64
/* A condition variable's wait does not end when a signal handler ran, so an interruptible wait looks up this often. */
#define SLICE_NS 50000000u

typedef struct bucket {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} bucket;

#define BUCKET                                                                                                         \
    {                                                                                                                  \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER                                                            \
    }
#define BUCKETS_8 BUCKET, BUCKET, BUCKET, BUCKET, BUCKET, BUCKET, BUCKET, BUCKET
static bucket table[BUCKETS] = {BUCKETS_8, BUCKETS_8, BUCKETS_8, BUCKETS_8, BUCKETS_8, BUCKETS_8, BUCKETS_8, BUCKETS_8};

static bucket *
bucket_of(const wp_word *word)
{
    uint64_t key = (uint64_t)(uintptr_t)word;
    return &table[(key * UINT64_C(0x9E3779B97F4A7C15)) >> 58];
}

/* The wall-clock time that lies as far ahead as `deadline` does on the monotonic clock: static initialisers give
 * condition variables the wall clock, and a slice bounds the error when somebody sets it. */
static struct timespec
wall_time_of(uint64_t deadline)
{
    struct timespec wall;
    uint64_t now = wp_clock();
    uint64_t ahead = deadline > now ? deadline - now : 0;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t ns = (uint64_t)wall.tv_nsec + ahead;
    wall.tv_sec += (time_t)(ns / 1000000000u);
    wall.tv_nsec = (long)(ns % 1000000000u);
    return wall;
}

enum wp_wait_result
wp_word_wait(wp_word *word, uint32_t expected, uint64_t deadline)
{
    bucket *home = bucket_of(word);
    uint64_t slice_end = wp_clock() + SLICE_NS;
    struct timespec until = wall_time_of(deadline < slice_end ? deadline : slice_end);
    enum wp_wait_result result = WP_WAIT_WOKEN;

    pthread_mutex_lock(&home->mutex);
    if (wp_load_acquire(word) == expected &&
        pthread_cond_timedwait(&home->changed, &home->mutex, &until) == ETIMEDOUT) {
        /* By our own clock: the wall clock may be set, and then the slice ends before its time. */
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
    static const bucket fresh = BUCKET;
    for (size_t i = 0; i < BUCKETS; i++) {
        memcpy(&table[i], &fresh, sizeof fresh);
    }
}

#else
typedef int wp_wait_portable_is_not_used_here;
#endif
