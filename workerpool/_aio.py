"""Where pool.run() meets asyncio: one bridge for each event loop. Imported when it is first used."""

from __future__ import annotations

import asyncio
import weakref
from asyncio import get_running_loop
from typing import Any

from . import _core

__all__ = ["find_bridge", "get_running_loop"]

# Weak on both sides: a bridge that was held here would hold its loop, by the futures of jobs that end after the loop
# was closed. The loop holds its bridge, as a reader.
_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_core.Bridge]]
_bridges = weakref.WeakKeyDictionary()


class RunFuture(asyncio.Future[Any]):
    """A future of the loop whose cancelling reaches the job."""

    __slots__ = ("_call",)
    _call: _core.LoopCall

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future; cancel its job if it has not begun, and ask it to stop if it runs."""
        if not super().cancel(msg):
            return False
        self._call.stop()
        return True


def find_bridge(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """Return the bridge of a loop, made at the first call. On the loop's thread."""
    reference = _bridges.get(loop)
    bridge = reference() if reference is not None else None
    if bridge is None:
        bridge = _core.Bridge(loop, RunFuture)
        loop.add_reader(bridge.fileno(), bridge.deliver)
        _bridges[loop] = weakref.ref(bridge)
    return bridge
