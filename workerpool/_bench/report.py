"""What is shown of the outcomes: a table for each case as it ends, one of all claims at the end, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .bench import FIGURES, Claim
from .rounds import DISTURBED, Judged, Outcome

SCHEMA = 1  # Of the JSON; raised when something in it changes its meaning.

Row = Sequence[str]


# ---- Text ----


def heading(about: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())


def case_lines(outcome: Outcome) -> list[str]:
    """Return the lines for one case: its contenders, who was left out, and its claims."""
    case = outcome.case
    rounds = max((len(taken) for taken in outcome.rounds.values()), default=0)
    jobs = f"{outcome.jobs:,} jobs, " if outcome.jobs else ""
    others = "" if outcome.others is None else f", others took {outcome.others:.0%} of the processors"
    lines = [
        f"{case.key}: {case.title}",
        f"  {jobs}{rounds} round{'' if rounds == 1 else 's'}, {outcome.seconds:.1f} s{others}",
    ]
    lines += _aligned(_contender_rows(outcome))
    lines += [f"  left out: {left.name}: {left.why}" for left in outcome.left_out]
    lines += _aligned([claim_cells(judged) for judged in outcome.judged()])
    return lines


def summary_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the table of all claims and how many were met, with a note where other processes disturbed a case."""
    rows = [
        [outcome.case.key, *claim_cells(judged), _disturbance(outcome)]
        for outcome in outcomes
        for judged in outcome.judged()
    ]
    words = [row[1] for row in rows]
    counts = ", ".join(f"{words.count(word)} {word}" for word in (MET, MISSED, NOT_MEASURED) if word in words)
    return [*_aligned(rows), f"claims: {counts}"] if rows else []


def _disturbance(outcome: Outcome) -> str:
    others = outcome.others or 0.0
    return f"disturbed: others took {others:.0%}" if others > DISTURBED else ""


MET, MISSED, NOT_MEASURED = "met", "MISSED", "not measured"


def claim_cells(judged: Judged) -> list[str]:
    claim, verdict = judged.claim, judged.verdict
    if verdict is None:
        return [NOT_MEASURED, "", claim.target, subject(claim)]
    return [MET if verdict.met else MISSED, _value(claim, verdict.value), claim.target, subject(claim)]


def subject(claim: Claim) -> str:
    """Say whose figure a claim is about."""
    what = "" if claim.figure == "ns" else f" ({FIGURES[claim.figure].heading})"
    return f"{claim.of} against {claim.over}{what}" if claim.over is not None else f"{claim.of}{what}"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _value(claim: Claim, value: float) -> str:
    return ratio_text(value) if claim.over is not None else _number(claim.figure, value)


def _number(figure: str, value: float) -> str:
    return f"{value:,.{FIGURES[figure].decimals}f}"


def _contender_rows(outcome: Outcome) -> list[Row]:
    medians = outcome.medians()
    if not medians:
        return []
    main = outcome.case.figure
    keys = list(dict.fromkeys(key for figures in medians.values() for key in figures))
    rows: list[Row] = [["", *(FIGURES[key].heading for key in keys), "spread", "ratio"]]
    for name, figures in medians.items():
        cells = [_number(key, figures[key]) if key in figures else "" for key in keys]
        first = outcome.beside[name]
        comparable = main in figures and main in medians[first]
        spread = f"{outcome.spread(name, main):.0%}" if main in figures else ""
        ratio = ratio_text(outcome.ratio(name, first, main)) if comparable else ""
        rows.append([name, *cells, spread, ratio])
    return rows


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as they need be: what looks like a number, and its heading, to the right."""
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [any(_is_number(cell) for cell in column) for column in columns]
    return [("  " + "   ".join(_cell(*each) for each in zip(row, widths, right, strict=True))).rstrip() for row in rows]


def _is_number(cell: str) -> bool:
    return cell.rstrip("%x").replace(",", "").replace(".", "", 1).isdecimal()


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


# ---- JSON ----


def as_json(about: Mapping[str, object], outcomes: Iterable[Outcome]) -> str:
    """Return all that was measured, every round of it."""
    document = {"schema": SCHEMA, "about": dict(about), "cases": [_case_data(outcome) for outcome in outcomes]}
    return json.dumps(document, indent=2) + "\n"


def _case_data(outcome: Outcome) -> dict[str, Any]:
    medians = outcome.medians()
    return {
        "key": outcome.case.key,
        "title": outcome.case.title,
        "jobs": outcome.jobs,
        "others": outcome.others,
        "figure": outcome.case.figure,
        "contenders": [
            {"name": name, "medians": medians[name], "rounds": [dict(figures) for figures in taken]}
            for name, taken in outcome.rounds.items()
        ],
        "left_out": [{"name": left.name, "why": left.why} for left in outcome.left_out],
        "claims": [_claim_data(judged) for judged in outcome.judged()],
    }


def _claim_data(judged: Judged) -> dict[str, Any]:
    claim, verdict = judged.claim, judged.verdict
    return {
        "of": claim.of,
        "over": claim.over,
        "figure": claim.figure,
        "target": claim.target,
        "value": None if verdict is None else verdict.value,
        "met": None if verdict is None else verdict.met,
    }
