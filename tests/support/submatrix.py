"""Rows of a compressed matrix, as Kaldi's sub-matrix constructor takes them."""

import struct

import numpy as np

from nnet.io.matrices import HEADER_SIZE, CompressedMatrix


def rows_of(matrix: CompressedMatrix, start: int, count: int) -> CompressedMatrix:
    """Take the rows start..start+count, compressed on the same scale.

    Fewer than 8 rows of a CM matrix are compressed again as CM2, because the headers of the columns
    would outweigh them.
    """
    layout, (num_rows, cols) = matrix.layout, matrix.shape
    assert start >= 0 and count >= 1 and start + count <= num_rows
    if layout == "CM" and count < 8:
        return CompressedMatrix.compress(matrix.decompress()[start : start + count], "CM2")
    header = matrix.data[:8] + struct.pack("<ii", count, cols)
    place = HEADER_SIZE + (8 * cols if layout == "CM" else 0)
    codes = np.frombuffer(matrix.data, "<u2" if layout == "CM2" else "u1", offset=place)
    if layout == "CM":
        kept = codes.reshape(cols, num_rows)[:, start : start + count]
    else:
        kept = codes.reshape(num_rows, cols)[start : start + count]
    return CompressedMatrix(layout, header + matrix.data[HEADER_SIZE:place] + kept.tobytes())
