/*
 * The lexer of wp_lexer.h.
 */
#include "wp_lexer.h"

#include <string.h>

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool
wp_is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static size_t
word_length(const char *start)
{
    size_t length = 0;
    while (wp_is_word_char(start[length])) {
        length++;
    }
    return length;
}

wp_lexeme
wp_lexeme_read(const char *text)
{
    while (is_space(*text)) {
        text++;
    }
    if (*text == '\0') {
        return (wp_lexeme){WP_LEX_END, text, 0};
    }
    if (wp_is_word_char(*text)) {
        const int kind = is_digit(*text) ? WP_LEX_NUMBER : WP_LEX_WORD;
        return (wp_lexeme){kind, text, word_length(text)};
    }
    if (strncmp(text, "...", 3) == 0) {
        return (wp_lexeme){WP_LEX_ELLIPSIS, text, 3};
    }
    if (strchr("()[]*,;", *text) != NULL) {
        return (wp_lexeme){*text, text, 1};
    }
    return (wp_lexeme){WP_LEX_BAD, text, 1};
}

wp_lexeme
wp_lexeme_after(wp_lexeme token)
{
    return wp_lexeme_read(token.start + token.length);
}
