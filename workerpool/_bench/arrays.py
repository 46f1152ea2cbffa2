"""A C function over a whole array."""

from __future__ import annotations

from .bench import Catalogue


def add_cases(catalogue: Catalogue) -> None: ...
