"""A module in Cython that uses workerpool's C API without the GIL. tests/test_capi_cython.py says what should come of it."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from workerpool cimport capi


# One for each module, because Cython has no module state of its own that functions without the GIL could reach. Taken
# when the module is imported, and kept until it is freed.
cdef const capi.wp_capi *wp = capi.import_workerpool()


cdef int check(int result) except -1:
    """Raises what goes with a result."""
    return wp.set_error(wp.state, result)


cdef class Pool:
    """A pool of ours, or one that is borrowed, with the lane and the token of a view."""

    cdef capi.wp_pool *pool
    cdef capi.wp_token *token
    cdef uint32_t lane

    def __cinit__(self, borrowed=None, uint32_t max_workers=1):
        cdef capi.wp_pool_options options
        if borrowed is not None:
            self.pool = wp.pool_borrow(wp.state, borrowed, &self.lane, &self.token)
            return
        options = capi.wp_pool_defaults()
        options.max_workers = max_workers
        check(wp.pool_new(wp.state, &options, &self.pool))

    def __dealloc__(self):
        wp.token_unref(self.token)
        if self.pool is not NULL:
            wp.pool_unref(self.pool)

    @property
    def max_workers(self):
        return wp.pool_max_workers(self.pool)

    @property
    def lanes(self):
        return wp.pool_lanes(self.pool), self.lane


# ---- Jobs ----


cdef struct Power:
    double base
    int exponent
    double result


cdef int power_job(capi.wp_job *job, void *argument) noexcept nogil:
    """Multiplies, telling how far it is; a negative exponent is an error."""
    cdef Power *p = <Power *>argument
    cdef int i
    if p.exponent < 0:
        return capi.wp_job_fail(job, "the exponent is negative")
    p.result = 1.0
    for i in range(p.exponent):
        if capi.wp_job_should_stop(job):
            return 1
        p.result *= p.base
        capi.wp_job_progress_of(job, i + 1, p.exponent)
    return 0


cdef int children_job(capi.wp_job *job, void *argument) noexcept nogil:
    """Has half of the exponent done by each of two children, and waits for them."""
    cdef Power *p = <Power *>argument
    cdef Power[2] halves
    cdef capi.wp_handle *handles[2]
    cdef int i, failed = 0
    halves[0] = Power(p.base, p.exponent // 2, 0)
    halves[1] = Power(p.base, p.exponent - p.exponent // 2, 0)
    for i in range(2):
        handles[i] = NULL
        if capi.wp_job_submit(job, capi.WP_SAME_LANE, power_job, &halves[i], &handles[i]) != capi.WP_OK:
            failed = 1
    for i in range(2):
        if handles[i] is not NULL:
            while capi.wp_handle_wait(handles[i], capi.WP_NEVER) == capi.WP_INTERRUPTED:
                pass
            failed = failed or capi.wp_handle_state(handles[i]) != capi.WP_DONE
            capi.wp_handle_release(handles[i])
    p.result = halves[0].result * halves[1].result
    return failed


def power(Pool pool, double base, int exponent, bint with_children=False):
    """base ** exponent, by a job. Raises ArithmeticError with what the job says of its failure."""
    cdef Power p = Power(base, exponent, 0.0)
    cdef capi.wp_handle *handle = NULL
    cdef capi.wp_submit_options options = capi.wp_submit_defaults()
    cdef int result
    options.token = pool.token
    with nogil:
        result = wp.submit(
            pool.pool, pool.lane, &options, children_job if with_children else power_job, &p, capi.WP_NEVER, &handle
        )
    check(result)
    try:
        while True:
            with nogil:
                result = capi.wp_handle_wait(handle, capi.WP_NEVER)
            check(result)
            if result == capi.WP_OK:
                break
        if capi.wp_handle_state(handle) != capi.WP_DONE:
            message = capi.wp_handle_message(handle)
            raise ArithmeticError(message.decode() if message is not NULL else "it failed")
        return p.result, capi.wp_handle_progress(handle)
    finally:
        capi.wp_handle_release(handle)


cdef int until_stopped(capi.wp_job *job, void *argument) noexcept nogil:
    while not capi.wp_job_should_stop(job):
        pass
    return 5


def stop_by_token(Pool pool, token):
    """A job that runs until the CancelToken is cancelled, which a timer does: its status."""
    cdef capi.wp_handle *handle = NULL
    cdef capi.wp_submit_options options = capi.wp_submit_defaults()
    cdef int result, status
    options.token = wp.token_borrow(wp.state, token)
    with nogil:
        result = wp.submit(pool.pool, pool.lane, &options, until_stopped, NULL, capi.WP_NEVER, &handle)
        wp.token_unref(options.token)
    check(result)
    with nogil:
        while capi.wp_handle_wait(handle, wp.deadline_after(60)) == capi.WP_INTERRUPTED:
            pass
        status = capi.wp_handle_status(handle)
        capi.wp_handle_release(handle)
    return status


# ---- Parallel ranges ----


cdef struct Scaling:
    double *numbers
    double factor


cdef int scale_body(size_t begin, size_t end, void *context) noexcept nogil:
    cdef Scaling *s = <Scaling *>context
    cdef size_t i
    for i in range(begin, end):
        if s.numbers[i] != s.numbers[i]:
            return 1
        s.numbers[i] *= s.factor
    return 0


def scale(Pool pool, double[::1] numbers, double factor, size_t grain=0):
    """Multiplies all numbers where they are, on the pool and this thread. A NaN is a ValueError that says where."""
    cdef Scaling s
    cdef capi.wp_failed_piece failed
    cdef int result
    if len(numbers) == 0:
        return
    s = Scaling(&numbers[0], factor)
    with nogil:
        result = wp.parallel(pool.pool, pool.lane, pool.token, numbers.shape[0], grain, scale_body, &s, &failed)
    if result == capi.WP_ERROR:
        raise ValueError(f"there is a NaN in {failed.begin}:{failed.end}")
    check(result)


# ---- Stages ----


cdef int double_it(capi.wp_job *job, void *argument) noexcept nogil:
    return 2 * <int><size_t>argument


def doubled(Pool pool, int n, uint32_t capacity):
    """The sum of 2 * i for all i below n, through a stage, of which half is put before anything is got."""
    cdef capi.wp_stage *stage = NULL
    cdef long long total = 0
    cdef int i, result, status
    cdef void *argument
    check(wp.stage_new(pool.pool, pool.lane, double_it, capacity, &stage))
    with nogil:
        i = 0
        while i < n:
            result = wp.stage_put(stage, <void *><size_t>i, 0)
            if result == capi.WP_OK:
                i += 1
            elif result == capi.WP_FULL:
                if wp.stage_get(stage, capi.WP_NEVER, &argument, &status) == capi.WP_OK:
                    total += status
            elif result != capi.WP_INTERRUPTED:
                break
        wp.stage_close(stage)
        while True:
            result = wp.stage_get(stage, capi.WP_NEVER, &argument, &status)
            if result == capi.WP_OK:
                total += status
            elif result != capi.WP_INTERRUPTED:
                break
        wp.stage_unref(stage)
    assert result == capi.WP_FINISHED
    return total


# ---- The backend for others ----


cdef void set_to_one(void *data) noexcept nogil:
    (<int *>data)[0] += 1


def others_jobs(Pool pool, int n):
    """n jobs through threads_callback; how many were done once."""
    cdef int *jobs = <int *>calloc(n + 1, sizeof(int))
    cdef capi.wp_threads threads
    cdef int i, once = 0
    threads = capi.wp_threads(pool.pool, pool.lane)
    with nogil:
        wp.threads_callback(&threads, set_to_one, n, sizeof(int), jobs)
        for i in range(n):
            once += jobs[i] == 1
    free(jobs)
    return once
