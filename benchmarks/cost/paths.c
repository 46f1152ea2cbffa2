/* The hot paths of the core by itself, for counting: see count.py, which builds and runs this.
 *
 *     core REPEATS PATH=JOBS...
 *
 * Each path runs on a pool of its own, once with a tenth of the jobs to get warm, and then REPEATS times between marks.
 */
#include "marks.h"
#include "wp_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 2
#define BOUND 1000 /* Jobs that may wait, and results that may be accepted and not read. */
#define MANY 16    /* Arguments that are put, and results that are got, at a time, where that is done. */

static void
must(bool success, const char *what)
{
    if (!success) {
        fprintf(stderr, "%s failed\n", what);
        exit(1);
    }
}

static int
nothing(wp_job *job, void *argument)
{
    (void)job;
    (void)argument;
    return 0;
}

/* ---- The paths ---- */

typedef struct producer {
    wp_stage *stage;
    uint64_t jobs;  /* A multiple of MANY. */
    bool puts_many; /* MANY at a time. */
} producer;

static void
put_all(const producer *p)
{
    void *arguments[MANY] = {0};
    uint32_t done = MANY;
    for (uint64_t i = 0; i < p->jobs; i += p->puts_many ? MANY : 1) {
        enum wp_result put = p->puts_many ? wp_stage_put_many(p->stage, arguments, MANY, WP_FOREVER, &done)
                                          : wp_stage_put(p->stage, NULL, WP_FOREVER);
        must(put == WP_OK && done == MANY, "putting a job");
    }
}

static void *
produce(void *argument)
{
    const producer *p = argument;
    put_all(p);
    wp_stage_close(p->stage);
    return NULL;
}

static uint64_t
get_all(wp_stage *stage)
{
    wp_stage_result result;
    uint64_t got = 0;
    while (wp_stage_get(stage, WP_FOREVER, &result) == WP_OK) {
        got++;
    }
    return got;
}

static uint64_t
get_all_by_many(wp_stage *stage)
{
    wp_stage_result results[MANY];
    uint64_t got = 0;
    uint32_t n;
    while (wp_stage_get_many(stage, WP_FOREVER, results, MANY, &n) == WP_OK) {
        got += n;
    }
    return got;
}

/* One thread puts, this one gets the results. */
static void
put_and_get(wp_pool *pool, uint64_t jobs, bool many)
{
    producer p = {wp_stage_new(pool, 0, nothing, BOUND), jobs, many};
    must(p.stage != NULL, "wp_stage_new");
    pthread_t thread;
    must(wp_thread_start(&thread, produce, &p, 0) == 0, "starting the producer");
    uint64_t got = many ? get_all_by_many(p.stage) : get_all(p.stage);
    pthread_join(thread, NULL);
    must(got == jobs, "getting every result");
    wp_stage_unref(p.stage);
}

static void
stage_put_get(wp_pool *pool, uint64_t jobs)
{
    put_and_get(pool, jobs, false);
}

static void
stage_many(wp_pool *pool, uint64_t jobs)
{
    put_and_get(pool, jobs, true);
}

static void
drain(wp_pool *pool)
{
    while (wp_pool_drain(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
}

static void
stage_put(wp_pool *pool, uint64_t jobs)
{
    producer p = {wp_stage_new(pool, 0, nothing, 0), jobs, false};
    must(p.stage != NULL, "wp_stage_new");
    put_all(&p);
    wp_stage_unref(p.stage);
    drain(pool);
}

static void
function_jobs(wp_pool *pool, uint64_t jobs)
{
    for (uint64_t i = 0; i < jobs; i++) {
        wp_job *job = wp_function_job(nothing, NULL, NULL);
        must(job != NULL && wp_pool_submit_wait(pool, 0, job, WP_FOREVER) == WP_OK, "wp_pool_submit_wait");
        wp_job_unref(job);
    }
    drain(pool);
}

typedef void path_function(wp_pool *pool, uint64_t jobs);

static const struct path {
    const char *name;
    path_function *run;
} paths[] = {
    {"stage", stage_put_get},
    {"stage-many", stage_many},
    {"stage-put", stage_put},
    {"function-jobs", function_jobs},
};

/* ---- Running them ---- */

static wp_pool *
pool_new(void)
{
    wp_pool_config config = {.max_workers = WORKERS, .n_lanes = 1, .idle_timeout = WP_FOREVER, .thread_name = "cost"};
    config.lanes[0].capacity = BOUND;
    wp_pool *pool = wp_pool_new(&config);
    must(pool != NULL, "wp_pool_new");
    return pool;
}

static void
pool_end(wp_pool *pool)
{
    wp_pool_close(pool);
    while (wp_pool_join(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
    wp_pool_unref(pool);
}

static void
run(const struct path *path, uint64_t jobs, unsigned repeats)
{
    wp_pool *pool = pool_new();
    path->run(pool, jobs / (10 * MANY) * MANY);
    for (unsigned i = 0; i < repeats; i++) {
        mark_begin(path->name, jobs);
        path->run(pool, jobs);
        mark_end(path->name, jobs);
    }
    pool_end(pool);
}

/* The path of which the text is the name, up to a "=". */
static const struct path *
find_path(const char *text)
{
    size_t length = strcspn(text, "=");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (strlen(paths[i].name) == length && memcmp(paths[i].name, text, length) == 0) {
            return &paths[i];
        }
    }
    fprintf(stderr, "there is no path %s\n", text);
    exit(2);
}

int
main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        const char *jobs = strchr(argv[i], '=');
        must(jobs != NULL, "finding a number of jobs");
        run(find_path(argv[i]), strtoull(jobs + 1, NULL, 10), (unsigned)strtoul(argv[1], NULL, 10));
    }
    mark_check();
    return 0;
}
