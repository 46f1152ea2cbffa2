/*
 * Any text as a signature (csrc/native/wp_signature.c): nothing is read or written out of bounds, an error says where and
 * why, and what is accepted is a signature that can be used.
 *
 * INPUT. The text itself, up to its first NUL. signature.dict has the words.
 *
 * CHECKED. Of a refused text: the error is one line of printable ASCII at a place in the text. Of an accepted one: each
 * type is one that the place allows; it has as many parameters as commas outside of inner brackets say; what
 * wp_signature_format() writes fits the length it returns, in buffers of all sizes, and parses to an equal signature,
 * with nothing left to normalise; libffi and the loops take it.
 */
#include "wp_loop.h"

#include "fuzz.h"

static bool
is_printable(const char *text)
{
    while (*text >= ' ' && *text < 0x7f) {
        text++;
    }
    return *text == '\0';
}

/* ---- What is refused ---- */

static void
check_refusal(int status, const char *text, const wp_signature *signature, const wp_signature_error *error)
{
    FUZZ_CHECK(status == WP_SIG_INVALID);
    FUZZ_CHECK(signature == NULL);
    FUZZ_CHECK(error->position <= strlen(text));
    FUZZ_CHECK(memchr(error->message, '\0', sizeof error->message) != NULL);
    FUZZ_CHECK(error->message[0] != '\0' && is_printable(error->message));
}

/* ---- What is accepted ---- */

static void
check_type(const wp_param *param, bool is_result)
{
    const bool is_pointer = param->type == WP_TYPE_PTR || param->type == WP_TYPE_JOB;
    FUZZ_CHECK((unsigned)param->type < WP_N_TYPES);
    FUZZ_CHECK(param->type != (is_result ? WP_TYPE_JOB : WP_TYPE_VOID));
    FUZZ_CHECK(is_pointer || !param->is_const);
    FUZZ_CHECK((unsigned)param->pointee <= WP_TYPE_PTR);
    FUZZ_CHECK(is_pointer || param->pointee == WP_TYPE_VOID);
    FUZZ_CHECK(param->spelling[0] != '\0' && is_printable(param->spelling));
}

/* The parameters begin at the first parenthesis, because nothing before it may have one. */
static size_t
count_params(const char *text)
{
    const char *at = strchr(text, '(') + 1;
    size_t depth = 1;
    size_t commas = 0;
    for (; depth > 0; at++) {
        depth += *at == '(' || *at == '[';
        depth -= *at == ')' || *at == ']';
        commas += *at == ',' && depth == 1;
    }
    return commas + 1;
}

static bool
is_equal(const wp_param *a, const wp_param *b)
{
    return a->type == b->type && a->is_const == b->is_const && a->pointee == b->pointee &&
           strcmp(a->spelling, b->spelling) == 0;
}

static void
check_equal(const wp_signature *a, const wp_signature *b)
{
    FUZZ_CHECK(a->n_params == b->n_params);
    FUZZ_CHECK(is_equal(&a->result, &b->result));
    for (size_t i = 0; i < a->n_params; i++) {
        FUZZ_CHECK(is_equal(&a->params[i], &b->params[i]));
    }
}

/* Too short a buffer gets the beginning and a NUL, and nothing behind that. */
static void
check_short_buffer(const wp_signature *signature, const char *whole, size_t size)
{
    char *buf = fuzz_block(size);
    FUZZ_CHECK(wp_signature_format(signature, size > 0 ? buf : NULL, size) == (int)strlen(whole));
    if (size > 0) {
        FUZZ_CHECK(strlen(buf) == size - 1 && strncmp(buf, whole, size - 1) == 0);
    }
    free(buf);
}

static void
check_format(const wp_signature *signature)
{
    const int length = wp_signature_format(signature, NULL, 0);
    char *text = fuzz_block((size_t)length + 1);
    wp_signature *again;
    FUZZ_CHECK(wp_signature_format(signature, text, (size_t)length + 1) == length);
    FUZZ_CHECK(strlen(text) == (size_t)length && is_printable(text));
    check_short_buffer(signature, text, (size_t)length / 2);
    check_short_buffer(signature, text, (size_t)length);
    FUZZ_CHECK(wp_signature_parse(text, &again, NULL) == WP_SIG_OK);
    check_equal(signature, again);
    wp_signature_free(again);
    free(text);
}

static int
do_nothing(void)
{
    return 0;
}

/* Only prepared: a function of this type is nowhere. See fuzz_call.c. */
static void
check_use(const wp_signature *signature)
{
    for (int forced = 0; forced < 2; forced++) {
        wp_call call;
        wp_loop loop;
        const int status = wp_call_prepare(&call, signature, forced != 0);
#if defined(WP_HAVE_LIBFFI)
        FUZZ_CHECK(status == WP_CALL_OK);
#endif
        if (status == WP_CALL_OK && signature->result.type != WP_TYPE_VOID) {
            wp_loop_prepare(&loop, signature, &call, (wp_fn)do_nothing, WP_LOOP_UNCHECKED);
            FUZZ_CHECK(loop.n_operands == signature->n_params + 1);
        }
        wp_call_release(&call);
    }
}

static void
check_signature(const wp_signature *signature, const char *text)
{
    FUZZ_CHECK(signature->n_params <= WP_SIGNATURE_MAX_PARAMS);
    FUZZ_CHECK(signature->n_params == 0 || signature->n_params == count_params(text));
    check_type(&signature->result, true);
    for (size_t i = 0; i < signature->n_params; i++) {
        check_type(&signature->params[i], false);
    }
    check_format(signature);
    check_use(signature);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 0 ? memchr(data, '\0', size) : NULL;
    const size_t length = nul != NULL ? (size_t)(nul - data) : size;
    char *text = fuzz_block(length + 1);
    wp_signature *signature, *unexplained;
    wp_signature_error error;
    for (size_t i = 0; i < length; i++) {
        text[i] = (char)data[i];
    }
    text[length] = '\0';
    const int status = wp_signature_parse(text, &signature, &error);
    FUZZ_CHECK(wp_signature_parse(text, &unexplained, NULL) == status);
    if (status == WP_SIG_OK) {
        check_signature(signature, text);
    } else {
        check_refusal(status, text, signature, &error);
    }
    wp_signature_free(unexplained);
    wp_signature_free(signature);
    free(text);
    return 0;
}
