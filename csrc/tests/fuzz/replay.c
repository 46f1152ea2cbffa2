/*
 * Runs the kept inputs of a fuzz target through it, without a fuzzer: an ordinary program for any compiler.
 *
 * Usage: fuzz_TARGET FILE...
 *
 * A file has an input in each line: text, with the bytes that are not printable ASCII as \xNN, and a backslash as \\.
 * Lines that begin with '#' are comments, and empty ones nothing. corpus.py writes such files, and makes of them the
 * folders that a fuzzer wants.
 *
 * The place of each input is printed before it is tried: so the last line of what was printed says which one a crash is
 * of. The check that failed says so itself.
 */
#include "fuzz.h"

enum { MAX_LINE = 1 << 16 };

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
