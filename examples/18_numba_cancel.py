"""Go pattern: `select { case <-ctx.Done(): ... }` inside of a loop. Here a numba @cfunc looks at its job's flag.

See: a compiled loop that would run for a day ends 50 ms after it began, because its token is cancelled. Bit 0 of the
first 32-bit word of a job says that it should stop (workerpool.h). It is loaded atomically, or LLVM would be free to
load it once, before the loop.
"""

import time

from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

import workerpool as wp


@intrinsic
def first_word(_context, pointer):
    def generate(_context, builder, _signature, arguments):
        word = builder.bitcast(arguments[0], ir.IntType(32).as_pointer())
        return builder.load_atomic(word, "acquire", 4)

    return types.uint32(pointer), generate


@cfunc(types.int64(types.voidptr, types.int64))
def count_up(job, end):
    for number in range(end):
        if first_word(job) & 1:
            return -number
    return end


def main() -> None:
    native = wp.native(count_up.address, "int64_t (wp_job *, int64_t)", name="count_up", raises="negative")
    with wp.WorkerPool(2) as pool:
        print("short:", pool.submit(native, 1000).result())
        begin = time.monotonic()
        future = pool.options(token=wp.CancelToken(timeout=0.05)).submit(native, 10**14)
    print(f"long: cancelled is {future.cancelled()} after {time.monotonic() - begin:.2f} s")


if __name__ == "__main__":
    main()
