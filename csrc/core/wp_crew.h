/* Crews: several threads that do one job together.
 *
 * PURPOSE. A loop over n elements is one job: one future, one outcome, one place in its lane, counted once. Its elements
 * are claimed part by part from one counter, by the thread that began the job and by workers that join it.
 *
 * DESIGN. A crew lies in the memory of its job, whose class runs it with wp_crew_run. Workers are called through the
 * job's lane, so that priorities and limits of lanes hold for them too: a hand is a small job in the lane, and the
 * worker that comes to it joins the crew. At most one hand waits at a time, and whoever takes part calls the next one
 * while what is left is worth it; so a short loop calls nobody, and a long one has all workers after a few microseconds.
 * A worker that is wanted for more urgent work leaves between two parts, with a hand in its place at the front of the
 * lane. If it was the last, the loop stands still until that hand's turn comes.
 *
 * Parts begin small and grow until each takes about 100 us by the pace measured so far; towards the end they shrink
 * again, so that all threads finish together.
 *
 * GUARANTEES. Each element is in one part at most. When the job ends, the parts that were claimed are a prefix of the
 * elements and nobody is at any of them. A failed part, a request to stop, and the deadline of the job end the claiming.
 */
#ifndef WP_CREW_H
#define WP_CREW_H

#include "wp_job.h"

typedef struct wp_crew wp_crew;

/* What a crew does; constant. Called with no lock held. */
typedef struct wp_crew_class {
    /* A worker is about to take part, for the first time or again; may be NULL. It may take long: only then does the
     * worker count. */
    void (*join)(wp_job *job, wp_worker *self);

    /* Does the elements begin to end - 1, on any thread that takes part; several run at once. False if that failed:
     * then no more is claimed, and the job ends as WP_FAILED. */
    bool (*part)(wp_job *job, uint64_t begin, uint64_t end);

    /* Nobody is at work any more: the last moment before the job ends with this outcome. On the last thread to leave. */
    void (*end)(wp_job *job, wp_state outcome);
} wp_crew_class;

struct wp_crew {
    wp_job *job;                /* Constant. */
    const wp_crew_class *class; /* Constant. */
    uint64_t n;                 /* Constant: elements. */
    bool grain_is_fixed;        /* Constant. */
    uint32_t most;              /* Constant from the beginning on: threads that take part, at most: the pool's workers,
                                   and the thread that began it if it is none of them. */
    uint64_t began;             /* Likewise: when. */
    wp_word state;              /* How many take part, and two flags; see wp_crew.c. */
    wp_word failed;             /* 1 once a part has failed. */
    wp_word had_turn;           /* 1 once the job's turn in its lane has come: its hands need not queue up again. */
    _Atomic(uint64_t) next;     /* The first element that was not claimed. */
    _Atomic(uint64_t) grain;    /* Elements of the next part. */
    _Atomic(uint64_t) pace;     /* Picoseconds for an element, as measured lately; 0 while unknown. */
    wp_job *hand;               /* The latest hand, with a reference; whose it is to change: see wp_crew.c. */
};

/* A crew for a job that was not submitted yet. `grain`: the elements of each part, or 0 for parts by time. */
void wp_crew_init(wp_crew *crew, wp_job *job, const wp_crew_class *class, uint64_t n, uint64_t grain);

/* Before it begins: the picoseconds that an element is thought to take, or 0. Where that is not known, help is called
 * before the first part has been measured. If it was measured before, parts need not begin with one element. */
void wp_crew_expect(wp_crew *crew, uint64_t pace, bool is_measured);

/* For the `run` of the job's class: takes part, and returns WP_RUNNING, because the job is ended by whoever is the last
 * to leave. `self` as `run` got it. */
wp_state wp_crew_run(wp_crew *crew, wp_worker *self);

/* Begins the job on the calling thread without a wait in the lane, and makes that thread the first to take part. It
 * then calls wp_crew_work and wp_crew_leave. On anything else than WP_OK nothing has begun: as for wp_pool_run_here,
 * which cannot be for a job without time limits. */
enum wp_result wp_crew_start(wp_crew *crew, wp_pool *pool, unsigned lane);

/* For a thread that takes part: does parts until nothing is left to claim (false), or until a moment that it may
 * choose (true). A worker that gives its `self` also returns false when it is wanted elsewhere. */
bool wp_crew_work(wp_crew *crew, wp_worker *self, uint64_t until);

/* The thread takes part no longer. */
void wp_crew_leave(wp_crew *crew);

/* For a thread that can do nothing but wait for the job: takes part if the job has begun and not ended, until nothing is
 * left to claim. */
void wp_crew_help(wp_crew *crew);

/* The elements below this one were claimed; all of them are done if the job has ended well or was cancelled. */
uint64_t wp_crew_claimed(wp_crew *crew);

#endif
