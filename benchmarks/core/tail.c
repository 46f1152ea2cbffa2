/* Few long jobs among many short ones, in bursts: does a short job wait for a long one that was claimed with it?
 *
 * One job in a hundred sleeps 10 ms, at places that a fixed sequence of random numbers gives; the others take 1 us.
 * Bursts come at such a rate that the workers are busy for a quarter of the time, so that one is nearly always free. A
 * job waits from its submission until its function begins. Batches of one come from a class for which a claim should
 * amount to no work at all.
 */
#include "shapes.h"

#define LONG_NS UINT64_C(10000000)
#define SHORT_NS UINT64_C(1000)
#define ONE_IN 100
#define BUSY 0.25 /* Part of the workers' time. */

typedef struct item {
    uint64_t submitted;
    uint64_t begun;
    bool is_long;
} item;

static int
run_item(wp_job *job, void *argument)
{
    item *i = argument;
    (void)job;
    i->begun = clock_ns(CLOCK_MONOTONIC);
    if (i->is_long) {
        nanosleep(&(struct timespec){.tv_nsec = LONG_NS}, NULL);
    } else {
        while (clock_ns(CLOCK_MONOTONIC) < i->begun + SHORT_NS) {
        }
    }
    return 0;
}

/* Submits as a C function does, and with `one` as the class of the job if that is given; it is filled in from the first
 * job. */
static void
submit(wp_pool *pool, item *i, wp_job_class *one)
{
    wp_job *job = wp_function_job(run_item, i, NULL);
    if (job == NULL) {
        fail("wp_function_job");
    }
    if (one != NULL) {
        if (one->run == NULL) {
            *one = *job->class;
            one->claim_ns = 0;
        }
        job->class = one;
    }
    i->submitted = clock_ns(CLOCK_MONOTONIC);
    if (wp_pool_submit_wait(pool, 0, job, WP_FOREVER) != WP_OK) {
        fail("wp_pool_submit_wait");
    }
    wp_job_unref(job);
}

static uint32_t
next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void
sleep_until(uint64_t time)
{
    struct timespec at = {(time_t)(time / 1000000000), (long)(time % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void
print_waits(const item *items, uint64_t n)
{
    uint64_t *waits = calloc(n, sizeof *waits);
    uint64_t shorts = 0;
    if (waits == NULL) {
        fail("calloc");
    }
    for (uint64_t i = 0; i < n; i++) {
        if (!items[i].is_long) {
            waits[shorts++] = items[i].begun - items[i].submitted;
        }
    }
    qsort(waits, shorts, sizeof *waits, compare);
    printf("{\"p50_us\": %.3f, \"p99_us\": %.3f}\n", (double)waits[shorts / 2] / 1e3,
           (double)waits[shorts * 99 / 100] / 1e3);
    free(waits);
}

void
run_tail(const arguments *a, bool one_at_a_time)
{
    wp_pool *pool = pool_or_exit(a->workers, 0);
    item *items = calloc(a->jobs, sizeof *items);
    wp_job_class one = {0};
    uint32_t random = 2463534242u;
    double mean = ((double)LONG_NS + (ONE_IN - 1) * (double)SHORT_NS) / ONE_IN;
    uint64_t burst_ns = (uint64_t)((double)a->bound * mean / BUSY / a->workers);
    uint64_t next = clock_ns(CLOCK_MONOTONIC);
    if (items == NULL || a->bound == 0) {
        fail("making the jobs");
    }
    for (uint64_t i = 0; i < a->jobs; i++) {
        if (i % a->bound == 0) {
            sleep_until(next);
            next += burst_ns;
        }
        items[i].is_long = next_random(&random) % ONE_IN == 0;
        submit(pool, &items[i], one_at_a_time ? &one : NULL);
    }
    pool_end(pool);
    print_waits(items, a->jobs);
    free(items);
}
