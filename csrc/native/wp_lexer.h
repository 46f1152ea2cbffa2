/*
 * Tokens of a C signature.
 *
 * PURPOSE. Cuts the text of a declaration into words, numbers and marks.
 *
 * DESIGN. The lexer has no state: a token is read at a place of the text, and the next one is read
 * where it ends. Looking one token further ahead is therefore just reading it, and nothing has to
 * be put back. The kind of a mark is its own character, so that the parser can ask for '(' by
 * name.
 *
 * GUARANTEES. Nothing is read beyond the terminating NUL; a token never has length 0 except the
 * end of the text, which follows itself for ever. Characters are judged by their ASCII values and
 * not by the locale.
 */
#ifndef WP_LEXER_H
#define WP_LEXER_H

#include <stdbool.h>
#include <stddef.h>

/* Kinds that are not a character of their own: the marks are ( ) [ ] * , ; */
enum {
    WP_LEX_END = 256,
    WP_LEX_WORD,
    WP_LEX_NUMBER,
    WP_LEX_ELLIPSIS,
    WP_LEX_BAD /* one byte that no signature contains */
};

typedef struct wp_lexeme {
    int kind;
    const char *start;
    size_t length;
} wp_lexeme;

/* The token that begins at `text` or after the white space there. */
wp_lexeme wp_lexeme_read(const char *text);

/* The token after this one. */
wp_lexeme wp_lexeme_after(wp_lexeme token);

/* Whether the character can stand in a word or a number, so that two such in a row need a space. */
bool wp_is_word_char(char c);

#endif
