/* See wp_inherit.h. */
#include "wp_inherit.h"

#include <pthread.h>
#include <string.h>

#ifdef __linux__
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* ---- Threads by number: unlike pthread_t and the system's, one is never given twice ---- */

static _Atomic(uint64_t) last_number;
static _Thread_local uint64_t own_number;

static uint64_t
number_of_this_thread(void)
{
    if (own_number == 0) {
        own_number = wp_add_relaxed(&last_number, 1) + 1;
    }
    return own_number;
}

bool
wp_inherited_is_mine(const wp_inherited *noted)
{
    return noted->maker == 0 || noted->maker == number_of_this_thread();
}

#ifdef __linux__

/* ---- The scheduling class, with the niceness ---- */

/* From linux/sched/types.h and linux/ioprio.h, which cannot be included beside the C library's. */
#define RESET_ON_FORK UINT64_C(1)
#define DEADLINE_CLASS 6u
#define IO_OF_THREAD 1

#define THIS_THREAD 0

/* As a thread has it that this one starts. A size of 0: unknown. */
static void
note_scheduling(pid_t thread, wp_scheduling *s)
{
    if (syscall(SYS_sched_getattr, thread, s, sizeof *s, 0) != 0) {
        s->size = 0;
        return;
    }
    if (s->flags & RESET_ON_FORK) {
        s->nice = s->priority > 0 || s->nice < 0 ? 0 : s->nice;
        s->policy = s->priority > 0 ? SCHED_OTHER : s->policy;
        s->priority = 0;
    }
    s->flags = 0;
}

/* A thread of the deadline class cannot pass it on. */
static void
take_scheduling(const wp_scheduling *noted)
{
    wp_scheduling own;
    note_scheduling(THIS_THREAD, &own);
    if (noted->size == 0 || own.size == 0 || noted->policy == DEADLINE_CLASS) {
        return;
    }
    if (own.policy != noted->policy || own.nice != noted->nice || own.priority != noted->priority) {
        wp_scheduling wanted = *noted;
        wanted.size = sizeof wanted;
        syscall(SYS_sched_setattr, THIS_THREAD, &wanted, 0);
    }
}

/* ---- Processors ---- */

static void
note_cpus(pid_t thread, wp_cpus *cpus)
{
    memset(cpus->words, 0, sizeof cpus->words);
    cpus->size = syscall(SYS_sched_getaffinity, thread, sizeof cpus->words, cpus->words);
}

static void
take_cpus(const wp_cpus *noted)
{
    wp_cpus own;
    note_cpus(THIS_THREAD, &own);
    if (noted->size > 0 && own.size > 0 && memcmp(own.words, noted->words, sizeof own.words) != 0) {
        syscall(SYS_sched_setaffinity, THIS_THREAD, (size_t)noted->size, noted->words);
    }
}

/* ---- Where memory comes from ---- */

/* The system takes one bit less than it is told. */
#define NODE_BITS (sizeof(unsigned long) * 8 * WP_NODE_WORDS)

static void
note_memory(wp_memory_policy *memory)
{
    memset(memory->nodes, 0, sizeof memory->nodes);
    memory->known = syscall(SYS_get_mempolicy, &memory->mode, memory->nodes, NODE_BITS, NULL, 0) == 0;
}

static void
take_memory(const wp_memory_policy *noted)
{
    wp_memory_policy own;
    note_memory(&own);
    if (!noted->known || !own.known) {
        return;
    }
    if (own.mode != noted->mode || memcmp(own.nodes, noted->nodes, sizeof own.nodes) != 0) {
        syscall(SYS_set_mempolicy, noted->mode, noted->nodes, NODE_BITS + 1);
    }
}

/* ---- The rest ---- */

static long
io_priority(void)
{
    return syscall(SYS_ioprio_get, IO_OF_THREAD, THIS_THREAD);
}

static long
timer_slack(void)
{
    return prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
}

static void
note_of_system(wp_inherited *noted)
{
    noted->of_main = syscall(SYS_gettid) == getpid();
    note_scheduling(THIS_THREAD, &noted->scheduling);
    note_cpus(THIS_THREAD, &noted->cpus);
    note_memory(&noted->memory);
    noted->io_priority = io_priority();
    noted->timer_slack = timer_slack();
}

static void
take_current_of_main(void)
{
    wp_scheduling scheduling;
    wp_cpus cpus;
    note_scheduling(getpid(), &scheduling);
    note_cpus(getpid(), &cpus);
    take_scheduling(&scheduling);
    take_cpus(&cpus);
}

static void
take_of_system(const wp_inherited *noted)
{
    if (noted->of_main) {
        take_current_of_main();
    } else {
        take_scheduling(&noted->scheduling);
        take_cpus(&noted->cpus);
    }
    take_memory(&noted->memory);
    if (noted->io_priority >= 0 && io_priority() != noted->io_priority) {
        syscall(SYS_ioprio_set, IO_OF_THREAD, THIS_THREAD, noted->io_priority);
    }
    if (noted->timer_slack > 0 && timer_slack() != noted->timer_slack) {
        prctl(PR_SET_TIMERSLACK, (unsigned long)noted->timer_slack, 0, 0, 0);
    }
}

#else

/* Elsewhere niceness is the process's, and threads have no processors of their own. */
static void
note_of_system(wp_inherited *noted)
{
    (void)noted;
}

static void
take_of_system(const wp_inherited *noted)
{
    (void)noted;
}

#endif

/* ---- Interface ---- */

void
wp_inherited_note(wp_inherited *noted)
{
    noted->maker = number_of_this_thread();
    pthread_sigmask(SIG_SETMASK, NULL, &noted->mask);
    fegetenv(&noted->floating);
    note_of_system(noted);
}

void
wp_inherited_take(const wp_inherited *noted)
{
    take_of_system(noted);
    fesetenv(&noted->floating);
    pthread_sigmask(SIG_SETMASK, &noted->mask, NULL);
}
