/*
 * Calls of functions of any signature, with any arguments, by every route: what arrives is what was sent, bit for bit
 * (csrc/native/wp_call*.c and wp_loop.c).
 *
 * INPUT. Choices: how many parameters (up to 64; most often few), the type and spelling of each and of the result, how
 * many rows of arguments, strides, and then the bits of the arguments.
 *
 * DESIGN. The function that is called is a closure of libffi: machine code, made for the signature, that takes the
 * arguments from where the ABI says they are and gives them to note_call() below. So one function has all signatures,
 * and it is not our code that says where arguments are. A build without libffi has no such function, and there only the
 * preparing is tested; test_call.c calls compiled functions, hundreds of them, on every build.
 *
 * CHECKED. The text of the signature parses to the types it was made of. Each route, the direct one and libffi, with rows
 * of slots, and the loop over arrays with its own way to bring values into slots and registers: all arguments and
 * results are equal to those chosen; the loops end at the first result that counts as an error, with errno as
 * it was. Rows, arrays and results are blocks of exactly their size.
 */
#include "wp_loop.h"

#include "fuzz.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>

enum { MAX_ROWS = 5, MAX_PARAMS = WP_SIGNATURE_MAX_PARAMS, MAX_TEXT = 4096 };

/* ---- Signatures ---- */

typedef struct spelling {
    const char *text;
    wp_type type;
} spelling;

/* The beginning is for results as well. */
static const spelling spellings[] = {
    {"int", WP_TYPE_I32},
    {"double", WP_TYPE_F64},
    {"float", WP_TYPE_F32},
    {"uint64_t", WP_TYPE_U64},
    {"int64_t", WP_TYPE_I64},
    {"unsigned", WP_TYPE_U32},
    {"int8_t", WP_TYPE_I8},
    {"uint8_t", WP_TYPE_U8},
    {"short", WP_TYPE_I16},
    {"unsigned short", WP_TYPE_U16},
    {"bool", WP_TYPE_BOOL},
    {"const void *", WP_TYPE_PTR},
    {"void", WP_TYPE_VOID},
    {"wp_job *", WP_TYPE_JOB},
    {"int (*)(double, float)", WP_TYPE_PTR},
};

enum { N_RESULTS = 13, N_SPELLINGS = sizeof spellings / sizeof spellings[0] };

/* A signature, what it was made of, and the functions of it. */
typedef struct subject {
    size_t n_params;
    wp_type params[MAX_PARAMS];
    wp_type result;
    char text[MAX_TEXT];
    wp_signature *signature;
    size_t n_rows;
    uint64_t *slots;   /* n_rows of n_params */
    uint64_t *results; /* n_rows: what the function returns */
} subject;

/* Most functions have few parameters; those that need more registers and stack slots than there are have more. */
static size_t
pick_n_params(fuzz_input *in)
{
    const size_t n = fuzz_byte(in);
    return n < 192 ? n % 24 : n - 191;
}

static wp_type
pick_param(fuzz_input *in, char *text)
{
    const spelling *s = &spellings[fuzz_pick(in, N_SPELLINGS - 1)];
    s = s->type == WP_TYPE_VOID ? &spellings[0] : s;
    strcat(text, s->text);
    return s->type;
}

static void
make_signature(fuzz_input *in, subject *s)
{
    const spelling *result = &spellings[fuzz_pick(in, N_RESULTS - 1)];
    s->result = result->type;
    s->n_params = pick_n_params(in);
    strcpy(s->text, result->text);
    strcat(s->text, " (");
    for (size_t i = 0; i < s->n_params; i++) {
        strcat(s->text, i > 0 ? ", " : "");
        s->params[i] = pick_param(in, s->text);
    }
    strcat(s->text, ")");
    FUZZ_CHECK(wp_signature_parse(s->text, &s->signature, NULL) == WP_SIG_OK);
    FUZZ_CHECK(s->signature->n_params == s->n_params && s->signature->result.type == s->result);
    for (size_t i = 0; i < s->n_params; i++) {
        FUZZ_CHECK(s->signature->params[i].type == s->params[i]);
    }
}

/* ---- Values ---- */

static size_t
size_of(wp_type type)
{
    return wp_type_describe(type)->size;
}

/* Any bits as a slot of the type: as wide as it is, and extended as wp_call.h says. */
static uint64_t
slot_of(wp_type type, uint64_t bits)
{
    switch (type) {
    case WP_TYPE_VOID:
        return 0;
    case WP_TYPE_BOOL:
        return bits & 1;
    case WP_TYPE_I8:
        return (uint64_t)(int8_t)bits;
    case WP_TYPE_I16:
        return (uint64_t)(int16_t)bits;
    case WP_TYPE_I32:
        return (uint64_t)(int32_t)bits;
    default:
        return size_of(type) == 8 ? bits : bits & ((UINT64_C(1) << 8 * size_of(type)) - 1);
    }
}

static void
make_values(fuzz_input *in, subject *s)
{
    s->n_rows = fuzz_pick(in, MAX_ROWS);
    s->slots = fuzz_block(s->n_rows * s->n_params * sizeof *s->slots);
    s->results = fuzz_block(s->n_rows * sizeof *s->results);
    for (size_t row = 0; row < s->n_rows; row++) {
        for (size_t i = 0; i < s->n_params; i++) {
            s->slots[row * s->n_params + i] = slot_of(s->params[i], fuzz_bits(in));
        }
        s->results[row] = slot_of(s->result, fuzz_bits(in));
    }
}

#if defined(WP_HAVE_LIBFFI)

#include <ffi.h>

/* ---- The function that is called ---- */

/* What has been called. There is one thread, and one subject at a time. */
static subject current;
static size_t n_calls;

static uint64_t
slot_at(wp_type type, const void *place)
{
    uint64_t bits = 0;
    memcpy(&bits, place,
           size_of(type)); /* The machines that have a direct route, and this libffi, are little-endian. */
    return slot_of(type, bits);
}

static void
give_result(wp_type type, uint64_t slot, void *place)
{
    const bool is_narrow = !wp_type_describe(type)->is_floating && size_of(type) < sizeof(ffi_arg);
    memcpy(place, &slot, is_narrow ? sizeof(ffi_arg) : size_of(type));
}

/* Some leave errno alone, and it has to be 0 then whatever the calls before have left. */
static int
error_number(size_t row)
{
    return row % 2 == 0 ? 0 : (int)row + 100;
}

/* Called by the closure, for whoever called that. */
static void
note_call(ffi_cif *cif, void *result, void **values, void *user)
{
    const subject *s = user;
    FUZZ_CHECK(n_calls < s->n_rows);
    FUZZ_CHECK(cif->nargs == s->n_params);
    for (size_t i = 0; i < s->n_params; i++) {
        FUZZ_CHECK(slot_at(s->params[i], values[i]) == s->slots[n_calls * s->n_params + i]);
    }
    if (s->result != WP_TYPE_VOID) {
        give_result(s->result, s->results[n_calls], result);
    }
    errno = error_number(n_calls) != 0 ? error_number(n_calls) : errno;
    n_calls++;
}

static ffi_type *
ffi_type_of(wp_type type)
{
    static ffi_type *const types[WP_N_TYPES] = {
        [WP_TYPE_VOID] = &ffi_type_void,   [WP_TYPE_BOOL] = &ffi_type_uint8,  [WP_TYPE_I8] = &ffi_type_sint8,
        [WP_TYPE_U8] = &ffi_type_uint8,    [WP_TYPE_I16] = &ffi_type_sint16,  [WP_TYPE_U16] = &ffi_type_uint16,
        [WP_TYPE_I32] = &ffi_type_sint32,  [WP_TYPE_U32] = &ffi_type_uint32,  [WP_TYPE_I64] = &ffi_type_sint64,
        [WP_TYPE_U64] = &ffi_type_uint64,  [WP_TYPE_F32] = &ffi_type_float,   [WP_TYPE_F64] = &ffi_type_double,
        [WP_TYPE_PTR] = &ffi_type_pointer, [WP_TYPE_JOB] = &ffi_type_pointer,
    };
    return types[type];
}

/* The closure, made anew for each signature in the same memory. */
static wp_fn
make_function(subject *s, ffi_cif *cif, ffi_type **types)
{
    static ffi_closure *closure;
    static void *code;
    if (closure == NULL) {
        closure = ffi_closure_alloc(sizeof *closure, &code);
        FUZZ_CHECK(closure != NULL);
    }
    for (size_t i = 0; i < s->n_params; i++) {
        types[i] = ffi_type_of(s->params[i]);
    }
    FUZZ_CHECK(ffi_prep_cif(cif, FFI_DEFAULT_ABI, (unsigned)s->n_params, ffi_type_of(s->result), types) == FFI_OK);
    FUZZ_CHECK(ffi_prep_closure_loc(closure, cif, note_call, s, code) == FFI_OK);
    wp_fn fn;
    memcpy(&fn, &code, sizeof fn);
    return fn;
}

/* ---- Rows of slots ---- */

static void
check_rows(const subject *s, const wp_call *call, wp_fn fn)
{
    uint64_t *results = fuzz_block(s->n_rows * sizeof *results);
    n_calls = 0;
    wp_call_invoke(call, fn, s->n_params > 0 ? s->slots : NULL, results, s->n_rows);
    FUZZ_CHECK(n_calls == s->n_rows);
    FUZZ_CHECK(memcmp(results, s->results, s->n_rows * sizeof *results) == 0 || s->n_rows == 0);
    free(results);
}

/* ---- Arrays ---- */

/* The values of one operand, and where they are. */
typedef struct column {
    wp_type type;
    ptrdiff_t stride;
    char *block;
    char *first;
} column;

/* Elements side by side, apart, or backwards. */
static column
make_column(fuzz_input *in, wp_type type, size_t n_rows)
{
    static const int steps[] = {1, 2, -1, 3, -2};
    const size_t size = size_of(type);
    const int step = steps[fuzz_pick(in, 4)];
    const size_t reach = n_rows > 0 ? (n_rows - 1) * (size_t)abs(step) * size : 0;
    column c = {.type = type, .stride = step * (ptrdiff_t)size};
    c.block = fuzz_block(reach + size);
    memset(c.block, 0xa5, reach + size);
    c.first = c.block + (step < 0 ? reach : 0);
    return c;
}

static char *
element(const column *c, size_t row)
{
    return c->first + (ptrdiff_t)row * c->stride;
}

/* A loop over user data takes the same pointer for all elements, so the first one of a column stands for all. */
static void
fill_column(const subject *s, column *c, size_t param, bool is_same_for_all)
{
    for (size_t row = 0; row < s->n_rows; row++) {
        const size_t from = is_same_for_all ? 0 : row;
        s->slots[row * s->n_params + param] = s->slots[from * s->n_params + param];
        wp_loop_store(c->type, element(c, row), s->slots[row * s->n_params + param]);
        FUZZ_CHECK(wp_loop_load(c->type, element(c, row)) == s->slots[row * s->n_params + param]);
    }
}

static bool
is_error(wp_loop_check check, uint64_t result)
{
    return (check == WP_LOOP_NONZERO && result != 0) || (check == WP_LOOP_NEGATIVE && (int64_t)result < 0);
}

static size_t
rows_until_error(const subject *s, wp_loop_check check)
{
    size_t row = 0;
    while (row < s->n_rows && !is_error(check, s->results[row])) {
        row++;
    }
    return row;
}

/* What was done has its result, and what was not is as it was. */
static void
check_results(const subject *s, const column *c, size_t n_done)
{
    for (size_t row = 0; row < s->n_rows; row++) {
        uint64_t untouched;
        memset(&untouched, 0xa5, sizeof untouched);
        FUZZ_CHECK(row >= n_done || wp_loop_load(c->type, element(c, row)) == s->results[row]);
        FUZZ_CHECK(row < n_done || memcmp(element(c, row), &untouched, size_of(c->type)) == 0);
    }
}

static void
run_loop(const subject *s, const wp_loop *loop, const column *columns)
{
    char *pointers[MAX_PARAMS + 1];
    ptrdiff_t strides[MAX_PARAMS + 1];
    wp_loop_error error = {.error_number = -1};
    for (size_t i = 0; i <= s->n_params; i++) {
        pointers[i] = columns[i].first;
        strides[i] = columns[i].stride;
    }
    n_calls = 0;
    errno = EDOM;
    const size_t expected = rows_until_error(s, loop->check);
    FUZZ_CHECK(wp_loop_run(loop, pointers, strides, s->n_rows, &error) == expected);
    FUZZ_CHECK(n_calls == expected + (expected < s->n_rows));
    if (expected < s->n_rows) {
        FUZZ_CHECK(error.result == s->results[expected] && error.error_number == error_number(expected));
    }
    check_results(s, &columns[s->n_params], expected);
}

static void
check_loop(fuzz_input *in, subject *s, const wp_call *call, wp_fn fn)
{
    column columns[MAX_PARAMS + 1];
    wp_loop loop;
    wp_loop_prepare(&loop, s->signature, call, fn, (wp_loop_check)fuzz_pick(in, WP_LOOP_NEGATIVE));
    for (size_t i = 0; i < s->n_params; i++) {
        columns[i] = make_column(in, s->params[i], s->n_rows);
        fill_column(s, &columns[i], i,
                    wp_loop_is_typed(&loop) && size_of(s->params[i]) == sizeof(void *) &&
                        (s->params[i] == WP_TYPE_PTR || s->params[i] == WP_TYPE_JOB));
    }
    columns[s->n_params] = make_column(in, s->result, s->n_rows);
    run_loop(s, &loop, columns);
    for (size_t i = 0; i <= s->n_params; i++) {
        free(columns[i].block);
    }
}

static void
check_calls(fuzz_input *in, subject *s)
{
    ffi_cif cif;
    ffi_type *types[MAX_PARAMS];
    const wp_fn fn = make_function(s, &cif, types);
    for (int forced = 0; forced < 2; forced++) {
        wp_call call;
        FUZZ_CHECK(wp_call_prepare(&call, s->signature, forced != 0) == WP_CALL_OK);
        FUZZ_CHECK(forced == 0 || strcmp(wp_call_route(&call), "libffi") == 0);
        check_rows(s, &call, fn);
        if (s->result != WP_TYPE_VOID) {
            check_loop(in, s, &call, fn);
        }
        wp_call_release(&call);
    }
}

#else

static subject current;

static void
check_calls(fuzz_input *in, subject *s)
{
    wp_call call;
    (void)in;
    const int status = wp_call_prepare(&call, s->signature, false);
    FUZZ_CHECK(status == WP_CALL_OK || status == WP_CALL_UNSUPPORTED);
    FUZZ_CHECK(wp_call_prepare(&call, s->signature, true) == WP_CALL_UNSUPPORTED);
}

#endif

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    subject *s = &current;
    make_signature(&in, s);
    make_values(&in, s);
    check_calls(&in, s);
    free(s->slots);
    free(s->results);
    wp_signature_free(s->signature);
    return 0;
}
