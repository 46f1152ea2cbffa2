/*
 * See wp_inner.h.
 *
 * DESIGN. Three steps. The dynamic linker lists the loaded libraries; those whose file name could be one of ours are
 * noted. Each of them is opened (it is loaded, so that only counts one more user) and asked for the functions it would
 * have. What reaches only the calling thread is called at once. What reaches the whole process becomes an entry, which
 * keeps the library open and knows the number to put back.
 *
 * The list must be complete before anything is opened: the linker holds its lock while it lists.
 */
/* Strict C11 hides what this needs of the linker; before any header, because the first decides. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "wp_inner.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#else
#include <link.h>
#endif

/* More libraries of one kind than this in one process are left alone. */
enum { MAX_CANDIDATES = 32, MAX_ENTRIES = 16 };

/* ------------------------------------------------------------------------------------------------
 * State.
 */

/* A limited thread. Its own, but for the links, which the lock guards. */
typedef struct limited_thread {
    uint32_t limit; /* 0: not limited */
    uint64_t seen;  /* how many libraries had ever been loaded when it last looked */
    struct limited_thread *next;
    struct limited_thread *previous;
} limited_thread;

/* A library with one number of threads for the whole process. */
typedef struct entry {
    void *library; /* keeps it loaded */
    bool is_wide;  /* BLIS counts in 64 bits: the second pair of functions, and not the first */
    int (*get_int)(void);
    void (*set_int)(int);
    int64_t (*get_wide)(void);
    void (*set_wide)(int64_t);
    int64_t saved; /* to be put back */
    int64_t set;   /* what was set last; if it is another now, somebody else wants it so */
} entry;

static _Thread_local limited_thread self;

static struct {
    pthread_mutex_t lock;
    limited_thread *threads; /* the lock guards all of it */
    entry entries[MAX_ENTRIES];
    size_t n_entries;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ------------------------------------------------------------------------------------------------
 * Functions of a library. A name that is there is taken to have the type that its project documents.
 */

/* ISO C has no cast from the address of an object to that of a function; POSIX says that these are alike. */
static bool
find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

/* OpenMP keeps a number for each thread that is not part of a team. */
static void
limit_openmp(void *library, uint32_t limit)
{
    int (*get)(void);
    void (*set)(int);
    if (find(library, "omp_get_max_threads", &get) && find(library, "omp_set_num_threads", &set) &&
        get() > (int)limit) {
        set((int)limit);
    }
}

/* MKL has a number for a thread, beside one for all. The names in small letters are for Fortran. */
static void
limit_mkl(void *library, uint32_t limit)
{
    int (*get)(void);
    int (*set)(int);
    if (find(library, "MKL_Get_Max_Threads", &get) && find(library, "MKL_Set_Num_Threads_Local", &set) &&
        get() > (int)limit) {
        (void)set((int)limit);
    }
}

/* OpenBLAS is built with a prefix and a suffix to its names, so that two of them can be in one process. */
#define AFFIXED(prefix, suffix)                                                                                        \
    {                                                                                                                  \
        prefix "openblas_get_parallel" suffix, prefix "openblas_get_num_threads" suffix,                               \
            prefix "openblas_set_num_threads" suffix                                                                   \
    }
static const char *const openblas_names[][3] = {
    AFFIXED("", ""),       AFFIXED("", "64_"),       AFFIXED("", "_64"),
    AFFIXED("scipy_", ""), AFFIXED("scipy_", "64_"), AFFIXED("scipy_", "_64"),
};

/* Where OpenBLAS takes its threads from: openblas_get_parallel(). */
enum { OPENBLAS_OWN_THREADS = 1 };

static bool
find_openblas(void *library, entry *found)
{
    for (size_t i = 0; i < sizeof openblas_names / sizeof *openblas_names; i++) {
        int (*get_parallel)(void);
        const char *const *names = openblas_names[i];
        *found = (entry){0};
        if (find(library, names[0], &get_parallel) && find(library, names[1], &found->get_int) &&
            find(library, names[2], &found->set_int)) {
            return get_parallel() == OPENBLAS_OWN_THREADS;
        }
    }
    return false;
}

static bool
find_blis(void *library, entry *found)
{
    *found = (entry){.is_wide = true};
    return find(library, "bli_thread_get_num_threads", &found->get_wide) &&
           find(library, "bli_thread_set_num_threads", &found->set_wide);
}

/* ------------------------------------------------------------------------------------------------
 * Entries. The lock is held.
 */

static int64_t
get(const entry *e)
{
    return e->is_wide ? e->get_wide() : e->get_int();
}

static void
set(entry *e, int64_t number)
{
    if (e->is_wide) {
        e->set_wide(number);
    } else {
        e->set_int((int)number);
    }
    e->set = number;
}

static int64_t
least_limit(void)
{
    uint32_t least = UINT32_MAX;
    for (const limited_thread *thread = process.threads; thread != NULL; thread = thread->next) {
        least = thread->limit < least ? thread->limit : least;
    }
    return least;
}

static bool
is_as_set(const entry *e)
{
    return get(e) == e->set;
}

/* A number is raised only if it was lowered here: when a thread with a low limit has gone. It is looked at on each thread
 * that comes, because BLIS of some makers has one for each. */
static void
apply(entry *e)
{
    const int64_t limit = least_limit();
    const int64_t wanted = limit < e->saved ? limit : e->saved;
    const int64_t now = get(e);
    if (now > wanted || (now < wanted && is_as_set(e))) {
        set(e, wanted);
    }
}

static void
apply_all(void)
{
    for (size_t i = 0; i < process.n_entries; i++) {
        apply(&process.entries[i]);
    }
}

static bool
is_known(const entry *candidate)
{
    for (size_t i = 0; i < process.n_entries; i++) {
        const entry *e = &process.entries[i];
        if (e->set_int == candidate->set_int && e->set_wide == candidate->set_wide) {
            return true;
        }
    }
    return false;
}

/* Takes the open library over, if it is a new one of this kind. */
static bool
keep_entry(void *library)
{
    entry found = {0};
    const bool is_ours = find_openblas(library, &found) || find_blis(library, &found);
    if (!is_ours || is_known(&found) || process.n_entries == MAX_ENTRIES) {
        return false;
    }
    found.library = library;
    found.saved = get(&found);
    found.set = found.saved;
    process.entries[process.n_entries++] = found;
    return true;
}

static void
put_all_back(void)
{
    for (size_t i = 0; i < process.n_entries; i++) {
        entry *e = &process.entries[i];
        if (is_as_set(e) && e->set != e->saved) {
            set(e, e->saved);
        }
        dlclose(e->library);
    }
    process.n_entries = 0;
}

/* ------------------------------------------------------------------------------------------------
 * The libraries of the process.
 */

typedef struct candidates {
    uint64_t seen; /* in: as of the last look; out: as of now */
    size_t n;
    char *paths[MAX_CANDIDATES];
} candidates;

static bool
could_be_ours(const char *path)
{
    static const char *const parts[] = {"libgomp", "libomp", "libiomp", "blas", "mkl_rt", "blis"};
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strstr(name, parts[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* One that there is no memory for is not limited. */
static void
note_path(candidates *c, const char *path)
{
    if (path != NULL && c->n < MAX_CANDIDATES && could_be_ours(path)) {
        char *copy = strdup(path);
        if (copy != NULL) {
            c->paths[c->n++] = copy;
        }
    }
}

#if defined(__APPLE__)

static void
list_libraries(candidates *c)
{
    const uint32_t n = _dyld_image_count();
    if (n == c->seen) {
        return;
    }
    c->seen = n;
    for (uint32_t i = 0; i < n; i++) {
        note_path(c, _dyld_get_image_name(i));
    }
}

#else

/* The linker counts how many libraries it ever loaded: if it has not changed, the first call of this is the last. */
static int
note_library(struct dl_phdr_info *info, size_t size, void *context)
{
    candidates *c = context;
    const bool has_count = size >= offsetof(struct dl_phdr_info, dlpi_adds) + sizeof info->dlpi_adds;
    const bool is_first = info->dlpi_name == NULL || *info->dlpi_name == '\0';
    if (has_count && is_first) {
        if (info->dlpi_adds == c->seen) {
            return 1;
        }
        c->seen = info->dlpi_adds;
    }
    note_path(c, info->dlpi_name);
    return 0;
}

static void
list_libraries(candidates *c)
{
    (void)dl_iterate_phdr(note_library, c);
}

#endif

static void
limit_library(const char *path, uint32_t limit)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) {
        return; /* Gone meanwhile. */
    }
    limit_openmp(library, limit);
    limit_mkl(library, limit);
    if (!keep_entry(library)) {
        dlclose(library);
    }
}

/* Limits what is among the libraries for the calling thread. Lock held. */
static void
limit_all(const candidates *found)
{
    for (size_t i = 0; i < found->n; i++) {
        limit_library(found->paths[i], self.limit);
    }
    apply_all();
    self.seen = found->seen;
}

static void
forget_paths(candidates *found)
{
    for (size_t i = 0; i < found->n; i++) {
        free(found->paths[i]);
    }
}

/* ------------------------------------------------------------------------------------------------
 * The interface.
 */

void
wp_inner_begin(uint32_t limit)
{
    wp_inner_end();
    candidates found = {0};
    list_libraries(&found);
    pthread_mutex_lock(&process.lock);
    self = (limited_thread){.limit = limit, .next = process.threads};
    if (process.threads != NULL) {
        process.threads->previous = &self;
    }
    process.threads = &self;
    limit_all(&found);
    pthread_mutex_unlock(&process.lock);
    forget_paths(&found);
}

void
wp_inner_renew(void)
{
    if (self.limit == 0) {
        return;
    }
    candidates found = {.seen = self.seen};
    list_libraries(&found);
    if (found.seen == self.seen) {
        return;
    }
    pthread_mutex_lock(&process.lock);
    limit_all(&found);
    pthread_mutex_unlock(&process.lock);
    forget_paths(&found);
}

static void
unlink_self(void)
{
    if (self.previous != NULL) {
        self.previous->next = self.next;
    } else {
        process.threads = self.next;
    }
    if (self.next != NULL) {
        self.next->previous = self.previous;
    }
    self = (limited_thread){0};
}

void
wp_inner_end(void)
{
    if (self.limit == 0) {
        return;
    }
    pthread_mutex_lock(&process.lock);
    unlink_self();
    if (process.threads == NULL) {
        put_all_back();
    } else {
        apply_all();
    }
    pthread_mutex_unlock(&process.lock);
}

void
wp_inner_forked(void)
{
    self = (limited_thread){0};
    process.threads = NULL;
    process.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* It may have been held by a thread that is not here. */
}
