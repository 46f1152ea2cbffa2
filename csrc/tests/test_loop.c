/*
 * Tests of csrc/native/wp_loop.c: whatever the signature and the strides, each element gets bit for
 * bit what a plain call with its arguments returns, and nothing else is written.
 *
 * DESIGN. The functions are those of gen_call_cases.py, which make a hash of their arguments, and one
 * for each signature that has a loop of its own. The operands lie in rows of random bytes with random
 * strides. What each element should become is found out by a plain call.
 */
#include "../native/wp_loop.h"

#include "call_cases.h"
#include "check.h"

#include <errno.h>

enum { MOST = 150, SPACING = 4, ROW = MOST * SPACING * 8 };

static uint64_t seed;

uint64_t
call_note(uint64_t id, const uint64_t *slots, size_t n)
{
    uint64_t hash = id;
    for (size_t i = 0; i < n; i++) {
        hash ^= slots[i];
        hash = check_rand(&hash);
    }
    return hash;
}

static size_t
pick(size_t most)
{
    return (size_t)(check_rand(&seed) % (most + 1));
}

/* ------------------------------------------------------------------------------------------------
 * Operands.
 */

typedef struct operands {
    size_t n_operands;
    wp_type types[WP_SIGNATURE_MAX_PARAMS + 1];
    char *pointers[WP_SIGNATURE_MAX_PARAMS + 1];
    ptrdiff_t strides[WP_SIGNATURE_MAX_PARAMS + 1];
    uint64_t memory[WP_SIGNATURE_MAX_PARAMS + 1][ROW / 8];
} operands;

static size_t
size_of(wp_type type)
{
    return wp_type_describe(type)->size;
}

/* A floating number of random bits is often not a number, and a call through libffi may make a quiet
 * one of one that signals. Bools are 0 or 1. */
static void
fill_row(uint64_t *memory, wp_type type)
{
    const size_t size = size_of(type);
    for (size_t i = 0; i < ROW / size; i++) {
        uint64_t slot = check_rand(&seed);
        if (type == WP_TYPE_BOOL) {
            slot &= 1;
        } else if (type == WP_TYPE_F64) {
            const double value = (double)(int64_t)slot / 1024;
            memcpy(&slot, &value, sizeof slot);
        } else if (type == WP_TYPE_F32) {
            const float value = (float)(int32_t)slot / 1024;
            slot = 0;
            memcpy(&slot, &value, sizeof value);
        }
        wp_loop_store(type, (char *)memory + i * size, slot);
    }
}

/* Side by side, as the loops like it best; or apart, backwards, and for inputs all the same. A
 * pointer is the same for all elements. */
static void
place(operands *o, size_t k, size_t n, bool side_by_side)
{
    const ptrdiff_t size = (ptrdiff_t)size_of(o->types[k]);
    const bool is_result = k + 1 == o->n_operands;
    const bool is_pointer = o->types[k] == WP_TYPE_PTR || o->types[k] == WP_TYPE_JOB;
    ptrdiff_t stride = side_by_side ? size : size * (1 + (ptrdiff_t)pick(SPACING - 1));
    if (!side_by_side && pick(3) == 0) {
        stride = -stride;
    }
    if (!is_result && (is_pointer || (!side_by_side && pick(4) == 0))) {
        stride = 0;
    }
    o->strides[k] = stride;
    o->pointers[k] = (char *)o->memory[k] - (stride < 0 && n > 0 ? stride * (ptrdiff_t)(n - 1) : 0);
}

static void
fill_operands(operands *o, const wp_signature *signature, size_t n, bool side_by_side)
{
    o->n_operands = signature->n_params + 1;
    for (size_t k = 0; k < o->n_operands; k++) {
        o->types[k] = k < signature->n_params ? signature->params[k].type : signature->result.type;
        fill_row(o->memory[k], o->types[k]);
        place(o, k, n, side_by_side);
    }
}

static char *
element(const operands *o, size_t k, size_t i)
{
    return o->pointers[k] + (ptrdiff_t)i * o->strides[k];
}

static void
load_arguments(const operands *o, size_t i, uint64_t *slots)
{
    for (size_t k = 0; k + 1 < o->n_operands; k++) {
        slots[k] = wp_loop_load(o->types[k], element(o, k, i));
    }
}

/* ------------------------------------------------------------------------------------------------
 * Any function.
 */

/* One that can be called plainly, from slots to a slot: a generated one, or by wp_call.h. */
typedef struct subject {
    const call_case *with; /* Or NULL. */
    wp_signature *signature;
    wp_call call;
    wp_fn fn;
} subject;

static uint64_t
call_plainly(const subject *s, const uint64_t *slots)
{
    uint64_t result = 0;
    if (s->with != NULL) {
        s->with->plain(slots, &result);
    } else {
        wp_call_invoke(&s->call, s->fn, slots, &result, 1);
    }
    return result;
}

static bool
check_row(const subject *s, const wp_loop *loop, size_t n, bool side_by_side)
{
    static operands o;
    static uint64_t expected[ROW / 8];
    wp_loop_error error = {.error_number = 0};
    fill_operands(&o, s->signature, n, side_by_side);
    const size_t last = o.n_operands - 1;
    memcpy(expected, o.memory[last], sizeof expected);
    for (size_t i = 0; i < n; i++) {
        uint64_t slots[WP_SIGNATURE_MAX_PARAMS];
        load_arguments(&o, i, slots);
        char *at = (char *)expected + (element(&o, last, i) - (char *)o.memory[last]);
        wp_loop_store(o.types[last], at, call_plainly(s, slots));
    }
    return CHECK_INT(wp_loop_run(loop, o.pointers, o.strides, n, &error), n) &&
           CHECK(memcmp(expected, o.memory[last], sizeof expected) == 0);
}

static bool
check_rows(const subject *s, const wp_loop *loop)
{
    static const size_t lengths[] = {0, 1, 2, 63, 64, 65, MOST};
    bool is_fine = true;
    for (size_t i = 0; is_fine && i < sizeof lengths / sizeof lengths[0]; i++) {
        is_fine = check_row(s, loop, lengths[i], true) && check_row(s, loop, lengths[i], false);
    }
    return is_fine;
}

static size_t n_typed;
static size_t n_loops;

static void
check_subject(subject *s, const char *text, bool force_libffi)
{
    wp_loop loop;
    CHECK_INT(wp_signature_parse(text, &s->signature, NULL), WP_SIG_OK);
    const bool is_served = wp_call_prepare(&s->call, s->signature, force_libffi) == WP_CALL_OK;
    if (is_served && s->signature->result.type != WP_TYPE_VOID) {
        wp_loop_prepare(&loop, s->signature, &s->call, s->fn, WP_LOOP_UNCHECKED);
        CHECK(!force_libffi || !wp_loop_is_typed(&loop));
        n_typed += wp_loop_is_typed(&loop);
        n_loops++;
        if (!check_rows(s, &loop)) {
            printf("# %s by %s\n", text, wp_call_route(&s->call));
        }
    }
    wp_call_release(&s->call);
    wp_signature_free(s->signature);
}

static void
test_generated_functions(void)
{
    n_loops = 0;
    for (size_t i = 0; i < n_call_cases; i++) {
        subject s = {.with = &call_cases[i], .fn = call_cases[i].fn};
        check_subject(&s, call_cases[i].signature, pick(9) == 0);
    }
    printf("# %zu functions\n", n_loops);
    CHECK(n_loops > n_call_cases / 2 || !CHECK(n_call_cases > 100));
}

/* ------------------------------------------------------------------------------------------------
 * Signatures with a loop of their own.
 */

/* Each argument counts differently, so that none can be taken for another. Of floats a part is kept
 * that is exact, so that any way to compute it gives the same bits. */
#define F1(name, R, A)                                                                                                 \
    static R name(A a)                                                                                                 \
    {                                                                                                                  \
        return (R)(a / 2);                                                                                             \
    }
#define F2(name, R, A, B)                                                                                              \
    static R name(A a, B b)                                                                                            \
    {                                                                                                                  \
        return (R)((R)(a / 2) - (R)(b / 4));                                                                           \
    }
#define F3(name, R, A, B, C)                                                                                           \
    static R name(A a, B b, C c)                                                                                       \
    {                                                                                                                  \
        return (R)((R)(a / 2) - (R)(b / 4) + (R)(c / 16));                                                             \
    }
#define F1_USER(name, R, A)                                                                                            \
    static R name(A a, void *user)                                                                                     \
    {                                                                                                                  \
        return (R)((R)(a / 2) + (R)((uintptr_t)user % 1000));                                                          \
    }
#define F2_USER(name, R, A, B)                                                                                         \
    static R name(A a, B b, void *user)                                                                                \
    {                                                                                                                  \
        return (R)((R)(a / 2) - (R)(b / 4) + (R)((uintptr_t)user % 1000));                                             \
    }

F1(dd, double, double)
F1(ff, float, float)
F1(qq, int64_t, int64_t)
F1(QQ, uint64_t, uint64_t)
F1(ii, int32_t, int32_t)
F1(II, uint32_t, uint32_t)
static int32_t
di(double a)
{
    return a < 0;
}
F2(ddd, double, double, double)
F2(fff, float, float, float)
F2(qqq, int64_t, int64_t, int64_t)
F2(QQQ, uint64_t, uint64_t, uint64_t)
F2(iii, int32_t, int32_t, int32_t)
F2(did, double, double, int32_t)
F2(idd, double, int32_t, double)
F3(dddd, double, double, double, double)
F3(ffff, float, float, float, float)
F1_USER(dPd, double, double)
F1_USER(qPq, int64_t, int64_t)
F2_USER(ddPd, double, double, double)

static const struct {
    const char *signature;
    wp_fn fn;
} with_own_loops[] = {
    {"double (double)", (wp_fn)dd},
    {"float (float)", (wp_fn)ff},
    {"int64_t (int64_t)", (wp_fn)qq},
    {"uint64_t (uint64_t)", (wp_fn)QQ},
    {"int (int)", (wp_fn)ii},
    {"unsigned (unsigned)", (wp_fn)II},
    {"int (double)", (wp_fn)di},
    {"double (double, double)", (wp_fn)ddd},
    {"float (float, float)", (wp_fn)fff},
    {"int64_t (int64_t, int64_t)", (wp_fn)qqq},
    {"uint64_t (uint64_t, uint64_t)", (wp_fn)QQQ},
    {"int (int, int)", (wp_fn)iii},
    {"double (double, int)", (wp_fn)did},
    {"double (int, double)", (wp_fn)idd},
    {"double (double, double, double)", (wp_fn)dddd},
    {"float (float, float, float)", (wp_fn)ffff},
    {"double (double, void *)", (wp_fn)dPd},
    {"int64_t (int64_t, const char *)", (wp_fn)qPq},
    {"double (double, double, void *)", (wp_fn)ddPd},
};

enum { N_WITH_OWN_LOOPS = sizeof with_own_loops / sizeof with_own_loops[0] };

static void
test_signatures_with_own_loops(void)
{
    n_typed = 0;
    bool is_direct = false;
    for (size_t i = 0; i < N_WITH_OWN_LOOPS; i++) {
        wp_signature *signature;
        wp_call call;
        CHECK_INT(wp_signature_parse(with_own_loops[i].signature, &signature, NULL), WP_SIG_OK);
        is_direct = wp_call_prepare(&call, signature, false) == WP_CALL_OK && call.ffi == NULL;
        wp_call_release(&call);
        wp_signature_free(signature);
        for (int forced = 0; forced < 2; forced++) {
            subject s = {.fn = with_own_loops[i].fn};
            check_subject(&s, with_own_loops[i].signature, forced != 0);
        }
    }
    CHECK_INT(n_typed, is_direct ? N_WITH_OWN_LOOPS : 0);
}

/* An input that is also the output. */
static void
test_in_place(void)
{
    static double values[MOST];
    wp_signature *signature;
    wp_call call;
    wp_loop loop;
    wp_loop_error error;
    CHECK_INT(wp_signature_parse("double (double)", &signature, NULL), WP_SIG_OK);
    CHECK_INT(wp_call_prepare(&call, signature, false), WP_CALL_OK);
    for (int check = WP_LOOP_UNCHECKED; check <= WP_LOOP_NEGATIVE; check += WP_LOOP_NEGATIVE) {
        for (size_t i = 0; i < MOST; i++) {
            values[i] = (double)i;
        }
        char *const pointers[] = {(char *)values, (char *)values};
        const ptrdiff_t strides[] = {sizeof(double), sizeof(double)};
        wp_loop_prepare(&loop, signature, &call, (wp_fn)dd, (wp_loop_check)check);
        CHECK_INT(wp_loop_run(&loop, pointers, strides, MOST, &error), MOST);
        for (size_t i = 0; i < MOST; i++) {
            CHECK(values[i] == (double)i / 2);
        }
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

/* ------------------------------------------------------------------------------------------------
 * Results that are errors.
 */

static signed char
narrow_error(int64_t value)
{
    errno = value < 0 ? (int)-value : 99;
    return (signed char)value;
}

static void
check_error(wp_loop_check check, int64_t bad, size_t at, bool ends_there)
{
    static int64_t in[MOST];
    static signed char out[MOST];
    wp_signature *signature;
    wp_call call;
    wp_loop loop;
    wp_loop_error error = {.error_number = -1};
    CHECK_INT(wp_signature_parse("signed char (int64_t)", &signature, NULL), WP_SIG_OK);
    CHECK_INT(wp_call_prepare(&call, signature, false), WP_CALL_OK);
    wp_loop_prepare(&loop, signature, &call, (wp_fn)narrow_error, check);
    CHECK(!wp_loop_is_typed(&loop));
    memset(in, 0, sizeof in);
    memset(out, 0x55, sizeof out);
    in[at] = bad;
    char *const pointers[] = {(char *)in, (char *)out};
    const ptrdiff_t strides[] = {sizeof in[0], sizeof out[0]};
    CHECK_INT(wp_loop_run(&loop, pointers, strides, MOST, &error), ends_there ? at : MOST);
    for (size_t i = 0; i < MOST; i++) {
        CHECK_INT(out[i], ends_there && i >= at ? 0x55 : i == at ? (signed char)bad : 0);
    }
    if (ends_there) {
        CHECK_INT((int64_t)error.result, (signed char)bad);
        CHECK_INT(error.error_number, bad < 0 ? -bad : 99);
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

static void
test_errors(void)
{
    for (size_t at = 0; at < MOST; at += at == 0 ? 63 : 1 + at / 2) {
        check_error(WP_LOOP_UNCHECKED, -5, at, false);
        check_error(WP_LOOP_NONZERO, -5, at, true);
        check_error(WP_LOOP_NONZERO, 7, at, true);
        check_error(WP_LOOP_NEGATIVE, 7, at, false);
        check_error(WP_LOOP_NEGATIVE, -5, at, true);
    }
}

/* ------------------------------------------------------------------------------------------------
 * Slots.
 */

static void
test_load_and_store(void)
{
    static const struct {
        wp_type type;
        uint64_t slot;
        uint64_t expected;
    } cases[] = {
        {WP_TYPE_I8, 0x80, UINT64_MAX - 0x7f},
        {WP_TYPE_U8, 0xff80, 0x80},
        {WP_TYPE_I16, 0x8000, UINT64_MAX - 0x7fff},
        {WP_TYPE_U16, 0x18000, 0x8000},
        {WP_TYPE_I32, 0x80000000, UINT64_MAX - 0x7fffffff},
        {WP_TYPE_U32, 0x180000000, 0x80000000},
        {WP_TYPE_I64, UINT64_MAX, UINT64_MAX},
        {WP_TYPE_U64, UINT64_MAX, UINT64_MAX},
        {WP_TYPE_F32, 0x3fc00000, 0x3fc00000},
        {WP_TYPE_F64, 0x3ff8000000000000, 0x3ff8000000000000},
        {WP_TYPE_BOOL, 1, 1},
        {WP_TYPE_PTR, 0x1234, 0x1234},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t memory[2] = {0xa5a5a5a5a5a5a5a5, 0xa5a5a5a5a5a5a5a5};
        const size_t size = size_of(cases[i].type);
        wp_loop_store(cases[i].type, memory, cases[i].slot);
        CHECK_INT(wp_loop_load(cases[i].type, memory), cases[i].expected);
        for (size_t k = size; k < sizeof memory; k++) {
            CHECK_INT(((unsigned char *)memory)[k], 0xa5);
        }
    }
    unsigned char odd = 0x40;
    CHECK_INT(wp_loop_load(WP_TYPE_BOOL, &odd), 1);
}

int
main(void)
{
    check_time_limit(60);
    seed = check_seed(20260103);
    RUN(test_generated_functions);
    RUN(test_signatures_with_own_loops);
    RUN(test_in_place);
    RUN(test_errors);
    RUN(test_load_and_store);
    return check_done();
}
