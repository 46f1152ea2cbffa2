/*
 * The tables behind wp_words.h.
 *
 * DESIGN. Integer types are resolved by width and signedness through one macro each, so that no row
 * repeats what the compiler already knows about the platform. The searches are linear: a signature
 * has a handful of words, and is parsed once in the life of a native function.
 */
#include "wp_words.h"

#include <limits.h>
#include <string.h>
#include <sys/types.h>

#define SIGNED_TYPE(T)                                                                                                 \
    (sizeof(T) == 1 ? WP_TYPE_I8 : sizeof(T) == 2 ? WP_TYPE_I16 : sizeof(T) == 4 ? WP_TYPE_I32 : WP_TYPE_I64)
#define UNSIGNED_TYPE(T)                                                                                               \
    (sizeof(T) == 1 ? WP_TYPE_U8 : sizeof(T) == 2 ? WP_TYPE_U16 : sizeof(T) == 4 ? WP_TYPE_U32 : WP_TYPE_U64)

#define SPECIFIER(text, bits)                                                                                          \
    {                                                                                                                  \
        text, WP_ROLE_SPECIFIER, bits, WP_TYPE_VOID                                                                    \
    }
#define SIGNED(T)                                                                                                      \
    {                                                                                                                  \
#T, WP_ROLE_TYPEDEF, 0, SIGNED_TYPE(T)                                                                         \
    }
#define UNSIGNED(T)                                                                                                    \
    {                                                                                                                  \
#T, WP_ROLE_TYPEDEF, 0, UNSIGNED_TYPE(T)                                                                       \
    }
#define OTHER(text, role)                                                                                              \
    {                                                                                                                  \
        text, role, 0, WP_TYPE_VOID                                                                                    \
    }

static const wp_sig_word words[] = {
    SPECIFIER("void", WP_SPEC_VOID),
    SPECIFIER("bool", WP_SPEC_BOOL),
    SPECIFIER("_Bool", WP_SPEC_BOOL),
    SPECIFIER("char", WP_SPEC_CHAR),
    SPECIFIER("short", WP_SPEC_SHORT),
    SPECIFIER("int", WP_SPEC_INT),
    SPECIFIER("long", WP_SPEC_LONG),
    SPECIFIER("signed", WP_SPEC_SIGNED),
    SPECIFIER("__signed", WP_SPEC_SIGNED),
    SPECIFIER("__signed__", WP_SPEC_SIGNED),
    SPECIFIER("unsigned", WP_SPEC_UNSIGNED),
    SPECIFIER("float", WP_SPEC_FLOAT),
    SPECIFIER("double", WP_SPEC_DOUBLE),
    SPECIFIER("_Complex", WP_SPEC_COMPLEX),
    SPECIFIER("complex", WP_SPEC_COMPLEX),
    SPECIFIER("__complex", WP_SPEC_COMPLEX),
    SPECIFIER("__complex__", WP_SPEC_COMPLEX),
    /* Cython writes `long long` this way in the names of its capsules, also after `unsigned`. */
    SPECIFIER("PY_LONG_LONG", WP_SPEC_LONG | WP_SPEC_LONG_LONG),

    UNSIGNED(size_t),
    SIGNED(ssize_t),
    SIGNED(ptrdiff_t),
    SIGNED(intptr_t),
    UNSIGNED(uintptr_t),
    SIGNED(int8_t),
    UNSIGNED(uint8_t),
    SIGNED(int16_t),
    UNSIGNED(uint16_t),
    SIGNED(int32_t),
    UNSIGNED(uint32_t),
    SIGNED(int64_t),
    UNSIGNED(uint64_t),
    /* Python and NumPy define these two by size: as wide as size_t and as a pointer. */
    {"Py_ssize_t", WP_ROLE_TYPEDEF, 0, SIGNED_TYPE(size_t)},
    {"npy_intp", WP_ROLE_TYPEDEF, 0, SIGNED_TYPE(intptr_t)},

    OTHER("const", WP_ROLE_CONST),
    OTHER("__const", WP_ROLE_CONST),
    OTHER("__const__", WP_ROLE_CONST),
    OTHER("volatile", WP_ROLE_VOLATILE),
    OTHER("__volatile", WP_ROLE_VOLATILE),
    OTHER("__volatile__", WP_ROLE_VOLATILE),
    OTHER("restrict", WP_ROLE_RESTRICT),
    OTHER("__restrict", WP_ROLE_RESTRICT),
    OTHER("__restrict__", WP_ROLE_RESTRICT),
    OTHER("struct", WP_ROLE_STRUCT),
    OTHER("union", WP_ROLE_STRUCT),
    OTHER("enum", WP_ROLE_ENUM),
    OTHER("extern", WP_ROLE_STORAGE),
    OTHER("static", WP_ROLE_STORAGE),
    OTHER("inline", WP_ROLE_STORAGE),
    OTHER("__inline", WP_ROLE_STORAGE),
    OTHER("__inline__", WP_ROLE_STORAGE),
    OTHER("__extension__", WP_ROLE_STORAGE),

    /* Without these rows `unsigned __int128` would be an unsigned int named __int128, and so on. */
    OTHER("__int128", WP_ROLE_REFUSED),
    OTHER("__int128_t", WP_ROLE_REFUSED),
    OTHER("__uint128_t", WP_ROLE_REFUSED),
    OTHER("__int64", WP_ROLE_REFUSED),
    OTHER("__int32", WP_ROLE_REFUSED),
    OTHER("__int16", WP_ROLE_REFUSED),
    OTHER("__int8", WP_ROLE_REFUSED),
    OTHER("_BitInt", WP_ROLE_REFUSED),
    OTHER("_ExtInt", WP_ROLE_REFUSED),
    OTHER("_Float16", WP_ROLE_REFUSED),
    OTHER("_Float32", WP_ROLE_REFUSED),
    OTHER("_Float64", WP_ROLE_REFUSED),
    OTHER("_Float128", WP_ROLE_REFUSED),
    OTHER("_Float16x", WP_ROLE_REFUSED),
    OTHER("_Float32x", WP_ROLE_REFUSED),
    OTHER("_Float64x", WP_ROLE_REFUSED),
    OTHER("_Float128x", WP_ROLE_REFUSED),
    OTHER("__fp16", WP_ROLE_REFUSED),
    OTHER("__bf16", WP_ROLE_REFUSED),
    OTHER("__float80", WP_ROLE_REFUSED),
    OTHER("__float128", WP_ROLE_REFUSED),
    OTHER("__ibm128", WP_ROLE_REFUSED),
    OTHER("__ieee128", WP_ROLE_REFUSED),
    OTHER("_Decimal32", WP_ROLE_REFUSED),
    OTHER("_Decimal64", WP_ROLE_REFUSED),
    OTHER("_Decimal128", WP_ROLE_REFUSED),
    OTHER("_Decimal64x", WP_ROLE_REFUSED),
    OTHER("_Imaginary", WP_ROLE_REFUSED),
    OTHER("_Fract", WP_ROLE_REFUSED),
    OTHER("_Accum", WP_ROLE_REFUSED),
    OTHER("_Sat", WP_ROLE_REFUSED),
    OTHER("_Atomic", WP_ROLE_REFUSED),
    OTHER("_Alignas", WP_ROLE_REFUSED),
    OTHER("_Alignof", WP_ROLE_REFUSED),
    OTHER("_Noreturn", WP_ROLE_REFUSED),
    OTHER("_Thread_local", WP_ROLE_REFUSED),
    OTHER("_Generic", WP_ROLE_REFUSED),
    OTHER("_Static_assert", WP_ROLE_REFUSED),
    OTHER("_Nonnull", WP_ROLE_REFUSED),
    OTHER("_Nullable", WP_ROLE_REFUSED),
    OTHER("_Null_unspecified", WP_ROLE_REFUSED),
    OTHER("__vector", WP_ROLE_REFUSED),
    OTHER("__vector4", WP_ROLE_REFUSED),
    OTHER("__pixel", WP_ROLE_REFUSED),
    OTHER("__thread", WP_ROLE_REFUSED),
    OTHER("__attribute", WP_ROLE_REFUSED),
    OTHER("__declspec", WP_ROLE_REFUSED),
    OTHER("__asm", WP_ROLE_REFUSED),
    OTHER("__alignof", WP_ROLE_REFUSED),
    OTHER("__typeof", WP_ROLE_REFUSED),
    OTHER("__typeof_unqual", WP_ROLE_REFUSED),
    OTHER("__auto_type", WP_ROLE_REFUSED),
    OTHER("__cdecl", WP_ROLE_REFUSED),
    OTHER("__stdcall", WP_ROLE_REFUSED),
    OTHER("__fastcall", WP_ROLE_REFUSED),
    OTHER("__thiscall", WP_ROLE_REFUSED),
    OTHER("__vectorcall", WP_ROLE_REFUSED),
    OTHER("__regcall", WP_ROLE_REFUSED),
    OTHER("__pascal", WP_ROLE_REFUSED),
    OTHER("__forceinline", WP_ROLE_REFUSED),
    OTHER("__unaligned", WP_ROLE_REFUSED),
    OTHER("__ptr32", WP_ROLE_REFUSED),
    OTHER("__ptr64", WP_ROLE_REFUSED),
    OTHER("typedef", WP_ROLE_REFUSED),
    OTHER("typeof", WP_ROLE_REFUSED),
    OTHER("typeof_unqual", WP_ROLE_REFUSED),
    OTHER("alignas", WP_ROLE_REFUSED),
    OTHER("thread_local", WP_ROLE_REFUSED),
    OTHER("constexpr", WP_ROLE_REFUSED),
    OTHER("auto", WP_ROLE_REFUSED),
    OTHER("register", WP_ROLE_REFUSED),
    OTHER("sizeof", WP_ROLE_REFUSED),
    OTHER("return", WP_ROLE_REFUSED),
    OTHER("if", WP_ROLE_REFUSED),
    OTHER("else", WP_ROLE_REFUSED),
    OTHER("for", WP_ROLE_REFUSED),
    OTHER("do", WP_ROLE_REFUSED),
    OTHER("while", WP_ROLE_REFUSED),
    OTHER("goto", WP_ROLE_REFUSED),
    OTHER("switch", WP_ROLE_REFUSED),
    OTHER("case", WP_ROLE_REFUSED),
    OTHER("default", WP_ROLE_REFUSED),
    OTHER("break", WP_ROLE_REFUSED),
    OTHER("continue", WP_ROLE_REFUSED),
};

static const wp_sig_word plain_name = OTHER("", WP_ROLE_NAME);
static const wp_sig_word reserved_name = OTHER("", WP_ROLE_REFUSED);

/* Compilers write keywords of their own this way, __complex__, and nobody a parameter: to take one that is not listed for
 * a name could be to miss a part of the type. */
static bool
is_reserved(const char *text, size_t length)
{
    return length > 4 && memcmp(text, "__", 2) == 0 && memcmp(text + length - 2, "__", 2) == 0;
}

const wp_sig_word *
wp_sig_word_find(const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i].text) == length && memcmp(words[i].text, text, length) == 0) {
            return &words[i];
        }
    }
    return is_reserved(text, length) ? &reserved_name : &plain_name;
}

#define LONG_LONG (WP_SPEC_LONG | WP_SPEC_LONG_LONG)
#define NO_LONG_DOUBLE "'long double' by value is not supported (wrap it in a C function that takes or returns double)"
#define NO_COMPLEX                                                                                                     \
    "complex numbers by value are not supported (wrap it in a C function that takes or fills in a pointer)"

/* Every row that holds an integer wider or narrower than int has WP_SPEC_INT too, because the
 * word is optional there and wp_sig_form_find() supplies it. */
static const wp_sig_form forms[] = {
    {WP_SPEC_VOID, "void", WP_TYPE_VOID, NULL},
    {WP_SPEC_BOOL, "bool", WP_TYPE_BOOL, NULL},
    {WP_SPEC_CHAR, "char", CHAR_MIN < 0 ? WP_TYPE_I8 : WP_TYPE_U8, NULL},
    {WP_SPEC_SIGNED | WP_SPEC_CHAR, "signed char", WP_TYPE_I8, NULL},
    {WP_SPEC_UNSIGNED | WP_SPEC_CHAR, "unsigned char", WP_TYPE_U8, NULL},
    {WP_SPEC_SHORT | WP_SPEC_INT, "short", SIGNED_TYPE(short), NULL},
    {WP_SPEC_UNSIGNED | WP_SPEC_SHORT | WP_SPEC_INT, "unsigned short", UNSIGNED_TYPE(short), NULL},
    {WP_SPEC_INT, "int", SIGNED_TYPE(int), NULL},
    {WP_SPEC_UNSIGNED | WP_SPEC_INT, "unsigned int", UNSIGNED_TYPE(int), NULL},
    {WP_SPEC_LONG | WP_SPEC_INT, "long", SIGNED_TYPE(long), NULL},
    {WP_SPEC_UNSIGNED | WP_SPEC_LONG | WP_SPEC_INT, "unsigned long", UNSIGNED_TYPE(long), NULL},
    {LONG_LONG | WP_SPEC_INT, "long long", SIGNED_TYPE(long long), NULL},
    {WP_SPEC_UNSIGNED | LONG_LONG | WP_SPEC_INT, "unsigned long long", UNSIGNED_TYPE(long long), NULL},
    {WP_SPEC_FLOAT, "float", WP_TYPE_F32, NULL},
    {WP_SPEC_DOUBLE, "double", WP_TYPE_F64, NULL},
    {WP_SPEC_LONG | WP_SPEC_DOUBLE, "long double", WP_TYPE_VOID, NO_LONG_DOUBLE},
    {WP_SPEC_COMPLEX | WP_SPEC_FLOAT, "float _Complex", WP_TYPE_VOID, NO_COMPLEX},
    {WP_SPEC_COMPLEX | WP_SPEC_DOUBLE, "double _Complex", WP_TYPE_VOID, NO_COMPLEX},
    {WP_SPEC_COMPLEX | WP_SPEC_LONG | WP_SPEC_DOUBLE, "long double _Complex", WP_TYPE_VOID, NO_COMPLEX},
};

/* Supplies the `int` that C lets one leave out, and drops the `signed` that it lets one add; after
 * that each type is spelled by one set of bits only. For char both words matter and stay. */
static unsigned
reduced(unsigned specifiers)
{
    const unsigned sizes = WP_SPEC_SHORT | LONG_LONG | WP_SPEC_SIGNED | WP_SPEC_UNSIGNED;
    const bool is_integer = (specifiers & ~(sizes | WP_SPEC_INT)) == 0;
    if (!is_integer) {
        return specifiers;
    }
    const bool is_contradictory = (specifiers & WP_SPEC_SIGNED) && (specifiers & WP_SPEC_UNSIGNED);
    const unsigned redundant = is_contradictory ? 0 : WP_SPEC_SIGNED;
    return (specifiers | WP_SPEC_INT) & ~redundant;
}

const wp_sig_form *
wp_sig_form_find(unsigned specifiers)
{
    const unsigned wanted = reduced(specifiers);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (forms[i].specifiers == wanted) {
            return &forms[i];
        }
    }
    return NULL;
}
