/*
 * A test harness in one header, for C tests that are one process each.
 *
 * PURPOSE. A test program is a main() that runs test functions and returns check_done():
 *
 *     static void test_addition(void) { CHECK_INT(1 + 1, 2); }
 *
 *     int main(void)
 *     {
 *         check_time_limit(30);
 *         RUN(test_addition);
 *         return check_done();
 *     }
 *
 * It prints one line a test, "ok - test_addition" or "not ok - test_addition", and before the
 * latter a comment "# not ok - test_addition: file:line: 1 + 1 is 3, not 2" for each check that
 * failed.
 *
 * DESIGN. A failed check is counted and reported and the test goes on: the checks after it often
 * show why. Output is flushed line by line, so that a crash hides nothing. A test that hangs is
 * ended by SIGALRM and fails.
 *
 * GUARANTEES. Checks may be made by any thread. Random numbers are the same in every run unless
 * CHECK_SEED is set in the environment; the seed is printed.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A loop that goes wrong fails at every turn; nobody reads more than this many lines of it. */
enum { CHECK_MAX_REPORTS = 20 };

static const char *check_name = "";
static atomic_int check_failures; /* of the test that runs */
static int check_failed_tests;

#define CHECK_UNUSED __attribute__((unused))

/* Checks that an expression is true. */
#define CHECK(expr) check_true((expr), __FILE__, __LINE__, #expr)

/* Checks that two integers are equal, and shows both. */
#define CHECK_INT(actual, expected) check_int((intmax_t)(actual), (intmax_t)(expected), __FILE__, __LINE__, #actual)

/* Checks that two strings are equal, and shows both. */
#define CHECK_STR(actual, expected) check_str((actual), (expected), __FILE__, __LINE__, #actual)

/* Runs a test function and reports it. */
#define RUN(test) check_run((test), #test)

/* Counts a failure; true if it should also be printed. */
CHECK_UNUSED static bool
check_fail(void)
{
    const int failures = atomic_fetch_add(&check_failures, 1) + 1;
    if (failures == CHECK_MAX_REPORTS) {
        printf("# not ok - %s: more failures are not shown\n", check_name);
    }
    return failures < CHECK_MAX_REPORTS;
}

CHECK_UNUSED static bool
check_true(bool is_true, const char *file, int line, const char *expr)
{
    if (!is_true && check_fail()) {
        printf("# not ok - %s: %s:%d: %s\n", check_name, file, line, expr);
    }
    return is_true;
}

CHECK_UNUSED static bool
check_int(intmax_t actual, intmax_t expected, const char *file, int line, const char *expr)
{
    if (actual != expected && check_fail()) {
        printf("# not ok - %s: %s:%d: %s is %jd (0x%jx), not %jd (0x%jx)\n", check_name, file, line, expr, actual,
               (uintmax_t)actual, expected, (uintmax_t)expected);
    }
    return actual == expected;
}

CHECK_UNUSED static bool
check_str(const char *actual, const char *expected, const char *file, int line, const char *expr)
{
    const bool is_equal = strcmp(actual, expected) == 0;
    if (!is_equal && check_fail()) {
        printf("# not ok - %s: %s:%d: %s is \"%s\", not \"%s\"\n", check_name, file, line, expr, actual, expected);
    }
    return is_equal;
}

CHECK_UNUSED static void
check_run(void (*test)(void), const char *name)
{
    check_name = name;
    atomic_store(&check_failures, 0);
    test();
    const bool failed = atomic_load(&check_failures) > 0;
    check_failed_tests += failed;
    printf("%s - %s\n", failed ? "not ok" : "ok", name);
    (void)fflush(stdout);
}

/* The exit status of the program. */
CHECK_UNUSED static int
check_done(void)
{
    printf("# %d failed\n", check_failed_tests);
    return check_failed_tests > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Only what is allowed in a signal handler: the name of the test is written as it stands. */
CHECK_UNUSED static void
check_on_alarm(int signal_number)
{
    static const char text[] = "not ok - time limit exceeded in ";
    (void)signal_number;
    const bool is_written = write(STDOUT_FILENO, text, sizeof text - 1) > 0 &&
                            write(STDOUT_FILENO, check_name, strlen(check_name)) > 0 &&
                            write(STDOUT_FILENO, "\n", 1) > 0;
    _exit(is_written ? EXIT_FAILURE : EXIT_FAILURE + 1);
}

/* Ends the program as failed after so many seconds. To be called first in main(). */
CHECK_UNUSED static void
check_time_limit(unsigned seconds)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGALRM, check_on_alarm);
    (void)alarm(seconds);
}

/* A start value for check_rand(): CHECK_SEED of the environment, or the default. Prints which. */
CHECK_UNUSED static uint64_t
check_seed(uint64_t default_seed)
{
    const char *text = getenv("CHECK_SEED");
    const uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : default_seed;
    printf("# CHECK_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* The next random number (Steele, Lea and Flood's SplitMix64). */
CHECK_UNUSED static uint64_t
check_rand(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
