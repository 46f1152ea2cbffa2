/* Notes: what a job says about itself is kept, whoever says it and whenever; of two failures the first counts; and a job
 * that fails without memory for its message has failed all the same.
 */
#include "fixture.h"

#include <math.h>

/* The file itself is part of this program, with allocations that fail when they are told to. */
static int allocations_left = -1; /* How many will succeed; less than 0: all. */

static bool
may_allocate(void)
{
    return allocations_left < 0 || allocations_left-- > 0;
}

static void *
calloc_or_not(size_t n, size_t size)
{
    return may_allocate() ? calloc(n, size) : NULL;
}

static void *
malloc_or_not(size_t size)
{
    return may_allocate() ? malloc(size) : NULL;
}

#define calloc calloc_or_not
#define malloc malloc_or_not
#include "../core/wp_notes.c"
#undef calloc
#undef malloc

/* A job that no pool runs, with a place for notes or without. */
typedef struct noted {
    wp_job job;
    wp_notes_slot slot;
} noted;

static wp_notes_slot *
notes_of_noted(wp_job *job)
{
    return &((noted *)(void *)job)->slot;
}

static const wp_job_class noted_class = {.api = &wp_view_api, .name = "noted", .notes = notes_of_noted};
static const wp_job_class mute_class = {.api = &wp_view_api, .name = "mute"};

static wp_job *
begin(noted *n, const wp_job_class *class)
{
    wp_job_init(&n->job, class, 0, NULL);
    wp_notes_init(&n->slot);
    wp_or_acq_rel(&n->job.word, (uint32_t)WP_PENDING << WP_JOB_STATE_SHIFT);
    CHECK(wp_job_take(&n->job, WP_RUNNING));
    return &n->job;
}

static void
end(noted *n)
{
    wp_notes_free(&n->slot);
}

static void
test_nothing_said(void)
{
    noted n;
    wp_job *job = begin(&n, &noted_class);
    CHECK(wp_job_noted_progress(job) < 0);
    CHECK(wp_job_noted_failure(job) == NULL);
    CHECK(wp_job_ask_to_stop(job));
    CHECK(wp_load_relaxed(&n.slot) == NULL);
    end(&n);
}

static void
test_progress(void)
{
    static const double said[] = {0, 0.25, 1, -1, 2, -INFINITY, INFINITY};
    static const double noted_as[] = {0, 0.25, 1, 0, 1, 0, 1};
    noted n;
    wp_job *job = begin(&n, &noted_class);
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        wp_job_progress(job, said[i]);
        CHECK(wp_job_noted_progress(job) == noted_as[i]);
    }
    wp_job_progress_of(job, 1, 4);
    CHECK(wp_job_noted_progress(job) == 0.25);
    wp_job_progress(job, NAN);
    CHECK(wp_job_noted_progress(job) == 0.25);
    wp_job_progress_of(job, 0, 0);
    CHECK(wp_job_noted_progress(job) == 1);
    wp_job_progress_of(job, UINT64_MAX, 2);
    CHECK(wp_job_noted_progress(job) == 1);
    end(&n);
}

static void
test_failure(void)
{
    noted n;
    wp_job *job = begin(&n, &noted_class);
    char message[] = "first";
    CHECK_INT(wp_job_fail(job, message), -1);
    memset(message, 'x', sizeof message - 1);
    CHECK_INT(wp_job_fail(job, "second"), -1);
    wp_job_progress(job, 0.5);
    CHECK_STR(wp_job_noted_failure(job), "first");
    CHECK(wp_job_noted_progress(job) == 0.5);
    end(&n);

    job = begin(&n, &noted_class);
    wp_job_fail(job, NULL);
    CHECK_STR(wp_job_noted_failure(job), "failed, without a message");
    end(&n);
}

/* A job of a class without notes, and none at all: nothing is kept, and nothing goes wrong. */
static void
test_nowhere_to_write(void)
{
    noted n;
    wp_job *job = begin(&n, &mute_class);
    wp_job *jobs[] = {job, NULL};
    for (size_t i = 0; i < 2; i++) {
        wp_job_progress(jobs[i], 0.5);
        CHECK_INT(wp_job_fail(jobs[i], "no"), -1);
        CHECK(wp_job_time_left(jobs[i]) == WP_NEVER);
    }
    CHECK(wp_job_noted_progress(job) < 0);
    CHECK(wp_job_noted_failure(job) == NULL);
    CHECK_INT(wp_job_submit(NULL, WP_SAME_LANE, do_nothing, NULL, NULL), WP_CLOSED);
    CHECK_INT(wp_job_submit(job, WP_SAME_LANE, do_nothing, NULL, NULL), WP_CLOSED);
    wp_token *token = (wp_token *)&n;
    CHECK_INT(wp_job_children(job, &token), WP_OK);
    CHECK(token == NULL);
    CHECK(wp_job_ask_to_stop(job));
}

static void
test_time_left(void)
{
    noted n;
    wp_job *job = begin(&n, &noted_class);
    CHECK(wp_job_time_left(job) == WP_NEVER);
    job->deadline = wp_clock() + 1000 * MS;
    CHECK(wp_job_time_left(job) <= 1000 * MS);
    job->deadline = wp_clock() - 1;
    CHECK_INT(wp_job_time_left(job), 0);
    end(&n);
}

/* ---- Without memory ---- */

static void
test_failure_without_memory(void)
{
    for (int left = 0; left < 2; left++) {
        noted n;
        wp_job *job = begin(&n, &noted_class);
        allocations_left = left;
        wp_job_fail(job, "message");
        wp_job_fail(job, "another");
        wp_job_progress(job, 0.5);
        wp_token *token;
        enum wp_result result = wp_job_children(job, &token);
        allocations_left = -1;
        CHECK_INT(result, left == 0 ? WP_NO_MEMORY : WP_OK); /* The token's memory is not held back. */
        CHECK_STR(wp_job_noted_failure(job), no_memory_text);
        wp_job_fail(job, "later");
        CHECK_STR(wp_job_noted_failure(job), no_memory_text);
        CHECK(left == 0 ? wp_job_noted_progress(job) < 0 : wp_job_noted_progress(job) == 0.5);
        CHECK(wp_job_ask_to_stop(job));
        end(&n);
    }
}

static void
test_progress_without_memory(void)
{
    noted n;
    wp_job *job = begin(&n, &noted_class);
    allocations_left = 0;
    wp_job_progress(job, 0.5);
    allocations_left = -1;
    CHECK(wp_job_noted_progress(job) < 0);
    wp_job_progress(job, 0.75);
    CHECK(wp_job_noted_progress(job) == 0.75);
    end(&n);
}

/* ---- Children's token ---- */

static void
test_stop_reaches_the_token(void)
{
    noted n;
    wp_job *job = begin(&n, &noted_class);
    wp_token *token;
    wp_token *again;
    CHECK_INT(wp_job_children(job, &token), WP_OK);
    CHECK_INT(wp_job_children(job, &again), WP_OK);
    CHECK(token == again);
    CHECK(!wp_token_is_cancelled(token));
    CHECK(wp_job_ask_to_stop(job));
    CHECK(wp_token_is_cancelled(token));
    end(&n);

    job = begin(&n, &noted_class);
    CHECK(wp_job_ask_to_stop(job));
    CHECK_INT(wp_job_children(job, &token), WP_OK);
    CHECK(wp_token_is_cancelled(token));
    end(&n);
}

/* ---- Many threads ---- */

typedef struct speaker {
    noted *n;
    event *go;
    int number;
    wp_token *token;
    pthread_t thread;
} speaker;

static void *
speak(void *argument)
{
    speaker *s = argument;
    char text[20];
    event_wait(s->go, 1);
    (void)snprintf(text, sizeof text, "speaker %d", s->number);
    wp_job_progress(&s->n->job, s->number / 10.0);
    wp_job_fail(&s->n->job, text);
    CHECK_INT(wp_job_children(&s->n->job, &s->token), WP_OK);
    if (s->number == 0) {
        CHECK(wp_job_ask_to_stop(&s->n->job));
    }
    CHECK(wp_job_noted_failure(&s->n->job) != NULL);
    CHECK(wp_job_noted_progress(&s->n->job) >= 0);
    return NULL;
}

static void
test_many_threads_at_once(void)
{
    for (int round = 0; round < 200; round++) {
        noted n;
        event go = {0};
        speaker speakers[4];
        wp_job *job = begin(&n, &noted_class);
        for (int i = 0; i < 4; i++) {
            speakers[i] = (speaker){.n = &n, .go = &go, .number = i};
            speakers[i].thread = start_thread(speak, &speakers[i]);
        }
        event_set(&go);
        for (int i = 0; i < 4; i++) {
            join_thread(speakers[i].thread);
            CHECK(speakers[i].token == speakers[0].token);
        }
        CHECK(strncmp(wp_job_noted_failure(job), "speaker ", 8) == 0);
        CHECK(wp_token_is_cancelled(speakers[0].token));
        end(&n);
    }
}

int
main(void)
{
    check_time_limit(30);
    RUN(test_nothing_said);
    RUN(test_progress);
    RUN(test_failure);
    RUN(test_nowhere_to_write);
    RUN(test_time_left);
    RUN(test_failure_without_memory);
    RUN(test_progress_without_memory);
    RUN(test_stop_reaches_the_token);
    RUN(test_many_threads_at_once);
    return check_done();
}
