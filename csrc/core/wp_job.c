/* How a job's word changes; the states and the rules are in wp_job.h. */
#include "wp_job.h"

#include "wp_extra.h"
#include "wp_notes.h"

void
wp_job_init(wp_job *job, const wp_job_class *class, unsigned flags, wp_extra *extra)
{
    *job = (wp_job){.worker = WP_NO_WORKER,
                    .deadline = WP_FOREVER,
                    .class = class,
                    .ticket = WP_NO_TICKET,
                    .extra = extra,
                    .flags = (uint8_t)flags};
    wp_store_relaxed(&job->word, (uint32_t)WP_NEW << WP_JOB_STATE_SHIFT);
    wp_store_relaxed(&job->references, 1);
}

static uint32_t
with_state(uint32_t word, wp_state state)
{
    return (word & ((1u << WP_JOB_STATE_SHIFT) - 1)) | (uint32_t)state << WP_JOB_STATE_SHIFT;
}

bool
wp_job_take(wp_job *job, wp_state state)
{
    uint32_t word = wp_load_relaxed(&job->word);
    do {
        if (wp_state_of_word(word) != WP_PENDING) {
            return false;
        }
    } while (!wp_cas_weak_acq_rel(&job->word, &word, with_state(word, state)));
    return true;
}

bool
wp_job_ask_to_stop(wp_job *job)
{
    uint32_t word = wp_load_relaxed(&job->word);
    do {
        if (wp_state_of_word(word) != WP_RUNNING) {
            return false;
        }
    } while (!wp_cas_weak_acq_rel(&job->word, &word, word | WP_JOB_STOP));
    wp_job_stop_children(job);
    return true;
}

bool
wp_job_ask_for_notice(wp_job *job)
{
    uint32_t word = wp_load_relaxed(&job->word);
    do {
        if (word & WP_JOB_NOTIFY) {
            return true;
        }
        if (word & WP_JOB_SETTLED) {
            return false;
        }
    } while (!wp_cas_weak_acq_rel(&job->word, &word, word | WP_JOB_NOTIFY));
    return true;
}

/* What follows the setting of SETTLED, before which the word was this. Where something is owed, the caller has a
 * reference to the job: it ends jobs of others, or one that it waits for. */
static void
after_settling(wp_job *job, uint32_t before)
{
    if (before & WP_JOB_WAITED) {
        wp_word_wake(&job->word, WP_WAKE_ALL);
    }
    if (before & WP_JOB_OWED) {
        wp_job_pay(job);
    }
}

/* Release: what the run wrote (the result) comes before the outcome that lets others read it. */
bool
wp_job_conclude(wp_job *job, wp_state outcome)
{
    uint32_t word = wp_load_relaxed(&job->word);
    uint32_t after;
    do {
        after = with_state(word, outcome) | (word & WP_JOB_NOTIFY ? 0 : WP_JOB_SETTLED);
    } while (!wp_cas_weak_acq_rel(&job->word, &word, after));
    if (word & WP_JOB_NOTIFY) {
        return true;
    }
    after_settling(job, word);
    return false;
}

void
wp_job_settle(wp_job *job)
{
    after_settling(job, wp_or_acq_rel(&job->word, WP_JOB_SETTLED));
}

enum wp_wait_result
wp_job_wait(wp_job *job, uint64_t deadline)
{
    uint32_t word = wp_or_acq_rel(&job->word, WP_JOB_WAITED) | WP_JOB_WAITED;
    while (!(word & WP_JOB_SETTLED)) {
        enum wp_wait_result result = wp_word_wait(&job->word, word, deadline);
        word = wp_load_acquire(&job->word);
        if (result != WP_WAIT_WOKEN && !(word & WP_JOB_SETTLED)) {
            return result;
        }
    }
    return WP_WAIT_WOKEN;
}

void
wp_extra_init(wp_extra *extra)
{
    *extra = (wp_extra){.queue_timeout = WP_FOREVER, .run_timeout = WP_FOREVER, .limit = WP_FOREVER};
}
