/* The clock, the processors and the threads; see wp_os.h. */
#include "wp_os.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#define NS_PER_SECOND 1000000000u

uint64_t
wp_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t
wp_deadline_after(double seconds)
{
    uint64_t now = wp_clock();
    if (isnan(seconds) || seconds > 1e9) {
        return WP_FOREVER;
    }
    return seconds <= 0 ? now : now + (uint64_t)(seconds * NS_PER_SECOND);
}

/* ---- Processors ---- */

unsigned
wp_processors_by_affinity(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

/* Reads up to two numbers from a cgroup file and returns how many it found; none where there is no file or where the
 * file says "max". */
static int
read_numbers(const char *path, long long numbers[2])
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    int found = fscanf(file, "%lld %lld", &numbers[0], &numbers[1]);
    fclose(file);
    return found > 0 ? found : 0;
}

/* The processor time that a cgroup allows in each period, for version 2 and, failing that, version 1. Only the limit at
 * the root of the visible hierarchy is read: that is where a container's limit stands. */
static bool
read_quota(long long *quota, long long *period)
{
    long long numbers[2];
    if (read_numbers("/sys/fs/cgroup/cpu.max", numbers) == 2) {
        *quota = numbers[0];
        *period = numbers[1];
        return true;
    }
    if (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", numbers) < 1) {
        return false;
    }
    *quota = numbers[0];
    if (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", numbers) < 1) {
        return false;
    }
    *period = numbers[0];
    return true;
}

static unsigned
processors_by_quota(void)
{
    long long quota;
    long long period;
    if (!read_quota(&quota, &period) || quota <= 0 || period <= 0) {
        return UINT32_MAX;
    }
    return (unsigned)((quota + period - 1) / period);
}

unsigned
wp_processors(void)
{
    unsigned affinity = wp_processors_by_affinity();
    unsigned quota = processors_by_quota();
    unsigned count = affinity < quota ? affinity : quota;
    return count > 0 ? count : 1;
}

/* ---- Threads ---- */

void
wp_thread_set_name(const char *name)
{
#if defined(__APPLE__)
    pthread_setname_np(name);
#elif defined(__linux__)
    char cut[16];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(pthread_self(), cut);
#else
    (void)name;
#endif
}

static void
block_all_but_faults(sigset_t *set)
{
    static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigfillset(set);
    for (size_t i = 0; i < sizeof own_faults / sizeof own_faults[0]; i++) {
        sigdelset(set, own_faults[i]);
    }
}

void
wp_yield(void)
{
    sched_yield();
}

int
wp_processor(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* The platform's default is 8 MiB on most of Linux but 512 KiB on macOS and 128 KiB on musl: native functions written for a
 * main thread's stack would crash there. Where it is more, somebody asked for it (ulimit -s). */
static size_t
default_stack_size(const pthread_attr_t *attributes)
{
    size_t system_default = 0;
    pthread_attr_getstacksize(attributes, &system_default);
    return system_default > WP_DEFAULT_STACK ? system_default : WP_DEFAULT_STACK;
}

/* Some systems take whole pages only. */
static int
set_stack_size(pthread_attr_t *attributes, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t wanted = size > 0 ? size : default_stack_size(attributes);
    if (wanted > SIZE_MAX - page) {
        return ENOMEM;
    }
    return pthread_attr_setstacksize(attributes, (wanted + page - 1) / page * page);
}

/* The system is asked for the memory as for a stack, and gets it back: what it would refuse to any thread it refuses here. */
int
wp_stack_size_check(size_t stack_size)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    error = set_stack_size(&attributes, stack_size);
    pthread_attr_destroy(&attributes);
    if (error == 0 && stack_size > 0) {
        void *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) {
            return ENOMEM;
        }
        munmap(stack, stack_size);
    }
    return error;
}

int
wp_thread_start(pthread_t *thread, void *(*main)(void *), void *argument, size_t stack_size)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    error = set_stack_size(&attributes, stack_size);
    if (error == 0) {
        /* The mask is inherited, so there is no moment at which the new thread can be handed a signal. */
        sigset_t blocked;
        sigset_t saved;
        block_all_but_faults(&blocked);
        pthread_sigmask(SIG_SETMASK, &blocked, &saved);
        error = pthread_create(thread, &attributes, main, argument);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
    }
    pthread_attr_destroy(&attributes);
    return error;
}
