/* The jobs and results channels of a Go pool, as a user of the core in C would have them: see csrc/examples/jobs.c.
 *
 * Jobs are put and results are got one by one, or up to BATCH at a time.
 *
 * An array holds each job's input and output, as it would in a program that has a million numbers to work on. The
 * consumer checks every result. What the producer reads for each job is on its own stack: beside the consumer's variables
 * it would cost as much as the stage does.
 */
#include "shapes.h"

#include <math.h>

#define BATCH 16

typedef struct item {
    double value;
    double result;
} item;

typedef struct state {
    wp_pool *pool;
    item *items;
    uint32_t places;
    bool in_batches;
} state;

typedef struct producer {
    wp_stage *stage;
    item *items;
    uint64_t jobs;
} producer;

static int
absolute(wp_job *job, void *argument)
{
    item *i = argument;
    (void)job;
    i->result = fabs(i->value);
    return 0;
}

static void
put_batch(const producer *p, uint64_t first)
{
    void *batch[BATCH];
    uint32_t n = 0;
    uint32_t done;
    for (; n < BATCH && first + n < p->jobs; n++) {
        item *one = &p->items[first + n];
        one->value = -(double)(first + n);
        batch[n] = one;
    }
    if (wp_stage_put_many(p->stage, batch, n, WP_FOREVER, &done) != WP_OK) {
        fail("wp_stage_put_many");
    }
}

static void *
produce_batches(void *argument)
{
    const producer p = *(const producer *)argument;
    for (uint64_t i = 0; i < p.jobs; i += BATCH) {
        put_batch(&p, i);
    }
    wp_stage_close(p.stage);
    return NULL;
}

static double
consume_batches(wp_stage *stage)
{
    double sum = 0.0;
    uint32_t n;
    wp_stage_result results[BATCH];
    while (wp_stage_get_many(stage, WP_FOREVER, results, BATCH, &n) == WP_OK) {
        for (uint32_t i = 0; i < n; i++) {
            sum += ((item *)results[i].argument)->result;
        }
    }
    return sum;
}

static void *
produce(void *argument)
{
    const producer p = *(const producer *)argument;
    for (uint64_t i = 0; i < p.jobs; i++) {
        item *one = &p.items[i];
        one->value = -(double)i;
        if (wp_stage_put(p.stage, one, WP_FOREVER) != WP_OK) {
            fail("wp_stage_put");
        }
    }
    wp_stage_close(p.stage);
    return NULL;
}

static double
consume(wp_stage *stage)
{
    double sum = 0.0;
    wp_stage_result result;
    while (wp_stage_get(stage, WP_FOREVER, &result) == WP_OK) {
        sum += ((item *)result.argument)->result;
    }
    return sum;
}

static void
work(void *context, uint64_t jobs)
{
    state *s = context;
    producer p = {wp_stage_new(s->pool, 0, absolute, s->places), s->items, jobs};
    pthread_t thread;
    if (p.stage == NULL || wp_thread_start(&thread, s->in_batches ? produce_batches : produce, &p, 0) != 0) {
        fail("starting the producer");
    }
    double sum = s->in_batches ? consume_batches(p.stage) : consume(p.stage);
    pthread_join(thread, NULL);
    wp_stage_unref(p.stage);
    if (sum != (double)jobs * (double)(jobs - 1) / 2) {
        fail("the sum of the results");
    }
}

void
run_channels(const arguments *a, uint64_t places, bool in_batches)
{
    state s = {
        .pool = pool_or_exit(a->workers, a->bound),
        .items = calloc(a->jobs + 1, sizeof *s.items),
        .places = places > 0 && places < WP_STAGE_MOST ? (uint32_t)places : WP_STAGE_MOST,
        .in_batches = in_batches,
    };
    if (s.items == NULL) {
        fail("calloc");
    }
    memset(s.items, 1, (a->jobs + 1) * sizeof *s.items); /* The system gives the memory now, and not while measuring. */
    measure(work, &s, a->jobs);
    pool_end(s.pool);
    free(s.items);
}
