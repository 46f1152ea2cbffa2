/* Operands: what a loop over arrays reads and writes, taken from Python objects.
 *
 * An operand is a buffer with a shape and strides, or one value that is the same for every element: a number, a pointer,
 * the job. Everything that could be wrong with an array (its elements' type and byte order, its alignment, being
 * read-only, its shape, memory that it shares with another) is found here, before anything runs. Each buffer is taken
 * once, and what was checked is the view that is used: whoever gives buffers may give another one the next time.
 */
#ifndef WPY_OPERAND_H
#define WPY_OPERAND_H

#include "convert.h"

#include "wp_grid.h"

#define WPY_MOST_OPERANDS WP_GRID_MAX_OPERANDS

typedef struct wpy_operand {
    char *base;                /* The first element. */
    size_t size;               /* Bytes of an element. */
    size_t alignment;          /* What its address must be a multiple of. */
    int n_dims;                /* 0 for a value. */
    const Py_ssize_t *shape;   /* The view's; n_dims of them. */
    const Py_ssize_t *strides; /* The view's, or those that it leaves out. */
    Py_ssize_t *own_strides;   /* Memory for those, or NULL. */
    size_t number;             /* What messages call it: the argument of that number, from 1; or an output. */
    bool is_output;            /* The result is written to it. */
    bool is_written;           /* It is an output, or the function may write to it. */
    bool has_view;
    Py_buffer view;    /* If has_view: held until the job has ended. */
    wpy_hold hold;     /* What a pointer needs alive. */
    uint64_t constant; /* A value's memory: `base` points here. */
} wpy_operand;

/* All operands of one job. Released by an attached thread once the job has ended. */
typedef struct wpy_operands {
    PyObject *name; /* A reference: the function's, for messages. */
    PyObject *keep; /* A reference to what else the loop needs alive, or NULL. */
    size_t n;       /* Operands that are taken. */
    wpy_operand list[];
} wpy_operands;

/* Room for so many operands, none of them taken; NULL with MemoryError. Takes no references over. */
wpy_operands *wpy_operands_new(size_t most, PyObject *name, PyObject *keep);

/* Attached: gives up what they hold. NULL does nothing. */
void wpy_operands_free(wpy_operands *operands);

/* The next operand, not taken yet. */
wpy_operand *wpy_operands_next(wpy_operands *operands, size_t number, bool is_output);

/* Raises an exception that begins with the function and the operand. Always -1. */
int wpy_operand_fail(const wpy_operands *operands, const wpy_operand *operand, PyObject *type, const char *format, ...);

/* Takes a buffer whose elements must be numbers of a dtype of NumPy, aligned as that says. -1 with an exception. */
int wpy_operand_take_dtype(const wpy_operands *operands, wpy_operand *operand, PyObject *object, PyObject *dtype);

/* Takes a buffer whose elements must be of a type that C calls `spelling`. Where `any_byte`, a type of one byte fits all
 * elements of one byte. */
int wpy_operand_take_array(const wpy_operands *operands, wpy_operand *operand, PyObject *object, wp_type type,
                           const char *spelling, bool any_byte);

/* Makes the operand one value of a type, in its own memory. */
void wpy_operand_set_value(wpy_operand *operand, wp_type type, uint64_t slot);

/* How many elements a buffer has. */
uint64_t wpy_operand_count(const wpy_operand *operand);

/* What NumPy calls a type: "f8"; and the letter that the struct module has for it. */
const char *wpy_numpy_name(wp_type type);
const char *wpy_struct_letter(wp_type type);

/* ---- Several together ---- */

typedef struct wpy_shape {
    size_t n_dims;
    size_t lengths[WP_GRID_MAX_DIMS];
} wpy_shape;

/* The shape that the inputs give together, by NumPy's rules; that of the outputs if there are no inputs with dimensions.
 * -1 with ValueError. */
int wpy_operands_broadcast(const wpy_operands *operands, wpy_shape *shape);

/* The shape as a tuple: with the dimensions of `shape` in the order given, or as they are for NULL. */
PyObject *wpy_shape_tuple(const wpy_shape *shape, const size_t *order);

/* Fills in a grid with room for the shape and the operands. Outputs must have that shape. -1 with an exception. */
int wpy_operands_fill_grid(const wpy_operands *operands, const wpy_shape *shape, wp_grid *grid);

/* The order in which the dimensions of the shape lie in the memory of the inputs, the slowest first: that in which a new
 * output is best visited too. -1 with MemoryError. */
int wpy_operands_order(const wpy_operands *operands, const wpy_shape *shape, size_t *order);

/* Checks what the grid shows: alignment, and memory that is shared in a way that would change the result. */
int wpy_operands_check_memory(const wpy_operands *operands, const wp_grid *grid);

uint64_t wpy_shape_count(const wpy_shape *shape);

/* A new array of that shape: NumPy's where NumPy is loaded, else a memoryview; one that is empty may then have another
 * type and shape, and no operand can take it. order[d] is the
 * dimension that is to be at place d in memory; NULL for C's order. `dtype` is a type of NumPy, or NULL to take `type`. */
PyObject *wpy_new_array(const wpy_shape *shape, const size_t *order, PyObject *dtype, wp_type type);

#endif
