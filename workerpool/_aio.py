"""Where pool.run() meets asyncio: one bridge for each event loop. Imported when it is first used."""

from __future__ import annotations

import asyncio
import weakref
from asyncio import get_running_loop
from typing import Any

from . import _core

__all__ = ["find_bridge", "get_running_loop", "schedule_callbacks"]

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
        callbacks = self._callbacks
        try:
            if not super().cancel(msg):
                return False
        except BaseException:
            schedule_callbacks(self, callbacks)
            raise
        finally:
            if self.cancelled():
                self._call.stop()
        return True


def schedule_callbacks(future: asyncio.Future[Any], callbacks: Any) -> None:
    """Schedule those callbacks of a future that its loop has not heard of.

    A future schedules its callbacks when it is done. KeyboardInterrupt may come in the middle of that, and the future
    forgets the rest. What `callbacks` are is what its `_callbacks` were before.
    """
    loop = future.get_loop()
    ready = getattr(loop, "_ready", None)
    if not callbacks or ready is None or loop.is_closed() or not future.done():
        return
    heard = [handle._callback for handle in ready if handle._args and handle._args[0] is future]
    for callback, context in callbacks:
        if callback in heard:
            heard.remove(callback)
        else:
            loop.call_soon(callback, future, context=context)


def find_bridge(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """Return the bridge of a loop, made at the first call. On the loop's thread."""
    reference = _bridges.get(loop)
    bridge = reference() if reference is not None else None
    if bridge is None:
        bridge = _core.Bridge(loop, RunFuture)
        loop.add_reader(bridge.fileno(), bridge.deliver)
        _bridges[loop] = weakref.ref(bridge)
    return bridge
