/* See wp_self.h. */
#include "wp_self.h"

#include "wp_internal.h"

/* Pools that one thread does something for at a time. */
#define MOST_POOLS 16

static _Thread_local wp_served table[MOST_POOLS];
static _Thread_local unsigned n_served;

static wp_served *
find(wp_served *served, unsigned n, const wp_pool *pool, uint16_t epoch)
{
    for (unsigned i = n; i-- > 0;) {
        if (served[i].pool == pool && served[i].epoch == epoch) {
            return &served[i];
        }
    }
    return NULL;
}

void
wp_service_begin(wp_service *service, const wp_pool *pool)
{
    wp_served *entry = find(table, n_served, pool, pool->epoch);
    if (entry == NULL && n_served < MOST_POOLS) {
        entry = &table[n_served++];
        *entry = (wp_served){.pool = pool, .epoch = pool->epoch};
    }
    *service = (wp_service){pool, pool->epoch, entry != NULL};
    if (entry != NULL) {
        entry->count++;
    }
}

void
wp_service_end(const wp_service *service)
{
    wp_served *entry = service->is_counted ? find(table, n_served, service->pool, service->epoch) : NULL;
    if (entry != NULL && --entry->count == 0) {
        *entry = table[--n_served];
    }
}

bool
wp_service_is_of_parent(const wp_service *service)
{
    return service->epoch != service->pool->epoch;
}

bool
wp_serves_any(void)
{
    return n_served > 0;
}

/* ---- Waiting for whole pools ---- */

/* Process-wide, because threads of any pool may wait for any other. Never taken under another lock. */
static wp_lock lock;
static wp_pool_wait *waits;

static bool
serves(const wp_pool_wait *wait, const wp_pool *pool)
{
    return wait->pool == pool || find(wait->served, wait->n_served, pool, pool->epoch) != NULL;
}

static wp_pool_wait
wait_for(const wp_pool *target)
{
    const wp_worker *worker = wp_worker_self();
    bool works = worker != NULL && wp_worker_in(wp_worker_pool(worker)) != NULL;
    return (wp_pool_wait){
        .target = target, .pool = works ? wp_worker_pool(worker) : NULL, .served = table, .n_served = n_served};
}

/* Whether a thread that the pool needs waits for one that needs this thread, by others or not. Lock held. */
static bool
leads_back(const wp_pool *pool, const wp_pool_wait *self)
{
    for (wp_pool_wait *wait = waits; wait != NULL; wait = wait->next) {
        if (!wait->was_seen && serves(wait, pool)) {
            wait->was_seen = true;
            if (serves(self, wait->target) || leads_back(wait->target, self)) {
                return true;
            }
        }
    }
    return false;
}

static void
join_waits(wp_pool_wait *wait)
{
    wait->next = waits;
    wait->link = &waits;
    if (waits != NULL) {
        waits->link = &wait->next;
    }
    waits = wait;
}

bool
wp_pool_wait_begin(wp_pool_wait *wait, const wp_pool *target)
{
    *wait = wait_for(target);
    if (wait->pool == NULL && wait->n_served == 0) {
        return true;
    }
    wp_lock_take(&lock);
    for (wp_pool_wait *other = waits; other != NULL; other = other->next) {
        other->was_seen = false;
    }
    bool may_wait = !leads_back(target, wait);
    if (may_wait) {
        join_waits(wait);
    }
    wp_lock_give(&lock);
    return may_wait;
}

void
wp_pool_wait_end(wp_pool_wait *wait)
{
    if (wait->link == NULL) {
        return;
    }
    wp_lock_take(&lock);
    *wait->link = wait->next;
    if (wait->next != NULL) {
        wait->next->link = wait->link;
    }
    wp_lock_give(&lock);
}

void
wp_self_after_fork(void)
{
    wp_store_relaxed(&lock.word, WP_LOCK_FREE);
    waits = NULL;
}

bool
wp_pool_needs_caller(const wp_pool *pool)
{
    wp_pool_wait wait = wait_for(pool);
    return serves(&wait, pool);
}
