"""The C API from Cython: `from workerpool cimport capi`, without the GIL."""

from __future__ import annotations

import array
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import clients
import workerpool as wp
from conftest import RunScenario
from support import FREE_THREADED, LONG

pytest.importorskip("Cython")

pytestmark = [pytest.mark.build, pytest.mark.timeout(240), pytest.mark.slow]


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clients.build("cython_client.pyx", tmp_path_factory.mktemp("cython"))


@pytest.fixture(scope="session")
def client(client_folder: Path) -> Any:
    return clients.load(client_folder, "cython_client")


@pytest.fixture(params=["borrowed", "own"])
def pool(client: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "borrowed":
        with wp.WorkerPool(2, queue_size=100) as pool:
            yield client.Pool(pool)
    else:
        yield client.Pool(max_workers=2)


def test_pools(client: Any) -> None:
    assert client.Pool(max_workers=3).max_workers == 3
    with wp.WorkerPool(2) as pool:
        assert client.Pool(pool).lanes == (3, 1)
        assert client.Pool(pool.lane("low")).lanes == (3, 2)
    with pytest.raises(TypeError, match="a WorkerPool or a view of one is needed, not int"):
        client.Pool(5)


def test_jobs(client: Any, pool: Any) -> None:
    assert client.power(pool, 2.0, 10) == (1024.0, 1.0)
    assert client.power(pool, 3.0, 0)[0] == 1.0
    with pytest.raises(ArithmeticError, match=r"^the exponent is negative$"):
        client.power(pool, 2.0, -1)


@pytest.mark.parametrize("workers", [1, 2])
def test_children(client: Any, workers: int) -> None:
    pool = client.Pool(max_workers=workers)
    for exponent in range(20):
        assert client.power(pool, 2.0, exponent, True)[0] == 2.0**exponent


def test_tokens(client: Any, pool: Any) -> None:
    assert client.stop_by_token(pool, wp.CancelToken(timeout=0.05)) == 5
    with wp.WorkerPool(1) as python_pool:
        token = wp.CancelToken()
        token.cancel()
        with pytest.raises(CancelledError, match="the token is cancelled"):
            client.power(client.Pool(python_pool.options(token=token)), 2.0, 2)


@pytest.mark.parametrize("n", [0, 1, 10_000])
@pytest.mark.parametrize("grain", [0, 1, 100])
def test_parallel_ranges(client: Any, pool: Any, n: int, grain: int) -> None:
    numbers = array.array("d", range(n))
    client.scale(pool, numbers, 3.0, grain)
    assert numbers == array.array("d", range(0, 3 * n, 3))


def test_parallel_range_that_fails(client: Any, pool: Any) -> None:
    numbers = array.array("d", [1.0]) * 1000
    numbers[77] = float("nan")
    with pytest.raises(ValueError, match=r"^there is a NaN in 70:80$"):
        client.scale(pool, numbers, 2.0, 10)


def test_stages(client: Any, pool: Any) -> None:
    assert client.doubled(pool, 2000, 10) == 2000 * 1999


def test_others_jobs(client: Any, pool: Any) -> None:
    assert client.others_jobs(pool, 500) == 500


def test_many_threads(client: Any, pool: Any) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(client.doubled(pool, 500, 10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert found == [500 * 499] * 4


def test_example_of_the_documentation(tmp_path: Path) -> None:
    clients.build_example("cython", "scaling", tmp_path)
    scaling = clients.load(tmp_path, "scaling")
    numbers = array.array("d", range(1000))
    with wp.WorkerPool(2) as pool:
        scaling.scale(pool, numbers, 2.0)
    assert numbers == array.array("d", range(0, 2000, 2))


@pytest.mark.skipif(not FREE_THREADED, reason="there is a GIL")
def test_the_gil_stays_off(client: Any) -> None:
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined]


def test_one_worker_does_not_deadlock(client_folder: Path, run_scenario: RunScenario) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(client_folder)!r})
import cython_client, workerpool as wp
with wp.WorkerPool(1, queue_size=1) as pool:
    inner = cython_client.Pool(pool)
    futures = [pool.submit(cython_client.power, inner, 2.0, i, True) for i in range(20)]
    assert [future.result()[0] for future in futures] == [2.0**i for i in range(20)]
"""
    run_scenario(code, timeout=30)
