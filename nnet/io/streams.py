"""Byte streams behind Kaldi's extended file names (`-`, `cmd |`, `| cmd`, `file`, `file:offset`).

Worked from Kaldi's util/kaldi-io.cc, with two differences. A pipe whose command fails is an error
and not a warning, and a regular file is written under a temporary name and renamed when it is
whole, so that a failed program leaves no output behind.
"""

import contextlib
import io
import os
import re
import stat
import sys

from nnet.errors import NgtrainError
from nnet.io import pipes
from nnet.io.ending import unfinished
from nnet.io.kinds import EMPTY, HEAD_SIZE, FileKind, kind_of, kind_of_object
from nnet.io.messages import printable, shortened

# One read from the system. Large enough to make the calls cheap, small enough for random access.
CHUNK = 1 << 17
# The most that is allocated because a file announces it, before the bytes have been read.
PIECE = 1 << 24
# Bytes that are looked at to tell the kind of an object.
_AHEAD = 64
# Longer than any key or token that a person would write; a binary file has no space for long.
LONGEST_TOKEN = 1 << 12

_SPACE = re.compile(rb"[ \t\n\r\f\v]*")
_TOKEN = re.compile(rb"[ \t\n\r\f\v]*([^ \t\n\r\f\v]*)")
_TABLE_SPECIFIER = re.compile(
    r"^(?:(?:b|t|f|nf|p|np|o|no|s|ns|cs|ncs|bg),)*(?:ark|scp)(?:,[a-z]+)*:"
)
# Digits of an offset: no file has 1e18 bytes.
_MOST_DIGITS = 18
_OFFSET = re.compile(r"^(.+):([0-9]+)$", re.DOTALL)


class InputStream:
    """A buffered stream of bytes that knows its name, its position and the key it is reading.

    Attributes:
        name: what to call the stream in messages.
        key: the key of the table entry being read, or "" outside tables; used in messages.
        is_archive: whether entries are read from it one after another, as they stand there.
    """

    def __init__(self, raw: io.RawIOBase, name: str, process=None):
        self.name = name
        self.key = ""
        self.is_archive = False
        self._raw = raw
        self._process = process
        self._buffer = b""
        self._position = 0  # of the next byte, in the buffer
        self._start = 0  # of the buffer, in the stream
        self._at_end = False
        self._head = b""  # the first bytes of the stream

    def tell(self) -> int:
        """Return the position of the next byte in the stream."""
        return self._start + self._position

    def seek(self, offset: int) -> None:
        """Go to a byte of a regular file; of another stream, within or just behind the buffer."""
        if self._start <= offset <= self._start + len(self._buffer):
            self._position = offset - self._start
            return
        try:
            size = self._raw.seek(0, io.SEEK_END)
            self._raw.seek(min(offset, size))
        except OSError as error:
            raise NgtrainError(f"{self.name}: cannot seek to {offset}: {error.strerror}") from error
        if offset > size:
            raise NgtrainError(f"{self.name}: cannot seek to {offset}: it has {size} bytes")
        self._buffer, self._position, self._start, self._at_end = b"", 0, offset, False

    def fail(self, reason: str, found: bytes = b"") -> NgtrainError:
        """Make the error to raise for bad contents, with the stream, the key and the position.

        It says what kind of file this is where that explains the error: always for another format
        than Kaldi's, otherwise if what was found, just read or peeked at, is of a known kind.
        """
        kind = self._kind(found)
        hint = f": this is {self.called(kind)}" if kind else ""
        return NgtrainError(f"{self.place}: {reason} (at byte {self.tell()}){hint}")

    def called(self, kind: FileKind) -> str:
        """Describe this stream as one of a kind, with the remedy."""
        return kind.of("FILE" if self._process else self.name)

    def mismatch(self, expected: str, found: bytes) -> NgtrainError:
        """Make the error to raise when something else was found than what was expected."""
        return self.fail(f"expected {expected}, found {printable(found)}", found)

    def refuse_foreign(self) -> None:
        """Raise NgtrainError if this is of another format, whose lines may look like ours."""
        self.peek(1)
        if self._kind(b"") not in (None, EMPTY):
            raise self.fail("it cannot be read as it is")

    def _kind(self, found: bytes) -> FileKind | None:
        kind = kind_of(self._head) if self._head or self._at_end else None
        if kind is not None and (kind.is_foreign or kind is EMPTY):
            return kind
        if not found:
            return None
        of_object = kind_of_object(found + self.peek(_AHEAD))
        if self.tell() - len(found) < _AHEAD:
            return of_object or kind
        return of_object and of_object.as_part()

    @property
    def place(self) -> str:
        """The stream and the key, for messages."""
        return _place(self.name, self.key)

    def size(self) -> int | None:
        """Return the bytes of a regular file; None for a pipe or a device, which may be endless."""
        try:
            status = os.fstat(self._raw.fileno())
            position = self._raw.tell()
        except OSError:
            return None
        # Standard input may be a file of which others have read the beginning.
        is_all = position == self._start + len(self._buffer)
        return status.st_size if stat.S_ISREG(status.st_mode) and is_all else None

    def _read_raw(self, size: int) -> bytes:
        try:
            data = self._raw.read(size)
        except OSError as error:
            raise NgtrainError(f"cannot read {self.name}: {error.strerror}") from error
        if not data:
            self._at_end = True
            return b""
        self._head = self._head or bytes(data[:HEAD_SIZE])
        return data

    def peek(self, size: int) -> bytes:
        """Return the next bytes, fewer than `size` only at the end; consumes nothing."""
        missing = size - (len(self._buffer) - self._position)
        if missing > 0:
            # Joined once: a pipe gives little at a time.
            pieces = [self._buffer[self._position :]]
            while missing > 0 and (piece := self._read_raw(max(missing, CHUNK))):
                pieces.append(piece)
                missing -= len(piece)
            self._start += self._position
            self._position = 0
            self._buffer = b"".join(pieces)
        return self._buffer[self._position : self._position + size]

    def buffered(self, least: int) -> memoryview:
        """Return the bytes that come next, as many as are at hand; consumes nothing.

        They are fewer than `least` only at the end.
        """
        self.peek(least)
        return memoryview(self._buffer)[self._position :]

    def read(self, size: int = -1) -> bytearray:
        """Read `size` bytes, fewer only at the end of the stream; all of them if negative.

        However large `size` is, what is allocated stays within twice what the stream holds.
        """
        size = sys.maxsize if size < 0 else size
        if size <= CHUNK:
            data = bytearray(self.peek(size))
            self._position += len(data)
            return data
        data = bytearray(self._buffer[self._position : self._position + size])
        self._position += len(data)
        if len(data) < size:  # The rest goes past the buffer, which is empty from then on.
            self._start, self._position, self._buffer = self.tell(), 0, b""
        while len(data) < size:
            piece = self._read_raw(min(size - len(data), max(PIECE, len(data))))
            if not piece:
                break
            self._start += len(piece)
            data += piece
        return data

    def read_exact(self, size: int) -> bytearray:
        """Read `size` bytes; NgtrainError if the stream ends before that."""
        data = self.read(size)
        if len(data) < size:
            raise self.fail(f"truncated: {size} bytes expected, {len(data)} found")
        return data

    def skip(self, size: int) -> None:
        """Consume bytes that peek() has shown."""
        self._position += size

    def read_until(self, delimiter: bytes) -> bytes:
        """Read up to and including a one-byte delimiter, or up to the end of the stream."""
        pieces = []  # joined once: there are lines of gigabytes
        while (found := self._buffer.find(delimiter, self._position)) < 0:
            pieces.append(self._buffer[self._position :])
            self._position = len(self._buffer)
            if not self.peek(1):
                return b"".join(pieces)
        pieces.append(self._buffer[self._position : found + 1])
        self._position = found + 1
        return b"".join(pieces)

    def readline(self) -> bytes:
        """Read a line with its newline; b"" at the end of the stream."""
        return self.read_until(b"\n")

    def skip_space(self) -> None:
        """Consume white space."""
        while True:
            self._position = _SPACE.match(self._buffer, self._position).end()
            if self._position < len(self._buffer) or not self.peek(1):
                return

    def read_token(self) -> bytes:
        """Skip white space, then read up to the next; b"" at the end of the stream.

        Raises:
            NgtrainError: no white space follows for a long while, so this is no text.
        """
        while True:
            match = _TOKEN.match(self._buffer, self._position)
            self._position, end = match.span(1)
            size = end - self._position
            if size > LONGEST_TOKEN:
                raise self.mismatch("a word", match[1])
            if end < len(self._buffer) or len(self.peek(size + 1)) == size:
                self._position += size
                return match[1]

    def close(self) -> None:
        """Close; for a pipe wait for the command.

        Raises:
            NgtrainError: the command failed, after all it wrote was read. A command whose output is
                not wanted to the end may well fail because of that.
        """
        if self._raw is None:
            return
        was_read_to_the_end = self._process is not None and not self.peek(1)
        self._raw.close()
        self._raw = None
        if self._process is not None:
            status = self._process.wait()
            if status not in (0, *pipes.ENDED_BY_SIGPIPE) and was_read_to_the_end:
                raise pipes.failure(self._process, status)

    def __enter__(self) -> "InputStream":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        # When its command failed, that is why a stream ended too early: say that instead.
        # A generator that is closed, having been asked for all that was wanted, ended well.
        ended_well = kind is None or kind is GeneratorExit
        if ended_well or (issubclass(kind, NgtrainError) and self._at_end):
            self.close()
        else:
            with contextlib.suppress(NgtrainError):
                self.close()


class OutputStream:
    """A buffered stream of bytes whose contents appear under its name only when it is closed.

    Leaving the context on an exception removes what was written, if it was a regular file.

    Attributes:
        name: what to call the stream in messages.
        key: the key of the table entry being written, or "" outside tables; used in messages.
    """

    def __init__(self, raw: io.RawIOBase, name: str, process=None, rename=None):
        self.name = name
        self.key = ""
        self._file = io.BufferedWriter(raw, CHUNK)
        self._process = process
        self._rename = rename  # (temporary name, final name) of a regular file
        self._written = 0

    @property
    def place(self) -> str:
        """The stream and the key, for messages."""
        return _place(self.name, self.key)

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._written

    def write(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            NgtrainError: the disk is full, the command has ended, ...
            BrokenPipeError: nobody reads our standard output any more.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failure(error) from error
        self._written += len(data)

    def flush(self) -> None:
        """Pass on what is buffered."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            if self._process is None:
                return error
            return NgtrainError(f"command ended before it had read everything: {self.name}")
        return NgtrainError(f"cannot write {self.name}: {error.strerror}")

    def close(self) -> None:
        """Write out, close, wait for a pipe's command, and give a file its name.

        A file is on the disk before it has its name: not even a machine that goes down leaves half
        of one, and it is now that some file systems say that the disk or a quota is full.

        Raises:
            NgtrainError: any of that failed; a regular file is then removed.
        """
        if self._file is None:
            return
        try:
            self._file.flush()
            if self._rename is not None:
                os.fsync(self._file.fileno())
            self._file.close()
            if self._process is not None and (status := self._process.wait()) != 0:
                raise pipes.failure(self._process, status)
            if self._rename is not None:
                os.replace(*self._rename)
                unfinished.discard(self._rename[0])
        except OSError as error:
            self.abort()
            raise self._failure(error) from error
        except BaseException:  # a signal that ends the program, too
            self.abort()
            raise
        self._file = None

    def abort(self) -> None:
        """Close and remove the file, which does not get its name."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        if self._process is not None:
            self._process.wait()
        if self._rename is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._rename[0])
            unfinished.discard(self._rename[0])
        self._file = None

    def __enter__(self) -> "OutputStream":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _place(name: str, key: str) -> str:
    return f"{name}, key {shortened(key, 100)}" if key else name


def open_input(rxfilename: str) -> InputStream:
    """Open Kaldi's rxfilename: `-` or empty, `command |`, `file:offset`, `file`.

    Raises:
        NgtrainError: no such file, or not the name of an input.
    """
    if rxfilename in ("", "-"):
        return InputStream(io.FileIO(0, closefd=False), "standard input")
    if rxfilename.endswith("|"):
        process = pipes.start(rxfilename[:-1], output=False)
        return InputStream(process.stdout, f"pipe '{shortened(rxfilename)}'", process)
    _check_is_file(rxfilename)
    path, offset = split_offset(rxfilename)
    try:
        raw = io.FileIO(path)
    except OSError as error:
        raise NgtrainError(f"cannot open {shortened(path)}: {error.strerror}") from error
    stream = InputStream(raw, path)
    if offset:
        stream.seek(offset)
    return stream


def open_output(wxfilename: str) -> OutputStream:
    """Open Kaldi's wxfilename: `-` or empty, `| command`, `file`.

    A regular file gets its name when the stream is closed; a symbolic link is followed (egs are
    often spread over disks by links), devices and named pipes are written directly.

    Raises:
        NgtrainError: the file cannot be created, or this is not the name of an output.
    """
    if wxfilename in ("", "-"):
        return OutputStream(io.FileIO(1, "wb", closefd=False), "standard output")
    if wxfilename.startswith("|"):
        process = pipes.start(wxfilename[1:], output=True)
        return OutputStream(process.stdin, f"pipe '{shortened(wxfilename)}'", process)
    _check_is_file(wxfilename)
    if _OFFSET.match(wxfilename):
        raise NgtrainError(f"cannot write at an offset into a file: {wxfilename}")
    try:
        path = os.path.realpath(wxfilename)
        if os.path.isdir(path):
            raise NgtrainError(f"cannot write {wxfilename}: it is a directory")
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            return OutputStream(io.FileIO(path, "wb"), wxfilename)
        temporary = temporary_name(path)
        raw = io.FileIO(temporary, "xb")
    except OSError as error:
        raise NgtrainError(f"cannot write {shortened(wxfilename)}: {error.strerror}") from error
    return OutputStream(raw, wxfilename, rename=(temporary, path))


def split_offset(rxfilename: str) -> tuple[str, int]:
    """Split Kaldi's `file:offset`; the offset is 0 when there is none."""
    match = _OFFSET.match(rxfilename)
    if not match:
        return rxfilename, 0
    if len(match[2]) > _MOST_DIGITS:
        raise NgtrainError(f"no file is so large: {shortened(rxfilename)}")
    return match[1], int(match[2])


def temporary_name(path: str) -> str:
    """Make the name of a temporary file beside a file; no other process makes the same."""
    directory, base = os.path.split(path)
    name = os.path.join(directory, f".{base[:200]}.{os.urandom(8).hex()}.tmp")
    unfinished.add(name)
    return name


def _check_is_file(name: str) -> None:
    if "\0" in name:
        raise NgtrainError(f"file name with a NUL in it: {shortened(repr(name))}")
    if _TABLE_SPECIFIER.match(name):
        raise NgtrainError(f"expected the name of a file, got a table specifier: {shortened(name)}")
    if name != name.strip():
        raise NgtrainError(f"file name with white space at its ends: '{shortened(name)}'")
    if "|" in name:
        raise NgtrainError(f"pipe in the wrong place: {shortened(name)}")
