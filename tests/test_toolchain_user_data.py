"""User data of capsules without a name: only the signature that the user gives says which parameter it is for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

import workerpool as wp

scipy: Any = importlib.import_module("scipy.ndimage") if importlib.util.find_spec("scipy") else None
pytestmark = pytest.mark.skipif(scipy is None, reason="scipy is not installed")


def test_scipys_own_capsules_keep_their_context() -> None:
    numpy: Any = importlib.import_module("numpy")
    capsules: Any = importlib.import_module("scipy.ndimage._ctest")
    weights = numpy.arange(1.0, 5.0)
    filter2d = wp.native(capsules.filter2d(weights), "int (double *, npy_intp, double *, void *)", name="filter2d")
    values = numpy.array([1.0, 10.0, 100.0, 1000.0])
    result = numpy.zeros(1)
    with wp.WorkerPool(1) as pool:
        assert pool.submit(filter2d, values, 4, result).result() == 1
        assert result[0] == weights @ values
        with pytest.raises(TypeError, match="takes 3 arguments"):
            pool.submit(filter2d, values, 4, result, None)
    filter1d = wp.native(capsules.filter1d(3), "int (double *, npy_intp, double *, npy_intp, void *)")
    line, averages = numpy.arange(6.0), numpy.zeros(4)
    assert filter1d(line, 6, averages, 4) == 1
    assert averages == pytest.approx([1.0, 2.0, 3.0, 4.0])
    transform = wp.native(capsules.transform(0.5), "int (npy_intp *, double *, int, int, void *)")
    point, moved = numpy.array([3, 4]), numpy.zeros(2)
    assert transform(point, moved, 2, 2) == 1
    assert set(abs(moved - point)) == {0.5}


def test_without_a_place_the_context_is_not_looked_at() -> None:
    capsules: Any = importlib.import_module("scipy.ndimage._ctest")
    function = wp.native(capsules.filter1d(3), "int (double *, npy_intp, double *, npy_intp, double *)")
    with pytest.raises(TypeError, match="takes 5 arguments"):
        function()
