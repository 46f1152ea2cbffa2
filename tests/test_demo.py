"""`python -m workerpool demo`: what it shows, that its sums are right, and how it ends."""

from __future__ import annotations

import email
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario, scenario_environment
from support import FREE_THREADED
from workerpool import __main__, _demo
from workerpool._demo import bulk, checksums, files, screen, ways

SECONDS = 50
WAYS = ["plain loop", "ThreadPoolExecutor", "workerpool"]
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "workerpool", "demo"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of all sizes at which something changes: none, a block, a batch, and one byte more."""
    contents = {
        "empty": b"",
        "byte": b"\0",
        "block": os.urandom(files.BLOCK_BYTES),
        "block and byte": os.urandom(files.BLOCK_BYTES + 1),
        "deep/er/blocks": os.urandom(5 * files.BLOCK_BYTES - 7),
        "deep/batch": os.urandom(files.BATCH_BYTES),
        "deep/batch and byte": os.urandom(files.BATCH_BYTES + 1),
        "[bold]not markup[/bold]": b"x",
    }
    for name, content in contents.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "folder"


def number_of_blocks(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(max(1, -(-size // files.BLOCK_BYTES)) for size in sizes)


def run(*arguments: str | Path) -> int:
    return __main__.main(["demo", "--plain", *map(str, arguments)])


def run_process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output="stdout" not in options,
        text=True,
        timeout=SECONDS,
        check=False,
        env=scenario_environment({}),
        **options,
    )


def check_table(output: str, files_read: int, blocks: int, parts: int) -> None:
    """The last table: three ways for each stage, with the same numbers of jobs, and the ratios to workerpool."""
    figures = r"([\d,]+) +[\d.,]+ (?:ns|µs|ms|s) +[\d.,]+ (?:ns|µs|ms|s) +([\d.]+) x"
    rows = re.findall(rf"^  (\w*) +({'|'.join(WAYS)}) +{figures}$", output, re.MULTILINE)
    assert [row[0] for row in rows] == ["read", "", "", "crc32", "", "", "sha256", "", "", "all", "", ""]
    assert [row[1] for row in rows] == WAYS * 4
    jobs = [int(row[2].replace(",", "")) for row in rows]
    assert jobs == [number for number in (parts, blocks, parts, blocks + parts) for _ in WAYS]
    assert [row[3] for row in rows[2::3]] == ["1.00"] * 4
    assert f"Check passed: {files_read} files with the same crc32 and sha256 in act 1 and all\nthree ways" in output


# ---- What it shows ----


def test_made_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--workers", "2") == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert f"{folder}: 8 files, 17." in output
    blocks = number_of_blocks(folder)
    check_table(output, 8, blocks, parts=9)  # The file that is longer than a batch has two parts.
    assert re.search(rf"^  {blocks + 2 * bulk.URGENT_JOBS} native and 9 Python jobs in ", output, re.MULTILINE)
    assert "100 %   17." in output

    in_the_middle = 2 * files.BATCH_BYTES // files.BLOCK_BYTES  # The second and the third of four batches.
    lanes = re.findall(r"^  (normal|high) +\D+ (\d+) +[\d.]+ \S+ +[\d.]+ \S+$", output, re.MULTILINE)
    assert lanes == [("normal", str(in_the_middle)), ("high", str(2 * bulk.URGENT_JOBS))]

    cancelled, done = re.search(r"(\d+) were cancelled before they began, (\d+) were done;", output).groups()
    assert int(cancelled) + int(done) == bulk.CANCELLED_JOBS
    assert int(cancelled) > 0
    assert int(done) >= bulk.CANCELLED_AFTER


def test_part_of_the_standard_library_into_a_file(tmp_path: Path) -> None:
    folder = Path(email.__file__).parent
    with open(tmp_path / "output", "w", encoding="utf-8") as output:
        done = run_process(folder, stdout=output, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "output").read_text(encoding="utf-8")
    assert all(character == "\n" or character.isprintable() for character in text)
    assert max(map(len, text.splitlines())) <= max(82, len(str(folder)) + 30)
    number = sum(path.is_file() for path in folder.rglob("*"))
    check_table(text, number, number_of_blocks(folder), parts=number)


def test_default_is_the_standard_library_without_site_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("os.py", "json/decoder.py", "site-packages/large.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(_demo.sysconfig, "get_path", {"stdlib": str(tmp_path)}.get)
    found = [file.path for file in _demo._open_folder(None).files]
    assert found == [str(tmp_path / "os.py"), str(tmp_path / "json" / "decoder.py")]


def on_a_terminal(command: Sequence[str]) -> str:
    """Runs a command on a terminal of its own and returns all that it wrote there."""
    terminal, other_end = pty.openpty()
    environment = scenario_environment({"TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": None})
    process = subprocess.Popen(command, stdin=other_end, stdout=other_end, stderr=other_end, env=environment)
    os.close(other_end)
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    output = b""
    try:
        while piece := os.read(terminal, 65536):
            output += piece
    except OSError:  # What Linux says where others say that the file has ended.
        pass
    finally:
        timer.cancel()
        os.close(terminal)
    assert process.wait() == 0, output
    return output.decode()


@pytest.mark.skipif(find_spec("rich") is None, reason="rich is not installed")
def test_rich_on_a_terminal(folder: Path) -> None:
    output = on_a_terminal([*COMMAND, str(folder)])
    assert "━━━" in output, "a progress bar"
    assert re.search(r"│ +(\x1b\S*)? *ThreadPoolExecutor", output), "a table"
    assert "Check passed: 8 files" in output


def test_plain_on_a_terminal(folder: Path) -> None:
    without_rich = "import sys; sys.modules['rich'] = None; from workerpool.__main__ import main; sys.exit(main())"
    for command in ([*COMMAND, "--plain"], [sys.executable, "-W", "error", "-c", without_rich, "demo"]):
        output = on_a_terminal([*command, str(folder)])
        assert "\x1b" not in output
        check_table(output.replace("\r\n", "\n"), 8, number_of_blocks(folder), parts=9)


def test_progress_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.PlainScreen().progress(1000) as advance:
        for _ in range(100):
            advance(10)
    percent = [line.split("%")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert percent == ["20", "40", "60", "80", "100"]
    with screen.PlainScreen().progress(0) as advance:
        advance(0)
    assert "100 %" in capsys.readouterr().out


def test_figures() -> None:
    assert [screen.duration(value) for value in (0, 4.2e-8, 1.5e-6, 0.0123, 0.5, 1, 12.34, 5000)] == [
        "0 ns",
        "42 ns",
        "1.50 µs",
        "12.3 ms",
        "500 ms",
        "1.00 s",
        "12.3 s",
        "5,000 s",
    ]
    assert [screen.size(value) for value in (0, 1, 999, 1000, 1_500_000, 2_000_000_000_000)] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.0 kB",
        "1.5 MB",
        "2,000.0 GB",
    ]
    assert [screen.count(1, "file"), screen.count(1234, "file"), screen.count(5)] == ["1 file", "1,234 files", "5"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ((["--help"], "demo"), (["demo", "--help"], "FOLDER"), (["--version"], wp.__version__)):
        with pytest.raises(SystemExit) as ended:
            __main__.main(arguments)
        assert ended.value.code == 0
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["demo", "--workers", "0"], ["demo", "--workers", "x"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


# ---- That the sums are right ----


def test_sums_are_those_of_the_whole_files(folder: Path) -> None:
    functions = checksums.Zlib()
    listed = files.list_folder(str(folder))
    plan = list(files.batches(listed.files))
    progress: list[int] = []
    with wp.WorkerPool(2) as pool, ThreadPoolExecutor(2) as executor:
        live = bulk.Bulk(pool, listed, checksums.Sums(functions), functions.native_crc32)
        live.run(plan, progress.append)
        three = ways.three_ways(functions, executor, pool)
        ways.compare(three, listed, plan, progress.append)
    assert sum(progress) == 2 * listed.size
    for sums in [live.sums, *(way.sums for way in three)]:
        for number, file in enumerate(listed.files):
            content = Path(file.path).read_bytes()
            assert sums.crc32[number] == zlib.crc32(content)
            assert sums.sha256[number] == hashlib.sha256(content).digest()


def test_batches_are_bounded_and_hold_everything_once() -> None:
    sizes = [0, 1, files.BATCH_BYTES, files.BATCH_BYTES + 1, 3 * files.BATCH_BYTES, *[10] * 2000]
    listed = [files.File(str(number), size, 0) for number, size in enumerate(sizes)]
    batches = list(files.batches(listed))
    for batch in batches:
        assert len(batch) <= files.BATCH_PARTS
        assert sum(part.length for part in batch) <= files.BATCH_BYTES
        assert len({part.file for part in batch}) == len(batch)
    parts = [part for batch in batches for part in batch]
    for number, size in enumerate(sizes):
        own = [part for part in parts if part.file == number]
        assert [part.offset for part in own] == [sum(part.length for part in own[:index]) for index in range(len(own))]
        assert sum(part.length for part in own) == size


def break_one_sum(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Makes one way get the sum of one block wrong."""

    def broken(map_of_way: Callable[..., Any]) -> Callable[..., Any]:
        def map_wrongly(function: Any, *columns: Any) -> list[Any]:
            results = list(map_of_way(function, *columns))
            return [results[0] ^ 1, *results[1:]] if isinstance(results[0], int) else results

        return map_wrongly

    def three_ways(*arguments: Any) -> list[ways.Way]:
        made = ways.three_ways(*arguments)
        for each in made:
            if each.name == way:
                each.map = broken(each.map)
        return made

    monkeypatch.setattr(_demo, "three_ways", three_ways)


@pytest.mark.parametrize("way", WAYS)
def test_different_sums(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(name.encode())
    break_one_sum(monkeypatch, way)
    assert run(tmp_path) == 1
    output = capsys.readouterr().out
    assert f"1 file HAVE DIFFERENT CHECKSUMS:\n  {tmp_path / 'first'}: different\n" in output
    assert "Check passed" not in output


def test_sums_that_are_wrong_in_all_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    monkeypatch.setattr(checksums.Zlib, "combine", lambda *_: 7)
    assert run(tmp_path) == 1
    assert "DIFFERENT" in capsys.readouterr().out


def test_file_that_changes_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before")
    (tmp_path / "other").write_bytes(b"other")
    read_everything = _demo._Demo.read_everything

    def change_after_reading(self: Any, pool: wp.WorkerPool) -> bulk.Bulk:
        found = read_everything(self, pool)
        path.write_bytes(b"behind")
        os.utime(path, ns=(0, 0))
        return found

    monkeypatch.setattr(_demo._Demo, "read_everything", change_after_reading)
    assert run(tmp_path) == 0
    output = capsys.readouterr().out
    assert f"1 file changed while they were read, and are not compared:\n  {path}: changed\n" in output
    assert "Check passed: 1 file " in output


# ---- What cannot be read ----


def test_unreadable_files_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(7):
        (folder / f"gone {number}").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "a pipe would block")
    assert run(folder) == 0
    output = capsys.readouterr().out
    assert "8 files could not be read, and are left out:" in output
    assert output.count(": No such file or directory") == 5
    assert "  and 3 more\n" in output
    check_table(output, 8, number_of_blocks(folder), parts=9)


def test_file_that_may_not_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_blocks = files._read_blocks

    def refuse(path: str, part: files.Part) -> list[bytes]:
        if path.endswith("batch and byte") and part.offset:
            raise PermissionError(13, "Permission denied", path)
        return read_blocks(path, part)

    monkeypatch.setattr(files, "_read_blocks", refuse)
    assert run(folder) == 0
    output = capsys.readouterr().out
    assert f"1 file could not be read, and are left out:\n  {folder}/deep/batch and byte: Permission denied" in output
    assert "Check passed: 7 files" in output


def test_nothing_can_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(path: str, _part: files.Part) -> list[bytes]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "_read_blocks", refuse)
    assert run(folder) == 2
    assert "demo: none of the files can be read; the first is " in capsys.readouterr().err


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad \xff \n name")
    (tmp_path / name).symlink_to("nowhere")
    (tmp_path / "good").write_bytes(b"good")
    done = run_process(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bad \ufffd \ufffd name: No such file" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "{path} does not exist"),
        ("file", "{path} is not a folder"),
        ("empty", "there are no files to read in {path}"),
        ("gone", "there are no files to read in {path} ({path}/link: No such file or directory)"),
    ],
)
def test_nothing_to_do(name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to("nowhere")
    path = tmp_path / name
    assert run(path) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == f"workerpool demo: {message.format(path=path)}\n"


def test_missing_library_names_its_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checksums, "LIBRARY", "libnone.so.9")
    assert run(folder) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == "workerpool demo: libnone.so.9 was not found; on Debian and Ubuntu: apt install zlib1g\n"


# ---- How it ends ----


@pytest.mark.parametrize("act", ["1. ", "4. "])
def test_ctrl_c(act: str, tmp_path: Path) -> None:
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(1 << 30)
    # The handler, because a shell that starts these tests in the background has the signal ignored. Without -W error,
    # because an interrupt may come between a file's open() and its `with`.
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from workerpool.__main__ import main
sys.exit(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "demo", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=scenario_environment({}),
    )
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith(act):
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=5)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors == "\ninterrupted\n"
    assert "Check" not in output


def test_reader_that_leaves(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=scenario_environment({})
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == __main__.PIPE_CLOSED


@pytest.mark.slow
def test_memory_is_bounded(run_scenario: RunScenario, tmp_path: Path) -> None:
    # Without the GIL, memory that one thread took and another gave back is free only some time later, so there the
    # file is larger for the same share.
    size = 1 << 30 if FREE_THREADED else 1 << 28
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(size)
    done = run_scenario(
        r"""
        import re, resource, sys
        from workerpool.__main__ import main

        def peak():
            if sys.platform == "linux":  # There ru_maxrss begins with what the process had that started this one.
                with open("/proc/self/status") as file:
                    return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

        status = main(["demo", "--plain", sys.argv[1]])
        print("peak", peak())
        sys.exit(status)
        """,
        timeout=SECONDS,
        args=[str(tmp_path)],
    )
    peak = int(done.stdout.split()[-1])
    assert peak < size // 2
