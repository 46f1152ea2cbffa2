"""Functions of each toolchain, made once a session. Where a package is not installed its tests are skipped."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import workerpool as wp
from c_types import MIXED, SCALARS
from support import Helpers

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def two_workers() -> Iterator[wp.WorkerPool]:
    with wp.WorkerPool(2) as pool:
        yield pool


def need_compiler() -> None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")


def build(folder: Path, script: str) -> None:
    """Runs a script that builds an extension in a folder. In a process of its own: compilers warn and change things."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def import_from(folder: Path, name: str) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


# ---- ctypes ----


@pytest.fixture(scope="session")
def library(helpers: Helpers) -> ctypes.CDLL:
    """tests/native/helpers.c with declared types."""
    library = ctypes.CDLL(helpers.path)
    for name, kind in SCALARS.values():
        getattr(library, name).argtypes = [kind]
        getattr(library, name).restype = kind
    library.id_pointer.argtypes = [ctypes.c_void_p]
    library.id_pointer.restype = ctypes.c_void_p
    library.mixed.argtypes = [ctypes.c_char_p if t.endswith("*") else SCALARS[t][1] for t in MIXED]
    library.mixed.restype = ctypes.c_double
    library.sum_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.sum_bytes.restype = ctypes.c_uint64
    library.add_scaled.argtypes = [ctypes.c_double, ctypes.c_void_p]
    library.add_scaled.restype = ctypes.c_double
    return library


# ---- cffi ----

CDEF = "\n".join(
    [
        *(
            f"{'_Bool' if ctype == 'bool' else ctype} {name}({ctype.replace('bool', '_Bool')});"
            for ctype, (name, _) in SCALARS.items()
        ),
        f"double mixed({', '.join(MIXED).replace('bool', '_Bool')});",
        "uint64_t sum_bytes(const unsigned char *, size_t);",
        "void *id_pointer(void *);",
        "double add_scaled(double, void *);",
        "void nothing(void);",
    ]
)


@pytest.fixture(scope="session")
def cffi() -> Any:
    return pytest.importorskip("cffi", minversion="1.15")


@pytest.fixture(scope="session")
def cffi_abi(cffi: Any, helpers: Helpers) -> tuple[Any, Any]:
    """The ffi and the lib of tests/native/helpers.c in ABI mode."""
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    return ffi, ffi.dlopen(helpers.path)


@pytest.fixture(scope="session")
def cffi_api(cffi: Any, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module compiled by cffi with the same functions, and some of Python."""
    need_compiler()
    folder = tmp_path_factory.mktemp("cffi_api")
    source = (ROOT / "tests" / "native" / "helpers.c").read_text()
    script = f"""
import cffi
ffi = cffi.FFI()
ffi.cdef({CDEF!r})
ffi.cdef('''
    extern "Python" int of_python(int);
    extern "Python+C" int of_python_and_c(int);
    extern int (*variable)(int);
    typedef struct {{ double a, b; }} pair;
    double sum_of_pair(pair);
    double sum_of_many(int, ...);
''')
ffi.set_source("_workerpool_cffi_api", {source!r} + '''
    static int (*variable)(int) = id_int;
    typedef struct {{ double a, b; }} pair;
    static double sum_of_pair(pair p) {{ return p.a + p.b; }}
    static double sum_of_many(int n, ...) {{ return n; }}
''', include_dirs=[{str(ROOT / "csrc" / "include")!r}], extra_compile_args=["-O1"])
ffi.compile(verbose=True)
"""
    build(folder, script)
    return import_from(folder, "_workerpool_cffi_api")


# ---- numba ----


@pytest.fixture(scope="session")
def numba() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("numba", minversion="0.59")


NUMBA_TYPES = {
    "bool": "boolean",
    "signed char": "int8",
    "unsigned char": "uint8",
    "short": "int16",
    "unsigned short": "uint16",
    "int": "int32",
    "unsigned int": "uint32",
    "long": "intp",
    "unsigned long": "uintp",
    "long long": "int64",
    "unsigned long long": "uint64",
    "size_t": "uintp",
    "float": "float32",
    "double": "float64",
    "const unsigned char *": "CPointer(uint8)",
}


@pytest.fixture(scope="session")
def numba_functions(numba: Any) -> dict[str, Any]:
    """cfuncs that do what the functions of tests/native/helpers.c of the same names do."""

    def identity(x):
        return x

    def mixed(a, b, c, d, e, f, g, h, i, j, k, m):
        return (
            a
            + numba.float64(2) * b
            + numba.float64(3) * c
            + 4 * d
            + numba.float64(5) * e
            + numba.float64(6) * f
            + numba.float64(7) * g
            + 8 * h
            + numba.float64(9) * i
            + numba.float64(10) * j[0]
            + numba.float64(11) * k
            + 12 * m
        )

    def sum_bytes(data, size):
        total = numba.uint64(0)
        for i in range(size):
            total += data[i]
        return total

    def add_scaled(x, data):
        pair = numba.carray(data, 2, numba.float64)
        return pair[0] + pair[1] * x

    functions = {
        name: numba.cfunc(f"{NUMBA_TYPES[ctype]}({NUMBA_TYPES[ctype]})")(identity)
        for ctype, (name, _) in SCALARS.items()
    }
    functions["mixed"] = numba.cfunc(f"float64({', '.join(NUMBA_TYPES[t] for t in MIXED)})")(mixed)
    functions["sum_bytes"] = numba.cfunc("uint64(CPointer(uint8), uintp)")(sum_bytes)
    functions["add_scaled"] = numba.cfunc("float64(float64, voidptr)")(add_scaled)
    return functions


# ---- Cython ----


def cython_sources() -> tuple[str, str]:
    """A .pxd, which makes the module export the functions in it, and the .pyx. `call_x` calls `x` directly."""
    declarations, definitions = [], []
    for ctype, (name, _) in SCALARS.items():
        spelled = "bint" if ctype == "bool" else ctype
        declarations.append(f"cdef {spelled} {name}({spelled} x) noexcept nogil")
        definitions.append(f"cdef {spelled} {name}({spelled} x) noexcept nogil:\n    return x")
        cast = "<int>" if ctype == "bool" else ""  # To Cython's callers in C a bint is an int.
        definitions.append(f"def call_{name}({spelled} x):\n    return {cast}{name}(x)")
    parameters = ", ".join(f"{t.replace('bool', 'bint')} {chr(97 + i)}" for i, t in enumerate(MIXED))
    names = ", ".join(chr(97 + i) for i in range(len(MIXED)))
    declarations += [
        f"cdef double mixed({parameters}) noexcept nogil",
        "cdef unsigned long long sum_bytes(const unsigned char *data, size_t size) noexcept nogil",
        "cdef double add_scaled(double x, void *data) noexcept nogil",
        "cdef double scaled(double x, double by=*) noexcept nogil",
        "cpdef double twice(double x) noexcept nogil",
        "cpdef double thrice(double x, double more=*) noexcept nogil",
        "cdef object of_objects(object x)",
        "cdef list of_lists(list x)",
        "cdef double of_a_view(double[:] x) noexcept nogil",
        "cdef double complex of_complex(double complex x) noexcept nogil",
        "cdef class Thing:\n    cdef double value",
        "cdef double of_a_thing(Thing thing)",
        "ctypedef double length",
        "cdef length of_lengths(length x) noexcept nogil",
        "ctypedef fused number:\n    float\n    double",
        "cpdef number fused(number x) noexcept nogil",
    ]
    definitions += [
        f"cdef double mixed({parameters}) noexcept nogil:\n"
        "    return a + 2.0 * b + 3.0 * c + 4.0 * d + 5.0 * e + 6.0 * f + 7.0 * <double>g + 8.0 * h + 9.0 * <double>i "
        "+ 10.0 * j[0] + 11.0 * k + 12.0 * l",
        f"def call_mixed({parameters}):\n    return mixed({names})",
        "cdef unsigned long long sum_bytes(const unsigned char *data, size_t size) noexcept nogil:\n"
        "    cdef unsigned long long total = 0\n"
        "    for i in range(size):\n        total += data[i]\n    return total",
        "cdef double add_scaled(double x, void *data) noexcept nogil:\n"
        "    return (<double *>data)[0] + (<double *>data)[1] * x",
        "cdef double scaled(double x, double by=2) noexcept nogil:\n    return x * by",
        "cpdef double twice(double x) noexcept nogil:\n    return 2 * x",
        "cpdef double thrice(double x, double more=3) noexcept nogil:\n    return more * x",
        "cdef object of_objects(object x):\n    return x",
        "cdef list of_lists(list x):\n    return x",
        "cdef double of_a_view(double[:] x) noexcept nogil:\n    return 0",
        "cdef double complex of_complex(double complex x) noexcept nogil:\n    return x",
        "cdef class Thing:\n    pass",
        "cdef double of_a_thing(Thing thing):\n    return thing.value",
        "cdef length of_lengths(length x) noexcept nogil:\n    return x",
        "cpdef number fused(number x) noexcept nogil:\n    return x",
    ]
    return "\n".join(declarations) + "\n", "\n".join(definitions) + "\n"


@pytest.fixture(scope="session")
def cython_module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module compiled by Cython, with functions that do what those of helpers.c do."""
    pytest.importorskip("Cython", minversion="3.0")
    need_compiler()
    folder = tmp_path_factory.mktemp("cython")
    pxd, pyx = cython_sources()
    (folder / "workerpool_cython.pxd").write_text(pxd)
    (folder / "workerpool_cython.pyx").write_text(pyx)
    script = """
from setuptools import setup
from Cython.Build import cythonize
from Cython.Compiler.Options import get_directive_defaults
known = "freethreading_compatible" in get_directive_defaults()
directives = {"freethreading_compatible": True} if known else {}
modules = cythonize("workerpool_cython.pyx", language_level=3, compiler_directives=directives)
modules[0].extra_compile_args = ["-O1"]
setup(script_args=["-q", "build_ext", "--inplace"], ext_modules=modules)
"""
    build(folder, script)
    return import_from(folder, "workerpool_cython")


# ---- SciPy ----


@pytest.fixture(scope="session")
def low_level_callable() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("scipy", minversion="1.10").LowLevelCallable


# ---- Capsules ----


@pytest.fixture(scope="session")
def new_capsule() -> Any:
    """new_capsule(address, name, context=0): a PyCapsule; None for no name."""
    api = ctypes.pythonapi
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", api)
    )
    put = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(("PyCapsule_SetContext", api))
    names: list[bytes] = []  # A capsule does not copy its name.

    def new(address: int, name: str | None, context: int = 0) -> Any:
        if name is not None:
            names.append(name.encode())
        capsule = make(address, names[-1] if name is not None else None, None)
        assert put(capsule, context) == 0
        return capsule

    return new
