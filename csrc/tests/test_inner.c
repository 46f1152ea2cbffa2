/*
 * Tests of csrc/native/wp_inner.c: limits of threads come and go without leaving anything.
 *
 * DESIGN. The libraries that are limited belong to others, so most of what there is to test is tested from Python, with
 * libraries made for it (tests/test_inner_threads.py). Here is what only C can show: many threads at a time, under
 * ThreadSanitizer; and OpenMP's own library if the machine has it.
 */
#include "../native/wp_inner.h"

#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

enum { N_THREADS = 8, ROUNDS = 200 };

/* ---- OpenMP, if it is there ---- */

static int (*max_threads)(void);
static void (*set_threads)(int);

static void
find_openmp(void)
{
    void *library = dlopen("libgomp.so.1", RTLD_NOW);
    void *get = library != NULL ? dlsym(library, "omp_get_max_threads") : NULL;
    void *set = library != NULL ? dlsym(library, "omp_set_num_threads") : NULL;
    memcpy(&max_threads, &get, sizeof get);
    memcpy(&set_threads, &set, sizeof set);
}

static void *
check_limits_of_a_thread(void *unused)
{
    (void)unused;
    set_threads(7);
    wp_inner_begin(3);
    CHECK_INT(max_threads(), 3);
    set_threads(5);
    wp_inner_renew(); /* Nothing was loaded: what was set meanwhile stays. */
    CHECK_INT(max_threads(), 5);
    wp_inner_begin(4);
    CHECK_INT(max_threads(), 4);
    wp_inner_begin(6); /* Never more than there was. */
    CHECK_INT(max_threads(), 4);
    wp_inner_end();
    wp_inner_end();
    return NULL;
}

static void
test_limit_reaches_only_its_thread(void)
{
    pthread_t thread;
    find_openmp();
    if (max_threads == NULL || set_threads == NULL) {
        printf("# there is no libgomp\n");
        return;
    }
    set_threads(9);
    CHECK_INT(pthread_create(&thread, NULL, check_limits_of_a_thread, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(max_threads(), 9);
}

/* ---- Many threads ---- */

static void *
come_and_go(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    for (int round = 0; round < ROUNDS; round++) {
        wp_inner_begin(1 + (uint32_t)(check_rand(&state) % 4));
        for (uint64_t n = check_rand(&state) % 4; n > 0; n--) {
            wp_inner_renew();
        }
        if (check_rand(&state) % 8 != 0) {
            wp_inner_end();
        }
    }
    wp_inner_end();
    return NULL;
}

static void
test_threads_come_and_go(void)
{
    pthread_t threads[N_THREADS];
    for (uintptr_t i = 0; i < N_THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
}

static void
test_thread_without_a_limit(void)
{
    wp_inner_renew();
    wp_inner_end();
    wp_inner_forked();
    wp_inner_begin(INT32_MAX);
    wp_inner_forked();
    wp_inner_end();
}

int
main(void)
{
    check_time_limit(60);
    RUN(test_thread_without_a_limit);
    RUN(test_limit_reaches_only_its_thread);
    RUN(test_threads_come_and_go);
    return check_done();
}
