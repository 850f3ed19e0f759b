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
from nnet.io.holders import (
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
from nnet.io.streams import (
    InputStream,
    OutputStream,
    open_input,
    open_output,
    shortened,
    split_offset,
)
from nnet.io.text import (
    BYTE_ORDER_MARK,
    ENCODING,
    decode,
    split_key,
    text_lines,
    visible,
)

__all__ = [
    "COMPRESSED_MATRIX",
    "FEATURES",
    "FLOAT_MATRIX",
    "FLOAT_VECTOR",
    "INTEGER",
    "INTEGERS",
    "MATRIX",
    "POSTERIOR",
    "REAL",
    "TOKEN",
    "TOKENS",
    "VECTOR",
    "Holder",
    "archive_entries",
    "mapped_table",
    "random_access_table",
    "read_script",
    "sequential_table",
    "table_writer",
]

logger = logging.getLogger("ngtrain")

_READ_OPTIONS = frozenset(["b", "t", "o", "no", "p", "np", "s", "ns", "cs", "ncs", "bg"])
_WRITE_OPTIONS = frozenset(["b", "t", "f", "nf", "p"])


# What no key has in it (Kaldi's util/text-utils.cc, IsToken).
_NO_KEY = re.compile(rb"[\0-\x20\x7f]")
_MARK = "begins with a byte order mark, which no terminal shows"


@dataclass(frozen=True)
class _Specifier:
    """A parsed rspecifier or wspecifier: `archive` and `script` are names of files or None."""

    text: str
    archive: str | None
    script: str | None
    options: frozenset[str]


def _parse(specifier: str, known_options: frozenset[str]) -> _Specifier:
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
        return _Specifier(specifier, archive, script, options)
    if kinds == ["ark"]:
        return _Specifier(specifier, name, None, options)
    return _Specifier(specifier, None, name, options)


def is_rspecifier(text: str) -> bool:
    """Whether this names a table to read, and not a file."""
    return _is_specifier(text, _READ_OPTIONS)


def is_wspecifier(text: str) -> bool:
    """Whether this names a table to write, and not a file."""
    return _is_specifier(text, _WRITE_OPTIONS)


def _is_specifier(text: str, options: frozenset[str]) -> bool:
    try:
        _parse(text, options)
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
    specifier = _parse(rspecifier, _READ_OPTIONS)
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


class SequentialTable:
    """An iterator over (key, value) that closes its files at the end or as a context manager.

    Attributes:
        losses: what the option `p` passed over until now; of an archive, its rest counts as one.
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

    def __enter__(self) -> "SequentialTable":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(NgtrainError):
                self.close()


def archive_entries(
    stream: InputStream, holder: Holder, passed_over: Losses | None = None
) -> Iterator[tuple[str, Any]]:
    """The entries of an archive from the stream's position on; closes the stream at its end.

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
        logger.warning("the rest of an archive is passed over: %s", error)
        passed_over.add(str(error))


def read_key(stream: InputStream) -> str | None:
    """The key of the next entry of an archive and the space after it; None at the end."""
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
    with _ScriptReader(holder) as reader:
        for key, rxfilename in script:
            try:
                value = reader.read(key, rxfilename)
            except NgtrainError as error:
                if passed_over is None:
                    raise
                logger.warning("passed over: %s", error)
                passed_over.add(str(error))
            else:
                yield key, value


class _ScriptReader:
    """Reads the objects that a script file points to; keeps an archive open between entries."""

    def __init__(self, holder: Holder):
        self._holder = holder
        self._path = ""
        self._stream: InputStream | None = None

    def read(self, key: str, rxfilename: str) -> Any:
        """The object at `file`, `file:offset` or `command |`, or the [range] of it.

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
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> "_ScriptReader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def read_script(rxfilename: str) -> list[tuple[str, str]]:
    """The lines of a script file as (key, name of a file).

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


def random_access_table(rspecifier: str, holder: Holder) -> "RandomAccessTable":
    """Open a table to be asked for keys.

    An archive is read as far as needed and what was read is kept, unless the options say what need
    not be: `o` each key is asked for once; `s` the archive is sorted, so that a missing key is
    known without reading on; `s,cs` it is also asked in sorted order, so that nothing is kept.

    Raises:
        NgtrainError: no such file or not an rspecifier; later, an entry cannot be read.
    """
    specifier = _parse(rspecifier, _READ_OPTIONS)
    if specifier.script is not None:
        return _RandomAccessScript(specifier, holder)
    return _RandomAccessArchive(specifier, holder)


class RandomAccessTable:
    """`key in table` and `table[key]`; a context manager.

    `table[key]` raises NgtrainError when there is no such key or it cannot be read.

    Attributes:
        name: the rspecifier, for messages.
    """

    def __init__(self, name: str):
        self.name = name

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise NgtrainError(self.why_not(key))
        return self._value(key)

    def why_not(self, key: str) -> str:
        """Why a key is not in it."""
        return f"no key {key} in {self.name}"

    def __contains__(self, key: str) -> bool:
        raise NotImplementedError

    def get(self, key: str) -> Any | None:
        """The value of a key, or None if the table does not have it."""
        return self._value(key) if key in self else None

    def _value(self, key: str) -> Any:
        """The value of a key that is there."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the files."""
        raise NotImplementedError

    def __enter__(self) -> "RandomAccessTable":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(NgtrainError):
                self.close()


class _RandomAccessScript(RandomAccessTable):
    def __init__(self, specifier: _Specifier, holder: Holder):
        super().__init__(specifier.text)
        self._is_permissive = "p" in specifier.options
        script = read_script(specifier.script)
        self._files = dict(script)
        if len(self._files) < len(script):
            raise NgtrainError(f"{specifier.script}: the same key on two lines")
        self._reader = _ScriptReader(holder)
        self._last: tuple[str, Any] = ("", None)
        self._unreadable = ("", "")  # the last one, which segments of a recording ask for again

    def why_not(self, key: str) -> str:
        unreadable, error = self._unreadable
        return error if key == unreadable else super().why_not(key)

    def __contains__(self, key: str) -> bool:
        if key not in self._files or key == self._unreadable[0]:
            return False
        if self._is_permissive:
            try:
                self._value(key)
            except NgtrainError as error:
                logger.warning("passed over: %s", error)
                self._unreadable = (key, str(error))
                return False
        return True

    def _value(self, key: str) -> Any:
        if self._last[0] != key:
            self._last = (key, self._reader.read(key, self._files[key]))
        return self._last[1]

    def close(self) -> None:
        self._reader.close()


class _RandomAccessArchive(RandomAccessTable):
    def __init__(self, specifier: _Specifier, holder: Holder):
        super().__init__(specifier.text)
        options = specifier.options
        self._is_sorted = "s" in options
        self._is_called_sorted = "s" in options and "cs" in options
        self._once = "o" in options
        self._stream = open_input(specifier.archive)
        self._entries = archive_entries(self._stream, holder, Losses() if "p" in options else None)
        self._kept: dict[str, Any] = {}
        self._last_read = ""
        self._last_asked = ""

    def __contains__(self, key: str) -> bool:
        if self._is_called_sorted:
            if key < self._last_asked:
                raise NgtrainError(
                    f"{self.name}: asked for {key} after {self._last_asked}, "
                    "but the option cs says that keys are asked for in sorted order"
                )
            if key > self._last_asked:
                self._kept = {kept: value for kept, value in self._kept.items() if kept >= key}
            self._last_asked = key
        while key not in self._kept:
            if self._is_sorted and self._last_read >= key:
                return False
            entry = next(self._entries, None)
            if entry is None:
                return False
            self._keep(*entry, asked=key)
        return True

    def _keep(self, key: str, value: Any, asked: str) -> None:
        if self._is_sorted and key <= self._last_read:
            raise NgtrainError(
                f"{self.name}: the option s says that the archive is sorted, "
                f"but {key} comes after {self._last_read}"
            )
        if key in self._kept:
            raise NgtrainError(f"{self.name}: the key {key} comes twice")
        self._last_read = key
        if not self._is_called_sorted or key >= asked:
            self._kept[key] = value

    def _value(self, key: str) -> Any:
        return self._kept.pop(key) if self._once else self._kept[key]

    def close(self) -> None:
        self._entries.close()
        self._stream.close()


def mapped_table(rspecifier: str, map_rspecifier: str, holder: Holder) -> RandomAccessTable:
    """A table by speaker, asked by utterance (Kaldi's RandomAccessTableReaderMapped).

    Args:
        map_rspecifier: table from utterance to speaker, such as `ark:data/train/utt2spk`; if empty,
            the table itself is by utterance.
    """
    table = random_access_table(rspecifier, holder)
    return _MappedTable(table, map_rspecifier) if map_rspecifier else table


class _MappedTable(RandomAccessTable):
    def __init__(self, table: RandomAccessTable, map_rspecifier: str):
        super().__init__(table.name)
        self._table = table
        self._map_name = map_rspecifier
        with sequential_table(map_rspecifier, TOKEN) as entries:
            self._map = dict(entries)

    def _mapped(self, key: str) -> str:
        if key not in self._map:
            raise NgtrainError(f"no key {key} in {self._map_name}")
        return self._map[key]

    def __contains__(self, key: str) -> bool:
        return self._mapped(key) in self._table

    def _value(self, key: str) -> Any:
        return self._table[self._mapped(key)]

    def close(self) -> None:
        self._table.close()


# Writing ------------------------------------------------------------------------------------------


def table_writer(wspecifier: str, holder: Holder) -> "TableWriter":
    """Open a table to be written; its files appear when it is closed without an error.

    Options: `t` text, `b` binary (default), `f` flush after each entry; with `scp:` alone, which
    names an existing script file that says where each object goes, `p` passes over keys that it
    does not have.

    Raises:
        NgtrainError: a file cannot be created or this is not a wspecifier.
    """
    specifier = _parse(wspecifier, _WRITE_OPTIONS)
    if specifier.archive is None:
        return _ScriptWriter(specifier, holder)
    return _ArchiveWriter(specifier, holder)


class TableWriter:
    """`write(key, value)`; a context manager that leaves nothing when an exception ends it."""

    def __init__(self, specifier: _Specifier, holder: Holder):
        self._specifier = specifier
        self._holder = holder
        self._binary = "t" not in specifier.options

    def write(self, key: str, value: Any) -> None:
        """Append an entry.

        Raises:
            NgtrainError: it cannot be written, or the key is empty, begins with a byte order mark,
                or has white space or control characters.
        """
        if not key or _NO_KEY.search(_encode(key)):
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
    def __init__(self, specifier: _Specifier, holder: Holder):
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
        self._archive.write(_encode(key) + b" ")
        if self._script is not None:
            position = self._archive.tell()
            self._script.write(_encode(f"{key} {self._specifier.archive}:{position}\n"))
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
    def __init__(self, specifier: _Specifier, holder: Holder):
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


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
