/* The waiting line of one lane: a growable ring of spans, first in first out, with removal from the middle.
 *
 * DESIGN. A span is a job and the part of it that has not been claimed: [0, 1) for a plain job, any range for a
 * parallel one. Spans lie side by side, so a worker that claims a batch reads a few cache lines rather than one for
 * each job. Removing from the middle leaves a hole that is passed over later. The ring doubles when it is full of
 * spans, and moves them together instead when at least half of it is holes; so each push and each removal costs a
 * constant on average, and a cancelled job gives its place back at once.
 *
 * GUARANTEES. No locks: the pool's lock guards every ring. A push that cannot get memory changes nothing.
 */
#ifndef WP_RING_H
#define WP_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wp_job;

typedef struct wp_span {
    struct wp_job *job; /* NULL: a hole. */
    uint32_t begin;
    uint32_t end;
} wp_span;

typedef struct wp_ring {
    wp_span *spans; /* `size` of them; NULL while size is 0. */
    uint64_t size;  /* A power of two, or 0. */
    uint64_t head;  /* Position of the first span or hole; position p is in spans[p % size]. */
    uint64_t tail;  /* Position after the last. */
    uint64_t holes; /* How many positions in [head, tail) are holes. */
} wp_ring;

/* A job's ticket is the position of one of its spans (a plain job has only one, a parallel one may have several after a
 * worker gave back part of a claim), or this while it names none. */
#define WP_NO_TICKET UINT64_MAX

void wp_ring_init(wp_ring *ring);
void wp_ring_free(wp_ring *ring);

static inline bool
wp_ring_is_empty(const wp_ring *ring)
{
    return ring->tail - ring->head == ring->holes;
}

/* Makes room for so many pushes that cannot fail. 0, or -1 without memory. */
int wp_ring_reserve(wp_ring *ring, uint64_t pushes);

/* Adds a span at the end or the beginning; its job's ticket becomes the position unless it names another span already.
 * 0, or -1 without memory. */
int wp_ring_push_back(wp_ring *ring, wp_span span);
int wp_ring_push_front(wp_ring *ring, wp_span span);

/* The first span, to be read or shortened in place; NULL when there is none. */
wp_span *wp_ring_front(wp_ring *ring);

/* The last span, to be made longer in place; NULL when there is none, or a hole in its place. */
static inline wp_span *
wp_ring_last(const wp_ring *ring)
{
    wp_span *last = ring->head != ring->tail ? &ring->spans[(ring->tail - 1) & (ring->size - 1)] : NULL;
    return last != NULL && last->job != NULL ? last : NULL;
}

/* Takes the first span off; a ticket that named it becomes WP_NO_TICKET. Needs a non-NULL wp_ring_front before it. */
void wp_ring_pop_front(wp_ring *ring);

/* The span at a ticket that its job still holds. */
wp_span *wp_ring_at(wp_ring *ring, uint64_t ticket);

/* Makes a hole of the span at a ticket, and the ticket WP_NO_TICKET. */
void wp_ring_remove(wp_ring *ring, uint64_t ticket);

/* The position of the first span of a job, looking through the whole ring; WP_NO_TICKET if it has none. */
uint64_t wp_ring_find(wp_ring *ring, const struct wp_job *job);

#endif
