/* The waiting line: what goes in comes out, first in first out, whatever is taken from the middle; tickets stay true while
 * the ring grows and closes its holes; and it does not grow without need.
 */
#include "fixture.h"

enum { MANY = 4096 };

static wp_job jobs[MANY];

static void
reset_jobs(void)
{
    for (int i = 0; i < MANY; i++) {
        jobs[i].ticket = WP_NO_TICKET;
    }
}

static wp_span
one(int i)
{
    return (wp_span){&jobs[i], 0, 1};
}

static int
index_of(const wp_job *job)
{
    return (int)(job - jobs);
}

static uint64_t
live(const wp_ring *ring)
{
    return ring->tail - ring->head - ring->holes;
}

static void
test_empty(void)
{
    wp_ring ring;
    wp_ring_init(&ring);
    CHECK(wp_ring_is_empty(&ring));
    CHECK(wp_ring_front(&ring) == NULL);
    wp_ring_free(&ring);
    CHECK_INT(ring.size, 0);
}

static void
test_first_in_first_out(void)
{
    wp_ring ring;
    wp_ring_init(&ring);
    reset_jobs();
    int next = 0;
    for (int i = 0; i < MANY; i++) { /* Three in, one out: it grows while its spans wrap around. */
        CHECK_INT(wp_ring_push_back(&ring, one(i)), 0);
        if (i % 3 == 0) {
            CHECK_INT(index_of(wp_ring_front(&ring)->job), next);
            wp_ring_pop_front(&ring);
            CHECK(jobs[next].ticket == WP_NO_TICKET);
            next++;
        }
    }
    for (; next < MANY; next++) {
        CHECK(wp_ring_at(&ring, jobs[next].ticket)->job == &jobs[next]);
        CHECK_INT(index_of(wp_ring_front(&ring)->job), next);
        wp_ring_pop_front(&ring);
    }
    CHECK(wp_ring_is_empty(&ring));
    wp_ring_free(&ring);
}

static void
test_push_front(void)
{
    wp_ring ring;
    wp_ring_init(&ring);
    reset_jobs();
    for (int i = 0; i < 100; i++) { /* Beyond where positions begin. */
        CHECK_INT(wp_ring_push_front(&ring, one(i)), 0);
    }
    for (int i = 100; i < 200; i++) {
        CHECK_INT(wp_ring_push_back(&ring, one(i)), 0);
    }
    for (int i = 99; i >= 0; i--) {
        CHECK_INT(index_of(wp_ring_front(&ring)->job), i);
        wp_ring_pop_front(&ring);
    }
    CHECK_INT(index_of(wp_ring_front(&ring)->job), 100);
    wp_ring_free(&ring);
}

/* A line that is always cancelled from the middle keeps its size. */
static void
test_holes_are_closed(void)
{
    wp_ring ring;
    wp_ring_init(&ring);
    reset_jobs();
    CHECK_INT(wp_ring_push_back(&ring, one(0)), 0);
    for (int i = 1; i < MANY; i++) {
        CHECK_INT(wp_ring_push_back(&ring, one(i)), 0);
        wp_ring_remove(&ring, jobs[i].ticket);
        CHECK(jobs[i].ticket == WP_NO_TICKET);
    }
    CHECK_INT(ring.size, 16);
    CHECK_INT(live(&ring), 1);
    CHECK_INT(index_of(wp_ring_front(&ring)->job), 0);
    wp_ring_remove(&ring, jobs[0].ticket);
    CHECK(wp_ring_is_empty(&ring));
    CHECK(wp_ring_front(&ring) == NULL);
    wp_ring_free(&ring);
}

/* A range may have several spans; its ticket names one of them as long as that one is there. */
static void
test_spans_of_a_range(void)
{
    wp_ring ring;
    wp_ring_init(&ring);
    reset_jobs();
    CHECK_INT(wp_ring_push_back(&ring, (wp_span){&jobs[0], 10, 20}), 0);
    CHECK_INT(wp_ring_push_back(&ring, one(1)), 0);
    CHECK_INT(wp_ring_push_front(&ring, (wp_span){&jobs[0], 5, 8}), 0);
    CHECK_INT(wp_ring_at(&ring, jobs[0].ticket)->begin, 10);
    for (int i = 2; i < 40; i++) {
        CHECK_INT(wp_ring_push_back(&ring, one(i)), 0);
    }
    CHECK(wp_ring_at(&ring, jobs[0].ticket)->job == &jobs[0]);
    wp_ring_remove(&ring, jobs[0].ticket);
    CHECK(jobs[0].ticket == WP_NO_TICKET);
    uint64_t other = wp_ring_find(&ring, &jobs[0]);
    CHECK_INT(wp_ring_at(&ring, other)->begin, 5);
    wp_ring_remove(&ring, other);
    CHECK(wp_ring_find(&ring, &jobs[0]) == WP_NO_TICKET);
    CHECK_INT(index_of(wp_ring_front(&ring)->job), 1);
    CHECK_INT(live(&ring), 39);
    wp_ring_free(&ring);
}

/* ---- Against a model ---- */

/* The line as a plain list. */
static int model[2 * MANY];
static int model_length;

static void
model_insert(int at, int value)
{
    memmove(&model[at + 1], &model[at], (size_t)(model_length - at) * sizeof model[0]);
    model[at] = value;
    model_length++;
}

static void
model_remove(int at)
{
    model_length--;
    memmove(&model[at], &model[at + 1], (size_t)(model_length - at) * sizeof model[0]);
}

static void
check_against_model(wp_ring *ring)
{
    CHECK_INT(live(ring), model_length);
    int at = 0;
    for (uint64_t position = ring->head; position != ring->tail; position++) {
        const wp_span *span = wp_ring_at(ring, position);
        if (span->job != NULL) {
            CHECK_INT(index_of(span->job), model[at]);
            CHECK(span->job->ticket == position);
            at++;
        }
    }
}

static void
test_random_operations(void)
{
    uint64_t seed = check_seed(1);
    static int unused[MANY];
    int n_unused = MANY;
    wp_ring ring;
    wp_ring_init(&ring);
    reset_jobs();
    for (int i = 0; i < MANY; i++) {
        unused[i] = i;
    }
    for (int step = 0; step < 20000; step++) {
        /* Phases of growing and of shrinking. */
        bool grow = (step / 1500) % 2 == 0 ? check_rand(&seed) % 3 > 0 : check_rand(&seed) % 3 == 0;
        if (grow && n_unused > 0) {
            int job = unused[--n_unused];
            bool front = check_rand(&seed) % 4 == 0;
            CHECK_INT(front ? wp_ring_push_front(&ring, one(job)) : wp_ring_push_back(&ring, one(job)), 0);
            model_insert(front ? 0 : model_length, job);
        } else if (!grow && model_length > 0) {
            int at = check_rand(&seed) % 2 == 0 ? 0 : (int)(check_rand(&seed) % (uint64_t)model_length);
            unused[n_unused++] = model[at];
            if (at == 0 && check_rand(&seed) % 2 == 0) {
                CHECK_INT(index_of(wp_ring_front(&ring)->job), model[0]);
                wp_ring_pop_front(&ring);
            } else {
                wp_ring_remove(&ring, jobs[model[at]].ticket);
            }
            model_remove(at);
        }
        if (step % 97 == 0) {
            check_against_model(&ring);
        }
    }
    check_against_model(&ring);
    wp_ring_free(&ring);
}

int
main(void)
{
    check_time_limit(55);
    RUN(test_empty);
    RUN(test_first_in_first_out);
    RUN(test_push_front);
    RUN(test_holes_are_closed);
    RUN(test_spans_of_a_range);
    RUN(test_random_operations);
    return check_done();
}
