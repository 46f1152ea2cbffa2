"""The benchmarks measure what they say, and name what they could not measure. How fast anything is, is not tested."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import scenario_environment
from workerpool._bench.bench import AtLeast, Bench, Catalogue, Settings, WrongResult
from workerpool._bench.report import as_json, case_lines, summary_lines
from workerpool._bench.rounds import measure

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
KEYS = [
    "map-c", "submit-c", "submit-py", "round-trip-c", "round-trip-py", "map-py", "map-py-each", "map-sizes", "burst",
    "await-c", "await-py", "array-fabs", "array-cbrt", "memory", "ten-million", "idle", "urgent", "sparse",
]  # fmt: skip
COMPILED_KEYS = ["core-1000", "core-100", "core-empty", "core-workers", "core-tail", "core-spaced"]
WITHOUT = "import runpy, sys; sys.modules[{module!r}] = None; runpy.run_module('workerpool', run_name='__main__')"


def run(*command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=scenario_environment({}),
    )
    assert done.returncode == status, done.stderr
    return done


def bench(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-W", "error", "-m", "workerpool", "bench", *arguments, status=status)


def driver(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-W", "error", str(BENCHMARKS / "run.py"), *arguments, status=status)


# ---- The command ----


def test_list() -> None:
    assert [line.split()[0] for line in bench("--list").stdout.splitlines()] == KEYS
    assert [line.split()[0] for line in driver("--list").stdout.splitlines()] == KEYS + COMPILED_KEYS
    found = driver("--list", "--only", "round", "--only", "core-*0").stdout
    assert [line.split()[0] for line in found.splitlines()] == [
        "round-trip-c",
        "round-trip-py",
        "core-1000",
        "core-100",
    ]


def test_quick_run_as_table_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--quick", "--rounds", "3", "--workers", "2", "--only", "submit-py", "--only", "round-trip"]
    table = bench(*arguments, "--json", str(file)).stdout
    assert "workers 2" in table
    assert "these figures are no claim" in table
    assert "round-trip-py: one at a time" in table
    assert "at least 50x" in table

    found = json.loads(file.read_text())
    assert found["schema"] == 1
    assert found["about"]["workers"] == 2
    assert [case["key"] for case in found["cases"]] == ["submit-py", "round-trip-c", "round-trip-py"]
    for case in found["cases"]:
        names = [contender["name"] for contender in case["contenders"]]
        assert {"workerpool", "ThreadPoolExecutor"} <= set(names)
        assert case["left_out"] == []
        for contender in case["contenders"]:
            assert len(contender["rounds"]) == 3
            assert contender["medians"].keys() == {"ns", "cpu_ns", "switches"}
            assert contender["medians"]["ns"] > 0
    (claim,) = found["cases"][1]["claims"]
    assert (claim["of"], claim["over"], claim["figure"]) == ("workerpool", "ThreadPoolExecutor", "ns")
    assert claim["target"] == "at least 50x"
    assert claim["met"] is (claim["value"] >= 50)


def test_json_on_standard_output_is_all_there_is() -> None:
    found = json.loads(bench("--quick", "--only", "round-trip-c", "--json", "-").stdout)
    assert len(found["cases"]) == 1


@pytest.mark.parametrize("key", ["memory", "idle", "urgent", "burst"])
def test_cases_with_figures_of_their_own(key: str) -> None:
    (case,) = json.loads(bench("--quick", "--rounds", "1", "--only", key, "--json", "-").stdout)["cases"]
    assert case["claims"]
    for contender in case["contenders"]:
        assert case["figure"] in contender["medians"]
    if key == "memory":
        ours, theirs = (contender["medians"]["bytes"] for contender in case["contenders"][:2])
        assert 64 < ours < theirs


def test_peers_that_are_not_there_are_named(tmp_path: Path) -> None:
    code = WITHOUT.format(module="joblib")
    table = run("-c", code, "bench", "--quick", "--only", "map-py").stdout
    assert "left out: joblib, threading: the package joblib is not installed; pip install joblib" in table

    table = driver(
        "--quick", "--rounds", "1", "--only", "core-1000", "--only", "core-empty", "--peers", str(tmp_path)
    ).stdout
    assert "left out: Go, two channels: go-pools was not built; `make bench` builds it and needs Go" in table
    assert "apt install libtbb-dev" in table
    assert "not measured      at least 2x   workerpool's core against Go, two channels" in table
    assert "claims: 6 not measured" in table


def test_what_cannot_begin(tmp_path: Path) -> None:
    assert "no case matches 'nosuch'" in bench("--only", "nosuch", status=2).stderr
    assert ".svg or .png" in bench("--plot", "figure.txt", status=2).stderr
    assert "does not exist" in bench("--json", str(tmp_path / "no" / "file"), status=2).stderr
    bench("--rounds", "0", status=2)
    code = WITHOUT.format(module="matplotlib")
    message = run("-c", code, "bench", "--plot", str(tmp_path / "figure.svg"), status=2).stderr
    assert "--plot needs matplotlib, which is not installed; pip install matplotlib" in message


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_plot(tmp_path: Path) -> None:
    for file in (tmp_path / "figure.svg", tmp_path / "figure.png"):
        # Without -W error: what matplotlib warns of is not ours.
        run("-m", "workerpool", "bench", "--quick", "--rounds", "1", "--only", "round-trip", "--plot", str(file))
    assert ET.parse(tmp_path / "figure.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


# ---- How it measures ----


def catalogue_of(*figures: tuple[str, list[float]], order: list[str] | None = None, **claims: Any) -> Catalogue:
    """One case, "made-up", whose contenders have these figures, the first one in a warm-up that does not count."""
    catalogue = Catalogue()

    @catalogue.case("made-up", "nothing at all", jobs=10, quick_jobs=5, rounds=len(figures[0][1]) - 1)
    def part(bench: Bench) -> None:
        for name, values in figures:
            left = iter(values)

            def take(name: str = name, left: Any = left) -> dict[str, float]:
                if order is not None:
                    order.append(name)
                return {"ns": next(left)}

            bench.add_measured(name, take)
        for of, (factor, over) in claims.items():
            bench.at_least(factor, of=of, over=over)

    return catalogue


def test_contenders_take_turns_and_another_is_first_in_each_round() -> None:
    order: list[str] = []
    (case,) = catalogue_of(("a", [1.0] * 4), ("b", [1.0] * 4), ("c", [1.0] * 4), order=order).select([])
    measure(case, Settings(workers=1))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine becomes ten times slower and recovers: figures go up and down, their ratio does not.
    ours, theirs = [99.0, 1.0, 10.0, 2.0], [99.0, 2.0, 20.0, 4.0]
    (case,) = catalogue_of(("a", ours), ("b", theirs), a=(2.0, "b"), b=(1.0, "a")).select([])
    outcome = measure(case, Settings(workers=1))
    assert outcome.medians() == {"a": {"ns": 2.0}, "b": {"ns": 4.0}}
    assert outcome.ratio("b", "a", "ns") == 2.0
    verdicts = [judged.verdict for judged in outcome.judged()]
    assert [(verdict.value, verdict.met) for verdict in verdicts if verdict] == [(2.0, True), (0.5, False)]
    assert "2.00x" in "\n".join(case_lines(outcome))
    assert summary_lines([outcome])[-1] == "claims: 1 met, 1 MISSED"
    assert json.loads(as_json({}, [outcome]))["cases"][0]["claims"][1]["met"] is False


def test_disturbed_rounds_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.01, 0.9, 0.3, 0.2, 0.7])
    monkeypatch.setattr("workerpool._bench.rounds.share_of_others", lambda before: next(shares))
    # The first figure is the warm-up's, so rounds 1 to 6 have the figures 1 to 6.
    (case,) = catalogue_of(("a", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).select([])
    outcome = measure(case, Settings(workers=1, rounds=3, patience=2))
    assert [figures["ns"] for figures in outcome.rounds["a"]] == [2.0, 4.0, 5.0]
    assert outcome.others == 0.2
    assert "others took 20% of the processors" in case_lines(outcome)[1]
    outcome.claims.append(AtLeast(1.0, "a", "a"))
    assert summary_lines([outcome])[0].endswith("disturbed: others took 20%")


def test_quiet_rounds_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.0, 0.5, 0.04])
    monkeypatch.setattr("workerpool._bench.rounds.share_of_others", lambda before: next(shares))
    (case,) = catalogue_of(("a", [0.0, 1.0, 2.0, 3.0])).select([])
    outcome = measure(case, Settings(workers=1, rounds=2, patience=9))
    assert [figures["ns"] for figures in outcome.rounds["a"]] == [1.0, 3.0]


def test_a_claim_about_a_missing_peer_is_not_measured() -> None:
    (case,) = catalogue_of(("a", [1.0, 1.0]), a=(1.0, "absent")).select([])
    outcome = measure(case, Settings(workers=1))
    assert [judged.verdict for judged in outcome.judged()] == [None]
    assert summary_lines([outcome])[-1] == "claims: 1 not measured"


def test_wrong_results_end_a_run() -> None:
    catalogue = Catalogue()

    @catalogue.case("wrong", "a contender that gives the wrong result", jobs=1, quick_jobs=1)
    def part(bench: Bench) -> None:
        bench.add("liar", lambda: 1, expect=2)

    with pytest.raises(WrongResult, match="liar has other results"):
        measure(catalogue.select([])[0], Settings(workers=1))


def test_settings_choose_jobs_and_rounds() -> None:
    (case,) = catalogue_of(("a", [1.0] * 9)).select([])
    assert (case.jobs_for(Settings(1)), case.rounds_for(Settings(1))) == (10, 8)
    assert (case.jobs_for(Settings(1, quick=True)), case.rounds_for(Settings(1, quick=True))) == (5, 2)
    assert case.rounds_for(Settings(1, rounds=3, quick=True)) == 3


# ---- The compiled part ----


@pytest.mark.build
@pytest.mark.skipif(shutil.which("make") is None or shutil.which("cc") is None, reason="needs make and a C compiler")
def test_core_alone_builds_and_is_measured(tmp_path: Path) -> None:
    programs = [str(tmp_path / name) for name in ("core", "condvar")]
    subprocess.run(["make", "-C", str(BENCHMARKS / "peers"), f"BUILD={tmp_path}", *programs], check=True, timeout=50)
    output = driver("--quick", "--rounds", "1", "--only", "core", "--peers", str(tmp_path), "--json", "-").stdout
    cases = {case["key"]: case for case in json.loads(output)["cases"]}
    assert list(cases) == COMPILED_KEYS
    for key, case in cases.items():
        assert any("core" in contender["name"] for contender in case["contenders"]), key
        for contender in case["contenders"]:
            assert contender["medians"][case["figure"]] > 0
    assert any("Go" in left["name"] for left in cases["core-100"]["left_out"])
