/*
 * Tests of csrc/native/wp_call*.c: every route passes every argument and result bit for bit.
 *
 * DESIGN. The functions that are called are generated (gen_call_cases.py), several hundred of them
 * with all kinds of signatures. Each reports the arguments it gets, by call_note(), and returns a
 * hash of them. For random and extreme arguments, the report and the result of each route have to
 * equal those of a plain call that the compiler made. The routes know the functions only by the
 * text of their signatures, so that the parser is tested along the way.
 */
#include "../native/wp_call.h"

#include <stdarg.h>

#include "../native/wp_loop.h"
#include "call_cases.h"
#include "check.h"

#if (defined(__x86_64__) || defined(__aarch64__)) && defined(__LP64__) && !defined(_WIN32)
#define HAS_DIRECT_ROUTE 1
#else
#define HAS_DIRECT_ROUTE 0
#endif

/* The direct route promises to serve all signatures up to this length, except where the platform
 * packs the stack. */
#if defined(__APPLE__) && defined(__aarch64__)
enum { DIRECT_PARAMS = 8 };
#else
enum { DIRECT_PARAMS = 16 };
#endif

enum { MAX_BATCH = 5, ROUNDS = 12 };

/* ------------------------------------------------------------------------------------------------
 * What the functions report.
 */

typedef struct report {
    size_t n;
    uint64_t slots[MAX_BATCH * (WP_SIGNATURE_MAX_PARAMS + 1)];
} report;

static report current;

uint64_t
call_note(uint64_t id, const uint64_t *slots, size_t n)
{
    uint64_t hash = id;
    current.slots[current.n++] = id;
    for (size_t i = 0; i < n; i++) {
        hash ^= slots[i];
        hash = check_rand(&hash);
        current.slots[current.n++] = slots[i];
    }
    return check_rand(&hash);
}

static bool
is_same_report(const report *a, const report *b)
{
    return a->n == b->n && memcmp(a->slots, b->slots, a->n * sizeof *a->slots) == 0;
}

/* ------------------------------------------------------------------------------------------------
 * Arguments.
 */

static uint64_t
pick(const uint64_t *values, size_t n, uint64_t *state)
{
    const uint64_t r = check_rand(state);
    return r % 2 == 0 ? check_rand(state) : values[(r >> 8) % n];
}

static uint64_t
random_double(uint64_t *state)
{
    static const uint64_t special[] = {
        0,                  /* 0.0 */
        0x8000000000000000, /* -0.0 */
        0x3ff0000000000000, /* 1.0 */
        0x7ff0000000000000, /* infinity */
        0xfff0000000000000,
        0x7ff8000000000000, /* a quiet NaN, and with a payload */
        0xfff8dead0000beef,
        0x7ff4000000000001, /* a signalling NaN */
        0x0000000000000001, /* the least denormal */
        0x7fefffffffffffff, /* the greatest number */
    };
    return pick(special, sizeof special / sizeof *special, state);
}

static uint64_t
random_float(uint64_t *state)
{
    static const uint64_t special[] = {
        0, 0x80000000, 0x3f800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffdeadbe, 0x7fa00001, 0x00000001, 0x7f7fffff,
    };
    return pick(special, sizeof special / sizeof *special, state) & UINT32_MAX;
}

static uint64_t
random_integer(const wp_type_traits *traits, uint64_t *state)
{
    const unsigned unused = (unsigned)(64 - 8 * traits->size);
    const uint64_t min = (uint64_t)1 << 63 >> unused;
    const uint64_t special[] = {0, 1, UINT64_MAX, min, min - 1, min + 1};
    const uint64_t bits = pick(special, sizeof special / sizeof *special, state) << unused;
    return traits->is_signed ? (uint64_t)((int64_t)bits >> unused) : bits >> unused;
}

/* Makes a signalling NaN a quiet one. With dozens of floating parameters a compiler may run out of
 * registers and carry a value through the x87 unit, which does the same; so in long signatures the
 * plain call would not be what to compare with. */
static uint64_t
quieted(uint64_t slot, wp_type type)
{
    const uint64_t infinity = type == WP_TYPE_F32 ? 0x7f800000 : 0x7ff0000000000000;
    const uint64_t quiet_bit = type == WP_TYPE_F32 ? 0x00400000 : 0x0008000000000000;
    const uint64_t sign_bit = type == WP_TYPE_F32 ? 0x80000000 : 0x8000000000000000;
    return (slot & ~sign_bit) > infinity ? slot | quiet_bit : slot;
}

static uint64_t
random_slot(wp_type type, uint64_t *state)
{
    if (type == WP_TYPE_BOOL) {
        return check_rand(state) & 1;
    }
    if (type == WP_TYPE_F32) {
        return random_float(state);
    }
    return type == WP_TYPE_F64 ? random_double(state) : random_integer(wp_type_describe(type), state);
}

/* ------------------------------------------------------------------------------------------------
 * Generated functions, by every route.
 */

/* A generated function, prepared for the routes. */
typedef struct subject {
    const call_case *with;
    wp_signature *signature;
    wp_call usual;
    wp_call forced; /* through libffi */
    bool has_usual;
    bool has_forced;
} subject;

static size_t n_direct;
static size_t n_forced;
static size_t n_unserved;

static bool
check_types(const subject *s)
{
    static const char letters[] = "v?bBhHiIlLfdpj";
    const char *types = s->with->types;
    bool is_right = CHECK_INT(s->signature->n_params, strlen(types) - 1);
    for (size_t i = 0; is_right && i <= s->signature->n_params; i++) {
        const wp_param *param = i == 0 ? &s->signature->result : &s->signature->params[i - 1];
        const char letter = param->is_const ? 'P' : letters[param->type];
        is_right = CHECK_INT(letter, types[i]);
    }
    return is_right;
}

static bool
parse_case(subject *s)
{
    wp_signature_error error;
    if (!CHECK_INT(wp_signature_parse(s->with->signature, &s->signature, &error), WP_SIG_OK)) {
        printf("# %s: %s\n", s->with->signature, error.message);
        return false;
    }
    return check_types(s);
}

static void
prepare_case(subject *s)
{
    s->has_usual = wp_call_prepare(&s->usual, s->signature, false) == WP_CALL_OK;
    s->has_forced = wp_call_prepare(&s->forced, s->signature, true) == WP_CALL_OK;
    const bool is_direct = strcmp(wp_call_route(&s->usual), "direct") == 0;
    if (HAS_DIRECT_ROUTE && s->signature->n_params <= DIRECT_PARAMS) {
        CHECK(is_direct);
    }
    CHECK_STR(wp_call_route(&s->forced), s->has_forced ? "libffi" : "none");
    n_direct += is_direct;
    n_forced += s->has_forced;
    n_unserved += !s->has_usual;
}

static void
release_case(subject *s)
{
    wp_call_release(&s->usual);
    wp_call_release(&s->forced);
    wp_signature_free(s->signature);
}

static void
call_plainly(const subject *s, const uint64_t *args, uint64_t *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s->with->plain(args + i * s->signature->n_params, &results[i]);
    }
}

/* Calls by one route and compares with what the plain calls did. */
static bool
check_route(const subject *s, const wp_call *call, const uint64_t *args, const report *plain,
            const uint64_t *plain_results, size_t n)
{
    uint64_t results[MAX_BATCH + 1];
    memset(results, 0xa5, sizeof results);
    current.n = 0;
    wp_call_invoke(call, s->with->fn, args, results, n);
    return CHECK(is_same_report(&current, plain)) && CHECK(memcmp(results, plain_results, n * sizeof *results) == 0) &&
           CHECK(results[n] == 0xa5a5a5a5a5a5a5a5);
}

static void
fill(const subject *s, uint64_t *args, size_t n, uint64_t *state)
{
    const size_t n_params = s->signature->n_params;
    for (size_t i = 0; i < n * n_params; i++) {
        const wp_type type = s->signature->params[i % n_params].type;
        const uint64_t slot = random_slot(type, state);
        const bool is_floating = wp_type_describe(type)->is_floating;
        args[i] = is_floating && n_params > DIRECT_PARAMS ? quieted(slot, type) : slot;
    }
}

static bool
check_batch(const subject *s, size_t n, uint64_t *state)
{
    static uint64_t args[MAX_BATCH * WP_SIGNATURE_MAX_PARAMS];
    uint64_t results[MAX_BATCH];
    const size_t n_params = s->signature->n_params;
    fill(s, args, n, state);
    current.n = 0;
    call_plainly(s, args, results, n);
    const report plain = current;
    for (size_t i = 0; i < n * n_params; i++) {
        CHECK_INT(plain.slots[i / n_params + 1 + i], args[i]);
    }
    const uint64_t *row = n_params > 0 ? args : NULL;
    return (!s->has_usual || check_route(s, &s->usual, row, &plain, results, n)) &&
           (!s->has_forced || check_route(s, &s->forced, row, &plain, results, n));
}

static void
check_case(const call_case *with, uint64_t *state)
{
    subject s = {.with = with};
    if (!parse_case(&s)) {
        wp_signature_free(s.signature);
        return;
    }
    prepare_case(&s);
    bool is_fine = true;
    for (int round = 0; is_fine && round < ROUNDS; round++) {
        is_fine = check_batch(&s, (size_t)round % (MAX_BATCH + 1), state);
    }
    if (!is_fine) {
        printf("# %s by %s\n", with->signature, wp_call_route(&s.usual));
    }
    release_case(&s);
}

static void
test_generated_functions(void)
{
    uint64_t state = check_seed(20260102);
    for (size_t i = 0; i < n_call_cases; i++) {
        check_case(&call_cases[i], &state);
    }
    printf("# %zu functions: %zu direct, %zu through libffi, %zu not served\n", n_call_cases, n_direct, n_forced,
           n_unserved);
}

/* ------------------------------------------------------------------------------------------------
 * Results with dirt in the upper bits.
 */

/* Stands in for functions that leave anything in the part of a register that is not theirs.
 * Declaring it with a narrower result than it has makes that certain. */
static uint64_t
return_all_bits(uint64_t bits)
{
    return bits;
}

static double
return_all_double(double bits)
{
    return bits;
}

typedef struct dirty_row {
    const char *signature;
    uint64_t bits;
    uint64_t expected;
} dirty_row;

static const dirty_row dirty[] = {
    {"signed char (uint64_t)", 0x123456789abcde7f, 0x7f},
    {"signed char (uint64_t)", 0x123456789abcde80, 0xffffffffffffff80},
    {"unsigned char (uint64_t)", 0x123456789abcdeff, 0xff},
    {"short (uint64_t)", 0x123456789abc7fff, 0x7fff},
    {"short (uint64_t)", 0x123456789abc8000, 0xffffffffffff8000},
    {"unsigned short (uint64_t)", 0x123456789abcffff, 0xffff},
    {"int (uint64_t)", 0x123456787fffffff, 0x7fffffff},
    {"int (uint64_t)", 0x1234567880000000, 0xffffffff80000000},
    {"unsigned (uint64_t)", 0x12345678ffffffff, 0xffffffff},
    {"int64_t (uint64_t)", 0x8000000000000000, 0x8000000000000000},
    {"uint64_t (uint64_t)", 0xffffffffffffffff, 0xffffffffffffffff},
    {"void *(uint64_t)", 0xffffffff12345678, 0xffffffff12345678},
    {"bool (uint64_t)", 0x123456789abcde00, 0},
    {"bool (uint64_t)", 0x123456789abcde01, 1},
    {"bool (uint64_t)", 0x123456789abcde02, 1},
    {"void (uint64_t)", 0x123456789abcdeff, 0},
    {"float (double)", 0x7ff0dead7fa00001, 0x7fa00001},
};

/* Both routes give the clean result; on a machine without either there is nothing to check. */
static void
check_dirty(const dirty_row *row, bool force_libffi)
{
    const bool is_floating = strchr(row->signature, 'd') != NULL && strstr(row->signature, "(double)") != NULL;
    const wp_fn fn = is_floating ? (wp_fn)return_all_double : (wp_fn)return_all_bits;
    wp_signature *signature;
    wp_call call;
    uint64_t results[3] = {0};
    const uint64_t args[3] = {row->bits, row->bits, row->bits};
    CHECK_INT(wp_signature_parse(row->signature, &signature, NULL), WP_SIG_OK);
    if (wp_call_prepare(&call, signature, force_libffi) == WP_CALL_OK) {
        wp_call_invoke(&call, fn, args, results, 3);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(results[i], row->expected);
        }
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

static void
test_dirty_results(void)
{
    for (size_t i = 0; i < sizeof dirty / sizeof *dirty; i++) {
        check_dirty(&dirty[i], false);
        check_dirty(&dirty[i], true);
    }
}

/* ------------------------------------------------------------------------------------------------
 * Variadic functions, by a signature with the ellipsis and by one that does not mention it.
 */

/* Takes arguments by the letters of `kinds`. Their sum is exact, and weighs each by its place. */
static double
weighed_sum(const char *kinds, ...)
{
    double sum = 0;
    va_list arguments;
    va_start(arguments, kinds);
    for (int i = 1; *kinds != '\0'; i++, kinds++) {
        sum += i * (*kinds == 'd'   ? va_arg(arguments, double)
                    : *kinds == 'i' ? (double)va_arg(arguments, int)
                                    : (double)va_arg(arguments, int64_t));
    }
    va_end(arguments);
    return sum;
}

static double
sum_of_doubles(int32_t n, ...)
{
    double sum = 0;
    va_list arguments;
    va_start(arguments, n);
    for (int32_t i = 0; i < n; i++) {
        sum += va_arg(arguments, double);
    }
    va_end(arguments);
    return sum;
}

typedef struct variadic_row {
    const char *signature; /* with a '~' where the ellipsis may stand */
    const char *kinds;
} variadic_row;

static const variadic_row variadic[] = {
    {"double (const char *~)", ""},
    {"double (const char *, ~double)", "d"},
    {"double (const char *, ~int64_t)", "q"},
    {"double (const char *, ~int, double)", "id"},
    {"double (const char *, ~double, int, double, int64_t)", "didq"},
    {"double (const char *, ~double, double, double, double, double, double, double, double)", "dddddddd"},
    {"double (const char *, ~double, double, double, double, double, double, double, double, double, double)",
     "dddddddddd"},
    {"double (const char *, ~int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int, double)", "qqqqqqqid"},
};

static void
check_variadic(const variadic_row *row, const char *text, bool force_libffi)
{
    wp_signature *signature;
    wp_call call;
    uint64_t args[WP_SIGNATURE_MAX_PARAMS] = {(uintptr_t)row->kinds};
    double expected = 0;
    double result;
    CHECK_INT(wp_signature_parse(text, &signature, NULL), WP_SIG_OK);
    for (size_t i = 1; i <= strlen(row->kinds); i++) {
        const double value = (double)i + (row->kinds[i - 1] == 'd' ? 0.25 : 0);
        args[i] = (uint64_t)i;
        if (row->kinds[i - 1] == 'd') {
            memcpy(&args[i], &value, sizeof value);
        }
        expected += (double)i * value;
    }
    if (wp_call_prepare(&call, signature, force_libffi) == WP_CALL_OK) {
        uint64_t slot;
        wp_call_invoke(&call, (wp_fn)weighed_sum, args, &slot, 1);
        memcpy(&result, &slot, sizeof result);
        CHECK(result == expected);
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

/* Whether a variadic function can be called as if it were none. */
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#define VARIADIC_IS_LIKE_ANY 1
#else
#define VARIADIC_IS_LIKE_ANY 0
#endif

static void
test_variadic_functions(void)
{
    for (size_t i = 0; i < sizeof variadic / sizeof *variadic; i++) {
        const char *mark = strchr(variadic[i].signature, '~');
        const int before = (int)(mark - variadic[i].signature);
        char with[256], without[256];
        (void)snprintf(with, sizeof with, "%.*s%s%s", before, variadic[i].signature, mark[1] == ')' ? ", ..." : "..., ",
                       mark + 1);
        (void)snprintf(without, sizeof without, "%.*s%s", before, variadic[i].signature, mark + 1);
        for (int forced = 0; forced < 2; forced++) {
            check_variadic(&variadic[i], with, forced);
            if (VARIADIC_IS_LIKE_ANY) {
                check_variadic(&variadic[i], without, forced);
            }
        }
    }
}

/* The loops by type over arrays must leave the number of floating registers in %al as well. */
static void
test_variadic_functions_in_typed_loops(void)
{
    wp_signature *signature;
    wp_call call;
    wp_loop loop;
    wp_loop_error error;
    int32_t n[4] = {0, 1, 1, 0};
    double values[4] = {1.5, 2.5, 3.5, 4.5};
    double results[4];
    char *pointers[] = {(char *)n, (char *)values, (char *)results};
    const ptrdiff_t strides[] = {sizeof *n, sizeof *values, sizeof *results};
    CHECK_INT(wp_signature_parse("double (int, ..., double)", &signature, NULL), WP_SIG_OK);
    if (wp_call_prepare(&call, signature, false) == WP_CALL_OK) {
        wp_loop_prepare(&loop, signature, &call, (wp_fn)sum_of_doubles, WP_LOOP_UNCHECKED);
        CHECK_INT(wp_loop_run(&loop, pointers, strides, 4, &error), 4);
        CHECK(results[0] == 0 && results[1] == 2.5 && results[2] == 3.5 && results[3] == 0);
    }
    wp_call_release(&call);
    wp_signature_free(signature);
}

/* ------------------------------------------------------------------------------------------------
 * Life of a call.
 */

static int
prepare(wp_call *call, const char *text, bool force_libffi)
{
    wp_signature *signature;
    CHECK_INT(wp_signature_parse(text, &signature, NULL), WP_SIG_OK);
    const int status = wp_call_prepare(call, signature, force_libffi);
    wp_signature_free(signature);
    return status;
}

static void
test_routes(void)
{
    wp_call call;
    const int status = prepare(&call, "int (int)", true);
#if defined(WP_HAVE_LIBFFI)
    CHECK_INT(status, WP_CALL_OK);
    CHECK_STR(wp_call_route(&call), "libffi");
#else
    CHECK_INT(status, WP_CALL_UNSUPPORTED);
    CHECK_STR(wp_call_route(&call), "none");
#endif
    wp_call_release(&call);
    wp_call_release(&call);
    CHECK_STR(wp_call_route(&call), "none");
#if HAS_DIRECT_ROUTE
    CHECK_INT(prepare(&call, "double (double)", false), WP_CALL_OK);
    CHECK_STR(wp_call_route(&call), "direct");
    wp_call_release(&call);
#endif
}

/* Too many for the stack slots of the direct route. */
static void
test_many_params(void)
{
    static const char text[] = "int (int, int, int, int, int, int, int, int, int, int, int, int, "
                               "int, int, int, int, int, int, int, int, int, int, int, int, int)";
    wp_call call;
    const int status = prepare(&call, text, false);
#if defined(WP_HAVE_LIBFFI)
    CHECK_INT(status, WP_CALL_OK);
    CHECK_STR(wp_call_route(&call), "libffi");
#else
    CHECK_INT(status, WP_CALL_UNSUPPORTED);
    CHECK_STR(wp_call_route(&call), "none");
#endif
    wp_call_release(&call);
}

static void
count_calls(int *count)
{
    ++*count;
}

/* A prepared call outlives its signature, can be copied, and n says how often. */
static void
test_number_of_calls(void)
{
    int count = 0;
    uint64_t args[100];
    uint64_t results[100];
    wp_call call;
    if (prepare(&call, "void (int *)", false) != WP_CALL_OK) {
        return;
    }
    for (int i = 0; i < 100; i++) {
        args[i] = (uintptr_t)&count;
        results[i] = 1;
    }
    wp_call_invoke(&call, (wp_fn)count_calls, args, results, 0);
    CHECK_INT(count, 0);
    CHECK_INT(results[0], 1);
    wp_call_invoke(&call, (wp_fn)count_calls, args, results, 99);
    CHECK_INT(count, 99);
    CHECK_INT(results[98], 0);
    CHECK_INT(results[99], 1);
    wp_call_release(&call);
}

int
main(void)
{
    check_time_limit(60);
    RUN(test_routes);
    RUN(test_many_params);
    RUN(test_number_of_calls);
    RUN(test_dirty_results);
    RUN(test_variadic_functions);
    RUN(test_variadic_functions_in_typed_loops);
    RUN(test_generated_functions);
    return check_done();
}
