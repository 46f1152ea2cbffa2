/*
 * The parser of wp_signature.h.
 *
 * DESIGN. Recursive descent with one token in hand, over the two halves of a C declaration:
 *
 *   base        the words in front, `const unsigned long` or `struct stat` or `FILE`. Whether that
 *               can be passed by value is known here but not yet asked: `FILE *` is fine.
 *   declarator  the stars, names, brackets and parentheses around the (absent) name. It is read
 *               inside out, and boiled down while it is read to a wp_shape: what the parameter is
 *               in the first place (pointer, array, function or the base itself), and whether that
 *               leads to something const. Deeper levels matter to nobody.
 *
 * While the tokens go by, those of the type are copied, normalised, to an arena behind the
 * signature, one spelling after the other. The arena and the parameters are sized from the text
 * beforehand, so there is one allocation, made before anything is read.
 *
 * ERRORS. The first error is recorded and WP_SIG_INVALID travels up unchanged.
 *
 * GUARANTEES. The recursion is bounded by MAX_DEPTH, the loops by the length of the text.
 */
#include "wp_signature.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wp_lexer.h"
#include "wp_words.h"

/* Parentheses in a declarator, and brackets inside those: far more than anyone can read. */
enum { MAX_DEPTH = 16 };

/* How much of a name an error message repeats. */
enum { MAX_QUOTED = 40 };

/* No machine that this runs on has another int. */
#define SIGNED_INT WP_TYPE_I32
_Static_assert(sizeof(int) == 4, "the type of promoted arguments is another");

typedef struct wp_parser {
    const char *text;
    wp_lexeme token; /* the one not yet consumed */
    wp_signature *signature;
    char *spelling; /* start, in the arena, of the spelling being written */
    char *out;      /* its end, not yet terminated */
    const char *arena_end;
    wp_signature_error *error;
} wp_parser;

/* The words in front of a declarator. */
typedef struct wp_base {
    unsigned specifiers;      /* of the arithmetic types */
    const wp_sig_word *named; /* size_t and the like */
    wp_lexeme other;          /* an unknown name or the tag of a struct; its start is NULL if none */
    wp_role tag;              /* WP_ROLE_STRUCT or WP_ROLE_ENUM if `other` is a tag, or WP_ROLE_NAME */
    size_t position;          /* of the first word that is more than a qualifier */
    bool is_const;
    wp_type type;        /* by value, if there is no refusal */
    const char *refusal; /* NULL, or why not by value; ends where `other` is quoted */
    const char *hint;    /* the rest of that sentence */
} wp_base;

/* What a declarator makes of its base, seen from the name. `first`, `second` and `last` are '*', '[' or '(',
 * or 0 for a declarator that adds nothing. */
typedef struct wp_shape {
    char first;
    char second;
    char last;
    unsigned n_levels;
    bool pointee_is_known; /* some level behind the first decides; otherwise the base does */
    bool pointee_is_const;
    bool pointee_is_pointer; /* so memory behind it holds addresses */
} wp_shape;

/* ------------------------------------------------------------------------------------------------
 * Errors.
 */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static int
fail(wp_parser *p, size_t position, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    p->error->position = position;
    (void)vsnprintf(p->error->message, sizeof p->error->message, format, arguments);
    va_end(arguments);
    return WP_SIG_INVALID;
}

static size_t
here(const wp_parser *p)
{
    return (size_t)(p->token.start - p->text);
}

/* The length of a token for "%.*s". */
static int
quoted(wp_lexeme token)
{
    return token.length < MAX_QUOTED ? (int)token.length : MAX_QUOTED;
}

/* A byte that is no part of any signature is shown as a number unless it is printable, so that a
 * message is ASCII whatever the text was. */
static int
fail_on_byte(wp_parser *p)
{
    const unsigned char byte = (unsigned char)*p->token.start;
    if (byte > ' ' && byte < 0x7f) {
        return fail(p, here(p), "unexpected character '%c'", byte);
    }
    return fail(p, here(p), "unexpected byte 0x%02x", byte);
}

/* The token in hand is not what should stand here. */
static int
fail_expected(wp_parser *p, const char *expected)
{
    if (p->token.kind == WP_LEX_BAD) {
        return fail_on_byte(p);
    }
    if (p->token.kind == WP_LEX_ELLIPSIS) {
        return fail(p, here(p),
                    "'...' stands once, after a parameter and a comma; behind it, the types of this call's other "
                    "arguments ('int (const char *, ..., double)')");
    }
    if (p->token.kind == WP_LEX_END) {
        return fail(p, here(p), "expected %s, but the text ends", expected);
    }
    return fail(p, here(p), "expected %s, not '%.*s'", expected, quoted(p->token), p->token.start);
}

/* ------------------------------------------------------------------------------------------------
 * Consuming tokens, writing spellings.
 */

static void
advance(wp_parser *p)
{
    p->token = wp_lexeme_after(p->token);
}

static bool
take_if(wp_parser *p, int kind)
{
    const bool is_here = p->token.kind == kind;
    if (is_here) {
        advance(p);
    }
    return is_here;
}

/* The word in hand, or NULL if the token in hand is none. */
static const wp_sig_word *
peek_word(const wp_parser *p)
{
    return p->token.kind == WP_LEX_WORD ? wp_sig_word_find(p->token.start, p->token.length) : NULL;
}

/* C is usually written "const char *const *", "int (*)(void *, int)", "double[3]": a space after
 * each comma, between words, and before a star or a parenthesis that follows a word. */
static bool
needs_space(char previous, char next)
{
    if (previous == ',') {
        return true;
    }
    if (wp_is_word_char(previous)) {
        return wp_is_word_char(next) || next == '*' || next == '(';
    }
    return previous == ')' && wp_is_word_char(next);
}

static void
put(wp_parser *p, const char *text, size_t length)
{
    const bool spaced = p->out > p->spelling && needs_space(p->out[-1], *text);
    /* See arena_size() for why this holds. */
    assert((size_t)(p->arena_end - p->out) > length + spaced);
    if (spaced) {
        *p->out++ = ' ';
    }
    memcpy(p->out, text, length);
    p->out += length;
}

static void
put_text(wp_parser *p, const char *text)
{
    put(p, text, strlen(text));
}

/* Copies the token in hand to the spelling and consumes it. */
static void
keep(wp_parser *p)
{
    put(p, p->token.start, p->token.length);
    advance(p);
}

static const char *
finish_spelling(wp_parser *p)
{
    const char *finished = p->spelling;
    *p->out++ = '\0';
    p->spelling = p->out;
    return finished;
}

/* ------------------------------------------------------------------------------------------------
 * The base: `const unsigned long`, `struct stat`, `FILE`.
 */

static bool
has_type(const wp_base *base)
{
    return base->specifiers != 0 || base->named != NULL || base->other.start != NULL;
}

static int
fail_on_second_type(wp_parser *p)
{
    return fail(p, here(p), "'%.*s' cannot be combined with the type before it", quoted(p->token), p->token.start);
}

/* A second `long` is another specifier than the first. */
static unsigned
contribution(const wp_base *base, const wp_sig_word *word)
{
    const bool is_second_long = word->specifiers == WP_SPEC_LONG && (base->specifiers & WP_SPEC_LONG) != 0;
    return is_second_long ? WP_SPEC_LONG_LONG : word->specifiers;
}

/* Asking at every word, and not only after the last, finds the word at fault. `_Complex` alone
 * is the only specifier that means nothing yet. */
static bool
may_become_a_type(unsigned specifiers)
{
    return wp_sig_form_find(specifiers) != NULL || wp_sig_form_find(specifiers | WP_SPEC_DOUBLE) != NULL;
}

static int
take_specifier(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    const unsigned bits = contribution(base, word);
    const bool is_alone = base->named == NULL && base->other.start == NULL;
    const bool is_repeated = (base->specifiers & bits) != 0;
    if (!is_alone || is_repeated || !may_become_a_type(base->specifiers | bits)) {
        return fail_on_second_type(p);
    }
    base->specifiers |= bits;
    advance(p);
    return WP_SIG_OK;
}

static int
take_typedef(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    if (has_type(base)) {
        return fail_on_second_type(p);
    }
    base->named = word;
    advance(p);
    return WP_SIG_OK;
}

/* struct, union or enum, which are still in hand, and the tag. */
static int
take_tag(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    if (has_type(base)) {
        return fail_on_second_type(p);
    }
    put_text(p, word->text);
    advance(p);
    const wp_sig_word *tag = peek_word(p);
    if (tag == NULL || tag->role != WP_ROLE_NAME) {
        return fail_expected(p, "the name of the struct, union or enum");
    }
    base->tag = word->role;
    base->other = p->token;
    keep(p);
    return WP_SIG_OK;
}

static int
take_unknown(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    base->tag = word->role;
    base->other = p->token;
    keep(p);
    return WP_SIG_OK;
}

/* What has been looked for already, by put_qualifier(), or says nothing about a call. */
static int
take_silently(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    base->is_const = base->is_const || word->role == WP_ROLE_CONST;
    advance(p);
    return WP_SIG_OK;
}

static int
refuse_restrict(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    (void)base;
    return fail(p, here(p), "'%s' qualifies a pointer (write it after the '*')", word->text);
}

static int
refuse_word(wp_parser *p, wp_base *base, const wp_sig_word *word)
{
    (void)base;
    (void)word;
    return fail(p, here(p), "'%.*s' is not supported in a signature", quoted(p->token), p->token.start);
}

/* What consumes a word of the base, by its role. */
static int (*const takers[])(wp_parser *p, wp_base *base, const wp_sig_word *word) = {
    [WP_ROLE_NAME] = take_unknown,      [WP_ROLE_SPECIFIER] = take_specifier,
    [WP_ROLE_TYPEDEF] = take_typedef,   [WP_ROLE_CONST] = take_silently,
    [WP_ROLE_VOLATILE] = take_silently, [WP_ROLE_RESTRICT] = refuse_restrict,
    [WP_ROLE_STRUCT] = take_tag,        [WP_ROLE_ENUM] = take_tag,
    [WP_ROLE_STORAGE] = take_silently,  [WP_ROLE_REFUSED] = refuse_word,
};

/* Whether the word belongs to the base. An unknown word after the type is the name of what is
 * declared, and ends it. */
static bool
belongs_to_base(const wp_base *base, const wp_sig_word *word)
{
    return word != NULL && !(word->role == WP_ROLE_NAME && has_type(base));
}

static int
resolve_arithmetic(wp_parser *p, wp_base *base)
{
    const wp_sig_form *form = wp_sig_form_find(base->specifiers);
    if (form == NULL) {
        return fail(p, base->position, "this combination of words is not a C type");
    }
    base->type = form->type;
    base->refusal = form->refusal;
    base->hint = "";
    put_text(p, form->spelling);
    return WP_SIG_OK;
}

/* Types that only a pointer can lead to. Their spelling has been written when they were read. */
static void
resolve_other(wp_base *base)
{
    static const struct {
        const char *refusal, *hint;
    } sentences[] = {
        [WP_ROLE_NAME] = {"unknown type '", "' (write the C integer, floating or pointer type that it stands for)"},
        [WP_ROLE_STRUCT] = {"struct or union '", "' by value is not supported (wrap it in a C function "
                                                 "that takes or fills in a pointer)"},
        [WP_ROLE_ENUM] = {"enum '", "' by value is not supported (write the integer type that it has, mostly "
                                    "unsigned int; int if an enumerator is negative)"},
    };
    base->refusal = sentences[base->tag].refusal;
    base->hint = sentences[base->tag].hint;
}

static int
resolve(wp_parser *p, wp_base *base)
{
    if (base->specifiers != 0) {
        return resolve_arithmetic(p, base);
    }
    if (base->named != NULL) {
        base->type = base->named->type;
        put_text(p, base->named->text);
        return WP_SIG_OK;
    }
    resolve_other(base);
    return WP_SIG_OK;
}

static const char *const qualifier_spellings[] = {
    [WP_ROLE_CONST] = "const",
    [WP_ROLE_VOLATILE] = "volatile",
    [WP_ROLE_RESTRICT] = "restrict",
};

/* Writes the qualifier if it is among the words of the base, which are still all to come.
 * Usually it stands before the type, and so it is written; but C lets it follow, `char const *`. */
static void
put_qualifier(wp_parser *p, wp_role qualifier)
{
    for (wp_lexeme t = p->token; t.kind == WP_LEX_WORD; t = wp_lexeme_after(t)) {
        if (wp_sig_word_find(t.start, t.length)->role == qualifier) {
            put_text(p, qualifier_spellings[qualifier]);
            return;
        }
    }
}

static int
parse_base(wp_parser *p, wp_base *base, const char *expected)
{
    *base = (wp_base){.tag = WP_ROLE_NAME};
    put_qualifier(p, WP_ROLE_CONST);
    put_qualifier(p, WP_ROLE_VOLATILE);
    for (const wp_sig_word *word = peek_word(p); belongs_to_base(base, word); word = peek_word(p)) {
        const size_t position = here(p);
        const bool was_untyped = !has_type(base);
        const int status = takers[word->role](p, base, word);
        if (status != WP_SIG_OK) {
            return status;
        }
        if (was_untyped) {
            base->position = position;
        }
    }
    return has_type(base) ? resolve(p, base) : fail_expected(p, expected);
}

/* ------------------------------------------------------------------------------------------------
 * The declarator: everything around the name.
 */

/* Adds one level to the shape, going from the name outward. Behind an array come elements and
 * not yet what is pointed to, so that a level that is an array leaves the question of const
 * open. */
static void
add_level(wp_shape *shape, char kind, bool is_const)
{
    if (shape->first == 0) {
        shape->first = kind;
    } else if (!shape->pointee_is_known && kind != '[') {
        shape->pointee_is_known = true;
        shape->pointee_is_const = is_const;
        shape->pointee_is_pointer = kind == '*';
    }
    if (shape->n_levels == 1) {
        shape->second = kind;
    }
    shape->last = kind;
    shape->n_levels++;
}

typedef struct wp_stars {
    unsigned count;
    bool last_is_const;     /* the star nearest to the name */
    bool previous_is_const; /* the one before it; no star further out can matter */
} wp_stars;

/* Consumes the qualifiers behind a star and says whether const was among them. */
static bool
take_star_qualifiers(wp_parser *p)
{
    bool is_const = false;
    for (const wp_sig_word *word = peek_word(p); word != NULL; word = peek_word(p)) {
        const bool is_qualifier =
            word->role == WP_ROLE_CONST || word->role == WP_ROLE_VOLATILE || word->role == WP_ROLE_RESTRICT;
        if (!is_qualifier) {
            break;
        }
        is_const = is_const || word->role == WP_ROLE_CONST;
        put_text(p, qualifier_spellings[word->role]);
        advance(p);
    }
    return is_const;
}

static wp_stars
parse_stars(wp_parser *p)
{
    wp_stars stars = {0};
    while (p->token.kind == '*') {
        keep(p);
        stars.count++;
        stars.previous_is_const = stars.last_is_const;
        stars.last_is_const = take_star_qualifiers(p);
    }
    return stars;
}

/* The stars stand before the name but bind after what follows it, the last of them first. */
static void
add_stars(wp_shape *shape, const wp_stars *stars)
{
    if (stars->count >= 1) {
        add_level(shape, '*', stars->last_is_const);
    }
    if (stars->count >= 2) {
        add_level(shape, '*', stars->previous_is_const);
    }
    if (stars->count >= 3) {
        shape->n_levels += stars->count - 2;
    }
}

/* Copies a bracket or a parenthesis and what is in it. The parameters of a function that is itself
 * only pointed to may be of any type, since nobody here calls it: they only have to be balanced. */
static int
keep_group(wp_parser *p)
{
    int closers[MAX_DEPTH];
    size_t depth = 0;
    do {
        const int kind = p->token.kind;
        if (kind == '(' || kind == '[') {
            if (depth == MAX_DEPTH) {
                return fail(p, here(p), "nested too deeply (at most %d levels)", MAX_DEPTH);
            }
            closers[depth++] = kind == '(' ? ')' : ']';
        } else if (kind == closers[depth - 1]) {
            depth--;
        } else if (kind == ')' || kind == ']' || kind == ';' || kind == WP_LEX_END || kind == WP_LEX_BAD) {
            return fail_expected(p, closers[depth - 1] == ')' ? "')'" : "']'");
        }
        keep(p);
    } while (depth > 0);
    return WP_SIG_OK;
}

/* C has no arrays of functions, and no functions that return functions or arrays. */
static bool
may_follow(char last, int kind)
{
    return !(last == '(' || (last == '[' && kind == '('));
}

/* Brackets and parentheses behind the name. A parameter that is a function is spelled as the
 * pointer that C makes of it: without a name, `int (foo)` could be anything. */
static int
parse_suffixes(wp_parser *p, wp_shape *shape)
{
    while (p->token.kind == '(' || p->token.kind == '[') {
        const char kind = (char)p->token.kind;
        if (!may_follow(shape->last, kind)) {
            return fail(p, here(p),
                        "C has no arrays of functions, nor functions that return "
                        "functions or arrays (use a pointer)");
        }
        if (shape->first == 0 && kind == '(') {
            put_text(p, "(*)");
        }
        const int status = keep_group(p);
        if (status != WP_SIG_OK) {
            return status;
        }
        add_level(shape, kind, false);
    }
    return WP_SIG_OK;
}

/* A parenthesis after the type either holds the rest of the declarator, as in `int
 * (*compare)(...)`, or, where the name is left out, the parameters of a function, as in `int
 * (double)`. A type after the '(' tells; a word that is no type of ours is taken for a name,
 * `int (x)`. */
static bool
opens_declarator(const wp_parser *p)
{
    const wp_lexeme next = wp_lexeme_after(p->token);
    const bool is_name = next.kind == WP_LEX_WORD && wp_sig_word_find(next.start, next.length)->role == WP_ROLE_NAME;
    return p->token.kind == '(' && (next.kind == '*' || next.kind == '(' || is_name);
}

static int parse_declarator(wp_parser *p, wp_shape *shape, unsigned depth);

/* Parentheses around a star tell what it belongs to; around anything else they are left out. */
static int
parse_nested_declarator(wp_parser *p, wp_shape *shape, unsigned depth)
{
    if (depth == MAX_DEPTH) {
        return fail(p, here(p), "nested too deeply (at most %d levels)", MAX_DEPTH);
    }
    advance(p);
    const bool is_needed = p->token.kind == '*';
    if (is_needed) {
        put_text(p, "(");
    }
    const int status = parse_declarator(p, shape, depth + 1);
    if (status != WP_SIG_OK) {
        return status;
    }
    if (is_needed) {
        put_text(p, ")");
    }
    return take_if(p, ')') ? WP_SIG_OK : fail_expected(p, "')'");
}

/* What stands in the middle of a declarator: a nested one, the name, or nothing. */
static int
parse_middle(wp_parser *p, wp_shape *shape, unsigned depth)
{
    if (opens_declarator(p)) {
        return parse_nested_declarator(p, shape, depth);
    }
    const wp_sig_word *word = peek_word(p);
    if (word != NULL && word->role != WP_ROLE_NAME) {
        return fail_expected(p, "a parameter name, ',' or ')'");
    }
    (void)take_if(p, WP_LEX_WORD);
    return WP_SIG_OK;
}

static int
parse_declarator(wp_parser *p, wp_shape *shape, unsigned depth)
{
    const wp_stars stars = parse_stars(p);
    int status = parse_middle(p, shape, depth);
    if (status == WP_SIG_OK) {
        status = parse_suffixes(p, shape);
    }
    if (status == WP_SIG_OK) {
        add_stars(shape, &stars);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * Parameters and result.
 */

static int
fail_on_value(wp_parser *p, const wp_base *base)
{
    const char *name = base->other.start != NULL ? base->other.start : "";
    return fail(p, base->position, "%s%.*s%s", base->refusal, quoted(base->other), name, base->hint);
}

static bool
is_job(const wp_base *base, const wp_shape *shape)
{
    static const char job[] = "wp_job";
    return shape->first == '*' && shape->n_levels == 1 && base->other.length == sizeof job - 1 &&
           memcmp(base->other.start, job, sizeof job - 1) == 0;
}

/* What a pointer leads to, if that is a scalar, `double *` or `double[3][3]`, or other pointers, `double **` or
 * `double *[3]`. */
static wp_type
pointee(const wp_base *base, const wp_shape *shape)
{
    if (shape->first == '(') {
        return WP_TYPE_VOID;
    }
    if (shape->pointee_is_known) {
        return shape->pointee_is_pointer ? WP_TYPE_PTR : WP_TYPE_VOID;
    }
    return base->refusal == NULL ? base->type : WP_TYPE_VOID;
}

/* Puts base and shape together. An array is the pointer to its elements, a function the pointer to
 * it: that is what C makes of them in a list of parameters. */
static int
complete_param(wp_parser *p, wp_param *param, const wp_base *base, const wp_shape *shape)
{
    if (shape->first == 0 && base->refusal != NULL) {
        return fail_on_value(p, base);
    }
    *param = (wp_param){.type = base->type, .spelling = finish_spelling(p)};
    if (shape->first != 0) {
        const bool const_behind = shape->pointee_is_known ? shape->pointee_is_const : base->is_const;
        param->type = is_job(base, shape) ? WP_TYPE_JOB : WP_TYPE_PTR;
        param->is_function = shape->first == '(' || (shape->first == '*' && shape->second == '(');
        param->is_const = shape->first != '(' && const_behind;
        param->pointee = pointee(base, shape);
    }
    return WP_SIG_OK;
}

static int
parse_param(wp_parser *p)
{
    wp_signature *signature = p->signature;
    wp_shape shape = {0};
    wp_base base;
    if (signature->n_params == WP_SIGNATURE_MAX_PARAMS) {
        return fail(p, here(p), "too many parameters (at most %d)", WP_SIGNATURE_MAX_PARAMS);
    }
    int status = parse_base(p, &base, "the type of a parameter");
    if (status == WP_SIG_OK) {
        status = parse_declarator(p, &shape, 0);
    }
    if (status != WP_SIG_OK) {
        return status;
    }
    if (shape.first == 0 && base.specifiers == WP_SPEC_VOID) {
        return fail(p, base.position,
                    "a parameter cannot be void "
                    "(write 'void *', or '(void)' for no parameters)");
    }
    return complete_param(p, &signature->params[signature->n_params++], &base, &shape);
}

/* What C makes of an argument after the ellipsis: small integers are int, a float is a double. */
static void
promote(wp_param *param)
{
    const wp_type_traits *traits = wp_type_describe(param->type);
    if (param->type == WP_TYPE_F32) {
        *param = (wp_param){.type = WP_TYPE_F64, .spelling = "double"};
    } else if (param->type != WP_TYPE_VOID && traits->size < sizeof(int)) {
        *param = (wp_param){.type = SIGNED_INT, .spelling = "int"};
    }
}

/* The list after a parameter: commas and parameters. Behind an ellipsis, which needs nothing behind it, stand the types
 * of the arguments of these calls. */
static int
parse_more_params(wp_parser *p)
{
    wp_signature *signature = p->signature;
    while (take_if(p, ',')) {
        if (!signature->is_variadic && take_if(p, WP_LEX_ELLIPSIS)) {
            signature->is_variadic = true;
            signature->n_fixed = signature->n_params;
            continue;
        }
        const int status = parse_param(p);
        if (status != WP_SIG_OK) {
            return status;
        }
        if (signature->is_variadic) {
            promote(&signature->params[signature->n_params - 1]);
        }
    }
    return WP_SIG_OK;
}

/* Whether the parentheses hold nothing, written `()` or `(void)`. */
static bool
accept_no_params(wp_parser *p)
{
    const wp_sig_word *word = peek_word(p);
    const wp_lexeme next = wp_lexeme_after(p->token);
    if (word != NULL && word->specifiers == WP_SPEC_VOID && next.kind == ')') {
        advance(p);
    }
    return take_if(p, ')');
}

static int
parse_params(wp_parser *p)
{
    if (!take_if(p, '(')) {
        return fail_expected(p, "'(' and the parameters");
    }
    if (accept_no_params(p)) {
        return WP_SIG_OK;
    }
    int status = parse_param(p);
    if (status == WP_SIG_OK) {
        status = parse_more_params(p);
    }
    if (status != WP_SIG_OK) {
        return status;
    }
    if (!p->signature->is_variadic) {
        p->signature->n_fixed = p->signature->n_params;
    }
    return take_if(p, ')') ? WP_SIG_OK : fail_expected(p, "',' or ')'");
}

/* A '(' and a '*' where the parameters should begin: `int (*)(double)` or `void
 * (*signal(int))(int)`. The first is meant well and is one word away from a signature, the
 * second is out of reach. */
static int
fail_on_function_pointer(wp_parser *p)
{
    return fail(p, here(p),
                "a function pointer cannot be the result, nor the whole "
                "(write the function itself, 'int (double)')");
}

static int
parse_result(wp_parser *p)
{
    wp_shape shape = {0};
    wp_base base;
    int status = parse_base(p, &base, "the type of the result");
    if (status != WP_SIG_OK) {
        return status;
    }
    const wp_stars stars = parse_stars(p);
    add_stars(&shape, &stars);
    status = complete_param(p, &p->signature->result, &base, &shape);
    if (p->signature->result.type == WP_TYPE_JOB) {
        p->signature->result.type = WP_TYPE_PTR;
    }
    return status;
}

/* The name of the function, which is welcome and forgotten. */
static int
skip_function_name(wp_parser *p)
{
    const wp_sig_word *word = peek_word(p);
    if (word != NULL && word->role != WP_ROLE_NAME) {
        return fail_expected(p, "'(' and the parameters");
    }
    (void)take_if(p, WP_LEX_WORD);
    const bool is_function_pointer = p->token.kind == '(' && wp_lexeme_after(p->token).kind == '*';
    return is_function_pointer ? fail_on_function_pointer(p) : WP_SIG_OK;
}

static int
parse_text(wp_parser *p)
{
    int status = parse_result(p);
    if (status == WP_SIG_OK) {
        status = skip_function_name(p);
    }
    if (status == WP_SIG_OK) {
        status = parse_params(p);
    }
    if (status != WP_SIG_OK) {
        return status;
    }
    (void)take_if(p, ';');
    return p->token.kind == WP_LEX_END ? WP_SIG_OK : fail_expected(p, "the end of the text");
}

/* ------------------------------------------------------------------------------------------------
 * The public functions.
 */

/* A parameter more than there are commas is the most that the text can hold. */
static size_t
max_params(const char *text, size_t length)
{
    size_t count = 1;
    for (size_t i = 0; i < length && count < WP_SIGNATURE_MAX_PARAMS; i++) {
        count += text[i] == ',';
    }
    return count;
}

/* What the spellings may need. A token of n bytes is written with at most one space before it
 * and, if it is `unsigned`, four bytes of " int" after it: never more than 2 n. A parameter may
 * get a " (*)", and every parameter and the result have a NUL at the end. */
static size_t
arena_size(size_t length, size_t n_params)
{
    return 2 * length + n_params * sizeof " (*)" + 1;
}

static wp_signature *
allocate(const char *text, size_t length, wp_parser *p)
{
    const size_t n = max_params(text, length);
    const size_t arena_at = sizeof(wp_signature) + n * sizeof(wp_param);
    const size_t arena = arena_size(length, n);
    char *memory = calloc(1, arena_at + arena);
    if (memory == NULL) {
        return NULL;
    }
    p->spelling = memory + arena_at;
    p->out = p->spelling;
    p->arena_end = p->spelling + arena;
    return (wp_signature *)(void *)memory;
}

/* What is written out in full can be longer than it was: `unsigned` becomes "unsigned int", a function "(*)". It has to
 * be a signature itself. */
static int
check_length(wp_parser *p)
{
    if (wp_signature_format(p->signature, NULL, 0) <= WP_SIGNATURE_MAX_TEXT) {
        return WP_SIG_OK;
    }
    return fail(p, here(p), "the text is too long (at most %d bytes when written out in full)", WP_SIGNATURE_MAX_TEXT);
}

int
wp_signature_parse(const char *text, wp_signature **out, wp_signature_error *error)
{
    wp_signature_error unwanted;
    wp_parser parser = {.text = text, .error = error != NULL ? error : &unwanted};
    *out = NULL;
    *parser.error = (wp_signature_error){0};

    const char *end = memchr(text, '\0', WP_SIGNATURE_MAX_TEXT + 1);
    if (end == NULL) {
        return fail(&parser, WP_SIGNATURE_MAX_TEXT, "the text is too long (at most %d bytes)", WP_SIGNATURE_MAX_TEXT);
    }
    parser.signature = allocate(text, (size_t)(end - text), &parser);
    if (parser.signature == NULL) {
        (void)fail(&parser, 0, "out of memory");
        return WP_SIG_NOMEM;
    }
    parser.token = wp_lexeme_read(text);
    int status = parse_text(&parser);
    if (status == WP_SIG_OK) {
        status = check_length(&parser);
    }
    if (status != WP_SIG_OK) {
        wp_signature_free(parser.signature);
        return status;
    }
    *out = parser.signature;
    return WP_SIG_OK;
}

void
wp_signature_free(wp_signature *signature)
{
    free(signature);
}

/* Appends text to a buffer that may be too short for it, and counts all of it. */
typedef struct wp_writer {
    char *buf;
    size_t size;
    size_t length;
} wp_writer;

static void
append(wp_writer *writer, const char *text)
{
    for (; *text != '\0'; text++) {
        if (writer->length + 1 < writer->size) {
            writer->buf[writer->length] = *text;
        }
        writer->length++;
    }
}

static bool
ends_with_star(const char *text)
{
    const size_t length = strlen(text);
    return length > 0 && text[length - 1] == '*';
}

int
wp_signature_format(const wp_signature *signature, char *buf, size_t size)
{
    wp_writer writer = {buf, size, 0};
    append(&writer, signature->result.spelling);
    append(&writer, ends_with_star(signature->result.spelling) ? "(" : " (");
    for (size_t i = 0; i < signature->n_params; i++) {
        append(&writer, i == 0 ? "" : ", ");
        append(&writer, signature->is_variadic && i == signature->n_fixed ? "..., " : "");
        append(&writer, signature->params[i].spelling);
    }
    append(&writer, signature->is_variadic && signature->n_fixed == signature->n_params ? ", ..." : "");
    append(&writer, signature->n_params == 0 ? "void)" : ")");
    if (size > 0) {
        buf[writer.length < size ? writer.length : size - 1] = '\0';
    }
    return (int)writer.length;
}
