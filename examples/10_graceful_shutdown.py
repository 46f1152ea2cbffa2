"""Go pattern: `signal.Notify`, stop taking jobs, `wg.Wait()` with a time limit, then give up on the rest.

See: drain() waits for what was submitted; Ctrl-C ends a wait at once; shutdown() with a time limit says what still
runs, and what waited is cancelled. Ctrl-C is sent by the example itself.
"""

import signal
import threading

import workerpool as wp


def main() -> None:
    pool = wp.WorkerPool(max_workers=1)
    small = [pool.submit(pow, 2, number) for number in range(10)]
    print(f"drained: {pool.drain(timeout=10)}, {sum(future.done() for future in small)} jobs done")

    begun, stop = threading.Event(), threading.Event()
    running = pool.options(label="long job").submit(lambda: begun.set() or stop.wait())
    waiting = [pool.submit(pow, 2, number) for number in range(5)]
    begun.wait()
    try:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        pool.drain()  # Go: wg.Wait()
    except KeyboardInterrupt:
        print("Ctrl-C: the wait ended, the job still runs:", running.running())
    try:
        pool.shutdown(cancel_futures=True, timeout=0.05)
    except TimeoutError as error:
        print(f"shutdown: {error}")
    print(f"{sum(future.cancelled() for future in waiting)} of {len(waiting)} waiting jobs were cancelled")
    stop.set()
    pool.shutdown()  # Waits again, now to the end.
    print("ended:", running.result())


if __name__ == "__main__":
    main()
