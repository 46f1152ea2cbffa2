/* Numbers for workers: the smallest that is free, so that they stay below the most workers there were at one time.
 *
 * GUARANTEES. Taking and giving back cost the same however many are taken, but for a look at 64 of them at once. Guarded by
 * the owner's lock. Zeros are an empty set.
 */
#ifndef WP_NUMBERS_H
#define WP_NUMBERS_H

#include <stdint.h>

typedef struct wp_numbers {
    uint64_t *words; /* Taken numbers, by bit. */
    uint32_t n_words;
    uint32_t first; /* All before this word are full. */
} wp_numbers;

#define WP_NO_NUMBER UINT32_MAX

/* WP_NO_NUMBER without memory. */
uint32_t wp_numbers_take(wp_numbers *numbers);
void wp_numbers_give(wp_numbers *numbers, uint32_t number);
void wp_numbers_free(wp_numbers *numbers);

#endif
