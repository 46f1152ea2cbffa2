/* Goes before every file of a build under the test's scheduler (`-include`): each atomic operation of the core, each of
 * its pauses and each join of a thread passes through the scheduler first. See schedule.h.
 */
#ifndef HOOK_H
#define HOOK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* As wp_atomic.h does, which comes after the system's headers here. */
#endif

#include <pthread.h>

void schedule_point(const char *function, int line);
void schedule_pause(const char *function, int line);
int schedule_join(pthread_t thread, void **result);

#define WP_SCHEDULE_POINT() schedule_point(__func__, __LINE__)
#define WP_SCHEDULE_PAUSE() schedule_pause(__func__, __LINE__)
#define pthread_join(thread, result) schedule_join(thread, result)

/* Measured waits are cut short, because here a pause is a turn of somebody else. */
#define WP_LOCK_SPINS 1
#define WP_PATIENCE_SPINS 2
#define WP_PATIENCE_MORE 0
#define WP_STREAM 4u

/* Workers do not look by themselves for what they should be called for. */
#define WP_STAGE_LOOK_NS UINT64_MAX

#endif
