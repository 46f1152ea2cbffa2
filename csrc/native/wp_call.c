/*
 * The choice of a route, and what results look like on every route.
 */
#include "wp_call.h"

#include "wp_call_routes.h"

/* A mask with the low `bytes` bytes set. Shifting by the full width would be undefined. */
static uint64_t
mask_of(size_t bytes)
{
    return bytes == 0 ? 0 : UINT64_MAX >> (64 - 8 * bytes);
}

/* A bool is a byte that is 0 or not: the ABIs promise 0 or 1, but a function written in another
 * language may mean any byte that is not zero, and Python gets True or False and nothing else. */
static void
bool_loop(const wp_call *call, wp_fn fn, const uint64_t *args, uint64_t *results, size_t n)
{
    call->inner_loop(call, fn, args, results, n);
    for (size_t i = 0; i < n; i++) {
        results[i] = results[i] != 0;
    }
}

static void
amend_bool(wp_call *call)
{
    call->inner_loop = call->loop;
    call->loop = bool_loop;
}

static int
prepare_some_route(wp_call *call, const wp_signature *signature, bool force_libffi)
{
    const int status = force_libffi ? WP_CALL_UNSUPPORTED : wp_call_direct_prepare(call, signature);
    return status == WP_CALL_UNSUPPORTED ? wp_call_ffi_prepare(call, signature) : status;
}

int
wp_call_prepare(wp_call *call, const wp_signature *signature, bool force_libffi)
{
    const wp_type_traits *result = wp_type_describe(signature->result.type);
    const uint64_t mask = mask_of(result->size);
    *call = (wp_call){
        .n_params = signature->n_params,
        .result_mask = mask,
        .result_sign = result->is_signed ? mask ^ (mask >> 1) : 0,
    };
    const int status = prepare_some_route(call, signature, force_libffi);
    if (status == WP_CALL_OK && signature->result.type == WP_TYPE_BOOL) {
        amend_bool(call);
    }
    return status;
}

void
wp_call_release(wp_call *call)
{
    wp_call_ffi_release(call);
    *call = (wp_call){0};
}

const char *
wp_call_route(const wp_call *call)
{
    if (call->loop == NULL) {
        return "none";
    }
    return call->ffi != NULL ? "libffi" : "direct";
}
