/* See wp_numbers.h. */
#include "wp_numbers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FULL UINT64_MAX

static bool
grow(wp_numbers *numbers)
{
    uint32_t n_words = numbers->n_words > 0 ? numbers->n_words * 2 : 1;
    uint64_t *words = realloc(numbers->words, n_words * sizeof *words);
    if (words == NULL) {
        return false;
    }
    memset(words + numbers->n_words, 0, (n_words - numbers->n_words) * sizeof *words);
    numbers->words = words;
    numbers->n_words = n_words;
    return true;
}

uint32_t
wp_numbers_take(wp_numbers *numbers)
{
    while (numbers->first < numbers->n_words && numbers->words[numbers->first] == FULL) {
        numbers->first++;
    }
    if (numbers->first == numbers->n_words && !grow(numbers)) {
        return WP_NO_NUMBER;
    }
    uint64_t *word = &numbers->words[numbers->first];
    uint32_t bit = (uint32_t)__builtin_ctzll(~*word);
    *word |= UINT64_C(1) << bit;
    return numbers->first * 64 + bit;
}

void
wp_numbers_give(wp_numbers *numbers, uint32_t number)
{
    uint32_t at = number / 64;
    numbers->words[at] &= ~(UINT64_C(1) << number % 64);
    numbers->first = at < numbers->first ? at : numbers->first;
}

void
wp_numbers_free(wp_numbers *numbers)
{
    free(numbers->words);
    *numbers = (wp_numbers){0};
}
