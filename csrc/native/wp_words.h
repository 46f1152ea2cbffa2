/*
 * The words of a declaration, and the types that they spell. For the parser.
 *
 * PURPOSE. Says of a word what part it plays in a C declaration, and of a set of words such as
 * `long unsigned int` which type they are together.
 *
 * DESIGN. There are far more names than kinds of values: `long`, `ssize_t` and `Py_ssize_t` are one
 * kind on one machine and another on the next. A name is resolved here once, by sizeof on the
 * platform that compiles this file; nothing after the parser looks at names again.
 *
 * GUARANTEES. The tables are constant; both functions are pure and may be called by any thread.
 */
#ifndef WP_WORDS_H
#define WP_WORDS_H

#include <stddef.h>

#include "wp_type.h"

typedef enum wp_role {
    WP_ROLE_NAME,      /* no word of ours: the name of a parameter, or of a type we do not know */
    WP_ROLE_SPECIFIER, /* one of the words that together spell an arithmetic type, or void */
    WP_ROLE_TYPEDEF,   /* the name of an arithmetic type that stands alone, such as size_t */
    WP_ROLE_CONST,
    WP_ROLE_VOLATILE,
    WP_ROLE_RESTRICT,
    WP_ROLE_STRUCT, /* struct, union: a tag follows */
    WP_ROLE_ENUM,
    WP_ROLE_STORAGE, /* extern, static, inline: says nothing about a call */
    WP_ROLE_REFUSED  /* a word of C, or a type of some compilers, that we cannot take */
} wp_role;

typedef struct wp_sig_word {
    const char *text;
    wp_role role;
    unsigned specifiers; /* WP_ROLE_SPECIFIER: its share of a type, see wp_sig_form_find() */
    wp_type type;        /* WP_ROLE_TYPEDEF: what it means here */
} wp_sig_word;

enum {
    WP_SPEC_VOID = 1 << 0,
    WP_SPEC_BOOL = 1 << 1,
    WP_SPEC_CHAR = 1 << 2,
    WP_SPEC_SHORT = 1 << 3,
    WP_SPEC_INT = 1 << 4,
    WP_SPEC_LONG = 1 << 5,
    WP_SPEC_LONG_LONG = 1 << 6, /* set, together with WP_SPEC_LONG, by the second `long` */
    WP_SPEC_SIGNED = 1 << 7,
    WP_SPEC_UNSIGNED = 1 << 8,
    WP_SPEC_FLOAT = 1 << 9,
    WP_SPEC_DOUBLE = 1 << 10,
    WP_SPEC_COMPLEX = 1 << 11
};

/* What a set of specifier words means, whatever their order was. */
typedef struct wp_sig_form {
    unsigned specifiers;
    const char *spelling; /* the usual one: "unsigned long" for `long unsigned int` */
    wp_type type;
    const char *refusal; /* NULL, or why a value of this type cannot be passed and what can */
} wp_sig_form;

/* Looks a word up. A word that is in no table has WP_ROLE_NAME, unless it looks like a keyword; never NULL. */
const wp_sig_word *wp_sig_word_find(const char *text, size_t length);

/* The type that these specifiers spell, or NULL if C knows no such combination. */
const wp_sig_form *wp_sig_form_find(unsigned specifiers);

#endif
