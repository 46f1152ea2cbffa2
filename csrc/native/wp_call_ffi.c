/*
 * The libffi route: calling whatever the direct route cannot.
 *
 * PURPOSE. libffi knows the calling conventions of nearly every platform. It is slower than the
 * direct route, so it serves what is left: long signatures, and platforms without a direct route.
 * It also is what the direct route is tested against.
 *
 * DESIGN. A call interface (ffi_cif) is prepared once and refers to an array of types, so both
 * stand in one block. For each call libffi wants an array of pointers to the arguments, each in
 * memory as its C type. On a little-endian machine the slot of an argument is that memory already;
 * on a big-endian one the value is at the end of its slot.
 *
 * Integral results narrower than a register are widened by libffi to an ffi_arg, and must be read
 * as one; they are cut to their width afterwards as on the direct route.
 *
 * GUARANTEES. libffi writes to an ffi_type only to lay out a struct; there are none here, so
 * preparing needs no lock. An ffi_cif is only read by ffi_call(), so that threads can share it.
 *
 * Built without WP_HAVE_LIBFFI this route serves nothing.
 */
#include "wp_call_routes.h"

#if !defined(WP_HAVE_LIBFFI)

int
wp_call_ffi_prepare(wp_call *call, const wp_signature *signature)
{
    (void)call;
    (void)signature;
    return WP_CALL_UNSUPPORTED;
}

void
wp_call_ffi_release(wp_call *call)
{
    (void)call;
}

#else

#include <ffi.h>
#include <stdlib.h>
#include <string.h>

typedef struct wp_ffi {
    ffi_cif cif;
    wp_type result;
    ffi_type *types[WP_SIGNATURE_MAX_PARAMS];
    uint8_t offsets[WP_SIGNATURE_MAX_PARAMS]; /* of each value in its slot */
} wp_ffi;

/* Room for any scalar result, and for the ffi_arg that libffi makes of a narrow one. */
typedef union wp_ffi_result {
    ffi_arg narrow;
    uint64_t wide;
    float f32;
    double f64;
} wp_ffi_result;

static ffi_type *const ffi_types[WP_N_TYPES] = {
    [WP_TYPE_VOID] = &ffi_type_void,   [WP_TYPE_BOOL] = &ffi_type_uint8,  [WP_TYPE_I8] = &ffi_type_sint8,
    [WP_TYPE_U8] = &ffi_type_uint8,    [WP_TYPE_I16] = &ffi_type_sint16,  [WP_TYPE_U16] = &ffi_type_uint16,
    [WP_TYPE_I32] = &ffi_type_sint32,  [WP_TYPE_U32] = &ffi_type_uint32,  [WP_TYPE_I64] = &ffi_type_sint64,
    [WP_TYPE_U64] = &ffi_type_uint64,  [WP_TYPE_F32] = &ffi_type_float,   [WP_TYPE_F64] = &ffi_type_double,
    [WP_TYPE_PTR] = &ffi_type_pointer, [WP_TYPE_JOB] = &ffi_type_pointer,
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static uint8_t
offset_in_slot(wp_type type)
{
    (void)type;
    return 0;
}
#else
static uint8_t
offset_in_slot(wp_type type)
{
    return (uint8_t)(sizeof(uint64_t) - wp_type_describe(type)->size);
}
#endif

/* The raw bits of a result: what its type does not define is cut by the caller. */
static uint64_t
bits_of_result(const wp_ffi_result *result, wp_type type)
{
    const wp_type_traits *traits = wp_type_describe(type);
    uint64_t bits = 0;
    if (traits->is_floating) {
        uint32_t half;
        memcpy(&half, &result->f32, sizeof half);
        memcpy(&bits, &result->f64, sizeof bits);
        return type == WP_TYPE_F32 ? half : bits;
    }
    return traits->size <= sizeof(ffi_arg) ? result->narrow : result->wide;
}

/* Each row is copied to slots that stay where they are, so that the pointers to them are made
 * once. It also keeps libffi, which takes pointers to what is not const, away from the
 * arguments. */
static void
ffi_loop(const wp_call *call, wp_fn fn, const uint64_t *args, uint64_t *results, size_t n)
{
    wp_ffi *const ffi = call->ffi;
    uint64_t slots[WP_SIGNATURE_MAX_PARAMS];
    void *values[WP_SIGNATURE_MAX_PARAMS];
    for (size_t k = 0; k < call->n_params; k++) {
        values[k] = (char *)&slots[k] + ffi->offsets[k];
    }
    for (size_t i = 0; i < n; i++) {
        wp_ffi_result result = {.wide = 0};
        if (call->n_params > 0) {
            memcpy(slots, args + i * call->n_params, call->n_params * sizeof *slots);
        }
        ffi_call(&ffi->cif, fn, &result, values);
        results[i] = wp_call_cut(bits_of_result(&result, ffi->result), call->result_mask, call->result_sign);
    }
}

/* Where variadic arguments travel otherwise than named ones, libffi has to know which are which. */
static ffi_status
prepare_interface(wp_ffi *ffi, const wp_signature *signature)
{
    const unsigned n = (unsigned)signature->n_params;
    ffi_type *const result = ffi_types[ffi->result];
    return signature->is_variadic
               ? ffi_prep_cif_var(&ffi->cif, FFI_DEFAULT_ABI, (unsigned)signature->n_fixed, n, result, ffi->types)
               : ffi_prep_cif(&ffi->cif, FFI_DEFAULT_ABI, n, result, ffi->types);
}

int
wp_call_ffi_prepare(wp_call *call, const wp_signature *signature)
{
    wp_ffi *ffi = calloc(1, sizeof *ffi);
    if (ffi == NULL) {
        return WP_CALL_NOMEM;
    }
    for (size_t i = 0; i < signature->n_params; i++) {
        ffi->types[i] = ffi_types[signature->params[i].type];
        ffi->offsets[i] = offset_in_slot(signature->params[i].type);
    }
    ffi->result = signature->result.type;
    if (prepare_interface(ffi, signature) != FFI_OK) {
        free(ffi);
        return WP_CALL_UNSUPPORTED;
    }
    call->ffi = ffi;
    call->loop = ffi_loop;
    return WP_CALL_OK;
}

void
wp_call_ffi_release(wp_call *call)
{
    free(call->ffi);
    call->ffi = NULL;
}

#endif
