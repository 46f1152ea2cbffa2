/* See wp_stats.h. */
#include "wp_stats.h"

#include <stdlib.h>

/* Times below 2^FIRST_OCTAVE ns share the first bucket: the clock itself takes longer. */
#define FIRST_OCTAVE 4
#define STEPS 4 /* Buckets to a doubling. */

/* Samples of the usual time (ns) are taken to be this at most, and the first so many of them are of another kind. */
#define MOST_COUNTED_NS 64000u
#define FIRST_NOTES 8u

void
wp_tally_clear(wp_tally *tally, unsigned lanes)
{
    wp_store_relaxed(&tally->busy_ns, 0);
    for (unsigned i = 0; i < lanes; i++) {
        tally->lanes[i] = (wp_lane_tally){0};
    }
}

wp_tally *
wp_tally_new(unsigned lanes)
{
    size_t size = sizeof(wp_tally) + lanes * sizeof(wp_lane_tally);
    size_t whole_lines = (size + WP_CACHE_LINE - 1) / WP_CACHE_LINE * WP_CACHE_LINE;
    void *memory = NULL;
    if (posix_memalign(&memory, WP_CACHE_LINE, whole_lines) != 0) {
        return NULL;
    }
    wp_tally *tally = memory;
    wp_tally_clear(tally, lanes);
    return tally;
}

static unsigned
bucket_of(uint64_t ns)
{
    if (ns < (1u << FIRST_OCTAVE)) {
        return 0;
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
    unsigned step = (unsigned)(ns >> (octave - 2)) & (STEPS - 1);
    unsigned bucket = 1 + (octave - FIRST_OCTAVE) * STEPS + step;
    return bucket < WP_BUCKETS ? bucket : WP_BUCKETS - 1;
}

static uint64_t
end_of_bucket(unsigned bucket)
{
    if (bucket == 0) {
        return (1u << FIRST_OCTAVE) - 1;
    }
    unsigned octave = FIRST_OCTAVE + (bucket - 1) / STEPS;
    unsigned step = (bucket - 1) % STEPS;
    return (UINT64_C(1) << octave) + ((uint64_t)(step + 1) << (octave - 2)) - 1;
}

void
wp_histogram_add(wp_histogram *histogram, uint64_t ns, uint64_t count)
{
    wp_count(&histogram->counts[bucket_of(ns)], count);
}

void
wp_histogram_merge(wp_histogram *into, const wp_histogram *from)
{
    for (unsigned i = 0; i < WP_BUCKETS; i++) {
        wp_count(&into->counts[i], wp_load_relaxed(&from->counts[i]));
    }
}

uint64_t
wp_histogram_percentile(const wp_histogram *histogram, double fraction)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < WP_BUCKETS; i++) {
        total += wp_load_relaxed(&histogram->counts[i]);
    }
    double wanted = (double)total * fraction;
    uint64_t seen = 0;
    for (unsigned i = 0; i < WP_BUCKETS && total > 0; i++) {
        seen += wp_load_relaxed(&histogram->counts[i]);
        if (seen > 0 && (double)seen >= wanted) {
            return end_of_bucket(i);
        }
    }
    return 0;
}

/* One sample out of the way says little, however large it is; some do. The first jobs of a kind have more to do than those
 * that follow, so at first the least counts. */
static void
note_usual(wp_pace *pace, uint32_t sample)
{
    uint32_t notes = wp_load_relaxed(&pace->notes);
    uint32_t before = wp_pace_usual(pace);
    uint32_t now = sample < MOST_COUNTED_NS ? sample : MOST_COUNTED_NS;
    if (notes < FIRST_NOTES) {
        wp_store_relaxed(&pace->notes, notes + 1);
        now = notes > 0 && before < now ? before : now;
    } else {
        now = now > before ? before + (now - before + 31) / 32 : before - (before - now + 31) / 32;
    }
    wp_store_relaxed(&pace->usual_ns, now);
}

void
wp_pace_note(wp_pace *pace, uint64_t elapsed, uint64_t jobs)
{
    uint64_t sample = elapsed / (jobs > 0 ? jobs : 1);
    uint32_t now = sample == 0 ? 1 : sample > UINT32_MAX ? UINT32_MAX : (uint32_t)sample;
    note_usual(pace, now);
    uint32_t before = wp_pace_mean(pace);
    if (now < before) {
        now = before - (before - now + 7) / 8;
    } else if (before != WP_PACE_UNKNOWN && now / 8 > before) {
        now = before < 8 ? 64 : before * 8;
    }
    wp_store_relaxed(&pace->mean_ns, now);
}

void
wp_pace_raise(wp_pace *pace, uint32_t ns)
{
    if (wp_pace_mean(pace) < ns) {
        wp_store_relaxed(&pace->mean_ns, ns);
        wp_store_relaxed(&pace->usual_ns, MOST_COUNTED_NS);
        wp_store_relaxed(&pace->notes, FIRST_NOTES);
    }
}

uint32_t
wp_pace_claim(const wp_pace *pace, uint32_t target_ns, uint32_t most)
{
    uint32_t mean = wp_pace_mean(pace);
    if (mean == WP_PACE_UNKNOWN) {
        return 1;
    }
    uint32_t count = target_ns / mean;
    return count < 1 ? 1 : count > most ? most : count;
}

void
wp_tally_merge(wp_tally *into, const wp_tally *from, unsigned lanes)
{
    wp_count(&into->busy_ns, wp_load_relaxed(&from->busy_ns));
    for (unsigned i = 0; i < lanes; i++) {
        for (unsigned state = 0; state < WP_STATES; state++) {
            wp_count(&into->lanes[i].ended[state], wp_load_relaxed(&from->lanes[i].ended[state]));
        }
        wp_histogram_merge(&into->lanes[i].waited, &from->lanes[i].waited);
        wp_histogram_merge(&into->lanes[i].ran, &from->lanes[i].ran);
    }
}
