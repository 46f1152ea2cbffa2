"""The command line: `python -m workerpool COMMAND`. Each command is a function that returns an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__

INTERRUPTED = 130  # What a shell reports for a command that Ctrl-C has ended.
PIPE_CLOSED = 141


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "positive number"  # What argparse calls it in its message.


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="checksum a folder's files with zlib's crc32 on a pool, and compare with other ways",
        description="Reads every file of FOLDER and checksums it: in blocks of 64 KiB with the C function crc32 of "
        "zlib as native jobs, and with hashlib.sha256 as a Python job. Sends urgent jobs into the middle of "
        "that, cancels a batch, and does the same work in a plain loop, with concurrent.futures.ThreadPoolExecutor "
        "and with workerpool, side by side.",
        epilog="exit status: 0 if all checksums agree, 1 if not, 2 if there is nothing to do or zlib is missing, "
        "130 after Ctrl-C",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="the folder to read, with all below it (default: the standard library of this Python, without its "
        "site-packages)",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="workers of each pool (default: the processors that this process may use)",
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, even on a terminal and with rich installed")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from ._demo import run

    return run(options.folder, workers=options.workers, plain=options.plain)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from ._bench import add_arguments

    parser = commands.add_parser(
        "bench",
        help="measure what a job costs, on workerpool and on its peers, side by side",
        description="Runs the same work on workerpool and on its peers in one run, interleaved, in several rounds, and "
        "shows medians, ratios, and which of the project's claims hold here. Needs nothing but Python; "
        "`make bench` in the source tree adds peers in C, C++, Go and Rust.",
        epilog="exit status: 0 if it was measured, whatever the figures; 1 if a contender gave wrong results; 2 if it "
        "could not begin; 130 after Ctrl-C",
    )
    add_arguments(parser)
    parser.set_defaults(command=_bench)


def _bench(options: argparse.Namespace) -> int:
    from ._bench import python_cases, run

    return run(options, python_cases())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workerpool",
        description="A bounded pool of native threads, for C functions and Python callables.",
    )
    parser.add_argument("--version", action="version", version=f"workerpool {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_bench(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Nothing may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return status


if __name__ == "__main__":
    sys.exit(main())
