"""numba's @cfunc: a Python function compiled to a plain C function, with its signature.

Such a function runs without the interpreter, but for two things that cannot be seen from outside: when it raises, numba
takes the GIL to print the exception and returns what the result happens to be; and printing takes the GIL. Both are
safe on a worker, and slow.

Refused are @jit and @njit functions, whose entry takes Python objects (what they compute can be called from a cfunc);
and cfuncs with `objmode` inside, which run Python code. Functions that came out of numba's cache cannot be looked into
for that.
"""

from __future__ import annotations

from typing import Any

from .._checks import shortened
from .._core import SignatureError
from .recognised import Recognised, integer_spelling, is_of


def _scalar_spelling(numba_type: Any) -> str | None:
    """The C spelling of a number of numba's; None for what is none."""
    kind = type(numba_type).__name__
    if kind == "Boolean":
        return "bool"
    if kind == "Integer":
        return integer_spelling(numba_type.bitwidth // 8, numba_type.signed)
    if kind == "Float":
        return {32: "float", 64: "double"}.get(numba_type.bitwidth)
    return None


def _spelling(numba_type: Any, where: str) -> str:
    kind = type(numba_type).__name__
    if kind == "NoneType":
        return "void"
    if kind == "RawPointer":
        return "void *"
    if kind == "CPointer":
        return f"{_scalar_spelling(numba_type.dtype) or 'void'} *"
    spelling = _scalar_spelling(numba_type)
    if spelling is None:
        raise SignatureError(
            f"{where} has the numba type {shortened(str(numba_type))}, which is no C scalar; pass types.CPointer(...) "
            f"and a length"
        )
    return spelling


def signature_of(cfunc: Any) -> str:
    """Its type. Raises SignatureError for one that C cannot pass."""
    name = cfunc.__name__
    result = _spelling(cfunc._sig.return_type, f"the result of {name}")
    parameters = [_spelling(arg, f"parameter {number} of {name}") for number, arg in enumerate(cfunc._sig.args, 1)]
    return f"{result} ({', '.join(parameters) or 'void'})"


def _runs_python(cfunc: Any) -> bool:
    """Whether there is a call of a Python object in the compiled code, as `objmode` makes one.

    Of what was loaded from numba's cache there is only machine code, which numba warns of being asked for.
    """
    return not cfunc.cache_hits and "@PyObject_Call" in cfunc.inspect_llvm()


def recognise_numba(target: Any) -> Recognised | None:
    """See the package. Raises TypeError for what takes the GIL, SignatureError for what C cannot pass."""
    if is_of(target, "numba.core.dispatcher", "Dispatcher"):
        name = target.__name__
        raise TypeError(
            f"{name} is a @jit or @njit function of numba, which is called with Python objects; make a C function of "
            f"it with @numba.cfunc(signature), from which {name} can be called"
        )
    if not is_of(target, "numba.core.ccallback", "CFunc"):
        return None
    if _runs_python(target):
        raise TypeError(
            f"{target.__name__} runs Python code (objmode), which takes the GIL; submit the Python function, or leave "
            f"that part out"
        )
    return Recognised(target.address, target.__name__, "a numba cfunc", signature_of(target), keep_alive=target)
