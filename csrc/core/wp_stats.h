/* Counting jobs and measuring times, cheaply enough to be always on.
 *
 * DESIGN. Each worker has a tally that it alone writes, with plain (relaxed) stores, so counting shares no cache line;
 * a snapshot adds the tallies up. Work done by threads that are not workers (a waiter that takes its job back, a
 * canceller) goes into one more tally, written under the pool's lock.
 *
 * Times go into histograms of logarithmic buckets, four to each doubling: a percentile read from one is at most 19 %
 * too large. The job's own outcome is counted before it becomes visible, so whoever saw a result finds it counted.
 *
 * The pace is a running estimate of how long a job of one kind takes. It jumps up at once and comes down slowly,
 * because it decides how many jobs are claimed together, and there a long job taken for a short one does harm.
 */
#ifndef WP_STATS_H
#define WP_STATS_H

#include "wp_job.h"

#define WP_MAX_LANES 16
#define WP_BUCKETS 160

typedef struct wp_histogram {
    _Atomic(uint64_t) counts[WP_BUCKETS];
} wp_histogram;

typedef struct wp_lane_tally {
    _Atomic(uint64_t) ended[WP_STATES]; /* Jobs by outcome. */
    wp_histogram waited;                /* From submit to begin, of the jobs that were measured. */
    wp_histogram ran;                   /* From begin to end. */
} wp_lane_tally;

typedef struct wp_tally {
    _Atomic(uint64_t) busy_ns; /* Time spent in claims. */
    wp_lane_tally lanes[];     /* One for each lane of the pool. */
} wp_tally;

/* A tally of zeros for so many lanes; NULL without memory. To be given to free(). */
wp_tally *wp_tally_new(unsigned lanes);
void wp_tally_clear(wp_tally *tally, unsigned lanes);

/* Adds one tally to another, which the caller may write. */
void wp_tally_merge(wp_tally *into, const wp_tally *from, unsigned lanes);

/* Only one thread at a time may write a counter; others may read it. */
static inline void
wp_count(_Atomic(uint64_t) *counter, uint64_t by)
{
    wp_store_relaxed(counter, wp_load_relaxed(counter) + by);
}

/* Adds `count` measurements of `ns` each. */
void wp_histogram_add(wp_histogram *histogram, uint64_t ns, uint64_t count);

/* Adds what `from` holds to `into`, which nobody else sees. */
void wp_histogram_merge(wp_histogram *into, const wp_histogram *from);

/* The smallest time, ns, that at least `fraction` of the measurements do not exceed, rounded up to its bucket's end;
 * 0 where there is none. */
uint64_t wp_histogram_percentile(const wp_histogram *histogram, double fraction);

struct wp_pace {
    wp_word mean_ns;  /* Estimated time of one job; 0 while unknown. Any thread may read and update it. */
    wp_word usual_ns; /* The same, for what most jobs take: it moves slowly, up as down. */
    wp_word notes;    /* How many it rests on, up to FIRST_NOTES. */
};

#define WP_PACE_UNKNOWN 0u
/* Jobs that take as long as this (ns) are measured one by one. Reading the clock costs as much as shorter ones. */
#define WP_ALWAYS_MEASURED_NS 1000u

static inline uint32_t
wp_pace_mean(const wp_pace *pace)
{
    return wp_load_relaxed(&pace->mean_ns);
}

/* Whether jobs are known to take less than so long (ns). */
static inline bool
wp_pace_is_below(const wp_pace *pace, uint32_t ns)
{
    uint32_t mean = wp_pace_mean(pace);
    return mean != WP_PACE_UNKNOWN && mean < ns;
}

static inline uint32_t
wp_pace_usual(const wp_pace *pace)
{
    return wp_load_relaxed(&pace->usual_ns);
}

/* Notes that `jobs` jobs took `elapsed` ns together. Updates may be lost to one another: it is an estimate. */
void wp_pace_note(wp_pace *pace, uint64_t elapsed, uint64_t jobs);

/* A job has not ended for some time: they are taken to last so long (ns) at least. */
void wp_pace_raise(wp_pace *pace, uint32_t ns);

/* How many jobs of this pace to claim for `target_ns` of work: 1 while the pace is unknown. */
uint32_t wp_pace_claim(const wp_pace *pace, uint32_t target_ns, uint32_t most);

#endif
