/*
 * The scalar types that a native function may take and give.
 *
 * PURPOSE. The one vocabulary of this room: the parser says what a parameter is in these words, the
 * conversion of arguments and the call act on them.
 *
 * DESIGN. A type here is a kind of value (how wide, signed or not, integer or floating), not a name
 * of C. An enumerator has its traits in one table, so that nobody has to switch over all of them.
 *
 * GUARANTEES. The table is constant and may be read by any thread.
 */
#ifndef WP_TYPE_H
#define WP_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kinds of values that can cross a call. WP_TYPE_JOB is a pointer to the running job,
 * supplied by the pool and not by the caller; to the call itself it is a pointer like any other. */
typedef enum wp_type {
    WP_TYPE_VOID,
    WP_TYPE_BOOL,
    WP_TYPE_I8,
    WP_TYPE_U8,
    WP_TYPE_I16,
    WP_TYPE_U16,
    WP_TYPE_I32,
    WP_TYPE_U32,
    WP_TYPE_I64,
    WP_TYPE_U64,
    WP_TYPE_F32,
    WP_TYPE_F64,
    WP_TYPE_PTR,
    WP_TYPE_JOB
} wp_type;

enum { WP_N_TYPES = WP_TYPE_JOB + 1 };

typedef struct wp_type_traits {
    const char *name; /* a short name for messages: "i32", "f64", "ptr" */
    size_t size;      /* in bytes; 0 for void */
    bool is_signed;   /* a signed integer */
    bool is_floating; /* float or double; all but these and void travel as integers */
} wp_type_traits;

/* The traits of a type. Never NULL for a value of the enumeration. */
const wp_type_traits *wp_type_describe(wp_type type);

#endif
