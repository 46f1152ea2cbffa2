"""C functions with random signatures: the direct call, the one through libffi and the one by ctypes give the same.

csrc/tests/test_call.c does the same in C, with many more functions and without conversion; here everything is in
between that is for a user. The seed that the functions are made from is part of their names, which a failure shows.
"""

from __future__ import annotations

import ctypes
import os
import random
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from c_types import SCALARS, bits, values
from support import LONG

N_FUNCTIONS = 100
MOST_PARAMETERS = 12
SEED = 20260301

BYTES = "const unsigned char *"
TYPES = [*SCALARS, BYTES]

PRELUDE = """
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
static uint64_t
mix(uint64_t hash, const void *value, size_t size)
{
    const unsigned char *bytes = value;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211u;
    }
    return hash;
}
"""


def ctypes_of(ctype: str) -> Any:
    return ctypes.c_char_p if ctype == BYTES else SCALARS[ctype][1]


class Signature:
    """A random one, and the C of a function that returns a hash of all its arguments."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.name = f"of_{SEED}_{number}"
        self.result = rng.choice(list(SCALARS))
        favourites = rng.choice([TYPES, TYPES, ["double", "float"], ["int", "long", "bool"], ["float", "short", BYTES]])
        self.parameters = [rng.choice(favourites) for _ in range(rng.randint(0, MOST_PARAMETERS))]

    def text(self) -> str:
        return f"{self.result} ({', '.join(self.parameters) or 'void'})"

    def source(self) -> str:
        names = [f"a{i}" for i in range(len(self.parameters))]
        declared = [f"{ctype} {name}" for ctype, name in zip(self.parameters, names, strict=True)]
        head = f"{self.result} {self.name}({', '.join(declared) or 'void'})"
        lines = [f"{head};", head, "{", f"    uint64_t hash = {len(names)};"]
        for ctype, name in zip(self.parameters, names, strict=True):
            what = f"{name}, 1" if ctype == BYTES else f"&{name}, sizeof {name}"
            lines.append(f"    hash = mix(hash, {what});")
        return "\n".join([*lines, f"    return ({self.result})(hash >> 7);", "}", ""])


def signatures() -> list[Signature]:
    rng = random.Random(SEED)
    return [Signature(number, rng) for number in range(N_FUNCTIONS)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    folder: Path = tmp_path_factory.mktemp("signatures")
    (folder / "functions.c").write_text(PRELUDE + "".join(signature.source() for signature in signatures()))
    command = [*compiler, "-std=c11", "-O1", "-Wall", "-shared", "-fPIC", "functions.c", "-o", "functions.so"]
    subprocess.run(command, check=True, timeout=60, cwd=folder)
    return ctypes.CDLL(str(folder / "functions.so"))


def has_libffi() -> bool:
    try:
        wp.native(1, "int (int)", force_libffi=True)
    except wp.SignatureError:
        return False
    return True


def routes(address: int, signature: Signature) -> list[wp.NativeFunction]:
    """The function by every route that this build has for it."""
    found = []
    for force_libffi in [False, True] if has_libffi() else [False]:
        try:
            found.append(wp.native(address, signature.text(), name=signature.name, force_libffi=force_libffi))
        except wp.SignatureError as error:
            assert "libffi" in str(error)
    return found


@pytest.mark.parametrize("number", range(N_FUNCTIONS))
def test_every_route_gives_the_same(library: ctypes.CDLL, two_workers: wp.WorkerPool, number: int) -> None:
    signature = signatures()[number]
    direct = library[signature.name]
    direct.argtypes = [ctypes_of(ctype) for ctype in signature.parameters]
    direct.restype = ctypes_of(signature.result)
    functions = routes(wp.native(direct).address, signature)
    if os.uname().machine in {"x86_64", "aarch64"} and os.uname().sysname == "Linux":
        assert "direct" in {function.route for function in functions}

    @settings(max_examples=20, deadline=None)
    @given(st.tuples(*map(values, signature.parameters)))
    def check(arguments: tuple[Any, ...]) -> None:
        expected = bits(direct(*arguments))
        for function in functions:
            assert bits(function(*arguments)) == expected
            assert bits(two_workers.submit(function, *arguments).result(LONG)) == expected
            if arguments:
                rows = two_workers.map(function, *([value] * 3 for value in arguments))
                assert [bits(value) for value in rows] == [expected] * 3
            with two_workers.results() as results:
                results.submit(function, *arguments)
                assert bits(results.get(LONG).value) == expected

    check()


def test_the_signatures_are_as_various_as_is_said() -> None:
    made = signatures()
    assert {ctype for signature in made for ctype in signature.parameters} == set(TYPES)
    assert {len(signature.parameters) for signature in made} == set(range(MOST_PARAMETERS + 1))
