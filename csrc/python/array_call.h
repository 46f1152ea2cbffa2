/* A loop over arrays as a job: a task whose elements a crew of threads does, none of them attached. */
#ifndef WPY_ARRAY_CALL_H
#define WPY_ARRAY_CALL_H

#include "operand.h"
#include "options.h"

#include "wp_crew.h"
#include "wp_loop.h"

/* The inner loop of a NumPy ufunc: of `n[0]` elements, at `data` and `strides` apart. 0, or -1 for an error. As
 * PyArrayMethod_StridedLoop in numpy/dtype_api.h. */
typedef int wpy_strided_loop(void *context, char *const *data, const Py_ssize_t *n, const Py_ssize_t *strides,
                             void *auxdata);

/* What is done with the elements. */
enum wpy_array_kind {
    WPY_ELEMENTS, /* A scalar function is called for each. */
    WPY_KERNEL,   /* A function is called for each range, with where it begins and ends. */
    WPY_UFUNC     /* The loop of a ufunc is called for each row. */
};

/* Everything that makes a loop. The operands are those of the parameters in their order, then the outputs. */
typedef struct wpy_array_plan {
    enum wpy_array_kind kind;
    wpy_function *function;    /* NULL for a ufunc. */
    wpy_operands *operands;    /* Taken over. */
    PyObject *result;          /* What the job returns: taken over. */
    wpy_shape shape;           /* The elements; of a kernel, one dimension. */
    uint64_t begin;            /* Of a kernel: the number of its first element. */
    uint64_t grain;            /* Elements of a range, or 0 for ranges by time. */
    wpy_strided_loop *strided; /* Of a ufunc, with its first and last argument. */
    void *context;
    void *auxdata;
} wpy_array_plan;

/* A task for the plan, of which it takes over what it says, also when it fails: NULL with an exception set. Memory that
 * the operands share in a way that would change the result is an error, and so are elements that are not aligned. */
wpy_task *wpy_array_call_new(wpy_home *home, const wpy_options *options, wpy_array_plan *plan);

/* Begins the task, which was not submitted, on the calling thread, takes part in it and waits for its end, as a native
 * function called inline would: Ctrl-C ends it between two ranges. Takes the task over. The
 * result, or NULL with an exception set. */
PyObject *wpy_array_call_run(wpy_task *task, wp_pool *pool, unsigned lane);

#endif
