"""The build: what is missing is named in one line, and what is distributed can be built again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
# Not part of what is built from, and possibly large or busy.
LEAVE_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")
NO_COMPILER = "/nonexistent/cc"

pytestmark = pytest.mark.build


@pytest.fixture(scope="session")
def compiler() -> str:
    name = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if name is None:
        pytest.skip("there is no C compiler")
    return name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree, in which a build leaves no traces that matter."""
    return shutil.copytree(ROOT, tmp_path / "tree", ignore=LEAVE_OUT)


def run(command: list[str], cwd: Path, limit: float = 50, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as from a fresh shell: an outer make's variables and options are not its own."""
    inherited = {name: value for name, value in os.environ.items() if name[:4] not in {"MAKE", "MFLA"}}
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )


def lines_with_hint(output: str) -> list[str]:
    assert "Traceback" not in output
    return [line for line in output.splitlines() if "apt install" in line]


# ---- What is missing is named in one line ----


def test_setup_names_a_missing_compiler(tree: Path) -> None:
    pytest.importorskip("setuptools")
    done = run([sys.executable, "setup.py", "-q", "build"], tree, CC=NO_COMPILER)
    assert done.returncode != 0
    hint = f"workerpool: the C compiler '{NO_COMPILER}' was not found; on Debian and Ubuntu: apt install gcc"
    assert done.stdout.strip() == hint


def test_pip_shows_the_line_about_a_missing_compiler(tree: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."]
    done = run(pip_wheel, tree, CC=NO_COMPILER)
    assert done.returncode != 0
    (line,) = lines_with_hint(done.stdout)
    assert line.strip().startswith(f"workerpool: the C compiler '{NO_COMPILER}' was not found")


def test_setup_names_missing_python_headers(tree: Path, compiler: str) -> None:
    pytest.importorskip("setuptools")
    code = """
import runpy, sys, sysconfig
sysconfig.get_path = lambda name, *rest: "/nonexistent/" + name
sys.argv = ["setup.py", "-q", "build"]
runpy.run_path("setup.py", run_name="__main__")
"""
    done = run([sys.executable, "-c", code], tree)
    assert done.returncode != 0
    (line,) = lines_with_hint(done.stdout)
    assert line == done.stdout.strip()
    assert "Python.h" in line
    assert f"python{sys.version_info.major}.{sys.version_info.minor}-dev" in line


def test_setup_names_missing_libffi_only_where_it_is_required(tree: Path, compiler: str) -> None:
    pytest.importorskip("setuptools")
    code = """
import runpy
setup = runpy.run_path("setup.py", run_name="setup")
links = setup["links"]
def links_without_libffi(source, *flags):
    return "ffi.h" not in source and links(source, *flags)
setup["find_libffi"].__globals__["links"] = links_without_libffi
print(setup["find_libffi"]())
"""
    optional = run([sys.executable, "-c", code], tree, WORKERPOOL_WITH_LIBFFI="")
    assert optional.stdout == "None\n"
    required = run([sys.executable, "-c", code], tree, WORKERPOOL_WITH_LIBFFI="1")
    assert required.returncode != 0
    (line,) = lines_with_hint(required.stdout)
    assert line == required.stdout.strip()
    assert line.endswith("apt install libffi-dev")


@pytest.mark.parametrize("target", ["build", "demo", "test", "c-test"])
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_names_a_missing_compiler(tree: Path, target: str) -> None:
    done = run(["make", target, f"CC={NO_COMPILER}", f"PYTHON={sys.executable}"], tree)
    assert done.returncode != 0
    (line,) = lines_with_hint(done.stdout)
    assert line == done.stdout.strip()
    assert f"the C compiler '{NO_COMPILER}'" in line
    assert "apt install gcc" in line


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_names_a_missing_python(tree: Path) -> None:
    done = run(["make", "test", "PYTHON=/nonexistent/python3"], tree)
    assert done.returncode != 0
    (line,) = lines_with_hint(done.stdout)
    assert line == done.stdout.strip()
    assert "/nonexistent/python3 is not there" in line


# ---- What is distributed can be built again ----


def files_below(folder: Path, *suffixes: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.suffix in suffixes}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_wheel_from_source_distribution(tree: Path, compiler: str) -> None:
    pytest.importorskip("setuptools", minversion="77")
    out = tree.parent / "out"
    backend = "import sys; from setuptools import build_meta; print(build_meta.{}(sys.argv[1]))"

    made = run([sys.executable, "-c", backend.format("build_sdist"), str(out)], tree)
    assert made.returncode == 0, made.stdout
    (archive,) = out.glob("*.tar.gz")
    unpacked = tree.parent / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Not there before 3.11.4.
        tar.extractall(unpacked)
    (source,) = unpacked.iterdir()
    names = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert files_below(CSRC, ".c", ".h", ".py") <= names
    assert files_below(ROOT / "tests", ".py", ".c", ".pyx") <= names
    assert files_below(ROOT / "workerpool", ".py", ".pyi", ".pxd", ".typed") <= names
    assert {"setup.py", "pyproject.toml", "Makefile", "LICENSE", "README.md"} <= names
    assert not [name for name in names if re.search(r"\.(so|o|pyc)$|^build/|^workerpool/include/", name)]

    built = run([sys.executable, "-c", backend.format("build_wheel"), str(out)], source, limit=150)
    assert built.returncode == 0, built.stdout
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        contents = {name for name in packed.namelist() if ".dist-info/" not in name}
        packed.extractall(tree.parent / "installed")
    extension = f"workerpool/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert {extension, "workerpool/capi.pxd", "workerpool/py.typed"} <= contents
    assert files_below(ROOT / "workerpool", ".py", ".pyi", ".pxd") <= contents
    assert {name.split("/")[0] for name in contents} == {"workerpool"}
    installed = tree.parent / "installed"
    headers = {path.name for path in (CSRC / "include").iterdir()}
    assert headers == {path.name for path in (installed / "workerpool" / "include").iterdir()}
    for name in headers:
        assert (installed / "workerpool" / "include" / name).read_bytes() == (CSRC / "include" / name).read_bytes()

    code = "import workerpool, workerpool._core; print(workerpool._core.__file__, workerpool.get_include())"
    imported = run([sys.executable, "-c", code], installed, PYTHONPATH="")
    assert imported.stdout.split() == [str(installed / extension), str(installed / "workerpool" / "include")]

    client = shutil.copytree(ROOT / "tests" / "capi", tree.parent / "client")
    made = run([sys.executable, "build_client.py", "client.c"], client, limit=100, PYTHONPATH=str(installed))
    assert made.returncode == 0, made.stdout
    code = "import client, workerpool as wp\nwith wp.WorkerPool(1) as p: print(client.squares(client.borrow(p), 4, 0))"
    used = run([sys.executable, "-c", code], client, PYTHONPATH=str(installed))
    assert used.stdout.strip() == "[0, 1, 4, 9]"


# ---- The parts of csrc depend on each other in one direction only ----


def compile_alone(compiler: str, source: Path, folder: Path, *flags: str) -> None:
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *flags, "-MD", "-c", str(source)]
    done = run(command, folder, CPATH="", C_INCLUDE_PATH="")
    assert done.returncode == 0, done.stdout
    seen = (folder / source.with_suffix(".d").name).read_text()
    assert "Python.h" not in seen
    assert "csrc/python" not in seen


@pytest.mark.parametrize("flags", [[], ["-DWP_PORTABLE_WAIT"]], ids=["native-wait", "portable-wait"])
@pytest.mark.parametrize("source", sorted(CSRC.glob("core/*.c")), ids=lambda path: path.stem)
def test_core_compiles_alone(compiler: str, tmp_path: Path, source: Path, flags: list[str]) -> None:
    compile_alone(compiler, source, tmp_path, *flags)
    assert "csrc/native" not in (tmp_path / source.with_suffix(".d").name).read_text()


@pytest.mark.parametrize("source", sorted(CSRC.glob("native/*.c")), ids=lambda path: path.stem)
def test_native_compiles_without_python(compiler: str, tmp_path: Path, source: Path) -> None:
    compile_alone(compiler, source, tmp_path)


# ---- Documents ----


def test_readme_of_the_tests_names_each_file() -> None:
    named = set(re.findall(r"`(\w+\.py)`", (ROOT / "tests" / "README.md").read_text()))
    assert {path.name for path in (ROOT / "tests").glob("*.py")} == named
