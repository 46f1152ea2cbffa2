/* See wp_notes.h.
 *
 * Each field is written by compare-and-swap from empty, or is a number of which the last one counts, so no two writers
 * have to agree.
 *
 * THE STOP AND THE FIRST CHILD. Who asks a job to stop sets its word and then looks for the children's token; who makes
 * that token publishes it and then looks at the word. Both touch the word by a read-modify-write, so whichever comes
 * second sees what the other did: no child is left out.
 */
#include "wp_notes.h"

#include "wp_extra.h"

#include <stdlib.h>
#include <string.h>

#define NO_PROGRESS (-1.0)

struct wp_notes {
    _Atomic(double) progress;
    _Atomic(char *) message;      /* Copied; NULL while the job did not fail. */
    _Atomic(wp_token *) children; /* A reference; NULL until there is a child. */
};

static const char no_memory_text[] = "failed, and there was no memory for the message";

/* Stands for the notes of a job that failed when there was no memory for any. Never written to. */
static const wp_notes no_memory = {.progress = NO_PROGRESS, .message = (char *)(uintptr_t)no_memory_text};

static wp_notes *
no_memory_notes(void)
{
    return (wp_notes *)(uintptr_t)&no_memory;
}

static wp_notes_slot *
slot_of(wp_job *job)
{
    return job->class->notes != NULL ? job->class->notes(job) : NULL;
}

/* The same for what a job says about itself. */
static wp_notes_slot *
own_slot_of(wp_job *job)
{
    return job->class->family == NULL ? slot_of(job) : NULL;
}

static wp_notes *
notes_of(wp_job *job)
{
    wp_notes_slot *slot = slot_of(job);
    return slot != NULL ? wp_load_acquire(slot) : NULL;
}

void
wp_notes_init(wp_notes_slot *slot)
{
    wp_store_relaxed(slot, NULL);
}

static void
free_message(char *message)
{
    if (message != no_memory_text) {
        free(message);
    }
}

void
wp_notes_free(wp_notes_slot *slot)
{
    wp_notes *notes = wp_load_acquire(slot);
    if (notes != NULL && notes != no_memory_notes()) {
        free_message(wp_load_relaxed(&notes->message));
        wp_token_unref(wp_load_relaxed(&notes->children));
        free(notes);
    }
}

/* The notes in a slot, made if there are none; NULL without memory. */
static wp_notes *
notes_in(wp_notes_slot *slot)
{
    wp_notes *notes = wp_load_acquire(slot);
    if (notes != NULL) {
        return notes;
    }
    wp_notes *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    wp_store_relaxed(&made->progress, NO_PROGRESS);
    if (!wp_cas_acq_rel(slot, &notes, made)) {
        free(made);
        return notes;
    }
    return made;
}

/* ---- Progress ---- */

void
wp_job_note_progress(wp_job *job, double fraction)
{
    wp_notes_slot *slot = own_slot_of(job);
    if (slot == NULL || fraction != fraction) {
        return;
    }
    wp_notes *notes = notes_in(slot);
    if (notes != NULL && notes != no_memory_notes()) {
        wp_store_relaxed(&notes->progress, fraction < 0 ? 0.0 : fraction > 1 ? 1.0 : fraction);
    }
}

double
wp_job_noted_progress(wp_job *job)
{
    wp_notes *notes = notes_of(job);
    return notes != NULL ? wp_load_relaxed(&notes->progress) : NO_PROGRESS;
}

/* ---- Failure ---- */

static char *
copy_of(const char *message)
{
    size_t size = strlen(message) + 1;
    char *copy = malloc(size);
    if (copy == NULL) {
        return (char *)(uintptr_t)no_memory_text;
    }
    memcpy(copy, message, size);
    return copy;
}

void
wp_job_note_failure(wp_job *job, const char *message)
{
    wp_notes_slot *slot = own_slot_of(job);
    if (slot == NULL) {
        return;
    }
    wp_notes *notes = notes_in(slot);
    if (notes == NULL) {
        /* Another thread may have had the memory meanwhile. */
        if (wp_cas_acq_rel(slot, &notes, no_memory_notes())) {
            return;
        }
    }
    if (wp_load_relaxed(&notes->message) != NULL) {
        return;
    }
    char *copy = copy_of(message != NULL ? message : "failed, without a message");
    char *first = NULL;
    if (!wp_cas_acq_rel(&notes->message, &first, copy)) {
        free_message(copy);
    }
}

const char *
wp_job_noted_failure(wp_job *job)
{
    wp_notes *notes = notes_of(job);
    return notes != NULL ? wp_load_acquire(&notes->message) : NULL;
}

/* ---- Children ---- */

/* A token for the job's children, or NULL without memory. */
static wp_token *
children_new(wp_job *job)
{
    if (job->class->family == NULL) {
        return wp_token_new(job->extra != NULL ? job->extra->token : NULL, WP_FOREVER);
    }
    wp_token *family = job->class->family(job);
    wp_token *made = family != NULL ? wp_token_new(family, WP_FOREVER) : NULL;
    wp_token_unref(family);
    return made;
}

enum wp_result
wp_job_children(wp_job *job, wp_token **token)
{
    wp_notes_slot *slot = slot_of(job);
    wp_notes *notes = slot != NULL ? notes_in(slot) : NULL;
    *token = NULL;
    if (slot == NULL) {
        return WP_OK;
    }
    if (notes == NULL || notes == no_memory_notes()) {
        return WP_NO_MEMORY;
    }
    *token = wp_load_acquire(&notes->children);
    if (*token != NULL) {
        return WP_OK;
    }
    wp_token *made = children_new(job);
    if (made == NULL) {
        return WP_NO_MEMORY;
    }
    if (!wp_cas_acq_rel(&notes->children, token, made)) {
        wp_token_unref(made);
        return WP_OK;
    }
    *token = made;
    if (wp_or_acq_rel(&job->word, 0) & WP_JOB_STOP) {
        wp_token_cancel(made);
    }
    return WP_OK;
}

void
wp_job_stop_children(wp_job *job)
{
    wp_notes *notes = notes_of(job);
    wp_token *children = notes != NULL ? wp_load_acquire(&notes->children) : NULL;
    if (children != NULL) {
        wp_token_cancel(children);
    }
}
