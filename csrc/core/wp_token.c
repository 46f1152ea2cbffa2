/* See wp_token.h.
 *
 * A cancellation walks the tree under the lock, takes off all watches, and takes references on each job among them and
 * on its pool; then it gives the lock back and stops the jobs one by one. A job that has a watch hung has not ended, so
 * the pool is there and its reference to the job stands while the lock is held, and one more of each can be taken.
 */
#include "wp_token.h"

#include "wp_fork.h"
#include "wp_pool.h"

#include <stdlib.h>

struct wp_token {
    wp_word cancelled;  /* 0 or 1; written under the tree's lock. */
    wp_word references; /* Holders; a child holds its parent. */
    uint64_t deadline;  /* Constant: the earliest of its own and its ancestors'. */
    wp_token *root;     /* Constant: itself for a root. Alive as long as any child. */
    wp_token *parent;   /* Constant. */
    wp_lock lock;       /* The root's guards the links of the whole tree. */
    wp_word forks;      /* The root's: the process whose threads use the lock, see wp_forks. */
    wp_token *children; /* Tree's lock. */
    wp_token *next;     /* Tree's lock: siblings. */
    wp_token *previous; /* Tree's lock. */
    wp_watch *watches;  /* Tree's lock. */
};

/* ---- The tree's lock ---- */

static wp_token *next_in_tree(wp_token *token, const wp_token *top);

/* The parent's threads may have been at the tree when this process was forked. What they watch for is not here. Links that
 * lead down and on are whole at each moment, those that lead back are made anew. */
static void
forget_parent(wp_token *root)
{
    for (wp_token *token = root; token != NULL; token = next_in_tree(token, root)) {
        token->watches = NULL;
        if (token->children != NULL) {
            token->children->previous = NULL;
        }
        if (token != root && token->next != NULL) {
            token->next->previous = token;
        }
    }
}

/* Guards what is done once for each tree in a forked child. */
static wp_lock forks_lock;

static void
adopt(wp_token *root)
{
    wp_lock_take(&forks_lock);
    if (wp_load_relaxed(&root->forks) != wp_forks()) {
        forget_parent(root);
        wp_store_relaxed(&root->lock.word, WP_LOCK_FREE);
        wp_store_release(&root->forks, wp_forks());
    }
    wp_lock_give(&forks_lock);
}

static void
lock_tree(wp_token *root)
{
    if (wp_load_acquire(&root->forks) != wp_forks()) {
        adopt(root);
    }
    wp_lock_take(&root->lock);
}

void
wp_token_after_fork(void)
{
    wp_store_relaxed(&forks_lock.word, WP_LOCK_FREE);
}

/* ---- Life ---- */

static void
link_child(wp_token *parent, wp_token *child)
{
    lock_tree(child->root);
    child->next = parent->children;
    if (parent->children != NULL) {
        parent->children->previous = child;
    }
    parent->children = child;
    if (wp_load_relaxed(&parent->cancelled)) {
        wp_store_release(&child->cancelled, 1);
    }
    wp_lock_give(&child->root->lock);
}

wp_token *
wp_token_new(wp_token *parent, uint64_t deadline)
{
    wp_fork_watch();
    wp_token *token = calloc(1, sizeof *token);
    if (token == NULL) {
        return NULL;
    }
    wp_store_relaxed(&token->references, 1);
    token->deadline = deadline;
    token->root = token;
    wp_store_relaxed(&token->forks, wp_forks());
    if (parent != NULL) {
        wp_token_ref(parent);
        token->parent = parent;
        token->root = parent->root;
        if (parent->deadline < deadline) {
            token->deadline = parent->deadline;
        }
        link_child(parent, token);
    }
    return token;
}

void
wp_token_ref(wp_token *token)
{
    wp_add_relaxed(&token->references, 1);
}

static void
unlink_child(wp_token *parent, wp_token *child)
{
    lock_tree(child->root);
    if (child->previous != NULL) {
        child->previous->next = child->next;
    } else {
        parent->children = child->next;
    }
    if (child->next != NULL) {
        child->next->previous = child->previous;
    }
    wp_lock_give(&child->root->lock);
}

void
wp_token_unref(wp_token *token)
{
    while (token != NULL && wp_sub_acq_rel(&token->references, 1) == 1) {
        wp_token *parent = token->parent;
        if (parent != NULL) {
            unlink_child(parent, token);
        }
        free(token);
        token = parent; /* The child's reference; a loop, since chains may be long. */
    }
}

/* ---- Watches ---- */

static void
take_off(wp_watch *watch)
{
    if (watch->previous != NULL) {
        watch->previous->next = watch->next;
    } else {
        watch->token->watches = watch->next;
    }
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    watch->token = NULL;
}

bool
wp_watch_start(wp_watch *watch, wp_token *token)
{
    wp_token *root = token->root;
    lock_tree(root);
    bool cancelled = wp_load_relaxed(&token->cancelled) != 0;
    if (!cancelled) {
        watch->token = token;
        watch->forks = wp_forks();
        watch->previous = NULL;
        watch->next = token->watches;
        if (token->watches != NULL) {
            token->watches->previous = watch;
        }
        token->watches = watch;
    }
    wp_lock_give(&root->lock);
    return !cancelled;
}

void
wp_watch_stop(wp_watch *watch, wp_token *token)
{
    wp_token *root = token->root;
    lock_tree(root);
    if (watch->token != NULL && watch->forks == wp_forks()) {
        take_off(watch);
    }
    wp_lock_give(&root->lock);
}

/* ---- Cancelling ---- */

/* Watches of jobs that are to be stopped, each with references to the job and its pool. Those of a token come before those
 * of its children: a job that sees a child of its own stopped has been asked to stop itself. */
typedef struct stop_list {
    wp_watch *first;
    wp_watch **end;
} stop_list;

/* Fires one watch that its token has given up, tree's lock held. A job is stopped later; a sleeper is woken here, because
 * its watch lies on its stack and is gone once the lock is given back. */
static void
fire(wp_watch *watch, stop_list *stopping)
{
    watch->token = NULL;
    if (watch->job == NULL && watch->wake == NULL) {
        watch->hear(watch);
        return;
    }
    if (watch->job == NULL) {
        wp_add_acq_rel(watch->wake, 1);
        wp_word_wake(watch->wake, WP_WAKE_ALL);
        return;
    }
    wp_job_ref(watch->job);
    wp_pool_ref(watch->job->pool);
    watch->next = NULL;
    *stopping->end = watch;
    stopping->end = &watch->next;
}

static void
fire_all(wp_token *token, stop_list *stopping)
{
    wp_watch *watch = token->watches;
    token->watches = NULL;
    while (watch != NULL) {
        wp_watch *next = watch->next; /* Read first: it may go on the other list, or be gone. */
        fire(watch, stopping);
        watch = next;
    }
}

/* Walks the tree below `top` without recursion, since users may nest tokens as deep as they like: first child, else
 * next sibling, else the nearest ancestor's next sibling. */
static wp_token *
next_in_tree(wp_token *token, const wp_token *top)
{
    if (token->children != NULL) {
        return token->children;
    }
    while (token != top && token->next == NULL) {
        token = token->parent;
    }
    return token == top ? NULL : token->next;
}

bool
wp_token_cancel(wp_token *top)
{
    wp_token *root = top->root;
    stop_list stopping = {NULL, &stopping.first};

    lock_tree(root);
    bool first = wp_load_relaxed(&top->cancelled) == 0;
    for (wp_token *token = first ? top : NULL; token != NULL; token = next_in_tree(token, top)) {
        wp_store_release(&token->cancelled, 1);
        fire_all(token, &stopping);
    }
    wp_lock_give(&root->lock);

    while (stopping.first != NULL) {
        wp_job *job = stopping.first->job;
        wp_pool *pool = job->pool;
        stopping.first = stopping.first->next; /* Read before the job may go, and the watch with it. */
        wp_job_stop(job);
        wp_job_unref(job);
        wp_pool_unref(pool);
    }
    return first;
}

bool
wp_token_is_cancelled(wp_token *token)
{
    return wp_load_acquire(&token->cancelled) != 0 || (token->deadline != WP_FOREVER && wp_clock() >= token->deadline);
}

uint64_t
wp_token_deadline(const wp_token *token)
{
    return token->deadline;
}
