/* The credits of a results queue: a model of wp_results.c and of who submits to it (wp_function.c).
 *
 * A submitter reserves a place for its result before the job is accepted, and sleeps while there is none; the place is free
 * again when the result was read. Sleeping submitters are called when half of the places are free (the low mark), or at
 * once where a reader may say so. What the core does under the queue's lock is one atomic step; waking and sleeping are
 * steps of their own. That a word has changed since a thread looked is all that its value says, so a flag stands for it.
 *
 * WHAT IS CHECKED. As in pool.pml: every run ends, with every process finished; so nobody sleeps through a wake-up, and no
 * accepted job's result stays. Never are there more places reserved than there are.
 */
#ifndef SUBMITTERS
#define SUBMITTERS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef JOBS
#define JOBS 2
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef GIVE_UP /* The first submitter may give up, asleep or with its place. */
#define GIVE_UP 0
#endif
#ifndef EARLY /* The queue may be closed while submitters are at work. */
#define EARLY 0
#endif

/* The queue's lock. */
byte reserved;
byte unread;
bool closed;
byte readers;
byte blocked;

bool room_changed[SUBMITTERS];
bool arrived_changed[READERS];
bool submitter_sleeps[SUBMITTERS];
bool reader_sleeps[READERS];

byte running;              /* Accepted and not ended: the pool's matter. */
byte submitting = SUBMITTERS;
byte reading = READERS;

inline change_room() {
#ifndef BREAK_ROOM_NOT_CHANGED
    i = 0;
    do
    :: i < SUBMITTERS -> room_changed[i] = true; i++
    :: else -> break
    od;
    i = 0
#else
    skip
#endif
}

inline change_arrived() {
#ifndef BREAK_ARRIVED_NOT_CHANGED
    i = 0;
    do
    :: i < READERS -> arrived_changed[i] = true; i++
    :: else -> break
    od;
    i = 0
#else
    skip
#endif
}

/* Under the lock: the place of a result is free; how many submitters are to be woken. */
inline free_place(at_once, places) {
    reserved--;
    if
#ifdef BREAK_LATCHED
    /* Only the step to the mark itself wakes. */
    :: blocked > 0 && (reserved == CAPACITY / 2 + 1 || at_once) ->
#else
    :: blocked > 0 && (reserved <= CAPACITY / 2 || at_once) ->
#endif
        change_room();
        places = CAPACITY - reserved
    :: else
    fi
}

/* Without the lock. Any of the sleepers; each wake-up is one step, because it looks at the kernel's queue alone. */
inline wake_room(places) {
    do
    :: atomic { places > 0 ->
            if
            :: submitter_sleeps[0] -> submitter_sleeps[0] = false
#if SUBMITTERS > 1
            :: submitter_sleeps[1] -> submitter_sleeps[1] = false
#endif
            :: else -> places = 1
            fi;
            places--
        }
    :: places == 0 -> break
    od
}

inline wake_one_reader() {
    atomic {
        if
        :: reader_sleeps[0] -> reader_sleeps[0] = false
#if READERS > 1
        :: reader_sleeps[1] -> reader_sleeps[1] = false
#endif
        :: else
        fi
    }
}

inline wake_all_readers() {
    atomic {
        change_arrived();
        i = 0;
        do
        :: i < READERS -> reader_sleeps[i] = false; i++
        :: else -> break
        od;
        i = 0
    }
}

proctype Submitter(byte me) {
    byte jobs = 0;
    byte i = 0;
    byte places = 0;
    bool none = false;
    bool has_place = false;
    bool late = false;
    bool finished = false;

    do
    :: jobs < JOBS ->
        atomic {
            none = false;
            if
            :: closed -> jobs = JOBS
            :: !closed && reserved < CAPACITY -> reserved++; jobs++; has_place = true
            :: else -> none = true
            fi;
            assert(reserved <= CAPACITY)
        };
        if
        :: none ->
            do
            :: atomic {
                    if
                    :: closed || reserved < CAPACITY -> break
                    :: else ->
                        room_changed[me] = false;
                        blocked++
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
                    blocked--;
                    room_changed[me] = false;
                    if
                    :: closed || reserved < CAPACITY ->
                        late = false;
                        break
                    :: late -> break
                    :: else
                    fi
                }
            od;
            if
            :: late ->
                late = false;
                jobs = JOBS;
#ifndef BREAK_ROOM_NOT_PASSED_ON
                atomic { change_room(); places = 1 };
                wake_room(places)
#endif
            :: else
            fi
        :: has_place -> atomic { running++; has_place = false }
        /* The pool may refuse the job: the place is given back. */
        :: has_place && GIVE_UP && me == 0 ->
            atomic {
                has_place = false;
                jobs = JOBS;
#ifdef BREAK_UNRESERVED_IN_SILENCE
                reserved--;
#else
                free_place(true, places);
#endif
                finished = closed && reserved == 0
            };
            wake_room(places);
            if
            :: finished -> wake_all_readers(); finished = false
            :: else
            fi
        :: !none && !has_place
        fi
    :: else -> break
    od;
    atomic { submitting-- }
}

/* Ends jobs, in the pool. */
proctype Worker() {
    byte i = 0;
    bool wake = false;
    do
    :: atomic { running > 0 ->
            running--;
            unread++;
            wake = readers > 0;
            if
            :: wake -> change_arrived()
            :: else
            fi
        };
        if
#ifdef BREAK_READER_NOT_WOKEN
        :: wake -> wake = false
#else
        :: wake -> wake_one_reader(); wake = false
#endif
        :: else
        fi
    :: atomic { running == 0 && submitting == 0 && reading == 0 -> break }
    od
}

proctype Reader(byte me) {
    byte i = 0;
    byte places = 0;
    bool got = false;
    bool over = false;
    bool finished = false;
    bool at_once = false;
    do
    :: over -> break
    :: else ->
        /* Some jobs ran so long that a wake-up is cheap beside them. */
        if
        :: true
        :: at_once = true
        fi;
        atomic {
            got = false;
            if
            :: unread > 0 ->
                unread--;
                free_place(at_once, places);
                got = true;
                finished = closed && reserved == 0
            :: unread == 0 && closed && reserved == 0 -> over = true
            :: else ->
                arrived_changed[me] = false;
                readers++
            fi;
            at_once = false
        };
        if
        :: !got && !over ->
            atomic { reader_sleeps[me] = !arrived_changed[me] };
            !reader_sleeps[me];
            atomic { readers--; arrived_changed[me] = false }
        :: else ->
            wake_room(places);
            if
#ifdef BREAK_LAST_READER_NOT_TOLD
            :: finished -> finished = false
#else
            :: finished -> wake_all_readers(); finished = false
#endif
            :: else
            fi
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
        run Reader(0);
#if READERS > 1
        run Reader(1)
#endif
    };
    if
    :: EARLY
    :: submitting == 0
    fi;
    atomic {
        closed = true;
        change_room()
    };
    atomic {
        do
        :: i < SUBMITTERS -> submitter_sleeps[i] = false; i++
        :: else -> break
        od;
        i = 0
    };
    wake_all_readers();
    atomic { submitting == 0 && reading == 0 && running == 0 -> assert(reserved == 0 && unread == 0 && blocked == 0) }
}
