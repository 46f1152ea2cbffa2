/*
 * What the routes of a call share. Internal to this room: included by wp_call*.c only.
 *
 * A route is offered a call whose n_params, result_mask and result_sign are set, and everything
 * else zero. If it serves the signature it sets `loop` and what it needs besides, and returns
 * WP_CALL_OK. Otherwise it leaves the call as it was and returns WP_CALL_UNSUPPORTED or
 * WP_CALL_NOMEM.
 */
#ifndef WP_CALL_ROUTES_H
#define WP_CALL_ROUTES_H

#include "wp_call.h"

int wp_call_direct_prepare(wp_call *call, const wp_signature *signature);

int wp_call_ffi_prepare(wp_call *call, const wp_signature *signature);

/* Frees call->ffi, which may be NULL. */
void wp_call_ffi_release(wp_call *call);

/* The bits of a result that count, extended from their width to 64 bits: flipping the sign bit and
 * taking it away again borrows through all the bits above it if it was set. Void has no bits. */
static inline uint64_t
wp_call_cut(uint64_t raw, uint64_t mask, uint64_t sign)
{
    return ((raw & mask) ^ sign) - sign;
}

#endif
