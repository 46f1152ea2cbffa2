/* The scheduler, and what takes the place of wp_os.c and wp_wait_*.c under it; see schedule.h.
 *
 * STATE. Everything here belongs to the thread whose turn it is, and changes hands with it: only `turn` of a thread is
 * touched by two. That is a real futex, and the only place where a thread of a scenario really sleeps.
 *
 * CHOICES. Wherever there is more than one way to go on, the ways are numbered: 0 is what would happen by default (the
 * thread goes on; or, if it sleeps or pauses, the next in turn), then come the other threads that are ready, then those
 * whose timed sleep may end. A choice takes one of them:
 *     by a walk      any, with a probability that depends on the seed;
 *     by preemption  the default one, but for up to three moments picked by the seed, and any where a thread sleeps;
 *     by a plan      the default one, but for the steps that the plan names.
 * All plans up to a number of steps can be gone through one after the other: each run tells how many ways there were at
 * each step, which gives the next plans.
 */
#include "wp_os.h"

#include "schedule.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#undef pthread_join

#define MOST_THREADS 24
/* A run of so many steps does not end: the longest scenarios need a tenth of that. */
#define MOST_STEPS 400000u
#define TRACED 4096u
#define SHOWN 80u
/* What reading the clock, and a pause, take of virtual time (ns). */
#define CLOCK_NS 20u
#define PAUSE_NS 25u
#define PLAN_STEPS 4
#define STACK_SIZE ((size_t)256 << 10)

enum thread_state { UNUSED, READY, ASLEEP, JOINING, ENDED };

typedef struct thread {
    enum thread_state state;
    bool joined;
    pthread_t handle;
    void *(*main)(void *);
    void *argument;
    const wp_word *word; /* ASLEEP: on this. */
    uint64_t deadline;   /* ASLEEP: until this. */
    uint64_t since;      /* ASLEEP: from this step; who sleeps longest is woken first. */
    int joins;           /* JOINING: this thread, or -1 for all. */
    enum wp_wait_result woken;
    const char *function; /* Where it was last. */
    int line;
    atomic_uint turn; /* 1: go on. */
} thread;

enum how { BY_WALK, BY_PREEMPTION, BY_PLAN };

/* What a plan deviates from the default in: at a step, the way. */
typedef struct deviation {
    uint32_t step;
    uint32_t way;
} deviation;

/* The present run. */
static struct {
    const scenario *scenario;
    enum how how;
    uint64_t seed;
    uint64_t dice; /* Of the scheduler. */
    uint64_t scenario_dice;
    uint32_t one_in;     /* BY_WALK: another thread at one step in so many. */
    bool noisy;          /* Some sleeps end for no reason, or by a signal. */
    uint32_t moments[3]; /* BY_PREEMPTION: at these steps. */
    deviation plan[PLAN_STEPS];
    uint32_t plan_length;
    uint64_t now;
    uint32_t steps;  /* Choices made. */
    uint32_t events; /* Points passed, with a choice or without. */
    uint8_t *ways;   /* BY_PLAN: how many ways there were at each step; or NULL. */
    void (*invariant)(void *);
    void *context;
} run;

static thread threads[MOST_THREADS];
static int n_threads;
static int current;
static _Thread_local thread *self;

static struct {
    uint8_t thread;
    const char *function;
    int line;
} trace[TRACED];

/* ---- Random numbers ---- */

/* Steele, Lea and Flood's SplitMix64. */
static uint64_t
next_number(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t
dice(uint32_t below)
{
    return (uint32_t)(next_number(&run.dice) % below);
}

uint32_t
schedule_random(uint32_t below)
{
    return run.how == BY_PLAN ? 0 : (uint32_t)(next_number(&run.scenario_dice) % below);
}

bool
schedule_is_small(void)
{
    return run.how == BY_PLAN;
}

/* ---- Failing ---- */

static void
print_run(void)
{
    if (run.how != BY_PLAN) {
        printf("#   to have it again: --scenario %s --seed %" PRIu64 "\n", run.scenario->name, run.seed);
        return;
    }
    printf("#   to have it again: --scenario %s --plan '", run.scenario->name);
    for (uint32_t i = 0; i < run.plan_length; i++) {
        printf("%s%" PRIu32 ":%" PRIu32, i > 0 ? " " : "", run.plan[i].step, run.plan[i].way);
    }
    printf("'\n");
}

static void
print_threads(void)
{
    static const char *const names[] = {"unused", "ready", "asleep", "joining", "ended"};
    for (int i = 0; i < n_threads; i++) {
        printf("#   thread %d is %s at %s:%d", i, names[threads[i].state], threads[i].function, threads[i].line);
        if (threads[i].state == ASLEEP) {
            printf(", on a word that is %" PRIu32, (uint32_t)atomic_load((wp_word *)(uintptr_t)threads[i].word));
        }
        printf("%s\n", i == current ? " (its turn)" : "");
    }
}

/* The last steps, one line for each stay of a thread. */
static void
print_trace(void)
{
    uint32_t first = run.events > TRACED ? run.events - TRACED : 0;
    uint32_t from = run.events;
    for (uint32_t turns = 0; from > first && turns < SHOWN; from--) {
        turns += from == run.events || trace[from % TRACED].thread != trace[(from - 1) % TRACED].thread;
    }
    printf("#   the last turns:\n");
    for (uint32_t at = from; at < run.events; at++) {
        bool begins = at == from || trace[at % TRACED].thread != trace[(at - 1) % TRACED].thread;
        if (begins) {
            printf("%s#     %u:", at > from ? "\n" : "", trace[at % TRACED].thread);
        }
        printf(" %s:%d", trace[at % TRACED].function, trace[at % TRACED].line);
    }
    printf("\n");
}

void
schedule_fail(const char *format, ...)
{
    va_list arguments;
    printf("not ok - schedules of %s: ", run.scenario->name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_run();
    print_threads();
    print_trace();
    (void)fflush(stdout);
    _exit(EXIT_FAILURE);
}

/* Only to say which run it was: the process is in no state for more. */
static void
on_crash(int signal_number)
{
    printf("not ok - schedules of %s: signal %d\n", run.scenario->name, signal_number);
    print_run();
    (void)fflush(stdout);
    _exit(EXIT_FAILURE);
}

/* ---- Turns ---- */

static void
futex(atomic_uint *word, int operation, unsigned value)
{
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void
give_turn(thread *to)
{
    atomic_store_explicit(&to->turn, 1, memory_order_release);
    futex(&to->turn, FUTEX_WAKE_PRIVATE, 1);
}

static void
await_turn(thread *own)
{
    while (atomic_exchange_explicit(&own->turn, 0, memory_order_acquire) == 0) {
        futex(&own->turn, FUTEX_WAIT_PRIVATE, 0);
    }
}

static void
wake(thread *t, enum wp_wait_result why)
{
    t->state = READY;
    t->woken = why;
}

/* Ends the sleeps whose time is over. */
static void
let_time_pass(uint64_t now)
{
    run.now = now > run.now ? now : run.now;
    for (int i = 0; i < n_threads; i++) {
        if (threads[i].state == ASLEEP && threads[i].deadline <= run.now) {
            wake(&threads[i], WP_WAIT_TIMED_OUT);
        }
    }
}

/* The ways to go on, the default one first; of them n_ready are threads that are ready. */
typedef struct choice {
    int ways[MOST_THREADS];
    uint32_t n_ready;
    uint32_t n;
} choice;

/* `pauses`: the present thread comes last. */
static choice
find_ways(bool pauses)
{
    choice c = {.n = 0};
    for (int i = pauses; i < n_threads + pauses; i++) {
        int t = (current + i) % n_threads;
        if (threads[t].state == READY) {
            c.ways[c.n++] = t;
        }
    }
    c.n_ready = c.n;
    for (int i = 0; i < n_threads; i++) {
        if (threads[i].state == ASLEEP && threads[i].deadline != WP_FOREVER) {
            c.ways[c.n++] = i;
        }
    }
    return c;
}

/* Whose time comes first. */
static uint32_t
earliest(const choice *c)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < c->n; i++) {
        best = threads[c->ways[i]].deadline < threads[c->ways[best]].deadline ? i : best;
    }
    return best;
}

/* Any of those that are ready; seldom one whose time may be over. */
static uint32_t
any_way(const choice *c)
{
    return c->n > c->n_ready && dice(16) == 0 ? c->n_ready + dice(c->n - c->n_ready) : dice(c->n_ready);
}

static uint32_t
way_of_plan(void)
{
    for (uint32_t i = 0; i < run.plan_length; i++) {
        if (run.plan[i].step == run.steps) {
            return run.plan[i].way;
        }
    }
    return 0;
}

/* `goes_on`: the present thread could. */
static uint32_t
choose_way(const choice *c, bool goes_on)
{
    if (run.how == BY_PLAN) {
        if (run.ways != NULL) {
            run.ways[run.steps] = (uint8_t)c->n;
        }
        uint32_t way = way_of_plan();
        return way < c->n ? way : 0;
    }
    if (run.how == BY_WALK) {
        return !goes_on || dice(run.one_in) == 0 ? any_way(c) : 0;
    }
    bool preempts = run.steps == run.moments[0] || run.steps == run.moments[1] || run.steps == run.moments[2];
    return !goes_on || preempts ? any_way(c) : 0;
}

static void
look_for_end(void)
{
    for (int i = 0; i < n_threads; i++) {
        thread *t = &threads[i];
        if (t->state != JOINING) {
            continue;
        }
        bool over = true;
        for (int other = 0; other < n_threads; other++) {
            over = over && (other == i || (t->joins >= 0 && t->joins != other) || threads[other].state == ENDED);
        }
        if (over) {
            t->state = READY;
        }
    }
}

/* Says who goes on, and returns when that is this thread; at once if it has ended. */
static void
next_turn(bool pauses)
{
    thread *own = self;
    bool goes_on = own->state == READY && !pauses;
    let_time_pass(run.now);
    choice c = find_ways(pauses || own->state != READY);
    if (c.n == 0) {
        schedule_fail("everybody sleeps, and nobody will wake anybody");
    }
    uint32_t way = 0;
    if (c.n_ready == 0) {
        way = earliest(&c);
    } else if (c.n > 1) {
        way = choose_way(&c, goes_on);
        run.steps++;
    }
    thread *next = &threads[c.ways[way]];
    if (next->state == ASLEEP) {
        let_time_pass(next->deadline);
    }
    current = c.ways[way];
    if (next == own) {
        return;
    }
    bool ends = own->state == ENDED;
    give_turn(next);
    if (!ends) {
        await_turn(own);
    }
}

static void
note(const char *function, int line)
{
    self->function = function;
    self->line = line;
    trace[run.events % TRACED].thread = (uint8_t)(self - threads);
    trace[run.events % TRACED].function = function;
    trace[run.events % TRACED].line = line;
    if (++run.events > MOST_STEPS) {
        schedule_fail("the run does not end");
    }
    if (run.invariant != NULL) {
        run.invariant(run.context);
    }
}

void
schedule_point(const char *function, int line)
{
    if (self != NULL) {
        note(function, line);
        next_turn(false);
    }
}

void
schedule_pause(const char *function, int line)
{
    if (self != NULL) {
        note(function, line);
        run.now += PAUSE_NS;
        next_turn(true);
    }
}

void
schedule_spend(uint64_t ns)
{
    run.now += ns;
}

void
schedule_set_invariant(void (*invariant)(void *context), void *context)
{
    run.invariant = invariant;
    run.context = context;
}

/* ---- Threads ---- */

static void *
thread_main(void *argument)
{
    thread *own = argument;
    self = own;
    await_turn(own);
    own->main(own->argument);
    note("(its end)", 0);
    own->state = ENDED;
    look_for_end();
    next_turn(false);
    return NULL;
}

int
wp_thread_start(pthread_t *handle, void *(*main)(void *), void *argument, size_t stack_size)
{
    (void)stack_size;
    if (n_threads == MOST_THREADS) {
        schedule_fail("more than %d threads", MOST_THREADS);
    }
    thread *t = &threads[n_threads++];
    *t = (thread){.state = READY, .main = main, .argument = argument, .function = "(its start)"};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int error = pthread_create(handle, &attributes, thread_main, t);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        schedule_fail("no thread: error %d", error);
    }
    t->handle = *handle;
    schedule_point("wp_thread_start", 0);
    return 0;
}

pthread_t
schedule_start(void *(*main)(void *), void *argument)
{
    pthread_t handle;
    wp_thread_start(&handle, main, argument, 0);
    return handle;
}

/* The latest with this handle: the system may give it to one thread after another. */
static int
find_thread(pthread_t handle)
{
    int found = n_threads - 1;
    while (found > 0 && (threads[found].joined || !pthread_equal(threads[found].handle, handle))) {
        found--;
    }
    return found;
}

static void
await_end(int joins)
{
    self->state = JOINING;
    self->joins = joins;
    look_for_end();
    next_turn(false);
}

int
schedule_join(pthread_t handle, void **result)
{
    int joined = find_thread(handle);
    if (self == NULL || joined == 0) {
        return pthread_join(handle, result);
    }
    note("pthread_join", 0);
    threads[joined].joined = true;
    await_end(joined);
    return pthread_join(handle, result);
}

void
wp_thread_set_name(const char *name)
{
    (void)name;
}

/* More than the scenarios have workers, so that all of them may be called. */
unsigned
wp_processors_by_affinity(void)
{
    return 64;
}

/* So that a thread finds others on its own processor and not. */
int
wp_processor(void)
{
    return (int)schedule_random(2);
}

void
wp_yield(void)
{
    schedule_pause("wp_yield", 0);
}

/* ---- Time and sleep ---- */

uint64_t
wp_clock(void)
{
    run.now += CLOCK_NS;
    return run.now;
}

/* Sleeps that end for no reason, which the contract allows. */
static bool
ends_for_no_reason(enum wp_wait_result *why)
{
    if (!run.noisy || dice(8) != 0) {
        return false;
    }
    *why = dice(2) == 0 ? WP_WAIT_WOKEN : WP_WAIT_INTERRUPTED;
    return true;
}

enum wp_wait_result
wp_word_wait(wp_word *word, uint32_t expected, uint64_t deadline)
{
    enum wp_wait_result why = WP_WAIT_WOKEN;
    schedule_point("wp_word_wait", 0);
    if (atomic_load_explicit(word, memory_order_relaxed) != expected) {
        return WP_WAIT_WOKEN;
    }
    if (deadline <= run.now) {
        return WP_WAIT_TIMED_OUT;
    }
    if (self == NULL) {
        return WP_WAIT_INTERRUPTED;
    }
    if (ends_for_no_reason(&why)) {
        schedule_pause("(woken for no reason)", 0);
        return why;
    }
    self->word = word;
    self->deadline = deadline;
    self->since = run.events;
    self->state = ASLEEP;
    next_turn(false);
    note("(awake)", 0);
    return self->woken;
}

/* The one of those on the word that has slept longest; where choices are random, any. */
static thread *
pick_sleeper(const wp_word *word)
{
    thread *picked = NULL;
    uint32_t n = 0;
    for (int i = 0; i < n_threads; i++) {
        thread *t = &threads[i];
        if (t->state != ASLEEP || t->word != word) {
            continue;
        }
        n++;
        bool better = picked == NULL || (run.how == BY_PLAN ? t->since < picked->since : dice(n) == 0);
        picked = better ? t : picked;
    }
    return picked;
}

void
wp_word_wake(wp_word *word, unsigned count)
{
    thread *t;
    schedule_point("wp_word_wake", 0);
    while (count-- > 0 && (t = pick_sleeper(word)) != NULL) {
        wake(t, WP_WAIT_WOKEN);
    }
}

void
wp_word_after_fork(void)
{
}

/* ---- Runs ---- */

/* What this process has used: its runs are as many on a machine that others use too. */
static uint64_t
processor_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Runs the scenario once; what decides its choices is set. */
static void
run_once(const scenario *s)
{
    run.scenario = s;
    run.now = 1000000000u;
    run.steps = 0;
    run.events = 0;
    run.invariant = NULL;
    n_threads = 1;
    current = 0;
    threads[0] = (thread){.state = READY, .function = "(its start)"};
    self = &threads[0];
    s->body();
    run.invariant = NULL;
    note("(its end)", 0);
    await_end(-1);
    self = NULL;
}

/* About how many steps a run of this scenario has: moments of preemption are picked among so many. */
static uint32_t expected_steps;

static void
run_seed(const scenario *s, uint64_t seed)
{
    static const uint32_t rates[] = {2, 4, 12, 40, 150};
    run.seed = seed;
    run.dice = seed * 2 + 1;
    run.scenario_dice = seed * 2;
    run.how = dice(2) == 0 ? BY_WALK : BY_PREEMPTION;
    run.one_in = rates[dice(5)];
    run.noisy = dice(8) == 0;
    for (int i = 0; i < 3; i++) {
        /* The steps depend on the seed alone, or it could not be had again: so not on what earlier runs were like. */
        run.moments[i] = dice(32u << dice(7));
    }
    run_once(s);
    expected_steps = run.steps;
}

/* ---- All plans ---- */

typedef struct survey {
    const scenario *scenario;
    uint32_t most; /* Deviations. */
    uint64_t runs;
    uint64_t until; /* Of processor_time. */
    bool cut;       /* Not all were gone through. */
} survey;

static void
survey_from(survey *y, uint32_t length)
{
    static uint8_t ways_of[PLAN_STEPS + 1][MOST_STEPS + 1];
    uint8_t *ways = ways_of[length];
    run.how = BY_PLAN;
    run.seed = 0;
    run.noisy = false;
    run.plan_length = length;
    run.ways = length < y->most ? ways : NULL;
    run_once(y->scenario);
    y->runs++;
    uint32_t steps = run.steps;
    run.ways = NULL;
    for (uint32_t step = length > 0 ? run.plan[length - 1].step + 1 : 0; length < y->most && step < steps; step++) {
        for (uint32_t way = 1; way < ways[step]; way++) {
            if (processor_time() >= y->until) {
                y->cut = true;
                return;
            }
            run.plan[length] = (deviation){step, way};
            survey_from(y, length + 1);
        }
    }
}

/* ---- The program ---- */

typedef struct settings {
    const char *only;   /* A scenario's name, or NULL. */
    double seconds;     /* Of processor_time: for random schedules, and as much for plans, of each scenario. */
    uint64_t schedules; /* Random ones of each scenario at most. */
    uint64_t seed;      /* The first. */
    bool one_seed;
    const char *plan;
    uint32_t deviations; /* Of plans. */
} settings;

static void
print_help(void)
{
    printf("--scenario NAME   only this one; --list names them\n"
           "--seconds S       of processor time of each scenario, for random schedules and again for plans (1)\n"
           "--schedules N     random schedules of each scenario at most\n"
           "--first SEED      where the seeds of random schedules begin (1)\n"
           "--deviations D    all plans of up to D steps off the default (2)\n"
           "--seed SEED       one random schedule; --plan 'STEP:WAY ...' one by plan\n");
}

static bool
read_settings(settings *given, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value == NULL) {
            return false;
        }
        if (strcmp(argv[i], "--scenario") == 0) {
            given->only = value;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            given->seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--schedules") == 0) {
            given->schedules = strtoull(value, NULL, 0);
        } else if (strcmp(argv[i], "--first") == 0) {
            given->seed = strtoull(value, NULL, 0);
        } else if (strcmp(argv[i], "--seed") == 0) {
            given->seed = strtoull(value, NULL, 0);
            given->one_seed = true;
        } else if (strcmp(argv[i], "--plan") == 0) {
            given->plan = value;
        } else if (strcmp(argv[i], "--deviations") == 0) {
            given->deviations = (uint32_t)strtoul(value, NULL, 0);
        } else {
            return false;
        }
    }
    return given->deviations <= PLAN_STEPS;
}

static void
run_plan(const scenario *s, const char *text)
{
    char *rest;
    run.how = BY_PLAN;
    for (run.plan_length = 0; run.plan_length < PLAN_STEPS && *text != '\0'; text = rest) {
        run.plan[run.plan_length].step = (uint32_t)strtoul(text, &rest, 10);
        text = *rest == ':' ? rest + 1 : rest;
        run.plan[run.plan_length++].way = (uint32_t)strtoul(text, &rest, 10);
    }
    run_once(s);
}

static void
run_scenario(const scenario *s, const settings *given)
{
    uint64_t span = (uint64_t)(given->seconds * 1e9);
    uint64_t until = processor_time() + span;
    uint64_t runs = 0;
    while (runs < given->schedules && processor_time() < until) {
        run_seed(s, given->seed + runs++);
    }
    survey y = {.scenario = s, .most = given->deviations};
    y.until = processor_time() + span;
    run.noisy = false;
    if (y.most > 0) {
        survey_from(&y, 0);
    }
    printf("ok - schedules of %s: %" PRIu64 " random (the last had %" PRIu32 " choices), %" PRIu64
           " plans of up to %" PRIu32 " deviations%s\n",
           s->name, runs, expected_steps, y.runs, y.most, y.cut ? ", not all there are" : "");
    (void)fflush(stdout);
}

/* Turns change hands fastest on one processor. */
static void
stay_on_one_processor(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

int
schedule_main(int argc, char **argv, const scenario *scenarios, int n)
{
    settings given = {.seconds = 1, .schedules = UINT64_MAX, .seed = 1, .deviations = 2};
    bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
    if (!list && !read_settings(&given, argc, argv)) {
        print_help();
        return EXIT_FAILURE;
    }
    (void)signal(SIGSEGV, on_crash);
    (void)signal(SIGABRT, on_crash);
    (void)signal(SIGBUS, on_crash);
    stay_on_one_processor();
    int found = 0;
    for (int i = 0; i < n; i++) {
        if (given.only != NULL && strcmp(given.only, scenarios[i].name) != 0) {
            continue;
        }
        found++;
        if (list) {
            printf("%s\n", scenarios[i].name);
        } else if (given.plan != NULL) {
            run_plan(&scenarios[i], given.plan);
        } else if (given.one_seed) {
            run_seed(&scenarios[i], given.seed);
        } else {
            run_scenario(&scenarios[i], &given);
        }
    }
    if (found == 0) {
        printf("there is no scenario %s\n", given.only);
    }
    return found > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
