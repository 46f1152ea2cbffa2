/* How readers and submitters of a stage sleep and wake: a model of wp_stage.c, with each operation on a shared word a step.
 *
 * `tail` counts results that have got their position, `head` those that were read, `accepted` those that were let in.
 * A reader that finds nothing says so in `asleep` and then looks once more; a worker moves `tail` and then looks at
 * `asleep`. The same holds between a submitter (`blocked`) and a reader (`head`). Putting is under the pool's lock, one
 * atomic step. The words' counts of calls only say whether there was one since a thread looked: a flag for each thread.
 * Sleeps that are not light are naps, which may end at any moment.
 *
 * WHAT IS CHECKED. As in pool.pml. The one loop that waits without sleeping, for a result that has its position and is
 * about to be written, ends as soon as its worker goes on: it counts as progress.
 */
#ifndef SUBMITTERS
#define SUBMITTERS 1
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef JOBS
#define JOBS 2
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif
#ifndef EARLY /* The stage may be closed while submitters are at work. */
#define EARLY 0
#endif
#ifndef NAPS /* Jobs may be short, so that the first sleep is a nap. */
#define NAPS 1
#endif
#ifndef UNREAD /* Nobody reads before all submitters are done: only a close ends their waiting. */
#define UNREAD 0
#endif

#define MANY (CAPACITY / 2)
#define MOST (SUBMITTERS * JOBS)

byte accepted;
byte queued;              /* Accepted and not begun. */
byte head_seen;
bool closed;
byte tail;
byte head;
bool written[MOST + 1];   /* The result at this position. */

/* The words `asleep` and `blocked`: what they say, and who sleeps on them. */
bool asleep_deep, asleep_light;
bool blocked_deep, blocked_light;
bool called_reader[READERS];     /* `asleep` has changed since this reader looked. */
bool called_submitter[SUBMITTERS];
bool reader_sleeps[READERS];
bool submitter_sleeps[SUBMITTERS];

byte submitting = SUBMITTERS;
byte reading = READERS;

inline call_readers() {
    if
    :: asleep_deep || asleep_light ->
        atomic {
            if
            :: asleep_deep || asleep_light ->
                asleep_deep = false;
                asleep_light = false;
#ifndef BREAK_CALL_WITHOUT_A_CHANGE
                i = 0;
                do
                :: i < READERS -> called_reader[i] = true; i++
                :: else -> break
                od;
#endif
                i = READERS
            :: else -> i = 0
            fi
        };
        atomic {
            do
            :: i > 0 -> i--; reader_sleeps[i] = false
            :: else -> break
            od
        }
    :: else
    fi
}

inline call_submitters() {
    if
    :: blocked_deep || blocked_light ->
        atomic {
            if
            :: blocked_deep || blocked_light ->
                blocked_deep = false;
                blocked_light = false;
                i = 0;
                do
                :: i < SUBMITTERS -> called_submitter[i] = true; i++
                :: else -> break
                od;
                i = SUBMITTERS
            :: else -> i = 0
            fi
        };
        atomic {
            do
            :: i > 0 -> i--; submitter_sleeps[i] = false
            :: else -> break
            od
        }
    :: else
    fi
}

proctype Submitter(byte me) {
    byte jobs = 0;
    byte i = 0;
    bool no_place = false;
    bool light = !NAPS;
    bool looks_again = false;
    byte seen = 0;
    if
    :: true
    :: light = true
    fi;
    do
    :: jobs < JOBS ->
        atomic {
            no_place = false;
            if
            :: closed -> jobs = JOBS
            :: else ->
                if
                :: accepted - head_seen >= CAPACITY -> head_seen = head
                :: else
                fi;
                if
                :: accepted - head_seen < CAPACITY -> accepted++; queued++; jobs++
                :: else -> no_place = true
                fi
            fi
        };
        if
        :: no_place ->
#ifndef BREAK_BLOCKED_SAID_AFTER_THE_LOOK
            atomic {
                called_submitter[me] = false;
                if
                :: light -> blocked_light = true
                :: else -> blocked_deep = true
                fi
            };
#endif
            seen = head;
            looks_again = accepted - seen < CAPACITY || closed;
            seen = 0;
#ifdef BREAK_BLOCKED_SAID_AFTER_THE_LOOK
            atomic {
                called_submitter[me] = false;
                if
                :: light -> blocked_light = true
                :: else -> blocked_deep = true
                fi
            };
#endif
            if
            :: looks_again
            :: else ->
                atomic { submitter_sleeps[me] = !called_submitter[me] };
                if
                :: !submitter_sleeps[me]
                :: !light -> atomic { submitter_sleeps[me] = false; light = true }
                fi
            fi;
            looks_again = false
        :: else
        fi
    :: else -> break
    od;
    atomic { submitting-- }
}

proctype Worker() {
    byte at = 0;
    byte i = 0;
    bool worth = false;
    do
    :: atomic { queued > 0 -> queued-- };
        atomic { at = tail; tail++ };
        written[at] = true;
        /* Whether anybody sleeps, and whether it is worth a call: one load after the other. */
        if
        :: asleep_deep || asleep_light ->
#ifdef BREAK_LAST_NOT_WORTH_A_CALL
            if
            :: asleep_light && at != accepted - 1 -> worth = true
            :: else
            fi;
#else
            if
            :: asleep_light -> worth = true
            :: else
            fi;
            if
            :: at + 1 == accepted -> worth = true
            :: else
            fi;
#endif
            if
            :: at - head >= MANY -> worth = true
            :: else
            fi;
            if
            :: worth -> call_readers()
            :: else
            fi;
            worth = false
        :: else
        fi;
        at = 0;
        i = 0
    :: atomic { queued == 0 && submitting == 0 && reading == 0 -> break }
    od
}

proctype Reader(byte me) {
    byte at = 0;
    byte i = 0;
    byte used = 0;
    bool got = false;
    bool light = !NAPS;
    bool looks_again = false;
    if
    :: !UNREAD
    :: UNREAD && submitting == 0
    fi;
    do
    :: atomic { got = false; at = head };
        do
        :: atomic { written[at] && head == at -> head++; got = true; break }
        :: atomic { written[at] && head != at -> at = head }
        :: atomic { !written[at] && head != at -> at = head }
        :: atomic { !written[at] && head == at -> break }
        od;
        at = 0;
        if
        :: got ->
            /* Places are offered when half of them are free, or to whoever napped in vain. */
            if
            :: blocked_deep || blocked_light ->
                looks_again = blocked_light;
                used = accepted;
                used = used - head;
                if
#ifdef BREAK_PLACES_NOT_OFFERED
                :: used <= CAPACITY / 2 && looks_again && false -> call_submitters()
#else
                :: used <= CAPACITY / 2 || looks_again -> call_submitters()
#endif
                :: else
                fi;
                used = 0;
                looks_again = false
            :: else
            fi;
            i = 0;
            light = !NAPS
        :: else ->
            if
            :: closed && accepted == head -> break
            :: else
            fi;
            if
            :: true
            :: light = true
            fi;
#ifndef BREAK_ASLEEP_SAID_AFTER_THE_LOOK
            atomic {
                called_reader[me] = false;
                if
                :: light -> asleep_light = true
                :: else -> asleep_deep = true
                fi
            };
#endif
            used = tail;
            if
            :: used != head -> used = 0; looks_again = true;
progress_about_to_be_written:
                skip
            :: else ->
                used = 0;
#ifndef BREAK_CLOSE_NOT_LOOKED_AT
                looks_again = closed && accepted == head
#endif
            fi;
#ifdef BREAK_ASLEEP_SAID_AFTER_THE_LOOK
            atomic {
                called_reader[me] = false;
                if
                :: light -> asleep_light = true
                :: else -> asleep_deep = true
                fi
            };
#endif
            if
            :: looks_again
            :: else ->
                atomic { reader_sleeps[me] = !called_reader[me] };
                if
                :: !reader_sleeps[me]
                :: !light -> atomic { reader_sleeps[me] = false; light = true }
                fi
            fi;
            looks_again = false
        fi
    od;
    atomic { reading-- }
}

init {
    byte i = 0;
    atomic {
        run Submitter(0);
#if SUBMITTERS > 1
        run Submitter(1);
#endif
        run Worker();
#if WORKERS > 1
        run Worker();
#endif
        run Reader(0);
#if READERS > 1
        run Reader(1)
#endif
    };
    if
    :: EARLY
    :: submitting == 0
    fi;
    closed = true;
#ifndef BREAK_CLOSE_CALLS_NO_READER
    call_readers();
#endif
    i = 0;
#ifndef BREAK_CLOSE_CALLS_NO_SUBMITTER
    call_submitters();
#endif
    i = 0;
    atomic { submitting == 0 && reading == 0 -> assert(queued == 0 && head == accepted && tail == accepted) }
}
