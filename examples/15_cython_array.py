"""Toolchain: Cython. A `cdef` function that its module exports, over the rows of a NumPy array.

See: it is declared `noexcept nogil`, so that it may run without the interpreter, and in a .pxd, so that the module
exports it. ThreadPoolExecutor calls it through a `def` function. Compiled at run time, in a folder that goes away.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import repeat as timed

import workerpool as wp

try:
    import Cython  # noqa: F401
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit()
COMPILE = "-m Cython.Build.Cythonize -3i -X boundscheck=False -X freethreading_compatible=True kernels.pyx"
EXPORTED = "cdef double roughness(const double *row, size_t n) noexcept nogil"
SOURCE = f"""{EXPORTED}:
    cdef double total = 0
    cdef size_t i
    for i in range(1, n): total += (row[i] - row[i - 1]) * (row[i] - row[i - 1])
    return total
def from_python(const double[::1] row, double total=0):
    with nogil: total = roughness(&row[0], row.shape[0])
    return total"""
with TemporaryDirectory() as folder:
    Path(folder, "kernels.pxd").write_text(EXPORTED)
    Path(folder, "kernels.pyx").write_text(SOURCE)
    subprocess.run([sys.executable, *COMPILE.split()], cwd=folder, check=True, capture_output=True)
    sys.path.insert(0, folder)
    roughness, from_python = wp.native("kernels:roughness"), __import__("kernels").from_python
rows = np.random.default_rng(0).random((10_000, 300))
with wp.WorkerPool() as pool, ThreadPoolExecutor() as executor:
    right = np.allclose(list(pool.map(roughness, rows, repeat(300))), (np.diff(rows) ** 2).sum(axis=1))
    print(f"{len(rows)} rows; the same as NumPy: {right}")
    ours = 1000 * min(timed(lambda: list(pool.map(roughness, rows, repeat(300))), number=1))
    theirs = 1000 * min(timed(lambda: list(executor.map(from_python, rows)), number=1))
    print(f"workerpool {ours:.1f} ms, ThreadPoolExecutor {theirs:.1f} ms")
