"""`python -m workerpool bench`: the same work on workerpool and on its peers, in one run. See benchmarks/README.md.

Everything here needs only the standard library. Peers that are packages are used where they are installed; peers that
have to be compiled are added by benchmarks/run.py, which `make bench` calls.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import _core
from .bench import Case, Catalogue, Settings, WrongResult
from .machine import about
from .report import as_json, case_lines, heading, summary_lines
from .rounds import Outcome, measure

OK, WRONG, CANNOT_RUN = 0, 1, 2
PICTURES = {".svg", ".png"}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "positive number"  # What argparse calls it in its message.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `python -m workerpool bench` and benchmarks/run.py both take."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only cases whose name contains PATTERN, or matches it as a shell pattern; may be given several times",
    )
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument(
        "--quick", action="store_true", help="fewer jobs and rounds: to see that it works, not how fast"
    )
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help="rounds that count (default: each case has its own)"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="workers of each pool (default: the processors, at least 2)"
    )
    parser.add_argument(
        "--patience",
        type=_positive,
        default=1,
        metavar="N",
        help="take up to N times as many rounds while other processes take more than 5 %% of the processors, and keep "
        "the least disturbed (default: 1)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as JSON; - is the standard output")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios into FILE, .svg or .png; needs matplotlib")


def python_cases() -> Catalogue:
    """Return the cases that need no other language."""
    from . import arrays, asynchronous, latency, resources, throughput

    catalogue = Catalogue()
    for module in (throughput, asynchronous, arrays, resources, latency):
        module.add_cases(catalogue)
    return catalogue


def run(options: argparse.Namespace, catalogue: Catalogue) -> int:
    """Measure the cases that the options ask for, and return an exit status."""
    cases = catalogue.select(options.only)
    problem = _problem(options, cases)
    if problem is not None:
        print(f"workerpool bench: {problem}", file=sys.stderr)
        return CANNOT_RUN
    if options.list:
        _list(cases)
        return OK
    workers = options.workers or max(2, _core.processors())
    return _measure(cases, Settings(workers, options.rounds, options.quick, options.patience), options)


def _problem(options: argparse.Namespace, cases: Sequence[Case]) -> str | None:
    """Say what stops a run before it has taken minutes."""
    if not cases:
        return f"no case matches {' or '.join(map(repr, options.only))}; --list shows all"
    for path in filter(None, (options.plot, options.json if options.json != "-" else None)):
        if not Path(path).absolute().parent.is_dir():
            return f"the folder of {path} does not exist"
    if options.plot is not None:
        if Path(options.plot).suffix not in PICTURES:
            return f"--plot takes a file that ends in .svg or .png, not {options.plot}"
        from .picture import why_not

        return why_not()
    return None


def _list(cases: Sequence[Case]) -> None:
    width = max(len(case.key) for case in cases)
    for case in cases:
        print(f"{case.key:{width}}  {case.title}")


def _measure(cases: Sequence[Case], settings: Settings, options: argparse.Namespace) -> int:
    machine = about(settings.workers)
    quiet = options.json == "-"
    outcomes: list[Outcome] = []
    _show([heading(machine), *(["--quick: these figures are no claim."] if settings.quick else [])], quiet)
    for case in cases:
        try:
            outcomes.append(measure(case, settings))
        except WrongResult as error:
            print(f"workerpool bench: {case.key}: {error}", file=sys.stderr)
            return WRONG
        _show(["", *case_lines(outcomes[-1])], quiet)
    _show(["", *summary_lines(outcomes)], quiet)
    if options.json is not None:
        _write(options.json, as_json(machine, outcomes))
    if options.plot is not None:
        from .picture import draw

        draw(options.plot, machine, outcomes)
    return OK


def _show(lines: Sequence[str], quiet: bool) -> None:
    if not quiet:
        print("\n".join(lines), flush=True)


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")
