"""Go pattern: a slice cut into ranges, a goroutine for each, and a WaitGroup. Here that is one call, map_array: the
workers and the calling thread claim ranges of the elements, and no element becomes a Python object.

See: C's atan2() over two arrays, and over an array and a number, with the bits that math.atan2() gives; the same as a
future, written to an array that is there; and a loop that is stopped on its way and says how far it came.
"""

import math
from array import array
from concurrent.futures import CancelledError

import workerpool as wp

N = 1_000_000


def main() -> None:
    atan2 = wp.native(":atan2", "double (double, double)")
    usleep = wp.native(":usleep", "int (unsigned int)", raises="nonzero")
    x = array("d", range(N))
    y = array("d", range(N, 0, -1))
    with wp.WorkerPool(2) as pool:
        both = pool.map_array(atan2, x, y)  # NumPy's array if NumPy was imported, else a memoryview.
        one = pool.map_array(atan2, x, 4.0)
        every = range(0, N, 1000)
        print(f"two arrays: {all(both[i] == math.atan2(x[i], y[i]) for i in every)}")
        print(f"an array and a number: {all(one[i] == math.atan2(x[i], 4.0) for i in every)}")

        future = pool.lane("high").submit_array(atan2, x, y, out=x)  # In place.
        future.result()
        print(f"the same in place: {all(x[i] == both[i] for i in every)}")

        limited = pool.options(token=wp.CancelToken(timeout=0.1))
        try:
            limited.map_array(usleep, array("I", [1000]) * N)
        except CancelledError as error:
            print("cancelled:", error.__notes__[0].split(": ")[0])


if __name__ == "__main__":
    main()
