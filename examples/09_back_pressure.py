"""Go pattern: a buffered channel, make(chan job, 2), and an unbuffered one, make(chan job). A full one blocks.

See: what submit does when the worker is busy and no more jobs may wait, by `queue_size` and `on_full`.
"""

import threading

import workerpool as wp


def fill(queue_size: int) -> None:
    """Submits jobs while the only worker is busy, until no more may wait; then does what else there is to do."""
    release = threading.Event()
    begun = threading.Event()
    number = 0
    with wp.WorkerPool(1, queue_size=queue_size, on_full="raise") as pool:
        pool.options(on_full="block").submit(lambda: begun.set() or release.wait())
        begun.wait()
        try:
            while True:
                pool.submit(int)  # Go: select { case jobs <- j: default: /* full */ }
                number += 1
        except wp.QueueFull as error:
            print(f"queue_size={queue_size}: {number} jobs wait, then {type(error).__name__}")
        caller = pool.options(on_full="caller_runs").submit(threading.current_thread)
        print(f"  caller_runs: it ran in {caller.result().name}")
        print(f"  discard: cancelled is {pool.options(on_full='discard').submit(int).cancelled()}")
        try:
            pool.options(on_full="block", submit_timeout=0.01).submit(int)
        except wp.SubmitTimeout:
            print("  block: SubmitTimeout after 10 ms")
        release.set()


if __name__ == "__main__":
    fill(2)
    fill(0)
