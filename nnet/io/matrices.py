"""Kaldi's matrices: full ones are read by kaldi_io; the compressed are ours, and their arithmetic.

The package kaldi_io reads full matrices and vectors. The rest is ours, because kaldi_io is slower
or laxer there: its reader of integer vectors checks one size marker of all, its writers make two
calls per integer or need a file object with a mode, its text readers take what is no number for an
assertion, and of the three compressed layouts it knows one, inexactly.

Three compressed layouts exist (Kaldi matrix/compressed-matrix.{h,cc}, GlobalHeader and DataFormat),
which are named by the tokens before them:

* ``CM``: one byte per element, stored column by column. Each column has a header of four 16-bit
  integers, its quantiles 0, 1/4, 3/4 and 1 on the scale of the whole matrix; the byte interpolates
  linearly between them (0..64..192..255).
* ``CM2``, ``CM3``: two bytes or one byte per element, row by row, on the scale of the whole matrix.

The scale of a matrix is (min_value, range). The functions take a leading axis over n matrices and
give what Kaldi gives to the last bit: each step is in float32 or float64 as it is there.
"""

import functools
import io
import os
import struct
import warnings
from dataclasses import dataclass

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.streams import InputStream

# min_value, range, num_rows, num_cols
_HEADER = struct.Struct("<ffii")
HEADER_SIZE = _HEADER.size

# The segments between quantiles into which a byte of the CM layout falls: the byte before the first
# of the segment, and the steps that it has.
_SEGMENT_START = (0, 64, 192)
_SEGMENT_STEPS = (64, 128, 63)

_ONE_65535TH = np.float32(1.52590218966964e-05)


class CompressedMatrix:
    """A matrix that keeps the bytes of the file, so that writing gives them back.

    Attributes:
        layout: "CM" (features), "CM2" or "CM3".
        data: header (16 bytes), headers of the columns (CM), elements.
        shape: (rows, cols).
    """

    __slots__ = ("data", "layout", "shape")
    __hash__ = None

    def __init__(self, layout: str, data: bytes):
        if len(data) != data_size(layout, data[:HEADER_SIZE]):
            raise ValueError(f"{len(data)} bytes are not those of the {layout} matrix they begin")
        self.layout = layout
        self.data = bytes(data)
        self.shape = _HEADER.unpack_from(data)[2:]

    @classmethod
    def compress(cls, array: np.ndarray, layout: str | None = None) -> "CompressedMatrix":
        """Compress a float matrix (rows, cols), by default as Kaldi's kAutomaticMethod does.

        Args:
            layout: None for CM when there are more than 8 rows and CM2 otherwise.
        Raises:
            NgtrainError: the matrix has elements that are NaN or infinite.
        """
        frames = np.asarray(array, np.float32)
        rows, cols = frames.shape
        if rows == 0 or cols == 0:
            return cls("CM", _HEADER.pack(0.0, 0.0, 0, 0))
        if not np.isfinite(frames).all():
            raise NgtrainError("cannot compress a matrix with NaN or infinity in it")
        layout = layout or ("CM" if rows > 8 else "CM2")
        if layout == "CM":
            minimum, extent, *parts = encode_columns(frames[None])
        else:
            dtype = np.uint16 if layout == "CM2" else np.uint8
            minimum, extent, *parts = encode_uniform(frames[None], dtype)
        header = _HEADER.pack(minimum[0], extent[0], rows, cols)
        return cls(layout, b"".join([header, *(part.tobytes() for part in parts)]))

    def decompress(self) -> np.ndarray:
        """Decode the matrix, float32 (rows, cols)."""
        rows, cols = self.shape
        scale = np.frombuffer(self.data, "<f4", 2)[:, None]
        if self.layout == "CM":
            headers = np.frombuffer(self.data, "<u2", cols * 4, HEADER_SIZE).reshape(1, cols, 4)
            codes = np.frombuffer(self.data, "u1", offset=HEADER_SIZE + cols * 8)
            return decode_columns(*scale, headers, codes.reshape(1, cols, rows))[0]
        dtype = "<u2" if self.layout == "CM2" else "u1"
        codes = np.frombuffer(self.data, dtype, offset=HEADER_SIZE).reshape(1, rows, cols)
        return decode_uniform(*scale, codes)[0]

    def __eq__(self, other) -> bool:
        if not isinstance(other, CompressedMatrix):
            return NotImplemented
        return self.layout == other.layout and self.data == other.data

    def __repr__(self) -> str:
        return f"CompressedMatrix({self.layout}, {self.shape[0]} by {self.shape[1]})"


def data_size(layout: str, header: bytes) -> int:
    """Compute the bytes of a compressed matrix, header included, by its header (Kaldi DataSize).

    Raises:
        ValueError: negative dimensions, or rows without columns (their number has no bound).
    """
    rows, cols = _HEADER.unpack(header)[2:]
    if rows < 0 or cols < 0 or rows > cols == 0:
        raise ValueError(f"compressed matrix of {rows} by {cols}")
    per_column = {"CM": 8 + rows, "CM2": 2 * rows, "CM3": rows}[layout]
    return HEADER_SIZE + per_column * cols


def decode_columns(min_value, value_range, headers, codes):
    """Decode n matrices in the ``CM`` layout (Kaldi CharToFloat).

    Args:
        min_value, value_range: float32 (n,).
        headers: uint16 (n, cols, 4), the quantiles of every column.
        codes: uint8 (n, cols, rows).
    Returns:
        float32 (n, rows, cols).
    """
    n, cols, rows = codes.shape
    # Rows go to the front, so that the inner loops run over all columns of all matrices.
    codes = np.ascontiguousarray(codes.transpose(2, 0, 1)).reshape(rows, n * cols)
    quantiles = np.ascontiguousarray(_quantiles(min_value, value_range, headers).reshape(-1, 4).T)
    rise = quantiles[1:] - quantiles[:3]
    # Arithmetic is faster than selection: the values of all segments are added up, which are zero
    # for elements of other segments.
    above = [codes > start for start in _SEGMENT_START[1:]]
    inside = [~above[0], above[0] ^ above[1], above[1]]
    # The first two segments have powers of two as their steps, so that dividing by them is exact in
    # float32; what the last one adds has to be in float64, as in Kaldi.
    rise[0] *= np.float32(1.0 / _SEGMENT_STEPS[0])
    rise[1] *= np.float32(1.0 / _SEGMENT_STEPS[1])
    begin = [member.astype(np.float32) for member in inside]
    within = []
    for i, member in enumerate(inside):
        begin[i] *= quantiles[i]
        within.append(((codes - np.uint8(_SEGMENT_START[i])) * member).astype(np.float32))
        within[i] *= rise[i]
    value = begin[0]
    value += begin[1]
    value += begin[2]
    within[0] += within[1]
    value += within[0]
    exact = np.multiply(within[2], 1.0 / _SEGMENT_STEPS[2], dtype=np.float64)
    exact += value
    return exact.astype(np.float32).reshape(rows, n, cols).transpose(1, 0, 2)


def decode_uniform(min_value, value_range, codes):
    """Decode n matrices in the ``CM2`` or ``CM3`` layout (Kaldi CompressedMatrix::CopyToMat).

    Args:
        min_value, value_range: float32 (n,).
        codes: uint16 (CM2) or uint8 (CM3), (n, rows, cols).
    Returns:
        float32 (n, rows, cols).
    """
    increment = value_range * (1.0 / np.float64(np.iinfo(codes.dtype).max))
    increment = increment.astype(np.float32)
    frames = codes * increment[:, None, None]
    frames += min_value[:, None, None]
    return frames


def encode_columns(frames):
    """Encode n matrices in the ``CM`` layout (Kaldi CompressColumn, ComputeColHeader).

    Args:
        frames: finite float32 (n, rows, cols), rows >= 1.
    Returns:
        min_value, value_range, headers, codes as :func:`decode_columns` takes them.
    """
    rows = frames.shape[1]
    min_value, value_range = _scale(frames)
    ordered = np.sort(frames, axis=1)
    quarter = rows // 4
    ranks = [0, quarter, 3 * quarter, rows - 1] if rows >= 5 else [0, 1, 2, 3]
    headers = np.empty((len(frames), frames.shape[2], 4), np.uint16)
    previous = -1
    for i, (rank, most) in enumerate(zip(ranks, [65532, 65533, 65534, 65535], strict=True)):
        # Quantiles are kept apart by at least one level, so that no segment is empty. Columns of
        # fewer than four rows have consecutive levels for the quantiles that do not exist.
        level = np.asarray(previous + 1, np.int64)
        if rank < rows:
            level = np.maximum(_levels(ordered[:, rank], min_value, value_range, 65535), level)
        previous = np.minimum(level, most)
        headers[:, :, i] = previous
    quantiles = _quantiles(min_value, value_range, headers)[:, None]
    codes = np.zeros(frames.shape, np.uint8)
    for i, steps in enumerate(_SEGMENT_STEPS):
        low, high = quantiles[..., i], quantiles[..., i + 1]
        # Levels that are too close for float32 make an empty segment: 0 / 0 is at its end.
        with np.errstate(divide="ignore", invalid="ignore"):
            fraction = (frames - low) / (high - low)
        np.fmin(fraction, 1.0, out=fraction)
        np.fmax(fraction, 0.0, out=fraction)
        fraction *= np.float32(steps)
        # The sum is in float64, as in Kaldi, where 0.5 is a double.
        codes += np.add(fraction, 0.5, dtype=np.float64).astype(np.uint8)
    return min_value, value_range, headers, np.ascontiguousarray(codes.transpose(0, 2, 1))


def encode_uniform(frames, dtype):
    """Encode n matrices in the ``CM2`` or ``CM3`` layout (Kaldi FloatToUint16, FloatToUint8).

    Args:
        frames: finite float32 (n, rows, cols).
        dtype: np.uint16 (CM2) or np.uint8 (CM3).
    Returns:
        min_value, value_range, codes as :func:`decode_uniform` takes them.
    """
    min_value, value_range = _scale(frames)
    codes = _levels(frames, min_value, value_range, np.iinfo(dtype).max).astype(dtype)
    return min_value, value_range, codes


def _scale(frames):
    """Find smallest value and range of values of each of n matrices (Kaldi ComputeGlobalHeader)."""
    lowest = frames.min(axis=(1, 2))
    highest = frames.max(axis=(1, 2))
    # The range is never zero: a constant matrix gets one of 1 + |value|.
    widened = (lowest + (1.0 + np.abs(lowest.astype(np.float64)))).astype(np.float32)
    highest = np.where(highest == lowest, widened, highest)
    return lowest, highest - lowest


def _quantiles(min_value, value_range, headers):
    """Decode the quantiles of every column (Kaldi Uint16ToFloat); headers is (n, cols, 4)."""
    step = value_range * _ONE_65535TH
    return min_value[:, None, None] + step[:, None, None] * headers


def _levels(values, min_value, value_range, most):
    """Round values (n, ...) to the integers 0..most on the scale of each matrix; int64."""
    scale = (slice(None),) + (None,) * (values.ndim - 1)
    fraction = (values - min_value[scale]) / value_range[scale]
    np.clip(fraction, 0.0, 1.0, out=fraction)
    # 0.499 rather than one half is Kaldi's; the sum is in float64 there.
    return ((fraction * np.float32(most)).astype(np.float64) + 0.499).astype(np.int64)


@dataclass
class WithHeader:
    """A stream as kaldi_io reads one: with the mark of binary form, never shorter than asked."""

    stream: InputStream
    header: bytes = b"\0B"

    def read(self, size: int) -> bytes:
        """Read the header first, then the stream."""
        header, self.header = self.header, b""
        return header or self.stream.read_exact(size)


@functools.cache
def kaldi_io():
    """Import the package kaldi_io, fenced: it leaves no trace on the process.

    At import kaldi_io prints a banner when KALDI_ROOT is unset or wrong, starts a shell, and
    prepends to PATH. Its own pipes lose the exit status of their commands, so it is given streams
    that we opened and never a file name.
    """
    path, root, popen = os.environ.get("PATH"), os.environ.get("KALDI_ROOT"), os.popen
    # It prints unless this root exists, and starts a shell unless os.popen() is replaced.
    os.environ["KALDI_ROOT"] = os.sep
    os.popen = lambda command: io.StringIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its regular expressions have invalid escapes
            import kaldi_io
    finally:
        os.popen = popen
        for name, value in (("PATH", path), ("KALDI_ROOT", root)):
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return kaldi_io
