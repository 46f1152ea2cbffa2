/*
 * Calling a C function by its signature.
 *
 * PURPOSE. Given the address of a function, the signature it has and its arguments as 64-bit slots,
 * calls it, as often as there are rows of arguments, and leaves each result in a slot.
 *
 * SLOTS. A slot is a uint64_t. An integer or bool is in it sign- or zero-extended from its own
 * width to 64 bits; a pointer (also to a job) is its address; a double is its bits; a float is its
 * bits in the low half, the upper half 0. The caller must fill slots this way: a narrow integer
 * with other upper bits is passed to the function as it is. Results come in the same form: what a
 * function leaves in the upper bits of a register is cut off, a bool is 0 or 1, and void is 0.
 *
 * DESIGN. There are two routes, chosen once by wp_call_prepare(). The direct route casts the
 * function to one of a few types and calls it from a loop made for that type; it serves scalars on
 * the ABIs that wp_call_direct.c names. The libffi route, if the build has it, serves the rest.
 *
 * GUARANTEES. A prepared call is immutable and may be used by any number of threads at once. It
 * does not refer to the signature it was made from. Calling allocates nothing, and cannot fail.
 */
#ifndef WP_CALL_H
#define WP_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_signature.h"

/* Any function; cast to its real type, or to one that passes the same, before it is called. */
typedef void (*wp_fn)(void);

typedef struct wp_call wp_call;

/* The loop of wp_call_invoke(), made for one kind of signature. */
typedef void wp_call_loop(const wp_call *call, wp_fn fn, const uint64_t *args, uint64_t *results, size_t n);

/* The most slots of each kind that the direct route knows on any platform. */
enum { WP_CALL_MAX_INTS = 8, WP_CALL_MAX_FLOATS = 8, WP_CALL_MAX_STACK = 16 };

/* How to call functions of one signature. Only the files of this room look inside. */
struct wp_call {
    wp_call_loop *loop;       /* what wp_call_invoke() does */
    wp_call_loop *inner_loop; /* the one that `loop` runs first and then amends, or NULL */
    size_t n_params;
    uint64_t result_mask; /* the bits of a result that count */
    uint64_t result_sign; /* of those, the one to extend; 0 if unsigned */
    void *ffi;            /* of the libffi route; NULL on the direct one */
    /* Of the direct route, for signatures without a loop of their own: the parameter that goes
     * to each integer register, floating register and stack slot. Unused ones repeat the first
     * parameter. */
    uint8_t ints[WP_CALL_MAX_INTS];
    uint8_t floats[WP_CALL_MAX_FLOATS];
    uint8_t stack[WP_CALL_MAX_STACK];
};

enum { WP_CALL_OK = 0, WP_CALL_UNSUPPORTED = -1, WP_CALL_NOMEM = -2 };

/* Prepares calls of functions of this signature, directly if that is possible and `force_libffi` is
 * false. WP_CALL_UNSUPPORTED: no route of this build serves the signature. Whatever is returned,
 * wp_call_release() may follow. */
int wp_call_prepare(wp_call *call, const wp_signature *signature, bool force_libffi);

/* Gives back what the call holds. Does nothing to one that is released already, or all zeros. */
void wp_call_release(wp_call *call);

/* "direct" or "libffi"; "none" for a call that is not prepared. */
const char *wp_call_route(const wp_call *call);

/* Calls fn n times, in order: call i takes its arguments from args[i n_params] onward and leaves
 * its result in results[i]. `args` may be NULL if there are no parameters; `results` must not
 * overlap `args`, and may not be NULL even for void, unless n is 0. */
static inline void
wp_call_invoke(const wp_call *call, wp_fn fn, const uint64_t *args, uint64_t *results, size_t n)
{
    call->loop(call, fn, args, results, n);
}

#endif
