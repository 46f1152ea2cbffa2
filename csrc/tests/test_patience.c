/* How often who waits looks before it sleeps: wp_patience. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../core/wp_patience.h"

#include "check.h"

#ifdef __linux__
#include <sched.h>
#endif

enum { LEAST = WP_PATIENCE_SPINS + WP_PATIENCE_YIELDS };

static int
looks(wp_partner *partner)
{
    int moment = 0;
    int n = 0;
    while (wp_partner_pass_moment(partner, &moment)) {
        n++;
    }
    return n;
}

static void
test_patience_grows_and_shrinks(void)
{
    wp_partner partner;
    wp_partner_init(&partner);
    CHECK_INT(looks(&partner), LEAST);
    for (int round = 0; round < 2; round++) {
        wp_partner_note_wait(&partner, 1, true);
        for (int more = WP_PATIENCE_MORE; more >= 0; more--) {
            CHECK_INT(looks(&partner), LEAST + more);
            wp_partner_note_wait(&partner, 1, false);
        }
        CHECK_INT(looks(&partner), LEAST);
        wp_partner_note_wait(&partner, 0, true); /* It was there at once, which says nothing. */
        CHECK_INT(looks(&partner), LEAST);
    }
}

static void
test_seen(void)
{
    wp_partner partner;
    wp_partner_init(&partner);
    CHECK(!wp_partner_was_here(&partner));
    wp_partner_note_here(&partner);
    CHECK(wp_partner_was_here(&partner));
    CHECK(wp_processor() >= -1);
}

#ifdef __linux__

/* On this very processor it can only get on if this thread yields; on another it is looked for first. */
static void
test_on_this_processor(void)
{
    cpu_set_t before;
    cpu_set_t one;
    wp_partner partner;
    CHECK_INT(sched_getaffinity(0, sizeof before, &before), 0);
    int here = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET((size_t)here, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    wp_partner_init(&partner);
    wp_partner_note_here(&partner);
    wp_partner_note_wait(&partner, 1, true);
    CHECK_INT(wp_load_relaxed(&partner.seen_on), here);
    CHECK_INT(looks(&partner), WP_PATIENCE_YIELDS);
    wp_store_relaxed(&partner.seen_on, here + 1);
    CHECK_INT(looks(&partner), LEAST + WP_PATIENCE_MORE);
    CHECK_INT(sched_setaffinity(0, sizeof before, &before), 0);
}

#endif

int
main(void)
{
    check_time_limit(30);
    RUN(test_patience_grows_and_shrinks);
    RUN(test_seen);
#ifdef __linux__
    RUN(test_on_this_processor);
#endif
    return check_done();
}
