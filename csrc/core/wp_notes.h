/* Notes: what a running job says about itself, and what hangs on it.
 *
 * PURPOSE. A job in C can say how far it is, why it failed, and have child jobs. Most jobs do none of that, so there is
 * no room for it in wp_job: a class whose functions are handed the job keeps a pointer for each (a wp_notes_slot, named
 * by its `notes`), and the notes are made with the first word that the job says.
 *
 * GUARANTEES. Any thread may write while the job runs, and any thread that holds the job may read at any time. Nothing
 * here takes a lock. Notes go with their job.
 */
#ifndef WP_NOTES_H
#define WP_NOTES_H

#include "wp_job.h"
#include "wp_token.h"

/* An empty slot, and the end of one: frees what is in it. Called by the class, when nobody else has the job. */
void wp_notes_init(wp_notes_slot *slot);
void wp_notes_free(wp_notes_slot *slot);

/* Notes how much of the job is done: 0 to 1; what is outside is brought in, NaN left out. Left out without memory too. */
void wp_job_note_progress(wp_job *job, double fraction);

/* What was noted last; less than 0 if nothing. */
double wp_job_noted_progress(wp_job *job);

/* Notes that the job has failed, and why: a copy of the message, unless there is one already. Without memory the message
 * says so: the failure itself is not lost. */
void wp_job_note_failure(wp_job *job, const char *message);

/* The message, which lives as long as the job; NULL if it did not fail by one. */
const char *wp_job_noted_failure(wp_job *job);

/* The token on which the job's children hang, made for the first of them below the job's own; it is cancelled when the
 * job is asked to stop. No reference: it lives as long as the job. WP_OK, with NULL for a job that keeps no notes; or
 * WP_NO_MEMORY. */
enum wp_result wp_job_children(wp_job *job, wp_token **token);

/* The job is asked to stop, which its word says already: its children are cancelled. With no lock held. */
void wp_job_stop_children(wp_job *job);

#endif
