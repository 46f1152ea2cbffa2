/*
 * Declarations of which it is known what they are: the parser (csrc/native/wp_signature.c) has to accept each, and read
 * it as what it was made from.
 *
 * PURPOSE. A second opinion on the parser. fuzz_signature.c knows of a text only that it must not do harm; here the type
 * is first, made up level by level, and the text is written from it by the rules of C, which is the easy direction.
 *
 * INPUT. Choices: the result, then parameters, each a base type, its levels (pointer, array, function) from the name
 * outward, and how to write it: the order of the words, where qualifiers stand, names, parentheses that C allows and
 * nobody needs, white space.
 *
 * CHECKED. Types, constness and pointees of all parameters and of the result.
 */
#include "wp_signature.h"

#include "fuzz.h"

#include <limits.h>
#include <sys/types.h>

enum { MAX_PARAMS = 6, MAX_LEVELS = 5, MAX_TEXT = 4000, MAX_WORDS = 12, MAX_DECLARATOR = 400 };

/* ---- Texts ---- */

typedef struct text {
    size_t length;
    char bytes[MAX_TEXT];
} text;

static void
put(text *t, const char *bytes)
{
    const size_t length = strlen(bytes);
    FUZZ_CHECK(t->length + length < sizeof t->bytes);
    memcpy(t->bytes + t->length, bytes, length + 1);
    t->length += length;
}

static const char *
space(fuzz_input *in)
{
    static const char *const spaces[] = {" ", "\n", "\t ", "  \r\n"};
    return fuzz_one_in(in, 8) ? spaces[fuzz_pick(in, 3)] : " ";
}

static const char *
perhaps_space(fuzz_input *in)
{
    return fuzz_one_in(in, 4) ? space(in) : "";
}

/* ---- Bases ---- */

typedef struct base {
    const char *words[4]; /* in any order */
    wp_type type;
    bool only_by_pointer; /* unknown, or void */
} base;

#define SIGNED_TYPE(T) (sizeof(T) == 4 ? WP_TYPE_I32 : WP_TYPE_I64)
#define UNSIGNED_TYPE(T) (sizeof(T) == 4 ? WP_TYPE_U32 : WP_TYPE_U64)

static const base bases[] = {
    {{"int"}, WP_TYPE_I32, false},
    {{"double"}, WP_TYPE_F64, false},
    {{"void"}, WP_TYPE_VOID, true},
    {{"char"}, CHAR_MIN < 0 ? WP_TYPE_I8 : WP_TYPE_U8, false},
    {{"float"}, WP_TYPE_F32, false},
    {{"bool"}, WP_TYPE_BOOL, false},
    {{"_Bool"}, WP_TYPE_BOOL, false},
    {{"signed", "char"}, WP_TYPE_I8, false},
    {{"unsigned", "char"}, WP_TYPE_U8, false},
    {{"short"}, WP_TYPE_I16, false},
    {{"short", "signed", "int"}, WP_TYPE_I16, false},
    {{"short", "unsigned"}, WP_TYPE_U16, false},
    {{"short", "unsigned", "int"}, WP_TYPE_U16, false},
    {{"signed"}, WP_TYPE_I32, false},
    {{"unsigned"}, WP_TYPE_U32, false},
    {{"unsigned", "int"}, WP_TYPE_U32, false},
    {{"long"}, SIGNED_TYPE(long), false},
    {{"long", "int", "signed"}, SIGNED_TYPE(long), false},
    {{"long", "unsigned"}, UNSIGNED_TYPE(long), false},
    {{"long", "int", "unsigned"}, UNSIGNED_TYPE(long), false},
    {{"long", "long"}, WP_TYPE_I64, false},
    {{"long", "int", "long", "signed"}, WP_TYPE_I64, false},
    {{"long", "unsigned", "long"}, WP_TYPE_U64, false},
    {{"long", "unsigned", "int", "long"}, WP_TYPE_U64, false},
    {{"PY_LONG_LONG"}, WP_TYPE_I64, false},
    {{"PY_LONG_LONG", "unsigned"}, WP_TYPE_U64, false},
    {{"size_t"}, UNSIGNED_TYPE(size_t), false},
    {{"ssize_t"}, SIGNED_TYPE(ssize_t), false},
    {{"ptrdiff_t"}, SIGNED_TYPE(ptrdiff_t), false},
    {{"intptr_t"}, SIGNED_TYPE(intptr_t), false},
    {{"uintptr_t"}, UNSIGNED_TYPE(uintptr_t), false},
    {{"Py_ssize_t"}, SIGNED_TYPE(size_t), false},
    {{"npy_intp"}, SIGNED_TYPE(intptr_t), false},
    {{"int8_t"}, WP_TYPE_I8, false},
    {{"uint8_t"}, WP_TYPE_U8, false},
    {{"int16_t"}, WP_TYPE_I16, false},
    {{"uint16_t"}, WP_TYPE_U16, false},
    {{"int32_t"}, WP_TYPE_I32, false},
    {{"uint32_t"}, WP_TYPE_U32, false},
    {{"int64_t"}, WP_TYPE_I64, false},
    {{"uint64_t"}, WP_TYPE_U64, false},
    {{"wp_job"}, WP_TYPE_VOID, true},
    {{"FILE"}, WP_TYPE_VOID, true},
    {{"sqlite3_stmt"}, WP_TYPE_VOID, true},
    {{"struct stat"}, WP_TYPE_VOID, true},
    {{"struct wp_job"}, WP_TYPE_VOID, true},
    {{"union value"}, WP_TYPE_VOID, true},
    {{"enum color"}, WP_TYPE_VOID, true},
};

enum { N_BASES = sizeof bases / sizeof bases[0] };

static bool
is_void(const base *b)
{
    return strcmp(b->words[0], "void") == 0;
}

/* Writes the words of the base in an order that is chosen, with qualifiers between them, and says whether const was
 * among these. */
static bool
put_base(fuzz_input *in, text *t, const base *b)
{
    const char *words[MAX_WORDS];
    size_t n = 0;
    bool is_const = false;
    while (n < 4 && b->words[n] != NULL) {
        words[n] = b->words[n];
        n++;
    }
    for (size_t i = fuzz_pick(in, 2); i > 0; i--) {
        static const char *const qualifiers[] = {"const", "volatile", "__const", "__volatile__", "const", "extern"};
        words[n++] = qualifiers[fuzz_pick(in, 5)];
        is_const = is_const || strstr(words[n - 1], "const") != NULL;
    }
    for (; n > 0; n--) {
        const size_t next = fuzz_pick(in, n - 1);
        put(t, words[next]);
        put(t, n > 1 ? space(in) : "");
        memmove(words + next, words + next + 1, (n - next - 1) * sizeof words[0]);
    }
    return is_const;
}

/* ---- Declarators ---- */

/* One level: '*', '[' or '('. */
typedef struct level {
    char kind;
    bool is_const;
} level;

/* Levels from the name outward. C has no arrays of functions, nor functions that return functions or arrays. */
static size_t
pick_levels(fuzz_input *in, level *levels, bool must_have_one)
{
    static const char kinds[] = "**[*(";
    const size_t n = fuzz_pick(in, MAX_LEVELS);
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        char kind = kinds[fuzz_pick(in, sizeof kinds - 2)];
        const char last = made > 0 ? levels[made - 1].kind : '*';
        if (last == '(' || (last == '[' && kind == '(')) {
            kind = '*';
        }
        levels[made++] = (level){.kind = kind};
    }
    if (made == 0 && must_have_one) {
        levels[made++] = (level){.kind = '*'};
    }
    return made;
}

/* A declarator grows at both ends of the name. */
typedef struct declarator {
    size_t begin;
    size_t end;
    char bytes[MAX_DECLARATOR];
} declarator;

static void
put_after(declarator *d, const char *bytes)
{
    const size_t length = strlen(bytes);
    FUZZ_CHECK(d->end + length < sizeof d->bytes);
    memcpy(d->bytes + d->end, bytes, length);
    d->end += length;
}

static void
put_before(declarator *d, const char *bytes)
{
    const size_t length = strlen(bytes);
    FUZZ_CHECK(d->begin >= length);
    d->begin -= length;
    memcpy(d->bytes + d->begin, bytes, length);
}

static void
wrap(declarator *d)
{
    put_before(d, "(");
    put_after(d, ")");
}

static const char *
array_text(fuzz_input *in)
{
    static const char *const texts[] = {"[]", "[3]", "[ N ]", "[static 8]", "[2 * (n), x]", "[*]"};
    return texts[fuzz_pick(in, 5)];
}

static const char *
function_text(fuzz_input *in)
{
    static const char *const texts[] = {"(void)", "()", "(int, double)", "(const char *, ...)", "(void (*)(long))"};
    return texts[fuzz_pick(in, 4)];
}

static void
put_star(fuzz_input *in, declarator *d, level *l)
{
    static const char *const qualifiers[] = {
        "", "const ", "volatile ", "restrict ", "__restrict ", "const volatile ", "__restrict__ const "};
    const char *text = qualifiers[fuzz_pick(in, 6)];
    l->is_const = strstr(text, "const") != NULL;
    put_before(d, text);
    put_before(d, perhaps_space(in));
    put_before(d, "*");
}

/* Stars bind less than what follows the name, so that a star inside of an array or function needs parentheses. Others may
 * stand around anything that is there: around nothing they would be a function. */
static void
put_level(fuzz_input *in, declarator *d, level *l, char inner)
{
    const bool is_needed = l->kind != '*' && inner == '*';
    if (is_needed || (d->end > d->begin && d->bytes[d->begin] != '[' && inner != '(' && fuzz_one_in(in, 8))) {
        wrap(d);
    }
    if (l->kind == '*') {
        put_star(in, d, l);
    } else {
        put_after(d, d->end > d->begin ? perhaps_space(in) : "");
        put_after(d, l->kind == '[' ? array_text(in) : function_text(in));
    }
}

static void
put_declarator(fuzz_input *in, text *t, level *levels, size_t n)
{
    static const char *const names[] = {"", "x", "intx", "a_long_name_0", "_"};
    declarator d = {.begin = MAX_DECLARATOR / 2, .end = MAX_DECLARATOR / 2};
    put_after(&d, names[fuzz_pick(in, 4)]);
    for (size_t i = 0; i < n; i++) {
        put_level(in, &d, &levels[i], i > 0 ? levels[i - 1].kind : 0);
    }
    d.bytes[d.end] = '\0';
    put(t, space(in));
    put(t, d.bytes + d.begin);
    put(t, perhaps_space(in));
}

/* ---- What it all means ---- */

/* An array leads to its elements, so that the next level that is none decides; a function leads to nothing that could be
 * const. */
static wp_param
meaning(const base *b, bool base_is_const, const level *levels, size_t n, bool is_result)
{
    if (n == 0) {
        return (wp_param){.type = b->type};
    }
    wp_param param = {.type = WP_TYPE_PTR};
    size_t behind = 1;
    while (behind < n && levels[behind].kind == '[') {
        behind++;
    }
    if (levels[0].kind != '(') {
        const bool is_base = behind == n;
        param.is_const = is_base ? base_is_const : levels[behind].kind == '*' && levels[behind].is_const;
        const bool is_pointer = !is_base && levels[behind].kind == '*';
        const bool is_scalar = is_base && !b->only_by_pointer;
        param.pointee = is_pointer ? WP_TYPE_PTR : is_scalar ? b->type : WP_TYPE_VOID;
        const bool is_job = n == 1 && levels[0].kind == '*' && strstr(b->words[0], "wp_job") != NULL;
        param.type = is_job && !is_result ? WP_TYPE_JOB : WP_TYPE_PTR;
    }
    return param;
}

static wp_param
put_param(fuzz_input *in, text *t)
{
    level levels[MAX_LEVELS];
    const base *b = &bases[fuzz_pick(in, N_BASES - 1)];
    const bool is_const = put_base(in, t, b);
    const size_t n = pick_levels(in, levels, b->only_by_pointer);
    put_declarator(in, t, levels, n);
    return meaning(b, is_const, levels, n, false);
}

/* A result has only pointers, written without parentheses. */
static wp_param
put_result(fuzz_input *in, text *t)
{
    level levels[MAX_LEVELS];
    const base *b = &bases[fuzz_pick(in, N_BASES - 1)];
    const bool is_const = put_base(in, t, b);
    size_t n = fuzz_pick(in, 3);
    n = n == 0 && b->only_by_pointer && !is_void(b) ? 1 : n;
    put(t, " ");
    for (size_t i = n; i-- > 0;) {
        levels[i] = (level){'*', fuzz_one_in(in, 3)};
        put(t, levels[i].is_const ? "*const " : "*");
    }
    put(t, fuzz_one_in(in, 2) ? "some_function" : "");
    return meaning(b, is_const, levels, n, true);
}

static void
check_param(const wp_param *param, const wp_param *expected)
{
    FUZZ_CHECK(param->type == expected->type);
    FUZZ_CHECK(param->is_const == expected->is_const);
    FUZZ_CHECK(param->pointee == expected->pointee);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static text t;
    wp_param params[MAX_PARAMS];
    wp_signature *signature;
    t.length = 0;
    const wp_param result = put_result(&in, &t);
    const size_t n = fuzz_pick(&in, MAX_PARAMS);
    put(&t, perhaps_space(&in));
    put(&t, "(");
    for (size_t i = 0; i < n; i++) {
        put(&t, i > 0 ? "," : "");
        params[i] = put_param(&in, &t);
    }
    put(&t, n == 0 && fuzz_one_in(&in, 2) ? "void)" : ")");
    put(&t, fuzz_one_in(&in, 4) ? ";" : "");
    wp_signature_error error;
    if (wp_signature_parse(t.bytes, &signature, &error) != WP_SIG_OK) {
        (void)fprintf(stderr, "# %s\n# at position %zu: %s\n", t.bytes, error.position, error.message);
        FUZZ_CHECK(signature != NULL);
    }
    FUZZ_CHECK(signature->n_params == n);
    check_param(&signature->result, &result);
    for (size_t i = 0; i < n; i++) {
        check_param(&signature->params[i], &params[i]);
    }
    wp_signature_free(signature);
    return 0;
}
