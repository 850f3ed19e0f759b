"""Text that people wrote: lists, lexicons, transcripts, and the tables of data directories.

There is one way to read it, that of Kaldi's programs, which do not ask for the encoding: text is
taken for UTF-8, and bytes that are not pass unchanged.  Lines end at a newline, and the white
space of ASCII is between words; what only looks like it, such as a no-break space, is part of a
word.  A byte order mark would be part of a word, too, that no terminal shows: it is an error.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.streams import CHUNK, InputStream, open_input

ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}
"""Encoding of files that are written: bytes that are no UTF-8 pass as they were read."""

BYTE_ORDER_MARK = "\ufeff"

_SPACE = " \t\n\r\f\v"
_WORD = re.compile(f"[^{_SPACE}]+")
FALSE_SPACE = re.compile(rf"[^\S{_SPACE}]")
"""Characters that look like a space, such as a no-break space, and separate nothing."""

_MARK = BYTE_ORDER_MARK.encode()
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def text_lines(rxfilename: str | os.PathLike) -> Iterator[str]:
    """Read the lines of a text file, a pipe or standard input (`-`), without their newlines.

    Raises:
        NgtrainError: it cannot be read, a line begins with a byte order mark, or it is UTF-16 or
            of another format than text, such as a compressed file or a web page.
    """
    with open_input(os.fspath(rxfilename)) as stream:
        if stream.peek(2).startswith(_UTF_16):
            raise NgtrainError(f"{stream.name}: it is UTF-16 and should be UTF-8 (see iconv)")
        stream.refuse_foreign()
        num_lines = 0
        for block in _whole_lines(stream):
            lines = decode(block).split("\n")
            for number, line in enumerate(lines, num_lines + 1) if _MARK in block else ():
                if line.startswith(BYTE_ORDER_MARK):
                    raise NgtrainError(
                        f"{stream.name}: line {number} begins with a byte order mark (the bytes EF "
                        r"BB BF), which no terminal shows; sed 's/^\xef\xbb\xbf//' takes it away"
                    )
            yield from lines
            num_lines += len(lines)


def _whole_lines(stream: InputStream) -> Iterator[bytes]:
    """Read a stream in blocks that end before a newline, which is left out."""
    pieces: list[bytes] = []
    while piece := stream.read(CHUNK):
        end = piece.rfind(b"\n")
        if end < 0:
            pieces.append(piece)
            continue
        yield b"".join([*pieces, piece[:end]])
        pieces = [piece[end + 1 :]]
    if last := b"".join(pieces):
        yield last


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """Write a text file that appears whole: under a temporary name first."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "w", newline="\n", **ENCODING) as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def decode(data: bytes) -> str:
    return data.decode(**ENCODING)


def encode(text: str) -> bytes:
    return text.encode(**ENCODING)


def split_words(line: str) -> list[str]:
    """Split a line at spaces, tabs and other white space of ASCII."""
    if line.isascii() and line.isprintable():
        return line.split()  # the same here, and much faster
    return _WORD.findall(line)


def split_key(line: str) -> tuple[str, str]:
    """Split off the first word of a line; "" where there is nothing."""
    line = line.strip(_SPACE)
    match = _WORD.match(line)
    return (match[0], line[match.end() :].lstrip(_SPACE)) if match else ("", "")


def is_utf8(text: str) -> bool:
    """True if the bytes that `text` was read from are UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def visible(text: str) -> str:
    """Spell out for a message what a terminal would not show, or only as a space."""
    return text if text.isprintable() else ascii(text)[1:-1]
