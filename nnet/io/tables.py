"""Kaldi's tables: objects with keys, in archives (`ark:`) or files listed by a script (`scp:`).

Worked from Kaldi's util/kaldi-table.{h,cc} and kaldi-table-inl.h. A table is named by an rspecifier
to read it (`ark:FILE`, `scp:FILE`, `ark,s,cs:gunzip -c FILE.gz |`) and a wspecifier to write it
(`ark,t:FILE`, `ark,scp:FILE.ark,FILE.scp`).
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nnet.errors import NgtrainError
from nnet.io.background import read_ahead
from nnet.io.holders import (  # noqa: F401 - the forms of what is in tables
    COMPRESSED_MATRIX,
    FEATURES,
    FLOAT_MATRIX,
    FLOAT_VECTOR,
    INTEGER,
    INTEGERS,
    MATRIX,
    POSTERIOR,
    REAL,
    TOKEN,
    TOKENS,
    VECTOR,
    Holder,
    select_range,
)
from nnet.io.kinds import HEAD_SIZE, kind_of
from nnet.io.losses import Losses
from nnet.io.messages import shortened
from nnet.io.streams import InputStream, OutputStream, open_input, open_output, split_offset
from nnet.io.text import (
    BYTE_ORDER_MARK,
    ENCODING,
    decode,
    encode,
    split_key,
    text_lines,
    visible,
)

log = logging.getLogger("ngtrain")

READ_OPTIONS = frozenset(["b", "t", "o", "no", "p", "np", "s", "ns", "cs", "ncs", "bg"])
_WRITE_OPTIONS = frozenset(["b", "t", "f", "nf", "p"])


# Bytes that no key contains (Kaldi's util/text-utils.cc, IsToken).
_NO_KEY = re.compile(rb"[\0-\x20\x7f]")
_MARK = "begins with a byte order mark, which no terminal shows"


@dataclass(frozen=True)
class Specifier:
    """A parsed rspecifier or wspecifier; `archive` and `script` are names of files or None."""

    text: str
    archive: str | None
    script: str | None
    options: frozenset[str]


def parse_specifier(specifier: str, known_options: frozenset[str]) -> Specifier:
    """Parse an rspecifier or a wspecifier with the options that one may have."""
    before, colon, name = specifier.partition(":")
    words = before.replace(" ", "").split(",")
    kinds = [word for word in words if word in ("ark", "scp")]
    options = frozenset(words) - {"ark", "scp"}
    writing = known_options is _WRITE_OPTIONS
    both = writing and kinds == ["ark", "scp"]
    if (
        not colon
        or not options <= known_options
        or not (both or len(kinds) == 1)
        or name != name.rstrip()
    ):
        what = "wspecifier" if writing else "rspecifier"
        raise NgtrainError(f"not a {what} (such as ark:FILE or scp:FILE): '{specifier}'")
    if both:
        archive, comma, script = name.partition(",")
        if not comma or archive.startswith("|") or archive in ("", "-"):
            raise NgtrainError(f"expected ark,scp:ARCHIVE-FILE,SCRIPT-FILE, got '{specifier}'")
        return Specifier(specifier, archive, script, options)
    if kinds == ["ark"]:
        return Specifier(specifier, name, None, options)
    return Specifier(specifier, None, name, options)


def is_rspecifier(text: str) -> bool:
    """True for the name of a table to read; False for that of a file."""
    return _is_specifier(text, READ_OPTIONS)


def is_wspecifier(text: str) -> bool:
    """True for the name of a table to write; False for that of a file."""
    return _is_specifier(text, _WRITE_OPTIONS)


def _is_specifier(text: str, options: frozenset[str]) -> bool:
    try:
        parse_specifier(text, options)
    except NgtrainError:
        return False
    return True


# Reading ------------------------------------------------------------------------------------------


def sequential_table(rspecifier: str, holder: Holder) -> "SequentialTable":
    """Open a table to be read from its first entry to its last.

    Options: `bg` reads ahead in a thread; `p` passes over what cannot be read, with a warning.

    Raises:
        NgtrainError: no such file or not an rspecifier; later, an entry cannot be read.
    """
    specifier = parse_specifier(rspecifier, READ_OPTIONS)
    losses = Losses()
    passed_over = losses if "p" in specifier.options else None
    if specifier.script is not None:
        stream = None
        entries = _script_entries(read_script(specifier.script), holder, passed_over)
    else:
        stream = open_input(specifier.archive)
        entries = archive_entries(stream, holder, passed_over)
    if "bg" in specifier.options:
        entries = read_ahead(entries)
    return SequentialTable(stream, entries, losses)


class ClosingContext:
    """A context manager that closes files, and says nothing of that when an error ends it."""

    def close(self) -> None:
        """Close the files."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(NgtrainError):
                self.close()


class SequentialTable(ClosingContext):
    """An iterator over (key, value) that closes its files at the end or as a context manager.

    Attributes:
        losses: entries that the option `p` passed over until now; the rest of an archive is one.
    """

    def __init__(
        self, stream: InputStream | None, entries: Iterator[tuple[str, Any]], losses: Losses
    ):
        self._stream = stream
        self._entries = entries
        self.losses = losses

    def __iter__(self) -> "SequentialTable":
        return self

    def __next__(self) -> tuple[str, Any]:
        return next(self._entries)

    def close(self) -> None:
        """Close; the rest of the table is not read.

        Raises:
            NgtrainError: the command of a pipe has failed.
        """
        self._entries.close()
        if self._stream is not None:
            self._stream.close()


def archive_entries(
    stream: InputStream, holder: Holder, passed_over: Losses | None = None
) -> Iterator[tuple[str, Any]]:
    """Read the entries of an archive from the stream's position on; closes the stream at its end.

    Nothing is read before an entry is asked for. With `passed_over`, which then counts that, an
    entry that cannot be read is the end and not an error.
    """
    stream.is_archive = True
    try:
        with stream:
            while (key := read_key(stream)) is not None:
                stream.key = key
                value = holder.read(stream)
                stream.key = ""
                yield key, value
    except NgtrainError as error:
        if passed_over is None:
            raise
        log.warning("the rest of an archive is passed over: %s", error)
        passed_over.add(str(error))


def read_key(stream: InputStream) -> str | None:
    """Read the key of the next entry of an archive and the space after it; None at the end."""
    key = stream.read_token()
    if not key:
        return None
    if _NO_KEY.search(key):
        raise stream.mismatch("a key before the object (not an archive)", key)
    if decode(key).startswith(BYTE_ORDER_MARK):
        raise stream.fail(f"the first key {_MARK}")
    following = stream.peek(1)
    if not following:
        raise stream.fail(f"truncated after the key {decode(key)}")
    if following in b" \t":
        stream.read(1)
    return decode(key)


def _script_entries(
    script: list[tuple[str, str]], holder: Holder, passed_over: Losses | None = None
) -> Iterator[tuple[str, Any]]:
    with ScriptReader(holder) as reader:
        for key, rxfilename in script:
            try:
                value = reader.read(key, rxfilename)
            except NgtrainError as error:
                if passed_over is None:
                    raise
                log.warning("passed over: %s", error)
                passed_over.add(str(error))
            else:
                yield key, value


class ScriptReader(ClosingContext):
    """A reader of the objects that a script file points to; keeps an archive open between them."""

    def __init__(self, holder: Holder):
        self._holder = holder
        self._path = ""
        self._stream: InputStream | None = None

    def read(self, key: str, rxfilename: str) -> Any:
        """Read the object, or the [range] of it, at `file`, `file:offset` or `command |`.

        Raises:
            NgtrainError: it cannot be read; the message has the key in it.
        """
        try:
            return self._open_and_read(key, rxfilename)
        except NgtrainError as error:
            if f", key {key}: " in str(error):
                raise
            raise NgtrainError(f"key {key}: {error}") from error

    def _open_and_read(self, key: str, rxfilename: str) -> Any:
        part = None
        if rxfilename.endswith("]") and "[" in rxfilename:
            rxfilename, _, part = rxfilename[:-1].rpartition("[")
        path, offset = split_offset(rxfilename)
        if path == rxfilename:  # No offset: a whole file or a pipe, of no use for the next entry.
            with self._open(rxfilename, key) as stream:
                return self._read(stream, key, part)
        if path != self._path or self._stream is None:
            self.close()
            self._stream = self._open(path, key)
            self._path = path
        self._stream.seek(offset)
        return self._read(self._stream, key, part)

    def _open(self, rxfilename: str, key: str) -> InputStream:
        try:
            return open_input(rxfilename)
        except NgtrainError as error:
            raise NgtrainError(f"{error} (of the key {shortened(key, 100)})") from None

    def _read(self, stream: InputStream, key: str, part: str | None) -> Any:
        stream.key = key
        value = self._holder.read(stream)
        return value if part is None else select_range(value, part, stream)

    def close(self) -> None:
        """Close the archive that is open."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_script(rxfilename: str) -> list[tuple[str, str]]:
    """Read the lines of a script file as (key, name of a file).

    Raises:
        NgtrainError: the file cannot be read or is not a script file.
    """
    script = []
    for number, line in enumerate(text_lines(rxfilename), 1):
        key, name = split_key(line)
        if not name or "\0" in line:
            kind = kind_of(line.encode(**ENCODING)[:HEAD_SIZE])
            hint = f": this is {kind.of(rxfilename)}" if kind and kind.form != "lines" else ""
            reason = f"line {number} is not a key and the name of a file{hint}"
            raise NgtrainError(f"{shortened(rxfilename)}: {reason}")
        script.append((key, name))
    return script


# Writing ------------------------------------------------------------------------------------------


def table_writer(wspecifier: str, holder: Holder) -> "TableWriter":
    """Open a table to be written; its files appear when it is closed without an error.

    Options: `t` text, `b` binary (default), `f` flush after each entry; with `scp:` alone, which
    names an existing script file that says where each object goes, `p` passes over keys that it
    does not have.

    Raises:
        NgtrainError: a file cannot be created or this is not a wspecifier.
    """
    specifier = parse_specifier(wspecifier, _WRITE_OPTIONS)
    if specifier.archive is None:
        return _ScriptWriter(specifier, holder)
    return _ArchiveWriter(specifier, holder)


class TableWriter:
    """A writer of entries; as a context manager it leaves nothing when an exception ends it."""

    def __init__(self, specifier: Specifier, holder: Holder):
        self._specifier = specifier
        self._holder = holder
        self._binary = "t" not in specifier.options

    def write(self, key: str, value: Any) -> None:
        """Append an entry.

        Raises:
            NgtrainError: it cannot be written, or the key is empty, begins with a byte order mark,
                or has white space or control characters.
        """
        if not key or _NO_KEY.search(encode(key)):
            raise NgtrainError(f"{self._specifier.text}: not a key: '{visible(key)}'")
        if key.startswith(BYTE_ORDER_MARK):
            raise NgtrainError(f"{self._specifier.text}: the key {visible(key)} {_MARK}")
        self._write(key, value)

    def _write(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Write out and give the files their names."""

    def abort(self) -> None:
        """Remove what was written."""

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class _ArchiveWriter(TableWriter):
    def __init__(self, specifier: Specifier, holder: Holder):
        super().__init__(specifier, holder)
        self._flush = "f" in specifier.options
        self._archive = open_output(specifier.archive)
        self._script: OutputStream | None = None
        if specifier.script is not None:
            try:
                self._script = open_output(specifier.script)
            except NgtrainError:
                self._archive.abort()
                raise

    def _write(self, key: str, value: Any) -> None:
        self._archive.write(encode(key) + b" ")
        if self._script is not None:
            position = self._archive.tell()
            self._script.write(encode(f"{key} {self._specifier.archive}:{position}\n"))
        self._archive.key = key
        self._holder.write(self._archive, value, self._binary)
        if self._flush:
            for stream in self._streams():
                stream.flush()

    def close(self) -> None:
        # The archive first, so that a script file never points to what is not there.
        try:
            for stream in self._streams():
                stream.close()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        for stream in self._streams():
            stream.abort()

    def _streams(self) -> list[OutputStream]:
        return [stream for stream in (self._archive, self._script) if stream is not None]


class _ScriptWriter(TableWriter):
    def __init__(self, specifier: Specifier, holder: Holder):
        super().__init__(specifier, holder)
        self._files = dict(read_script(specifier.script))

    def _write(self, key: str, value: Any) -> None:
        if key not in self._files:
            if "p" in self._specifier.options:
                return
            raise NgtrainError(f"no key {key} in {self._specifier.script}")
        with open_output(self._files[key]) as stream:
            stream.key = key
            self._holder.write(stream, value, self._binary)
