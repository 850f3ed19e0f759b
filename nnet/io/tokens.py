"""Kaldi's basic types, vectors and matrices in text and binary form.

Worked from Kaldi's base/io-funcs-inl.h, base/io-funcs.cc, matrix/kaldi-vector.cc and
matrix/kaldi-matrix.cc. A reader and a writer know whether they are binary, so that the code of an
object reads and writes both forms with one list of calls.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.checksums import Checksum, checksum_file
from nnet.io.matrices import HEADER_SIZE, CompressedMatrix, WithHeader, data_size, kaldi_io
from nnet.io.streams import InputStream, OutputStream, open_input, open_output, printable

T = TypeVar("T")

_SPACES = b" \t\n\r\f\v"
_INT32 = struct.Struct("<bi")
_UINT32 = struct.Struct("<bI")
_UINT16 = struct.Struct("<bH")
_FLOAT = struct.Struct("<bf")
_DOUBLE = struct.Struct("<bd")

LARGEST_ARRAY = (1 << 31) - 1
"""Bytes of a matrix in a file; kaldi_io multiplies dimensions as 32-bit integers."""


@dataclass(eq=False)
class Reader:
    """A reader of tokens, numbers, vectors and matrices, in text or binary form.

    Every method raises NgtrainError, with the name of the stream and the position, when it finds
    something else than what it was asked for.
    """

    stream: InputStream
    binary: bool

    def fail(self, reason: str) -> NgtrainError:
        """Make the error to raise for contents that make no sense, with file, key and position."""
        return self.stream.fail(reason)

    def token(self) -> str:
        """Read a word without white space, such as `<Nnet>`, and the one space after it."""
        token = self.stream.read_token()
        if not token:
            raise self.fail("truncated: expected a token, found the end")
        space = self.stream.read(1)
        if space not in (b" ", b"\n", b"\t", b"\r"):
            raise self.stream.fail(f"truncated after the token {printable(token)}", token)
        try:
            return token.decode()
        except UnicodeDecodeError:
            raise self.stream.mismatch("a token", token) from None

    def peek_token(self) -> str:
        """Return the token that comes next, left where it is; "" at the end of the stream."""
        size = 64
        while True:
            ahead = self.stream.peek(size)
            words = ahead.split(None, 1)
            if len(words) == 2 or len(ahead) < size or ahead[-1:] in _SPACES or size > 4096:
                return words[0].decode(errors="replace") if words else ""
            size *= 2

    def expect(self, *tokens: str) -> "Reader":
        """Read these tokens, one after the other; returns the reader, for the value behind them."""
        for expected in tokens:
            self.one_of(expected)
        return self

    def one_of(self, *tokens: str) -> str:
        """Read a token that must be one of these, and return it."""
        token = self.token()
        if token not in tokens:
            raise self.stream.mismatch(" or ".join(tokens), token.encode())
        return token

    def integer(self, form: struct.Struct = _INT32, mark: int = 4, least: int = -(1 << 31)) -> int:
        """Read a signed 32-bit integer."""
        if self.binary:
            data = self._exactly(form.size, "an integer")
            size, value = form.unpack(data)
            if size != mark:
                raise self.stream.fail(f"expected an integer, found a size marker of {size}", data)
            return value
        word = self._word("an integer")
        try:
            value = int(word)
        except ValueError:
            raise self.fail(f"expected an integer, found {printable(word)}") from None
        if not least <= value < least + (1 << 32):
            raise self.fail(f"integer out of range: {value}")
        return value

    def unsigned(self) -> int:
        """Read an unsigned 32-bit integer, marked as such in binary (as in Kaldi's event maps)."""
        return self.integer(_UINT32, -4, 0)

    def unsigned16(self) -> int:
        """Read an unsigned 16-bit integer, as flags are stored."""
        return self.integer(_UINT16, -2, 0)

    def boolean(self) -> bool:
        """Read `T` or `F`."""
        if not self.binary:
            self.stream.skip_space()
        letter = self._exactly(1, "T or F")
        if letter not in (b"T", b"F"):
            raise self.fail(f"expected T or F, found {printable(letter)}")
        return letter == b"T"

    def real(self) -> float:
        """Read a floating-point number of either size."""
        if self.binary:
            size = self.stream.peek(1)
            if size == b"\x04":
                return _FLOAT.unpack(self._exactly(5, "a number"))[1]
            if size == b"\x08":
                return _DOUBLE.unpack(self._exactly(9, "a number"))[1]
            raise self.fail(f"expected a number, found {printable(size)}")
        return self._numbers([self._word("a number")])[0]

    def vector(self, dtype=None) -> np.ndarray:
        """Read a vector (dim,): float32 or float64 as stored (float32 in text), or as `dtype`."""
        if self.binary:
            vector = self._array("vector", 1)
        else:
            text = self._bracketed("vector")
            if b"\n" in text:
                raise self.fail("newline in a vector (is it a matrix?)")
            vector = np.array(self._numbers(text.split()), dtype or np.float32)
        return vector if dtype is None else vector.astype(dtype, copy=False)

    def matrix(self, dtype=None) -> np.ndarray:
        """Read a matrix (rows, cols), decompressed if need be.

        It is float32 or float64 as stored (float32 if compressed or text), or of `dtype`.
        """
        if self.binary:
            matrix = self.compressed_matrix()
            if isinstance(matrix, CompressedMatrix):
                matrix = matrix.decompress()
        else:
            lines = self._bracketed("matrix").replace(b";", b"\n").split(b"\n")
            rows = [self._numbers(words) for line in lines if (words := line.split())]
            for number, row in enumerate(rows, 1):
                if len(row) != len(rows[0]):
                    raise self.fail(
                        f"row {number} of a matrix has {len(row)} columns, row 1 has {len(rows[0])}"
                    )
            matrix = np.array(rows, dtype or np.float32).reshape(len(rows), -1 if rows else 0)
        return matrix if dtype is None else matrix.astype(dtype, copy=False)

    def symmetric_matrix(self, dtype=None) -> np.ndarray:
        """Read a symmetric matrix (n, n), stored as a lower triangle (matrix/packed-matrix.cc)."""
        lower = self.triangular_matrix(dtype)
        return np.tril(lower, -1).T + lower

    def triangular_matrix(self, dtype=None) -> np.ndarray:
        """Read a lower triangular matrix (n, n), stored row by row."""
        if self.binary:
            token = self.token()
            if token not in ("FP", "DP"):
                raise self.fail(f"expected a packed matrix, found {printable(token.encode())}")
            rows = self.integer()
            if rows < 0:
                raise self.fail(f"packed matrix of {rows} rows")
            stored = np.dtype("<f4" if token == "FP" else "<f8")
            count = rows * (rows + 1) // 2
            packed = np.frombuffer(self.stream.read_exact(count * stored.itemsize), stored)
        else:
            words = self._bracketed("packed matrix").split()
            packed = np.array(self._numbers(words), dtype or np.float32)
            rows = (math.isqrt(8 * len(packed) + 1) - 1) // 2
            if rows * (rows + 1) // 2 != len(packed):
                raise self.fail(f"{len(packed)} elements are no triangle")
        matrix = np.zeros((rows, rows), dtype or packed.dtype)
        matrix[np.tril_indices(rows)] = packed
        return matrix

    def compressed_matrix(self) -> CompressedMatrix | np.ndarray:
        """Read a matrix as it is stored: compressed, or an array if it is not."""
        if not self.binary:
            return self.matrix()
        if self.stream.peek(2) != b"CM":
            return self._array("matrix", 2)
        layout = self.token()
        if layout not in ("CM", "CM2", "CM3"):
            raise self.fail(f"unknown layout of a compressed matrix: {layout}")
        header = self._exactly(HEADER_SIZE, "the header of a compressed matrix")
        try:
            size = data_size(layout, header)
        except ValueError as error:
            raise self.fail(str(error)) from None
        return CompressedMatrix(layout, header + self.stream.read_exact(size - HEADER_SIZE))

    def integers(self) -> np.ndarray:
        """Read integers (n,) as Kaldi's WriteIntegerVector stores a std::vector<int32>."""
        if self.binary:
            size, count = _INT32.unpack(self._exactly(5, "a list of integers"))
            if size != 4 or count < 0:
                raise self.fail(f"expected a list of integers, found {count} of size {size}")
            return np.frombuffer(self.stream.read_exact(4 * count), "<i4")
        return self.parse_integers(self._bracketed("list of integers").split())

    def parse_integers(self, words: Sequence[bytes]) -> np.ndarray:
        """Parse words of text as int32 (n,)."""
        try:
            return np.array(list(map(int, words)), np.int32)
        except (ValueError, OverflowError):
            raise self.fail(f"expected integers, found {printable(b' '.join(words))}") from None

    def _exactly(self, size: int, what: str) -> bytes:
        data = self.stream.read(size)
        if len(data) < size:
            raise self.fail(f"truncated: expected {what}, found the end")
        return data

    def _word(self, what: str) -> bytes:
        word = self.stream.read_token()
        if not word:
            raise self.fail(f"truncated: expected {what}, found the end")
        return word

    def _numbers(self, words: Sequence[bytes]) -> list[float]:
        try:
            return list(map(float, words))
        except ValueError:
            raise self.fail(f"expected numbers, found {printable(b' '.join(words))}") from None

    def _bracketed(self, what: str) -> bytes:
        """Read the text between `[` and `]`, and the newline after them."""
        self.stream.skip_space()
        if self.stream.peek(1) != b"[":
            found = self.stream.peek(20)
            raise self.stream.mismatch(f"a {what} in text form", found)
        text = self.stream.read_until(b"]")
        if not text.endswith(b"]"):
            raise self.fail(f"truncated: a {what} without ]")
        following = self.stream.peek(2)
        self.stream.skip(1 if following[:1] == b"\n" else 2 if following == b"\r\n" else 0)
        return text[1:-1]

    def _array(self, what: str, num_dimensions: int) -> np.ndarray:
        """Read a full vector or matrix by kaldi_io, after its header has been checked."""
        size = 3 + 5 * num_dimensions
        header = self.stream.peek(size)
        kind = b"V " if num_dimensions == 1 else b"M "
        if header[:3] not in (b"F" + kind, b"D" + kind):
            if not header:
                raise self.fail(f"truncated: expected a {what}, found the end")
            raise self.stream.mismatch(f"a {what} in binary form", header)
        if len(header) < size:
            raise self.fail(f"truncated in the header of a {what}")
        shape = []
        for marker, dimension in _INT32.iter_unpack(header[3:]):
            if marker != 4 or dimension < 0:
                raise self.fail(f"{what} of dimension {dimension} (size marker {marker})")
            shape.append(dimension)
        size = math.prod(shape) * (4 if header[:1] == b"F" else 8)
        if shape[0] > shape[-1] == 0:  # Billions of rows without columns take no room.
            raise self.fail(f"{what} of {shape[0]} by {shape[1]}")
        if size > LARGEST_ARRAY:
            raise self.fail(f"{what} of {size} bytes; at most {LARGEST_ARRAY} can be read")
        read = kaldi_io().read_vec_flt if num_dimensions == 1 else kaldi_io().read_mat
        return read(WithHeader(self.stream))


@dataclass(eq=False)
class Writer:
    """A writer of tokens, numbers, vectors and matrices, with the bytes that Kaldi writes.

    Text has seven significant digits, as a C++ stream of precision 7 gives them. Methods that write
    parts of an object return the writer, so that a token and its value stand on one line:
    `writer.token("<Dim>").integer(3)`.
    """

    stream: OutputStream
    binary: bool

    def raw(self, data: str | bytes) -> None:
        """Write bytes or text as they are."""
        self.stream.write(data.encode() if isinstance(data, str) else data)

    def newline(self) -> "Writer":
        """Write a newline in text; nothing in binary."""
        if not self.binary:
            self.stream.write(b"\n")
        return self

    def token(self, token: str) -> "Writer":
        """Write a token and a space, in both forms."""
        if not token or token.split() != [token]:
            raise ValueError(f"not a token: '{token}'")
        self.stream.write(token.encode() + b" ")
        return self

    def integer(self, value: int) -> "Writer":
        """Write a signed 32-bit integer."""
        self.stream.write(_INT32.pack(4, value) if self.binary else b"%d " % value)
        return self

    def unsigned(self, value: int) -> "Writer":
        """Write an unsigned 32-bit integer."""
        self.stream.write(_UINT32.pack(-4, value) if self.binary else b"%d " % value)
        return self

    def unsigned16(self, value: int) -> "Writer":
        """Write an unsigned 16-bit integer."""
        self.stream.write(_UINT16.pack(-2, value) if self.binary else b"%d " % value)
        return self

    def boolean(self, value: bool) -> None:
        """Write `T` or `F`."""
        letter = b"T" if value else b"F"
        self.stream.write(letter if self.binary else letter + b" ")

    def real(self, value: float) -> "Writer":
        """Write a float32, Kaldi's BaseFloat."""
        if self.binary:
            self.stream.write(_FLOAT.pack(4, np.float32(value)))
        else:
            self.stream.write(b"%.7g " % np.float32(value))
        return self

    def double(self, value: float) -> None:
        """Write a float64."""
        self.stream.write(_DOUBLE.pack(8, value) if self.binary else b"%.7g " % value)

    def vector(self, vector: np.ndarray) -> "Writer":
        """Write a float32 or float64 vector (dim,)."""
        if self.binary:
            self._array(b"V ", vector, len(vector))
        else:
            self.raw(" [ " + _text_row(vector) + "]\n")
        return self

    def matrix(self, matrix: np.ndarray) -> "Writer":
        """Write a float32 or float64 matrix (rows, cols); rows without columns are none."""
        rows, cols = matrix.shape if matrix.shape[1] else (0, 0)
        if self.binary:
            self._array(b"M ", matrix, rows, cols)
        elif cols == 0:
            self.raw(" [ ]\n")
        else:
            self.raw(" [")
            for row in matrix:
                self.raw("\n  " + _text_row(row))
            self.raw("]\n")
        return self

    def symmetric_matrix(self, matrix: np.ndarray) -> "Writer":
        """Write the lower triangle, with the diagonal, of a float32 or float64 matrix (n, n)."""
        rows = len(matrix)
        if self.binary:
            self._array(b"P ", matrix[np.tril_indices(rows)], rows)
        elif rows == 0:
            self.raw("[ ]\n")
        else:
            lines = [_text_row(matrix[i, : i + 1]) for i in range(rows)]
            self.raw("[\n" + "\n".join(lines) + "]\n")
        return self

    def _array(self, kind: bytes, array: np.ndarray, *shape: int) -> None:
        """Write an array in binary form, which begins with the type of its elements and a shape."""
        letter = {np.dtype("<f4"): b"F", np.dtype("<f8"): b"D"}[array.dtype]
        self.stream.write(letter + kind + b"".join(_INT32.pack(4, size) for size in shape))
        if array.size:
            self.stream.write(np.ascontiguousarray(array).data.cast("B"))

    def compressed_matrix(self, matrix: CompressedMatrix | np.ndarray) -> "Writer":
        """Write a matrix as it is stored, compressed or not; text holds its decompressed values."""
        if not isinstance(matrix, CompressedMatrix):
            self.matrix(matrix)
        elif self.binary:
            self.token(matrix.layout)
            self.stream.write(matrix.data)
        else:
            self.matrix(matrix.decompress())
        return self

    def integers(self, values: Sequence[int]) -> "Writer":
        """Write integers as Kaldi's WriteIntegerVector stores a std::vector<int32>."""
        values = np.asarray(values, np.int32)
        if self.binary:
            self.stream.write(_INT32.pack(4, len(values)) + values.astype("<i4").tobytes())
        else:
            self.raw("[ " + "".join([f"{value} " for value in values.tolist()]) + "]\n")
        return self


def read_object(rxfilename: str, parse: Callable[[Reader], T]) -> T:
    """Open a file, see whether it is binary, and read one object with `parse`.

    Raises:
        NgtrainError: the file cannot be read, or does not hold such an object.
    """
    with open_input(rxfilename) as stream:
        return parse(Reader(stream, read_binary_header(stream)))


class Stored:
    """A base of objects that are alone in a file: their read() and write() parse and format it."""

    @classmethod
    def load(cls, rxfilename: str):
        """Read the object that a file begins with; another may follow it."""
        return read_object(rxfilename, cls.read)

    def save(self, wxfilename: str, binary: bool = True) -> None:
        """Write the object to a file, which appears when it is whole."""
        write_object(wxfilename, self.write, binary)


def write_object(
    wxfilename: str, write: Callable[[Writer], Any], binary: bool = True, checksum: bool = False
) -> None:
    """Write one object with `write`; the file appears when it is whole.

    Args:
        checksum: write that of the bytes in memory, which nothing that becomes of the file changes,
            beside it.  At no time is it beside another file than its own.  A name that is no file,
            such as a pipe, gets none.

    Raises:
        NgtrainError: the file cannot be written.
    """
    checksum = checksum and wxfilename not in ("", "-") and not wxfilename.startswith("|")
    if checksum:
        checksum_file(wxfilename).unlink(missing_ok=True)
    with open_output(wxfilename) as stream:
        summed = Checksum(stream) if checksum else stream
        write(start_writing(summed, binary))
    if checksum:
        with open_output(str(checksum_file(wxfilename))) as stream:
            stream.write(f"{summed}\n".encode())


def read_binary_header(stream: InputStream) -> bool:
    """Read the mark of binary form if there is one; returns whether there was."""
    if stream.peek(1) != b"\0":
        return False
    if stream.peek(2) != b"\0B":
        raise stream.fail("neither text nor Kaldi's binary form")
    stream.skip(2)
    return True


def start_writing(stream: OutputStream, binary: bool) -> Writer:
    """Write the mark of binary form if that is wanted, and return a writer."""
    if binary:
        stream.write(b"\0B")
    return Writer(stream, binary)


@dataclass(frozen=True)
class Holder:
    """The form in which tables store one kind of object after its key, in text and binary.

    Attributes:
        parse: reads the object.
        format: writes the object.
        has_binary_form: False for words and lines, which are the same in both forms.
    """

    parse: Callable[[Reader], Any]
    format: Callable[[Writer, Any], None]
    has_binary_form: bool = True

    def read(self, stream: InputStream) -> Any:
        """Read the object that begins at the stream's position."""
        return self.parse(Reader(stream, self.has_binary_form and read_binary_header(stream)))

    def write(self, stream: OutputStream, value: Any, binary: bool) -> None:
        """Write an object, with the mark of binary form where it is due."""
        self.format(start_writing(stream, binary and self.has_binary_form), value)


def _text_row(row: np.ndarray) -> str:
    return "%.7g " * len(row) % tuple(row.tolist())
