/*
 * Where the elements of several arrays are, so that one loop can visit them together.
 *
 * PURPOSE. A loop over arrays of n dimensions, with any strides, negative ones and zeros (of what is
 * broadcast) among them, is a matter of where its rows begin. That is here; what is done with a row
 * is not.
 *
 * DESIGN. A grid has a shape, and for each operand (an array as the loop sees it) the address of its
 * first element and a stride for each dimension. wp_grid_sort() brings the dimensions into the order
 * of memory and wp_grid_merge() joins those that lie end to end, so that most grids become one row.
 * Elements are numbered in the order in which they are visited: the last dimension runs fastest. Any
 * stretch of numbers can be walked on its own, by any thread.
 *
 * OVERLAP. Whether two arrays share memory is hard to say exactly in general. The questions here are
 * answered "no" only where that is certain; where it is not, the answer may be "yes" for arrays that
 * share nothing.
 *
 * GUARANTEES. Nothing is allocated here, and nothing but the addresses given is ever computed into.
 */
#ifndef WP_GRID_H
#define WP_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_signature.h"

/* As many dimensions as a Python buffer may have, and an operand for each parameter and the result. */
enum { WP_GRID_MAX_DIMS = 64, WP_GRID_MAX_OPERANDS = WP_SIGNATURE_MAX_PARAMS + 1 };

/* The three arrays are the owner's: see wp_grid_init(). */
typedef struct wp_grid {
    size_t n_dims;
    size_t n_operands;
    uint64_t n;         /* elements: the product of the shape; kept by wp_grid_count() */
    size_t *shape;      /* n_dims, the slowest first */
    char **bases;       /* n_operands */
    ptrdiff_t *strides; /* in bytes: of operand o in dimension d at [d n_operands + o] */
} wp_grid;

/* The bytes that the arrays of a grid need, and a grid whose arrays lie in so much memory, aligned
 * for a pointer: all zeros, but for the two counts. */
size_t wp_grid_size(size_t n_dims, size_t n_operands);
void wp_grid_init(wp_grid *grid, void *memory, size_t n_dims, size_t n_operands);

/* Computes `n` from the shape; false if there are more elements than can be numbered. */
bool wp_grid_count(wp_grid *grid);

/* Orders the dimensions so that the last is the one in which memory lies closest together, by the
 * first operand that can tell; those that none can tell apart stay as they are. order[d], which may
 * be NULL, becomes the place that dimension d had. */
void wp_grid_sort(wp_grid *grid, size_t *order);

/* Takes out dimensions of one element, and joins neighbours that are one in memory for all
 * operands. The numbers of the elements stay the same. At least one dimension remains. */
void wp_grid_merge(wp_grid *grid);

/* Does `count` elements, the first of which are at `pointers`. Returns how many it did: fewer mean
 * that the walk is to end there. */
typedef size_t wp_grid_row(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count);

/* Gives the elements begin to end - 1 to `row`, as many at a time as are in one row. Returns how many
 * were done. */
uint64_t wp_grid_walk(const wp_grid *grid, uint64_t begin, uint64_t end, wp_grid_row *row, void *context);

/* Whether operands a and b, with elements of so many bytes, are the same elements in the same order. */
bool wp_grid_is_same(const wp_grid *grid, size_t a, size_t a_size, size_t b, size_t b_size);

/* Whether some byte may belong to both operands. */
bool wp_grid_may_share(const wp_grid *grid, size_t a, size_t a_size, size_t b, size_t b_size);

/* Whether two elements of the operand may have a byte in common. */
bool wp_grid_may_fold(const wp_grid *grid, size_t operand, size_t size);

/* Whether every element of the operand is at a multiple of `alignment`, a power of two. */
bool wp_grid_is_aligned(const wp_grid *grid, size_t operand, size_t alignment);

#endif
