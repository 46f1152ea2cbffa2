"""Building the extension modules of tests/capi against the package that the tests see."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import scenario_environment

SOURCES = Path(__file__).parent / "capi"
# Seconds, for a machine that is busy with other things.
BUILD_LIMIT = 150


def build(source: str, folder: Path) -> Path:
    """Builds one in a folder of its own, which it returns, as a stranger would."""
    shutil.copy(SOURCES / source, folder)
    return build_here(source, folder)


def build_here(source: str, folder: Path) -> Path:
    pytest.importorskip("setuptools")
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    shutil.copy(SOURCES / "build_client.py", folder)
    done = subprocess.run(
        [sys.executable, "build_client.py", source],
        cwd=folder,
        env=scenario_environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder


def example(language: str, number: int) -> str:
    """The code of an example in docs/capi.md."""
    text = (SOURCES.parent.parent / "docs" / "capi.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[number]


def build_example(language: str, name: str, folder: Path) -> None:
    """Builds the last example in this language as a module."""
    source = folder / f"{name}.{'pyx' if language == 'cython' else 'c'}"
    source.write_text(example(language, -1), encoding="utf-8")
    build_here(source.name, folder)


def load(folder: Path, name: str) -> ModuleType:
    """Imports a module from the folder in which it was built."""
    (path,) = folder.glob(f"{name}.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
