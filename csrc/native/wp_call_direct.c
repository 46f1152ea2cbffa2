/*
 * The direct route: calling a function through a cast, without libffi.
 *
 * PURPOSE. A job is often one call of a cheap function, and libffi takes 15 to 40 ns to make it.
 * The calls made here take 1.5 to 3, and 8 with 16 parameters.
 *
 * DESIGN. On x86-64 (System V) and on AArch64 the scalar parameters of a function go, in order, to
 * two independent sequences of registers: integers and pointers to one, float and double to the
 * other. Those for which no register is left go to stack slots of 8 bytes, in order and whatever
 * they are. So
 *
 *     int f(double a, const char *b, float c, long d)
 *
 * takes its arguments from the same places as `uint64_t f(uint64_t b, uint64_t d, double a, double
 * c)`: one function type serves all signatures with the same number of integers and floats. And
 * since it does no harm to fill registers and stack slots that the callee does not read, a few
 * types serve them all. Three families of them are here, in order of preference:
 *
 *   ints_N    only integers and pointers, at most 6; the arguments are in order, nothing is looked
 *             up.
 *   floats_N  only floats and doubles, at most 8; likewise.
 *   mixed_F_S everything else: all integer registers, F floating ones, S stack slots; which
 *             parameter goes where is looked up in the tables of the call. Looking up beats copying
 *             to an image of the registers first, since each copy would be stored and loaded again
 *             at once.
 *
 * Each has two forms, for a result in the integer register and one in the floating register. A
 * float needs neither form nor family of its own: it is the low half of the register in which a
 * double would be, so it is passed as the double that has these bits, and read as the low half of
 * one. No instruction on the way looks at the value, so that signalling NaNs arrive as they left.
 *
 * OUTSIDE ISO C. Calling a function through a type that is not its own is undefined in C. Here it
 * is defined by the platform: the ABI documents say where an argument is, and the compiler cannot
 * see the callee, whose address it gets as data. What this file relies on, and where:
 *
 *   - WP_LOOP casts the function and calls it. Narrow integers are extended in their slots to 64
 *     bits, which satisfies every convention about who extends them, and results are cut after the
 *     call.
 *   - On x86-64 the functions are called as variadic ones: then the compiler notes in %al how many
 *     floating registers are filled, as a variadic function must find it, and that is the only
 *     difference. Any function may be variadic in truth, whatever signature it was given. On
 *     AArch64 there is no difference, except on Apple's, where variadic arguments are on the stack:
 *     there a signature with `...` is not direct.
 *   - `void` functions are called as if they returned an integer; the mask of void makes it 0.
 *   - Macros name the platforms for which all this holds. Elsewhere, and that includes Windows,
 *     x32, big-endian AArch64 and every 32-bit machine, nothing is direct. On Apple's AArch64 stack
 *     slots are as small as their types, so there only what fits in registers is direct.
 *
 * Checkers of indirect calls (clang's -fsanitize=function and CFI) are told to let the loops be.
 *
 * GUARANTEES. Arguments arrive bit for bit. csrc/tests/test_call.c compares hundreds of generated
 * signatures with libffi and with plain calls.
 */
#include "wp_call_routes.h"

#if defined(__CYGWIN__) || defined(_WIN32) || !defined(__LP64__)
#define WP_DIRECT 0
#elif defined(__x86_64__)
#define WP_DIRECT 1
#define N_INT_REGISTERS 6
#define N_STACK_SLOTS 16
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WP_DIRECT 1
#define N_INT_REGISTERS 8
#if defined(__APPLE__)
#define N_STACK_SLOTS 0
#else
#define N_STACK_SLOTS 16
#endif
#else
#define WP_DIRECT 0
#endif

#if defined(__APPLE__) && defined(__aarch64__)
#define VARIADIC_IS_DIRECT false
#else
#define VARIADIC_IS_DIRECT true
#endif

#if !WP_DIRECT

int
wp_call_direct_prepare(wp_call *call, const wp_signature *signature)
{
    (void)call;
    (void)signature;
    return WP_CALL_UNSUPPORTED;
}

#else

#include <string.h>

#define N_FLOAT_REGISTERS 8

_Static_assert(N_INT_REGISTERS <= WP_CALL_MAX_INTS && N_FLOAT_REGISTERS <= WP_CALL_MAX_FLOATS &&
                   N_STACK_SLOTS <= WP_CALL_MAX_STACK,
               "the tables of a call are too short for this platform");

#if defined(__clang__)
#define WP_CALLS_BY_ANY_TYPE __attribute__((no_sanitize("function", "cfi-icall")))
#else
#define WP_CALLS_BY_ANY_TYPE
#endif

static inline double
as_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t
bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint64_t
bits_of_int(uint64_t value)
{
    return value;
}

/* ------------------------------------------------------------------------------------------------
 * The loops.
 */

/* Defines a loop. `types` is the parameter list of the function type that is called, `arguments`
 * takes them from the row of slots `a`, which has `width` of them; both in parentheses. A row of
 * no slots is not stepped over, because `a` may then be NULL. What is kept in variables need not
 * be loaded again after each call, which could have changed anything else. */
#define WP_LOOP(name, result_type, bits_of, width, types, arguments)                                                   \
    WP_CALLS_BY_ANY_TYPE                                                                                               \
    static void name(const wp_call *call, wp_fn fn, const uint64_t *a, uint64_t *results, size_t n)                    \
    {                                                                                                                  \
        result_type(*const target) types = (result_type(*) types)fn;                                                   \
        const uint64_t mask = call->result_mask;                                                                       \
        const uint64_t sign = call->result_sign;                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                               \
            results[i] = wp_call_cut(bits_of(target arguments), mask, sign);                                           \
            a = (width) > 0 ? a + (width) : a;                                                                         \
        }                                                                                                              \
    }

/* Both forms of a loop, and how a table lists them. */
#define WP_LOOPS(name, width, types, arguments)                                                                        \
    WP_LOOP(name##_to_int, uint64_t, bits_of_int, width, types, arguments)                                             \
    WP_LOOP(name##_to_float, double, bits_of_double, width, types, arguments)
#define BOTH(name)                                                                                                     \
    {                                                                                                                  \
        name##_to_int, name##_to_float                                                                                 \
    }

/* The parameters of a function type, of which the first is given twice; see above. */
#if defined(__x86_64__)
#define TYPES(first, ...) (first, ...)
#else
#define TYPES(first, ...) (__VA_ARGS__)
#endif

/* Lists of N parameter types, as they are needed. */
#define U1 uint64_t
#define U2 U1, U1
#define U3 U2, U1
#define U4 U2, U2
#define U5 U4, U1
#define U6 U4, U2
#define U8 U4, U4
#define U16 U8, U8
#define D1 double
#define D2 D1, D1
#define D3 D2, D1
#define D4 D2, D2
#define D5 D4, D1
#define D6 D4, D2
#define D7 D4, D3
#define D8 D4, D4

/* Lists of N arguments in the order of the row, as integers and as doubles. */
#define A1 a[0]
#define A2 A1, a[1]
#define A3 A2, a[2]
#define A4 A3, a[3]
#define A5 A4, a[4]
#define A6 A5, a[5]
#define F1 as_double(a[0])
#define F2 F1, as_double(a[1])
#define F3 F2, as_double(a[2])
#define F4 F3, as_double(a[3])
#define F5 F4, as_double(a[4])
#define F6 F5, as_double(a[5])
#define F7 F6, as_double(a[6])
#define F8 F7, as_double(a[7])

WP_LOOPS(ints_0, 0, (void), ())
WP_LOOPS(ints_1, 1, TYPES(U1, U1), (A1))
WP_LOOPS(ints_2, 2, TYPES(U1, U2), (A2))
WP_LOOPS(ints_3, 3, TYPES(U1, U3), (A3))
WP_LOOPS(ints_4, 4, TYPES(U1, U4), (A4))
WP_LOOPS(ints_5, 5, TYPES(U1, U5), (A5))
WP_LOOPS(ints_6, 6, TYPES(U1, U6), (A6))

WP_LOOPS(floats_1, 1, TYPES(D1, D1), (F1))
WP_LOOPS(floats_2, 2, TYPES(D1, D2), (F2))
WP_LOOPS(floats_3, 3, TYPES(D1, D3), (F3))
WP_LOOPS(floats_4, 4, TYPES(D1, D4), (F4))
WP_LOOPS(floats_5, 5, TYPES(D1, D5), (F5))
WP_LOOPS(floats_6, 6, TYPES(D1, D6), (F6))
WP_LOOPS(floats_7, 7, TYPES(D1, D7), (F7))
WP_LOOPS(floats_8, 8, TYPES(D1, D8), (F8))

/* The N arguments that the tables of the call name, for integer registers, floating registers
 * and the stack. The lists for the integer registers are as long as the platform has registers:
 * only when all of them are taken does an integer go to the stack. */
#define I(k) a[call->ints[k]]
#define I6 I(0), I(1), I(2), I(3), I(4), I(5)
#define I8 I6, I(6), I(7)
#define R(k) as_double(a[call->floats[k]])
#define R2 R(0), R(1)
#define R4 R2, R(2), R(3)
#define R8 R4, R(4), R(5), R(6), R(7)
#define S(k) a[call->stack[k]]
#define S4 S(0), S(1), S(2), S(3)
#define S8 S4, S(4), S(5), S(6), S(7)
#define S16 S8, S(8), S(9), S(10), S(11), S(12), S(13), S(14), S(15)

#if N_INT_REGISTERS == 6
#define UALL U6
#define IALL I6
#else
#define UALL U8
#define IALL I8
#endif

/* Signatures that need neither floating registers nor the stack are mixed only if the platform has
 * more integer registers than the longest of the ints_N fills. */
#define WIDTH call->n_params
WP_LOOPS(mixed_0_0, WIDTH, TYPES(U1, UALL), (IALL))
WP_LOOPS(mixed_2_0, WIDTH, TYPES(U1, UALL, D2), (IALL, R2))
WP_LOOPS(mixed_4_0, WIDTH, TYPES(U1, UALL, D4), (IALL, R4))
WP_LOOPS(mixed_8_0, WIDTH, TYPES(U1, UALL, D8), (IALL, R8))
#if N_STACK_SLOTS > 0
WP_LOOPS(mixed_0_4, WIDTH, TYPES(U1, UALL, U4), (IALL, S4))
WP_LOOPS(mixed_2_4, WIDTH, TYPES(U1, UALL, D2, U4), (IALL, R2, S4))
WP_LOOPS(mixed_4_4, WIDTH, TYPES(U1, UALL, D4, U4), (IALL, R4, S4))
WP_LOOPS(mixed_8_4, WIDTH, TYPES(U1, UALL, D8, U4), (IALL, R8, S4))
WP_LOOPS(mixed_0_8, WIDTH, TYPES(U1, UALL, U8), (IALL, S8))
WP_LOOPS(mixed_2_8, WIDTH, TYPES(U1, UALL, D2, U8), (IALL, R2, S8))
WP_LOOPS(mixed_4_8, WIDTH, TYPES(U1, UALL, D4, U8), (IALL, R4, S8))
WP_LOOPS(mixed_8_8, WIDTH, TYPES(U1, UALL, D8, U8), (IALL, R8, S8))
WP_LOOPS(mixed_0_16, WIDTH, TYPES(U1, UALL, U16), (IALL, S16))
WP_LOOPS(mixed_2_16, WIDTH, TYPES(U1, UALL, D2, U16), (IALL, R2, S16))
WP_LOOPS(mixed_4_16, WIDTH, TYPES(U1, UALL, D4, U16), (IALL, R4, S16))
WP_LOOPS(mixed_8_16, WIDTH, TYPES(U1, UALL, D8, U16), (IALL, R8, S16))
#endif

/* ------------------------------------------------------------------------------------------------
 * The choice of a loop. The last index is 0 for a result in the integer register, 1 for the other.
 */

enum { MAX_ONLY_INTS = 6, MAX_ONLY_FLOATS = 8 };

static wp_call_loop *const only_ints[MAX_ONLY_INTS + 1][2] = {
    BOTH(ints_0), BOTH(ints_1), BOTH(ints_2), BOTH(ints_3), BOTH(ints_4), BOTH(ints_5), BOTH(ints_6),
};

static wp_call_loop *const only_floats[MAX_ONLY_FLOATS][2] = {
    BOTH(floats_1), BOTH(floats_2), BOTH(floats_3), BOTH(floats_4),
    BOTH(floats_5), BOTH(floats_6), BOTH(floats_7), BOTH(floats_8),
};

/* The numbers of floating registers and of stack slots that the mixed loops fill. */
static const uint8_t float_steps[] = {0, 2, 4, 8};
#if N_STACK_SLOTS > 0
static const uint8_t stack_steps[] = {0, 4, 8, 16};
#else
static const uint8_t stack_steps[] = {0};
#endif

enum { N_FLOAT_STEPS = sizeof float_steps, N_STACK_STEPS = sizeof stack_steps };

static wp_call_loop *const mixed[N_STACK_STEPS][N_FLOAT_STEPS][2] = {
    {BOTH(mixed_0_0), BOTH(mixed_2_0), BOTH(mixed_4_0), BOTH(mixed_8_0)},
#if N_STACK_SLOTS > 0
    {BOTH(mixed_0_4), BOTH(mixed_2_4), BOTH(mixed_4_4), BOTH(mixed_8_4)},
    {BOTH(mixed_0_8), BOTH(mixed_2_8), BOTH(mixed_4_8), BOTH(mixed_8_8)},
    {BOTH(mixed_0_16), BOTH(mixed_2_16), BOTH(mixed_4_16), BOTH(mixed_8_16)},
#endif
};

/* How many registers and stack slots a signature takes. */
typedef struct wp_demand {
    size_t n_ints;
    size_t n_floats;
    size_t n_stack;
} wp_demand;

/* Takes the next place of a sequence for parameter `index`; false if the sequence is at its end. */
static bool
place(uint8_t *places, size_t *n_taken, size_t limit, size_t index)
{
    if (*n_taken == limit) {
        return false;
    }
    places[(*n_taken)++] = (uint8_t)index;
    return true;
}

/* Deals the parameters out as the ABI does; false if the stack slots do not suffice. */
static bool
place_all(wp_call *call, const wp_signature *signature, wp_demand *demand)
{
    *demand = (wp_demand){0};
    for (size_t i = 0; i < signature->n_params; i++) {
        const bool is_floating = wp_type_describe(signature->params[i].type)->is_floating;
        const bool in_register = is_floating ? place(call->floats, &demand->n_floats, N_FLOAT_REGISTERS, i)
                                             : place(call->ints, &demand->n_ints, N_INT_REGISTERS, i);
        if (!in_register && !place(call->stack, &demand->n_stack, N_STACK_SLOTS, i)) {
            return false;
        }
    }
    return true;
}

/* The first step that is enough. The last one always is: place_all() gave out no more. */
static size_t
step_for(const uint8_t *steps, size_t needed)
{
    size_t step = 0;
    while (steps[step] < needed) {
        step++;
    }
    return step;
}

static wp_call_loop *
choose(const wp_demand *demand, size_t n_params, bool to_float)
{
    if (demand->n_ints == n_params && n_params <= MAX_ONLY_INTS) {
        return only_ints[n_params][to_float];
    }
    if (demand->n_floats == n_params) {
        return only_floats[n_params - 1][to_float];
    }
    return mixed[step_for(stack_steps, demand->n_stack)][step_for(float_steps, demand->n_floats)][to_float];
}

int
wp_call_direct_prepare(wp_call *call, const wp_signature *signature)
{
    wp_call placed = *call;
    wp_demand demand;
    if ((signature->is_variadic && !VARIADIC_IS_DIRECT) || !place_all(&placed, signature, &demand)) {
        return WP_CALL_UNSUPPORTED;
    }
    placed.loop = choose(&demand, signature->n_params, wp_type_describe(signature->result.type)->is_floating);
    *call = placed;
    return WP_CALL_OK;
}

#endif
