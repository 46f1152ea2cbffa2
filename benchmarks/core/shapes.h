/* The pool's core by itself, without Python: the shapes that it is measured in. Each prints one line of JSON. */
#ifndef SHAPES_H
#define SHAPES_H

#include "measure.h"
#include "wp_stage.h"

/* A pool with one lane for so many jobs (0: any number), or the program ends. */
wp_pool *pool_or_exit(unsigned workers, uint64_t capacity);

/* Closes the pool and waits for its threads. */
void pool_end(wp_pool *pool);

/* Submits a function to the pool's lane without a results queue, waiting for room. */
void submit_or_exit(wp_pool *pool, wp_function *function, void *argument);

/* The jobs and results channels of a Go pool: one producer, the workers, one consumer. At most `bound` jobs wait, and at
 * most `places` are accepted and not read. `in_batches`: the producer and the consumer hand over several at a time. */
void run_channels(const arguments *a, uint64_t places, bool in_batches);

/* Empty jobs from one thread, then a wait for all. `bound` jobs may wait. */
void run_empty(const arguments *a);

/* One job in a hundred sleeps 10 ms, the others take 1 us; they come in bursts of `bound`. Prints the 50th and 99th
 * percentile of how long the short ones waited. `one_at_a_time`: a worker never takes more than one job. */
void run_tail(const arguments *a, bool one_at_a_time);

/* A request every `bound` ns after the one before has ended: from submission to end, and the processor time of it. Whoever
 * waits for it runs it, as who waits for a handle or a future does if no worker has begun it, or leaves it to a worker. */
void run_spaced(const arguments *a, bool by_worker);

#endif
