/*
 * Tests of csrc/native/wp_signature.c: what is accepted and as what, what is refused and where, and
 * that no text whatever does harm.
 *
 * DESIGN. Good and bad signatures are tables. A bad row marks the position of the error in the text
 * itself, with a '@' that is taken out before parsing, so that nobody has to count columns. The
 * fuzzer changes bytes of those same texts; every text that it makes is parsed from a heap block of
 * exactly its size, so that AddressSanitizer sees a read of one byte too many.
 */
#include "../native/wp_signature.h"

#include <ctype.h>
#include <limits.h>

#include "check.h"

/* Types as letters, by the enumerators of wp_type in their order. The tables expect a 64-bit
 * `long`. */
static const char type_letters[] = "v?bBhHiIlLfdpj";

typedef struct good_row {
    const char *text;
    const char *types;  /* result, then parameters; an upper-case P or J is one with is_const */
    const char *format; /* the normalised text, or NULL: the text itself */
} good_row;

static const good_row good[] = {
    {"unsigned long (unsigned long, const void *, unsigned int)", "LLPI", NULL},
    {"double (double x, double y)", "ddd", "double (double, double)"},
    {"int (void)", "i", NULL},
    {"void ()", "v", "void (void)"},
    {"void(void);", "v", "void (void)"},
    {" \t\n\v\f\rint(int)\n;\n", "ii", "int (int)"},
    {"double cos(double)", "dd", "double (double)"},
    {"extern double cos(double __x);", "dd", "double (double)"},
    {"static inline int f(int)", "ii", "int (int)"},
    {"const char *strerror(int)", "Pi", "const char *(int)"},
    {"void * malloc(size_t n)", "pL", "void *(size_t)"},

    /* Integers, in every order of their words. */
    {"unsigned char (signed char, char unsigned, char signed)", "BbBb",
     "unsigned char (signed char, unsigned char, signed char)"},
    {"short (short int, int short, signed short, short signed int)", "hhhhh", "short (short, short, short, short)"},
    {"unsigned short (short unsigned, unsigned short int)", "HHH", "unsigned short (unsigned short, unsigned short)"},
    {"int (signed, signed int, int signed)", "iiii", "int (int, int, int)"},
    {"unsigned (unsigned, unsigned int, int unsigned)", "IIII",
     "unsigned int (unsigned int, unsigned int, unsigned int)"},
    {"long (long int, int long, signed long, long signed int)", "lllll", "long (long, long, long, long)"},
    {"unsigned long (long unsigned int, int long unsigned)", "LLL", "unsigned long (unsigned long, unsigned long)"},
    {"long long (long long int, long int long, signed long long)", "llll",
     "long long (long long, long long, long long)"},
    {"unsigned long long (long unsigned long, int long long unsigned)", "LLL",
     "unsigned long long (unsigned long long, unsigned long long)"},
    {"PY_LONG_LONG (unsigned PY_LONG_LONG, PY_LONG_LONG)", "lLl", "long long (unsigned long long, long long)"},
    {"_Bool (bool)", "??", "bool (bool)"},
    {"size_t (ssize_t, ptrdiff_t, intptr_t, uintptr_t)", "LlllL", NULL},
    {"int8_t (uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t)", "bBhHiIlL", NULL},
    {"Py_ssize_t (npy_intp)", "ll", NULL},
    {"float (float, double)", "ffd", NULL},

    /* Qualifiers. */
    {"void (const int, int const, volatile long, long volatile const x)", "viill",
     "void (const int, const int, volatile long, const volatile long)"},
    {"void (char const *, const char *)", "vPP", "void (const char *, const char *)"},
    {"void (char *const)", "vp", NULL},
    {"void (char *const *)", "vP", NULL},
    {"void (const char **)", "vp", NULL},
    {"void (const char *const *)", "vP", NULL},
    {"void (const char *const **)", "vp", NULL},
    {"void (char ***const *)", "vP", NULL},
    {"void (volatile int *, const volatile int *)", "vpP", NULL},
    {"void (double *restrict, double *__restrict out, const double *__restrict__)", "vppP",
     "void (double *restrict, double *restrict, const double *restrict)"},
    {"void (int *const volatile restrict p)", "vp", "void (int *const volatile restrict)"},
    {"void (long const unsigned volatile int * x)", "vP", "void (const volatile unsigned long *)"},
    {"void (__const char *, __volatile__ char *)", "vPp", "void (const char *, volatile char *)"},

    {"void (__const__ char *, __volatile char *, __signed__ char, __signed)", "vPpbi",
     "void (const char *, volatile char *, signed char, int)"},
    {"__extension__ static __inline__ int f(int __x, size_t __n)", "iiL", "int (int, size_t)"},

    /* Variadic functions: what stands behind the ellipsis is promoted. */
    {"int printf(const char *format, ...)", "iP", "int (const char *, ...)"},
    {"int (char *, size_t, const char *, ..., double)", "ipLPd", "int (char *, size_t, const char *, ..., double)"},
    {"int (int, ..., float, short, unsigned char, bool, char)", "iidiiii",
     "int (int, ..., double, int, int, int, int)"},
    {"int (float, ..., unsigned, long x, void *p, wp_job *)", "ifIlpj",
     "int (float, ..., unsigned int, long, void *, wp_job *)"},

    /* Pointers to what nobody knows. */
    {"int (FILE *, sqlite3 *db, const sqlite3_stmt *, foo **)", "ippPp",
     "int (FILE *, sqlite3 *, const sqlite3_stmt *, foo **)"},
    {"struct tm *(const struct tm *, union sigval *v, enum kind *)", "pPpp",
     "struct tm *(const struct tm *, union sigval *, enum kind *)"},
    {"void (struct stat const *const st)", "vP", "void (const struct stat *const)"},
    {"long double *(long double *, double _Complex *, _Complex float *)", "pppp",
     "long double *(long double *, double _Complex *, float _Complex *)"},
    {"void (foo const volatile * const)", "vP", "void (const volatile foo *const)"},

    /* Arrays and functions. */
    {"double (double a[])", "dp", "double (double[])"},
    {"double (const float x[16], size_t)", "dPL", "double (const float[16], size_t)"},
    {"int (int argc, char *const argv[], char *envp[])", "iiPp", "int (int, char *const[], char *[])"},
    {"void (double m[3][4], const double (*n)[4], const double [2][2])", "vpPP",
     "void (double[3][4], const double (*)[4], const double[2][2])"},
    {"void (double a[static 4], int n, double b[restrict n], int [*])", "vpipp",
     "void (double[static 4], int, double[restrict n], int[*])"},
    {"void (const int *(*rows)[4])", "vp", "void (const int *(*)[4])"},
    {"void (const int *const (*rows)[4])", "vP", "void (const int *const (*)[4])"},
    {"void qsort(void *, size_t, size_t, int (*cmp)(const void *, const void *))", "vpLLp",
     "void (void *, size_t, size_t, int (*)(const void *, const void *))"},
    {"int (int (*)(const void *a , const void*b))", "ip", "int (int (*)(const void *a, const void *b))"},
    {"void (void (*)(void *), void *)", "vpp", NULL},
    {"void (const char *(*const name)(int, ...))", "vp", "void (const char *(*const)(int, ...))"},
    {"void (foo_t (*f)(bar_t, struct baz))", "vp", "void (foo_t (*)(bar_t, struct baz))"},
    {"void (void (*on_signal)(int, void (*)(int)))", "vp", "void (void (*)(int, void (*)(int)))"},
    {"void (void (*(*getter)(int))(double))", "vp", "void (void (*(*)(int))(double))"},
    {"void (int (*table[4])(void))", "vp", "void (int (*[4])(void))"},
    {"void (const int (*const table[4])(void))", "vP", "void (const int (*const[4])(void))"},
    {"double (double f(double), double a, double b)", "dpdd", "double (double (*)(double), double, double)"},
    {"double (double (double), int (x), int ((*cmp))(int))", "dpip", "double (double (*)(double), int, int (*)(int))"},
    {"void (int *f(int), int *(g)(foo), int (*(h(int))))", "vppp",
     "void (int *(*)(int), int *(*)(foo), int (*(*)(int)))"},
    {"void (int *(a[3]), int (*b))", "vpp", "void (int *[3], int (*))"},

    /* Jobs. */
    {"int (wp_job *, const wp_job *job, struct wp_job *)", "ijJj", "int (wp_job *, const wp_job *, struct wp_job *)"},
    {"int (wp_job *const)", "ij", NULL},
    {"int (wp_job **, wp_job *[], wp_job *(*)(int), wp_jobs *)", "ipppp", NULL},
    {"wp_job *(int)", "pi", NULL},
};

typedef struct bad_row {
    const char *text;    /* with a '@' where the error is */
    const char *message; /* some of it */
} bad_row;

static const bad_row bad[] = {
    {"@", "expected the type of the result, but the text ends"},
    {"  @", "but the text ends"},
    {"@(int)", "expected the type of the result, not '('"},
    {"double@", "expected '(' and the parameters, but the text ends"},
    {"double cos@", "expected '('"},
    {"double cos @sin(double)", "expected '(' and the parameters, not 'sin'"},
    {"double @size_t(double)", "'size_t' cannot be combined"},
    {"double * @size_t(double)", "expected '(' and the parameters, not 'size_t'"},
    {"int (@", "expected the type of a parameter, but the text ends"},
    {"int (int@", "expected ',' or ')', but the text ends"},
    {"int (int, @)", "expected the type of a parameter, not ')'"},
    {"int (@, int)", "expected the type of a parameter, not ','"},
    {"int (int a @b)", "expected ',' or ')', not 'b'"},
    {"int (int) @x", "expected the end of the text, not 'x'"},
    {"int (int);@;", "expected the end of the text, not ';'"},
    {"int (int)@)", "expected the end"},
    {"int (int)@[3]", "expected the end"},
    {"int @+ (int)", "unexpected character '+'"},
    {"int (int@&)", "unexpected character '&'"},
    {"int (int @\xc3\xa9)", "unexpected byte 0xc3"},
    {"int (int @\x7f)", "unexpected byte 0x7f"},
    {"int (double @2)", "expected ',' or ')', not '2'"},

    /* Types nobody knows, and types that are no scalars. */
    {"int (@foo)", "unknown type 'foo' (write the C integer, floating or pointer type that it stands for)"},
    {"int (int, const @foo bar)", "unknown type 'foo'"},
    {"@cos (double)", "unknown type 'cos'"},
    {"static @FILE f(int)", "unknown type 'FILE'"},
    {"int (@wp_job)", "unknown type 'wp_job' (write the C"},
    {"int (@a_name_that_is_far_too_long_to_be_repeated_in_a_message_of_this_size_altogether_without"
     "_end_until_there_is_one x)",
     "unknown type 'a_name_that_is_far_too_long_to_be_repeat'"},
    {"int (@struct point)", "struct or union 'point' by value is not supported (wrap it in a C function that takes"},
    {"int (const @union u x)", "struct or union 'u' by value"},
    {"@struct div_t (int)", "struct or union 'div_t' by value"},
    {"int (@enum color)", "enum 'color' by value is not supported (write the integer type that it has"},
    {"int (struct @*)", "expected the name of the struct, union or enum, not '*'"},
    {"int (struct @{ int x; } p)", "unexpected character '{'"},
    {"int (struct @int)", "expected the name of the struct"},
    {"int (@long double)", "'long double' by value is not supported (wrap it"},
    {"int (const @double long x)", "'long double' by value is not supported"},
    {"@long double (int)", "'long double' by value is not supported"},
    {"int (@double _Complex)", "complex numbers by value are not supported"},
    {"int (@float complex z)", "complex numbers by value are not supported"},
    {"@_Complex (int)", "this combination of words is not a C type"},
    {"int (@__int128)", "'__int128' is not supported"},
    {"int (unsigned @__int128)", "'__int128' is not supported"},
    {"int (@_Float16)", "'_Float16' is not supported"},
    {"int (@_Atomic int)", "'_Atomic' is not supported"},
    {"@double __complex__ (double __complex__)", "complex numbers by value are not supported"},
    {"int (@double __complex z)", "complex numbers by value are not supported"},
    {"int (@__complex__ float)", "complex numbers by value are not supported"},
    {"int (double @__float80)", "'__float80' is not supported"},
    {"int (@__float80)", "'__float80' is not supported"},
    {"long double @__ibm128 (int)", "'__ibm128' is not supported"},
    {"int (@__ibm128 x)", "'__ibm128' is not supported"},
    {"int (double @_Float64x)", "'_Float64x' is not supported"},
    {"int (unsigned @__int64)", "'__int64' is not supported"},
    {"int (unsigned @_BitInt(7))", "'_BitInt' is not supported"},
    {"int (double @__anything_of_this_kind__)", "'__anything_of_this_kind__' is not supported"},
    {"int (double * @__vector)", "expected a parameter name, ',' or ')', not '__vector'"},
    {"int @__cdecl f(int)", "'__cdecl' is not supported"},
    {"@__attribute((const)) int f(int)", "'__attribute' is not supported"},
    {"int (int @register)", "'register' is not supported"},
    {"@typedef int f(int)", "'typedef' is not supported"},

    /* void. */
    {"int (@void, int)", "a parameter cannot be void (write 'void *'"},
    {"int (int, @void)", "a parameter cannot be void"},
    {"int (@void x)", "a parameter cannot be void"},
    {"int (const @void)", "a parameter cannot be void"},

    /* Words that do not go together. */
    {"int (unsigned @double)", "'double' cannot be combined with the type before it"},
    {"int (signed @unsigned)", "'unsigned' cannot be combined"},
    {"int (int @int)", "'int' cannot be combined"},
    {"int (long long @long)", "'long' cannot be combined"},
    {"int (short @long)", "'long' cannot be combined"},
    {"int (char @short)", "'short' cannot be combined"},
    {"int (long long @double)", "'double' cannot be combined"},
    {"int (long @PY_LONG_LONG)", "'PY_LONG_LONG' cannot be combined"},
    {"int (long @size_t)", "'size_t' cannot be combined"},
    {"int (size_t @int)", "'int' cannot be combined"},
    {"int (foo @int)", "'int' cannot be combined"},
    {"int (int @struct foo)", "'struct' cannot be combined"},
    {"int (const@)", "expected the type of a parameter, not ')'"},
    {"int (@restrict char *)", "'restrict' qualifies a pointer (write it after the '*')"},
    {"int (char @__restrict *)", "'__restrict' qualifies a pointer"},
    {"int (char * @int)", "expected a parameter name, ',' or ')', not 'int'"},

    /* The ellipsis. */
    {"int (@...)", "'...' stands once"},
    {"int (@..., double)", "'...' stands once"},
    {"int (int @...)", "'...' stands once, after a parameter and a comma"},
    {"int (int, ..., double, @...)", "'...' stands once"},
    {"int (int, ..., @...)", "'...' stands once"},
    {"int (int, ... @double)", "expected ',' or ')', not 'double'"},
    {"int (int, ..., @)", "expected the type of a parameter, not ')'"},
    {"int (int, ..., @struct s)", "struct or union 's' by value"},
    {"int (int, ..., @void)", "a parameter cannot be void"},
    {"@... (int)", "'...' stands once"},
    {"int @... (int)", "'...' stands once"},
    {"int (int, @..)", "unexpected character '.'"},

    /* Function pointers in the wrong place, and shapes that C does not have. */
    {"int @(*)(double)", "a function pointer cannot be the result"},
    {"void @(*signal(int, void (*)(int)))(int)", "a function pointer cannot be the result"},
    {"void f@(*g)(int)", "a function pointer cannot be the result"},
    {"int (int f(int)@(int))", "C has no arrays of functions"},
    {"int (int f(int)@[3])", "C has no arrays of functions"},
    {"int (int f[3]@(int))", "C has no arrays of functions"},
    {"int (int (*)@", "expected ',' or ')'"},
    {"int (int (*@", "expected ')'"},
    {"int (int (* @, int))", "expected ')', not ','"},
    {"int (int (*)(int@", "expected ')', but the text ends"},
    {"int (int (*)(int@;))", "expected ')', not ';'"},
    {"int (int (*)(int@])", "expected ')', not ']'"},
    {"int (int a[3@)", "expected ']', not ')'"},
    {"int (int a[n@-1])", "unexpected character '-'"},
    {"int (int [3] @a)", "expected ',' or ')', not 'a'"},
};

/* ---------------------------------------------------------------------------------------------- */

static char
letter_of(const wp_param *param)
{
    const char letter = type_letters[param->type];
    return param->is_const ? (char)toupper(letter) : letter;
}

/* The types of the signature in the notation of good_row; integers keep their case, since only
 * pointers and jobs can be const. */
static void
describe(const wp_signature *signature, char *letters)
{
    *letters++ = letter_of(&signature->result);
    for (size_t i = 0; i < signature->n_params; i++) {
        *letters++ = letter_of(&signature->params[i]);
    }
    *letters = '\0';
}

static wp_signature *
parse(const char *text)
{
    wp_signature *signature;
    wp_signature_error error;
    const int status = wp_signature_parse(text, &signature, &error);
    if (!CHECK_INT(status, WP_SIG_OK)) {
        printf("# %s\n# %*s^ %s\n", text, (int)error.position, "", error.message);
    }
    return signature;
}

static void
check_good(const good_row *row)
{
    char letters[WP_SIGNATURE_MAX_PARAMS + 2];
    char text[256];
    wp_signature *signature = parse(row->text);
    if (signature == NULL) {
        return;
    }
    describe(signature, letters);
    if (!CHECK_STR(letters, row->types)) {
        printf("# %s\n", row->text);
    }
    const int length = wp_signature_format(signature, text, sizeof text);
    CHECK_INT(length, strlen(text));
    CHECK_STR(text, row->format != NULL ? row->format : row->text);
    wp_signature_free(signature);
}

static void
test_good_signatures(void)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        check_good(&good[i]);
    }
}

/* Takes the '@' out of a text and says where it was. */
static size_t
unmark(const char *marked, char *text)
{
    const size_t position = strcspn(marked, "@");
    memcpy(text, marked, position);
    strcpy(text + position, marked[position] == '@' ? marked + position + 1 : "");
    return position;
}

static void
check_bad(const bad_row *row)
{
    char text[256];
    const size_t position = unmark(row->text, text);
    wp_signature *signature;
    wp_signature_error error;
    const int status = wp_signature_parse(text, &signature, &error);
    CHECK(signature == NULL);
    const bool is_as_expected = CHECK_INT(status, WP_SIG_INVALID) && CHECK_INT(error.position, position) &&
                                CHECK(strstr(error.message, row->message) != NULL);
    if (!is_as_expected) {
        printf("# %s\n# %*s^ %s\n", text, (int)error.position, "", error.message);
    }
    wp_signature_free(signature);
}

static void
test_bad_signatures(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_bad(&bad[i]);
    }
}

static void
test_error_is_optional_and_cleared(void)
{
    wp_signature *signature;
    wp_signature_error error = {7, "old"};
    CHECK_INT(wp_signature_parse("int (foo)", &signature, NULL), WP_SIG_INVALID);
    CHECK_INT(wp_signature_parse("int (int)", &signature, &error), WP_SIG_OK);
    CHECK_INT(error.position, 0);
    CHECK_STR(error.message, "");
    wp_signature_free(signature);
    wp_signature_free(NULL);
}

static void
test_spellings(void)
{
    wp_signature *signature = parse("const char *f(long unsigned n, void const*p, double a[3])");
    if (signature == NULL) {
        return;
    }
    CHECK_STR(signature->result.spelling, "const char *");
    CHECK_STR(signature->params[0].spelling, "unsigned long");
    CHECK_STR(signature->params[1].spelling, "const void *");
    CHECK_STR(signature->params[2].spelling, "double[3]");
    wp_signature_free(signature);
}

/* A letter for what each parameter points to, and for the result: void for all that is no scalar and no pointer. */
static void
test_pointees(void)
{
    static const struct {
        const char *text, *pointees;
    } rows[] = {
        {"double *(float *, const int64_t *, bool *)", "dfl?"},
        {"void (double[3], double[3][4], double (*)[4], const unsigned[])", "vdddI"},
        {"void (void *, const void *, struct point *, opaque *)", "vvvvv"},
        {"void (double **, char *const *, int (*)(double), int (double))", "vppvv"},
        {"void (long double *, double _Complex *, double *restrict)", "vvvd"},
        {"char **(unsigned char *, double *const, size_t)", "pBdv"},
        {"int (double *(*)[3], double (*(*))[3])", "vpp"},
        {"void (void (**)(int), char *[4], double (*[3])[4], opaque **)", "vpppp"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wp_signature *signature = parse(rows[i].text);
        char letters[WP_SIGNATURE_MAX_PARAMS + 2] = {0};
        if (signature == NULL) {
            continue;
        }
        letters[0] = type_letters[signature->result.pointee];
        for (size_t at = 0; at < signature->n_params; at++) {
            letters[at + 1] = type_letters[signature->params[at].pointee];
        }
        if (!CHECK_STR(letters, rows[i].pointees)) {
            printf("# %s\n", rows[i].text);
        }
        wp_signature_free(signature);
    }
}

/* Plain char is signed on some machines (x86-64) and unsigned on others (AArch64 Linux). */
static void
test_char(void)
{
    wp_signature *signature = parse("char (const char)");
    if (signature == NULL) {
        return;
    }
    CHECK_INT(signature->result.type, CHAR_MIN < 0 ? WP_TYPE_I8 : WP_TYPE_U8);
    CHECK_STR(signature->result.spelling, "char");
    CHECK_STR(signature->params[0].spelling, "const char");
    wp_signature_free(signature);
}

static void
test_traits(void)
{
    CHECK_STR(wp_type_describe(WP_TYPE_I16)->name, "i16");
    CHECK_INT(wp_type_describe(WP_TYPE_VOID)->size, 0);
    CHECK_INT(wp_type_describe(WP_TYPE_JOB)->size, sizeof(void *));
    CHECK(wp_type_describe(WP_TYPE_I8)->is_signed);
    CHECK(!wp_type_describe(WP_TYPE_BOOL)->is_signed);
    CHECK(wp_type_describe(WP_TYPE_F32)->is_floating);
    for (int type = 0; type < WP_N_TYPES; type++) {
        CHECK(wp_type_describe((wp_type)type)->name != NULL);
    }
}

/* Formatting into every size of buffer writes a prefix, and not a byte more than it may. */
static void
test_format_truncates(void)
{
    static const char whole[] = "int (const char *, double)";
    wp_signature *signature = parse(whole);
    CHECK_INT(wp_signature_format(signature, NULL, 0), sizeof whole - 1);
    for (size_t size = 1; size <= sizeof whole + 1; size++) {
        char buf[sizeof whole + 2];
        memset(buf, '#', sizeof buf);
        CHECK_INT(wp_signature_format(signature, buf, size), sizeof whole - 1);
        const size_t written = size < sizeof whole ? size - 1 : sizeof whole - 1;
        CHECK_INT(strlen(buf), written);
        CHECK(memcmp(buf, whole, written) == 0);
        CHECK_INT(buf[written + 1], '#');
    }
    wp_signature_free(signature);
}

/* ------------------------------------------------------------------------------------------------
 * Limits.
 */

/* "int (" and so many times `repeated`, and then `rest`. */
static void
repeat(char *text, const char *repeated, size_t count, const char *rest)
{
    strcpy(text, "int (");
    char *end = text + strlen(text);
    for (size_t i = 0; i < count; i++) {
        strcpy(end, repeated);
        end += strlen(repeated);
    }
    strcpy(end, rest);
}

static void
check_limit(const char *text, size_t position, const char *message)
{
    wp_signature *signature;
    wp_signature_error error;
    CHECK_INT(wp_signature_parse(text, &signature, &error), WP_SIG_INVALID);
    CHECK_INT(error.position, position);
    if (!CHECK(strstr(error.message, message) != NULL)) {
        printf("# %s\n", error.message);
    }
}

static char long_text[4 * WP_SIGNATURE_MAX_TEXT];

static void
test_number_of_params(void)
{
    repeat(long_text, "int,", 63, "char *)");
    wp_signature *signature = parse(long_text);
    CHECK_INT(signature->n_params, 64);
    CHECK_INT(signature->params[63].type, WP_TYPE_PTR);
    wp_signature_free(signature);

    repeat(long_text, "int,", 64, "char *)");
    check_limit(long_text, 5 + 64 * 4, "too many parameters (at most 64)");
    repeat(long_text, ",", 4000, ")");
    check_limit(long_text, 5, "expected the type of a parameter");
}

static void
test_length_of_text(void)
{
    repeat(long_text, " ", 4096 - 6, ")");
    CHECK_INT(strlen(long_text), 4096);
    wp_signature_free(parse(long_text));
    repeat(long_text, " ", 4096 - 5, ")");
    check_limit(long_text, 4096, "too long (at most 4096 bytes)");
    repeat(long_text, "unsigned", 2 * WP_SIGNATURE_MAX_TEXT / 8, ")");
    check_limit(long_text, 4096, "too long");
    /* Short enough as it is, and not when written out. */
    strcpy(long_text, "int (int ");
    memset(long_text + 9, '*', 4096 - 9 - 10);
    strcpy(long_text + 4096 - 10, ",unsigned)");
    check_limit(long_text, 4096, "too long (at most 4096 bytes when written out in full)");
    strcpy(long_text + 4096 - 10, ",double)");
    wp_signature_free(parse(long_text));
}

static void
test_depth(void)
{
    repeat(long_text, "int ", 1, "(((((((((((((((*p)))))))))))))))(void))");
    wp_signature_free(parse(long_text));
    strcpy(long_text, "int (int (*)");
    memset(long_text + 12, '(', 4000);
    strcpy(long_text + 12 + 4000, "");
    check_limit(long_text, 12 + 16, "nested too deeply");
    repeat(long_text, "(", 4000, "");
    check_limit(long_text, 5, "expected the type of a parameter");
    strcpy(long_text, "int (int ");
    memset(long_text + 9, '(', 4000);
    strcpy(long_text + 9 + 4000, "");
    check_limit(long_text, 9 + 16, "nested too deeply (at most 16 levels)");
    strcpy(long_text, "int (int f");
    memset(long_text + 10, '[', 4000);
    strcpy(long_text + 10 + 4000, "");
    check_limit(long_text, 10 + 16, "nested too deeply");
}

/* Stars without end are one pointer, and the longest spellings fit their arena. */
static void
test_long_spellings(void)
{
    strcpy(long_text, "int (int ");
    memset(long_text + 9, '*', 4000);
    strcpy(long_text + 9 + 4000, ")");
    wp_signature *signature = parse(long_text);
    CHECK_INT(signature->params[0].type, WP_TYPE_PTR);
    CHECK_INT(strlen(signature->params[0].spelling), 4 + 4000);
    wp_signature_free(signature);

    strcpy(long_text, "unsigned(");
    for (size_t i = 0; i < WP_SIGNATURE_MAX_PARAMS; i++) {
        strcat(long_text, i == 0 ? "unsigned" : ",unsigned");
    }
    strcat(long_text, ")");
    signature = parse(long_text);
    CHECK_STR(signature->params[63].spelling, "unsigned int");
    wp_signature_free(signature);
}

/* ------------------------------------------------------------------------------------------------
 * Fuzzing.
 */

enum { FUZZ_ROUNDS = 200000, FUZZ_TEXT = 400 };

static bool
is_printable(const char *text)
{
    while (*text >= ' ' && *text <= '~') {
        text++;
    }
    return *text == '\0';
}

/* A signature parses from its own normal form to an equal one, whose normal form is the same. */
static bool
check_round_trip(const wp_signature *first)
{
    static char text[4 * FUZZ_TEXT];
    static char again[sizeof text];
    char letters[2][WP_SIGNATURE_MAX_PARAMS + 2];
    CHECK(wp_signature_format(first, text, sizeof text) < (int)sizeof text);
    wp_signature *second = parse(text);
    if (second == NULL) {
        return false;
    }
    (void)wp_signature_format(second, again, sizeof again);
    describe(first, letters[0]);
    describe(second, letters[1]);
    wp_signature_free(second);
    return CHECK_STR(again, text) && CHECK_STR(letters[1], letters[0]);
}

/* Parses a copy that ends where its heap block ends, and checks what every answer must fulfil. */
static bool
check_any_text(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    wp_signature *signature;
    wp_signature_error error;
    memcpy(copy, text, length);
    copy[length] = '\0';
    bool is_fine;
    if (wp_signature_parse(copy, &signature, &error) == WP_SIG_OK) {
        is_fine = CHECK(signature->n_params <= WP_SIGNATURE_MAX_PARAMS) && check_round_trip(signature);
    } else {
        is_fine = CHECK(signature == NULL) && CHECK(error.position <= strlen(copy)) &&
                  CHECK(error.message[0] != '\0') && CHECK(is_printable(error.message));
    }
    wp_signature_free(signature);
    free(copy);
    return is_fine;
}

static const char *
random_text(uint64_t *state)
{
    const size_t n_good = sizeof good / sizeof *good;
    const size_t n_bad = sizeof bad / sizeof *bad;
    const size_t i = check_rand(state) % (n_good + n_bad);
    return i < n_good ? good[i].text : bad[i - n_good].text;
}

/* A byte of those that mean something, or any at all. */
static char
random_byte(uint64_t *state)
{
    static const char telling[] = "()[]*,;. \tconstvlgiux_09";
    const uint64_t r = check_rand(state);
    return r % 4 == 0 ? (char)(r >> 8) : telling[(r >> 8) % (sizeof telling - 1)];
}

/* Inserts, at a place, some piece of some text. */
static void
splice(char *text, size_t *length, size_t at, uint64_t *state)
{
    const char *other = random_text(state);
    const size_t from = check_rand(state) % strlen(other);
    size_t count = 1 + check_rand(state) % 12;
    count = count < strlen(other + from) ? count : strlen(other + from);
    if (*length + count < FUZZ_TEXT) {
        memmove(text + at + count, text + at, *length - at);
        memcpy(text + at, other + from, count);
        *length += count;
    }
}

static void
mutate(char *text, size_t *length, uint64_t *state)
{
    const size_t at = *length > 0 ? check_rand(state) % *length : 0;
    const unsigned kind = (unsigned)(check_rand(state) % 3);
    if (kind == 0 && *length > 0) {
        text[at] = random_byte(state);
    } else if (kind == 1 && *length > 0) {
        memmove(text + at, text + at + 1, *length - at - 1);
        --*length;
    } else {
        splice(text, length, at, state);
    }
}

static void
test_mutated_texts(void)
{
    uint64_t state = check_seed(20260101);
    for (int round = 0; round < FUZZ_ROUNDS; round++) {
        char text[FUZZ_TEXT];
        size_t length = unmark(random_text(&state), text);
        length = strlen(text);
        for (uint64_t n = 1 + check_rand(&state) % 6; n > 0; n--) {
            mutate(text, &length, &state);
        }
        if (!check_any_text(text, length)) {
            printf("# round %d: %.*s\n", round, (int)length, text);
            break;
        }
    }
}

int
main(void)
{
    check_time_limit(120);
    RUN(test_good_signatures);
    RUN(test_bad_signatures);
    RUN(test_error_is_optional_and_cleared);
    RUN(test_spellings);
    RUN(test_pointees);
    RUN(test_char);
    RUN(test_traits);
    RUN(test_format_truncates);
    RUN(test_number_of_params);
    RUN(test_length_of_text);
    RUN(test_depth);
    RUN(test_long_spellings);
    RUN(test_mutated_texts);
    return check_done();
}
