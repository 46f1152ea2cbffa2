/*
 * See wp_loop.h.
 */
#include "wp_loop.h"

#include <errno.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------
 * Loops by type. `s` are the strides, `p` the pointers; A, B, C and D stand for the types of the
 * parameters, R for that of the result.
 */

#define VALUE(type, pointer) (*(const type *)(const void *)(pointer))
#define RESULT(type, pointer) (*(type *)(void *)(pointer))

static inline void *
pointer_at(const char *place)
{
    void *pointer;
    memcpy(&pointer, place, sizeof pointer);
    return pointer;
}

/* The parameters of the type that a function is called by, of which the first is given twice. On x86-64 that is a variadic
 * one, as on the direct route and for the same reason: see wp_call_direct.c. A float would be passed as a double then, so
 * those functions are called by their own type; C has no variadic arguments that are floats. */
#if defined(__x86_64__)
#define BY(first, ...) (first, ...)
#else
#define BY(first, ...) (__VA_ARGS__)
#endif
#define AS_IT_IS(first, ...) (__VA_ARGS__)

#define BODY(name)                                                                                                     \
    static size_t name(const wp_loop *loop, char *const *p, const ptrdiff_t *s, size_t n, wp_loop_error *error)

/* Where the operands lie side by side the compiler is told so: then it needs one counter, and keeps
 * it and the addresses in registers across the calls. */
#define LOOP_1(name, as, R, A)                                                                                         \
    BODY(name)                                                                                                         \
    {                                                                                                                  \
        R(*const fn) as(A, A) = (R(*) as(A, A))loop->fn;                                                               \
        const char *a = p[0];                                                                                          \
        char *r = p[1];                                                                                                \
        (void)error;                                                                                                   \
        if (s[0] == sizeof(A) && s[1] == sizeof(R)) {                                                                  \
            for (size_t i = 0; i < n; i++) {                                                                           \
                RESULT(R, r + i * sizeof(R)) = fn(VALUE(A, a + i * sizeof(A)));                                        \
            }                                                                                                          \
            return n;                                                                                                  \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++, a += s[0], r += s[1]) {                                                         \
            RESULT(R, r) = fn(VALUE(A, a));                                                                            \
        }                                                                                                              \
        return n;                                                                                                      \
    }

#define LOOP_2(name, as, R, A, B)                                                                                      \
    BODY(name)                                                                                                         \
    {                                                                                                                  \
        R(*const fn) as(A, A, B) = (R(*) as(A, A, B))loop->fn;                                                         \
        const char *a = p[0];                                                                                          \
        const char *b = p[1];                                                                                          \
        char *r = p[2];                                                                                                \
        (void)error;                                                                                                   \
        if (s[0] == sizeof(A) && s[1] == sizeof(B) && s[2] == sizeof(R)) {                                             \
            for (size_t i = 0; i < n; i++) {                                                                           \
                RESULT(R, r + i * sizeof(R)) = fn(VALUE(A, a + i * sizeof(A)), VALUE(B, b + i * sizeof(B)));           \
            }                                                                                                          \
            return n;                                                                                                  \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++, a += s[0], b += s[1], r += s[2]) {                                              \
            RESULT(R, r) = fn(VALUE(A, a), VALUE(B, b));                                                               \
        }                                                                                                              \
        return n;                                                                                                      \
    }

#define LOOP_3(name, as, R, A, B, C)                                                                                   \
    BODY(name)                                                                                                         \
    {                                                                                                                  \
        R(*const fn) as(A, A, B, C) = (R(*) as(A, A, B, C))loop->fn;                                                   \
        const char *a = p[0];                                                                                          \
        const char *b = p[1];                                                                                          \
        const char *c = p[2];                                                                                          \
        char *r = p[3];                                                                                                \
        (void)error;                                                                                                   \
        for (size_t i = 0; i < n; i++, a += s[0], b += s[1], c += s[2], r += s[3]) {                                   \
            RESULT(R, r) = fn(VALUE(A, a), VALUE(B, b), VALUE(C, c));                                                  \
        }                                                                                                              \
        return n;                                                                                                      \
    }

/* The last parameter is a pointer, which is the same for all elements. */
#define LOOP_1_USER(name, R, A)                                                                                        \
    BODY(name)                                                                                                         \
    {                                                                                                                  \
        R(*const fn) BY(A, A, void *) = (R(*) BY(A, A, void *))loop->fn;                                               \
        void *const user = pointer_at(p[1]);                                                                           \
        const char *a = p[0];                                                                                          \
        char *r = p[2];                                                                                                \
        (void)error;                                                                                                   \
        for (size_t i = 0; i < n; i++, a += s[0], r += s[2]) {                                                         \
            RESULT(R, r) = fn(VALUE(A, a), user);                                                                      \
        }                                                                                                              \
        return n;                                                                                                      \
    }

#define LOOP_2_USER(name, R, A, B)                                                                                     \
    BODY(name)                                                                                                         \
    {                                                                                                                  \
        R(*const fn) BY(A, A, B, void *) = (R(*) BY(A, A, B, void *))loop->fn;                                         \
        void *const user = pointer_at(p[2]);                                                                           \
        const char *a = p[0];                                                                                          \
        const char *b = p[1];                                                                                          \
        char *r = p[3];                                                                                                \
        (void)error;                                                                                                   \
        for (size_t i = 0; i < n; i++, a += s[0], b += s[1], r += s[3]) {                                              \
            RESULT(R, r) = fn(VALUE(A, a), VALUE(B, b), user);                                                         \
        }                                                                                                              \
        return n;                                                                                                      \
    }

LOOP_1(f64_of_f64, BY, double, double)
LOOP_1(f32_of_f32, AS_IT_IS, float, float)
LOOP_1(i64_of_i64, BY, int64_t, int64_t)
LOOP_1(u64_of_u64, BY, uint64_t, uint64_t)
LOOP_1(i32_of_i32, BY, int32_t, int32_t)
LOOP_1(u32_of_u32, BY, uint32_t, uint32_t)
LOOP_1(i32_of_f64, BY, int32_t, double)
LOOP_2(f64_of_2_f64, BY, double, double, double)
LOOP_2(f32_of_2_f32, AS_IT_IS, float, float, float)
LOOP_2(i64_of_2_i64, BY, int64_t, int64_t, int64_t)
LOOP_2(u64_of_2_u64, BY, uint64_t, uint64_t, uint64_t)
LOOP_2(i32_of_2_i32, BY, int32_t, int32_t, int32_t)
LOOP_2(f64_of_f64_i32, BY, double, double, int32_t)
LOOP_2(f64_of_i32_f64, BY, double, int32_t, double)
LOOP_3(f64_of_3_f64, BY, double, double, double, double)
LOOP_3(f32_of_3_f32, AS_IT_IS, float, float, float, float)
LOOP_1_USER(f64_of_f64_user, double, double)
LOOP_1_USER(i64_of_i64_user, int64_t, int64_t)
LOOP_2_USER(f64_of_2_f64_user, double, double, double)

typedef struct typed_loop {
    const char *types; /* of the operands, a letter each; see letters */
    wp_loop_body *body;
} typed_loop;

static const char letters[WP_N_TYPES] = {
    [WP_TYPE_VOID] = 'v', [WP_TYPE_BOOL] = '?', [WP_TYPE_I8] = 'b',  [WP_TYPE_U8] = 'B',  [WP_TYPE_I16] = 'h',
    [WP_TYPE_U16] = 'H',  [WP_TYPE_I32] = 'i',  [WP_TYPE_U32] = 'I', [WP_TYPE_I64] = 'q', [WP_TYPE_U64] = 'Q',
    [WP_TYPE_F32] = 'f',  [WP_TYPE_F64] = 'd',  [WP_TYPE_PTR] = 'P', [WP_TYPE_JOB] = 'P',
};

static const typed_loop typed_loops[] = {
    {"dd", f64_of_f64},       {"ff", f32_of_f32},       {"qq", i64_of_i64},          {"QQ", u64_of_u64},
    {"ii", i32_of_i32},       {"II", u32_of_u32},       {"di", i32_of_f64},          {"ddd", f64_of_2_f64},
    {"fff", f32_of_2_f32},    {"qqq", i64_of_2_i64},    {"QQQ", u64_of_2_u64},       {"iii", i32_of_2_i32},
    {"did", f64_of_f64_i32},  {"idd", f64_of_i32_f64},  {"dddd", f64_of_3_f64},      {"ffff", f32_of_3_f32},
    {"dPd", f64_of_f64_user}, {"qPq", i64_of_i64_user}, {"ddPd", f64_of_2_f64_user},
};

static bool
has_types(const wp_loop *loop, const char *types)
{
    size_t i = 0;
    while (i < loop->n_operands && types[i] == letters[loop->types[i]]) {
        i++;
    }
    return i == loop->n_operands && types[i] == '\0';
}

/* ------------------------------------------------------------------------------------------------
 * Any other signature, through slots.
 */

/* Defines what brings a column of values into slots, `width` apart, and results out of slots. */
#define COLUMN(name, type, to_slot, of_slot)                                                                           \
    static void load_##name(const char *from, ptrdiff_t stride, uint64_t *slots, size_t width, size_t n)               \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++, from += stride, slots += width) {                                               \
            *slots = to_slot(VALUE(type, from));                                                                       \
        }                                                                                                              \
    }                                                                                                                  \
    static void store_##name(char *to, ptrdiff_t stride, const uint64_t *slots, size_t n)                              \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++, to += stride) {                                                                 \
            RESULT(type, to) = of_slot(slots[i]);                                                                      \
        }                                                                                                              \
    }

/* Conversion to int64_t extends the sign, and to uint64_t it then keeps the bits. */
#define SIGNED_SLOT(value) ((uint64_t)(int64_t)(value))
#define UNSIGNED_SLOT(value) ((uint64_t)(value))
#define BOOL_SLOT(value) ((uint64_t)((value) != 0))

static inline uint64_t
slot_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double
double_of_slot(uint64_t slot)
{
    double value;
    memcpy(&value, &slot, sizeof value);
    return value;
}

static inline uint64_t
slot_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float
float_of_slot(uint64_t slot)
{
    const uint32_t bits = (uint32_t)slot;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

COLUMN(bool, uint8_t, BOOL_SLOT, (uint8_t))
COLUMN(i8, int8_t, SIGNED_SLOT, (int8_t))
COLUMN(u8, uint8_t, UNSIGNED_SLOT, (uint8_t))
COLUMN(i16, int16_t, SIGNED_SLOT, (int16_t))
COLUMN(u16, uint16_t, UNSIGNED_SLOT, (uint16_t))
COLUMN(i32, int32_t, SIGNED_SLOT, (int32_t))
COLUMN(u32, uint32_t, UNSIGNED_SLOT, (uint32_t))
COLUMN(i64, int64_t, SIGNED_SLOT, (int64_t))
COLUMN(u64, uint64_t, UNSIGNED_SLOT, (uint64_t))
COLUMN(f32, float, slot_of_float, float_of_slot)
COLUMN(f64, double, slot_of_double, double_of_slot)
COLUMN(ptr, uintptr_t, UNSIGNED_SLOT, (uintptr_t))

typedef struct column {
    void (*load)(const char *from, ptrdiff_t stride, uint64_t *slots, size_t width, size_t n);
    void (*store)(char *to, ptrdiff_t stride, const uint64_t *slots, size_t n);
} column;

static const column columns[WP_N_TYPES] = {
    [WP_TYPE_BOOL] = {load_bool, store_bool}, [WP_TYPE_I8] = {load_i8, store_i8},
    [WP_TYPE_U8] = {load_u8, store_u8},       [WP_TYPE_I16] = {load_i16, store_i16},
    [WP_TYPE_U16] = {load_u16, store_u16},    [WP_TYPE_I32] = {load_i32, store_i32},
    [WP_TYPE_U32] = {load_u32, store_u32},    [WP_TYPE_I64] = {load_i64, store_i64},
    [WP_TYPE_U64] = {load_u64, store_u64},    [WP_TYPE_F32] = {load_f32, store_f32},
    [WP_TYPE_F64] = {load_f64, store_f64},    [WP_TYPE_PTR] = {load_ptr, store_ptr},
    [WP_TYPE_JOB] = {load_ptr, store_ptr},
};

uint64_t
wp_loop_load(wp_type type, const void *from)
{
    uint64_t slot;
    columns[type].load(from, 0, &slot, 1, 1);
    return slot;
}

void
wp_loop_store(wp_type type, void *to, uint64_t slot)
{
    columns[type].store(to, 0, &slot, 1);
}

/* Slots for so many arguments are filled at once: enough to make the loops around the calls cheap,
 * few enough to stay in the nearest cache. */
enum { MANY_SLOTS = 512, MANY_ROWS = 64 };

_Static_assert(MANY_SLOTS >= (int)WP_SIGNATURE_MAX_PARAMS, "the slots of one call must fit");

static bool
is_error(const wp_loop *loop, uint64_t result)
{
    return loop->check == WP_LOOP_NEGATIVE ? (int64_t)result < 0 : result != 0;
}

/* Calls the function for rows of slots, one by one if results can be errors; returns how many calls
 * ended well. */
static size_t
call_rows(const wp_loop *loop, const uint64_t *slots, uint64_t *results, size_t n, wp_loop_error *error)
{
    const size_t width = loop->n_operands - 1;
    if (loop->check == WP_LOOP_UNCHECKED) {
        wp_call_invoke(loop->call, loop->fn, slots, results, n);
        return n;
    }
    for (size_t i = 0; i < n; i++) {
        errno = 0;
        wp_call_invoke(loop->call, loop->fn, slots + i * width, results + i, 1);
        if (is_error(loop, results[i])) {
            *error = (wp_loop_error){.result = results[i], .error_number = errno};
            return i;
        }
    }
    return n;
}

static size_t
any_signature(const wp_loop *loop, char *const *p, const ptrdiff_t *s, size_t n, wp_loop_error *error)
{
    uint64_t slots[MANY_SLOTS];
    uint64_t results[MANY_ROWS];
    const size_t width = loop->n_operands - 1;
    const size_t by_slots = width > 0 ? MANY_SLOTS / width : MANY_ROWS;
    const size_t rows = by_slots < MANY_ROWS ? by_slots : MANY_ROWS;
    for (size_t done = 0; done < n;) {
        const size_t count = n - done < rows ? n - done : rows;
        for (size_t k = 0; k < width; k++) {
            columns[loop->types[k]].load(p[k] + (ptrdiff_t)done * s[k], s[k], slots + k, width, count);
        }
        const size_t good = call_rows(loop, slots, results, count, error);
        columns[loop->types[width]].store(p[width] + (ptrdiff_t)done * s[width], s[width], results, good);
        done += good;
        if (good < count) {
            return done;
        }
    }
    return n;
}

/* ------------------------------------------------------------------------------------------------
 * The choice. What was asked to go through libffi does not get a loop of its own.
 */

void
wp_loop_prepare(wp_loop *loop, const wp_signature *signature, const wp_call *call, wp_fn fn, wp_loop_check check)
{
    *loop = (wp_loop){.body = any_signature, .call = call, .fn = fn, .check = check};
    loop->n_operands = signature->n_params + 1;
    for (size_t i = 0; i < signature->n_params; i++) {
        loop->types[i] = (uint8_t)signature->params[i].type;
    }
    loop->types[signature->n_params] = (uint8_t)signature->result.type;
    const bool may_be_typed = check == WP_LOOP_UNCHECKED && call->ffi == NULL;
    for (size_t i = 0; may_be_typed && i < sizeof typed_loops / sizeof typed_loops[0]; i++) {
        if (has_types(loop, typed_loops[i].types)) {
            loop->body = typed_loops[i].body;
        }
    }
}

bool
wp_loop_is_typed(const wp_loop *loop)
{
    return loop->body != any_signature;
}
