/* See line.h. */
#include "line.h"

#include <stddef.h>
#include <stdlib.h>

void
wpy_lines_init(wpy_lines *lines, void (*ring)(wpy_lines *lines))
{
    lines->ring = ring;
}

/* ---- The heap of limits, lock held ---- */

static void
put_at(wpy_lines *lines, size_t at, wpy_place *place)
{
    lines->heap[at] = place;
    place->at = at;
}

static void
move_up(wpy_lines *lines, size_t at)
{
    wpy_place *place = lines->heap[at];
    while (at > 0 && lines->heap[(at - 1) / 2]->limit > place->limit) {
        put_at(lines, at, lines->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put_at(lines, at, place);
}

static void
move_down(wpy_lines *lines, size_t at)
{
    wpy_place *place = lines->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < lines->n_limited && lines->heap[child + 1]->limit < lines->heap[child]->limit) {
            child++;
        }
        if (child >= lines->n_limited || lines->heap[child]->limit >= place->limit) {
            break;
        }
        put_at(lines, at, lines->heap[child]);
        at = child;
    }
    put_at(lines, at, place);
}

static bool
make_room(wpy_lines *lines)
{
    if (lines->n_limited < lines->room) {
        return true;
    }
    size_t room = lines->room > 0 ? 2 * lines->room : 16;
    wpy_place **heap = realloc(lines->heap, room * sizeof(wpy_place *));
    if (heap == NULL) {
        return false;
    }
    lines->heap = heap;
    lines->room = room;
    return true;
}

static bool
begin_limit(wpy_lines *lines, wpy_place *place)
{
    if (place->limit == WP_FOREVER) {
        return true;
    }
    if (!make_room(lines)) {
        return false;
    }
    put_at(lines, lines->n_limited++, place);
    move_up(lines, place->at);
    return true;
}

static void
end_limit(wpy_lines *lines, wpy_place *place)
{
    if (place->limit == WP_FOREVER) {
        return;
    }
    size_t at = place->at;
    wpy_place *last = lines->heap[--lines->n_limited];
    if (last != place) {
        put_at(lines, at, last);
        move_up(lines, at);
        move_down(lines, last->at);
    }
}

/* ---- Links, lock held ---- */

static void
link_last(wpy_line *line, wpy_place *place)
{
    place->line = line;
    place->next = NULL;
    place->previous = line->last;
    if (line->last != NULL) {
        line->last->next = place;
    } else {
        line->first = place;
    }
    line->last = place;
}

static void
unlink_place(wpy_place *place)
{
    wpy_line *line = place->line;
    if (place->previous != NULL) {
        place->previous->next = place->next;
    } else {
        line->first = place->next;
    }
    if (place->next != NULL) {
        place->next->previous = place->previous;
    } else {
        line->last = place->previous;
    }
    place->line = NULL;
}

static bool
take_out(wpy_lines *lines, wpy_place *place)
{
    if (place->line == NULL) {
        return false;
    }
    if (place->line != &lines->stopped) {
        end_limit(lines, place);
    }
    unlink_place(place);
    lines->n_waiting--;
    return true;
}

/* ---- Tokens ---- */

/* The token of a call in line was cancelled: any thread, with the token's lock held. */
static void
hear(wp_watch *watch)
{
    wpy_place *place = (wpy_place *)(void *)((char *)watch - offsetof(wpy_place, watch));
    wpy_lines *lines = place->lines;
    wp_lock_take(&lines->lock);
    bool waits = place->line != NULL;
    if (waits) {
        end_limit(lines, place);
        unlink_place(place);
        link_last(&lines->stopped, place);
    }
    wp_lock_give(&lines->lock);
    if (waits) {
        lines->ring(lines);
    }
}

/* Whoever has taken a call out does this before anything else: from then on nobody comes for it. */
static void
stop_hearing(wpy_place *place)
{
    if (place->token != NULL) {
        wp_watch_stop(&place->watch, place->token);
    }
}

/* ---- Lines ---- */

static wpy_line *
find(const wpy_lines *lines, const wp_pool *pool, unsigned lane)
{
    wpy_line *line = lines->all;
    while (line != NULL && (line->pool != pool || line->lane != lane)) {
        line = line->next;
    }
    return line;
}

static wpy_line *
find_or_make(wpy_lines *lines, wp_pool *pool, unsigned lane)
{
    wpy_line *line = find(lines, pool, lane);
    if (line == NULL && (line = calloc(1, sizeof *line)) != NULL) {
        line->pool = pool;
        line->lane = lane;
        wpy_line **place = &lines->all;
        while (*place != NULL && (*place)->lane <= lane) {
            place = &(*place)->next;
        }
        line->next = *place;
        *place = line;
    }
    return line;
}

bool
wpy_lines_has(wpy_lines *lines, wp_pool *pool, unsigned lane)
{
    const wpy_line *line = find(lines, pool, lane);
    wp_lock_take(&lines->lock);
    bool has = line != NULL && line->first != NULL;
    wp_lock_give(&lines->lock);
    return has;
}

bool
wpy_lines_wait(wpy_lines *lines)
{
    wp_lock_take(&lines->lock);
    bool wait = lines->n_waiting > 0;
    wp_lock_give(&lines->lock);
    return wait;
}

enum wp_result
wpy_lines_join(wpy_lines *lines, wpy_place *place, wp_pool *pool, unsigned lane, wp_token *token, uint64_t limit)
{
    wpy_line *line = find_or_make(lines, pool, lane);
    if (line == NULL) {
        return WP_NO_MEMORY;
    }
    place->lines = lines;
    place->token = token;
    place->limit = token != NULL && wp_token_deadline(token) < limit ? wp_token_deadline(token) : limit;
    place->watch = (wp_watch){.hear = hear};
    wp_lock_take(&lines->lock);
    bool joined = begin_limit(lines, place);
    if (joined) {
        link_last(line, place);
        lines->n_waiting++;
    }
    wp_lock_give(&lines->lock);
    if (!joined) {
        return WP_NO_MEMORY;
    }
    if (token != NULL && !wp_watch_start(&place->watch, token)) {
        wpy_lines_leave(place);
        return WP_STOPPED;
    }
    return WP_OK;
}

bool
wpy_lines_leave(wpy_place *place)
{
    wpy_lines *lines = place->lines;
    if (lines == NULL) {
        return false; /* It never stood in one. */
    }
    wp_lock_take(&lines->lock);
    bool left = take_out(lines, place);
    wp_lock_give(&lines->lock);
    if (left) {
        stop_hearing(place);
    }
    return left;
}

wpy_place *
wpy_lines_take_over(wpy_lines *lines, uint64_t now)
{
    wp_lock_take(&lines->lock);
    wpy_place *place = lines->stopped.first;
    if (place == NULL && lines->n_limited > 0 && lines->heap[0]->limit <= now) {
        place = lines->heap[0];
    }
    if (place != NULL) {
        take_out(lines, place);
    }
    wp_lock_give(&lines->lock);
    if (place != NULL) {
        stop_hearing(place);
    }
    return place;
}

wpy_place *
wpy_line_first(wpy_lines *lines, const wpy_line *line, void (*keep)(wpy_place *place))
{
    wp_lock_take(&lines->lock);
    wpy_place *place = line->first;
    if (place != NULL) {
        keep(place);
    }
    wp_lock_give(&lines->lock);
    return place;
}

wpy_place *
wpy_lines_any(wpy_lines *lines, void (*keep)(wpy_place *place))
{
    wpy_place *place = wpy_line_first(lines, &lines->stopped, keep);
    for (const wpy_line *line = lines->all; place == NULL && line != NULL; line = line->next) {
        place = wpy_line_first(lines, line, keep);
    }
    return place;
}

static int
visit_line(const wpy_line *line, int (*visit)(wpy_place *place, void *context), void *context)
{
    int result = 0;
    for (wpy_place *place = line->first; place != NULL && result == 0; place = place->next) {
        result = visit(place, context);
    }
    return result;
}

int
wpy_lines_visit(wpy_lines *lines, int (*visit)(wpy_place *place, void *context), void *context)
{
    wp_lock_take(&lines->lock);
    int result = visit_line(&lines->stopped, visit, context);
    for (const wpy_line *line = lines->all; line != NULL && result == 0; line = line->next) {
        result = visit_line(line, visit, context);
    }
    wp_lock_give(&lines->lock);
    return result;
}

/* ---- The end of lines ---- */

void
wpy_lines_begin_sweep(wpy_lines *lines)
{
    lines->in_sweep++;
}

void
wpy_lines_end_sweep(wpy_lines *lines)
{
    if (--lines->in_sweep > 0) {
        return;
    }
    wp_lock_take(&lines->lock);
    wpy_line **at = &lines->all;
    while (*at != NULL) {
        wpy_line *line = *at;
        if (line->first == NULL) {
            *at = line->next;
            free(line);
        } else {
            at = &line->next;
        }
    }
    wp_lock_give(&lines->lock);
}

void
wpy_lines_free(wpy_lines *lines)
{
    wpy_lines_begin_sweep(lines);
    wpy_lines_end_sweep(lines);
    free(lines->heap);
}
