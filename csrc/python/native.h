/* Native functions: a C function with its signature, as Python sees it and as a job holds it. */
#ifndef WPY_NATIVE_H
#define WPY_NATIVE_H

#include "home.h"

#include "wp_call.h"
#include "wp_notes.h"
#include "wp_signature.h"

/* Which results of a function are errors. */
enum wpy_raises { WPY_RAISES_NEVER, WPY_RAISES_NONZERO, WPY_RAISES_NEGATIVE, WPY_RAISES_NULL };

/* The most parameters, from the last one, that can have values of their own. */
enum { WPY_MOST_BOUND = 4 };

/* What calls need of a native function. Counted, and touched by threads that are not attached: so not the Python object
 * itself, which holds one reference of it. */
typedef struct wpy_function {
    wpy_trash trash; /* First: how it is released. */
    wp_word references;
    wpy_home *home; /* Kept alive by the type of the objects that keep this one. */
    wp_fn address;  /* Constant, like all below but the pace. */
    wp_signature *signature;
    wp_call call;
    enum wpy_raises raises;
    bool has_job;       /* A parameter is filled in with the job. */
    bool has_pointers;  /* A parameter may hold a buffer. */
    size_t n_arguments; /* Parameters that the caller gives. */
    size_t n_bound;     /* The last so many are always given these, and not by the caller: user data. */
    uint64_t bound[WPY_MOST_BOUND];
    PyObject *full_name;   /* str. */
    PyObject *name;        /* str, for messages: the same, or the beginning of a long one. */
    const char *name_text; /* The same in UTF-8, kept by it, for threads that are not attached. */
    PyObject *keep_alive;  /* What owns the code, or NULL. */
    wp_pace pace;          /* How long calls take, as measured by the pool. */
} wpy_function;

extern PyType_Spec wpy_native_spec;

/* The function of a NativeFunction; no reference. */
wpy_function *wpy_function_of(PyObject *native);

static inline void
wpy_function_ref(wpy_function *function)
{
    wp_add_relaxed(&function->references, 1);
}

/* Any thread, attached or not. */
void wpy_function_unref(wpy_function *function);

/* Whether a slot is an error by `raises`. */
bool wpy_is_error(const wpy_function *function, uint64_t slot);

/* The NativeError for a result that is an error: a new reference, or NULL with another exception set. */
PyObject *wpy_native_error(const wpy_function *function, uint64_t slot, int error_number);

/* The same for a job that may have said itself why it failed: then its message is the text. */
PyObject *wpy_native_failure(const wpy_function *function, uint64_t slot, int error_number, wp_job *job);

/* How a call of the function by a job ended: by what it returned, and what the job noted. */
wp_state wpy_native_outcome(const wpy_function *function, uint64_t slot, wp_job *job);

/* Calls the function n times with rows of slots; stops after the first error if results can be errors, whose errno is
 * left in *error_number. Returns how many calls were made. Detached. */
size_t wpy_function_invoke(const wpy_function *function, const uint64_t *slots, uint64_t *results, size_t n,
                           int *error_number);

#endif
