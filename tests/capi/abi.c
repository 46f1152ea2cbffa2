/* What programs that were built once rely on. If this does not compile, they break: add to the end instead. Nothing here
 * runs. Only what is added to the tables may be added here, with the number after the last. */
#include <workerpool_api.h>

#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member " has moved")
#define POINTERS(n) (8 + (n) * sizeof(void *)) /* After abi_version and size. */
#define IS(name, number) _Static_assert((name) == (number), #name " has another number")

AT(wp_job_view, word, 0);
AT(wp_job_view, worker, 4);
AT(wp_job_view, deadline, 8);
AT(wp_job_view, api, 16);

AT(wp_job_api, abi_version, 0);
AT(wp_job_api, size, 4);
AT(wp_job_api, clock, POINTERS(0));
AT(wp_job_api, progress, POINTERS(1));
AT(wp_job_api, fail, POINTERS(2));
AT(wp_job_api, submit, POINTERS(3));
AT(wp_job_api, handle_wait, POINTERS(4));
AT(wp_job_api, handle_stop, POINTERS(5));
AT(wp_job_api, handle_state, POINTERS(6));
AT(wp_job_api, handle_status, POINTERS(7));
AT(wp_job_api, handle_message, POINTERS(8));
AT(wp_job_api, handle_progress, POINTERS(9));
AT(wp_job_api, handle_release, POINTERS(10));
AT(wp_job_api, parallel, POINTERS(11));

AT(wp_capi, abi_version, 0);
AT(wp_capi, size, 4);
AT(wp_capi, state, POINTERS(0));
AT(wp_capi, hold, POINTERS(1));
AT(wp_capi, release, POINTERS(2));
AT(wp_capi, pool_borrow, POINTERS(3));
AT(wp_capi, token_borrow, POINTERS(4));
AT(wp_capi, set_error, POINTERS(5));
AT(wp_capi, clock, POINTERS(6));
AT(wp_capi, deadline_after, POINTERS(7));
AT(wp_capi, pool_new, POINTERS(8));
AT(wp_capi, pool_ref, POINTERS(9));
AT(wp_capi, pool_unref, POINTERS(10));
AT(wp_capi, pool_max_workers, POINTERS(11));
AT(wp_capi, pool_lanes, POINTERS(12));
AT(wp_capi, pool_drain, POINTERS(13));
AT(wp_capi, pool_close, POINTERS(14));
AT(wp_capi, pool_join, POINTERS(15));
AT(wp_capi, token_new, POINTERS(16));
AT(wp_capi, token_ref, POINTERS(17));
AT(wp_capi, token_unref, POINTERS(18));
AT(wp_capi, token_cancel, POINTERS(19));
AT(wp_capi, token_is_cancelled, POINTERS(20));
AT(wp_capi, submit, POINTERS(21));
AT(wp_capi, parallel, POINTERS(22));
AT(wp_capi, stage_new, POINTERS(23));
AT(wp_capi, stage_ref, POINTERS(24));
AT(wp_capi, stage_unref, POINTERS(25));
AT(wp_capi, stage_put, POINTERS(26));
AT(wp_capi, stage_get, POINTERS(27));
AT(wp_capi, stage_close, POINTERS(28));
AT(wp_capi, stage_cancel, POINTERS(29));
AT(wp_capi, threads_callback, POINTERS(30));

AT(wp_failed_piece, begin, 0);
AT(wp_failed_piece, end, sizeof(size_t));
AT(wp_failed_piece, status, 2 * sizeof(size_t));
AT(wp_threads, pool, 0);
AT(wp_threads, lane, sizeof(void *));
AT(wp_pool_options, size, 0);
AT(wp_pool_options, max_workers, sizeof(size_t));
AT(wp_pool_options, n_lanes, sizeof(size_t) + 4);
AT(wp_pool_options, queue_sizes, sizeof(size_t) + 8);
AT(wp_submit_options, size, 0);
AT(wp_submit_options, token, sizeof(size_t));

IS(WP_JOB_STOP, 1);
IS(WP_SAME_LANE, -1);
IS(WP_OK, 0);
IS(WP_FULL, 1);
IS(WP_CLOSED, 2);
IS(WP_BROKEN, 3);
IS(WP_STOPPED, 4);
IS(WP_LATE, 5);
IS(WP_INTERRUPTED, 6);
IS(WP_NO_MEMORY, 7);
IS(WP_NO_THREAD, 8);
IS(WP_FINISHED, 9);
IS(WP_ERROR, 10);
IS(WP_INVALID, 11);
IS(WP_NEW, 0);
IS(WP_PENDING, 1);
IS(WP_RUNNING, 2);
IS(WP_DONE, 3);
IS(WP_FAILED, 4);
IS(WP_TIMED_OUT, 5);
IS(WP_CANCELLED, 6);
IS(WP_EXPIRED, 7);
IS(WP_LOST, 8);
