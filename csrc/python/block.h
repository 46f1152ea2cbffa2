/* A block: the calls of one stretch of a map's input, as one job.
 *
 * A block is a range: its units are calls of one function with rows of arguments, native (slots) or Python (objects).
 * Workers claim parts of it; each unit has a status byte that is written last, so the consumer can take units as they
 * come. With time limits a block has one unit and is a plain job, because limits belong to jobs.
 */
#ifndef WPY_BLOCK_H
#define WPY_BLOCK_H

#include "convert.h"
#include "native.h"
#include "options.h"

#include "wp_range.h"

enum wpy_unit { WPY_UNIT_OPEN, WPY_UNIT_DONE, WPY_UNIT_FAILED };

typedef struct wpy_block {
    wp_range range;
    wpy_home *home;
    wpy_function *function;         /* A reference; NULL for a Python callable. */
    PyObject *callable;             /* References; NULL for a native function. */
    PyObject *context;              /* Context variables as of the map's beginning; NULL: none, or none are wanted. */
    struct wpy_block *next;         /* The consumer's list. */
    uint32_t width;                 /* Arguments a unit: parameters, or iterators. */
    uint32_t units;                 /* How many were filled in. */
    uint32_t yielded;               /* Consumer only. */
    bool is_plain;                  /* One unit, run as a plain job. */
    bool in_own;                    /* Python: it runs in the worker's own context, see variables.h. */
    unsigned char takes;            /* enum wpy_takes; */
    uint64_t *slots;                /* Native: units * width. */
    uint64_t *results;              /* Native: units. */
    struct wpy_hold *holds;         /* Native with pointers: units * width. Released by the consumer of each unit, or
                                       once the block has ended. */
    wpy_releaser releaser;          /* Of holds. */
    wpy_trash trash;                /* Once the block has ended, with a reference to it: to release the holds. */
    int *errors;                    /* Native with `raises`: units; the errno of those that failed. */
    PyObject **arguments;           /* Python: units * width. */
    PyObject **values;              /* Python: units; the result or the exception, taken out by the consumer. */
    _Atomic(unsigned char) *status; /* Units: enum wpy_unit. */
    _Atomic(uint32_t) *order;       /* Unit + 1 in the order in which they ended; NULL where nobody asks. */
    wp_word n_ordered;
    wp_notes_slot notes; /* Of a plain block, whose function may be handed the job. */
} wpy_block;

/* What a function of one parameter takes as it is: a kind of numbers, or (a Python callable) any object. */
enum wpy_takes { WPY_TAKES_OTHERS, WPY_TAKES_DOUBLE, WPY_TAKES_INT64, WPY_TAKES_OBJECT };

/* What all blocks of a map have in common. */
typedef struct wpy_block_kind {
    wpy_home *home;
    wp_group *group;
    wpy_function *function; /* Or NULL, and then these two: */
    PyObject *callable;
    PyObject *context;
    uint32_t width;
    enum wpy_takes takes;
    bool in_order;
    bool is_plain;
    const wpy_options *options;
} wpy_block_kind;

/* The function that home's `run_units` is. */
PyObject *wpy_run_units_new(void);

/* A block with room for so many units; NULL with MemoryError. */
wpy_block *wpy_block_new(const wpy_block_kind *kind, uint32_t room);

/* Adds a unit: takes the arguments' references over, also when it fails. -1 with an exception. */
int wpy_block_add(wpy_block *block, PyObject **arguments);

/* Adds units from an iterator, for a kind that takes something as it is, until there are `room` of them (false) or
 * something else comes up (true): *next is an item of another kind, a new reference, or NULL for what ended the iterator. */
bool wpy_block_take_items(wpy_block *block, PyObject *iterator, uint32_t room, PyObject **next);

/* After the last unit and before it is submitted. */
void wpy_block_seal(wpy_block *block);

static inline wp_job *
wpy_block_job(wpy_block *block)
{
    return &block->range.job;
}

/* Does a part of the block's units that nobody has begun, `most` of them, on the calling thread; false if there are none. */
bool wpy_block_help(wpy_block *block, uint32_t most);

/* Whether units of it are about to be known as ended by never having begun. On any thread. */
bool wpy_block_is_ending(wpy_block *block);

/* Whether a unit has ended, also by never having begun: its job was cancelled or lost. */
bool wpy_block_unit_ended(wpy_block *block, uint32_t unit);

/* The unit that ended next after those that were yielded, for a block with an order; false if none has. */
bool wpy_block_next_ended(wpy_block *block, uint32_t *unit);

/* Releases what an ended unit of a block with holds held; runs foreign code. Its consumer does so before its result is
 * seen. */
void wpy_block_let_go(wpy_block *block, uint32_t unit);

/* The result of a unit of a range, if it is there and no exception: a new reference. Else NULL, perhaps with an exception
 * set. For the fast path; wpy_block_take says the rest. */
static inline PyObject *
wpy_block_take_ready(wpy_block *block, uint32_t unit)
{
    if (block->is_plain || wp_load_acquire(&block->status[unit]) != WPY_UNIT_DONE) {
        return NULL;
    }
    if (block->holds != NULL) {
        wpy_block_let_go(block, unit);
    }
    if (block->function != NULL) {
        return wpy_convert_result(block->function, block->results[unit]);
    }
    PyObject *value = block->values[unit];
    block->values[unit] = NULL;
    return value;
}

/* What an ended unit returned: a new reference, or NULL with its exception raised. Once for each unit. */
PyObject *wpy_block_take(wpy_block *block, uint32_t unit);

/* What a block holds that nobody but its map has any more. */
int wpy_block_traverse(wpy_block *block, visitproc visit, void *arg);

#endif
