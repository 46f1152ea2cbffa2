"""Go pattern: a goroutine that sends its progress and its error on channels. Here a C function does, through its job.

See: the progress of a C function, read from Python while it runs; and another one's failure, with the message it gave.
"""

import subprocess
import sysconfig
import tempfile
import time

import workerpool as wp

SOURCE = r"""
#include <stdio.h>
#include <time.h>
#include <workerpool.h>
int wait_in_steps(int steps, int broken_step, wp_job *job) {
    for (int step = 0; step < steps && !wp_job_should_stop(job); step++) {
        char message[40];
        snprintf(message, sizeof message, "step %d is broken", step);
        if (step == broken_step) return wp_job_fail(job, message);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        wp_job_progress_of(job, step + 1, steps);
    }
    return 0;
}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, wp.WorkerPool(2) as pool:
        flags = ["-x", "c", "-shared", "-fPIC", f"-I{wp.get_include()}", "-", "-o", f"{folder}/steps.so"]
        subprocess.run([*sysconfig.get_config_var("CC").split(), *flags], input=SOURCE, text=True, check=True)
        steps = wp.native(f"{folder}/steps.so:wait_in_steps", "int (int, int, wp_job *)", raises="nonzero")
        future, broken = pool.submit(steps, 10, -1), pool.submit(steps, 10, 3)
        seen = set()
        while not future.done():
            seen.add(future.progress)
            time.sleep(0.001)
        print(f"progress: {len(seen) > 3} in between, {future.progress:.0%} at the end")
        print(f"the other: {broken.exception()!r} at {broken.progress:.0%}")


if __name__ == "__main__":
    main()
