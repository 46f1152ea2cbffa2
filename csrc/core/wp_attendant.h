/* The attendant: a thread that attends to the host where no worker has time.
 *
 * DESIGN. Finished jobs may hold what only a thread of the host can release, or have somebody to be told by one. The
 * host asks for attention then, and the attendant calls the `attend` hook, and again every few milliseconds until the
 * hook has found nothing to do for a while. So asking is one atomic operation, and a system call only when the attendant
 * sleeps. It may have to wait for the host (for the GIL) as long as it likes: it has no other duty.
 */
#ifndef WP_ATTENDANT_H
#define WP_ATTENDANT_H

#include "wp_side.h"

typedef struct wp_attendant {
    wp_side side;
    wp_word request; /* 1 while the host has asked and nothing was found often enough. */
} wp_attendant;

#endif
