/* C functions that the tests call as native jobs. Compiled once a session by the fixture `helpers_path`. */
#include <workerpool.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

static int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
nap(int64_t ns)
{
    struct timespec rest = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
}

/* ---- Every type as parameter and result ---- */

#define IDENTITY(name, type)                                                                                           \
    EXPORT type name(type x);                                                                                          \
    type name(type x) { return x; }

IDENTITY(id_char, char)
IDENTITY(id_schar, signed char)
IDENTITY(id_uchar, unsigned char)
IDENTITY(id_short, short)
IDENTITY(id_ushort, unsigned short)
IDENTITY(id_int, int)
IDENTITY(id_uint, unsigned int)
IDENTITY(id_long, long)
IDENTITY(id_ulong, unsigned long)
IDENTITY(id_llong, long long)
IDENTITY(id_ullong, unsigned long long)
IDENTITY(id_size, size_t)
IDENTITY(id_float, float)
IDENTITY(id_double, double)
IDENTITY(id_bool, bool)
IDENTITY(id_pointer, void *)

static atomic_int calls_of_nothing;

EXPORT void nothing(void);
void nothing(void) { atomic_fetch_add(&calls_of_nothing, 1); }

EXPORT int nothing_calls(void);
int nothing_calls(void) { return atomic_load(&calls_of_nothing); }

/* More integers than go in registers, and more floating numbers, mixed. */
EXPORT double mixed(int8_t a, float b, uint16_t c, double d, int32_t e, float f, uint64_t g, double h, int64_t i,
                    const unsigned char *j, bool k, double l);
double
mixed(int8_t a, float b, uint16_t c, double d, int32_t e, float f, uint64_t g, double h, int64_t i,
      const unsigned char *j, bool k, double l)
{
    return a + 2.0 * b + 3.0 * c + 4.0 * d + 5.0 * e + 6.0 * f + 7.0 * (double)g + 8.0 * h + 9.0 * (double)i +
           10.0 * j[0] + 11.0 * k + 12.0 * l;
}

EXPORT double sum_doubles(double a, double b, double c, double d);
double sum_doubles(double a, double b, double c, double d) { return a + b + c + d; }

/* ---- Memory ---- */

EXPORT double sum_doubles_at(const double *data, size_t count);
double
sum_doubles_at(const double *data, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += data[i];
    }
    return sum;
}

EXPORT uint64_t sum_bytes(const unsigned char *data, size_t size);
uint64_t
sum_bytes(const unsigned char *data, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += data[i];
    }
    return sum;
}

EXPORT void fill_bytes(unsigned char *data, int value, size_t size);
void
fill_bytes(unsigned char *data, int value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (unsigned char)value;
    }
}

EXPORT int64_t add_to(int64_t *sum, int64_t value);
int64_t
add_to(int64_t *sum, int64_t value)
{
    return __atomic_add_fetch(sum, value, __ATOMIC_SEQ_CST);
}

/* Writes `value` behind what other calls wrote; log[0] counts. */
EXPORT void write_log(int64_t *log, int64_t value);
void
write_log(int64_t *log, int64_t value)
{
    log[__atomic_add_fetch(log, 1, __ATOMIC_SEQ_CST)] = value;
}

/* For functions with user data: data[0] + data[1] * x. */
EXPORT double add_scaled(double x, void *data);
double
add_scaled(double x, void *data)
{
    const double *pair = data;
    return pair[0] + pair[1] * x;
}

/* Touches all that it is given, and so crashes on a wrong pointer. Says how often it was called. */
static atomic_int calls_of_touch_all;

EXPORT int touch_all_calls(void);
int touch_all_calls(void) { return atomic_load(&calls_of_touch_all); }

EXPORT double touch_all(int8_t a, uint8_t b, int16_t c, uint16_t d, int32_t e, uint32_t f, int64_t g, uint64_t h,
                        float i, double j, bool k, double *l, const float *m, const int64_t *n, const uint16_t *o);
double
touch_all(int8_t a, uint8_t b, int16_t c, uint16_t d, int32_t e, uint32_t f, int64_t g, uint64_t h, float i, double j,
          bool k, double *l, const float *m, const int64_t *n, const uint16_t *o)
{
    atomic_fetch_add(&calls_of_touch_all, 1);
    l[0] = a + b + c + d + e + (double)f + (double)g + (double)h + i + j + k + m[0] + (double)n[0] + o[0];
    return l[0];
}

/* ---- Errors ---- */

EXPORT int fail_with(int code, int error_number);
int
fail_with(int code, int error_number)
{
    errno = error_number;
    return code;
}

EXPORT signed char fail_narrow(int code);
signed char fail_narrow(int code) { return (signed char)code; }

EXPORT void *null_with(int is_null, int error_number);
void *
null_with(int is_null, int error_number)
{
    errno = error_number;
    return is_null ? NULL : &calls_of_nothing;
}

/* ---- Time ---- */

EXPORT int64_t clock_ns(void);
int64_t clock_ns(void) { return now_ns(); }

/* Writes when it begins behind what other calls wrote, like write_log, and sleeps. */
EXPORT void log_begin(int64_t *log, int64_t ns);
void
log_begin(int64_t *log, int64_t ns)
{
    write_log(log, now_ns());
    nap(ns);
}

EXPORT int64_t sleep_ns(int64_t ns);
int64_t
sleep_ns(int64_t ns)
{
    nap(ns);
    return ns;
}

/* Sleeps, and says in times[0] and times[1] when it began and ended. */
EXPORT void sleep_stamped(int64_t *times, int64_t ns);
void
sleep_stamped(int64_t *times, int64_t ns)
{
    times[0] = now_ns();
    nap(ns);
    times[1] = now_ns();
}

/* Uses the processor for so long. */
EXPORT int64_t spin_ns(int64_t ns);
int64_t
spin_ns(int64_t ns)
{
    int64_t end = now_ns() + ns;
    while (now_ns() < end) {
    }
    return ns;
}

/* ---- Jobs that others hold up, or stop ---- */

/* Counts itself in at gate[0], then waits until gate[1] is not 0. */
EXPORT int wait_at(int64_t *gate);
int
wait_at(int64_t *gate)
{
    __atomic_add_fetch(&gate[0], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&gate[1], __ATOMIC_ACQUIRE) == 0) {
        nap(100000);
    }
    return 0;
}

/* Like wait_at, and then like sum_bytes: what it reads must live until then. */
EXPORT uint64_t sum_behind(int64_t *gate, const unsigned char *data, size_t size);
uint64_t
sum_behind(int64_t *gate, const unsigned char *data, size_t size)
{
    wait_at(gate);
    return sum_bytes(data, size);
}

/* The same with its user data last: the address and the size of the data. */
EXPORT uint64_t sum_user_data_behind(int64_t *gate, void *user_data);
uint64_t
sum_user_data_behind(int64_t *gate, void *user_data)
{
    wait_at(gate);
    const uintptr_t *pair = user_data;
    return sum_bytes((const unsigned char *)pair[0], pair[1]);
}

/* Polls its job for at most max_ns. Counts itself in at begun[0]. 1 if it was asked to stop, 0 if the time was over. */
EXPORT int poll_job(int64_t *begun, int64_t max_ns, wp_job *job);
int
poll_job(int64_t *begun, int64_t max_ns, wp_job *job)
{
    int64_t end = now_ns() + max_ns;
    __atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
    while (now_ns() < end) {
        if (wp_job_should_stop(job)) {
            return 1;
        }
        nap(100000);
    }
    return 0;
}

EXPORT int should_stop_now(wp_job *job, int value);
int should_stop_now(wp_job *job, int value) { return wp_job_should_stop(job) ? -1 : value; }

EXPORT uint32_t worker_of(const wp_job *job);
uint32_t worker_of(const wp_job *job) { return wp_job_worker(job); }

EXPORT uint64_t time_left_of(wp_job *job);
uint64_t
time_left_of(wp_job *job)
{
    uint64_t deadline = wp_job_deadline(job);
    return deadline == UINT64_MAX ? deadline : deadline - (uint64_t)now_ns();
}

/* ---- Jobs that tell about themselves ---- */

/* Reports done/total, counts itself in at gate[0] and waits until gate[1] is not 0; then reports that all is done. */
EXPORT int report_at(int64_t *gate, uint64_t done, uint64_t total, wp_job *job);
int
report_at(int64_t *gate, uint64_t done, uint64_t total, wp_job *job)
{
    wp_job_progress_of(job, done, total);
    wait_at(gate);
    wp_job_progress(job, 1.0);
    return 0;
}

EXPORT double report_only(double fraction, wp_job *job);
double
report_only(double fraction, wp_job *job)
{
    wp_job_progress(job, fraction);
    return fraction;
}

/* Fails with a message, or with none if that is NULL, unless `code` is 0; returns `code` in any case. */
EXPORT int fail_saying(const char *message, int code, wp_job *job);
int
fail_saying(const char *message, int code, wp_job *job)
{
    if (code != 0) {
        wp_job_fail(job, message);
        wp_job_fail(job, "a second message");
    }
    errno = code;
    return code;
}

EXPORT void fail_without_result(const char *message, wp_job *job);
void
fail_without_result(const char *message, wp_job *job)
{
    wp_job_fail(job, message);
}

/* Counts itself in at begun[0], polls its job, and fails with a message once it should stop. */
EXPORT int fail_when_stopped(int64_t *begun, wp_job *job);
int
fail_when_stopped(int64_t *begun, wp_job *job)
{
    __atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
    while (!wp_job_should_stop(job)) {
        nap(100000);
    }
    return wp_job_fail(job, wp_job_time_left(job) == 0 ? "the time is over" : "stopped half-way");
}

/* ---- Jobs with children ---- */

/* Adds up the numbers from begin to end, each half by a child, down to single numbers. */
typedef struct summing {
    int64_t begin;
    int64_t end;
    int64_t sum;
} summing;

static int
sum_job(wp_job *job, void *argument)
{
    summing *s = argument;
    if (s->end - s->begin < 2) {
        s->sum = s->end > s->begin ? s->begin : 0;
        return 0;
    }
    int64_t middle = s->begin + (s->end - s->begin) / 2;
    summing halves[2] = {{s->begin, middle, 0}, {middle, s->end, 0}};
    wp_handle *children[2] = {NULL, NULL};
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        if (wp_job_submit(job, WP_SAME_LANE, sum_job, &halves[i], &children[i]) != WP_OK) {
            failed |= sum_job(job, &halves[i]); /* The pool takes no more: by itself. */
        }
    }
    for (int i = 0; i < 2; i++) {
        while (children[i] != NULL && wp_handle_wait(children[i], WP_NEVER) == WP_INTERRUPTED) {
        }
        failed |= children[i] != NULL && wp_handle_state(children[i]) != WP_DONE;
        wp_handle_release(children[i]);
    }
    s->sum = halves[0].sum + halves[1].sum;
    return failed;
}

EXPORT int64_t sum_by_children(int64_t n, wp_job *job);
int64_t
sum_by_children(int64_t n, wp_job *job)
{
    summing s = {0, n, 0};
    if (sum_job(job, &s) != 0) {
        return wp_job_fail(job, "a child failed");
    }
    return s.sum;
}

static int
child_until_stopped(wp_job *job, void *argument)
{
    return fail_when_stopped(argument, job);
}

/* Has a child that runs until it is stopped, and waits for it. The child's message becomes its own. */
EXPORT int child_that_is_stopped(int64_t *begun, wp_job *job);
int
child_that_is_stopped(int64_t *begun, wp_job *job)
{
    wp_handle *child;
    if (wp_job_submit(job, WP_SAME_LANE, child_until_stopped, begun, &child) != WP_OK) {
        return wp_job_fail(job, "no child");
    }
    while (wp_handle_wait(child, WP_NEVER) == WP_INTERRUPTED) {
    }
    wp_job_fail(job, wp_handle_message(child));
    wp_handle_release(child);
    return 0;
}

/* Sends one child to each lane, and does not wait: each adds 1 to count[lane]. Returns how many were accepted. */
static int
count_one(wp_job *job, void *argument)
{
    (void)job;
    __atomic_add_fetch((int64_t *)argument, 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* Runs until it should stop, and then submits a child: notes[1] is what came of that, plus 1. */
EXPORT int child_after_the_stop(int64_t *notes, wp_job *job);
int
child_after_the_stop(int64_t *notes, wp_job *job)
{
    __atomic_store_n(&notes[0], 1, __ATOMIC_SEQ_CST);
    while (!wp_job_should_stop(job)) {
    }
    __atomic_store_n(&notes[1], 1 + wp_job_submit(job, WP_SAME_LANE, count_one, &notes[2], NULL), __ATOMIC_SEQ_CST);
    return -1;
}

EXPORT int children_in_lanes(int64_t *count, int lanes, wp_job *job);
int
children_in_lanes(int64_t *count, int lanes, wp_job *job)
{
    int accepted = 0;
    for (int lane = 0; lane < lanes; lane++) {
        accepted += wp_job_submit(job, lane, count_one, &count[lane], NULL) == WP_OK;
    }
    return accepted;
}

/* Writes to each of n numbers by a parallel range; the piece that has `fails_at` fails. 0, or what wp_job_parallel says. */
typedef struct filling {
    double *numbers;
    size_t fails_at;
} filling;

static int
fill_piece(size_t begin, size_t end, void *context)
{
    const filling *f = context;
    for (size_t i = begin; i < end; i++) {
        f->numbers[i] = (double)i;
    }
    return begin <= f->fails_at && f->fails_at < end ? 3 : 0;
}

EXPORT int fill_in_parallel(double *numbers, size_t n, size_t grain, size_t fails_at, wp_job *job);
int
fill_in_parallel(double *numbers, size_t n, size_t grain, size_t fails_at, wp_job *job)
{
    filling f = {numbers, fails_at};
    return wp_job_parallel(job, n, grain, fill_piece, &f, NULL);
}

/* ---- Loops over arrays ---- */

EXPORT double weigh(double x, double y, const double *weights);
double weigh(double x, double y, const double *weights) { return x * weights[0] + y * weights[1]; }

/* The number itself, or an error for a negative one. */
EXPORT int not_negative(int value);
int
not_negative(int value)
{
    errno = value < 0 ? -value : 0;
    return value;
}

EXPORT unsigned long long count_calls(unsigned char *calls);
unsigned long long count_calls(unsigned char *calls) { return __atomic_add_fetch(calls, 1, __ATOMIC_SEQ_CST); }

/* Each thread waits at its first call, until gate[0] threads were here or gate[2] is not 0. gate[1] counts them. */
EXPORT int64_t meet(int64_t value, int64_t *gate);
int64_t
meet(int64_t value, int64_t *gate)
{
    static _Thread_local const int64_t *met;
    if (met != gate) {
        met = gate;
        __atomic_add_fetch(&gate[1], 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&gate[1], __ATOMIC_SEQ_CST) < gate[0] && __atomic_load_n(&gate[2], __ATOMIC_SEQ_CST) == 0) {
            nap(100000);
        }
    }
    return value;
}

/* Waits at element 0 until gate[1] is not 0; counts itself in at gate[0]. */
EXPORT int64_t wait_at_zero(int64_t value, int64_t *gate);
int64_t
wait_at_zero(int64_t value, int64_t *gate)
{
    if (value == 0) {
        wait_at(gate);
    }
    return value;
}

EXPORT int scale_range(size_t begin, size_t end, const double *in, double factor, double *out);
int
scale_range(size_t begin, size_t end, const double *in, double factor, double *out)
{
    for (size_t i = begin; i < end; i++) {
        out[i] = in[i] * factor;
    }
    return 0;
}

/* Adds one to each byte of the range: a byte that was done twice shows. */
EXPORT int count_range(size_t begin, size_t end, void *user);
int
count_range(size_t begin, size_t end, void *user)
{
    for (size_t i = begin; i < end; i++) {
        ((unsigned char *)user)[i]++;
    }
    return 0;
}

EXPORT void negate_range(int64_t begin, int64_t end, int *numbers);
void
negate_range(int64_t begin, int64_t end, int *numbers)
{
    for (int64_t i = begin; i < end; i++) {
        numbers[i] = -numbers[i];
    }
}

/* Writes behind what other calls wrote where the range begins and ends; log[0] counts. */
EXPORT int log_range(size_t begin, size_t end, void *log);
int
log_range(size_t begin, size_t end, void *log)
{
    int64_t *words = log;
    int64_t at = __atomic_fetch_add(words, 1, __ATOMIC_SEQ_CST);
    words[1 + 2 * at] = (int64_t)begin;
    words[2 + 2 * at] = (int64_t)end;
    return 0;
}

/* The first number of the range that is not 0, with errno 5. */
EXPORT int find_in_range(size_t begin, size_t end, const signed char *codes);
int
find_in_range(size_t begin, size_t end, const signed char *codes)
{
    for (size_t i = begin; i < end; i++) {
        if (codes[i] != 0) {
            errno = 5;
            return codes[i];
        }
    }
    return 0;
}

/* Sleeps so long, or until its job should stop: then it fails. */
EXPORT int sleep_range(size_t begin, size_t end, const int64_t *ns, wp_job *job);
int
sleep_range(size_t begin, size_t end, const int64_t *ns, wp_job *job)
{
    for (size_t i = begin; i < end; i++) {
        int64_t last = now_ns() + ns[i];
        while (now_ns() < last) {
            if (wp_job_should_stop(job)) {
                return 4;
            }
            nap(100000);
        }
    }
    return 0;
}

/* On a thread other than gate[2], by pthread_self(), counts itself in at gate[0] and waits until gate[1] is not 0. That
 * thread takes a little time until another has come. */
EXPORT int64_t stuck_elsewhere(int64_t value, int64_t *gate);
int64_t
stuck_elsewhere(int64_t value, int64_t *gate)
{
    if ((int64_t)(uintptr_t)pthread_self() != gate[2]) {
        wait_at(gate);
    } else if (__atomic_load_n(&gate[0], __ATOMIC_SEQ_CST) == 0) {
        nap(1000000);
    }
    return value + 1;
}

/* A kernel that says how far it is of limits[0]; it fails at limits[1], by its result (limits[2] not 0) or only in words. */
EXPORT int tell_range(size_t begin, size_t end, const int64_t *limits, wp_job *job);
int
tell_range(size_t begin, size_t end, const int64_t *limits, wp_job *job)
{
    wp_job_progress_of(job, end, (uint64_t)limits[0]);
    if ((int64_t)begin <= limits[1] && limits[1] < (int64_t)end) {
        wp_job_fail(job, "there is a gap");
        return limits[2] != 0 ? -1 : 0;
    }
    return 0;
}
