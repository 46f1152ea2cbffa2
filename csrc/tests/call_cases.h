/*
 * What the functions written by gen_call_cases.py have in common with test_call.c, which calls
 * them.
 *
 * A generated function turns its arguments back into slots, hands them to call_note() and returns a
 * value made of the hash it gets. A generated caller calls it the plain way, from slots to a slot.
 * All conversions between values and slots are here; they are written without the code under test.
 */
#ifndef CALL_CASES_H
#define CALL_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

/* Types that only pointers lead to. */
typedef struct wp_job wp_job;
typedef struct opaque opaque;
struct point;

typedef struct call_case {
    const char *signature; /* the text to be parsed */
    const char *types;     /* what that should give: letters for the result and the parameters */
    void (*fn)(void);
    void (*plain)(const uint64_t *args, uint64_t *result);
} call_case;

extern const call_case call_cases[];
extern const size_t n_call_cases;

/* Defined by the test: remembers that this function was called with these slots, and hashes
 * both. */
uint64_t call_note(uint64_t id, const uint64_t *slots, size_t n);

/* The conversions of an integer type: slot_X(value), value_X(slot). Values are cut from any
 * slot. */
#define CALL_SIGNED(letter, T)                                                                                         \
    static inline uint64_t slot_##letter(T value)                                                                      \
    {                                                                                                                  \
        return (uint64_t)(int64_t)value;                                                                               \
    }                                                                                                                  \
    static inline T value_##letter(uint64_t slot)                                                                      \
    {                                                                                                                  \
        return (T)slot;                                                                                                \
    }
#define CALL_UNSIGNED(letter, T)                                                                                       \
    static inline uint64_t slot_##letter(T value)                                                                      \
    {                                                                                                                  \
        return (uint64_t)value;                                                                                        \
    }                                                                                                                  \
    static inline T value_##letter(uint64_t slot)                                                                      \
    {                                                                                                                  \
        return (T)slot;                                                                                                \
    }
/* Those of a floating type, by way of the integer of the same size. */
#define CALL_FLOATING(letter, T, Bits)                                                                                 \
    static inline uint64_t slot_##letter(T value)                                                                      \
    {                                                                                                                  \
        Bits bits;                                                                                                     \
        memcpy(&bits, &value, sizeof bits);                                                                            \
        return bits;                                                                                                   \
    }                                                                                                                  \
    static inline T value_##letter(uint64_t slot)                                                                      \
    {                                                                                                                  \
        const Bits bits = (Bits)slot;                                                                                  \
        T value;                                                                                                       \
        memcpy(&value, &bits, sizeof value);                                                                           \
        return value;                                                                                                  \
    }

CALL_SIGNED(b, int8_t)
CALL_SIGNED(h, int16_t)
CALL_SIGNED(i, int32_t)
CALL_SIGNED(l, int64_t)
CALL_UNSIGNED(B, uint8_t)
CALL_UNSIGNED(H, uint16_t)
CALL_UNSIGNED(I, uint32_t)
CALL_UNSIGNED(L, uint64_t)
CALL_UNSIGNED(p, uintptr_t)
CALL_FLOATING(f, float, uint32_t)
CALL_FLOATING(d, double, uint64_t)

static inline uint64_t
slot_o(bool value)
{
    return value;
}

static inline bool
value_o(uint64_t slot)
{
    return (slot & 1) != 0;
}

#endif
