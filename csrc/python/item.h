/* What a buffer holds, against what a pointer points to.
 *
 * A function that is handed an array of floats as `double *` reads past its end. The buffer protocol tells what the items
 * of an object are, in the codes of the struct module; here they are compared with the scalar that the signature names.
 *
 * What is let through: whatever is the same kind of number in the same width and byte order; any items for a pointer to
 * bytes (the char types, int8_t, uint8_t), to void or to something that is no scalar, because nothing is known of what
 * the function makes of them; and plain bytes for any pointer to numbers, because that is how memory of no type is handed
 * around. A pointer to pointers takes addresses only, which are pointers or integers of their width: the function follows
 * them, so a table of numbers in their place is a crash. Never let through are references to Python objects. Where the
 * items are known they must lie at an address at which a scalar of that type may lie: compilers rely on it.
 */
#ifndef WPY_ITEM_H
#define WPY_ITEM_H

#include "wp_type.h"

#include <stdbool.h>
#include <stddef.h>

enum wpy_fit {
    WPY_FITS,
    WPY_OTHER_ITEMS,   /* Another kind of number, another width, or no number. */
    WPY_SWAPPED_ITEMS, /* The right numbers in the other byte order. */
    WPY_OBJECTS,       /* References to Python objects. */
    WPY_UNALIGNED,     /* The right numbers at an address that is none for them. */
};

/* Whether memory at `data`, of `length` bytes, fits a pointer to `pointee` (WP_TYPE_VOID: to anything). `format` and
 * `item_size` are those of the buffer; no format means bytes. An item size of 0: as the format says. */
enum wpy_fit wpy_item_fits(wp_type pointee, const char *format, size_t item_size, const void *data, size_t length);

/* Whether such items are integers; or pointers, as ctypes writes those; or pointers to text (c_char_p, c_wchar_p). */
bool wpy_is_integer_item(const char *format);
bool wpy_is_pointer_item(const char *format);
bool wpy_is_text_item(const char *format);

/* What C calls a scalar of this type: "double", "int32_t". For messages. */
const char *wpy_item_name(wp_type type);

/* What NumPy calls the numbers of such items: "float32". NULL where they are no numbers, or complex. */
const char *wpy_name_of_items(const char *format, size_t item_size);

#endif
