/*
 * The table behind wp_type.h.
 */
#include "wp_type.h"

static const wp_type_traits traits[WP_N_TYPES] = {
    [WP_TYPE_VOID] = {"void", 0, false, false},
    [WP_TYPE_BOOL] = {"bool", sizeof(bool), false, false},
    [WP_TYPE_I8] = {"i8", 1, true, false},
    [WP_TYPE_U8] = {"u8", 1, false, false},
    [WP_TYPE_I16] = {"i16", 2, true, false},
    [WP_TYPE_U16] = {"u16", 2, false, false},
    [WP_TYPE_I32] = {"i32", 4, true, false},
    [WP_TYPE_U32] = {"u32", 4, false, false},
    [WP_TYPE_I64] = {"i64", 8, true, false},
    [WP_TYPE_U64] = {"u64", 8, false, false},
    [WP_TYPE_F32] = {"f32", 4, false, true},
    [WP_TYPE_F64] = {"f64", 8, false, true},
    [WP_TYPE_PTR] = {"ptr", sizeof(void *), false, false},
    [WP_TYPE_JOB] = {"job", sizeof(void *), false, false},
};

/* A slot is 64 bits and a bool is read from its lowest byte; a platform that breaks either would be
 * called wrongly, so it does not compile. */
_Static_assert(sizeof(bool) == 1, "a bool must be one byte");
_Static_assert(sizeof(long long) == 8 && sizeof(void *) <= 8, "no scalar may exceed a 64-bit slot");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "float and double must be IEEE sizes");

const wp_type_traits *
wp_type_describe(wp_type type)
{
    return &traits[type];
}
