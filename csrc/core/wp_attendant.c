/* See wp_attendant.h; the interface is wp_pool_ask_attendant in wp_pool.h. */
#include "wp_internal.h"

/* How often the host is asked while it may have something to do, and for how many rounds without anything before the
 * attendant goes to sleep: often enough that memory held by finished jobs is let go soon, seldom enough not to be seen
 * in a profile. */
#define ATTEND_EVERY_NS 2000000u
#define QUIET_ROUNDS 16

enum { NOT_ASKED = 0, ASKED = 1 };

static bool
call_hook(wp_pool *pool)
{
    return pool->hooks.attend(pool->hooks.context);
}

/* Attends to the host while it asks. Returns when to attend again. In a child that the host has forked meanwhile, the
 * attendant is another's to start. */
static uint64_t
attend(wp_pool *pool, const wp_service *service, unsigned *quiet)
{
    wp_attendant *attendant = &pool->attendant;
    if (wp_load_acquire(&attendant->request) == NOT_ASKED) {
        return WP_FOREVER;
    }
    *quiet = call_hook(pool) ? 0 : *quiet + 1;
    if (*quiet >= QUIET_ROUNDS) {
        /* Who asks from now on finds NOT_ASKED and wakes this thread; what those before had to say is looked at once
         * more. Both sides change the same word, so one of the two must see the other. */
        wp_exchange_acq_rel(&attendant->request, NOT_ASKED);
        *quiet = 0;
        if (!call_hook(pool) || wp_service_is_of_parent(service)) {
            return WP_FOREVER;
        }
        wp_store_release(&attendant->request, ASKED);
    }
    return wp_clock() + ATTEND_EVERY_NS;
}

static void
attend_until_leaving(wp_pool *pool, const wp_service *service)
{
    wp_attendant *attendant = &pool->attendant;
    unsigned quiet = 0;
    while (!wp_service_is_of_parent(service)) {
        uint32_t seen = wp_load_acquire(&attendant->side.signal);
        bool leaving = wp_side_is_leaving(&attendant->side);
        uint64_t again = attend(pool, service, &quiet);
        if (leaving || wp_service_is_of_parent(service)) {
            break;
        }
        wp_word_wait(&attendant->side.signal, seen, again);
    }
}

/* The last look, after which who asks is told that nobody is there. */
static void
finish(wp_pool *pool, const wp_service *service)
{
    wp_exchange_acq_rel(&pool->attendant.request, NOT_ASKED);
    while (!wp_service_is_of_parent(service) && call_hook(pool)) {
    }
    if (!wp_service_is_of_parent(service) && pool->hooks.attendant_stop != NULL) {
        pool->hooks.attendant_stop(pool->hooks.context);
    }
}

/* The host's code may fork. In the child this is the only thread, and the attendant of nobody: it just ends, as a worker
 * does. */
static void *
attendant_main(void *argument)
{
    wp_pool *pool = argument;
    wp_service service;
    wp_service_begin(&service, pool);
    wp_thread_set_name("wp-attendant");
    attend_until_leaving(pool, &service);
    if (!wp_service_is_of_parent(&service)) {
        finish(pool, &service);
    }
    bool forked = wp_service_is_of_parent(&service);
    wp_service_end(&service);
    return forked ? NULL : wp_side_end(pool, &pool->attendant.side);
}

/* It runs what a worker would have run, so it has no less stack than they have. */
static size_t
stack_size(wp_pool *pool)
{
    size_t of_workers = wp_pool_stack_size(pool);
    return of_workers > WP_DEFAULT_STACK ? of_workers : 0;
}

bool
wp_pool_ask_attendant(wp_pool *pool)
{
    wp_attendant *attendant = &pool->attendant;
    if (wp_exchange_acq_rel(&attendant->request, ASKED) == ASKED) {
        return true;
    }
    size_t stack = stack_size(pool);
    wp_lock_take(&attendant->side.lock);
    attendant->side.stack_size = stack;
    bool started = wp_side_start(pool, &attendant->side, attendant_main);
    wp_lock_give(&attendant->side.lock);
    if (started) {
        wp_side_look_up(&attendant->side);
    } else {
        wp_store_release(&attendant->request, NOT_ASKED);
    }
    return started;
}
