"""At risk: the import of the package: where it was not built, and in programs that are frozen."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import workerpool
from conftest import RunScenario

PACKAGE = Path(workerpool.__file__).parent
ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
WITHOUT_BUILT = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")


def import_in(folder: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import workerpool"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=50, check=False
    )


# ---- Not built


@pytest.mark.parametrize("built_for_another", [False, True])
def test_checkout_that_was_not_built_says_what_to_type(tmp_path: Path, built_for_another: bool) -> None:
    shutil.copytree(PACKAGE, tmp_path / "workerpool", ignore=WITHOUT_BUILT)
    (tmp_path / "setup.py").touch()
    (tmp_path / "csrc").mkdir()
    if built_for_another:
        (tmp_path / "workerpool" / "_core.cpython-399-some-machine.so").touch()
    last = import_in(tmp_path).stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: workerpool is imported from its source tree")
    assert f"{sys.executable} -m pip install -e {tmp_path}" in last
    assert "make build" in last
    assert ("cpython-399" in last) == built_for_another


def test_installation_without_the_compiled_part_says_what_to_type(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "workerpool", ignore=WITHOUT_BUILT)
    last = import_in(tmp_path).stderr.strip().splitlines()[-1]
    assert "--force-reinstall" in last
    assert "source tree" not in last


def test_other_errors_of_the_import_stay_what_they_are(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "workerpool", ignore=WITHOUT_BUILT)
    (tmp_path / "workerpool" / "_core.py").write_text("import no_such_module\n", encoding="utf-8")
    last = import_in(tmp_path).stderr.strip().splitlines()[-1]
    assert last == "ModuleNotFoundError: No module named 'no_such_module'"


# ---- Failures in the middle


FAILS_AT_EACH_IMPORT = """
import pathlib, sys  # From 3.13 on pathlib does not survive that its import is broken off.

class Refuse:
    def __init__(self, wanted, exception):
        self.left, self.exception, self.name = wanted, exception, None

    def find_spec(self, name, path=None, target=None):
        self.left -= 1
        if self.left == 0:
            self.name = name
            raise self.exception

fresh = set(sys.modules)
wrong = []
for exception in KeyboardInterrupt("stop"), ImportError("refused"), MemoryError("none"):
    for wanted in range(1, 1000):
        for name in set(sys.modules) - fresh:
            if name.startswith(("workerpool", "concurrent", "logging", "queue")):
                del sys.modules[name]
        refuse = Refuse(wanted, exception)
        sys.meta_path.insert(0, refuse)
        try:
            import workerpool
        except BaseException as raised:
            if raised is not exception:
                wrong.append((refuse.name, raised))
        finally:
            sys.meta_path.remove(refuse)
        if refuse.name is None:
            break
    print(wanted > 10, wrong)
"""


def test_failure_while_the_package_is_imported_is_raised_as_it_is(run_scenario: RunScenario) -> None:
    """A KeyboardInterrupt in a module that C imports became SystemError."""
    done = run_scenario(FAILS_AT_EACH_IMPORT, 60, options=("-W", "ignore"))
    assert done.stdout == "True []\n" * 3


ATTRIBUTES = [
    ("concurrent.futures", "CancelledError"),
    ("concurrent.futures", "InvalidStateError"),
    ("concurrent.futures", "Future"),
    ("concurrent.futures.thread", "BrokenThreadPool"),
    ("logging", "getLogger"),
    ("threading", "_register_atexit"),
    ("os", "register_at_fork"),
]


@pytest.mark.parametrize(("module", "attribute"), ATTRIBUTES)
def test_module_without_what_the_extension_needs_is_named(
    run_scenario: RunScenario, module: str, attribute: str
) -> None:
    done = run_scenario(
        f"""
        import importlib, concurrent.futures.thread, logging, random, threading

        vars(importlib.import_module({module!r})).pop({attribute!r}, None)
        importlib.import_module({module!r}).__dict__.pop("__getattr__", None)
        try:
            import workerpool._core
        except (AttributeError, ImportError) as error:
            print({attribute!r} in str(error))
        """
    )
    assert done.stdout == "True\n"


# ---- Frozen


def imports_of(path: Path) -> set[str]:
    """The names of the modules that a file of the package imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["workerpool" if node.level else "", node.module or ""]))
            found |= {base} | {f"{base}.{name.name}" for name in node.names}
    return found


@pytest.mark.skipif(not CSRC.is_dir(), reason="there are no sources")
def test_what_c_imports_is_imported_from_python_too() -> None:
    imported = re.compile(r'(?:PyImport_ImportModule|import_attribute)\("([\w.]+)"')
    wanted = {name for path in CSRC.glob("python/*.[ch]") for name in imported.findall(path.read_text("utf-8"))}
    assert {"threading", "workerpool._aio"} <= wanted
    assert wanted <= imports_of(PACKAGE / "__init__.py") | {"concurrent.futures"}


PROGRAM = """
import asyncio, sys
import workerpool as wp

assert getattr(sys, "frozen", False)

def fail():
    raise KeyError("x")

async def main(pool):
    return await pool.run(int, "12")

with wp.WorkerPool(2, queue_size=1, on_full="caller_runs") as pool:
    assert asyncio.run(main(pool)) == 12
    labs = wp.native("libc.so.6:labs", "long (long)")
    assert list(pool.map(labs, [-1, -2])) == [1, 2]
    assert [type(pool.submit(fail).exception()).__name__ for _ in range(50)] == ["KeyError"] * 50
with wp.ThreadPoolExecutor() as pool:
    assert pool.submit(int, 3).result() == 3
print("frozen, and well")
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.thread_unsafe(reason="runs in processes of its own")
@pytest.mark.skipif(sys.platform != "linux", reason="loads libc by its name on Linux")
def test_frozen_by_pyinstaller(tmp_path: Path) -> None:
    if importlib.util.find_spec("PyInstaller") is None:
        pytest.skip("PyInstaller is not installed: dependency group test-programs")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--noconfirm", "--log-level", "WARN"]
    command += ["--paths", str(PACKAGE.parent), "--exclude-module", "numpy", "--distpath", str(tmp_path / "dist")]
    command += ["--workpath", str(tmp_path / "work"), "--specpath", str(tmp_path), str(program)]
    frozen = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    if "built without a shared library" in frozen.stderr:
        pytest.skip("PyInstaller needs a Python with a shared library")
    assert frozen.returncode == 0, frozen.stderr
    ran = subprocess.run(
        [tmp_path / "dist" / "program" / "program"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout == "frozen, and well\n", ran.stderr
