/* The plainest pool: a mutex, a condition variable, a list of jobs. Its workers take one job at a time and sleep at once
 * when there is none.
 *
 *     condvar empty|spaced JOBS WORKERS BOUND
 *
 * empty: BOUND is not looked at. spaced: a request every BOUND ns; for what sleeping at once costs.
 */
#include "measure.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct job {
    struct job *next;
    void (*function)(void *argument);
    void *argument;
    bool *ended; /* Or NULL: nobody waits for it. */
} job;

typedef struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;  /* There is a job, or there will be none any more. */
    pthread_cond_t ended; /* Some job has ended. */
    job *first;
    job *last;
    uint64_t unfinished;
    bool closed;
    pthread_t threads[MOST_WORKERS];
    unsigned workers;
} pool;

static void
nothing(void *argument)
{
    (void)argument;
}

/* Lock held. */
static job *
take(pool *p)
{
    while (p->first == NULL && !p->closed) {
        pthread_cond_wait(&p->work, &p->lock);
    }
    job *j = p->first;
    if (j != NULL) {
        p->first = j->next;
    }
    return j;
}

/* Lock held. */
static void
end(pool *p, job *j)
{
    p->unfinished--;
    if (j->ended != NULL) {
        *j->ended = true;
    }
    if (j->ended != NULL || p->unfinished == 0) {
        pthread_cond_signal(&p->ended);
    }
    free(j);
}

static void *
worker_main(void *argument)
{
    pool *p = argument;
    pthread_mutex_lock(&p->lock);
    job *j;
    while ((j = take(p)) != NULL) {
        pthread_mutex_unlock(&p->lock);
        j->function(j->argument);
        pthread_mutex_lock(&p->lock);
        end(p, j);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void
submit(pool *p, bool *ended)
{
    job *j = malloc(sizeof *j);
    if (j == NULL) {
        fail("malloc");
    }
    *j = (job){.function = nothing, .ended = ended};
    pthread_mutex_lock(&p->lock);
    if (p->first == NULL) {
        p->first = j;
    } else {
        p->last->next = j;
    }
    p->last = j;
    p->unfinished++;
    pthread_mutex_unlock(&p->lock);
    pthread_cond_signal(&p->work);
}

static void
open_pool(pool *p, unsigned workers)
{
    *p = (pool){.lock = PTHREAD_MUTEX_INITIALIZER,
                .work = PTHREAD_COND_INITIALIZER,
                .ended = PTHREAD_COND_INITIALIZER,
                .workers = workers};
    for (unsigned i = 0; i < workers; i++) {
        if (pthread_create(&p->threads[i], NULL, worker_main, p) != 0) {
            fail("pthread_create");
        }
    }
}

static void
close_pool(pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->workers; i++) {
        pthread_join(p->threads[i], NULL);
    }
}

static void
work(void *state, uint64_t jobs)
{
    pool *p = state;
    for (uint64_t i = 0; i < jobs; i++) {
        submit(p, NULL);
    }
    pthread_mutex_lock(&p->lock);
    while (p->unfinished > 0) {
        pthread_cond_wait(&p->ended, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static void
request(void *state)
{
    pool *p = state;
    bool ended = false;
    submit(p, &ended);
    pthread_mutex_lock(&p->lock);
    while (!ended) {
        pthread_cond_wait(&p->ended, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

int
main(int argc, char **argv)
{
    arguments a = read_arguments(argc, argv);
    static pool p;
    open_pool(&p, a.workers);
    if (strcmp(a.shape, "empty") == 0) {
        measure(work, &p, a.jobs);
    } else if (strcmp(a.shape, "spaced") == 0) {
        measure_spaced(request, &p, a.jobs, a.bound);
    } else {
        unknown_shape(a.shape);
    }
    close_pool(&p);
    return 0;
}
