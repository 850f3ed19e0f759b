"""Kaldi's tables: objects with keys, in archives (`ark:`) or files listed by a script (`scp:`).

Worked from Kaldi's util/kaldi-table.{h,cc} and kaldi-table-inl.h. A table is named by an rspecifier
to read it (`ark:FILE`, `scp:FILE`, `ark,s,cs:gunzip -c FILE.gz |`) and a wspecifier to write it
(`ark,t:FILE`, `ark,scp:FILE.ark,FILE.scp`).
"""

import contextlib
import logging
import queue
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from nnet.errors import NgtrainError
from nnet.io.holders import (  # noqa: F401 - the forms of what is in tables
    COMPRESSED_MATRIX,
    FEATURES,
    FLOAT_MATRIX,
    FLOAT_VECTOR,
    INTEGER,
    INTEGER_LISTS,
    INTEGERS,
    MATRIX,
    POSTERIOR,
    REAL,
    REAL_PAIRS,
    TOKEN,
    TOKENS,
    VECTOR,
    select_range,
)
from nnet.io.kinds import HEAD_SIZE, kind_of
from nnet.io.losses import Losses
from nnet.io.messages import shortened
from nnet.io.streams import InputStream, OutputStream, open_input, open_output, split_offset
from nnet.io.text import BYTE_ORDER_MARK, ENCODING, encode, split_key, text_lines, visible
from nnet.io.tokens import Holder

T = TypeVar("T")

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
    archive, script = (name, None) if kinds == ["ark"] else (None, name)
    if both:
        archive, comma, script = name.partition(",")
        if not comma or archive.startswith("|") or archive in ("", "-"):
            raise NgtrainError(f"expected ark,scp:ARCHIVE-FILE,SCRIPT-FILE, got '{specifier}'")
    return Specifier(specifier, archive, script, options)


def is_rspecifier(text: str, known_options: frozenset[str] = READ_OPTIONS) -> bool:
    """True for the name of a table to read; False for that of a file."""
    try:
        parse_specifier(text, known_options)
    except NgtrainError:
        return False
    return True


def is_wspecifier(text: str) -> bool:
    """True for the name of a table to write; False for that of a file."""
    return is_rspecifier(text, _WRITE_OPTIONS)


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


@dataclass(eq=False)
class SequentialTable(ClosingContext):
    """An iterator over (key, value) that closes its files at the end or as a context manager.

    Attributes:
        losses: entries that the option `p` passed over until now; the rest of an archive is one.
    """

    stream: InputStream | None
    entries: Iterator[tuple[str, Any]]
    losses: Losses

    def __iter__(self) -> "SequentialTable":
        return self

    def __next__(self) -> tuple[str, Any]:
        return next(self.entries)

    def close(self) -> None:
        """Close; the rest of the table is not read.

        Raises:
            NgtrainError: the command of a pipe has failed.
        """
        self.entries.close()
        if self.stream is not None:
            self.stream.close()


def archive_entries(
    stream: InputStream, holder: Holder, passed_over: Losses | None = None
) -> Iterator[tuple[str, Any]]:
    """Read the entries of an archive from the stream's position on; closes the stream at its end.

    Nothing is read before an entry is asked for. With `passed_over`, which then counts that, an
    entry that cannot be read is the end and not an error.
    """
    stream.is_archive = is_empty = True
    try:
        with stream:
            while (key := read_key(stream)) is not None:
                stream.key, is_empty = key, False
                value = holder.read(stream)
                stream.key = ""
                yield key, value
        if is_empty:
            log.warning("%s: the archive is empty", stream.name)
    except NgtrainError as error:
        if passed_over is None:
            raise
        log.warning("the rest of an archive is passed over: %s", error)
        passed_over.add(str(error))


def read_key(stream: InputStream) -> str | None:
    """Read the key of the next entry of an archive and the space after it; None at the end."""
    token = stream.read_token()
    if not token:
        return None
    if _NO_KEY.search(token):
        raise stream.mismatch("a key before the object (not an archive)", token)
    key = token.decode(**ENCODING)
    if key.startswith(BYTE_ORDER_MARK):
        raise stream.fail(f"the first key {_MARK}")
    following = stream.peek(1)
    if not following:
        raise stream.fail(f"truncated after the key {key}")
    if following in b" \t":
        stream.skip(1)
    return key


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
            part = None
            if rxfilename.endswith("]") and "[" in rxfilename:
                rxfilename, _, part = rxfilename[:-1].rpartition("[")
            path, offset = split_offset(rxfilename)
            if path == rxfilename:  # No offset: a whole file or a pipe, not for the next entry.
                with self._open(rxfilename, key) as stream:
                    return self._read(stream, key, part)
            if path != self._path or self._stream is None:
                self.close()
                self._stream = self._open(path, key)
                self._path = path
            self._stream.seek(offset)
            return self._read(self._stream, key, part)
        except NgtrainError as error:
            if f", key {key}: " in str(error):
                raise
            raise NgtrainError(f"key {key}: {error}") from error

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
    if not script:
        log.warning("%s: the script file is empty", shortened(rxfilename))
    return script


# Reading ahead in a thread, the option `bg` -------------------------------------------------------

_END = object()


def read_ahead(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """Yield `items`, computed by a thread that is up to `depth` ahead.

    An exception of the thread is raised here, in its place among the items. Closing the generator
    ends the thread, and closes `items` if it is a generator.
    """
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def offer(item) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(getattr(items, "close", lambda: None))
                for item in items:
                    offer((item, None))
                    if stopped.is_set():
                        break
        except BaseException as error:
            offer((_END, error))
        else:
            offer((_END, None))

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


# Writing ------------------------------------------------------------------------------------------


def table_writer(wspecifier: str, holder: Holder) -> "TableWriter":
    """Open a table to be written; its files appear when it is closed without an error.

    Options: `t` text, `b` binary (default), `f` flush after each entry; with `scp:` alone, which
    names an existing script file that says where each object goes, `p` passes over keys that it
    does not have.

    Raises:
        NgtrainError: a file cannot be created or this is not a wspecifier.
    """
    return TableWriter(parse_specifier(wspecifier, _WRITE_OPTIONS), holder)


class TableWriter:
    """A writer of entries; as a context manager it leaves nothing when an exception ends it."""

    def __init__(self, specifier: Specifier, holder: Holder):
        self._specifier = specifier
        self._holder = holder
        self._binary = "t" not in specifier.options
        # The archive, and perhaps a script file, which never points to what is not there.
        self._streams: list[OutputStream] = []
        if specifier.archive is None:
            self._files = dict(read_script(specifier.script))
            return
        with self._aborting():
            for name in specifier.archive, specifier.script:
                if name is not None:
                    self._streams.append(open_output(name))

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
        if self._specifier.archive is None:
            self._write_file(key, value)
            return
        archive, *script = self._streams
        archive.write(encode(key) + b" ")
        for stream in script:
            stream.write(encode(f"{key} {self._specifier.archive}:{archive.tell()}\n"))
        archive.key = key
        self._holder.write(archive, value, self._binary)
        if "f" in self._specifier.options:
            for stream in self._streams:
                stream.flush()

    def _write_file(self, key: str, value: Any) -> None:
        if key in self._files:
            with open_output(self._files[key]) as stream:
                stream.key = key
                self._holder.write(stream, value, self._binary)
        elif "p" not in self._specifier.options:
            raise NgtrainError(f"no key {key} in {self._specifier.script}")

    def close(self) -> None:
        """Write out and give the files their names, the archive first."""
        with self._aborting():
            for stream in self._streams:
                stream.close()

    def abort(self) -> None:
        """Remove what was written."""
        for stream in self._streams:
            stream.abort()

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
