/*
 * Calling a scalar function for every element of a row.
 *
 * PURPOSE. Given `double f(double, double)` and a row of operands, each with an address and a stride
 * in bytes, calls f for each element and stores what it returns, with no slot and no object between.
 *
 * DESIGN. The operands are the parameters in their order, and last the result. What is the same for
 * every element (a number, a pointer to the user's data) is an operand with stride 0. For the
 * signatures that are common there are loops that call the function by its own type, straight from
 * the arrays; they cost what the same loop in C costs. All others fill rows of slots and go through
 * wp_call.h, for a few nanoseconds an element more. So do functions whose result may be an error,
 * since each result must be looked at, with errno as it was then.
 *
 * GUARANTEES. A prepared loop is immutable and may be run by any number of threads at once. Elements
 * must be aligned for their types. Running allocates nothing.
 */
#ifndef WP_LOOP_H
#define WP_LOOP_H

#include "wp_call.h"

/* Which results end the loop. */
typedef enum wp_loop_check { WP_LOOP_UNCHECKED, WP_LOOP_NONZERO, WP_LOOP_NEGATIVE } wp_loop_check;

typedef struct wp_loop wp_loop;

/* The result that ended a loop, and errno after that call. */
typedef struct wp_loop_error {
    uint64_t result;
    int error_number;
} wp_loop_error;

/* The body of wp_loop_run(). */
typedef size_t wp_loop_body(const wp_loop *loop, char *const *pointers, const ptrdiff_t *strides, size_t n,
                            wp_loop_error *error);

/* Only the files of this room look inside. */
struct wp_loop {
    wp_loop_body *body;
    const wp_call *call;
    wp_fn fn;
    wp_loop_check check;
    size_t n_operands;
    uint8_t types[WP_SIGNATURE_MAX_PARAMS + 1]; /* of the operands: enum wp_type */
};

/* Prepares loops over a function, which must not return void. The loop refers to `call`, which is
 * prepared for the same signature. */
void wp_loop_prepare(wp_loop *loop, const wp_signature *signature, const wp_call *call, wp_fn fn, wp_loop_check check);

/* Whether the function is called by its own type, rather than through slots. */
bool wp_loop_is_typed(const wp_loop *loop);

/* Calls the function for n elements, in order. Returns how many calls ended well: n, or fewer if the
 * next one returned an error, which is then in *error. */
static inline size_t
wp_loop_run(const wp_loop *loop, char *const *pointers, const ptrdiff_t *strides, size_t n, wp_loop_error *error)
{
    return loop->body(loop, pointers, strides, n, error);
}

/* Between a value of a type in memory and the slot that stands for it. */
uint64_t wp_loop_load(wp_type type, const void *from);
void wp_loop_store(wp_type type, void *to, uint64_t slot);

#endif
