"""Each toolchain's function, run by a pool, gives bit for bit what a direct call of it gives."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from c_types import MIXED, SCALARS, bits, values
from support import LONG


@dataclass(frozen=True)
class Toolchain:
    """How one toolchain has the functions of helpers.c: as targets of native(), and to be called directly.

    Where it does not keep `const`, a signature has to add it before bytes are taken.
    """

    target: Callable[[str], Any]
    direct: Callable[[str], Callable[..., Any]]
    keeps_const: bool = True


# ---- The toolchains ----


@pytest.fixture(scope="session")
def of_ctypes(library: ctypes.CDLL) -> Toolchain:
    return Toolchain(lambda name: getattr(library, name), lambda name: getattr(library, name))


@pytest.fixture(scope="session")
def of_cffi_abi(cffi_abi: tuple[Any, Any]) -> Toolchain:
    lib = cffi_abi[1]
    return Toolchain(lambda name: getattr(lib, name), lambda name: getattr(lib, name), keeps_const=False)


@pytest.fixture(scope="session")
def of_cffi_api(cffi_api: ModuleType) -> Toolchain:
    lib = cffi_api.lib
    return Toolchain(lambda name: getattr(lib, name), lambda name: getattr(lib, name), keeps_const=False)


@pytest.fixture(scope="session")
def of_cffi_pointer(cffi_api: ModuleType) -> Toolchain:
    return Toolchain(
        lambda name: cffi_api.ffi.addressof(cffi_api.lib, name),
        lambda name: cffi_api.ffi.addressof(cffi_api.lib, name),
        keeps_const=False,
    )


def call_of_cfunc(cfunc: Any) -> Callable[..., Any]:
    """numba's own call by ctypes, which wants a typed pointer for bytes."""

    def converted(argument: Any) -> Any:
        pointer = ctypes.POINTER(ctypes.c_uint8)
        return ctypes.cast(ctypes.c_char_p(argument), pointer) if isinstance(argument, bytes) else argument

    return lambda *arguments: cfunc.ctypes(*map(converted, arguments))


@pytest.fixture(scope="session")
def of_numba(numba_functions: dict[str, Any]) -> Toolchain:
    return Toolchain(numba_functions.__getitem__, lambda name: call_of_cfunc(numba_functions[name]), keeps_const=False)


@pytest.fixture(scope="session")
def of_cython(cython_module: ModuleType) -> Toolchain:
    return Toolchain(cython_module.__pyx_capi__.__getitem__, lambda name: getattr(cython_module, f"call_{name}"))


@pytest.fixture(scope="session")
def of_capsules(library: ctypes.CDLL, new_capsule: Any) -> Toolchain:
    signatures = {name: f"{ctype} ({ctype})" for ctype, (name, _) in SCALARS.items()}
    signatures["mixed"] = f"double ({', '.join(MIXED)})"

    def target(name: str) -> Any:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        return new_capsule(address, signatures[name])

    return Toolchain(target, lambda name: getattr(library, name))


@pytest.fixture(scope="session")
def of_scipy(low_level_callable: Any, library: ctypes.CDLL) -> Toolchain:
    return Toolchain(lambda name: low_level_callable(getattr(library, name)), lambda name: getattr(library, name))


@pytest.fixture(scope="session")
def of_scipy_and_numba(low_level_callable: Any, numba_functions: dict[str, Any]) -> Toolchain:
    return Toolchain(
        lambda name: low_level_callable(numba_functions[name].ctypes),
        lambda name: call_of_cfunc(numba_functions[name]),
        keeps_const=False,
    )


@pytest.fixture(scope="session")
def of_scipy_and_cython(low_level_callable: Any, cython_module: ModuleType) -> Toolchain:
    return Toolchain(
        lambda name: low_level_callable.from_cython(cython_module, name),
        lambda name: getattr(cython_module, f"call_{name}"),
    )


EVERY = [
    "of_ctypes",
    "of_cffi_abi",
    "of_cffi_api",
    "of_cffi_pointer",
    "of_numba",
    "of_cython",
    "of_capsules",
    "of_scipy",
    "of_scipy_and_numba",
    "of_scipy_and_cython",
]

MIXED_SIGNATURE = f"double ({', '.join(MIXED)})"
BYTES_SIGNATURE = "uint64_t (const unsigned char *, size_t)"


@pytest.fixture(scope="session", params=EVERY)
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    made: Toolchain = request.getfixturevalue(request.param)
    return made


# ---- The tests ----


@pytest.mark.parametrize("ctype", SCALARS)
def test_every_scalar(toolchain: Toolchain, two_workers: wp.WorkerPool, ctype: str) -> None:
    name = SCALARS[ctype][0]
    function = wp.native(toolchain.target(name))
    direct = toolchain.direct(name)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(values(ctype), min_size=1, max_size=8))
    def check(arguments: list[Any]) -> None:
        expected = [bits(direct(x)) for x in arguments]
        assert [bits(function(x)) for x in arguments] == expected
        assert [bits(two_workers.submit(function, x).result(LONG)) for x in arguments] == expected
        assert list(map(bits, two_workers.map(function, arguments))) == expected

    check()


def test_twelve_mixed_arguments(toolchain: Toolchain, two_workers: wp.WorkerPool) -> None:
    try:
        function = wp.native(toolchain.target("mixed"), None if toolchain.keeps_const else MIXED_SIGNATURE)
    except wp.SignatureError as error:
        if "libffi" not in str(error):
            raise
        pytest.skip(str(error))  # More than registers hold, on a machine whose stack only libffi knows.
    direct = toolchain.direct("mixed")

    @settings(max_examples=100, deadline=None)
    @given(st.tuples(*map(values, MIXED)))
    def check(arguments: tuple[Any, ...]) -> None:
        expected = bits(direct(*arguments))
        assert bits(function(*arguments)) == expected
        assert bits(two_workers.submit(function, *arguments).result(LONG)) == expected
        assert list(map(bits, two_workers.map(function, *([x] * 3 for x in arguments)))) == [expected] * 3

    check()


@pytest.mark.thread_unsafe(reason="asks pytest for fixtures while it runs")
@pytest.mark.parametrize("name", ["of_ctypes", "of_cffi_abi", "of_cffi_api", "of_numba", "of_cython"])
def test_buffers(request: pytest.FixtureRequest, two_workers: wp.WorkerPool, name: str) -> None:
    toolchain: Toolchain = request.getfixturevalue(name)
    target = (
        request.getfixturevalue("cython_module").__pyx_capi__["sum_bytes"]
        if name == "of_cython"
        else toolchain.target("sum_bytes")
    )
    function = wp.native(target, None if toolchain.keeps_const else BYTES_SIGNATURE)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=3000))
    def check(data: bytes) -> None:
        for buffer in (data, bytearray(data), memoryview(data)):
            assert function(buffer, len(data)) == sum(data)
            assert two_workers.submit(function, buffer, len(data)).result(LONG) == sum(data)

    check()


@pytest.mark.thread_unsafe(reason="asks pytest for fixtures while it runs")
@settings(max_examples=100, deadline=None)
@given(x=st.floats(), pair=st.tuples(st.floats(), st.floats()))
@pytest.mark.parametrize("wrapped", ["ctypes", "cffi", "numba", "cython", "capsule"])
def test_user_data(
    request: pytest.FixtureRequest, two_workers: wp.WorkerPool, wrapped: str, x: float, pair: tuple[float, float]
) -> None:
    """scipy.LowLevelCallable with user data, and a capsule with a context: the last argument is not given."""
    library = request.getfixturevalue("library")
    data = (ctypes.c_double * 2)(*pair)
    expected = bits(library.add_scaled(x, data))
    pointer = ctypes.cast(data, ctypes.c_void_p)
    address = ctypes.cast(library.add_scaled, ctypes.c_void_p).value
    target: Any
    if wrapped == "capsule":
        new_capsule = request.getfixturevalue("new_capsule")
        target = new_capsule(address, "double (double, void *)", ctypes.addressof(data))
    else:
        make = request.getfixturevalue("low_level_callable")
        if wrapped == "ctypes":
            target = make(library.add_scaled, pointer)
        elif wrapped == "cffi":
            ffi, lib = request.getfixturevalue("cffi_abi")
            target = make(lib.add_scaled, ffi.cast("void *", ctypes.addressof(data)))
        elif wrapped == "numba":
            target = make(request.getfixturevalue("numba_functions")["add_scaled"].ctypes, pointer)
        else:
            target = make.from_cython(request.getfixturevalue("cython_module"), "add_scaled", pointer)
    function = wp.native(target)
    assert bits(function(x)) == expected
    assert bits(two_workers.submit(function, x).result(LONG)) == expected
    assert list(map(bits, two_workers.map(function, [x, x]))) == [expected] * 2
    with pytest.raises(TypeError, match=r"takes 1 argument \(2 given\)"):
        function(x, None)


def test_what_cython_adds_is_filled_in(cython_module: ModuleType, two_workers: wp.WorkerPool) -> None:
    exported = cython_module.__pyx_capi__
    for name, expected in {"scaled": 6.0, "twice": 6.0, "thrice": 9.0}.items():
        function = wp.native(exported[name])
        assert function(3.0) == expected
        assert two_workers.submit(function, 3.0).result(LONG) == expected
        assert list(two_workers.map(function, [3.0, 3.0])) == [expected] * 2
        with pytest.raises(TypeError, match=r"takes 1 argument \(2 given\)"):
            function(3.0, 1)


def test_special_functions_of_scipy(two_workers: wp.WorkerPool, low_level_callable: Any) -> None:
    special = pytest.importorskip("scipy.special")
    function = wp.native("scipy.special.cython_special:j0")
    points = [x / 7 for x in range(200)]
    assert list(map(bits, two_workers.map(function, points))) == [bits(float(special.j0(x))) for x in points]
