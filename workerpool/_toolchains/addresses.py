"""Bare addresses, and what the dynamic linker knows about an address.

An address is taken at its word: nothing says whether there is a function, of what type, or whether it takes the GIL.
"""

from __future__ import annotations

import os
from typing import Any

from .recognised import Recognised


def _whereabouts(address: int) -> tuple[str | None, str | None]:
    """The file that an address was loaded from, and the symbol that is there, by dladdr(3).

    None where the linker knows nothing, as of code that was compiled just in time and of functions not exported.
    """
    import ctypes

    class DlInfo(ctypes.Structure):
        _fields_ = (
            ("dli_fname", ctypes.c_char_p),
            ("dli_fbase", ctypes.c_void_p),
            ("dli_sname", ctypes.c_char_p),
            ("dli_saddr", ctypes.c_void_p),
        )

    info = DlInfo()
    try:
        dladdr = ctypes.CDLL(None).dladdr
    except AttributeError:
        return None, None
    dladdr.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    if dladdr(address, ctypes.byref(info)) == 0 or not info.dli_fname:
        return None, None
    symbol = os.fsdecode(info.dli_sname) if info.dli_sname and info.dli_saddr == address else None
    return os.fsdecode(info.dli_fname), symbol


def name_at(address: int) -> str:
    """What to call a function of which nobody knows more than its address."""
    return _whereabouts(address)[1] or f"function at {address:#x}"


def keep_loaded(address: int) -> Any:
    """Something that keeps the library around an address loaded, or None if there is no such library."""
    import ctypes

    library, _ = _whereabouts(address)
    if library is None or not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        return ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:  # The program itself, by whatever name it was started.
        return None


def recognise_address(target: Any) -> Recognised | None:
    """See the package."""
    if not isinstance(target, int) or isinstance(target, bool):
        return None
    if target == 0:
        raise ValueError("native(): the address of a native function must not be 0")
    if not 0 < target < 2**64:
        raise OverflowError("native(): an address must be positive and below 2**64")
    problem = TypeError('an address needs a signature, such as native(address, "double (double)")')
    keep_alive = keep_loaded(target)
    return Recognised(target, f"function at {target:#x}", "an address", None, problem, keep_alive=keep_alive)
