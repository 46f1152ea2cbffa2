"""The benchmarks with every peer that is there, also the compiled ones. `make bench` builds those and runs this.

python benchmarks/run.py [--only PATTERN] [--quick] [--json FILE] [--plot FILE] ...; --help says more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compiled import add_cases
from programs import Programs

from workerpool._bench import add_arguments, python_cases, run

BUILT = Path(__file__).parent.parent / "build" / "peers"
INTERRUPTED = 130  # What a shell reports for a command that Ctrl-C has ended.


def main() -> int:
    parser = argparse.ArgumentParser(description="workerpool beside its peers, the compiled ones too")
    add_arguments(parser)
    parser.add_argument(
        "--peers", type=Path, default=BUILT, metavar="DIR", help="where the compiled peers are (default: build/peers)"
    )
    options = parser.parse_args()
    catalogue = python_cases()
    add_cases(catalogue, Programs(options.peers))
    try:
        return run(options, catalogue)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
