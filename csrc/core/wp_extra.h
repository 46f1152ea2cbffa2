/* What only some jobs need: options, a token's watch, time limits, a place in a results queue.
 *
 * Kept out of wp_job so that a plain job stays small. Lies in the same allocation as its job and lives as long.
 */
#ifndef WP_EXTRA_H
#define WP_EXTRA_H

#include "wp_job.h"
#include "wp_token.h"

typedef struct wp_results wp_results;

/* What wp_extra.timer holds while the job is not in the keeper's heap. Zeroed memory says "not watched". */
enum { WP_TIMER_NONE = 0, WP_TIMER_FIRED = 1, WP_TIMER_FIRST = 2 /* Heap position p is stored as p + this. */ };

void wp_extra_init(wp_extra *extra);

struct wp_extra {
    wp_token *token; /* Constant; a reference of the owner's, or NULL. */
    wp_watch watch;  /* Hangs on the token from submit until the job ended. */

    uint64_t queue_timeout; /* Constant: how long it may wait, ns, or WP_FOREVER. */
    uint64_t run_timeout;   /* Constant: how long it may run, ns, or WP_FOREVER. */
    uint64_t limit;         /* Keeper's lock: when its timer fires. */
    uint32_t timer;         /* Keeper's lock: its place in the keeper's heap, see above. */
    bool limits_run;        /* Keeper's lock: the limit is one of its run, no more of its waiting. */

    wp_results *results; /* Where it is reported, or NULL. A reference, which wp_results_deliver takes. */
    uint64_t index;      /* Constant: its number in that results queue. */
    uint64_t waited;     /* How long it waited and ran, ns; written by who begins and ends it. */
    uint64_t ran;
};

#endif
