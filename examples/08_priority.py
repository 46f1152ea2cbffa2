"""Go pattern: two channels and a nested `select` to prefer one of them. Here: lanes.

See: jobs of the lane "high" begin before all that wait in "normal" and "low", whenever they were submitted. Within a
lane they begin in order. The one worker is held back at first, so that all jobs wait together.
"""

import threading

import workerpool as wp

begun: list[str] = []


def main() -> None:
    gate = threading.Event()
    # With fairness=0 the order is strict. Left out, a lower lane is served at least once in 64 jobs.
    with wp.WorkerPool(max_workers=1, fairness=0) as pool:
        pool.submit(gate.wait)
        low, high = pool.lane("low"), pool.lane("high")
        for number in range(1, 4):
            low.submit(begun.append, f"low {number}")
            pool.submit(begun.append, f"normal {number}")
        for number in range(1, 3):
            high.submit(begun.append, f"high {number}")
        gate.set()
    print("order:", ", ".join(begun))


if __name__ == "__main__":
    main()
