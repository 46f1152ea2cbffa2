/*
 * Runs the kept inputs of a fuzz target through it, without a fuzzer: an ordinary program for any compiler.
 *
 * Usage: fuzz_TARGET FILE...
 *
 * A file has an input in each line: text, with the bytes that are not printable ASCII as \xNN, and a backslash as \\.
 * Lines that begin with '#' are comments, and empty ones nothing. corpus.py writes such files, and makes of them the
 * folders that a fuzzer wants.
 *
 * Each input is tried as it is, and with a few bytes changed, removed or repeated: what is kept comes everywhere in code
 * that is right, and what a fault makes of it may lie beside that. The changes are the same in every run.
 *
 * The place of each input is printed before it is tried: so the last line of what was printed says which one a crash is
 * of. The check that failed says so itself. With FUZZ_SHOW=1 in the environment each changed input is printed too, as a
 * line.
 */
#include "check.h"
#include "fuzz.h"

enum { MAX_LINE = 1 << 16, VARIANTS = 64, MAX_CHANGES = 4 };

static unsigned
digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (unsigned)(at - digits) : 16;
}

/* The bytes that a line stands for, in its own place; returns how many, or SIZE_MAX for a line that is not right. */
static size_t
unescape(char *line)
{
    size_t n = 0;
    for (const char *at = line; *at != '\0' && *at != '\n'; n++) {
        if (*at != '\\') {
            line[n] = *at++;
        } else if (at[1] == '\\') {
            line[n] = '\\';
            at += 2;
        } else if (at[1] == 'x' && digit(at[2]) < 16 && digit(at[3]) < 16) {
            line[n] = (char)(digit(at[2]) << 4 | digit(at[3]));
            at += 4;
        } else {
            return SIZE_MAX;
        }
    }
    return n;
}

/* In a block of exactly its size, as a fuzzer hands it over. */
static void
try_input(const char *bytes, size_t size)
{
    uint8_t *block = fuzz_block(size);
    if (size > 0) {
        memcpy(block, bytes, size);
    }
    (void)LLVMFuzzerTestOneInput(block, size);
    free(block);
}

static void
show(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)bytes[i];
        const bool is_plain = byte >= ' ' && byte < 0x7f && byte != '\\' && (byte != '#' || i > 0);
        printf(is_plain ? "%c" : "\\x%02x", byte);
    }
    printf("\n");
    (void)fflush(stdout);
}

/* Changes a byte, takes some bytes out, or puts some in again at another place. Returns the new size. */
static size_t
change(char *bytes, size_t size, uint64_t *state)
{
    const size_t at = check_rand(state) % size;
    const size_t from = check_rand(state) % size;
    size_t n = 1 + check_rand(state) % 4;
    switch (check_rand(state) % 6) {
    case 0:
        n = n < size - at ? n : size - at;
        memmove(bytes + at, bytes + at + n, size - at - n);
        return size - n;
    case 1:
        n = n < size - from ? n : size - from;
        memmove(bytes + at + n, bytes + at, size - at);
        memmove(bytes + at, bytes + from, n);
        return size + n;
    case 2:
        bytes[at] = (char)(bytes[at] ^ (1 << check_rand(state) % 8));
        return size;
    case 3:
        bytes[at] = bytes[from];
        return size;
    default:
        bytes[at] = (char)check_rand(state);
        return size;
    }
}

static void
try_variants(const char *bytes, size_t size, uint64_t seed)
{
    static char variant[MAX_LINE + 4 * MAX_CHANGES];
    const bool is_shown = getenv("FUZZ_SHOW") != NULL;
    for (int i = 0; i < VARIANTS; i++) {
        size_t variant_size = size;
        memcpy(variant, bytes, size);
        for (uint64_t n = 1 + check_rand(&seed) % MAX_CHANGES; n > 0 && variant_size > 0; n--) {
            variant_size = change(variant, variant_size, &seed);
        }
        if (is_shown) {
            show(variant, variant_size);
        }
        try_input(variant, variant_size);
    }
}

/* Returns how many inputs the file has, or -1 if it cannot be read. */
static int
try_file(const char *path)
{
    static char line[MAX_LINE];
    int n_inputs = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return -1;
    }
    for (int number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        printf("# %s:%d\n", path, number);
        (void)fflush(stdout);
        const size_t size = unescape(line);
        if (size == SIZE_MAX) {
            (void)fclose(file);
            return -1;
        }
        try_input(line, size);
        try_variants(line, size, (uint64_t)n_inputs);
        n_inputs++;
    }
    (void)fclose(file);
    return n_inputs;
}

int
main(int argc, char **argv)
{
    bool has_failed = argc < 2;
    try_input("", 0);
    for (int i = 1; i < argc; i++) {
        const int n_inputs = try_file(argv[i]);
        has_failed = has_failed || n_inputs <= 0;
        printf("%s - %d inputs of %s\n", n_inputs > 0 ? "ok" : "not ok", n_inputs, argv[i]);
    }
    return has_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
