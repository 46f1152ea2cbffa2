"""Functions that are named, "library:symbol" and "module:attribute": found, pickled, and found again elsewhere."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import pickle
import sys
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import Helpers

SQRT = "double (double)"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helpers: Helpers) -> str:
    """A module of ctypes and native functions that can be imported by the name that is returned."""
    name = "functions_with_names"
    (tmp_path / f"{name}.py").write_text(f"""
import ctypes
import ctypes.util
import workerpool as wp
library = ctypes.CDLL({helpers.path!r})
library.id_int.argtypes = [ctypes.c_int]
library.fail_with.argtypes = [ctypes.c_int, ctypes.c_int]
class Inner:
    id_int = library.id_int
failing = wp.native(library.fail_with, raises="nonzero", name="failing")
address = wp.native(library.id_int).address
text = "libz.so.1:crc32"
def python_function(x): return x
""")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_attributes_of_modules(module: str) -> None:
    for path in ("library.id_int", "Inner.id_int"):
        function = wp.native(f"{module}:{path}")
        assert function(5) == 5
        assert function.__name__ == path
        assert pickle.loads(pickle.dumps(function))(6) == 6
    with_name = pickle.loads(pickle.dumps(wp.native(f"{module}:Inner.id_int", "int (int)", name="mine")))
    assert (with_name.__name__, with_name(7)) == ("mine", 7)
    by_address = wp.native(f"{module}:address", "int (int)")
    assert pickle.loads(pickle.dumps(by_address))(8) == 8


def test_native_function_of_a_module_keeps_its_options(module: str) -> None:
    function = pickle.loads(pickle.dumps(wp.native(f"{module}:failing")))
    assert (function.__name__, function.raises) == ("failing", "nonzero")
    with pytest.raises(wp.NativeError, match="failing"):
        function(3, 0)


@pytest.mark.parametrize("name", ["m", "c"])
def test_a_library_named_without_its_ending_is_told_its_names(name: str) -> None:
    with pytest.raises(
        OSError, match=rf"'lib{name}' cannot be loaded: .*a linker does, '{name}:...', or its file, 'lib"
    ):
        wp.native(f"lib{name}:abs", "int (int)")
    with pytest.raises(OSError, match=r"nor is there a module of that name$"):
        wp.native("libno_such_thing:abs", "int (int)")


def test_names_that_name_nothing(module: str) -> None:
    with pytest.raises(AttributeError, match=rf"the module '{module}' has no attribute 'nothing'; a library of that"):
        wp.native(f"{module}:nothing")
    with pytest.raises(AttributeError, match=r"no attribute 'library\.nothing_here'"):
        wp.native(f"{module}:library.nothing_here")
    for path, kind in (("python_function", "function"), ("text", "str"), ("Inner", "type")):
        with pytest.raises(TypeError, match=rf"'{module}:{path}' is of the type {kind}, which is no C function"):
            wp.native(f"{module}:{path}", "int (int)")
    with pytest.raises(TypeError, match="submit it to the pool as it is"):
        wp.native("math:sqrt")
    with pytest.raises(OSError, match=r"'no_such_thing' cannot be loaded: .*, nor is there a module of that name"):
        wp.native("no_such_thing:f", SQRT)
    with pytest.raises(OSError, match=r"'math\.so' cannot be loaded"):  # Not the module, since it looks like a file.
        wp.native("math.so:sqrt", SQRT)
    with pytest.raises(TypeError, match="needs a signature"):
        wp.native(":abs")


def test_what_goes_wrong_in_a_module_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_on_import.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "raises_on_import.py").write_text("raise ZeroDivisionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        wp.native("breaks_on_import:f", SQRT)
    with pytest.raises(ZeroDivisionError):
        wp.native("raises_on_import:f", SQRT)


def test_library_by_the_linkers_name() -> None:
    if ctypes.util.find_library("m") is None:
        pytest.skip("the linker cannot be asked here")
    function = wp.native("m:sqrt", SQRT)
    assert function(2.0) == math.sqrt(2)
    assert pickle.loads(pickle.dumps(function))(9.0) == 3.0


def test_exported_by_cython(cython_module: ModuleType) -> None:
    name = cython_module.__name__
    assert wp.native(f"{name}:twice")(2.0) == 4.0  # Not the Python function of that name.
    function = pickle.loads(pickle.dumps(wp.native(f"{name}:id_long")))
    assert (function.__name__, function.signature) == ("id_long", "long (long)")
    assert function(-5) == -5
    doubled = wp.native(f"{name}:__pyx_fuse_1fused")
    assert (doubled.signature, doubled(0.5)) == ("double (double, int)", 0.5)


@pytest.mark.thread_unsafe(reason="asks pytest for fixtures while it runs")
def test_what_was_not_named_cannot_be_pickled(request: pytest.FixtureRequest, library: ctypes.CDLL) -> None:
    capsule = request.getfixturevalue("new_capsule")(wp.native(library.id_int).address, "int (int)")
    made = {"an address": wp.native(wp.native(library.id_int).address, "int (int)")}
    made["a ctypes function"] = wp.native(library.id_int)
    made["a capsule"] = wp.native(capsule)
    for origin, function in made.items():
        with pytest.raises(
            TypeError, match=rf"cannot pickle .*: it was made from {origin}, which means nothing in ano"
        ):
            pickle.dumps(function)


@pytest.mark.thread_unsafe(reason="asks pytest for fixtures while it runs")
@pytest.mark.parametrize("kind", ["cffi", "numba", "scipy"])
def test_what_was_not_named_cannot_be_pickled_either(request: pytest.FixtureRequest, kind: str) -> None:
    def made(name: str) -> Any:
        return request.getfixturevalue(name)

    targets = {
        "cffi": lambda: made("cffi_abi")[1].id_int,
        "numba": lambda: made("numba_functions")["id_int"],
        "scipy": lambda: made("low_level_callable")(made("library").id_int),
    }
    origins = {"cffi": "a cffi function", "numba": "a numba cfunc", "scipy": "a scipy.LowLevelCallable"}
    with pytest.raises(TypeError, match=rf"it was made from {origins[kind]}, which means nothing in another process"):
        pickle.dumps(wp.native(targets[kind]()))


SPAWNED = """
import multiprocessing, sys
import workerpool as wp

def run(functions):
    with wp.WorkerPool(1) as pool:
        return [pool.submit(function, value).result(20) for function, value in functions]

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # Spawned processes get the same.
    functions = [(wp.native(target, signature), value) for target, signature, value in {targets!r}]
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        print(processes.apply(run, (functions,)))
"""


def in_another_process(run_scenario: RunScenario, folder: Path, targets: list[tuple[str, str | None, float]]) -> str:
    code = SPAWNED.replace("{targets!r}", repr(targets))
    return run_scenario(code, timeout=60, args=[str(folder)], options=["-X", "dev"]).stdout.strip()


def test_another_process_finds_names_again(
    run_scenario: RunScenario, tmp_path: Path, module: str, helpers_path: str
) -> None:
    targets = [(f"{helpers_path}:id_int", "int (int)", 5), (f"{module}:library.id_int", None, 6)]
    assert in_another_process(run_scenario, tmp_path, targets) == "[5, 6]"


def test_another_process_finds_functions_of_numba_again(run_scenario: RunScenario, tmp_path: Path, numba: Any) -> None:
    source = "import numba\n@numba.cfunc('float64(float64)')\ndef twice(x):\n    return 2 * x\n"
    (tmp_path / "compiled_by_numba.py").write_text(source)
    assert in_another_process(run_scenario, tmp_path, [("compiled_by_numba:twice", None, 2.5)]) == "[5.0]"


def test_another_process_finds_functions_of_cython_again(run_scenario: RunScenario, cython_module: ModuleType) -> None:
    assert cython_module.__file__ is not None
    folder = Path(cython_module.__file__).parent
    assert in_another_process(run_scenario, folder, [(f"{cython_module.__name__}:twice", None, 2.5)]) == "[5.0]"


def test_the_package_imports_no_toolchain(run_scenario: RunScenario) -> None:
    code = """
    import sys
    import workerpool as wp
    wp.native(":abs", "int (int)")(-1)
    for wrong in (lambda: None, len, object(), 1.5):
        try:
            wp.native(wrong)
        except TypeError:
            pass
    names = {"cffi", "_cffi_backend", "numba", "numpy", "scipy", "Cython", "llvmlite"}
    assert not names & set(sys.modules), names & set(sys.modules)
    """
    run_scenario(code)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the C library of Linux")
@pytest.mark.parametrize("name", ["libc.so", "/nowhere/libc.so"])
def test_a_file_for_linkers_is_refused_with_the_name_of_the_library(name: str) -> None:
    with pytest.raises(OSError, match=r"name the library itself: 'libc\.so\.6:\.\.\.', or 'c:\.\.\.'"):
        wp.native(f"{name}:abs", "int (int)")


def test_the_process_itself_is_called_by_no_empty_name() -> None:
    with pytest.raises(
        AttributeError, match=r"the process itself \(no library is named\) has no symbol 'no_such_thing'"
    ):
        wp.native(":no_such_thing", "int (int)")


IMPORTED_TWICE = """
import sys
import workerpool as first
function = first.native(":abs", "int (int)")
for name in [name for name in sys.modules if name.partition(".")[0] == "workerpool"]:
    del sys.modules[name]
import workerpool as second
with second.WorkerPool(1) as pool:
    for refuse in (
        lambda: second.native(function),
        lambda: pool.options(token=first.CancelToken()),
        lambda: pool.map_array(function, [1]),
        lambda: second.WorkerPool(1, lanes=[first.Lane("only")]),
    ):
        try:
            refuse()
        except TypeError as error:
            assert " of another import of " in str(error), error
            assert "Python callable" not in str(error), error
        else:
            raise AssertionError(refuse)
"""


def test_messages_tell_the_classes_of_a_second_import(run_scenario: RunScenario) -> None:
    run_scenario(IMPORTED_TWICE)


def test_functions_are_called_by_the_names_that_the_linker_knows() -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    address = wp.native(":abs", "int (int)").address
    function = wp.native(prototype(address))
    assert function.__name__ in {"abs", f"function at {address:#x}"}
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) argument 1: "):
        function("text")
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("int abs(int); double cos(double);")
    abs_of_cffi = ffi.dlopen(None).abs
    assert wp.native(abs_of_cffi).__name__ in {"abs", function.__name__}
    library = ffi.dlopen(None)
    assert wp.native(library.abs).__name__ == "abs"
    mathematics = ffi.dlopen(ctypes.util.find_library("m"))
    assert wp.native(mathematics.cos).__name__ == "cos"
    assert wp.native(ffi.cast("int (*)(int)", 1)).__name__ == "function at 0x1"


def test_functions_of_a_module_that_cffi_compiled_keep_their_names(cffi_api: ModuleType) -> None:
    names = [name for name in dir(cffi_api.lib) if isinstance(getattr(cffi_api.lib, name), BuiltinFunctionType)]
    for name in names[:5]:
        try:
            function = wp.native(cffi_api.ffi.addressof(cffi_api.lib, name))
        except TypeError:  # One that C cannot call, or of Python.
            continue
        assert function.__name__ == name
    assert names
