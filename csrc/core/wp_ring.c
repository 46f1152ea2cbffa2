/* See wp_ring.h. */
#include "wp_job.h"

#include <stdlib.h>

#define FIRST_SIZE 16
/* Where positions begin: far enough from 0 that pushing to the front never reaches WP_NO_TICKET, and a multiple of
 * every size. */
#define ORIGIN (UINT64_C(1) << 62)

void
wp_ring_init(wp_ring *ring)
{
    *ring = (wp_ring){0};
}

void
wp_ring_free(wp_ring *ring)
{
    free(ring->spans);
    wp_ring_init(ring);
}

/* A job whose ticket named the old position is told the new one; a job's other spans have no ticket. */
static void
renumber(wp_span span, uint64_t old_position, uint64_t position)
{
    if (span.job->ticket == old_position) {
        span.job->ticket = position;
    }
}

static wp_span *
slot(const wp_ring *ring, uint64_t position)
{
    return &ring->spans[position & (ring->size - 1)];
}

/* Writes the live spans, in order, to another array and gives their jobs the new tickets. */
static void
move_spans(wp_ring *ring, wp_span *target, uint64_t size)
{
    uint64_t write = ORIGIN;
    for (uint64_t at = ring->head; at != ring->tail; at++) {
        wp_span span = *slot(ring, at);
        if (span.job != NULL) {
            renumber(span, at, write);
            target[write++ & (size - 1)] = span;
        }
    }
    ring->head = ORIGIN;
    ring->tail = write;
    ring->holes = 0;
}

/* Packs the live spans towards the head. Working by positions rather than array indices keeps this right where the
 * spans wrap around the array's end: the position written never passes the position read. */
static void
close_holes(wp_ring *ring)
{
    uint64_t write = ring->head;
    for (uint64_t read = ring->head; read != ring->tail; read++) {
        wp_span span = *slot(ring, read);
        if (span.job != NULL) {
            renumber(span, read, write);
            *slot(ring, write++) = span;
        }
    }
    ring->tail = write;
    ring->holes = 0;
}

static int
grow(wp_ring *ring)
{
    uint64_t size = ring->size > 0 ? ring->size * 2 : FIRST_SIZE;
    wp_span *spans = size <= SIZE_MAX / sizeof *spans ? malloc((size_t)size * sizeof *spans) : NULL;
    if (spans == NULL) {
        return -1;
    }
    move_spans(ring, spans, size);
    free(ring->spans);
    ring->spans = spans;
    ring->size = size;
    return 0;
}

int
wp_ring_reserve(wp_ring *ring, uint64_t pushes)
{
    while (ring->size - (ring->tail - ring->head) < pushes) {
        if (ring->holes > 0 && ring->holes >= ring->size / 2) {
            close_holes(ring);
        } else if (grow(ring) < 0) {
            return -1;
        }
    }
    return 0;
}

int
wp_ring_push_back(wp_ring *ring, wp_span span)
{
    if (wp_ring_reserve(ring, 1) < 0) {
        return -1;
    }
    renumber(span, WP_NO_TICKET, ring->tail);
    *slot(ring, ring->tail++) = span;
    return 0;
}

int
wp_ring_push_front(wp_ring *ring, wp_span span)
{
    if (wp_ring_reserve(ring, 1) < 0) {
        return -1;
    }
    ring->head--;
    renumber(span, WP_NO_TICKET, ring->head);
    *slot(ring, ring->head) = span;
    return 0;
}

wp_span *
wp_ring_front(wp_ring *ring)
{
    while (ring->head != ring->tail) {
        wp_span *first = slot(ring, ring->head);
        if (first->job != NULL) {
            return first;
        }
        ring->head++;
        ring->holes--;
    }
    return NULL;
}

void
wp_ring_pop_front(wp_ring *ring)
{
    renumber(*slot(ring, ring->head), ring->head, WP_NO_TICKET);
    ring->head++;
}

wp_span *
wp_ring_at(wp_ring *ring, uint64_t ticket)
{
    return slot(ring, ticket);
}

void
wp_ring_remove(wp_ring *ring, uint64_t ticket)
{
    wp_span *span = slot(ring, ticket);
    renumber(*span, ticket, WP_NO_TICKET);
    span->job = NULL;
    ring->holes++;
}

uint64_t
wp_ring_find(wp_ring *ring, const struct wp_job *job)
{
    for (uint64_t at = ring->head; at != ring->tail; at++) {
        if (slot(ring, at)->job == job) {
            return at;
        }
    }
    return WP_NO_TICKET;
}
