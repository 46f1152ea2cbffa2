"""What the demo shows and how: plain lines, or a progress bar and a table drawn by rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

TEXT_COLUMNS = 2

Row = Sequence[str]
Advance = Callable[[int], None]


class Screen(Protocol):
    """Where the demo writes. The first two columns of a table are text, the others figures; an empty row separates."""

    def title(self, text: str) -> None: ...
    def line(self, text: str = "") -> None: ...
    def table(self, header: Row, rows: Sequence[Row]) -> None: ...
    def progress(self, total: int) -> AbstractContextManager[Advance]: ...


def make_screen(plain: bool) -> Screen:
    """Return a rich screen where rich is installed and the output is a terminal, else a plain one."""
    if not plain and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return RichScreen()
        except ImportError:
            pass
    return PlainScreen()


# ---- Figures and names as text ----


def count(number: int, noun: str = "") -> str:
    """A number with a noun, which gets an s unless there is one of it."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


def duration(seconds: float) -> str:
    """A time with three significant digits and a unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def size(number: int) -> str:
    """A number of bytes with a unit that suits it."""
    if number < 1000:
        return count(number, "byte")
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if number < 1000 * factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1e9:,.1f} GB"


def printable(path: str) -> str:
    """A path that can be written anywhere: bytes that are no text, and control characters, are replaced."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


# ---- Plain lines ----

STEPS = 5


class PlainScreen:
    """Lines that are as readable in a file as on a terminal."""

    def title(self, text: str) -> None:
        self.line()
        self.line(text)

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    @contextmanager
    def progress(self, total: int) -> Iterator[Advance]:
        """Writes a line at every fifth of the work."""
        done = step = 0

        def advance(amount: int) -> None:
            nonlocal done, step
            done += amount
            reached = done * STEPS // total if total else STEPS
            if reached > step:
                step = reached
                self.line(f"  {100 * done // total if total else 100:3} %   {size(done)} of {size(total)}")

        yield advance

    def table(self, header: Row, rows: Sequence[Row]) -> None:
        widths = [max(len(cell) for cell in column) for column in zip(header, *filter(None, rows), strict=True)]
        rule = "  " + "-" * (sum(widths) + 3 * (len(widths) - 1))
        self.line(_aligned(header, widths))
        for row in [(), *rows]:
            self.line(_aligned(row, widths) if row else rule)


def _aligned(row: Row, widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if number < TEXT_COLUMNS else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  " + "   ".join(cells).rstrip()


# ---- rich ----


class RichScreen:
    """The same with rich. Nothing of what is written is taken for markup, because it may be the name of a file."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False)

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(text, style="bold")

    def line(self, text: str = "") -> None:
        self._console.print(text)

    @contextmanager
    def progress(self, total: int) -> Iterator[Advance]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        columns: list[Any] = ["  ", BarColumn(), TaskProgressColumn(), DownloadColumn(), TimeRemainingColumn()]
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("", total=total)
            yield lambda amount: progress.advance(task, amount)

    def table(self, header: Row, rows: Sequence[Row]) -> None:
        from rich.padding import Padding
        from rich.table import Table

        table = Table()
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number < TEXT_COLUMNS else "right")
        for row in rows:
            if row:
                table.add_row(*row)
            else:
                table.add_section()
        self._console.print(Padding(table, (0, 2)))
