/* Cancellation tokens: one request to stop, seen by many jobs.
 *
 * DESIGN. Tokens form trees: cancelling one cancels all below it. A token may have a deadline, its own or an ancestor's
 * if that is earlier; it counts as cancelled from then on. Whoever wants to hear of a cancellation hangs a watch on the
 * token: a job (it is then cancelled, or asked to stop), a thread that sleeps for room in a queue (it is woken), or somebody
 * else, by a function.
 *
 * GUARANTEES. One lock a tree, the root's, guards all links; it is never held while jobs are cancelled, so it comes
 * before no other lock. In a forked child what was hung on a token before is forgotten. A watch fires at most once, and after wp_watch_stop returned it does not touch its owner.
 */
#ifndef WP_TOKEN_H
#define WP_TOKEN_H

#include "wp_lock.h"

struct wp_job;

typedef struct wp_token wp_token;

/* Hung on a token by its owner, in the owner's memory. */
typedef struct wp_watch {
    struct wp_watch *next; /* Tree's lock, like all links. */
    struct wp_watch *previous;
    wp_token *token;    /* NULL while it hangs nowhere, */
    uint32_t forks;     /* or it was hung on it in a process that this one was forked from; see wp_forks. */
    struct wp_job *job; /* The job to stop, or NULL: then `wake` is changed by one and its sleepers woken, */
    wp_word *wake;      /* or, if that is NULL too, `hear` called with the tree's lock held. */
    void (*hear)(struct wp_watch *watch);
} wp_watch;

/* In a forked child, before anything else is done with tokens. */
void wp_token_after_fork(void);

/* A token with one reference; `parent` may be NULL. NULL without memory. A child of a cancelled token is cancelled. */
wp_token *wp_token_new(wp_token *parent, uint64_t deadline);
void wp_token_ref(wp_token *token);
void wp_token_unref(wp_token *token);

/* Cancels the token and all below it, and acts on every watch before it returns. False if it was cancelled already.
 * May call the classes' notify and destroy. */
bool wp_token_cancel(wp_token *token);

/* Whether the token was cancelled or its deadline has passed. */
bool wp_token_is_cancelled(wp_token *token);

/* The earliest deadline of the token and its ancestors. */
uint64_t wp_token_deadline(const wp_token *token);

/* Hangs a watch; false, and not hung, if the token is cancelled. */
bool wp_watch_start(wp_watch *watch, wp_token *token);

/* Takes it off again; does nothing if it has fired. `token` is the one it was hung on. */
void wp_watch_stop(wp_watch *watch, wp_token *token);

#endif
