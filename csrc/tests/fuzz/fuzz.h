/*
 * What the fuzz targets share: how choices are made of bytes, and how a broken promise is reported.
 *
 * PURPOSE. A fuzzer makes up bytes, and prefers those that lead to code where nobody has been. A target turns the bytes
 * into something that a user could hand over (a text, arguments, a shape), hands it over, and holds what comes back
 * against a second opinion. Whatever the bytes are, a target has to return; a check that fails aborts, which is
 * what fuzzers and the replay of a corpus (replay.c) take for a finding. A check that can fail on correct code is worse
 * than none, so targets know no time limits and start nothing that they do not end.
 *
 * CHOICES. Bytes are taken from the front, one after the other, and zeros when they are at an end: so every input means
 * something, inputs that begin alike do alike, and the shortest are the simplest. A choice among few takes one byte, so
 * that the fuzzer can change one choice and leave the others.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_UNUSED __attribute__((unused))

/* The target: the one function of each file, called with one input after the other, by one thread. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts, and says why, unless the expression is true. */
#define FUZZ_CHECK(expr) ((expr) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #expr))

FUZZ_UNUSED static _Noreturn void
fuzz_fail(const char *file, int line, const char *expr)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "# not ok - %s:%d: %s\n", file, line, expr);
    abort();
}

/* What is left of an input. */
typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
} fuzz_input;

FUZZ_UNUSED static uint8_t
fuzz_byte(fuzz_input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

/* One of 0 to `most`, which is at most 255. */
FUZZ_UNUSED static size_t
fuzz_pick(fuzz_input *in, size_t most)
{
    return fuzz_byte(in) % (most + 1);
}

/* True once in `n` bytes, and not for a zero. */
FUZZ_UNUSED static bool
fuzz_one_in(fuzz_input *in, size_t n)
{
    return fuzz_byte(in) % n == n - 1;
}

/* 64 bits as they come: eight bytes, or fewer for small numbers and for those whose bits are all set but a few. */
FUZZ_UNUSED static uint64_t
fuzz_bits(fuzz_input *in)
{
    const size_t n = fuzz_pick(in, 8);
    const bool is_negative = fuzz_one_in(in, 4);
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | fuzz_byte(in);
    }
    return is_negative ? ~bits : bits;
}

/* Memory of exactly this size, so that AddressSanitizer sees the byte before it and the byte after it. Also for size 0. */
FUZZ_UNUSED static void *
fuzz_block(size_t size)
{
    void *block = calloc(1, size);
    if (block == NULL && size > 0) {
        (void)fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return block;
}

#endif
