/* See wp_self.h. */
#include "wp_self.h"

#include "wp_internal.h"

static _Thread_local wp_service *innermost;

void
wp_service_begin(wp_service *service, const wp_pool *pool)
{
    *service = (wp_service){pool, innermost, pool->epoch};
    innermost = service;
}

void
wp_service_end(const wp_service *service)
{
    innermost = service->outer;
}

bool
wp_service_is_of_parent(const wp_service *service)
{
    return service->epoch != service->pool->epoch;
}

bool
wp_pool_needs_caller(const wp_pool *pool)
{
    if (wp_worker_in(pool) != NULL) {
        return true;
    }
    const wp_service *service = innermost;
    while (service != NULL && (service->pool != pool || wp_service_is_of_parent(service))) {
        service = service->outer;
    }
    return service != NULL;
}
