"""Go pattern: a jobs channel and a results channel, with N workers between them.

See: results come in the order in which jobs end, and each knows the index of its job. `close()` is Go's `close(jobs)`;
the loop over the results then ends by itself, with no WaitGroup.
"""

import workerpool as wp


def square(number: int) -> int:
    return number * number


def main() -> None:
    numbers = range(1, 10)
    with wp.WorkerPool(max_workers=3) as pool, pool.results(maxsize=100) as results:
        for number in numbers:  # Go: jobs <- number
            results.submit(square, number)
        results.close()
        total = 0
        for result in results:  # Go: for r := range results
            print(f"job {result.index}: {numbers[result.index]} squared is {result.value}")
            total += result.value
    print(f"sum of {len(numbers)} results: {total}")


if __name__ == "__main__":
    main()
