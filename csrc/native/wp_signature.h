/*
 * Signatures: the text of a C function type, understood.
 *
 * PURPOSE. Reads "unsigned long (unsigned long, const void *, unsigned int)" and says what each
 * parameter and the result are, so that arguments can be converted and the function called.
 *
 * The grammar is that of a C declaration with one function: `result [name] (parameters) [;]`, where
 * a parameter may have a name, qualifiers stand wherever C lets them, arrays and functions are the
 * pointers that C makes of them, and a type that nobody knows is welcome behind a `*`. What cannot
 * be passed as a scalar (structs by value, long double, complex numbers, a function pointer as a
 * result) is refused with a message that says what would be right.
 *
 * Behind a `...`, which C has at the end of the list, stand the types of the arguments of these
 * calls: "int (const char *, ..., double)" is a printf with one double. They are promoted as C
 * does it, and normalised to what they become.
 *
 * GUARANTEES. Any bytes up to the terminating NUL are safe to parse. A signature does not refer
 * to the text it was made from, never changes once made, and may be read by any number of threads.
 */
#ifndef WP_SIGNATURE_H
#define WP_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>

#include "wp_type.h"

/* Limits of a signature. Longer texts, as given or as normalised, and more parameters are errors. */
enum { WP_SIGNATURE_MAX_TEXT = 4096, WP_SIGNATURE_MAX_PARAMS = 64 };

/* A parameter, or the result. The result is never WP_TYPE_JOB: a job that is returned is a
 * pointer. */
typedef struct wp_param {
    wp_type type;
    bool is_function;     /* a pointer to a function */
    bool is_const;        /* a pointer or a job: what it points to is const */
    wp_type pointee;      /* a pointer: the scalars or pointers it points to; WP_TYPE_VOID if to anything else */
    const char *spelling; /* normalised C, such as "const void *"; owned by the signature */
} wp_param;

typedef struct wp_signature {
    wp_param result;
    bool is_variadic; /* it has a `...` */
    size_t n_fixed;   /* the parameters before it; all of them if there is none */
    size_t n_params;
    wp_param params[];
} wp_signature;

typedef struct wp_signature_error {
    size_t position;   /* byte offset into the text of what is wrong, at most its length */
    char message[192]; /* one line of printable ASCII, without the position */
} wp_signature_error;

enum { WP_SIG_OK = 0, WP_SIG_INVALID = -1, WP_SIG_NOMEM = -2 };

/* Parses `text`. WP_SIG_OK: *out is a new signature, to be freed with wp_signature_free().
 * Otherwise *out is NULL and *error (which may be NULL if nobody asks) says where and why. */
int wp_signature_parse(const char *text, wp_signature **out, wp_signature_error *error);

/* Frees a signature; NULL is nothing to free. */
void wp_signature_free(wp_signature *signature);

/* Writes the signature as normalised text, "int (const char *, double)" or "void (void)", which
 * parses to an equal signature. Like snprintf: at most `size` bytes including the NUL are
 * written (none and `buf` may be NULL if size is 0), and the length that the whole text has is
 * returned. */
int wp_signature_format(const wp_signature *signature, char *buf, size_t size);

#endif
