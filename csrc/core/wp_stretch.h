/* A stretch of numbers whose owner takes from the front while others may take from the end.
 *
 * PURPOSE. What a worker has claimed and not begun stays within reach: an idle worker takes half of the rest, and a
 * canceller all of it, even while the owner sits in a job that turned out long.
 *
 * DESIGN. Both bounds in one word, changed by compare-and-swap: each number is taken once. Only the owner sets a new
 * stretch, under the pool's lock; others take from the end under the same lock, so what the numbers stand for does not
 * change under them. For the owner it is one atomic operation on a cache line of its own.
 */
#ifndef WP_STRETCH_H
#define WP_STRETCH_H

#include "wp_atomic.h"

#include <stdbool.h>

typedef struct wp_stretch {
    _Atomic(uint64_t) bounds; /* next << 32 | end */
} wp_stretch;

static inline uint64_t
wp_stretch_bounds(uint32_t next, uint32_t end)
{
    return (uint64_t)next << 32 | end;
}

static inline void
wp_stretch_set(wp_stretch *stretch, uint32_t begin, uint32_t end)
{
    wp_store_release(&stretch->bounds, wp_stretch_bounds(begin, end));
}

static inline uint32_t
wp_stretch_left(wp_stretch *stretch)
{
    uint64_t bounds = wp_load_relaxed(&stretch->bounds);
    return (uint32_t)bounds - (uint32_t)(bounds >> 32);
}

/* Owner: takes up to `most` numbers, at least 1, from the front; false if none is left. */
static inline bool
wp_stretch_take(wp_stretch *stretch, uint32_t most, uint32_t *begin, uint32_t *end)
{
    uint64_t bounds = wp_load_relaxed(&stretch->bounds);
    uint32_t last;
    do {
        *begin = (uint32_t)(bounds >> 32);
        last = (uint32_t)bounds;
        if (*begin == last) {
            return false;
        }
        *end = last - *begin < most ? last : *begin + most;
    } while (!wp_cas_weak_acq_rel(&stretch->bounds, &bounds, wp_stretch_bounds(*end, last)));
    return true;
}

/* Pool's lock held: takes up to `most` numbers from the end; false if none is left. */
static inline bool
wp_stretch_take_end(wp_stretch *stretch, uint32_t most, uint32_t *begin, uint32_t *end)
{
    uint64_t bounds = wp_load_relaxed(&stretch->bounds);
    uint32_t first;
    do {
        first = (uint32_t)(bounds >> 32);
        *end = (uint32_t)bounds;
        if (first == *end) {
            return false;
        }
        *begin = *end - first < most ? first : *end - most;
    } while (!wp_cas_weak_acq_rel(&stretch->bounds, &bounds, wp_stretch_bounds(first, *begin)));
    return true;
}

#endif
