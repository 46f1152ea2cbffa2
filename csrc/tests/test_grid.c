/*
 * Tests of csrc/native/wp_grid.c: every element is visited once and in its place, whatever the
 * strides; sorting and merging lose nothing; what is said to share no memory shares none.
 *
 * DESIGN. Random grids of few elements, with strides of all signs, are compared with the plain way to
 * find an element: its index times the strides. Memory is never touched, so any address will do.
 */
#include "../native/wp_grid.h"

#include "check.h"
#include "grid_order.h"

enum { ROUNDS = 4000, MOST_ELEMENTS = 4096, MOST_DIMS = 5, MOST_OPERANDS = 4, MEMORY = 8192 };

static char *const somewhere = (char *)(uintptr_t)0x10000000;

static uint64_t seed;

static size_t
pick(size_t most)
{
    return (size_t)(check_rand(&seed) % (most + 1));
}

/* ------------------------------------------------------------------------------------------------
 * Random grids.
 */

typedef struct sample {
    wp_grid grid;
    uint64_t memory[MEMORY / 8];
} sample;

static void
begin_sample(sample *s, size_t n_dims, size_t n_operands)
{
    CHECK(wp_grid_size(n_dims, n_operands) <= MEMORY);
    wp_grid_init(&s->grid, s->memory, n_dims, n_operands);
}

/* Strides as arrays have them: those of a block of memory whose dimensions lie in any order, some of
 * them reversed, some broadcast, some with gaps. */
static void
fill_operand(wp_grid *grid, size_t operand)
{
    size_t places[MOST_DIMS];
    ptrdiff_t step = 8;
    for (size_t d = 0; d < grid->n_dims; d++) {
        places[d] = d;
    }
    for (size_t d = grid->n_dims; d-- > 0;) {
        const size_t at = pick(3) == 0 ? pick(d) : d;
        const size_t dim = places[at];
        places[at] = places[d];
        const ptrdiff_t stride = pick(5) == 0 ? 0 : pick(4) == 0 ? -step : step;
        grid->strides[dim * grid->n_operands + operand] = stride;
        step *= (ptrdiff_t)grid->shape[dim] + (pick(5) == 0);
        step = step == 0 ? 8 : step;
    }
    grid->bases[operand] = somewhere + 8 * pick(100);
}

static void
random_sample(sample *s)
{
    begin_sample(s, pick(MOST_DIMS), 1 + pick(MOST_OPERANDS - 1));
    for (size_t d = 0; d < s->grid.n_dims; d++) {
        s->grid.shape[d] = pick(8) == 0 ? 0 : 1 + pick(4);
    }
    for (size_t o = 0; o < s->grid.n_operands; o++) {
        fill_operand(&s->grid, o);
    }
    CHECK(wp_grid_count(&s->grid));
}

/* Where element `number` of an operand is, by the plain way. */
static char *
find_plainly(const wp_grid *grid, size_t operand, uint64_t number)
{
    char *at = grid->bases[operand];
    for (size_t d = grid->n_dims; d-- > 0;) {
        at += (ptrdiff_t)(number % grid->shape[d]) * grid->strides[d * grid->n_operands + operand];
        number /= grid->shape[d];
    }
    return at;
}

/* ------------------------------------------------------------------------------------------------
 * Walking.
 */

/* What a walk came by. */
typedef struct trace {
    size_t n_operands;
    size_t n;
    size_t stop_after; /* elements */
    char *places[MOST_ELEMENTS][MOST_OPERANDS];
} trace;

static size_t
note_row(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count)
{
    trace *t = context;
    size_t did = 0;
    CHECK(count > 0);
    while (did < count && t->n < t->stop_after && t->n < MOST_ELEMENTS) {
        for (size_t o = 0; o < t->n_operands; o++) {
            t->places[t->n][o] = pointers[o] + (ptrdiff_t)did * strides[o];
        }
        t->n++;
        did++;
    }
    return did;
}

static void
walk(const wp_grid *grid, trace *t, uint64_t begin, uint64_t end, size_t stop_after)
{
    t->n_operands = grid->n_operands;
    t->n = 0;
    t->stop_after = stop_after;
    const uint64_t done = wp_grid_walk(grid, begin, end, note_row, t);
    CHECK_INT(done, t->n);
    CHECK_INT(done, end - begin < stop_after ? end - begin : stop_after);
}

static void
test_walk(void)
{
    static sample s;
    static trace t;
    for (int round = 0; round < ROUNDS; round++) {
        random_sample(&s);
        const uint64_t n = s.grid.n;
        const uint64_t begin = pick((size_t)n);
        const uint64_t end = begin + pick((size_t)(n - begin));
        walk(&s.grid, &t, begin, end, pick(4) == 0 ? pick((size_t)n) : SIZE_MAX);
        for (size_t i = 0; i < t.n; i++) {
            for (size_t o = 0; o < s.grid.n_operands; o++) {
                CHECK(t.places[i][o] == find_plainly(&s.grid, o, begin + i));
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------
 * Sorting and merging.
 */

static void
test_sort(void)
{
    static sample original, s;
    for (int round = 0; round < ROUNDS; round++) {
        size_t order[MOST_DIMS];
        random_sample(&original);
        begin_sample(&s, original.grid.n_dims, original.grid.n_operands);
        memcpy(s.memory, original.memory, sizeof s.memory);
        s.grid.n = original.grid.n;
        wp_grid_sort(&s.grid, order);
        for (uint64_t i = 0; i < s.grid.n; i++) {
            const uint64_t was = original_number(&s.grid, order, &original.grid, i);
            for (size_t o = 0; o < s.grid.n_operands; o++) {
                CHECK(find_plainly(&s.grid, o, i) == find_plainly(&original.grid, o, was));
            }
        }
    }
}

static void
test_merge(void)
{
    static sample original, s;
    for (int round = 0; round < ROUNDS; round++) {
        random_sample(&original);
        begin_sample(&s, original.grid.n_dims, original.grid.n_operands);
        memcpy(s.memory, original.memory, sizeof s.memory);
        s.grid.n = original.grid.n;
        wp_grid_merge(&s.grid);
        CHECK_INT(s.grid.n, original.grid.n);
        for (size_t d = 0; d < s.grid.n_dims && s.grid.n_dims > 1; d++) {
            CHECK(s.grid.shape[d] > 1);
        }
        for (uint64_t i = 0; i < s.grid.n; i++) {
            for (size_t o = 0; o < s.grid.n_operands; o++) {
                CHECK(find_plainly(&s.grid, o, i) == find_plainly(&original.grid, o, i));
            }
        }
    }
}

/* Fills in dimension d of a grid: its length, and the strides of up to two operands. */
static void
set_dim(wp_grid *grid, size_t d, size_t length, ptrdiff_t first, ptrdiff_t second)
{
    grid->shape[d] = length;
    grid->strides[d * grid->n_operands] = first;
    if (grid->n_operands > 1) {
        grid->strides[d * grid->n_operands + 1] = second;
    }
}

/* Blocks of memory become one row: as in C, as in Fortran, and upside down. */
static void
test_blocks_become_one_row(void)
{
    static const ptrdiff_t strides[][3] = {{120, 40, 8}, {8, 32, 96}, {-120, -40, -8}, {40, 8, 160}};
    static const size_t shapes[][3] = {{4, 3, 5}, {4, 3, 5}, {4, 3, 5}, {4, 5, 3}};
    static sample s;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        begin_sample(&s, 3, 2);
        for (size_t d = 0; d < 3; d++) {
            set_dim(&s.grid, d, shapes[i][d], strides[i][d], strides[i][d] * 2);
        }
        CHECK(wp_grid_count(&s.grid));
        wp_grid_sort(&s.grid, NULL);
        wp_grid_merge(&s.grid);
        CHECK_INT(s.grid.n_dims, 1);
        CHECK_INT(s.grid.shape[0], 60);
        CHECK_INT(s.grid.strides[0], i == 2 ? -8 : 8);
    }
}

static void
test_count(void)
{
    static sample s;
    begin_sample(&s, 3, 1);
    set_dim(&s.grid, 0, (size_t)1 << 40, 0, 0);
    set_dim(&s.grid, 1, (size_t)1 << 40, 0, 0);
    set_dim(&s.grid, 2, 2, 0, 0);
    CHECK(!wp_grid_count(&s.grid));
    s.grid.shape[2] = 0;
    CHECK(wp_grid_count(&s.grid));
    CHECK_INT(s.grid.n, 0);
    begin_sample(&s, 0, 1);
    CHECK(wp_grid_count(&s.grid));
    CHECK_INT(s.grid.n, 1);
}

/* ------------------------------------------------------------------------------------------------
 * Overlap.
 */

enum { BYTES = 1 << 16 };

/* Marks the bytes of an operand; false if one was marked already. */
static bool
mark(const wp_grid *grid, size_t operand, size_t size, unsigned char *bytes)
{
    bool is_new = true;
    for (uint64_t i = 0; i < grid->n; i++) {
        const ptrdiff_t at = find_plainly(grid, operand, i) - somewhere + BYTES / 2;
        if (!CHECK(at >= 0 && at + (ptrdiff_t)size <= BYTES)) {
            return false;
        }
        for (size_t k = 0; k < size; k++) {
            is_new = is_new && bytes[at + (ptrdiff_t)k] == 0;
            bytes[at + (ptrdiff_t)k] = 1;
        }
    }
    return is_new;
}

/* Marks as `mark` does, but lets an element be marked again by the same operand. */
static bool
meets(const wp_grid *grid, size_t a, size_t a_size, size_t b, size_t b_size)
{
    static unsigned char bytes[BYTES];
    bool is_shared = false;
    memset(bytes, 0, sizeof bytes);
    mark(grid, a, a_size, bytes);
    for (uint64_t i = 0; i < grid->n; i++) {
        const ptrdiff_t at = find_plainly(grid, b, i) - somewhere + BYTES / 2;
        for (size_t k = 0; k < b_size; k++) {
            is_shared = is_shared || bytes[at + (ptrdiff_t)k] != 0;
        }
    }
    return is_shared;
}

static void
test_shared_memory_is_seen(void)
{
    static sample s;
    static unsigned char bytes[BYTES];
    static const size_t sizes[] = {1, 2, 4, 8, 16};
    int apart = 0;
    for (int round = 0; round < ROUNDS; round++) {
        begin_sample(&s, 1 + pick(2), 2);
        for (size_t d = 0; d < s.grid.n_dims; d++) {
            set_dim(&s.grid, d, 1 + pick(5), 4 * (ptrdiff_t)pick(20) - 40, 4 * (ptrdiff_t)pick(20) - 40);
        }
        s.grid.bases[0] = somewhere + pick(60);
        s.grid.bases[1] = somewhere + pick(60);
        CHECK(wp_grid_count(&s.grid));
        const size_t a_size = sizes[pick(4)];
        const size_t b_size = sizes[pick(4)];
        const bool may_share = wp_grid_may_share(&s.grid, 0, a_size, 1, b_size);
        CHECK(may_share || !meets(&s.grid, 0, a_size, 1, b_size));
        CHECK(may_share == wp_grid_may_share(&s.grid, 1, b_size, 0, a_size));
        apart += !may_share;
        memset(bytes, 0, sizeof bytes);
        CHECK(wp_grid_may_fold(&s.grid, 0, a_size) || mark(&s.grid, 0, a_size, bytes));
    }
    CHECK(apart > ROUNDS / 20);
}

/* What must be allowed: neighbours, columns of one table, every other element, plain blocks. */
static void
test_apart_is_seen(void)
{
    static sample s;
    begin_sample(&s, 1, 2);
    set_dim(&s.grid, 0, 10, 8, 8);
    CHECK(wp_grid_count(&s.grid));
    s.grid.bases[0] = somewhere;
    s.grid.bases[1] = somewhere + 80;
    CHECK(!wp_grid_may_share(&s.grid, 0, 8, 1, 8));
    s.grid.bases[1] = somewhere + 72;
    CHECK(wp_grid_may_share(&s.grid, 0, 8, 1, 8));
    CHECK(!wp_grid_is_same(&s.grid, 0, 8, 1, 8));
    s.grid.bases[1] = somewhere;
    CHECK(wp_grid_is_same(&s.grid, 0, 8, 1, 8));
    CHECK(!wp_grid_is_same(&s.grid, 0, 8, 1, 4));
    set_dim(&s.grid, 0, 10, 24, 24);
    s.grid.bases[1] = somewhere + 8;
    CHECK(!wp_grid_may_share(&s.grid, 0, 8, 1, 8));
    CHECK(!wp_grid_may_share(&s.grid, 0, 8, 1, 16));
    CHECK(wp_grid_may_share(&s.grid, 0, 8, 1, 17));
    set_dim(&s.grid, 0, 10, -16, 16);
    s.grid.bases[0] = somewhere + 8 + 144;
    s.grid.bases[1] = somewhere;
    CHECK(!wp_grid_may_share(&s.grid, 0, 8, 1, 8));
    CHECK(!wp_grid_may_fold(&s.grid, 0, 16));
    CHECK(wp_grid_may_fold(&s.grid, 0, 17));
    begin_sample(&s, 3, 1);
    set_dim(&s.grid, 0, 4, 8, 0);
    set_dim(&s.grid, 1, 1, 0, 0);
    set_dim(&s.grid, 2, 5, -32, 0);
    CHECK(wp_grid_count(&s.grid));
    CHECK(!wp_grid_may_fold(&s.grid, 0, 8));
    s.grid.shape[0] = 5;
    CHECK(wp_grid_may_fold(&s.grid, 0, 8));
    set_dim(&s.grid, 0, 5, 0, 0);
    CHECK(wp_grid_may_fold(&s.grid, 0, 8));
}

static void
test_aligned(void)
{
    static sample s;
    begin_sample(&s, 2, 1);
    set_dim(&s.grid, 0, 3, -16, 0);
    set_dim(&s.grid, 1, 1, 3, 0);
    CHECK(wp_grid_count(&s.grid));
    s.grid.bases[0] = somewhere;
    CHECK(wp_grid_is_aligned(&s.grid, 0, 8));
    CHECK(!wp_grid_is_aligned(&s.grid, 0, 32));
    s.grid.bases[0] = somewhere + 4;
    CHECK(wp_grid_is_aligned(&s.grid, 0, 4));
    CHECK(!wp_grid_is_aligned(&s.grid, 0, 8));
    s.grid.shape[0] = 0;
    CHECK(wp_grid_count(&s.grid));
    CHECK(wp_grid_is_aligned(&s.grid, 0, 8));
}

int
main(void)
{
    check_time_limit(60);
    seed = check_seed(5);
    RUN(test_walk);
    RUN(test_sort);
    RUN(test_merge);
    RUN(test_blocks_become_one_row);
    RUN(test_count);
    RUN(test_shared_memory_is_seen);
    RUN(test_apart_is_seen);
    RUN(test_aligned);
    return check_done();
}
