/* The jobs and results channels of a Go pool, as a user of the core in C would have them: see csrc/examples/jobs.c.
 *
 * An array holds each job's input and output, as it would in a program that has a million numbers to work on. The
 * consumer checks every result.
 */
#include "shapes.h"

#include <math.h>

typedef struct item {
    double value;
    double result;
} item;

typedef struct state {
    wp_pool *pool;
    item *items;
    uint64_t places;
} state;

typedef struct producer {
    state *s;
    wp_results *results;
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

static void *
produce(void *argument)
{
    const producer *p = argument;
    for (uint64_t i = 0; i < p->jobs; i++) {
        item *one = &p->s->items[i];
        one->value = -(double)i;
        if (wp_function_submit(p->s->pool, 0, p->results, absolute, one, WP_FOREVER) != WP_OK) {
            fail("wp_function_submit");
        }
    }
    wp_results_close(p->results);
    return NULL;
}

static double
consume(wp_results *results)
{
    double sum = 0.0;
    wp_job *job;
    while (wp_results_next(results, WP_FOREVER, &job) == WP_OK) {
        sum += ((item *)wp_function_argument(job))->result;
        wp_job_unref(job);
    }
    return sum;
}

static void
work(void *context, uint64_t jobs)
{
    state *s = context;
    producer p = {s, wp_results_new(s->places), jobs};
    pthread_t thread;
    if (p.results == NULL || wp_thread_start(&thread, produce, &p, 0) != 0) {
        fail("starting the producer");
    }
    double sum = consume(p.results);
    pthread_join(thread, NULL);
    wp_results_unref(p.results);
    if (sum != (double)jobs * (double)(jobs - 1) / 2) {
        fail("the sum of the results");
    }
}

void
run_channels(const arguments *a, uint64_t places)
{
    state s = {
        .pool = pool_or_exit(a->workers, a->bound),
        .items = calloc(a->jobs + 1, sizeof *s.items),
        .places = places > 0 ? places : WP_UNBOUNDED,
    };
    if (s.items == NULL) {
        fail("calloc");
    }
    memset(s.items, 1, (a->jobs + 1) * sizeof *s.items); /* The system gives the memory now, and not while measuring. */
    measure(work, &s, a->jobs);
    pool_end(s.pool);
    free(s.items);
}
