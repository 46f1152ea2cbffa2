"""Names: "library:symbol" and "module:attribute". What is named can be found again, so it can be pickled.

Before the colon stands a Python module if there is one of that name, and otherwise a library. What looks like a file (a
slash in it, or .so or .dylib) is always a library, and nothing is the process itself. A library is found as the dynamic
linker finds it: "libz.so.1", "/opt/lib/libfast.so", or by the name that one would give a linker, "z".

A symbol says nothing about its type, so it needs a signature. An attribute is whatever native() takes; of a Cython
module it may also be the name of a C function that the module exports (in __pyx_capi__). It may have dots.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from .._checks import kind_of, quoted, shortened
from .._core import NativeFunction
from .capsules import exported_by
from .recognised import Recognised, address_in

_FOR_LINKERS = re.compile(r"(?:^|/)lib([^/]{1,100})\.(?:so|dylib)$")
_WITHOUT_ENDING = re.compile(r"lib([^/.]{1,100})")
_LONGEST_PATH = 4096
_LIKE_A_FILE = re.compile(r"/|\.(so|dylib)(\.|$)")


def _import(name: str) -> ModuleType | None:
    """The module of that name, None if there is none. What goes wrong inside the module is raised."""
    if _LIKE_A_FILE.search(name) or not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        is_the_module_itself = error.name is not None and (name == error.name or name.startswith(f"{error.name}."))
        if is_the_module_itself:
            return None
        raise


def _find_library(name: str) -> str | None:
    """The file that a linker would take for the name. The search reads what compilers say, and trips over some of it:
    over liblibffi.a, which exists nowhere, when asked for "libffi"."""
    import ctypes.util

    try:
        return ctypes.util.find_library(name)
    except OSError:
        return None


def _advice(name: str) -> str:
    """What to write instead of a file that linkers know and the loader does not (`libc.so` is a text, or not there), or
    of a file's name without its ending."""
    is_unended = _WITHOUT_ENDING.fullmatch(name)
    stem = is_unended or _FOR_LINKERS.search(name)
    found = _find_library(stem[1]) if stem is not None else None
    if stem is None or found is None:
        return ""
    if is_unended:
        return f". Name the library as a linker does, '{stem[1]}:...', or its file, '{found}:...'"
    return f". A file of this name is for linkers; name the library itself: '{found}:...', or '{stem[1]}:...'"


def _load_library(name: str) -> Any:
    """Loads a shared library by file name or by the name that the linker knows; "" is the process itself."""
    import ctypes

    if len(name) > _LONGEST_PATH:  # The loader takes its memory for it from the stack.
        raise OSError(f"native(): the library {quoted(name)} cannot be loaded: the name is too long")
    try:
        return ctypes.CDLL(name or None, use_errno=False)
    except UnicodeEncodeError as error:
        raise OSError(f"native(): the library {quoted(name)} cannot be loaded: {shortened(str(error))}") from None
    except OSError as error:
        found = _find_library(name)
        if found is not None:
            return ctypes.CDLL(found)
        reason = f"native(): the library {quoted(name)} cannot be loaded: {shortened(str(error))}"
        no_module = "" if _LIKE_A_FILE.search(name) else ", nor is there a module of that name"
        raise OSError(f"{reason}{no_module}{_advice(name)}") from None


def _of_library(target: str, library: str, symbol: str) -> Recognised:
    loaded = _load_library(library)
    try:
        function = loaded[symbol]
    except (AttributeError, UnicodeEncodeError):
        owner = f"the library {quoted(library)}" if library else "the process itself (no library is named)"
        raise AttributeError(f"native(): {owner} has no symbol {quoted(symbol)}") from None
    problem = TypeError(f'{quoted(target)} needs a signature, such as native({quoted(target)}, "double (double)")')
    return Recognised(address_in(function), symbol, "a library", None, problem, keep_alive=loaded, pickle_as=target)


def _attribute(module: ModuleType, path: str) -> Any:
    exported = exported_by(module, path)
    if exported is not None:
        return exported
    value: Any = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise AttributeError(
                f"native(): the module {module.__name__!r} has no attribute {quoted(path)}; a library of that name is "
                f"named by its file, such as 'lib{module.__name__}.so'"
            ) from None
    return value


def of_native(function: NativeFunction) -> Recognised:
    """A native function taken apart again."""
    return Recognised(
        function.address,
        function.__name__,
        "a native function",
        function.signature,
        keep_alive=function,
        bound=function._bound,
        raises=function.raises,
        force_libffi=function.route == "libffi",
    )


def _of_module(target: str, module: ModuleType, path: str, recognise: Callable[[Any], Recognised | None]) -> Recognised:
    value = _attribute(module, path)
    found = of_native(value) if isinstance(value, NativeFunction) else recognise(value)
    if found is None:
        hint = "; submit it to the pool as it is" if callable(value) else ""
        raise TypeError(
            f"native(): {quoted(target)} is of the type {kind_of(value, NativeFunction)}, which is no C function{hint}"
        )
    name = found.name if isinstance(value, NativeFunction) else path
    return replace(found, name=name, pickle_as=target)


def recognise_name(target: str, recognise: Callable[[Any], Recognised | None]) -> Recognised:
    """See the package. Raises ValueError for a text of another form, AttributeError for a symbol or an attribute that
    is not there, OSError for a library that cannot be loaded, and what importing a module raises.
    """
    owner, colon, name = target.rpartition(":")
    if not colon or not name or "\0" in target:
        raise ValueError(
            f'native() takes a name as "library:symbol", such as "libz.so.1:crc32", or "module:attribute", not '
            f"{quoted(target)}"
        )
    module = _import(owner)
    return _of_library(target, owner, name) if module is None else _of_module(target, module, name, recognise)
