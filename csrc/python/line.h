/* Where an event loop's calls wait for room: a line for each lane of each pool.
 *
 * DESIGN. Calls of one lane wait in the order in which they came, whatever happens in other lanes and pools. Each can
 * leave from wherever it stands: when its time is over (a heap of all that have a limit), when its token is cancelled (a
 * watch moves it to a list of its own and rings), and when its owner takes it out. None of these looks at the others.
 *
 * GUARANTEES. A call that stands in line is its line's: whoever takes it out, and is told so, has it from then on. Nothing
 * here runs code of anybody else, so the lines are whole whenever such code runs. A line once made stays until
 * wpy_lines_sweep, so that whoever goes through all of them may take calls out and have others come in.
 *
 * LOCKS. One for all lines of a loop, under a token's: it guards all links. Calls come in, and lines are made and swept,
 * on the loop's thread; calls may be taken out on any.
 */
#ifndef WPY_LINE_H
#define WPY_LINE_H

#include "wp_lock.h"
#include "wp_pool.h"

typedef struct wpy_line wpy_line;

/* Of a call, in its memory; zeroed before it is first used. */
typedef struct wpy_place {
    wpy_line *line; /* Lines' lock, like all here: where it stands, or NULL. */
    struct wpy_place *next;
    struct wpy_place *previous;
    struct wpy_lines *lines; /* Constant while it stands in line; likewise the next two. */
    wp_token *token;         /* Kept by the owner; or NULL. */
    uint64_t limit;          /* Until when it may wait, or WP_FOREVER. */
    size_t at;               /* Its place in the heap of limits. */
    wp_watch watch;
} wpy_place;

struct wpy_line {
    wp_pool *pool; /* Constant: whose; compared, not used. */
    unsigned lane; /* Constant. */
    wpy_place *first;
    wpy_place *last;
    wpy_line *next; /* The loop's thread. */
};

typedef struct wpy_lines {
    wp_lock lock;
    wpy_line *all;                         /* The loop's thread: more urgent lanes first. */
    wpy_line stopped;                      /* Calls whose token was cancelled. */
    wpy_place **heap;                      /* Calls with a limit, the earliest first. */
    size_t n_limited;                      /* How many those are; */
    size_t room;                           /* and how many the memory holds. */
    size_t n_waiting;                      /* In all lines. */
    unsigned in_sweep;                     /* The loop's thread: how many go through the lines just now. */
    void (*ring)(struct wpy_lines *lines); /* Constant: called by any thread when a token was cancelled. */
} wpy_lines;

/* Empty lines; `lines` is zeroed memory. */
void wpy_lines_init(wpy_lines *lines, void (*ring)(wpy_lines *lines));

/* All must have left. */
void wpy_lines_free(wpy_lines *lines);

/* Whether anybody waits, for one lane or at all. */
bool wpy_lines_has(wpy_lines *lines, wp_pool *pool, unsigned lane);
bool wpy_lines_wait(wpy_lines *lines);

/* Puts a call at the end of its line: WP_OK, WP_NO_MEMORY, or WP_STOPPED for a token that is cancelled. `token` may be
 * NULL, and its time limit holds as well as `limit`. */
enum wp_result wpy_lines_join(wpy_lines *lines, wpy_place *place, wp_pool *pool, unsigned lane, wp_token *token,
                              uint64_t limit);

/* Takes a call out; false if it stands in no line. Any thread; the caller sees to it that the call stays. */
bool wpy_lines_leave(wpy_place *place);

/* Any call that is out of time or whose token was cancelled, taken out; NULL if there is none. */
wpy_place *wpy_lines_take_over(wpy_lines *lines, uint64_t now);

/* The first of a line, or of all, which stays where it is; NULL for none. `keep` is called for it with the lock held. */
wpy_place *wpy_line_first(wpy_lines *lines, const wpy_line *line, void (*keep)(wpy_place *place));
wpy_place *wpy_lines_any(wpy_lines *lines, void (*keep)(wpy_place *place));

/* Calls `visit` for all that wait, with the lock held, until it returns anything but 0; returns that. */
int wpy_lines_visit(wpy_lines *lines, int (*visit)(wpy_place *place, void *context), void *context);

/* To be called around going through `all`. The last to end frees the lines in which nobody waits. */
void wpy_lines_begin_sweep(wpy_lines *lines);
void wpy_lines_end_sweep(wpy_lines *lines);

#endif
