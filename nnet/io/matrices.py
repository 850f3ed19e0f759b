"""Kaldi's compressed matrix, kept as it is stored (Kaldi matrix/compressed-matrix.{h,cc})."""

import struct

import numpy as np

from nnet.errors import NgtrainError
from nnet.io import compression

# min_value, range, num_rows, num_cols
_HEADER = struct.Struct("<ffii")
HEADER_SIZE = _HEADER.size


class CompressedMatrix:
    """A matrix in one of Kaldi's three lossy layouts, which are named by the tokens before them.

    "CM": one byte per element and quantiles per column (features); "CM2" and "CM3": two bytes or
    one byte per element on one scale. Keeps the bytes of the file, so that writing gives them back.

    Attributes:
        layout: "CM", "CM2" or "CM3".
        data: header (16 bytes), headers of the columns (CM), elements.
        shape: (rows, cols).
    """

    __slots__ = ("data", "layout", "shape")

    def __init__(self, layout: str, data: bytes):
        rows, cols = _HEADER.unpack_from(data)[2:]
        if len(data) != data_size(layout, data[:HEADER_SIZE]):
            raise ValueError(f"{len(data)} bytes for a {layout} matrix of {rows} by {cols}")
        self.layout = layout
        self.data = bytes(data)
        self.shape = (rows, cols)

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
        if layout is None:
            layout = "CM" if rows > 8 else "CM2"
        if layout == "CM":
            minimum, extent, headers, codes = compression.encode_columns(frames[None])
            elements = headers.tobytes() + codes.tobytes()
        else:
            dtype = np.uint16 if layout == "CM2" else np.uint8
            minimum, extent, codes = compression.encode_uniform(frames[None], dtype)
            elements = codes.tobytes()
        return cls(layout, _HEADER.pack(minimum[0], extent[0], rows, cols) + elements)

    def decompress(self, rows: slice = slice(None)) -> np.ndarray:
        """Decode the rows of a slice, float32 (rows, cols), to the last bit as Kaldi does."""
        num_rows, num_cols = self.shape
        minimum, extent = np.frombuffer(self.data, "<f4", 2)[:, None]
        if self.layout == "CM":
            headers, codes = self._columns()
            codes = codes[None, :, rows]
            return compression.decode_columns(minimum, extent, headers[None], codes)[0]
        dtype = "<u2" if self.layout == "CM2" else "u1"
        codes = np.frombuffer(self.data, dtype, offset=HEADER_SIZE).reshape(num_rows, num_cols)
        return compression.decode_uniform(minimum, extent, codes[None, rows])[0]

    def rows(self, start: int, count: int) -> "CompressedMatrix":
        """Take the rows start..start+count, compressed on the same scale.

        As in Kaldi's sub-matrix constructor, fewer than 8 rows of a CM matrix are compressed again
        as CM2, because the headers of the columns would outweigh them.
        """
        num_rows, num_cols = self.shape
        if start < 0 or count < 1 or start + count > num_rows:
            raise ValueError(f"rows {start} to {start + count} of a matrix of {num_rows} rows")
        if self.layout == "CM" and count < 8:
            return self.compress(self.decompress(slice(start, start + count)), "CM2")
        header = self.data[:8] + struct.pack("<ii", count, num_cols)
        if self.layout == "CM":
            headers, codes = self._columns()
            elements = headers.tobytes() + codes[:, start : start + count].tobytes()
        else:
            row = num_cols * (2 if self.layout == "CM2" else 1)
            begin = HEADER_SIZE + start * row
            elements = self.data[begin : begin + count * row]
        return CompressedMatrix(self.layout, header + elements)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Return headers (cols, 4) uint16 and codes (cols, rows) uint8 of the CM layout."""
        num_rows, num_cols = self.shape
        headers = np.frombuffer(self.data, "<u2", num_cols * 4, HEADER_SIZE)
        codes = np.frombuffer(self.data, "u1", offset=HEADER_SIZE + num_cols * 8)
        return headers.reshape(num_cols, 4), codes.reshape(num_cols, num_rows)

    def __eq__(self, other) -> bool:
        if not isinstance(other, CompressedMatrix):
            return NotImplemented
        return self.layout == other.layout and self.data == other.data

    __hash__ = None

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
