"""Go pattern: errgroup with a context; the first error cancels everything else.

See: job 3 fails. The running jobs look at their token and stop early, and the waiting ones never begin.
"""

from collections import Counter
from concurrent.futures import CancelledError
from time import sleep

import workerpool as wp

JOBS = 100


def work(number: int) -> int:
    if number == 3:
        raise ValueError(f"job {number} is broken")
    job = wp.current_job()
    for _ in range(1000):  # Go: select { case <-ctx.Done(): return ctx.Err(); default: }
        job.raise_if_cancelled()
        sleep(0.001)
    return number


def main() -> None:
    token = wp.CancelToken()
    ended: Counter[str] = Counter()
    with wp.WorkerPool(max_workers=4) as pool, pool.options(token=token).results() as results:
        for number in range(JOBS):
            results.submit(work, number)
        results.close()
        for result in results:
            if result.ok:
                ended["done"] += 1
            elif isinstance(result.error, CancelledError):
                ended["cancelled"] += 1
            elif token.cancel():
                print(f"first error: {result.error}; all others are cancelled")
                ended["failed"] += 1
    print(f"{ended['failed']} failed, {ended['done']} done, {ended['cancelled']} cancelled, of {JOBS}")


if __name__ == "__main__":
    main()
