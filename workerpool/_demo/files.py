"""What the demo reads: the files of a folder, cut into batches of which each fits into memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

BLOCK_BYTES = 64 * 1024
BATCH_BYTES = 8 * 1024 * 1024
BATCH_PARTS = 512


@dataclass(frozen=True, slots=True)
class File:
    """A regular file, as it was when the folder was listed."""

    path: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of one file that belong to one batch. Most files are one part; an empty file is one too."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Content:
    """A part that was read. An empty file has one empty block."""

    part: Part
    blocks: list[bytes]


@dataclass
class Folder:
    """A folder's files in a fixed order, and why some of them cannot be read, by path."""

    path: str
    files: list[File] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def refuse(self, path: str, error: OSError) -> None:
        self.unreadable[path] = error.strerror or type(error).__name__

    def has_changed(self, file: File) -> bool:
        """Whether a file is no longer what was listed, so that reading it twice need not give the same."""
        try:
            now = os.stat(file.path)
        except OSError:
            return True
        return (now.st_size, now.st_mtime_ns) != (file.size, file.modified)


def list_folder(path: str, leave_out: Collection[str] = ()) -> Folder:
    """List the regular files in and below a folder, sorted; do not enter folders with a name in leave_out."""
    folder = Folder(path)

    def refuse_folder(error: OSError) -> None:
        folder.refuse(str(error.filename), error)

    for place, folders, names in os.walk(path, onerror=refuse_folder):
        folders[:] = sorted(set(folders) - set(leave_out))
        for name in sorted(names):
            _add(folder, os.path.join(place, name))
    return folder


def _add(folder: Folder, path: str) -> None:
    """Adds a file, also through a symbolic link. Pipes, sockets and devices may block, and are passed over."""
    try:
        found = os.stat(path)
    except OSError as error:
        folder.refuse(path, error)
        return
    if stat.S_ISREG(found.st_mode):
        folder.files.append(File(path, found.st_size, found.st_mtime_ns))


def _parts(files: Iterable[File]) -> Iterator[Part]:
    for number, file in enumerate(files):
        for offset in range(0, max(file.size, 1), BATCH_BYTES):
            yield Part(number, offset, min(BATCH_BYTES, file.size - offset))


def batches(files: Iterable[File]) -> Iterator[list[Part]]:
    """Group the files' parts, in order, so that no batch has too many bytes or too many parts."""
    batch: list[Part] = []
    size = 0
    for part in _parts(files):
        if batch and (size + part.length > BATCH_BYTES or len(batch) == BATCH_PARTS):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part.length
    if batch:
        yield batch


def read(folder: Folder, batch: Iterable[Part]) -> list[Content]:
    """Read a batch, without the files that cannot be read."""
    contents = []
    for part in batch:
        path = folder.files[part.file].path
        if path in folder.unreadable:
            continue
        try:
            contents.append(Content(part, _read_blocks(path, part)))
        except OSError as error:
            folder.refuse(path, error)
    return contents


def _read_blocks(path: str, part: Part) -> list[bytes]:
    blocks = []
    left = part.length
    with open(path, "rb", buffering=0) as file:
        file.seek(part.offset)
        while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
            blocks.append(block)
            left -= len(block)
    return blocks or [b""]
