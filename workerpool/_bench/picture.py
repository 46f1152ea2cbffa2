"""The ratios as a picture. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from .rounds import Outcome


def why_not() -> str | None:
    """Say what is missing to draw a picture, None if nothing is."""
    if importlib.util.find_spec("matplotlib") is None:
        return "--plot needs matplotlib, which is not installed; pip install matplotlib"
    return None


def draw(path: str, about: Mapping[str, object], outcomes: Sequence[Outcome]) -> None: ...
