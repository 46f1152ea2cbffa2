/*
 * Arrays of any shape, strides and overlap (csrc/native/wp_grid.c, with the loops of wp_loop.c over them).
 *
 * INPUT. Choices: dimensions, operands, lengths, the size of an element, and for each operand where it begins and its
 * strides: those of a block of memory, or any others, zeros and negative ones among them. Operands lie in blocks of
 * exactly their size, several of them perhaps in one. Along dimensions of one element, and where there are no elements at
 * all, strides are any 64 bits, as NumPy makes them.
 *
 * CHECKED, against the plain way to find an element (its index times the strides):
 *
 *   - the number of elements, and that more than can be numbered is noticed;
 *   - what shares memory, folds onto itself or is not aligned is never said not to;
 *   - after sorting and merging, walking pieces of the grid in any order visits each element once, in its place;
 *   - a loop over the arrays gives each output element its value, and leaves all other bytes as they were.
 */
#include "wp_grid.h"
#include "wp_loop.h"

#include "../grid_order.h"
#include "fuzz.h"

enum { MAX_DIMS = 5, MAX_OPERANDS = 3, MAX_LENGTH = 6, MAX_ELEMENTS = 400, MAX_BLOCK = 20000 };

/* ---- Grids ---- */

typedef struct sample {
    wp_grid grid;
    size_t element;                   /* bytes */
    char *blocks[MAX_OPERANDS];       /* one for each operand, or that of an operand before it */
    size_t block_sizes[MAX_OPERANDS]; /* bytes */
    bool owns_block[MAX_OPERANDS];
    uint64_t memory[128];
} sample;

static ptrdiff_t *
stride(const wp_grid *grid, size_t dim, size_t operand)
{
    return &grid->strides[dim * grid->n_operands + operand];
}

/* Where element `number` of an operand is, counted from its first. */
static ptrdiff_t
offset_of(const wp_grid *grid, size_t operand, uint64_t number)
{
    ptrdiff_t at = 0;
    for (size_t d = grid->n_dims; d-- > 0;) {
        const ptrdiff_t index = (ptrdiff_t)(number % grid->shape[d]);
        at += index > 0 ? index * *stride(grid, d, operand) : 0;
        number /= grid->shape[d];
    }
    return at;
}

static void
pick_shape(fuzz_input *in, sample *s)
{
    const size_t n_dims = fuzz_pick(in, MAX_DIMS);
    const size_t n_operands = 1 + fuzz_pick(in, MAX_OPERANDS - 1);
    size_t n = 1;
    FUZZ_CHECK(wp_grid_size(n_dims, n_operands) <= sizeof s->memory);
    wp_grid_init(&s->grid, s->memory, n_dims, n_operands);
    for (size_t d = 0; d < n_dims; d++) {
        size_t length = fuzz_pick(in, MAX_LENGTH);
        length = n * length > MAX_ELEMENTS ? 1 : length;
        s->grid.shape[d] = length;
        n *= length;
    }
    FUZZ_CHECK(wp_grid_count(&s->grid));
    FUZZ_CHECK(s->grid.n == n);
    s->element = (size_t)1 << fuzz_pick(in, 3);
}

/* Strides of a block in memory, its dimensions in any order, some broadcast, reversed or with gaps; or small ones, with
 * which elements may fall on each other. */
static void
pick_strides(fuzz_input *in, sample *s, size_t operand)
{
    size_t dims[MAX_DIMS];
    size_t left = s->grid.n_dims;
    ptrdiff_t step = (ptrdiff_t)s->element;
    for (size_t d = 0; d < left; d++) {
        dims[d] = d;
    }
    while (left > 0) {
        const uint8_t choice = fuzz_byte(in);
        const size_t at = choice % 4 == 3 ? fuzz_pick(in, left - 1) : left - 1;
        const size_t dim = dims[at];
        const ptrdiff_t length = (ptrdiff_t)s->grid.shape[dim];
        ptrdiff_t wanted = step;
        dims[at] = dims[--left];
        if (choice / 4 % 4 == 1) {
            wanted = 0;
        } else if (choice / 4 % 4 == 2) {
            wanted = -step;
        } else if (choice / 4 % 4 == 3) {
            wanted = (int8_t)fuzz_byte(in);
            wanted *= choice / 16 % 2 == 0 ? (ptrdiff_t)s->element : 1;
        }
        *stride(&s->grid, dim, operand) = wanted;
        step *= length > 0 ? length + choice / 32 % 2 : 1;
        if (length <= 1 && choice / 64 % 2 == 1) {
            *stride(&s->grid, dim, operand) = (ptrdiff_t)fuzz_bits(in);
        }
    }
    if (s->grid.n == 0 && fuzz_one_in(in, 2)) {
        for (size_t d = 0; d < s->grid.n_dims; d++) {
            *stride(&s->grid, d, operand) = (ptrdiff_t)fuzz_bits(in);
        }
    }
}

/* How far an operand leads below and above its first byte. */
static void
find_reach(const sample *s, size_t operand, size_t *below, size_t *above)
{
    *below = 0;
    *above = s->grid.n > 0 ? s->element : 0;
    for (uint64_t i = 0; i < s->grid.n; i++) {
        const ptrdiff_t at = offset_of(&s->grid, operand, i);
        *below = at < 0 && (size_t)-at > *below ? (size_t)-at : *below;
        *above = at > 0 && (size_t)at + s->element > *above ? (size_t)at + s->element : *above;
    }
}

/* In a block of its own, or in that of the operand before it, if there is room. */
static bool
place_operand(fuzz_input *in, sample *s, size_t operand)
{
    size_t below, above;
    find_reach(s, operand, &below, &above);
    const size_t size = below + above;
    const bool may_share = operand > 0 && s->block_sizes[operand - 1] >= size && fuzz_one_in(in, 2);
    if (size > MAX_BLOCK) {
        return false;
    }
    s->owns_block[operand] = !may_share;
    s->blocks[operand] = may_share ? s->blocks[operand - 1] : fuzz_block(size);
    s->block_sizes[operand] = may_share ? s->block_sizes[operand - 1] : size;
    const size_t room = s->block_sizes[operand] - size;
    const size_t wanted = room > 0 ? fuzz_byte(in) : 0;
    s->grid.bases[operand] = s->blocks[operand] + below + (wanted < room ? wanted : room);
    return true;
}

static void
fill_blocks(fuzz_input *in, sample *s)
{
    uint8_t value = fuzz_byte(in);
    for (size_t o = 0; o < s->grid.n_operands; o++) {
        for (size_t i = 0; s->owns_block[o] && i < s->block_sizes[o]; i++) {
            s->blocks[o][i] = (char)value;
            value = (uint8_t)(value * 5 + 3);
        }
    }
}

static bool
make_sample(fuzz_input *in, sample *s)
{
    memset(s, 0, sizeof *s);
    pick_shape(in, s);
    for (size_t o = 0; o < s->grid.n_operands; o++) {
        pick_strides(in, s, o);
        if (!place_operand(in, s, o)) {
            return false;
        }
    }
    fill_blocks(in, s);
    return true;
}

static void
free_sample(sample *s)
{
    for (size_t o = 0; o < s->grid.n_operands; o++) {
        free(s->owns_block[o] ? s->blocks[o] : NULL);
    }
}

/* A copy that has its own arrays. */
static void
copy_grid(sample *to, const sample *from)
{
    *to = *from;
    wp_grid_init(&to->grid, to->memory, from->grid.n_dims, from->grid.n_operands);
    memcpy(to->memory, from->memory, sizeof to->memory);
    to->grid.n = from->grid.n;
}

/* ---- Overlap ---- */

/* Which bytes of a block belong to an operand; the number of elements that each belongs to, up to 2. */
static void
mark(const sample *s, size_t operand, uint8_t *marks)
{
    const ptrdiff_t base = s->grid.bases[operand] - s->blocks[operand];
    memset(marks, 0, MAX_BLOCK);
    for (uint64_t i = 0; i < s->grid.n; i++) {
        for (size_t b = 0; b < s->element; b++) {
            uint8_t *at = &marks[base + offset_of(&s->grid, operand, i) + (ptrdiff_t)b];
            *at = *at < 2 ? *at + 1 : 2;
        }
    }
}

static bool
shares(const sample *s, size_t a, size_t b)
{
    static uint8_t of_a[MAX_BLOCK], of_b[MAX_BLOCK];
    if (s->blocks[a] != s->blocks[b]) {
        return false;
    }
    mark(s, a, of_a);
    mark(s, b, of_b);
    size_t i = 0;
    while (i < s->block_sizes[a] && !(of_a[i] > 0 && of_b[i] > 0)) {
        i++;
    }
    return i < s->block_sizes[a];
}

static bool
folds(const sample *s, size_t operand)
{
    static uint8_t marks[MAX_BLOCK];
    mark(s, operand, marks);
    return memchr(marks, 2, s->block_sizes[operand]) != NULL;
}

static bool
is_aligned(const sample *s, size_t operand, size_t alignment)
{
    for (uint64_t i = 0; i < s->grid.n; i++) {
        if ((uintptr_t)(s->grid.bases[operand] + offset_of(&s->grid, operand, i)) % alignment != 0) {
            return false;
        }
    }
    return true;
}

static bool
is_same(const sample *s, size_t a, size_t b)
{
    bool is_same = s->grid.bases[a] == s->grid.bases[b];
    for (uint64_t i = 0; i < s->grid.n && is_same; i++) {
        is_same = offset_of(&s->grid, a, i) == offset_of(&s->grid, b, i);
    }
    return is_same;
}

static void
check_overlap(const sample *s)
{
    for (size_t a = 0; a < s->grid.n_operands; a++) {
        FUZZ_CHECK(wp_grid_may_fold(&s->grid, a, s->element) || !folds(s, a));
        for (size_t alignment = 1; alignment <= 16; alignment *= 2) {
            FUZZ_CHECK(wp_grid_is_aligned(&s->grid, a, alignment) == is_aligned(s, a, alignment) || s->grid.n == 0);
        }
        for (size_t b = 0; b < s->grid.n_operands; b++) {
            FUZZ_CHECK(wp_grid_may_share(&s->grid, a, s->element, b, s->element) || !shares(s, a, b));
            FUZZ_CHECK(!wp_grid_is_same(&s->grid, a, s->element, b, s->element) || is_same(s, a, b));
            FUZZ_CHECK(wp_grid_is_same(&s->grid, a, s->element, b, s->element) || !is_same(s, a, b) || s->grid.n == 0);
        }
    }
}

/* ---- Walking ---- */

typedef struct trace {
    const wp_grid *original;
    const wp_grid *sorted;
    const size_t *order;
    uint64_t next;       /* the number of the element that comes now */
    uint64_t stop_after; /* elements */
    uint8_t *visits;
} trace;

static size_t
visit_row(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count)
{
    trace *t = context;
    size_t did = 0;
    FUZZ_CHECK(count > 0);
    for (; did < count && t->stop_after > 0; did++, t->stop_after--) {
        const uint64_t was = original_number(t->sorted, t->order, t->original, t->next++);
        for (size_t o = 0; o < t->original->n_operands; o++) {
            FUZZ_CHECK(pointers[o] + (did > 0 ? (ptrdiff_t)did * strides[o] : 0) ==
                       t->original->bases[o] + offset_of(t->original, o, was));
        }
        t->visits[was]++;
    }
    return did;
}

/* A walk that is stopped goes on where it was. */
static void
walk(fuzz_input *in, const sample *merged, trace *t, uint64_t begin, uint64_t end)
{
    while (begin < end) {
        const uint64_t most = fuzz_one_in(in, 4) ? 1 + fuzz_byte(in) : MAX_ELEMENTS;
        const uint64_t expected = most < end - begin ? most : end - begin;
        t->next = begin;
        t->stop_after = most;
        FUZZ_CHECK(wp_grid_walk(&merged->grid, begin, end, visit_row, t) == expected);
        begin += expected;
    }
}

static void
check_walk(fuzz_input *in, const sample *original, const sample *sorted, const sample *merged, const size_t *order)
{
    uint8_t *visits = fuzz_block((size_t)original->grid.n);
    trace t = {&original->grid, &sorted->grid, order, 0, 0, visits};
    const uint64_t middle = original->grid.n > 0 ? fuzz_byte(in) % (original->grid.n + 1) : 0;
    memset(visits, 0, (size_t)original->grid.n);
    walk(in, merged, &t, middle, original->grid.n);
    walk(in, merged, &t, 0, middle);
    for (uint64_t i = 0; i < original->grid.n; i++) {
        FUZZ_CHECK(visits[i] == 1);
    }
    free(visits);
}

/* ---- Loops ---- */

static uint8_t
add_u8(uint8_t a, uint8_t b)
{
    return (uint8_t)(a * 3 + b);
}

static uint16_t
add_u16(uint16_t a, uint16_t b)
{
    return (uint16_t)(a * 3u + b);
}

static uint32_t
add_u32(uint32_t a, uint32_t b)
{
    return a * 3 + b;
}

static uint64_t
add_u64(uint64_t a, uint64_t b)
{
    return a * 3 + b;
}

static uint64_t
load(const sample *s, const char *at)
{
    uint64_t value = 0;
    memcpy(&value, at, s->element); /* Little-endian; elsewhere the sums are others, and equal all the same. */
    return value;
}

static wp_fn
function_for(size_t element)
{
    return element == 1   ? (wp_fn)add_u8
           : element == 2 ? (wp_fn)add_u16
           : element == 4 ? (wp_fn)add_u32
                          : (wp_fn)add_u64;
}

static wp_type
type_for(size_t element)
{
    return element == 1 ? WP_TYPE_U8 : element == 2 ? WP_TYPE_U16 : element == 4 ? WP_TYPE_U32 : WP_TYPE_U64;
}

/* What the block of the output has to be afterwards: each element set, all else as it was. */
static char *
expected_output(const sample *s)
{
    const size_t out = 2;
    char *expected = fuzz_block(s->block_sizes[out]);
    memcpy(expected, s->blocks[out], s->block_sizes[out]);
    for (uint64_t i = 0; i < s->grid.n; i++) {
        const uint64_t a = load(s, s->grid.bases[0] + offset_of(&s->grid, 0, i));
        const uint64_t b = load(s, s->grid.bases[1] + offset_of(&s->grid, 1, i));
        const ptrdiff_t at = s->grid.bases[out] - s->blocks[out] + offset_of(&s->grid, out, i);
        wp_loop_store(type_for(s->element), expected + at, a * 3 + b);
    }
    return expected;
}

/* As csrc/python/array_call.c does: an output may not fold, and shares memory only with what is the same as it. */
static bool
may_run(const sample *s)
{
    bool may = s->grid.n_operands == 3 && !wp_grid_may_fold(&s->grid, 2, s->element);
    for (size_t o = 0; o < s->grid.n_operands && may; o++) {
        may = wp_grid_is_aligned(&s->grid, o, s->element);
        may = may && (o == 2 || wp_grid_is_same(&s->grid, o, s->element, 2, s->element) ||
                      !wp_grid_may_share(&s->grid, o, s->element, 2, s->element));
    }
    return may;
}

static size_t
run_row(void *context, char *const *pointers, const ptrdiff_t *strides, size_t count)
{
    wp_loop_error error;
    return wp_loop_run(context, pointers, strides, count, &error);
}

static void
check_loop(fuzz_input *in, const sample *s, const sample *merged)
{
    static const char *const signatures[] = {"uint8_t (uint8_t, uint8_t)", "uint16_t (uint16_t, uint16_t)",
                                             "uint32_t (uint32_t, uint32_t)", "uint64_t (uint64_t, uint64_t)"};
    wp_signature *signature;
    wp_call call;
    wp_loop loop;
    if (!may_run(s)) {
        return;
    }
    const char *text = signatures[s->element == 1 ? 0 : s->element == 2 ? 1 : s->element == 4 ? 2 : 3];
    FUZZ_CHECK(wp_signature_parse(text, &signature, NULL) == WP_SIG_OK);
    if (wp_call_prepare(&call, signature, false) == WP_CALL_OK) {
        char *expected = expected_output(s);
        const uint64_t middle = s->grid.n > 0 ? fuzz_byte(in) % (s->grid.n + 1) : 0;
        wp_loop_prepare(&loop, signature, &call, function_for(s->element), WP_LOOP_UNCHECKED);
        FUZZ_CHECK(wp_grid_walk(&merged->grid, 0, middle, run_row, &loop) == middle);
        FUZZ_CHECK(wp_grid_walk(&merged->grid, middle, s->grid.n, run_row, &loop) == s->grid.n - middle);
        FUZZ_CHECK(memcmp(expected, s->blocks[2], s->block_sizes[2]) == 0 || s->block_sizes[2] == 0);
        free(expected);
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

/* ---- Numbers of elements ---- */

/* Any shape, also such as no memory could hold. */
static void
check_count(fuzz_input *in)
{
    uint64_t memory[64];
    wp_grid grid;
    const size_t n_dims = fuzz_pick(in, 6);
    unsigned __int128 n = 1;
    bool is_empty = false;
    bool is_countable = true;
    FUZZ_CHECK(wp_grid_size(n_dims, 1) <= sizeof memory);
    wp_grid_init(&grid, memory, n_dims, 1);
    for (size_t d = 0; d < n_dims; d++) {
        grid.shape[d] = (size_t)fuzz_bits(in);
        is_empty = is_empty || grid.shape[d] == 0;
        n = is_countable ? n * grid.shape[d] : n;
        is_countable = n <= UINT64_MAX;
    }
    FUZZ_CHECK(wp_grid_count(&grid) == (is_empty || is_countable));
    FUZZ_CHECK(!is_empty || grid.n == 0);
    FUZZ_CHECK(is_empty || !is_countable || grid.n == (uint64_t)n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sample original, sorted, merged;
    fuzz_input in = {data, size};
    size_t order[MAX_DIMS];
    if (make_sample(&in, &original)) {
        check_overlap(&original);
        copy_grid(&sorted, &original);
        wp_grid_sort(&sorted.grid, order);
        copy_grid(&merged, &sorted);
        wp_grid_merge(&merged.grid);
        check_walk(&in, &original, &sorted, &merged, order);
        check_loop(&in, &original, &merged);
        check_count(&in);
    }
    free_sample(&original);
    return 0;
}
