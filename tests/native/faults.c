/* Calls that fail when a test says so, for tests/test_faults.py. Loaded before everything else (LD_PRELOAD).
 *
 * PURPOSE. Three kinds of calls can be made to fail, each by its number since faults_arm(): those by which the extension
 * itself takes memory, starts threads and opens descriptors (CALLS), those by which the interpreter allocates, whoever made
 * it do so (PYTHON), and of these the ones that the extension made it do (WITHIN). The wall clock can be set to another
 * time (faults_jump).
 *
 * DESIGN. A call is the extension's if it returns to where the extension is loaded (faults_watch); that may be by way of a
 * function of the interpreter that ends with the call. All others are led on untouched. What the extension holds is known
 * block by block, so that a test can see a leak. The interpreter's allocators are replaced by the means that it has for that (PyMem_SetAllocator), for good;
 * they are declared here, because a test needs no headers of Python. An allocation is one within the extension if on the
 * way up its stack the extension comes before the interpreter's loop.
 *
 * glibc only: its allocator has second names, by which it is reached without a search for the first (which allocates).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>

#define BLOCK_BITS 16
#include "../../csrc/tests/blocks.h"

/* ---- What fails ---- */

enum { CALLS = 1, PYTHON = 2, WITHIN = 4 };

static atomic_int kinds; /* Which calls are counted and fail; 0: none. */
static long first_fault; /* Written while `kinds` is 0, like the next. */
static long last_fault;
static atomic_long counted;
static atomic_long failed;
static atomic_uintptr_t watched_begin;
static atomic_uintptr_t watched_end;

static bool
fails(int kind)
{
    if (!(atomic_load(&kinds) & kind)) {
        return false;
    }
    const long number = atomic_fetch_add(&counted, 1) + 1;
    const bool hit = number >= first_fault && number <= last_fault;
    atomic_fetch_add(&failed, hit);
    return hit;
}

static bool
is_watched(const void *caller)
{
    return (uintptr_t)caller >= atomic_load(&watched_begin) && (uintptr_t)caller < atomic_load(&watched_end);
}

/* Calls that return to these addresses are the extension's. */
void
faults_watch(uintptr_t begin, uintptr_t end)
{
    atomic_store(&watched_begin, begin);
    atomic_store(&watched_end, end);
}

/* From now on the calls of these kinds with the numbers first to last fail. */
void
faults_arm(int which, long first, long last)
{
    first_fault = first;
    last_fault = last;
    atomic_store(&counted, 0);
    atomic_store(&failed, 0);
    atomic_store(&kinds, which);
}

/* No more faults; how many there were. */
long
faults_disarm(void)
{
    atomic_store(&kinds, 0);
    return atomic_load(&failed);
}

/* ---- What the extension holds ---- */

static atomic_flag blocks_lock = ATOMIC_FLAG_INIT; /* Guards what the extension has taken and nobody has freed. */

static void
take_lock(void)
{
    while (atomic_flag_test_and_set(&blocks_lock)) {
        sched_yield();
    }
}

static void *
note_block(void *memory, const void *caller)
{
    if (memory != NULL && is_watched(caller)) {
        take_lock();
        block_add(memory);
        atomic_flag_clear(&blocks_lock);
    }
    return memory;
}

static void
forget_block(const void *memory)
{
    take_lock();
    block_remove(memory);
    atomic_flag_clear(&blocks_lock);
}

/* How many blocks the extension has taken that nobody has freed, whoever that would be: what it gives to the interpreter
 * is freed by that. */
long
faults_held(void)
{
    take_lock();
    const long held = n_blocks;
    atomic_flag_clear(&blocks_lock);
    return held;
}

/* ---- The extension's calls ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

#define CALLER __builtin_return_address(0)
#define FAILS_HERE (is_watched(CALLER) && fails(CALLS))
#define COUNTED(memory) note_block((memory), CALLER)

static void *
no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *
malloc(size_t size)
{
    return FAILS_HERE ? no_memory() : COUNTED(__libc_malloc(size));
}

void *
calloc(size_t n, size_t size)
{
    return FAILS_HERE ? no_memory() : COUNTED(__libc_calloc(n, size));
}

void *
realloc(void *memory, size_t size)
{
    if (FAILS_HERE) {
        return no_memory();
    }
    forget_block(memory);
    return COUNTED(__libc_realloc(memory, size));
}

int
posix_memalign(void **memory, size_t alignment, size_t size)
{
    if (FAILS_HERE) {
        return ENOMEM;
    }
    void *made = COUNTED(__libc_memalign(alignment, size));
    *memory = made != NULL ? made : *memory;
    return made != NULL ? 0 : ENOMEM;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    return FAILS_HERE ? no_memory() : COUNTED(__libc_memalign(alignment, size));
}

char *
strdup(const char *text)
{
    if (FAILS_HERE) {
        return no_memory();
    }
    const size_t size = strlen(text) + 1;
    char *copy = COUNTED(__libc_malloc(size));
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

void
free(void *memory)
{
    forget_block(memory);
    __libc_free(memory);
}

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *argument)
{
    static _Atomic(create_function *) original;
    if (FAILS_HERE) {
        return EAGAIN;
    }
    if (atomic_load(&original) == NULL) {
        atomic_store(&original, (create_function *)dlsym(RTLD_NEXT, "pthread_create"));
    }
    return atomic_load(&original)(thread, attributes, main, argument);
}

int
eventfd(unsigned value, int flags)
{
    static _Atomic(int (*)(unsigned, int)) original;
    if (FAILS_HERE) {
        errno = EMFILE;
        return -1;
    }
    if (atomic_load(&original) == NULL) {
        atomic_store(&original, (int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd"));
    }
    return atomic_load(&original)(value, flags);
}

/* ---- The interpreter's allocators ---- */

typedef struct allocator { /* PyMemAllocatorEx */
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t n, size_t size);
    void *(*realloc)(void *context, void *memory, size_t size);
    void (*free)(void *context, void *memory);
} allocator;

static allocator originals[3]; /* For PYMEM_DOMAIN_RAW, _MEM and _OBJ. Written before the hooks are set. */

static uintptr_t loop_begin; /* Of the interpreter's loop, as above. */
static uintptr_t loop_end;

static bool
is_within(void)
{
    void *frames[64];
    const int n = backtrace(frames, 64);
    for (int i = 0; i < n; i++) {
        if (is_watched(frames[i])) {
            return true;
        }
        if ((uintptr_t)frames[i] >= loop_begin && (uintptr_t)frames[i] < loop_end) {
            return false;
        }
    }
    return false;
}

static bool
fails_in_python(void)
{
    const int which = atomic_load(&kinds);
    return which & WITHIN ? is_within() && fails(WITHIN) : fails(PYTHON);
}

static void
find_loop(void)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *loop = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
    if (loop != NULL && dladdr1(loop, &info, (void **)&symbol, RTLD_DL_SYMENT) != 0 && symbol != NULL) {
        loop_begin = (uintptr_t)loop;
        loop_end = loop_begin + symbol->st_size;
    }
}

static void *
python_malloc(void *context, size_t size)
{
    const allocator *original = context;
    return fails_in_python() ? NULL : original->malloc(original->context, size);
}

static void *
python_calloc(void *context, size_t n, size_t size)
{
    const allocator *original = context;
    return fails_in_python() ? NULL : original->calloc(original->context, n, size);
}

static void *
python_realloc(void *context, void *memory, size_t size)
{
    const allocator *original = context;
    return fails_in_python() ? NULL : original->realloc(original->context, memory, size);
}

static void
python_free(void *context, void *memory)
{
    const allocator *original = context;
    original->free(original->context, memory);
}

/* To be called once, before there are other threads. False where the loop cannot be found. */
bool
faults_hook_python(void)
{
    void *frame;
    backtrace(&frame, 1); /* The first call loads a library. */
    find_loop();
    void (*get)(int, allocator *) = (void (*)(int, allocator *))dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    void (*set)(int, allocator *) = (void (*)(int, allocator *))dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    for (int domain = 0; domain < 3; domain++) {
        get(domain, &originals[domain]);
        allocator hooked = {&originals[domain], python_malloc, python_calloc, python_realloc, python_free};
        set(domain, &hooked);
    }
    return loop_end > loop_begin;
}

/* ---- The clock ---- */

static atomic_long jumped; /* Seconds by which the wall clock is off. */

void
faults_jump(long seconds)
{
    atomic_store(&jumped, seconds);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    static _Atomic(int (*)(clockid_t, struct timespec *)) original;
    if (atomic_load(&original) == NULL) {
        atomic_store(&original, (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"));
    }
    const int error = atomic_load(&original)(clock, now);
    now->tv_sec += error == 0 && clock == CLOCK_REALTIME ? atomic_load(&jumped) : 0;
    return error;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    const int error = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return error;
}

time_t
time(time_t *out)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out != NULL) {
        *out = exact.tv_sec;
    }
    return exact.tv_sec;
}
