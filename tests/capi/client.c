/* An extension module that uses workerpool's C API, all of it, as a stranger would: it is built against the installed
 * package, keeps what it imports in its module's state, and works without the GIL. tests/test_capi.py says what should
 * come of each function.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <workerpool_api.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct module_state {
    const wp_capi *wp;
} module_state;

static const wp_capi *
api_of(PyObject *module)
{
    return ((module_state *)PyModule_GetState(module))->wp;
}

static void
nap(void)
{
    struct timespec rest = {.tv_nsec = 200000};
    nanosleep(&rest, NULL);
}

/* Waits again after a signal, as long as its handler raises nothing. With the GIL released before and after. */
static int
wait_for(const wp_capi *wp, wp_handle *handle, uint64_t deadline)
{
    int result;
    while ((result = wp_handle_wait(handle, deadline)) == WP_INTERRUPTED) {
        PyGILState_STATE gil = PyGILState_Ensure();
        int raised = wp->set_error(wp->state, result);
        PyGILState_Release(gil);
        if (raised < 0) {
            return -1;
        }
    }
    return result;
}

/* None, or NULL with the exception of a result. */
static PyObject *
none_or_error(const wp_capi *wp, int result)
{
    if (result < 0 || wp->set_error(wp->state, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- What has been imported ---- */

static PyObject *
table(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    const wp_capi *wp = api_of(module);
    return Py_BuildValue("{sI,sI,sI,sN,sN}", "abi_version", wp->abi_version, "size", wp->size, "known",
                         (unsigned)sizeof(wp_capi), "address", PyLong_FromVoidPtr((void *)(uintptr_t)wp), "state",
                         PyLong_FromVoidPtr(wp->state));
}

static PyObject *
exception_of(PyObject *module, PyObject *result)
{
    return none_or_error(api_of(module), (int)PyLong_AsLong(result));
}

static PyObject *
times(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    const wp_capi *wp = api_of(module);
    uint64_t now = wp->clock();
    uint64_t soon = wp->deadline_after(1.0);
    return Py_BuildValue("KKK", (unsigned long long)now, (unsigned long long)soon,
                         (unsigned long long)wp->deadline_after(Py_HUGE_VAL));
}

/* ---- Pools that are borrowed: kept in a capsule ---- */

typedef struct borrowed {
    const wp_capi *wp;
    wp_pool *pool;
    uint32_t lane;
    wp_token *token; /* Of the view, or NULL. */
} borrowed;

static void
free_borrowed(PyObject *capsule)
{
    borrowed *b = PyCapsule_GetPointer(capsule, "borrowed");
    b->wp->token_unref(b->token);
    b->wp->pool_unref(b->pool);
    free(b);
}

static PyObject *
borrow(PyObject *module, PyObject *pool)
{
    borrowed *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return PyErr_NoMemory();
    }
    b->wp = api_of(module);
    b->pool = b->wp->pool_borrow(b->wp->state, pool, &b->lane, &b->token);
    if (b->pool == NULL) {
        free(b);
        return NULL;
    }
    return PyCapsule_New(b, "borrowed", free_borrowed);
}

/* A pool of our own, in the same kind of capsule: (max_workers, n_lanes, queue_size, thread_name). */
static PyObject *
make_pool(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    unsigned int max_workers = 0, n_lanes = 0;
    unsigned long long queue_size = 0;
    const char *thread_name = NULL;
    if (!PyArg_ParseTuple(args, "|IIKz", &max_workers, &n_lanes, &queue_size, &thread_name)) {
        return NULL;
    }
    uint64_t sizes[16];
    for (int i = 0; i < 16; i++) {
        sizes[i] = queue_size;
    }
    wp_pool_options options = {.size = sizeof options,
                               .max_workers = max_workers,
                               .n_lanes = n_lanes,
                               .queue_sizes = queue_size > 0 ? sizes : NULL,
                               .thread_name = thread_name};
    borrowed *b = calloc(1, sizeof *b);
    b->wp = wp;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = wp->pool_new(wp->state, PyTuple_GET_SIZE(args) > 0 ? &options : NULL, &b->pool);
    Py_END_ALLOW_THREADS
    if (result != WP_OK) {
        free(b);
        return none_or_error(wp, result);
    }
    return PyCapsule_New(b, "borrowed", free_borrowed);
}

static borrowed *
pool_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, "borrowed");
}

static PyObject *
describe(PyObject *module, PyObject *capsule)
{
    const wp_capi *wp = api_of(module);
    const borrowed *b = pool_of(capsule);
    if (b == NULL) {
        return NULL;
    }
    return Py_BuildValue("{sI,sI,sI,sO}", "max_workers", wp->pool_max_workers(b->pool), "lanes",
                         wp->pool_lanes(b->pool), "lane", b->lane, "token", b->token != NULL ? Py_True : Py_False);
}

static PyObject *
end_pool(PyObject *module, PyObject *capsule)
{
    const wp_capi *wp = api_of(module);
    const borrowed *b = pool_of(capsule);
    int result = WP_OK;
    if (b == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    wp->pool_ref(b->pool);
    do {
        result = wp->pool_drain(b->pool, WP_NEVER);
    } while (result == WP_INTERRUPTED);
    wp->pool_close(b->pool);
    do {
        result = result == WP_OK || result == WP_INTERRUPTED ? wp->pool_join(b->pool, WP_NEVER) : result;
    } while (result == WP_INTERRUPTED);
    wp->pool_unref(b->pool);
    Py_END_ALLOW_THREADS
    return none_or_error(wp, result);
}

/* ---- Jobs ---- */

typedef struct square_job {
    long number;
    long square;
    wp_handle *handle;
} square_job;

static int
square(wp_job *job, void *argument)
{
    square_job *s = argument;
    s->square = s->number * s->number;
    wp_job_progress(job, 1.0);
    return s->number % 2 == 0 ? 0 : 1;
}

/* (pool, n, lane): the squares of 0 to n - 1, each by a job; the jobs of odd numbers fail with status 1. */
static PyObject *
squares(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    unsigned int n, lane;
    if (!PyArg_ParseTuple(args, "OII", &capsule, &n, &lane)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    square_job *jobs = b != NULL ? calloc(n, sizeof *jobs) : NULL;
    if (jobs == NULL) {
        return NULL;
    }
    int result = WP_OK;
    bool as_expected = true;
    unsigned submitted = 0;
    Py_BEGIN_ALLOW_THREADS
    for (; submitted < n && result == WP_OK; submitted++) {
        square_job *job = &jobs[submitted];
        job->number = (long)submitted;
        do {
            result = wp->submit(b->pool, lane, NULL, square, job, WP_NEVER, &job->handle);
        } while (result == WP_INTERRUPTED);
    }
    for (unsigned i = 0; i < submitted && jobs[i].handle != NULL; i++) {
        as_expected = wait_for(wp, jobs[i].handle, WP_NEVER) == WP_OK && as_expected;
        as_expected = wp_handle_status(jobs[i].handle) == (int)(i % 2) && as_expected;
        as_expected = wp_handle_state(jobs[i].handle) == (i % 2 ? WP_FAILED : WP_DONE) && as_expected;
        as_expected = wp_handle_progress(jobs[i].handle) == 1.0 && as_expected;
        wp_handle_release(jobs[i].handle);
    }
    Py_END_ALLOW_THREADS
    PyObject *list = result == WP_OK && as_expected ? PyList_New(n) : NULL;
    for (unsigned i = 0; list != NULL && i < n; i++) {
        PyList_SET_ITEM(list, i, PyLong_FromLong(jobs[i].square));
    }
    free(jobs);
    if (list == NULL && as_expected) {
        return none_or_error(wp, result);
    }
    if (list == NULL) {
        PyErr_SetString(PyExc_AssertionError, "a job of squares() did not end as it should");
    }
    return list;
}

static int
until_stopped(wp_job *job, void *argument)
{
    __atomic_add_fetch((int *)argument, 1, __ATOMIC_SEQ_CST);
    while (!wp_job_should_stop(job)) {
        nap();
    }
    wp_job_fail(job, wp_job_time_left(job) == 0 ? "the time was over" : "was asked to stop");
    return 7;
}

static PyObject *
outcome_of(wp_handle *handle)
{
    return Py_BuildValue("iiz", wp_handle_state(handle), wp_handle_status(handle), wp_handle_message(handle));
}

/* (pool, how, token): a job that runs until it is stopped: by its "handle", by the "token", by a "time limit"; or one that
 * never begins, because the token is "cancelled". Its (state, status, message). */
static PyObject *
stop_one(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule, *token_object;
    const char *how;
    if (!PyArg_ParseTuple(args, "OsO", &capsule, &how, &token_object)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    wp_token *token = b != NULL && token_object != Py_None ? wp->token_borrow(wp->state, token_object) : NULL;
    if (PyErr_Occurred()) {
        return NULL;
    }
    int begun = 0;
    int result;
    wp_handle *handle = NULL;
    wp_submit_options options = {
        .size = sizeof options, .token = token, .run_timeout = strcmp(how, "time limit") == 0 ? 1000000 : 0};
    Py_BEGIN_ALLOW_THREADS
    result = wp->submit(b->pool, b->lane, &options, until_stopped, &begun, WP_NEVER, &handle);
    while (result == WP_OK && __atomic_load_n(&begun, __ATOMIC_SEQ_CST) == 0) {
        nap();
    }
    if (strcmp(how, "handle") == 0) {
        result = wp_handle_wait(handle, 0) == WP_LATE ? WP_OK : WP_ERROR;
        wp_handle_stop(handle);
    } else if (result == WP_OK && strcmp(how, "token") == 0) {
        wp->token_cancel(token);
    }
    if (handle != NULL) {
        wait_for(wp, handle, WP_NEVER);
    }
    wp->token_unref(token);
    Py_END_ALLOW_THREADS
    PyObject *outcome = result == WP_OK ? outcome_of(handle) : none_or_error(wp, result);
    wp_handle_release(handle);
    return outcome;
}

/* (pool): a token of our own with a child; the child's jobs are cancelled with it. How many jobs had begun. */
static PyObject *
token_tree(PyObject *module, PyObject *capsule)
{
    const wp_capi *wp = api_of(module);
    const borrowed *b = pool_of(capsule);
    wp_handle *handles[3];
    int begun = 0;
    bool right;
    if (b == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    wp_token *parent = wp->token_new(NULL, WP_NEVER);
    wp_token *child = wp->token_new(parent, wp->deadline_after(1000));
    wp_submit_options options = wp_submit_defaults();
    options.token = child;
    for (int i = 0; i < 3; i++) {
        wp->submit(b->pool, b->lane, &options, until_stopped, &begun, WP_NEVER, &handles[i]);
    }
    while (__atomic_load_n(&begun, __ATOMIC_SEQ_CST) == 0) {
        nap();
    }
    right = !wp->token_is_cancelled(child) && wp->token_cancel(parent) && !wp->token_cancel(parent) &&
            wp->token_is_cancelled(child);
    wp->token_ref(parent);
    wp->token_unref(parent);
    wp->token_unref(child);
    wp->token_unref(parent);
    for (int i = 0; i < 3; i++) {
        wait_for(wp, handles[i], WP_NEVER);
        wp_handle_release(handles[i]);
    }
    Py_END_ALLOW_THREADS
    return right ? PyLong_FromLong(begun) : PyErr_Format(PyExc_AssertionError, "a token is not what it should be");
}

/* A job that counts itself, for those of which nobody has a handle. */
static int
count_slowly(wp_job *job, void *argument)
{
    (void)job;
    nap();
    __atomic_add_fetch((int *)argument, 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* (pool, n): jobs without handles; how many were done after a drain. */
static PyObject *
count(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    int n;
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &n)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    int done = 0;
    int result = WP_OK;
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < n && result == WP_OK; i++) {
        result = wp->submit(b->pool, b->lane, NULL, count_slowly, &done, WP_NEVER, NULL);
    }
    while (wp->pool_drain(b->pool, WP_NEVER) == WP_INTERRUPTED) {
    }
    Py_END_ALLOW_THREADS
    return result == WP_OK ? PyLong_FromLong(done) : none_or_error(wp, result);
}

static int exit_count;

static int
write_line(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    nap();
    printf("job %d done\n", __atomic_add_fetch(&exit_count, 1, __ATOMIC_SEQ_CST));
    fflush(stdout);
    return 0;
}

/* (pool, n): jobs that are left to run when the interpreter ends. */
static PyObject *
leave_behind(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    int n;
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &n)) {
        return NULL;
    }
    int result = WP_OK;
    for (int i = 0; i < n && result == WP_OK; i++) {
        result = wp->submit(pool_of(capsule)->pool, 0, NULL, write_line, NULL, 0, NULL);
    }
    return none_or_error(wp, result);
}

/* ---- Children, and waiting inside of a job ---- */

/* The nth Fibonacci number, with a child for each call. */
typedef struct fibonacci {
    int n;
    long result;
} fibonacci;

static int
fibonacci_job(wp_job *job, void *argument)
{
    fibonacci *f = argument;
    if (f->n < 2) {
        f->result = f->n;
        return 0;
    }
    fibonacci below[2] = {{f->n - 1, 0}, {f->n - 2, 0}};
    wp_handle *children[2];
    int submitted = 0;
    while (submitted < 2 &&
           wp_job_submit(job, WP_SAME_LANE, fibonacci_job, &below[submitted], &children[submitted]) == WP_OK) {
        submitted++;
    }
    int failed = submitted < 2;
    for (int i = 0; i < submitted; i++) {
        while (wp_handle_wait(children[i], WP_NEVER) == WP_INTERRUPTED) {
        }
        failed |= wp_handle_state(children[i]) != WP_DONE;
        wp_handle_release(children[i]);
    }
    f->result = below[0].result + below[1].result;
    return failed ? wp_job_fail(job, "a child failed") : 0;
}

static PyObject *
compute_fibonacci(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    fibonacci f = {0};
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &f.n)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    wp_handle *handle = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = wp->submit(b->pool, b->lane, NULL, fibonacci_job, &f, WP_NEVER, &handle);
    if (result == WP_OK) {
        result = wait_for(wp, handle, WP_NEVER);
    }
    Py_END_ALLOW_THREADS
    int state = handle != NULL ? wp_handle_state(handle) : 0;
    wp_handle_release(handle);
    return result == WP_OK && state == WP_DONE ? PyLong_FromLong(f.result) : none_or_error(wp, result);
}

/* ---- Parallel ranges ---- */

typedef struct adding {
    const wp_capi *wp;
    wp_token *token;
    double *numbers;
    double sum;
    size_t fails_at;
    size_t cancels_at;
} adding;

static int
double_and_add(size_t begin, size_t end, void *context)
{
    adding *a = context;
    double sum = 0;
    for (size_t i = begin; i < end; i++) {
        a->numbers[i] *= 2;
        sum += a->numbers[i];
    }
    double old, new;
    __atomic_load(&a->sum, &old, __ATOMIC_RELAXED);
    do {
        new = old + sum;
    } while (!__atomic_compare_exchange(&a->sum, &old, &new, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    if (begin <= a->cancels_at && a->cancels_at < end) {
        a->wp->token_cancel(a->token);
    }
    while (begin > a->cancels_at && !a->wp->token_is_cancelled(a->token)) {
        nap(); /* The piece that cancels has begun before. */
    }
    return begin <= a->fails_at && a->fails_at < end ? 9 : 0;
}

/* (pool, buffer of doubles, grain, fails_at, cancels_at): doubles the numbers where they are and returns their sum. After
 * a failure (begin, end, status) of the piece. */
static PyObject *
double_all(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    Py_buffer buffer;
    Py_ssize_t grain, fails_at = -1, cancels_at = -1;
    if (!PyArg_ParseTuple(args, "Ow*n|nn", &capsule, &buffer, &grain, &fails_at, &cancels_at)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    size_t n = (size_t)buffer.len / sizeof(double);
    wp_failed_piece failed = {0};
    int result;
    Py_BEGIN_ALLOW_THREADS
    adding a = {wp, wp->token_new(NULL, WP_NEVER), buffer.buf, 0, (size_t)fails_at, (size_t)cancels_at};
    result = wp->parallel(b->pool, b->lane, a.token, n, (size_t)grain, double_and_add, &a, &failed);
    wp->token_unref(a.token);
    Py_BLOCK_THREADS PyBuffer_Release(&buffer);
    if (result == WP_OK) {
        return PyFloat_FromDouble(a.sum);
    }
    Py_UNBLOCK_THREADS Py_END_ALLOW_THREADS
    if (result == WP_ERROR) {
        return Py_BuildValue("nni", (Py_ssize_t)failed.begin, (Py_ssize_t)failed.end, failed.status);
    }
    return none_or_error(wp, result);
}

/* ---- Stages ---- */

static int
negate(wp_job *job, void *argument)
{
    wp_job_fail(job, "is not kept");
    return -(int)(intptr_t)argument;
}

typedef struct feeding {
    const wp_capi *wp;
    wp_stage *stage;
    int n;
} feeding;

static int
feed(wp_job *job, void *argument)
{
    const feeding *f = argument;
    (void)job;
    int result = WP_OK;
    for (intptr_t i = 1; i <= f->n && result == WP_OK; i++) {
        do {
            result = f->wp->stage_put(f->stage, (void *)i, WP_NEVER);
        } while (result == WP_INTERRUPTED);
    }
    f->wp->stage_close(f->stage);
    return result;
}

/* (pool, n, capacity): the numbers 1 to n through a stage that negates them, put by a job of another pool; the sum of the
 * statuses, and that of the arguments. */
static PyObject *
stage_sum(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    int n;
    unsigned int capacity;
    if (!PyArg_ParseTuple(args, "OiI", &capsule, &n, &capacity)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    feeding f = {wp, NULL, n};
    wp_pool *feeders = NULL;
    wp_handle *feeder = NULL;
    long long statuses = 0, arguments = 0;
    int result = WP_OK;
    Py_BEGIN_ALLOW_THREADS
    result = wp->stage_new(b->pool, b->lane, negate, capacity, &f.stage);
    if (result == WP_OK) {
        wp->stage_ref(f.stage);
        wp->pool_new(wp->state, NULL, &feeders);
        wp->submit(feeders, 0, NULL, feed, &f, WP_NEVER, &feeder);
        void *argument;
        int status;
        do {
            result = wp->stage_get(f.stage, WP_NEVER, &argument, &status);
            if (result == WP_OK) {
                statuses += status;
                arguments += (intptr_t)argument;
            }
        } while (result == WP_OK || result == WP_INTERRUPTED);
        wait_for(wp, feeder, WP_NEVER);
        wp_handle_release(feeder);
        wp->pool_unref(feeders);
        wp->stage_unref(f.stage);
        wp->stage_unref(f.stage);
    }
    Py_END_ALLOW_THREADS
    return result == WP_FINISHED ? Py_BuildValue("LL", statuses, arguments) : none_or_error(wp, result);
}

static int
stand_until_stopped(wp_job *job, void *argument)
{
    return argument != NULL ? until_stopped(job, argument) : 0;
}

/* (pool): one job of a stage stands, the rest wait; then all are cancelled. (full, late, ran, given up, closed). */
static PyObject *
stage_cancel(PyObject *module, PyObject *capsule)
{
    const wp_capi *wp = api_of(module);
    const borrowed *b = pool_of(capsule);
    int begun = 0, ran = 0, given_up = 0, full, late, closed, status;
    void *argument;
    wp_stage *stage;
    if (b == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    wp->stage_new(b->pool, b->lane, stand_until_stopped, 5, &stage);
    wp->stage_put(stage, &begun, WP_NEVER);
    while (__atomic_load_n(&begun, __ATOMIC_SEQ_CST) == 0) {
        nap();
    }
    late = wp->stage_get(stage, wp->deadline_after(0.001), &argument, &status);
    for (int i = 0; i < 4; i++) {
        wp->stage_put(stage, NULL, WP_NEVER);
    }
    full = wp->stage_put(stage, NULL, 0);
    wp->stage_cancel(stage);
    wp->stage_close(stage);
    closed = wp->stage_put(stage, NULL, WP_NEVER);
    for (int result; (result = wp->stage_get(stage, WP_NEVER, &argument, &status)) != WP_FINISHED;) {
        ran += result == WP_OK;
        given_up += result == WP_STOPPED;
    }
    wp->stage_unref(stage);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("iiiii", full, late, ran, given_up, closed);
}

/* ---- The backend for others ---- */

static void
add_one(void *data)
{
    __atomic_add_fetch((int *)data, 1, __ATOMIC_SEQ_CST);
}

/* (pool, n): n jobs of a library through threads_callback; how many were done once. */
static PyObject *
others_jobs(PyObject *module, PyObject *args)
{
    const wp_capi *wp = api_of(module);
    PyObject *capsule;
    int n;
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &n)) {
        return NULL;
    }
    const borrowed *b = pool_of(capsule);
    int *jobs = calloc((size_t)n + 1, sizeof *jobs);
    int once = 0;
    Py_BEGIN_ALLOW_THREADS
    wp_threads threads = {b->pool, b->lane};
    wp->threads_callback(&threads, add_one, n, sizeof *jobs, jobs);
    Py_END_ALLOW_THREADS
    for (int i = 0; i < n; i++) {
        once += jobs[i] == 1;
    }
    free(jobs);
    return PyLong_FromLong(once);
}

/* ---- What is refused ---- */

static int
wait_for_own_pool(wp_job *job, void *argument)
{
    const borrowed *b = argument;
    (void)job;
    return b->wp->pool_drain(b->pool, WP_NEVER) == WP_INVALID && b->wp->pool_join(b->pool, WP_NEVER) == WP_INVALID ? 0
                                                                                                                   : 1;
}

/* (pool): the results of calls that cannot be right, by name. */
static PyObject *
wrong_use(PyObject *module, PyObject *capsule)
{
    const wp_capi *wp = api_of(module);
    borrowed *b = pool_of(capsule);
    if (b == NULL) {
        return NULL;
    }
    wp_pool *pool = NULL;
    wp_stage *stage = NULL;
    wp_handle *handle = NULL;
    wp_submit_options short_options = {.size = 1};
    wp_pool_options lanes = {.size = sizeof lanes, .n_lanes = 17};
    wp_pool_options name = {.size = sizeof name, .thread_name = "a name that is longer than thirty-one bytes"};
    wp_pool_options no_size = {.max_workers = 1};
    wp_pool_options small = {.size = sizeof small, .stack_size = 1};
    wp_pool_options huge = {.size = sizeof huge, .stack_size = (size_t)1 << 60};
    uint32_t beyond = wp->pool_lanes(b->pool);
    int waits_for_itself = 1;
    Py_BEGIN_ALLOW_THREADS
    if (wp->submit(b->pool, b->lane, NULL, wait_for_own_pool, b, WP_NEVER, &handle) == WP_OK) {
        /* With a limit: then it runs on a worker, which is the point. */
        uint64_t deadline = wp->deadline_after(60);
        int waited;
        while ((waited = wp_handle_wait(handle, deadline)) == WP_INTERRUPTED) {
        }
        waits_for_itself = waited == WP_OK ? wp_handle_status(handle) : -1;
        wp_handle_release(handle);
    }
    Py_END_ALLOW_THREADS
    return Py_BuildValue(
        "{si,si,si,si,si,si,si,si,si,si,si}", "lane of submit", wp->submit(b->pool, beyond, NULL, square, NULL, 0, NULL),
        "options of submit", wp->submit(b->pool, 0, &short_options, square, NULL, 0, NULL), "lane of parallel",
        wp->parallel(b->pool, beyond, NULL, 1, 1, double_and_add, NULL, NULL), "lane of stage_new",
        wp->stage_new(b->pool, beyond, negate, 1, &stage), "capacity of stage_new",
        wp->stage_new(b->pool, 0, negate, (1u << 28) + 1, &stage), "lanes of pool_new",
        wp->pool_new(wp->state, &lanes, &pool), "name of pool_new", wp->pool_new(wp->state, &name, &pool),
        "size of pool_new", wp->pool_new(wp->state, &no_size, &pool), "small stack of pool_new",
        wp->pool_new(wp->state, &small, &pool), "huge stack of pool_new", wp->pool_new(wp->state, &huge, &pool), "waits for itself", waits_for_itself);
}

/* ---- The module ---- */

static PyMethodDef methods[] = {
    {"table", table, METH_NOARGS, NULL},
    {"exception_of", exception_of, METH_O, NULL},
    {"times", times, METH_NOARGS, NULL},
    {"borrow", borrow, METH_O, NULL},
    {"make_pool", make_pool, METH_VARARGS, NULL},
    {"describe", describe, METH_O, NULL},
    {"end_pool", end_pool, METH_O, NULL},
    {"squares", squares, METH_VARARGS, NULL},
    {"stop_one", stop_one, METH_VARARGS, NULL},
    {"token_tree", token_tree, METH_O, NULL},
    {"count", count, METH_VARARGS, NULL},
    {"leave_behind", leave_behind, METH_VARARGS, NULL},
    {"fibonacci", compute_fibonacci, METH_VARARGS, NULL},
    {"double_all", double_all, METH_VARARGS, NULL},
    {"stage_sum", stage_sum, METH_VARARGS, NULL},
    {"stage_cancel", stage_cancel, METH_O, NULL},
    {"others_jobs", others_jobs, METH_VARARGS, NULL},
    {"wrong_use", wrong_use, METH_O, NULL},
    {0},
};

static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->wp = import_workerpool();
    return state->wp != NULL ? 0 : -1;
}

static void
module_free(void *module)
{
    module_state *state = PyModule_GetState(module);
    if (state != NULL) {
        release_workerpool(state->wp);
        state->wp = NULL;
    }
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "client", .m_size = sizeof(module_state),
    .m_methods = methods,  .m_slots = slots,   .m_free = module_free,
};

PyMODINIT_FUNC
PyInit_client(void)
{
    return PyModuleDef_Init(&definition);
}
