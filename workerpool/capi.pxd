# workerpool's C API for Cython: `from workerpool cimport capi`. What each function does, and what it returns, stands in
# include/workerpool.h and include/workerpool_api.h; docs/capi.md has an example. Compile with workerpool.get_include().
#
# All functions may be called without the GIL but those that are marked "with the GIL" below.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "workerpool_api.h" nogil:
    ctypedef struct wp_job
    ctypedef struct wp_handle
    ctypedef struct wp_pool
    ctypedef struct wp_token
    ctypedef struct wp_stage

    # Functions that are jobs, and bodies of parallel ranges: `cdef int f(wp_job *job, void *argument) noexcept nogil`.
    ctypedef int (*wp_function_pointer "wp_function *")(wp_job *job, void *argument) noexcept nogil
    ctypedef int (*wp_body_pointer "wp_body *")(size_t begin, size_t end, void *context) noexcept nogil

    cdef enum wp_result:
        WP_OK
        WP_FULL
        WP_CLOSED
        WP_BROKEN
        WP_STOPPED
        WP_LATE
        WP_INTERRUPTED
        WP_NO_MEMORY
        WP_NO_THREAD
        WP_FINISHED
        WP_ERROR
        WP_INVALID

    ctypedef enum wp_state:
        WP_NEW
        WP_PENDING
        WP_RUNNING
        WP_DONE
        WP_FAILED
        WP_TIMED_OUT
        WP_CANCELLED
        WP_EXPIRED
        WP_LOST

    const uint32_t WP_NO_WORKER
    const uint64_t WP_NEVER
    const int WP_SAME_LANE

    ctypedef struct wp_failed_piece:
        size_t begin
        size_t end
        int status

    ctypedef struct wp_threads:
        wp_pool *pool
        uint32_t lane

    # ---- Inside a job ----

    bint wp_job_should_stop(const wp_job *job)
    uint32_t wp_job_worker(const wp_job *job)
    uint64_t wp_job_deadline(const wp_job *job)
    uint64_t wp_job_time_left(const wp_job *job)
    void wp_job_progress(wp_job *job, double fraction)
    void wp_job_progress_of(wp_job *job, uint64_t done, uint64_t total)
    int wp_job_fail(wp_job *job, const char *message)
    int wp_job_submit(wp_job *job, int lane, wp_function_pointer function, void *argument, wp_handle **child)
    int wp_job_parallel(
        wp_job *job, size_t n, size_t grain, wp_body_pointer body, void *context, wp_failed_piece *failed
    )

    # ---- Jobs that were submitted ----

    int wp_handle_wait(wp_handle *handle, uint64_t deadline)
    bint wp_handle_stop(wp_handle *handle)
    int wp_handle_state(wp_handle *handle)
    int wp_handle_status(wp_handle *handle)
    const char *wp_handle_message(wp_handle *handle)
    double wp_handle_progress(wp_handle *handle)
    void wp_handle_release(wp_handle *handle)

    # ---- The table ----

    ctypedef struct wp_pool_options:
        size_t size
        uint32_t max_workers
        uint32_t n_lanes
        const uint64_t *queue_sizes
        uint32_t fairness
        uint64_t idle_timeout
        size_t stack_size
        const char *thread_name

    ctypedef struct wp_submit_options:
        size_t size
        wp_token *token
        uint64_t queue_timeout
        uint64_t run_timeout

    ctypedef struct wp_capi:
        uint32_t abi_version
        uint32_t size
        void *state

        # With the GIL.
        wp_pool *(*pool_borrow)(void *state, object pool, uint32_t *lane, wp_token **token) except NULL
        wp_token *(*token_borrow)(void *state, object token) except NULL
        int (*set_error)(void *state, int result) except -1

        uint64_t (*clock)() noexcept nogil
        uint64_t (*deadline_after)(double seconds) noexcept nogil

        int (*pool_new)(void *state, const wp_pool_options *options, wp_pool **pool) noexcept nogil
        void (*pool_ref)(wp_pool *pool) noexcept nogil
        void (*pool_unref)(wp_pool *pool) noexcept nogil
        uint32_t (*pool_max_workers)(wp_pool *pool) noexcept nogil
        uint32_t (*pool_lanes)(wp_pool *pool) noexcept nogil
        int (*pool_drain)(wp_pool *pool, uint64_t deadline) noexcept nogil
        void (*pool_close)(wp_pool *pool) noexcept nogil
        int (*pool_join)(wp_pool *pool, uint64_t deadline) noexcept nogil

        wp_token *(*token_new)(wp_token *parent, uint64_t deadline) noexcept nogil
        void (*token_ref)(wp_token *token) noexcept nogil
        void (*token_unref)(wp_token *token) noexcept nogil
        bint (*token_cancel)(wp_token *token) noexcept nogil
        bint (*token_is_cancelled)(wp_token *token) noexcept nogil

        int (*submit)(
            wp_pool *pool,
            uint32_t lane,
            const wp_submit_options *options,
            wp_function_pointer function,
            void *argument,
            uint64_t deadline,
            wp_handle **handle,
        ) noexcept nogil

        int (*parallel)(
            wp_pool *pool,
            uint32_t lane,
            wp_token *token,
            size_t n,
            size_t grain,
            wp_body_pointer body,
            void *context,
            wp_failed_piece *failed,
        ) noexcept nogil

        int (*stage_new)(
            wp_pool *pool, uint32_t lane, wp_function_pointer function, uint32_t capacity, wp_stage **stage
        ) noexcept nogil
        void (*stage_ref)(wp_stage *stage) noexcept nogil
        void (*stage_unref)(wp_stage *stage) noexcept nogil
        int (*stage_put)(wp_stage *stage, void *argument, uint64_t deadline) noexcept nogil
        int (*stage_get)(wp_stage *stage, uint64_t deadline, void **argument, int *status) noexcept nogil
        void (*stage_close)(wp_stage *stage) noexcept nogil
        void (*stage_cancel)(wp_stage *stage) noexcept nogil

        void (*threads_callback)(
            void *threads, void (*dojob)(void *) noexcept nogil, int numjobs, size_t jobdata_elsize, void *jobdata
        ) noexcept nogil

    wp_pool_options wp_pool_defaults()
    wp_submit_options wp_submit_defaults()
    void release_workerpool(const wp_capi *api)


# With the GIL.
cdef extern from "workerpool_api.h":
    const wp_capi *import_workerpool() except NULL
