/* The job: one thing to do, its state, and who holds it.
 *
 * PURPOSE. A job is a block of memory that whoever submits it allocates, with this header in front and the work (a
 * function and its arguments, a place for the result) behind. The core moves it through its states and calls the
 * functions of its class; it knows nothing of what the work is.
 *
 * STATES. One word holds the state and a few flags, and changes by compare-and-swap only:
 *
 *     NEW --> PENDING --> RUNNING --> DONE | FAILED | CANCELLED | TIMED_OUT
 *                |
 *                +------> CANCELLED | EXPIRED | LOST
 *
 * Whoever moves a job out of PENDING owns it until its outcome is told: a worker that begins it, a waiter that takes it
 * back, a canceller, or a deadline. That is why every job ends in exactly one outcome: there is one winner.
 * An outcome becomes visible to waiters when SETTLED is set, after it was counted and, where somebody asked for a
 * notice (NOTIFY), after that notice. The pool's number of unfinished jobs falls later still, so that who waits for it to
 * be none finds every outcome visible: a worker reports after its claim, and who ends a job elsewhere sets OWED. That
 * settling reports, and not what comes after it, lets callbacks of the end wait for the pool as well.
 *
 * HOLDERS. A job is counted: the pool holds one reference from submit until the job ended, each future or waiter holds
 * its own. The class's `destroy` runs with the last.
 */
#ifndef WP_JOB_H
#define WP_JOB_H

#include "wp_os.h"

#include "../include/workerpool.h"
#include "wp_ring.h"
#include "wp_stretch.h"

typedef struct wp_pool wp_pool;
typedef struct wp_worker wp_worker;
typedef struct wp_extra wp_extra;
typedef struct wp_pace wp_pace;
typedef struct wp_notes wp_notes;

/* Where a job's notes are (wp_notes.h), once it has some. */
typedef _Atomic(wp_notes *) wp_notes_slot;

/* The states are wp_state in workerpool.h. */
enum { WP_STATES = WP_LOST + 1 };

/* The word: bit 0 is WP_JOB_STOP, which workerpool.h gives to C callbacks. */
enum {
    WP_JOB_WAITED = 1u << 1,  /* Somebody sleeps on the word. */
    WP_JOB_NOTIFY = 1u << 2,  /* The class wants to be told of the end before it becomes visible. */
    WP_JOB_SETTLED = 1u << 3, /* The outcome is visible. */
    WP_JOB_OWED = 1u << 4,    /* The pool is to hear of the end from who settles the job. */
    WP_JOB_STATE_SHIFT = 5,
};

/* Flags of a job, set before it is submitted or begun and constant from then on. */
enum {
    WP_JOB_IS_RANGE = 1u << 0,  /* A wp_range: many units of work that several threads claim parts of. */
    WP_JOB_TIMED = 1u << 1,     /* Measure this job's own waiting and running time (else they may be sampled). */
    WP_JOB_IS_HAND = 1u << 2,   /* A place at another job (wp_crew.h), which alone is counted. */
    WP_JOB_RUNS_HERE = 1u << 3, /* Never submitted: its submitter runs it, and it is not among the unfinished. */
};

typedef struct wp_job_class {
    /* First, because wp_job_view.api points here: &wp_view_api for jobs whose function is handed the job, else NULL. */
    const wp_job_api *api;
    const char *name;

    /* Does the work and returns WP_DONE, WP_FAILED, or WP_CANCELLED for a job that stopped because it was asked to; or
     * WP_RUNNING if others may still be at it: then whoever is the last calls wp_job_end, and the job may be gone when
     * this returns but for the references that keep it.
     * Called with no lock held, on a worker or on a thread that waits for the job. `self` is NULL on the latter. */
    wp_state (*run)(wp_job *job, wp_worker *self);

    /* For a range instead of `run`: takes units from the front of the stretch, one or a few at a time, and does them,
     * until none is left, wp_worker_is_wanted() says that more urgent work waits, or wp_has_helped_enough(). Returns how many it did: at
     * least one if it got any, or lanes could keep each other from moving. Others may take units from the end meanwhile. */
    uint32_t (*run_range)(wp_job *job, wp_stretch *units, wp_worker *self);

    /* Units of a range were given up: nobody will do them. Called once for each, with no lock held, by who cancels; the
     * range has not ended yet. May be NULL. */
    void (*given_up)(wp_job *job, uint32_t begin, uint32_t end);

    /* The job will not begin, ever: it may have what only its run would need released. Called on any thread by who
     * withdraws it, with no lock held, before the outcome becomes visible; so it must run no foreign code, which could wait
     * for the outcome. May be NULL. */
    void (*withdrawn)(wp_job *job);

    /* Before the first and after the last of several consecutive jobs of this class on one worker; may be NULL. */
    void (*enter)(wp_worker *self);
    void (*leave)(wp_worker *self);

    /* The job has ended and WP_JOB_NOTIFY was set: must call wp_job_settle, now or later, on any thread. */
    void (*notify)(wp_job *job);

    /* The last reference is gone: frees what the job holds, and the job. On any thread, with no lock held. */
    void (*destroy)(wp_job *job);

    /* Writes one line that tells the job to a person, for reports of what still runs. Any thread, under a lock. */
    void (*describe)(const wp_job *job, char *text, size_t size);

    /* Where the job's notes are; NULL, also what it returns, for jobs that keep none. */
    wp_notes_slot *(*notes)(wp_job *job);

    /* For a class of which the notes hold children and nothing else: the token above the children's, which many jobs share,
     * with a reference; NULL without memory. Else NULL, and the job's own token is above. */
    struct wp_token *(*family)(wp_job *job);

    /* The work that one claim of several short jobs should amount to, in nanoseconds; and the work that is not worth
     * spreading over several workers. */
    uint32_t claim_ns;
    uint32_t spread_ns;

    /* Only one thread at a time gets on with short jobs or units, because they need something that there is one of (the
     * host's lock), for which `enter` waits. Others do not take part, as long as that one gets on. */
    bool one_at_a_time;

    /* `run` may return WP_RUNNING: several threads do one job, and its `worker` is but the first of them. */
    bool by_many;
} wp_job_class;

struct wp_job {
    /* These four are wp_job_view, which C callbacks read. */
    wp_word word;
    uint32_t worker;           /* Written by the thread that begins the job. */
    uint64_t deadline;         /* Of its run; written by the thread that begins it. */
    const wp_job_class *class; /* Constant. */

    wp_pool *pool;      /* Constant from submit on. */
    uint64_t ticket;    /* Pool's lock: its place in its lane's ring. */
    uint64_t queued_at; /* When it was submitted; 0 if not measured. Constant from submit on. */
    wp_extra *extra;    /* Constant: NULL, or what only jobs with options need. Owned by the job's memory. */
    wp_word references;
    uint16_t epoch; /* The pool's when it was submitted: a job of another epoch was lost in a fork. */
    uint8_t lane;   /* Constant from submit on. */
    uint8_t flags;  /* Constant. */
};

_Static_assert(offsetof(wp_job, worker) == offsetof(wp_job_view, worker), "the public view of a job is its beginning");
_Static_assert(offsetof(wp_job, deadline) == offsetof(wp_job_view, deadline), "as above");
_Static_assert(offsetof(wp_job, class) == offsetof(wp_job_view, api), "as above");
_Static_assert(offsetof(wp_job_class, api) == 0, "as above");
_Static_assert(sizeof(wp_job) <= 80, "a million jobs may wait: keep the header small");

/* What is behind workerpool.h (wp_handle.c). */
extern const wp_job_api wp_view_api;

/* Makes a header for a job that was not submitted yet, with one reference. `extra` may be NULL; it is given zeroed. */
void wp_job_init(wp_job *job, const wp_job_class *class, unsigned flags, wp_extra *extra);

static inline wp_state
wp_state_of_word(uint32_t word)
{
    return (wp_state)(word >> WP_JOB_STATE_SHIFT);
}

/* The state as it stands; for outcomes that others may see, look at wp_job_is_settled first. */
static inline wp_state
wp_job_state(wp_job *job)
{
    return wp_state_of_word(wp_load_acquire(&job->word));
}

static inline bool
wp_job_is_settled(wp_job *job)
{
    return (wp_load_acquire(&job->word) & WP_JOB_SETTLED) != 0;
}

static inline void
wp_job_ref(wp_job *job)
{
    wp_add_relaxed(&job->references, 1); /* The caller has one already, so the count cannot reach 0 meanwhile. */
}

static inline void
wp_job_unref(wp_job *job)
{
    /* The last holder needs no atomic subtraction: nobody else can touch the count. Acquire, because what the others
     * did to the job comes before its end. */
    if (wp_load_acquire(&job->references) == 1 || wp_sub_acq_rel(&job->references, 1) == 1) {
        job->class->destroy(job);
    }
}

/* Moves the job out of PENDING to `state` and returns true, or returns false because another did. The winner of
 * WP_RUNNING must call wp_job_run_taken or be the worker's loop; the winner of an outcome must call wp_job_ended. */
bool wp_job_take(wp_job *job, wp_state state);

/* Sets WP_JOB_STOP if the job is running, and stops its children; returns whether it is running. Called with no lock
 * held. */
bool wp_job_ask_to_stop(wp_job *job);

/* Sets WP_JOB_NOTIFY: from now on the class's notify will be called before the job is settled. False, and no notice,
 * if the job is settled already. */
bool wp_job_ask_for_notice(wp_job *job);

/* RUNNING to the outcome. The job is settled by this unless a notice was asked for: then it returns true, and the
 * caller must call the class's notify. */
bool wp_job_conclude(wp_job *job, wp_state outcome);

/* Makes the outcome visible, wakes who waits for it, and tells the pool if that is owed. */
void wp_job_settle(wp_job *job);

/* Sleeps until the job is settled, the deadline, or a signal. */
enum wp_wait_result wp_job_wait(wp_job *job, uint64_t deadline);

/* In wp_outcome.c: a job with OWED has been settled. Takes the pool's lock. */
void wp_job_pay(wp_job *job);

#endif
