/* How workers and submitters of a pool sleep and wake: a model of wp_wake.c, wp_worker.c, wp_idle.c and wp_room.c.
 *
 * WHAT STANDS FOR WHAT. What the core does under the pool's lock is one atomic step here, since all that it touches is
 * guarded by that lock; what it does without the lock (setting a worker's signal, waking, going to sleep) is a step for
 * each operation on a shared word. A sleep compares its word and sleeps in one step, as the kernel does. Any timed sleep
 * may end at any moment. Where the core decides by measured times (how many jobs to claim, whether a patrol will come early
 * enough, whether to stand back), any decision is possible here.
 *
 * WHAT IS CHECKED. The search goes through all interleavings. There is no end of a run but the one where every process
 * has finished (spin's invalid end states: so no lost wake-up, no deadlock, no job that stays), no run goes on for ever
 * (non-progress cycles; only a take-over counts as progress: two workers could hand one job to and fro for ever if each time
 * the one came between the other's claim and its beginning, which no system's scheduler does for ever), and the assertions hold. A job may be LONG: it ends only when
 * all others that were accepted have ended. So none is hidden behind another while a worker could have it.
 *
 * BREAK_... switches each break one line; the check must then fail. tests/test_model.py lists them.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef SUBMITTERS
#define SUBMITTERS 2
#endif
#ifndef JOBS /* Of each submitter. */
#define JOBS 2
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif
#ifndef LONG /* One job at most is long: needs two workers. */
#define LONG 0
#endif
#ifndef CLAIM /* Jobs in a claim at most. */
#define CLAIM 1
#endif
#ifndef RETIRE /* Workers retire when idle. */
#define RETIRE 0
#endif
#ifndef PATROL /* Workers may patrol and stand back. */
#define PATROL 0
#endif
#ifndef GIVE_UP /* The first submitter may give up waiting. */
#define GIVE_UP 0
#endif
#ifndef EARLY /* The pool may be closed while submitters are at work. */
#define EARLY 0
#endif
#ifndef CANCEL /* One job may be cancelled while it waits. */
#define CANCEL 0
#endif

#define NOBODY 255

/* The pool's lock: what is done under it is atomic, and waits for !locked. It is held from one step to the next only where a
 * worker goes on elsewhere with it. */
bool locked;

/* Under it. */
byte waiting;        /* Jobs in the line. */
bool waking;
bool closing;
bool idle[WORKERS];  /* On the idle list. */
byte n_idle;
byte n_workers;
byte n_threads;
byte patrols;
bool claimed_since[WORKERS]; /* Somebody claimed since this worker on patrol looked. */
byte blocked;        /* Submitters that sleep for room. */
byte running;        /* Workers with a claim. */
byte stretch[WORKERS]; /* Claimed and not begun. */

/* Words. */
bit signal[WORKERS];
bool room_changed[SUBMITTERS]; /* The word `room` has changed since this submitter looked at it: all that its value says. */
bool left_changed;             /* The same for the word `left` and who joins the pool. */

/* Who sleeps in the kernel, and on what. */
bool worker_sleeps[WORKERS];
bool submitter_sleeps[SUBMITTERS];
bool joiner_sleeps;

/* What a start is: the thread of the worker begins. */
bool started[WORKERS];

/* For the check alone. */
byte open;           /* Accepted, and neither ended nor cancelled. */
byte submitting = SUBMITTERS;
bool long_taken = (LONG == 0);
bool cancelled_one = (CANCEL == 0);

/* ---- Under the lock: each of these is part of an atomic step ---- */

#define HAS_WORK (waiting > 0)

/* Errands: whom to call or start, NOBODY for none. */
inline call_help(more, whom, start) {
    if
#ifdef BREAK_WAKING_NOT_LOOKED_AT
    :: (HAS_WORK || more) ->
#else
    :: !waking && (HAS_WORK || more) ->
#endif
        if
        :: n_idle > 0 ->
            select_idle(whom);
#ifndef BREAK_LEFT_ON_IDLE_LIST
            idle[whom] = false;
            n_idle--;
#endif
            waking = true
        :: n_idle == 0 && n_workers < WORKERS && n_threads < WORKERS ->
            select_unstarted(start);
            n_workers++;
            n_threads++;
            started[start] = true;
            waking = true
        :: else
        fi
    :: else
    fi
}

/* Any of those on the list: the core takes the latest, which is one of them. */
inline select_idle(whom) {
    if
    :: idle[0] -> whom = 0
#if WORKERS > 1
    :: idle[1] -> whom = 1
#endif
#if WORKERS > 2
    :: idle[2] -> whom = 2
#endif
    fi
}

inline select_unstarted(whom) {
    whom = 0;
    do
    :: started[whom] -> whom++
    :: else -> break
    od
}

/* May be left to a patrol, if there is one. */
inline call_help_in_time(more, whom, start) {
    if
    :: patrols > 0
    :: call_help(more, whom, start)
    fi
}

#if CAPACITY == 0
/* Workers that are free, less the jobs on their way to them. */
#define FREE_WORKERS (n_idle + waking + (WORKERS - n_workers))
#define ROOM (FREE_WORKERS > waiting -> FREE_WORKERS - waiting : 0)
#define IS_ENOUGH true
#else
#define ROOM (CAPACITY - waiting)
#define IS_ENOUGH (waiting <= CAPACITY / 2)
#endif

inline change_room() {
    i = 0;
    do
    :: i < SUBMITTERS -> room_changed[i] = true; i++
    :: else -> break
    od;
    i = 0
}

/* How many sleepers for room are to be woken. */
inline offer_room(any, count) {
    if
    :: blocked > 0 && ROOM > 0 && (any || IS_ENOUGH) ->
#ifndef BREAK_ROOM_NOT_COUNTED
        change_room();
#endif
        count = (count > ROOM -> count : ROOM)
    :: else
    fi
}

/* ---- Without the lock ---- */

/* Wakes up to `count` that sleep for room: any of them. One step: they are in the kernel's queue or not. */
inline wake_room(count) {
    d_step {
        i = 0;
        do
        :: i < SUBMITTERS && count > 0 && submitter_sleeps[i] -> submitter_sleeps[i] = false; count--; i++
        :: i < SUBMITTERS && !(count > 0 && submitter_sleeps[i]) -> i++
        :: i >= SUBMITTERS -> break
        od;
        i = 0;
        count = 0
    }
}

inline run_errands(whom, start, count) {
    if
    :: count > 0 -> wake_room(count)
    :: else
    fi;
    if
    :: whom != NOBODY ->
        signal[whom] = 1;
#ifndef BREAK_NOT_WOKEN
        worker_sleeps[whom] = false;
#endif
        whom = NOBODY
    :: else
    fi;
    if
    :: start != NOBODY -> run Worker(start); start = NOBODY
    :: else
    fi
}

/* ---- Workers ---- */

proctype Worker(byte me) {
    byte whom = NOBODY;
    byte start = NOBODY;
    byte count = 0;
    byte i = 0;
    byte take = 0;
    bool claimed = false;
    bool took_over = false;
    bool called = true;
    bool takes_over = false;
    bool served = false; /* It has claimed something since it last slept: then its next sleep may be a patrol. */
    bool over = false;
    bool was_patrol = false;
    bool is_long = false;
    bool leaves = false;

    atomic {
        !locked -> locked = true;
#ifndef BREAK_NEW_WORKER_STAYS_WAKING
        waking = false;
#endif
        goto look
    };

again:
    atomic {
        /* Reports the last claim. */
        !locked -> running--;
#if CAPACITY == 0
        offer_room(true, count);
#endif
look:
        locked = false;
        claimed = false;
        took_over = false;
        if
        :: HAS_WORK && PATROL && running > 0 && !takes_over -> skip /* It stands back. */
        :: HAS_WORK ->
            take = 1;
            if
            :: CLAIM > 1 && waiting > 1 -> take = 2
            :: true
            fi;
            waiting = waiting - take;
            stretch[me] = take;
            claimed = true
        :: else
        fi;
        if
        :: !claimed ->
            i = 0;
            do
            :: i < WORKERS && !claimed && i != me && stretch[i] > 0 ->
#ifdef BREAK_NOTHING_TAKEN_OVER
                i++
#else
                take = (stretch[i] + 1) / 2;
                stretch[i] = stretch[i] - take;
                stretch[me] = take;
                claimed = true;
                took_over = true
#endif
            :: i < WORKERS && !(!claimed && i != me && stretch[i] > 0) -> i++
            :: i >= WORKERS -> break
            od;
            i = 0
        :: else
        fi;
        if
        :: claimed ->
            i = 0;
            do
            :: PATROL && i < WORKERS -> claimed_since[i] = true; i++
            :: else -> break
            od;
            i = 0;
            running++;
            takes_over = false;
            served = PATROL;
#ifndef BREAK_CLAIM_OFFERS_NO_ROOM
            offer_room(false, count);
#endif
#ifndef BREAK_CHAIN
            /* For what is left in the line and, beyond the first job, in claims. */
            if
            :: take == 1 && (took_over || called) ->
                i = 0;
                do
                :: i < WORKERS && i != me && stretch[i] > 0 -> take = 2; i++
                :: i < WORKERS && !(i != me && stretch[i] > 0) -> i++
                :: i >= WORKERS -> break
                od;
                i = 0
            :: else
            fi;
            called = false;
            call_help_in_time((take > 1), whom, start);
#endif
            take = 0;
            goto work
        :: !claimed && closing && !HAS_WORK -> locked = true; goto leave
        :: else -> locked = true; goto sleep
        fi
    };

work:
    run_errands(whom, start, count);
    if
    :: took_over -> progress_taken_over: took_over = false
    :: else
    fi;
    do
    :: atomic { stretch[me] > 0 -> stretch[me]--;
            if
            :: !long_taken -> long_taken = true; is_long = true
            :: true
            fi
        };
        if
        :: is_long ->
            /* Ends when all others have: what has not ended is this one alone, and nothing more will come. */
            atomic { open == 1 && submitting == 0 -> is_long = false }
        :: else
        fi;
        atomic { open-- }
    :: atomic { stretch[me] == 0 -> break }
    od;
    goto again;

sleep:
    /* Still under the lock under which it saw that there is nothing. */
    atomic {
        locked = false;
#ifdef BREAK_SIGNAL_NOT_CLEARED
        skip;
#else
        signal[me] = 0;
#endif
        idle[me] = true;
        n_idle++;
        was_patrol = false;
        if
        :: PATROL && (served || HAS_WORK) -> was_patrol = true
        :: !(PATROL && HAS_WORK)
        fi;
        served = false;
#if CAPACITY == 0
#ifndef BREAK_FREE_WORKER_OFFERS_NOTHING
        offer_room(true, count);
#endif
#endif
    };
    run_errands(whom, start, count);
    if
    :: was_patrol -> atomic { !locked -> patrols++; claimed_since[me] = false }
    :: else
    fi;
doze:
    over = false;
    do
    :: signal[me] == 1 -> break
    :: signal[me] == 0 && !over ->
        /* The kernel compares and sleeps in one step. */
        if
#ifdef BREAK_SLEEP_WITHOUT_COMPARING
        :: atomic { worker_sleeps[me] = true };
#else
        :: atomic { signal[me] == 0 -> worker_sleeps[me] = true };
#endif
            if
            :: atomic { !worker_sleeps[me] }
            :: (RETIRE || was_patrol) -> atomic { worker_sleeps[me] = false; over = true }
            fi
        :: signal[me] == 1 -> skip
        fi
    :: over -> break
    od;
    atomic {
        /* On patrol it goes back to sleep as long as others keep taking what comes. */
        !locked -> skip;
        if
        :: was_patrol && over && idle[me] && claimed_since[me] -> claimed_since[me] = false; over = false; goto doze
        :: else
        fi;
        if
        :: was_patrol -> patrols--; takes_over = over
        :: else
        fi;
        if
        :: idle[me] ->
            idle[me] = false;
            n_idle--;
            /* Its time is over: it leaves, unless there is work. */
            leaves = !(was_patrol || HAS_WORK);
            over = false;
            was_patrol = false;
            locked = true;
            if
            :: leaves -> goto leave
            :: else -> goto look
            fi
        :: else
        fi
    };
    if
    :: over ->
        /* It was called just as its time was over. */
        do
        :: signal[me] == 1 -> break
        :: atomic { signal[me] == 0 -> worker_sleeps[me] = true };
            !worker_sleeps[me]
        od
    :: else
    fi;
    atomic {
        !locked -> locked = true;
        over = false;
        was_patrol = false;
#ifndef BREAK_WAKING_NOT_CLEARED
#ifndef BREAK_WAKING_CLEARED_WITHOUT_LOCK
        waking = false;
#endif
#endif
#ifdef BREAK_LEFT_ON_IDLE_LIST
        if
        :: idle[me] -> idle[me] = false; n_idle--
        :: else
        fi;
#endif
        called = true;
        goto look
    };

leave:
    atomic {
        locked = false;
        leaves = false;
        n_workers--;
        call_help(false, whom, start)
    };
    run_errands(whom, start, count);
    atomic {
        !locked -> n_threads--;
        started[me] = false;
        left_changed = true;
        joiner_sleeps = false
    }
}

/* ---- Submitters ---- */

proctype Submitter(byte me) {
    byte whom = NOBODY;
    byte start = NOBODY;
    byte count = 0;
    byte i = 0;
    byte jobs = 0;
    bool late = false;
    bool no_room = false;

    do
    :: jobs < JOBS ->
        atomic {
            !locked -> no_room = false;
            if
            :: closing -> jobs = JOBS
            :: !closing && ROOM > 0 ->
                waiting++;
                                open++;
                jobs++;
                call_help_in_time(false, whom, start)
            :: else -> no_room = true
            fi
        };
        run_errands(whom, start, count);
        if
        :: no_room ->
            /* Waits for room: wp_room.c's sleep_for_room, until it says something else than full. */
            do
            :: atomic {
                    !locked -> skip;
                    if
                    :: closing || ROOM > 0 -> break
                    :: else -> room_changed[me] = false; blocked++
                    fi
                };
#ifdef BREAK_ROOM_NOT_COMPARED
                atomic { submitter_sleeps[me] = true };
#else
                atomic { submitter_sleeps[me] = !room_changed[me] };
#endif
                if
                :: !submitter_sleeps[me]
                :: GIVE_UP && me == 0 -> atomic { submitter_sleeps[me] = false; late = true }
                fi;
                atomic {
                    !locked -> room_changed[me] = false;
                    blocked--;
                    if
                    :: closing || ROOM > 0 -> late = false; break
                    :: late -> break
                    :: else
                    fi
                }
            od;
            if
            :: late ->
                /* A wake-up that was meant for this thread is passed on. */
                atomic { !locked -> jobs = JOBS; late = false
#ifndef BREAK_ROOM_NOT_PASSED_ON
                    ; offer_room(true, count)
#endif
                };
                run_errands(whom, start, count)
            :: else
            fi
        :: else
        fi
        /* Woken for room, it may change its mind: its token was cancelled. */
        ;
        if
        :: GIVE_UP && me == 0 && no_room && jobs < JOBS ->
            atomic { !locked -> jobs = JOBS
#ifndef BREAK_REFUSED_AND_NOT_PASSED_ON
                ; offer_room(true, count)
#endif
            };
            run_errands(whom, start, count)
        :: true
        fi
    :: else -> break
    od;
    submitting--
}

/* Cancels a job that waits, or none. */
proctype Canceller() {
    byte count = 0;
    byte i = 0;
    if
    :: atomic { !locked && HAS_WORK ->
            waiting--;
            open--
#ifndef BREAK_CANCEL_OFFERS_NO_ROOM
            ; offer_room(true, count)
#endif
        };
        if
        :: count > 0 -> wake_room(count)
        :: else
        fi
    :: true
    fi
}

/* ---- The life of the pool ---- */

init {
    byte i = 0;
    bool calls[WORKERS];
    atomic {
        do
        :: i < SUBMITTERS -> run Submitter(i); i++
        :: else -> break
        od;
        i = 0;
        if
        :: CANCEL -> run Canceller()
        :: !CANCEL
        fi
    };
    if
    :: EARLY
    :: submitting == 0
    fi;
    /* Closes the pool and calls everybody. */
    atomic { !locked -> closing = true };
    atomic {
        !locked -> skip;
        do
        :: i < WORKERS -> calls[i] = idle[i]; idle[i] = false; i++
        :: else -> break
        od;
        i = 0;
        n_idle = 0;
#ifndef BREAK_CLOSE_CHANGES_NO_ROOM
        change_room();
#endif
        do
        :: i < SUBMITTERS -> submitter_sleeps[i] = false; i++
        :: else -> break
        od;
        i = 0;
        /* The core sets the signals under the lock too, so that nobody leaves meanwhile. */
        do
        :: i < WORKERS ->
            if
            :: calls[i] -> signal[i] = 1; worker_sleeps[i] = false
            :: else
            fi;
            calls[i] = false;
            i++
        :: else -> break
        od;
        i = 0
    };
    /* Joins it. */
    do
    :: atomic { !locked && n_threads == 0 && submitting == 0 -> break }
    :: atomic { !locked && n_threads > 0 -> left_changed = false };
        atomic { joiner_sleeps = !left_changed };
        !joiner_sleeps
    od;
    assert(waiting == 0 && open == 0 && n_idle == 0 && patrols == 0 && blocked == 0)
}
