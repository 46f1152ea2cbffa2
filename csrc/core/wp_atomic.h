/* Atomics with the memory order in the name.
 *
 * PURPOSE. A reader of the pool should see at each access which order it relies on, and a reviewer should be able to
 * list every place that uses one order by searching for one word. So no call passes an order as an argument.
 *
 * DESIGN. Macros over C11 <stdatomic.h>, so that they work on every atomic type. Each passes through WP_SCHEDULE_POINT
 * first: empty in a normal build, the hook of a test scheduler where a build defines it. So does WP_SCHEDULE_PAUSE for
 * wp_pause.
 */
#ifndef WP_ATOMIC_H
#define WP_ATOMIC_H

/* Strict C11 hides what POSIX and Linux add to the C library; the core needs it and builds with -std=c11. This works
 * because every source file includes a header of the core before any of the system's. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdatomic.h>
#include <stdint.h>

#ifndef WP_SCHEDULE_POINT
#define WP_SCHEDULE_POINT() ((void)0)
#endif

#define wp_load_relaxed(p) (WP_SCHEDULE_POINT(), atomic_load_explicit((p), memory_order_relaxed))
#define wp_load_acquire(p) (WP_SCHEDULE_POINT(), atomic_load_explicit((p), memory_order_acquire))

#define wp_store_relaxed(p, v) (WP_SCHEDULE_POINT(), atomic_store_explicit((p), (v), memory_order_relaxed))
#define wp_store_release(p, v) (WP_SCHEDULE_POINT(), atomic_store_explicit((p), (v), memory_order_release))

/* The fetch operations return the value before the change. */
#define wp_add_relaxed(p, v) (WP_SCHEDULE_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_relaxed))
#define wp_add_acq_rel(p, v) (WP_SCHEDULE_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_acq_rel))
#define wp_sub_acq_rel(p, v) (WP_SCHEDULE_POINT(), atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel))
#define wp_or_acq_rel(p, v) (WP_SCHEDULE_POINT(), atomic_fetch_or_explicit((p), (v), memory_order_acq_rel))
#define wp_exchange_acquire(p, v) (WP_SCHEDULE_POINT(), atomic_exchange_explicit((p), (v), memory_order_acquire))
#define wp_exchange_release(p, v) (WP_SCHEDULE_POINT(), atomic_exchange_explicit((p), (v), memory_order_release))
#define wp_exchange_acq_rel(p, v) (WP_SCHEDULE_POINT(), atomic_exchange_explicit((p), (v), memory_order_acq_rel))

/* Compare-and-swap; on failure *expected becomes the value found. The weak form may fail for no reason: for loops. */
#define wp_cas_acquire(p, expected, desired)                                                                           \
    (WP_SCHEDULE_POINT(),                                                                                              \
     atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_acquire, memory_order_relaxed))
#define wp_cas_acq_rel(p, expected, desired)                                                                           \
    (WP_SCHEDULE_POINT(),                                                                                              \
     atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_acq_rel, memory_order_acquire))
#define wp_cas_weak_acq_rel(p, expected, desired)                                                                      \
    (WP_SCHEDULE_POINT(),                                                                                              \
     atomic_compare_exchange_weak_explicit((p), (expected), (desired), memory_order_acq_rel, memory_order_acquire))

/* A word that threads may sleep on; see wp_os.h. */
typedef _Atomic(uint32_t) wp_word;

/* Data written by different threads is kept this far apart: 128 rather than 64, because x86-64 prefetches lines in
 * pairs and several AArch64 processors have lines of 128 bytes. */
#define WP_CACHE_LINE 128

#if defined(WP_SCHEDULE_PAUSE)
#define wp_pause() WP_SCHEDULE_PAUSE()
#elif defined(__x86_64__) || defined(__i386__)
#define wp_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define wp_pause() __asm__ volatile("isb" ::: "memory")
#else
#define wp_pause() ((void)0)
#endif

#endif
