/* Which element of a grid is which of the same grid once sorted: for the tests that look every element up. */
#ifndef GRID_ORDER_H
#define GRID_ORDER_H

#include "wp_grid.h"

/* The number in the original order of the element that has `number` in the sorted one. */
static inline uint64_t
original_number(const wp_grid *sorted, const size_t *order, const wp_grid *original, uint64_t number)
{
    size_t index[WP_GRID_MAX_DIMS] = {0};
    uint64_t result = 0;
    for (size_t d = sorted->n_dims; d-- > 0;) {
        index[order[d]] = (size_t)(number % sorted->shape[d]);
        number /= sorted->shape[d];
    }
    for (size_t d = 0; d < original->n_dims; d++) {
        result = result * original->shape[d] + index[d];
    }
    return result;
}

#endif
