"""Waiting where the standard library's waits are greenlets': imported only if gevent's monkey patches are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["sleep_of_this_thread"]


def sleep_of_this_thread() -> Callable[[float], Any] | None:
    """Return what lets the thread's other greenlets run for some seconds; None if there are none, or they are not to.

    None as well in the hub itself, which cannot wait for anything, and where `threading` was not patched: there every
    wait holds up the thread, and the program was written for that.
    """
    monkey = sys.modules.get("gevent.monkey")
    hubs = sys.modules.get("gevent._hub_local")
    greenlet = sys.modules.get("greenlet")
    if monkey is None or hubs is None or greenlet is None or not monkey.is_module_patched("threading"):
        return None
    hub = hubs.get_hub_if_exists()
    if hub is None or greenlet.getcurrent() is hub:
        return None
    sleep: Callable[[float], Any] = sys.modules["gevent"].sleep
    return sleep
