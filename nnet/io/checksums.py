"""Checksums beside files, by which damage that a disk or a file server did is found.

Beside exp/nnet/7.2.mdl stands 7.2.mdl.crc32 with a line: the checksum, as zlib and PNG have it, and
the number of bytes.  The file itself is as Kaldi reads it.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.streams import OutputStream

PIECE = 1 << 20  # bytes that are read at a time


@dataclass
class Checksum:
    """A stream that counts the bytes written to another one, and computes their checksum."""

    stream: OutputStream
    crc32: int = 0
    size: int = 0

    def write(self, data: bytes) -> None:
        self.stream.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(memoryview(data).cast("B"))

    def __str__(self) -> str:
        return f"{self.crc32:08x} {self.size}"


def checksum_file(path: str | os.PathLike) -> Path:
    """Return the path of a file's checksum."""
    return Path(f"{path}.crc32")


def check_file(path: str | os.PathLike) -> None:
    """Compare a file with its checksum, if it has one.

    Raises:
        NgtrainError: it is another one, or cannot be read.
    """
    beside = checksum_file(path)
    try:
        expected = beside.read_text(errors="replace").strip()
    except OSError:
        return
    crc32 = size = 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                crc32, size = zlib.crc32(piece, crc32), size + len(piece)
    except OSError as error:
        raise NgtrainError(f"{path}: {error.strerror}") from None
    if (found := f"{crc32:08x} {size}") != expected:
        raise NgtrainError(
            f"{path}: it was damaged or replaced: its checksum and size are {found}, and were "
            f"{expected[:40]} when it was written"
        )


def remove_with_checksum(path: Path) -> None:
    """Remove a file, if it is there, and its checksum."""
    checksum_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
