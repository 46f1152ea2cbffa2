#!/usr/bin/env python3
"""Turns the kept inputs of a fuzz target into the folder that a fuzzer wants, and back.

Usage: corpus.py unpack FOLDER FILE...   a file in FOLDER for each input in FILE...
       corpus.py pack FOLDER             the lines for all inputs in FOLDER, to standard output
       corpus.py line INPUT              the line for one input, such as one that a fuzzer has found

What a line looks like is said in replay.c.
"""

import hashlib
import re
import sys
from pathlib import Path


def escaped(data: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in data)
    text = text.replace("\\x5c", "\\\\")
    return re.sub("^#", r"\\x23", text)


def unescaped(line: str) -> bytes:
    return re.sub(rb"\\(\\|x(..))", lambda m: bytes.fromhex(m[2].decode()) if m[2] else b"\\", line.encode("ascii"))


def inputs(path: Path) -> list[bytes]:
    lines = path.read_text(encoding="ascii").split("\n")
    return [unescaped(line) for line in lines if line and not line.startswith("#")]


def unpack(folder: Path, files: list[Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        for data in inputs(path):
            (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(folder: Path) -> list[str]:
    """The shortest first, so that a change of the corpus is a short difference."""
    found = [path.read_bytes() for path in folder.iterdir()]
    return [escaped(data) for data in sorted(found, key=lambda data: (len(data), data)) if data]


def main(arguments: list[str]) -> None:
    match arguments:
        case ["unpack", folder, *files]:
            unpack(Path(folder), [Path(path) for path in files])
        case ["pack", folder]:
            print("\n".join(pack(Path(folder))))
        case ["line", path]:
            print(escaped(Path(path).read_bytes()))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
