/*
 * See wp_grid.h.
 */
#include "wp_grid.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------
 * Making one.
 */

size_t
wp_grid_size(size_t n_dims, size_t n_operands)
{
    return n_operands * sizeof(char *) + n_dims * n_operands * sizeof(ptrdiff_t) + n_dims * sizeof(size_t);
}

void
wp_grid_init(wp_grid *grid, void *memory, size_t n_dims, size_t n_operands)
{
    memset(memory, 0, wp_grid_size(n_dims, n_operands));
    *grid = (wp_grid){.n_dims = n_dims, .n_operands = n_operands};
    grid->bases = memory;
    grid->strides = (ptrdiff_t *)(grid->bases + n_operands);
    grid->shape = (size_t *)(grid->strides + n_dims * n_operands);
}

bool
wp_grid_count(wp_grid *grid)
{
    bool is_empty = false;
    bool is_countable = true;
    grid->n = 1;
    for (size_t d = 0; d < grid->n_dims; d++) {
        is_empty = is_empty || grid->shape[d] == 0;
        is_countable = is_countable && !__builtin_mul_overflow(grid->n, grid->shape[d], &grid->n);
    }
    grid->n = is_empty ? 0 : grid->n;
    return is_empty || is_countable;
}

static ptrdiff_t *
strides_in(const wp_grid *grid, size_t dim)
{
    return grid->strides + dim * grid->n_operands;
}

static size_t
magnitude(ptrdiff_t stride)
{
    return stride < 0 ? (size_t)0 - (size_t)stride : (size_t)stride;
}

/* ------------------------------------------------------------------------------------------------
 * The order of the dimensions.
 */

/* Whether memory says that dimension a should run faster than b. An operand that is broadcast along
 * one of them says nothing; nor does any operand if one has a single element. */
static bool
runs_faster(const wp_grid *grid, size_t a, size_t b)
{
    if (grid->shape[a] <= 1 || grid->shape[b] <= 1) {
        return false;
    }
    for (size_t o = 0; o < grid->n_operands; o++) {
        const size_t of_a = magnitude(strides_in(grid, a)[o]);
        const size_t of_b = magnitude(strides_in(grid, b)[o]);
        if (of_a != 0 && of_b != 0 && of_a != of_b) {
            return of_a < of_b;
        }
    }
    return false;
}

static void
swap_dims(wp_grid *grid, size_t a, size_t b, size_t *order)
{
    const size_t length = grid->shape[a];
    grid->shape[a] = grid->shape[b];
    grid->shape[b] = length;
    for (size_t o = 0; o < grid->n_operands; o++) {
        const ptrdiff_t stride = strides_in(grid, a)[o];
        strides_in(grid, a)[o] = strides_in(grid, b)[o];
        strides_in(grid, b)[o] = stride;
    }
    const size_t was = order[a];
    order[a] = order[b];
    order[b] = was;
}

void
wp_grid_sort(wp_grid *grid, size_t *order)
{
    size_t unused[WP_GRID_MAX_DIMS];
    size_t *places = order != NULL ? order : unused;
    for (size_t d = 0; d < grid->n_dims; d++) {
        places[d] = d;
        for (size_t at = d; at > 0 && runs_faster(grid, at - 1, at); at--) {
            swap_dims(grid, at - 1, at, places);
        }
    }
}

/* Whether going once through dimension `inner` is one step in `outer`, for every operand. */
static bool
lie_end_to_end(const wp_grid *grid, size_t outer, size_t inner)
{
    for (size_t o = 0; o < grid->n_operands; o++) {
        if (strides_in(grid, outer)[o] != strides_in(grid, inner)[o] * (ptrdiff_t)grid->shape[inner]) {
            return false;
        }
    }
    return true;
}

/* Of a grid of one element, or none, the strides mean nothing and may be anything at all. It becomes one row with strides
 * of 0: a loop adds the stride after the last element too, and with others that would be an address of nowhere. */
void
wp_grid_merge(wp_grid *grid)
{
    size_t kept = 0;
    for (size_t d = 0; d < grid->n_dims && grid->n > 0; d++) {
        if (grid->shape[d] == 1) {
            continue;
        }
        const bool joins = kept > 0 && lie_end_to_end(grid, kept - 1, d);
        const size_t at = joins ? kept - 1 : kept++;
        grid->shape[at] = joins ? grid->shape[at] * grid->shape[d] : grid->shape[d];
        memmove(strides_in(grid, at), strides_in(grid, d), grid->n_operands * sizeof(ptrdiff_t));
    }
    if (kept == 0 && grid->n_dims > 0) {
        kept = 1;
        grid->shape[0] = (size_t)grid->n;
        memset(strides_in(grid, 0), 0, grid->n_operands * sizeof(ptrdiff_t));
    }
    grid->n_dims = kept;
}

/* ------------------------------------------------------------------------------------------------
 * Walking.
 */

/* Where a walk stands: in which row, and how far along it. */
typedef struct position {
    size_t index[WP_GRID_MAX_DIMS]; /* of the row; the last one is where in the row */
    char *pointers[WP_GRID_MAX_OPERANDS];
} position;

static void
move(const wp_grid *grid, position *at, size_t dim, ptrdiff_t steps)
{
    for (size_t o = 0; o < grid->n_operands; o++) {
        at->pointers[o] += strides_in(grid, dim)[o] * steps;
    }
}

static void
find(const wp_grid *grid, position *at, uint64_t number)
{
    memcpy(at->pointers, grid->bases, grid->n_operands * sizeof(char *));
    for (size_t d = grid->n_dims; d-- > 0;) {
        at->index[d] = (size_t)(number % grid->shape[d]);
        number /= grid->shape[d];
        move(grid, at, d, (ptrdiff_t)at->index[d]);
    }
}

/* From somewhere in the last row of its dimension to the beginning of the next row. */
static void
next_row(const wp_grid *grid, position *at)
{
    size_t d = grid->n_dims - 1;
    while (true) {
        move(grid, at, d, -(ptrdiff_t)at->index[d]);
        at->index[d] = 0;
        if (d == 0) {
            return; /* That was the last row of all. */
        }
        d--;
        move(grid, at, d, 1);
        if (++at->index[d] < grid->shape[d]) {
            return;
        }
    }
}

uint64_t
wp_grid_walk(const wp_grid *grid, uint64_t begin, uint64_t end, wp_grid_row *row, void *context)
{
    static const ptrdiff_t no_strides[WP_GRID_MAX_OPERANDS] = {0};
    if (grid->n_dims == 0) {
        return begin < end ? row(context, grid->bases, no_strides, 1) : 0;
    }
    const size_t last = grid->n_dims - 1;
    uint64_t done = 0;
    position at;
    if (begin < end) {
        find(grid, &at, begin);
    }
    while (begin + done < end) {
        const uint64_t rest = end - begin - done;
        const size_t in_row = grid->shape[last] - at.index[last];
        const size_t count = rest < in_row ? (size_t)rest : in_row;
        const size_t did = row(context, at.pointers, strides_in(grid, last), count);
        done += did;
        if (did < count) {
            break;
        }
        next_row(grid, &at);
    }
    return done;
}

/* ------------------------------------------------------------------------------------------------
 * Overlap.
 */

bool
wp_grid_is_same(const wp_grid *grid, size_t a, size_t a_size, size_t b, size_t b_size)
{
    bool is_same = a_size == b_size && grid->bases[a] == grid->bases[b];
    for (size_t d = 0; d < grid->n_dims && is_same; d++) {
        is_same = grid->shape[d] <= 1 || strides_in(grid, d)[a] == strides_in(grid, d)[b];
    }
    return is_same;
}

/* The first byte of an operand and the one behind its last. */
static void
find_bounds(const wp_grid *grid, size_t operand, size_t size, uintptr_t *low, uintptr_t *high)
{
    *low = (uintptr_t)grid->bases[operand];
    *high = *low + size;
    for (size_t d = 0; d < grid->n_dims; d++) {
        const ptrdiff_t stride = strides_in(grid, d)[operand];
        const size_t extent = magnitude(stride) * (grid->shape[d] - 1);
        *(stride < 0 ? low : high) += stride < 0 ? (size_t)0 - extent : extent;
    }
}

/* The greatest number that divides every stride of an operand, and `divisor`. */
static size_t
common_divisor(const wp_grid *grid, size_t operand, size_t divisor)
{
    for (size_t d = 0; d < grid->n_dims; d++) {
        size_t other = grid->shape[d] > 1 ? magnitude(strides_in(grid, d)[operand]) : 0;
        while (other != 0) {
            const size_t remainder = divisor % other;
            divisor = other;
            other = remainder;
        }
    }
    return divisor;
}

/* Outside of each other's bounds they share nothing. Inside, every address of a differs from every
 * address of b by the same amount, but for a multiple of the divisor of all strides: so columns of
 * one table, or the real and the imaginary parts of complex numbers, are told apart. */
bool
wp_grid_may_share(const wp_grid *grid, size_t a, size_t a_size, size_t b, size_t b_size)
{
    uintptr_t a_low, a_high, b_low, b_high;
    if (grid->n == 0) {
        return false;
    }
    find_bounds(grid, a, a_size, &a_low, &a_high);
    find_bounds(grid, b, b_size, &b_low, &b_high);
    if (a_high <= b_low || b_high <= a_low) {
        return false;
    }
    const size_t divisor = common_divisor(grid, b, common_divisor(grid, a, 0));
    if (divisor == 0) {
        return true; /* One element each, and their bounds meet. */
    }
    const bool a_first = a_low <= b_low;
    const size_t distance = (size_t)(a_first ? b_low - a_low : a_low - b_low) % divisor;
    return distance < (a_first ? a_size : b_size) || divisor - distance < (a_first ? b_size : a_size);
}

/* How far from an element the dimensions that are smaller steps than `dim` lead, with the element itself. Of equal ones
 * one counts as smaller. */
static size_t
reach_below(const wp_grid *grid, size_t operand, size_t dim, size_t size)
{
    const size_t stride = magnitude(strides_in(grid, dim)[operand]);
    size_t reach = size;
    for (size_t d = 0; d < grid->n_dims; d++) {
        const size_t other = magnitude(strides_in(grid, d)[operand]);
        if (grid->shape[d] > 1 && (other < stride || (other == stride && d < dim))) {
            reach += other * (grid->shape[d] - 1);
        }
    }
    return reach;
}

/* The elements are apart if each dimension steps over all that the smaller steps reach. */
bool
wp_grid_may_fold(const wp_grid *grid, size_t operand, size_t size)
{
    for (size_t d = 0; d < grid->n_dims && grid->n > 0; d++) {
        if (grid->shape[d] > 1 && magnitude(strides_in(grid, d)[operand]) < reach_below(grid, operand, d, size)) {
            return true;
        }
    }
    return false;
}

bool
wp_grid_is_aligned(const wp_grid *grid, size_t operand, size_t alignment)
{
    size_t bits = (size_t)(uintptr_t)grid->bases[operand];
    for (size_t d = 0; d < grid->n_dims; d++) {
        bits |= grid->shape[d] > 1 ? magnitude(strides_in(grid, d)[operand]) : 0;
    }
    return grid->n == 0 || (bits & (alignment - 1)) == 0;
}
