"""Go pattern: a goroutine that waits on a channel while others go on. In Python: asyncio with the pool as its executor.

See: run_in_executor takes a WorkerPool as it is; set_default_executor wants a ThreadPoolExecutor, which the drop-in
workerpool.ThreadPoolExecutor is. The event loop goes on while the jobs wait.
"""

import asyncio
import threading
from time import sleep

import workerpool as wp


def blocking(number: int) -> str:
    sleep(0.02)
    return f"job {number} on {threading.current_thread().name.rpartition('_')[0]}"


async def main() -> None:
    loop = asyncio.get_running_loop()
    with wp.WorkerPool(4, thread_name_prefix="pool") as pool:
        jobs = asyncio.gather(*(loop.run_in_executor(pool, blocking, number) for number in range(4)))
        ticks = 0
        while not jobs.done():
            ticks += 1
            await asyncio.sleep(0.001)
        print(*await jobs, sep="\n")
        print(f"meanwhile the event loop went on: {ticks > 1}")

    loop.set_default_executor(wp.ThreadPoolExecutor(4, thread_name_prefix="default"))
    print(await asyncio.to_thread(blocking, 4))  # The default executor; asyncio.run() shuts it down.


if __name__ == "__main__":
    asyncio.run(main())
