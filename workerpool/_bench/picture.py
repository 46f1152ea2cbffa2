"""The claims as a picture: how far each ratio is from its target. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bench import FIGURES, AtLeast
from .report import ratio_text
from .rounds import Outcome

MET, MISSED = "#2a7f62", "#c0392b"
ROW = 0.34  # Inches.
WIDTH = 12.0


@dataclass(frozen=True)
class Bar:
    """One claim about a ratio."""

    label: str
    value: float
    target: float

    @property
    def met(self) -> bool:
        return self.value >= self.target


def why_not() -> str | None:
    """Say what is missing to draw a picture, None if nothing is."""
    if importlib.util.find_spec("matplotlib") is None:
        return "--plot needs matplotlib, which is not installed; pip install matplotlib"
    return None


def draw(path: str, about: Mapping[str, object], outcomes: Sequence[Outcome]) -> None:
    """Write a picture of all claims about ratios that could be measured: .svg or .png."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "workerpool"  # The same figures give the same file.
    pyplot = importlib.import_module("matplotlib.pyplot")
    bars = _bars(outcomes)
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.4 + ROW * max(1, len(bars))), layout="constrained")
    _draw_bars(axes, bars)
    axes.set_title(_title(about), fontsize=9, loc="left")
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
    pyplot.close(figure)


def _bars(outcomes: Sequence[Outcome]) -> list[Bar]:
    bars = []
    for outcome in outcomes:
        for judged in outcome.judged():
            claim = judged.claim
            if isinstance(claim, AtLeast) and judged.verdict is not None:
                figure = "" if claim.figure == "ns" else f", {FIGURES[claim.figure].heading}"
                label = f"{outcome.case.key}: {claim.of} against {claim.over}{figure}"
                bars.append(Bar(label, judged.verdict.value, claim.factor))
    return bars


def _draw_bars(axes: Any, bars: Sequence[Bar]) -> None:
    """A bar from 1 to each ratio, on a logarithmic scale, and a mark where the target is."""
    for row, bar in enumerate(bars):
        axes.barh(row, bar.value - 1, left=1, height=0.6, color=MET if bar.met else MISSED)
        axes.plot([bar.target, bar.target], [row - 0.42, row + 0.42], color="black", linewidth=2)
        axes.annotate(
            ratio_text(bar.value),
            (max(bar.value, bar.target, 1.0), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("times better (to the right) or worse (to the left); the black marks are the targets")


def _title(about: Mapping[str, object]) -> str:
    names = ("workerpool", "python", "system", "machine", "processors", "workers")
    return ", ".join(f"{name} {about[name]}" for name in names if name in about)
