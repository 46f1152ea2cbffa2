/* What programs share whose instructions or system calls are counted: marks, and a clock that goes as slowly as they do.
 *
 * MARKS. Under callgrind a mark sets all counters to zero or writes them out, with the name of the path. Under strace it
 * is a system call that does nothing and stands in the log with that name. So what was started and warmed up before is
 * not counted, and one process counts many paths.
 *
 * THE CLOCK. Valgrind makes a program fifty times as slow, and the clock does not know it. The pool measures how long jobs
 * take; it would take short jobs for long ones, claim few at once, and behave as it never does outside of valgrind. So
 * its clock is slowed down as well: valgrind calls the wrappers below in place of two functions of the core, found by
 * their names in the symbols of the extension or program. All that has to do with the pool's time goes through these two.
 * How much they slow it down matters little: 20 to 1000 were tried, and gave the same counts, because a job of a few
 * nanoseconds is then far from every limit. For the same reason the counts stay as they are on a machine that is busy.
 */
#include "marks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#define SLOWDOWN 50u

/* ---- Marks ---- */

enum { MOST_TEXT = 100 };

static void
write_into_log(const char *text)
{
    ssize_t failed = write(-1, text, strlen(text)); /* There is no such file. */
    (void)failed;
}

void
mark_begin(const char *path, uint64_t jobs)
{
    char text[MOST_TEXT];
    snprintf(text, sizeof text, "begin %s %llu", path, (unsigned long long)jobs);
    write_into_log(text);
    CALLGRIND_ZERO_STATS;
}

void
mark_end(const char *path, uint64_t jobs)
{
    char text[MOST_TEXT];
    snprintf(text, sizeof text, "end %s %llu", path, (unsigned long long)jobs);
    CALLGRIND_DUMP_STATS_AT(text);
    write_into_log(text);
}

/* ---- The clock ---- */

static atomic_bool is_slowed; /* A wrapper was called. */

/* "NONE" stands for objects without a soname: programs, and extensions of Python. */
uint64_t I_WRAP_SONAME_FNNAME_ZU(NONE, wp_clock)(void);
uint64_t
I_WRAP_SONAME_FNNAME_ZU(NONE, wp_clock)(void)
{
    OrigFn original;
    uint64_t now;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_v(now, original);
    atomic_store_explicit(&is_slowed, true, memory_order_relaxed);
    return now / SLOWDOWN;
}

/* The deadline is a time of the slow clock, or UINT64_MAX for never. */
int I_WRAP_SONAME_FNNAME_ZU(NONE, wp_word_wait)(void *word, uint32_t expected, uint64_t deadline);
int
I_WRAP_SONAME_FNNAME_ZU(NONE, wp_word_wait)(void *word, uint32_t expected, uint64_t deadline)
{
    OrigFn original;
    int result;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WWW(result, original, word, expected, deadline < UINT64_MAX / SLOWDOWN ? deadline * SLOWDOWN : deadline);
    return result;
}

void
mark_check(void)
{
    if (RUNNING_ON_VALGRIND && !atomic_load(&is_slowed)) {
        fputs("the pool's clock was not slowed down: wp_clock is not among the symbols of this build\n", stderr);
        exit(1);
    }
}
