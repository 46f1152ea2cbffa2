/* See wp_stage.h.
 *
 * LOCKS. The pool's lock guards what putting changes (the current chunk, the count of accepted jobs), because putting
 * takes it anyway, and the list of chunks. Results pass without a lock.
 *
 * CHUNKS. A chunk is on the stage's list from when it becomes the current one until its last job has ended. Until then
 * the pool has a reference to it, so whoever finds a chunk on the list may take one too.
 *
 * SLEEPING. Readers sleep on `asleep`, submitters on `blocked`. A reader that finds nothing says in `asleep` that it
 * sleeps, and then looks once more: at `tail`, which it touches by a read-modify-write, and whether the stage is
 * finished. A worker moves `tail` and then looks at `asleep`; who closes sets `closed` and then touches `asleep`. So both
 * sides touch the same word by a read-modify-write, and whichever comes second sees what the first did before. The same
 * holds between a submitter (`blocked`) and a reader (`head`). Each call changes the word, so nobody who looked before it
 * falls asleep after it.
 *
 * Waking a reader for each result would cost a hundred times what a short job does, so a reader that sleeps is called
 * when there are many, or by the last job that was accepted; a submitter when half of the places are free. A job that
 * turns out long must not keep results back that came before it: a sleep like that is a nap, and whoever wakes from it in
 * vain is called for any result or place next time. Before it sleeps, whoever has short jobs to wait for looks for a while
 * (wp_patience.h).
 *
 * CALLING WORKERS. A reader of short jobs runs them itself. While it does, or is about to be back because it does not
 * sleep, no worker is called, provided that one is on patrol (wp_internal.h) and would find jobs that are left alone.
 *
 * APART. What changes with each put, with each result and with each get, and what all of them look at and seldom changes,
 * has a cache line of its own. */
#include "wp_stage.h"

#include "wp_internal.h"
#include "wp_notes.h"
#include "wp_patience.h"

#include <stdlib.h>

/* Jobs in a chunk: enough that what a chunk costs does not count. */
#define CHUNK 256u
/* A waiting time is measured for one job in so many, because the clock takes longer than putting a job. */
#define STAMP_EVERY 64u
/* Jobs in one claim at most. Nothing is copied for a claim, so more than plain jobs. */
#define MOST_CLAIMED CHUNK
#define CLAIM_NS 20000u
#define SPREAD_NS 2000u
/* Jobs that take less than this (ns) are not worth a wake-up each. */
#define SHORT_NS 1000u
#define POWERS_OF_FOUR 0x55555555u
/* How long (ns) a reader may be kept asleep while results are few. */
#define NAP_NS 200000u
/* How long (ns) a worker sleeps here before it looks whether jobs of the stage are held up in claims of others. A test of
 * calls wants it never to look. */
#ifndef WP_STAGE_LOOK_NS
#define WP_STAGE_LOOK_NS 10000000u
#endif
/* A reader leaves off helping with so many results unread. */
#define MOST_ATTENDED 256u
/* After it could do no more than so many jobs it lets others gather, for so many pauses. */
#define SMALL_HELP 64u
#define GATHERING 40

typedef struct chunk {
    wp_range range;
    wp_notes_slot children; /* Of its jobs. */
    wp_stage *stage;        /* Constant; a reference. */
    struct chunk *next;     /* Pool's lock: the stage's list, oldest first. */
    struct chunk **link;    /* Pool's lock: what points here; NULL if it is not on the list. */
    uint64_t number;        /* Pool's lock: its place among all chunks of the stage, from 1. */
    uint32_t filled;        /* Pool's lock: arguments that it has got; does not change once it was sealed. */
    uint64_t stamps[CHUNK / STAMP_EVERY]; /* When the first of so many jobs was put; written under the pool's lock
                                                 before that job can be claimed. */
    void *arguments[CHUNK];               /* In the same way. */
} chunk;

/* A result in its place. The turn says whose it is: position + 1, and whether the job was given up. */
typedef struct place {
    _Atomic(uint64_t) turn; /* (position + 1) << 1 | given_up */
    _Atomic(void *) argument;
    _Atomic(int) status;
} place;

/* A word that threads sleep on: whether any does, and in what way; and how often they were called, times CALL. */
enum { ASLEEP = 1u << 0, ASLEEP_LIGHTLY = 1u << 1 /* To be called for any result or place. */, CALL = 1u << 2 };
#define SLEEPERS ((uint32_t)(ASLEEP | ASLEEP_LIGHTLY))
_Static_assert(CALL == WP_CLOSING_STEP, "closing the pool is a call");

struct wp_stage {
    wp_pool *pool;          /* Constant; a reference. */
    wp_function *function;  /* Constant. */
    wp_group *group;        /* Constant; a reference. */
    place *places;          /* Constant: `size` of them; NULL if nobody reads. */
    uint64_t size;          /* Constant: a power of two, or 0. */
    uint64_t capacity;      /* Constant. */
    unsigned lane;          /* Constant. */
    uint16_t epoch;         /* Constant: the pool's. */
    wp_word references;     /* Of holders and of chunks. */
    wp_word holders;        /* With the last the stage is closed. */
    _Atomic(chunk *) spare; /* To be used again. */

    /* Pool's lock. */
    alignas(WP_CACHE_LINE) chunk *current; /* Gets arguments; a reference. NULL: there is none, or it is full. */
    uint32_t workers_asleep;               /* Workers of the pool that sleep here, for a result or a place. */
    _Atomic(uint64_t) accepted;            /* Read without the lock as well. */
    uint64_t head_seen;                    /* `head` as it was last looked at. */
    uint32_t at_once;                      /* So far the current chunk is filled without looking at places and times. */
    chunk *oldest;                         /* Of those that have not ended. */
    chunk **end;                           /* Where the next goes. */
    wp_token *family;     /* Above the children of all jobs since the last cancel; or NULL, or a reference. */
    uint64_t n_chunks;    /* How many there ever were. */
    wp_closable closable; /* Once closed, `accepted` does not change any more. */

    alignas(WP_CACHE_LINE) _Atomic(uint64_t) tail; /* Results that have got their position. */
    alignas(WP_CACHE_LINE) _Atomic(uint64_t) head; /* Results that were read. */

    /* Changed seldom, and looked at for each job: apart from what changes for each. */
    alignas(WP_CACHE_LINE) wp_word asleep; /* Of readers: see SLEEPERS. */
    wp_word blocked;                       /* Of submitters that wait for a place. */
    wp_word attending;                     /* Readers that run jobs of the stage rather than sleep. */
    wp_partner readers;                    /* For submitters that wait for them. */
    wp_partner submitters;                 /* For readers that wait for them. */
};

static wp_stage *
stage_of(const wp_job *job)
{
    return ((const chunk *)(const void *)job)->stage;
}

/* ---- Results ---- */

/* This process is a fork, and the stage was made before. What others were doing to it when the process forked stays half
 * done here. */
static bool
is_of_parent(const wp_stage *stage)
{
    return stage->epoch != stage->pool->epoch;
}

static uint64_t
turn_of(uint64_t position, bool given_up)
{
    return (position + 1) << 1 | given_up;
}

/* Whether jobs are known to be so short that what a thread waits for is about to come. */
static bool
is_short(const wp_stage *stage)
{
    return wp_pace_is_below(stage->group->pace, SHORT_NS);
}

/* The caller is about to sleep on the word; returns what it must still hold then. */
static uint32_t
say_asleep(wp_word *sleepers, bool lightly)
{
    uint32_t how = lightly ? ASLEEP_LIGHTLY : ASLEEP;
    return wp_or_acq_rel(sleepers, how) | how;
}

/* Wakes those who sleep on `asleep` or `blocked`, once. */
static void
call(wp_word *sleepers)
{
    uint32_t seen = wp_add_acq_rel(sleepers, 0);
    do {
        if (!(seen & SLEEPERS)) {
            return;
        }
    } while (!wp_cas_weak_acq_rel(sleepers, &seen, (seen & ~SLEEPERS) + CALL));
    wp_word_wake(sleepers, WP_WAKE_ALL);
}

/* Calls everybody who sleeps, workers among them. */
static void
call_all(wp_stage *stage)
{
    call(&stage->asleep);
    call(&stage->blocked);
}

/* So many results are worth a wake-up. */
static uint64_t
many(const wp_stage *stage)
{
    return stage->capacity / 2 < MOST_ATTENDED ? stage->capacity / 2 : MOST_ATTENDED;
}

/* Whether a reader that sleeps should be called for the result at `position`. */
static bool
is_worth_calling(wp_stage *stage, uint64_t position)
{
    return wp_load_relaxed(&stage->asleep) & ASLEEP_LIGHTLY || position + 1 == wp_load_relaxed(&stage->accepted) ||
           position - wp_load_relaxed(&stage->head) >= many(stage);
}

/* There is a place, because the job was accepted with one. Returns whether readers should be called. */
static bool
deliver(wp_stage *stage, void *argument, int status, bool given_up)
{
    uint64_t position = wp_add_acq_rel(&stage->tail, 1);
    place *p = &stage->places[position & (stage->size - 1)];
    wp_store_relaxed(&p->argument, argument);
    wp_store_relaxed(&p->status, status);
    wp_store_release(&p->turn, turn_of(position, given_up));
    return wp_load_relaxed(&stage->asleep) & SLEEPERS && is_worth_calling(stage, position);
}

/* Reads the result at a position, if it is there. One that has its position and is not written yet will be in a moment. */
static bool
read_place(const wp_stage *stage, uint64_t position, wp_stage_result *result)
{
    place *p = &stage->places[position & (stage->size - 1)];
    uint64_t turn = wp_load_acquire(&p->turn);
    if (turn >> 1 != position + 1) {
        return false;
    }
    result->argument = wp_load_relaxed(&p->argument);
    result->status = wp_load_relaxed(&p->status);
    result->given_up = turn & 1;
    return true;
}

/* Takes up to `most` results that are there; returns how many. */
static uint32_t
take_results(wp_stage *stage, wp_stage_result *results, uint32_t most)
{
    uint64_t head = wp_load_relaxed(&stage->head);
    for (;;) {
        uint32_t n = 0;
        while (n < most && read_place(stage, head + n, &results[n])) {
            n++;
        }
        if (n == 0) {
            uint64_t now = wp_load_relaxed(&stage->head);
            if (now == head) {
                return 0;
            }
            head = now; /* Another reader has taken it. */
        } else if (wp_cas_weak_acq_rel(&stage->head, &head, head + n)) {
            return n;
        }
    }
}

/* After a result was taken: submitters are called when half of the places are free, or for any place if they napped in
 * vain. */
static void
offer_places(wp_stage *stage)
{
    uint32_t blocked = wp_load_relaxed(&stage->blocked);
    if (blocked & SLEEPERS) {
        uint64_t used = wp_load_relaxed(&stage->accepted) - wp_load_relaxed(&stage->head);
        if (used <= stage->capacity / 2 || blocked & ASLEEP_LIGHTLY) {
            call(&stage->blocked);
        }
    }
}

/* ---- Chunks ---- */

static chunk *
chunk_of(wp_job *job)
{
    return (chunk *)(void *)job;
}

/* The job at `begin` begins: how long it waited, if that was measured. */
static void
note_waiting(const chunk *c, uint32_t begin, uint64_t now, wp_worker *self)
{
    if (self != NULL && begin % STAMP_EVERY == 0) {
        uint64_t put = c->stamps[begin / STAMP_EVERY];
        wp_histogram_add(&self->tally->lanes[c->stage->lane].waited, now > put ? now - put : 0, 1);
    }
}

/* Calls readers. The thread that is woken may take this one's processor at once: that is no time of the jobs, so the
 * measurement begins anew. */
static void
call_meanwhile(wp_stage *stage, uint64_t *since, uint32_t *unmeasured)
{
    if (*unmeasured > 0) {
        wp_pace_note(stage->group->pace, wp_clock() - *since, *unmeasured);
    }
    call(&stage->asleep);
    *since = wp_clock();
    *unmeasured = 0;
}

static uint32_t
run_chunk(wp_job *job, wp_stretch *units, wp_worker *self)
{
    chunk *c = chunk_of(job);
    wp_stage *stage = c->stage;
    wp_function *function = stage->function;
    bool reports = stage->places != NULL;
    uint64_t start = wp_clock();
    uint64_t since = start;
    uint32_t done = 0;
    uint32_t unmeasured = 0;
    uint32_t begin;
    uint32_t end;
    while (wp_stretch_take(units, 1, &begin, &end)) {
        if (done++ == 0) {
            note_waiting(c, begin, since, self);
        }
        void *argument = c->arguments[begin];
        int status = function(job, argument);
        unmeasured++;
        if (reports && deliver(stage, argument, status, false)) {
            call_meanwhile(stage, &since, &unmeasured);
        }
        bool is_time_to_look =
            (done & (done - 1)) == 0 && done & POWERS_OF_FOUR; /* A look takes as long as a few jobs. */
        if (wp_worker_is_wanted(self) || (is_time_to_look && wp_has_helped_enough(self, start))) {
            break;
        }
    }
    if (unmeasured > 0) {
        wp_pace_note(stage->group->pace, wp_clock() - since, unmeasured);
    }
    return done;
}

static void
report_given_up(wp_job *job, uint32_t begin, uint32_t end)
{
    chunk *c = chunk_of(job);
    bool calls = false;
    for (uint32_t i = begin; c->stage->places != NULL && i < end; i++) {
        calls |= deliver(c->stage, c->arguments[i], 0, true);
    }
    if (calls) {
        call(&c->stage->asleep);
    }
}

/* At the end of the stage's list, lock held. */
static void
link_chunk(wp_stage *stage, chunk *c)
{
    c->number = ++stage->n_chunks;
    c->next = NULL;
    c->link = stage->end;
    *stage->end = c;
    stage->end = &c->next;
}

static void
unlink_chunk(wp_stage *stage, chunk *c)
{
    *c->link = c->next;
    if (c->next != NULL) {
        c->next->link = c->link;
    } else {
        stage->end = c->link;
    }
}

/* All its jobs have ended. */
static void
chunk_ended(wp_job *job)
{
    chunk *c = chunk_of(job);
    wp_lock_take(&job->pool->lock);
    if (c->link != NULL && !wp_job_is_of_parent(job)) {
        unlink_chunk(c->stage, c);
    }
    wp_lock_give(&job->pool->lock);
    wp_job_settle(job);
}

static void
stage_let_go(wp_stage *stage)
{
    if (wp_sub_acq_rel(&stage->references, 1) != 1) {
        return;
    }
    wp_pool *pool = stage->pool;
    wp_token_unref(stage->family);
    free(wp_load_relaxed(&stage->spare));
    free(stage->places);
    wp_group_unref(stage->group);
    free(stage);
    wp_pool_unref(pool);
}

static void
destroy_chunk(wp_job *job)
{
    chunk *c = chunk_of(job);
    wp_stage *stage = c->stage;
    wp_group_unref(c->range.group);
    wp_notes_free(&c->children);
    free(wp_exchange_acq_rel(&stage->spare, c));
    stage_let_go(stage);
}

/* ---- Children ----
 *
 * Jobs of a chunk share their word, and so the token of their children, which is cancelled with them. Above those of all
 * chunks is one that wp_stage_cancel cancels: so it reaches children whose parents have ended, in whichever chunk. */

static wp_notes_slot *
children_of(wp_job *job)
{
    return &chunk_of(job)->children;
}

static wp_token *
family_of(wp_job *job)
{
    wp_stage *stage = stage_of(job);
    wp_token *spare = wp_token_new(NULL, WP_FOREVER);
    wp_lock_take(&stage->pool->lock);
    if (stage->family == NULL) {
        stage->family = spare;
        spare = NULL;
    }
    wp_token *family = stage->family;
    if (family != NULL) {
        wp_token_ref(family);
    }
    wp_lock_give(&stage->pool->lock);
    wp_token_unref(spare);
    return family;
}

static void
cancel_family(wp_stage *stage)
{
    wp_lock_take(&stage->pool->lock);
    wp_token *family = stage->family;
    stage->family = NULL;
    wp_lock_give(&stage->pool->lock);
    if (family != NULL) {
        wp_token_cancel(family);
        wp_token_unref(family);
    }
}

static const wp_job_class chunk_class = {
    .api = &wp_view_api,
    .name = "jobs of a stage",
    .run_range = run_chunk,
    .given_up = report_given_up,
    .notify = chunk_ended,
    .destroy = destroy_chunk,
    .notes = children_of,
    .family = family_of,
    .claim_ns = CLAIM_NS,
    .spread_ns = SPREAD_NS,
};

static chunk *
chunk_new(wp_stage *stage)
{
    chunk *c = wp_exchange_acq_rel(&stage->spare, NULL);
    c = c != NULL ? c : malloc(sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    wp_range_init(&c->range, &chunk_class, CHUNK, stage->group, NULL);
    c->range.job.pool = stage->pool;
    c->range.job.lane = (uint8_t)stage->lane;
    c->range.job.epoch = stage->epoch;
    wp_or_acq_rel(&c->range.job.word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT | WP_JOB_NOTIFY);
    wp_job_ref(&c->range.job); /* The pool's, until all of its jobs have ended. */
    wp_add_relaxed(&stage->references, 1);
    c->stage = stage;
    wp_notes_init(&c->children);
    c->link = NULL;
    c->filled = 0;
    return c;
}

/* The chunk gets no more arguments; it is nobody's current one. It ends without those that it could still have got. */
static void
seal(chunk *c)
{
    if (c->filled < CHUNK) {
        wp_range_done(&c->range, CHUNK - c->filled);
    }
    wp_job_unref(&c->range.job);
}

/* ---- Putting ---- */

/* What came of an attempt to put. */
enum attempt { PUT, NO_ROOM, NO_PLACE, NO_WORKER, NO_CHUNK, REFUSED };

/* How many more results would have a place, looked at anew if it may not be `wanted`. Pool's lock held. */
static uint64_t
places_left(wp_stage *stage, uint64_t wanted)
{
    if (stage->places == NULL) {
        return UINT64_MAX;
    }
    uint64_t accepted = wp_load_relaxed(&stage->accepted);
    if (accepted - stage->head_seen + wanted > stage->capacity) {
        stage->head_seen = wp_load_acquire(&stage->head);
    }
    return stage->capacity - (accepted - stage->head_seen);
}

static inline void
note_accepted(wp_pool *pool, wp_stage *stage, uint32_t n)
{
    wp_lane *lane = &pool->lanes[stage->lane];
    lane->waiting += n;
    lane->submitted += n;
    pool->unfinished += n;
    wp_store_relaxed(&stage->accepted, wp_load_relaxed(&stage->accepted) + n);
}

/* Whether readers do the jobs: one does at this moment, or did, and does not sleep: then it is about to be back. */
static bool
readers_attend(wp_stage *stage)
{
    return wp_load_relaxed(&stage->attending) > 0 ||
           (wp_partner_was_here(&stage->readers) && is_short(stage) && !(wp_load_relaxed(&stage->asleep) & SLEEPERS));
}

/* Whether a worker should be called for what is put: not if readers do the jobs, and a patrol looks in, should they stay
 * away. Lock held. */
static bool
needs_worker(const wp_pool *pool, wp_stage *stage)
{
    return pool->patrols == 0 || !readers_attend(stage);
}

/* How far the current chunk can be filled one by one: until a job's time is noted, the last argument comes, or all places
 * that are known of are taken. */
static uint32_t
last_at_once(wp_stage *stage)
{
    uint32_t filled = stage->current->filled;
    uint32_t next_stamp = (filled + STAMP_EVERY - 1) / STAMP_EVERY * STAMP_EVERY;
    uint64_t end = wp_smaller(next_stamp, CHUNK - 1);
    return (uint32_t)wp_smaller(end, filled + wp_smaller(places_left(stage, 1), CHUNK));
}

/* Adds so many arguments, for which there is space, to the current chunk and to what waits, lock held. False without memory.
 * The last span may be one that a worker gave back, from the middle of the chunk: then another begins. */
static bool
append(wp_pool *pool, wp_stage *stage, void *const *arguments, uint32_t n)
{
    chunk *c = stage->current;
    wp_lane *lane = &pool->lanes[stage->lane];
    wp_span *last = wp_ring_last(&lane->ring);
    if (last != NULL && last->job == &c->range.job && last->end == c->filled) {
        last->end += n;
    } else if (wp_ring_push_back(&lane->ring, (wp_span){&c->range.job, c->filled, c->filled + n}) < 0) {
        return false;
    } else {
        c->range.spans++;
        wp_lane_note_kind(lane, &chunk_class);
    }
    for (uint32_t i = 0; i < n; i++, c->filled++) {
        if (c->filled % STAMP_EVERY == 0) {
            c->stamps[c->filled / STAMP_EVERY] = wp_clock();
        }
        c->arguments[c->filled] = arguments[i];
    }
    note_accepted(pool, stage, n);
    stage->at_once = last_at_once(stage);
    return true;
}

/* What there is to put: `n` arguments, of which `done` are put. */
typedef struct load {
    void *const *arguments;
    uint32_t n;
    uint32_t done;
    bool over;          /* Whatever room the lane has. */
    bool is_hasty;      /* It does not wait. */
    bool has_worker;    /* One was started for it, if there was none. */
    bool lightly;       /* How it sleeps for a place. */
    enum wp_result why; /* What ended it. */
} load;

/* Attempts to put all, or as many as have room and places and fit into the chunk; lock held. */
static enum attempt
attempt(wp_pool *pool, wp_stage *stage, load *l)
{
    wp_lane *lane = &pool->lanes[stage->lane];
    uint32_t wanted = l->n - l->done;
    l->why = wp_closable_is_closed(&stage->closable) || is_of_parent(stage) ? WP_CLOSED : wp_phase_result(pool);
    if (l->why != WP_OK) {
        return REFUSED;
    }
    uint64_t room = l->over ? wanted : wp_room_in(pool, lane);
    if (room == 0) {
        lane->rejected += l->is_hasty ? wanted : 0;
        return NO_ROOM;
    }
    uint64_t places = places_left(stage, wanted);
    if (places == 0) {
        return NO_PLACE;
    }
    if (pool->n_workers == 0 && !l->has_worker) {
        return NO_WORKER;
    }
    if (stage->current == NULL) {
        return NO_CHUNK;
    }
    uint32_t fit = (uint32_t)wp_smaller(wp_smaller(wanted, CHUNK - stage->current->filled), wp_smaller(room, places));
    if (!append(pool, stage, l->arguments + l->done, fit)) {
        l->why = WP_NO_MEMORY;
        return REFUSED;
    }
    l->done += fit;
    return PUT;
}

/* Makes another chunk the current one, unless another thread did. */
static enum wp_result
add_chunk(wp_pool *pool, wp_stage *stage)
{
    chunk *c = chunk_new(stage);
    if (c == NULL) {
        wp_pool_pass_room(pool, stage->lane); /* As in put_some. */
        return WP_NO_MEMORY;
    }
    wp_lock_take(&pool->lock);
    bool used = stage->current == NULL && !wp_closable_is_closed(&stage->closable);
    if (used) {
        stage->current = c;
        stage->at_once = 0;
        link_chunk(stage, c);
    }
    wp_lock_give(&pool->lock);
    if (!used) {
        seal(c);
    }
    return WP_OK;
}

/* Puts as many as can be put at once, or says what kept it from putting any. */
static enum attempt
put_some(wp_stage *stage, load *l)
{
    wp_pool *pool = stage->pool;
    wp_errands errands = {0};
    chunk *full = NULL;
    wp_lock_take(&pool->lock);
    enum attempt result = attempt(pool, stage, l);
    bool calls = result == PUT && stage->workers_asleep > 0;
    if (result == PUT) {
        wp_lane_refresh(pool, stage->lane);
        if (needs_worker(pool, stage)) {
            wp_call_help_in_time(pool, &stage->current->range.job, 0, &errands);
        }
        if (stage->current->filled == CHUNK) {
            full = stage->current;
            stage->current = NULL;
        }
    } else if (result != NO_ROOM && result != NO_CHUNK) {
        wp_offer_any_room(pool, stage->lane, &errands); /* It may have been woken for room that it does not use. */
    }
    wp_lock_give(&pool->lock);
    if (full != NULL) {
        seal(full);
    }
    wp_errands_run(pool, &errands);
    if (calls) {
        call_all(stage);
    }
    return result;
}

/* The span that one more argument needs only to be added to, if it is so: what waits last is of the current chunk, the stage
 * and the pool are open, and there are places. It is so most of the time, and then much of what an attempt looks at cannot
 * be otherwise: the lane is ready, and no worker sleeps here that was not called. Else NULL. Lock held. */
static wp_span *
span_to_extend(wp_pool *pool, wp_stage *stage)
{
    const chunk *c = stage->current;
    const wp_lane *lane = &pool->lanes[stage->lane];
    if (c != NULL && c->filled == stage->at_once) {
        stage->at_once = last_at_once(stage); /* There may be places now. */
    }
    if (c == NULL || c->filled >= stage->at_once || lane->waiting >= lane->capacity || pool->n_workers == 0 ||
        wp_load_relaxed(&pool->phase) != WP_OPEN || is_of_parent(stage)) {
        return NULL;
    }
    wp_span *last = wp_ring_last(&lane->ring);
    return last != NULL && last->job == &c->range.job && last->end == c->filled ? last : NULL;
}

/* Calls a worker, lock held, and gives the lock back. */
static void
call_worker_and_leave(wp_pool *pool, wp_stage *stage)
{
    wp_errands errands = {0};
    wp_call_help_in_time(pool, &stage->current->range.job, 0, &errands);
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
}

/* Puts one argument if that is so. */
static bool
put_at_once(wp_stage *stage, void *argument)
{
    wp_pool *pool = stage->pool;
    wp_lock_take(&pool->lock);
    wp_span *span = span_to_extend(pool, stage);
    if (span == NULL) {
        wp_lock_give(&pool->lock);
        return false;
    }
    chunk *c = stage->current;
    c->arguments[c->filled++] = argument;
    span->end++;
    note_accepted(pool, stage, 1);
    if (needs_worker(pool, stage)) {
        call_worker_and_leave(pool, stage);
    } else {
        wp_lock_give(&pool->lock);
    }
    return true;
}

/* ---- Helping ---- */

/* The first chunk with jobs that wait; NULL if there is none. Lock held. */
static chunk *
waiting_chunk(const wp_stage *stage)
{
    chunk *c = stage->oldest;
    while (c != NULL && c->range.spans == 0) {
        c = c->next;
    }
    return c;
}

static wp_range *
waiting_range(void *stage)
{
    chunk *c = waiting_chunk(stage);
    return c != NULL ? &c->range : NULL;
}

/* Runs a few jobs of the stage, if any wait and the lane allows it; returns how many. */
static uint32_t
help(wp_stage *stage)
{
    uint32_t most = wp_pace_claim(stage->group->pace, CLAIM_NS, MOST_CLAIMED);
    return wp_range_run_found_here(stage->pool, stage->lane, waiting_range, stage, most);
}

/* The calling thread if it is a worker of the pool that must not sleep while jobs of the stage wait, because there may be
 * no other. One that runs a job of the stage itself would only go round in a circle. */
static wp_worker *
worker_here(const wp_stage *stage)
{
    wp_worker *self = wp_worker_in(stage->pool);
    const wp_job *job = self != NULL ? wp_worker_job(self) : NULL;
    return job != NULL && job->class == &chunk_class && stage_of(job) == stage ? NULL : self;
}

/* Before such a worker sleeps: false if there is a job that it could run. Else it is called for the next that is put. */
static bool
lie_down(wp_stage *stage, const wp_worker *self)
{
    wp_lock_take(&stage->pool->lock);
    bool may_run = wp_lane_is_ready(stage->pool, stage->lane) || wp_runs_in(self, stage->lane);
    bool may_sleep = !may_run || waiting_chunk(stage) == NULL;
    stage->workers_asleep += may_sleep;
    wp_lock_give(&stage->pool->lock);
    return may_sleep;
}

static void
get_up(wp_stage *stage)
{
    wp_lock_take(&stage->pool->lock);
    stage->workers_asleep--;
    wp_lock_give(&stage->pool->lock);
}

/* ---- Waiting ---- */

static bool
is_late(uint64_t deadline)
{
    return deadline != WP_FOREVER && wp_clock() >= deadline;
}

/* Looks for a while whether readers get on: with reading (`head`), or with running jobs (`tail`). */
static bool
moves_soon(wp_stage *stage, _Atomic(uint64_t) *count)
{
    uint64_t seen = wp_load_relaxed(count);
    int moment = 0;
    while (wp_load_relaxed(count) == seen) {
        if (!is_short(stage) || !wp_partner_pass_moment(&stage->readers, &moment)) {
            wp_partner_note_wait(&stage->readers, moment, false);
            return false;
        }
    }
    wp_partner_note_wait(&stage->readers, moment, true);
    return true;
}

/* The stage is closed, or its pool. */
static bool
takes_no_more(wp_stage *stage)
{
    return wp_closable_is_closed(&stage->closable) || wp_pool_is_closed(stage->pool);
}

static bool
is_finished(wp_stage *stage)
{
    return takes_no_more(stage) && wp_load_relaxed(&stage->accepted) == wp_load_relaxed(&stage->head);
}

/* Sleeps; a worker is called for what is put. */
static enum wp_result
sleep_as(wp_stage *stage, const wp_worker *self, wp_word *sleepers, uint32_t seen, uint64_t deadline)
{
    if (self != NULL && !lie_down(stage, self)) {
        return WP_OK;
    }
    if (self == NULL) {
        return wp_result_of_wait(wp_word_wait(sleepers, seen, deadline));
    }
    wp_claim_leave(wp_worker_self());
    uint64_t look = wp_later(wp_clock(), WP_STAGE_LOOK_NS);
    enum wp_result slept = wp_result_of_wait(wp_word_wait(sleepers, seen, look < deadline ? look : deadline));
    get_up(stage);
    if (slept == WP_LATE && look < deadline) {
        wp_claims_fetch(stage->pool, stage->lane); /* Who has claimed jobs of the stage may be stuck before them. */
        return WP_OK;
    }
    return slept;
}

/* Sleeps on a word that held `seen` when there was nothing, and it was not over. Who closes the stage calls, and the pool's
 * closing wakes as well. */
static enum wp_result
sleep_on(wp_stage *stage, wp_word *sleepers, uint32_t seen, bool (*is_over)(wp_stage *), uint64_t deadline)
{
    wp_sleeper sleeper;
    wp_closable *pools = wp_pool_closable(stage->pool);
    bool hangs = wp_closable_watch(pools, &sleeper, sleepers);
    if (!hangs && is_over(stage)) {
        return WP_OK;
    }
    enum wp_result slept = sleep_as(stage, worker_here(stage), sleepers, seen, deadline);
    if (hangs) {
        wp_closable_leave(pools, &sleeper);
    }
    return slept;
}

/* Sleeps until there may be a place. `lightly`: until there is any at all. */
static enum wp_result
sleep_for_place(wp_stage *stage, bool lightly, uint64_t deadline)
{
    if (moves_soon(stage, &stage->head)) {
        return WP_OK;
    }
    uint32_t seen = say_asleep(&stage->blocked, lightly);
    uint64_t head = wp_add_acq_rel(&stage->head, 0);
    if (wp_load_relaxed(&stage->accepted) - head < stage->capacity || takes_no_more(stage)) {
        return WP_OK;
    }
    return sleep_on(stage, &stage->blocked, seen, takes_no_more, deadline);
}

/* The first sleep is a nap: if it ends by itself and nothing has changed, the next one is light. */
typedef enum wp_result sleep_function(wp_stage *stage, bool lightly, uint64_t deadline);

static enum wp_result
nap_or_sleep(wp_stage *stage, sleep_function *sleep, bool *lightly, uint64_t deadline)
{
    uint64_t now = *lightly && deadline == WP_FOREVER ? 0 : wp_clock();
    if (now >= deadline) {
        return WP_LATE; /* Even if others' doings never let it sleep. */
    }
    uint64_t nap = *lightly ? WP_FOREVER : now + NAP_NS;
    enum wp_result slept = sleep(stage, *lightly, nap < deadline ? nap : deadline);
    if (slept == WP_LATE && nap < deadline) {
        *lightly = true;
        return WP_OK;
    }
    return slept;
}

/* Where results are counted, room that comes soon is seen by them. */
static enum wp_result
wait_for_room(wp_stage *stage, uint32_t wanted, uint64_t deadline)
{
    if (stage->places != NULL && !is_late(deadline) && moves_soon(stage, &stage->tail)) {
        return WP_OK;
    }
    wp_until until = {.deadline = deadline, .closables = {&stage->closable}};
    enum wp_result result = wp_pool_wait_room_until(stage->pool, stage->lane, &until);
    if (result == WP_LATE) {
        wp_pool_note_rejected(stage->pool, stage->lane, wanted);
    }
    return result;
}

/* Waits for what kept an attempt from succeeding, or does it. A worker that waits for a place runs jobs of the stage: there
 * may be nobody else to run those that have the places. */
static enum wp_result
make_room(wp_stage *stage, enum attempt result, load *l, uint64_t deadline)
{
    wp_pool *pool = stage->pool;
    switch (result) {
    case NO_CHUNK:
        return add_chunk(pool, stage);
    case NO_WORKER:
        l->has_worker = true;
        return wp_start_first_worker(pool);
    case NO_ROOM:
        return l->is_hasty ? WP_FULL : wait_for_room(stage, l->n - l->done, deadline);
    default:
        if (l->is_hasty || (worker_here(stage) != NULL && help(stage) > 0)) {
            return l->is_hasty ? WP_FULL : WP_OK;
        }
        return nap_or_sleep(stage, sleep_for_place, &l->lightly, deadline);
    }
}

enum wp_result
wp_stage_put_many(wp_stage *stage, void *const *arguments, uint32_t n, uint64_t deadline, uint32_t *done)
{
    load l = {.arguments = arguments,
              .n = n,
              .over = wp_worker_in(stage->pool) != NULL,
              .is_hasty = deadline == 0,
              .lightly = !is_short(stage)};
    wp_partner_note_here(&stage->submitters);
    while (l.done < n && l.why == WP_OK) {
        enum attempt result = put_some(stage, &l);
        if (result != PUT && result != REFUSED) {
            l.why = make_room(stage, result, &l, deadline);
        }
    }
    *done = l.done;
    return l.why;
}

enum wp_result
wp_stage_put(wp_stage *stage, void *argument, uint64_t deadline)
{
    uint32_t done;
    return put_at_once(stage, argument) ? WP_OK : wp_stage_put_many(stage, &argument, 1, deadline, &done);
}

/* Sleeps until there may be a result. `lightly`: until there is any at all. */
static enum wp_result
sleep_for_result(wp_stage *stage, bool lightly, uint64_t deadline)
{
    uint32_t seen = say_asleep(&stage->asleep, lightly);
    uint64_t tail = wp_add_acq_rel(&stage->tail, 0);
    if (tail != wp_load_relaxed(&stage->head) || is_finished(stage)) {
        return WP_OK;
    }
    return sleep_on(stage, &stage->asleep, seen, is_finished, deadline);
}

static uint64_t
unread(wp_stage *stage)
{
    return wp_load_relaxed(&stage->tail) - wp_load_relaxed(&stage->head);
}

/* Whether jobs wait in the lane, or come within a while: a shorter one if there are results for the caller. */
static bool
jobs_come_soon(wp_stage *stage)
{
    int moment = 0;
    while (!wp_lane_is_ready(stage->pool, stage->lane)) {
        if (moment >= WP_PATIENCE_SPINS - 1 && unread(stage) > 0) {
            return false;
        }
        if (!wp_partner_pass_moment(&stage->submitters, &moment)) {
            wp_partner_note_wait(&stage->submitters, moment, false);
            return false;
        }
    }
    wp_partner_note_wait(&stage->submitters, moment, true);
    return true;
}

/* Whether the calling thread may run jobs of the stage: who is no worker keeps out of lanes that limit how many run. */
static bool
may_attend(const wp_stage *stage)
{
    return stage->pool->lanes[stage->lane].max_running == UINT32_MAX || worker_here(stage) != NULL;
}

/* For jobs that are left in the lane. A reader that has results to read is soon back for them. */
static void
leave_to_others(wp_stage *stage)
{
    wp_pool *pool = stage->pool;
    wp_errands errands = {0};
    wp_lock_take(&pool->lock);
    const wp_span *first = wp_ring_front(&pool->lanes[stage->lane].ring);
    bool calls = first != NULL && stage->workers_asleep > 0;
    if (first != NULL && needs_worker(pool, stage)) {
        wp_call_help_in_time(pool, first->job, 0, &errands);
    }
    wp_lock_give(&pool->lock);
    wp_errands_run(pool, &errands);
    if (calls) {
        call_all(stage);
    }
}

/* Runs jobs of the stage on the thread that waits for results. Meanwhile submitters need not call a worker; jobs that
 * are left get one in the end. Not for ever, though other readers may take each result. */
static void
attend(wp_stage *stage)
{
    uint32_t done = SMALL_HELP;
    uint32_t helped = 0;
    wp_partner_note_here(&stage->readers);
    wp_add_acq_rel(&stage->attending, 1);
    while (done > 0 && helped < MOST_ATTENDED && unread(stage) <= many(stage) && jobs_come_soon(stage)) {
        for (int i = 0; i < GATHERING && done < SMALL_HELP; i++) {
            wp_pause(); /* More jobs gather, which share the cost of a claim. */
        }
        done = help(stage);
        helped += done;
    }
    wp_sub_acq_rel(&stage->attending, 1);
    leave_to_others(stage);
}

/* Does what is better than to sleep, at once or for a moment: true if there was something. */
static bool
spend_time(wp_stage *stage, int *moment)
{
    if (unread(stage) > 0) { /* A result has its place and is not written yet, or another reader is faster. */
        if (*moment < WP_PATIENCE_SPINS) {
            wp_spin((*moment)++);
        } else {
            wp_yield();
        }
        return true;
    }
    if (is_short(stage) && may_attend(stage)) {
        attend(stage);
    }
    return unread(stage) > 0 || (worker_here(stage) != NULL && help(stage) > 0);
}

/* No result is there. Why none will come, or WP_OK. */
static enum wp_result
look_for_end(wp_stage *stage, uint64_t deadline)
{
    if (is_finished(stage)) {
        return WP_FINISHED;
    }
    if (is_of_parent(stage)) {
        return WP_BROKEN;
    }
    return is_late(deadline) ? WP_LATE : WP_OK;
}

static enum wp_result
wait_for_results(wp_stage *stage, uint64_t deadline, wp_stage_result *results, uint32_t most, uint32_t *n)
{
    bool lightly = !is_short(stage);
    int moment = 0;
    enum wp_result result = WP_OK;
    while ((*n = take_results(stage, results, most)) == 0 && result == WP_OK) {
        result = look_for_end(stage, deadline);
        if (result == WP_OK && !spend_time(stage, &moment)) {
            result = nap_or_sleep(stage, sleep_for_result, &lightly, deadline);
        }
    }
    return *n > 0 ? WP_OK : result;
}

enum wp_result
wp_stage_get_many(wp_stage *stage, uint64_t deadline, wp_stage_result *results, uint32_t most, uint32_t *n)
{
    *n = 0;
    if (stage->places == NULL) {
        return WP_FINISHED;
    }
    *n = take_results(stage, results, most);
    if (*n == 0) {
        enum wp_result waited = wait_for_results(stage, deadline, results, most, n);
        if (waited != WP_OK) {
            return waited;
        }
    }
    offer_places(stage);
    return WP_OK;
}

/* Takes the next result if it is there and no other reader comes first. */
static bool
take_at_once(wp_stage *stage, wp_stage_result *result)
{
    uint64_t head = wp_load_relaxed(&stage->head);
    return stage->places != NULL && read_place(stage, head, result) &&
           wp_cas_weak_acq_rel(&stage->head, &head, head + 1);
}

enum wp_result
wp_stage_get(wp_stage *stage, uint64_t deadline, wp_stage_result *result)
{
    uint32_t n;
    if (take_at_once(stage, result)) {
        offer_places(stage);
        return WP_OK;
    }
    return wp_stage_get_many(stage, deadline, result, 1, &n);
}

/* ---- Life ---- */

wp_stage *
wp_stage_new(wp_pool *pool, unsigned lane, wp_function *function, uint32_t capacity)
{
    void *memory = NULL;
    if (posix_memalign(&memory, WP_CACHE_LINE, sizeof(wp_stage)) != 0) {
        return NULL;
    }
    wp_stage *stage = memory;
    *stage = (wp_stage){.function = function, .lane = lane, .epoch = pool->epoch, .capacity = capacity};
    wp_store_relaxed(&stage->references, 1);
    wp_store_relaxed(&stage->holders, 1);
    stage->group = wp_group_new(NULL, MOST_CLAIMED, false);
    if (stage->group == NULL) {
        goto no_group;
    }
    stage->group->class_measures = true;
    wp_partner_init(&stage->readers);
    wp_partner_init(&stage->submitters);
    stage->end = &stage->oldest;
    if (capacity > 0) {
        for (stage->size = 1; stage->size < capacity; stage->size *= 2) {
        }
        stage->places = calloc(stage->size, sizeof *stage->places);
        if (stage->places == NULL) {
            goto no_places;
        }
    }
    wp_pool_ref(pool);
    wp_pool_open_part(pool, &stage->closable);
    stage->pool = pool;
    return stage;

no_places:
    wp_group_unref(stage->group);
no_group:
    free(stage);
    return NULL;
}

void
wp_stage_ref(wp_stage *stage)
{
    wp_add_relaxed(&stage->references, 1);
    wp_add_relaxed(&stage->holders, 1);
}

void
wp_stage_unref(wp_stage *stage)
{
    if (wp_sub_acq_rel(&stage->holders, 1) == 1) {
        wp_stage_close(stage);
    }
    stage_let_go(stage);
}

/* What is put from now on goes into other chunks, with numbers beyond the one that is returned. */
static uint64_t
seal_current(wp_stage *stage, bool close)
{
    wp_lock_take(&stage->pool->lock);
    chunk *c = is_of_parent(stage) ? NULL : stage->current;
    uint64_t n_chunks = stage->n_chunks;
    stage->current = NULL;
    if (close) {
        wp_closable_close(&stage->closable);
    }
    wp_lock_give(&stage->pool->lock);
    if (c != NULL) {
        seal(c);
    }
    return n_chunks;
}

void
wp_stage_close(wp_stage *stage)
{
    seal_current(stage, true);
    call_all(stage);
}

/* The first chunk with a number beyond `after`, up to `last`, with a reference; NULL when there is none. */
static chunk *
next_chunk(wp_stage *stage, uint64_t after, uint64_t last)
{
    wp_lock_take(&stage->pool->lock);
    chunk *c = is_of_parent(stage) ? NULL : stage->oldest;
    while (c != NULL && c->number <= after) {
        c = c->next;
    }
    c = c != NULL && c->number <= last ? c : NULL;
    if (c != NULL) {
        wp_job_ref(&c->range.job);
    }
    wp_lock_give(&stage->pool->lock);
    return c;
}

void
wp_stage_cancel(wp_stage *stage)
{
    uint64_t last = seal_current(stage, false);
    uint64_t done = 0;
    chunk *c;
    while ((c = next_chunk(stage, done, last)) != NULL) {
        done = c->number;
        wp_job_stop(&c->range.job);
        wp_job_unref(&c->range.job);
    }
    cancel_family(stage);
}
