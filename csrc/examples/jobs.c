/* A worker pool that reads jobs and prints results.
 *
 *     jobs [-w WORKERS] [FILE]
 *
 * Each line of FILE, or of the standard input, is a job: its words are counted and a checksum is made of it. The
 * results are printed as they come, not in the order of the lines:
 *
 *     $ printf 'the quick brown fox\njumps over\nthe lazy dog\n' | ./jobs -w 2
 *     worker 0 finished job 0: 4 words, checksum 338f85c2: the quick brown fox
 *     worker 1 finished job 2: 3 words, checksum 3efb0c28: the lazy dog
 *     worker 0 finished job 1: 2 words, checksum bd10bf34: jumps over
 *
 * Three kinds of threads share the work:
 *
 *     the feeder            the workers           the main thread
 *     reads lines,   -->    run the jobs,   -->   prints the results
 *     submits jobs          two at a time
 *
 * The queue of results holds at most RESULTS jobs that are under way or finished and not yet printed. So a file of any
 * size is read no faster than its results are printed, and the program's memory stays small.
 *
 * To build it alone, in the repository:
 *
 *     gcc -std=c11 -O2 -Icsrc/core -o jobs csrc/examples/jobs.c csrc/core/wp_*.c -pthread -lm
 */
#include "wp_function.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS = 100, WAITING = 100 };

/* ---- The work ---- */

/* One job's input and output. The job does not own it: who reads the result frees it. */
typedef struct line {
    unsigned number; /* From 0. */
    char *text;
    unsigned words;
    uint32_t checksum;
} line;

/* Runs on a worker. `argument` is what was submitted with the function. A job that takes long would look at
 * wp_job_should_stop(job) now and then. The return value says whether all went well; 0 is yes. */
static int
examine_line(wp_job *job, void *argument)
{
    line *l = argument;
    (void)job;
    bool in_word = false;
    l->checksum = 2166136261u;
    for (const char *c = l->text; *c != '\0'; c++) {
        bool is_space = isspace((unsigned char)*c) != 0;
        l->words += !is_space && !in_word;
        in_word = !is_space;
        l->checksum = (l->checksum ^ (unsigned char)*c) * 16777619u;
    }
    return 0;
}

static line *
line_new(unsigned number, const char *text)
{
    line *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->number = number;
    l->text = strdup(text);
    if (l->text == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

static void
line_free(line *l)
{
    free(l->text);
    free(l);
}

/* ---- The feeder ---- */

typedef struct feeder {
    wp_pool *pool;
    wp_results *results;
    FILE *input;
} feeder;

/* Submits a job for the line, and waits until there is room for it and for its result. */
static bool
submit_line(const feeder *f, line *l)
{
    enum wp_result result;
    do { /* A wait may be interrupted by a signal, and is then simply begun again. */
        result = wp_function_submit(f->pool, 0, f->results, examine_line, l, WP_FOREVER);
    } while (result == WP_INTERRUPTED);
    return result == WP_OK;
}

static void *
feeder_main(void *argument)
{
    const feeder *f = argument;
    char *text = NULL;
    size_t size = 0;
    bool ok = true;
    for (unsigned number = 0; ok && getline(&text, &size, f->input) >= 0; number++) {
        text[strcspn(text, "\n")] = '\0';
        line *l = line_new(number, text);
        ok = l != NULL && submit_line(f, l);
        if (!ok) {
            fprintf(stderr, "jobs: line %u could not be submitted\n", number);
        }
        if (!ok && l != NULL) {
            line_free(l); /* Nobody else has it. */
        }
    }
    free(text);
    /* No more jobs: whoever reads the results gets those that are still to come, and then learns that there are no
     * more. */
    wp_results_close(f->results);
    return NULL;
}

/* ---- The main thread ---- */

static void
print_results(wp_results *results)
{
    wp_job *job;
    enum wp_result result;
    while ((result = wp_results_next(results, WP_FOREVER, &job)) != WP_FINISHED) {
        if (result != WP_OK) {
            continue; /* Interrupted by a signal. */
        }
        line *l = wp_function_argument(job);
        printf("worker %u finished job %u: %u words, checksum %08x: %s\n", (unsigned)wp_job_worker(job), l->number,
               l->words, (unsigned)l->checksum, l->text);
        line_free(l);
        wp_job_unref(job); /* wp_results_next gave us a reference. */
    }
}

/* Closes the pool and waits for its threads. */
static void
end_pool(wp_pool *pool)
{
    wp_pool_close(pool);
    while (wp_pool_join(pool, WP_FOREVER) == WP_INTERRUPTED) {
    }
    wp_pool_unref(pool);
}

static int
run(unsigned workers, FILE *input)
{
    /* One lane: all jobs are equally urgent. No worker is started before there is a job for it. */
    wp_pool_config config = {.max_workers = workers, .n_lanes = 1, .idle_timeout = WP_FOREVER, .thread_name = "jobs"};
    config.lanes[0].capacity = WAITING;
    feeder f = {.pool = wp_pool_new(&config), .results = wp_results_new(RESULTS), .input = input};
    pthread_t thread;
    bool ok = f.pool != NULL && f.results != NULL && wp_thread_start(&thread, feeder_main, &f, 0) == 0;
    if (ok) {
        print_results(f.results);
        pthread_join(thread, NULL);
    } else {
        fprintf(stderr, "jobs: no memory, or no thread\n");
    }
    if (f.pool != NULL) {
        end_pool(f.pool);
    }
    if (f.results != NULL) {
        wp_results_unref(f.results);
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
    int at = 1;
    unsigned workers = wp_processors();
    if (at + 1 < argc && strcmp(argv[at], "-w") == 0) {
        workers = (unsigned)strtoul(argv[at + 1], NULL, 10);
        at += 2;
    }
    if (workers < 1 || workers > 1000 || argc > at + 1) {
        fprintf(stderr, "usage: jobs [-w WORKERS] [FILE]\n");
        return EXIT_FAILURE;
    }
    FILE *input = at < argc ? fopen(argv[at], "r") : stdin;
    if (input == NULL) {
        perror(argv[at]);
        return EXIT_FAILURE;
    }
    int status = run(workers, input);
    if (input != stdin) {
        fclose(input);
    }
    return status;
}
