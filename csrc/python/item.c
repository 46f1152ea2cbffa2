/* See item.h. */
#include "item.h"

#include <stdint.h>
#include <string.h>

/* The codes of each kind of number. Their widths come with the buffer, since 'l' is 4 or 8 bytes. */
static const char signed_codes[] = "bhilqn";
static const char unsigned_codes[] = "BHILQN";
static const char floating_codes[] = "efdg";

/* What stands before the code of an item, if the machine's own order is meant or none. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static const char own_orders[] = "@=<|^";
#else
static const char own_orders[] = "@=>!|^";
#endif
static const char orders[] = "@=<>!|^";

static bool
is_in(const char *set, char code)
{
    return code != '\0' && strchr(set, code) != NULL;
}

/* Names of fields stand between colons, and say nothing. */
static bool
has_objects(const char *format)
{
    for (bool in_name = false; *format != '\0'; format++) {
        if (*format == ':') {
            in_name = !in_name;
        } else if (*format == 'O' && !in_name) {
            return true;
        }
    }
    return false;
}

/* The width of a code in a format that has a byte order in front; what ctypes says of the targets of its pointers. */
static size_t
standard_size(char code)
{
    return is_in("bB?c", code) ? 1 : is_in("hHe", code) ? 2 : is_in("iIlLf", code) ? 4 : is_in("qQd", code) ? 8 : 0;
}

static bool
is_same_kind(wp_type pointee, char code)
{
    const wp_type_traits *traits = wp_type_describe(pointee);
    if (pointee == WP_TYPE_BOOL) {
        return code == '?';
    }
    return is_in(traits->is_floating ? floating_codes : traits->is_signed ? signed_codes : unsigned_codes, code);
}

static enum wpy_fit
check_scalar(wp_type pointee, const char *format, size_t item_size)
{
    const bool is_own_order = !is_in(orders, *format) || is_in(own_orders, *format);
    const char *code = format + is_in(orders, *format);
    const bool is_scalar = *code != '\0' && code[1] == '\0';
    const size_t size = item_size != 0 ? item_size : standard_size(*code);
    if (!is_scalar || !is_same_kind(pointee, *code) || size != wp_type_describe(pointee)->size) {
        return WPY_OTHER_ITEMS;
    }
    return is_own_order || size == 1 ? WPY_FITS : WPY_SWAPPED_ITEMS;
}

bool
wpy_is_integer_item(const char *format)
{
    const char *code = format != NULL ? format + is_in(orders, *format) : "B";
    return code[0] != '\0' && code[1] == '\0' && (is_in(signed_codes, *code) || is_in(unsigned_codes, *code));
}

/* "P" for c_void_p, "z" and "Z" for strings, "&" and what they lead to for typed ones, "X{}" for functions. */
bool
wpy_is_pointer_item(const char *format)
{
    const char *code = format != NULL ? format + is_in(orders, *format) : "B";
    return *code == '&' || strncmp(code, "X{", 2) == 0 || (is_in("PzZ", *code) && code[1] == '\0');
}

bool
wpy_is_text_item(const char *format)
{
    const char *code = format + is_in(orders, *format);
    return is_in("zZ", *code) && code[1] == '\0';
}

static enum wpy_fit
check_pointer(const char *format, size_t item_size)
{
    const bool is_own_order = !is_in(orders, *format) || is_in(own_orders, *format);
    const bool is_pointer = wpy_is_pointer_item(format);
    const size_t own_size = is_pointer ? sizeof(void *) : standard_size(format[is_in(orders, *format)]);
    const size_t size = item_size != 0 ? item_size : own_size;
    if ((!is_pointer && !wpy_is_integer_item(format)) || size != sizeof(void *)) {
        return WPY_OTHER_ITEMS;
    }
    return is_own_order ? WPY_FITS : WPY_SWAPPED_ITEMS;
}

static bool
is_bytes(const char *format)
{
    const char *code = format + is_in(orders, *format);
    return is_in("bBc", *code) && code[1] == '\0';
}

/* What ctypes writes before the items of an array that a pointer of its leads to: "(2,3)". */
static const char *
past_shape(const char *format)
{
    const char *end = *format == '(' ? strchr(format, ')') : NULL;
    return end != NULL ? end + 1 : format;
}

enum wpy_fit
wpy_item_fits(wp_type pointee, const char *format, size_t item_size, const void *data, size_t length)
{
    format = format != NULL ? past_shape(format) : "B";
    if (has_objects(format)) {
        return WPY_OBJECTS;
    }
    const size_t size = wp_type_describe(pointee)->size;
    const bool is_pointer_to_bytes = size == 1 && pointee != WP_TYPE_BOOL;
    if (pointee == WP_TYPE_VOID || is_pointer_to_bytes) {
        return WPY_FITS;
    }
    const enum wpy_fit fit = pointee == WP_TYPE_PTR ? check_pointer(format, item_size)
                             : is_bytes(format)     ? WPY_FITS
                                                    : check_scalar(pointee, format, item_size);
    const bool is_aligned = length == 0 || (uintptr_t)data % size == 0;
    return fit != WPY_FITS || is_aligned ? fit : WPY_UNALIGNED;
}

const char *
wpy_item_name(wp_type type)
{
    static const char *const names[WP_N_TYPES] = {
        [WP_TYPE_VOID] = "void",    [WP_TYPE_BOOL] = "bool",    [WP_TYPE_I8] = "int8_t",   [WP_TYPE_U8] = "uint8_t",
        [WP_TYPE_I16] = "int16_t",  [WP_TYPE_U16] = "uint16_t", [WP_TYPE_I32] = "int32_t", [WP_TYPE_U32] = "uint32_t",
        [WP_TYPE_I64] = "int64_t",  [WP_TYPE_U64] = "uint64_t", [WP_TYPE_F32] = "float",   [WP_TYPE_F64] = "double",
        [WP_TYPE_PTR] = "pointers", [WP_TYPE_JOB] = "jobs",
    };
    return names[type];
}

/* The place of a size in the tables below; 0 is for sizes that numbers do not have. */
static size_t
place_of_size(size_t size)
{
    return size == 1 ? 1 : size == 2 ? 2 : size == 4 ? 3 : size == 8 ? 4 : 0;
}

const char *
wpy_name_of_items(const char *format, size_t item_size)
{
    static const char *const signed_names[] = {NULL, "int8", "int16", "int32", "int64"};
    static const char *const unsigned_names[] = {NULL, "uint8", "uint16", "uint32", "uint64"};
    static const char *const floating_names[] = {"long double", NULL, "float16", "float32", "float64"};
    format = past_shape(format);
    const char *code = format + is_in(orders, *format);
    const size_t size = place_of_size(item_size != 0 ? item_size : standard_size(*code));
    if (*code == '\0' || code[1] != '\0') {
        return NULL;
    }
    return *code == '?'                   ? "bool"
           : is_in(signed_codes, *code)   ? signed_names[size]
           : is_in(unsigned_codes, *code) ? unsigned_names[size]
           : is_in(floating_codes, *code) ? floating_names[size]
                                          : NULL;
}
