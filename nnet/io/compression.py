"""Arithmetic of Kaldi's compressed matrices, for many matrices of one shape at a time.

Three layouts exist (Kaldi matrix/compressed-matrix.{h,cc}, GlobalHeader and DataFormat):

* ``CM``: one byte per element, stored column by column. Each column has a header of four 16-bit
  integers, its quantiles 0, 1/4, 3/4 and 1 on the scale of the whole matrix; the byte interpolates
  linearly between them (0..64..192..255).
* ``CM2``, ``CM3``: two bytes or one byte per element, row by row, on the scale of the whole matrix.

The scale of a matrix is (min_value, range). All functions take a leading axis over n matrices and
give what Kaldi gives to the last bit: each step is in float32 or float64 as it is there.
"""

import numpy as np

# The segments between quantiles into which a byte of the CM layout falls: the byte before the first
# of the segment, and the steps that it has.
_SEGMENT_START = (0, 64, 192)
_SEGMENT_STEPS = (64, 128, 63)

_ONE_65535TH = np.float32(1.52590218966964e-05)


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
    min_value, value_range = value_scale(frames)
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


def encode_uniform(frames, dtype, scale=None):
    """Encode n matrices in the ``CM2`` or ``CM3`` layout (Kaldi FloatToUint16, FloatToUint8).

    Args:
        frames: finite float32 (n, rows, cols).
        dtype: np.uint16 (CM2) or np.uint8 (CM3).
        scale: (min_value, value_range), float32 (n,) each; by default that of the data.
    Returns:
        min_value, value_range, codes as :func:`decode_uniform` takes them.
    """
    min_value, value_range = value_scale(frames) if scale is None else scale
    codes = _levels(frames, min_value, value_range, np.iinfo(dtype).max).astype(dtype)
    return min_value, value_range, codes


def value_scale(frames):
    """Find smallest value and range of values of each of n matrices (Kaldi ComputeGlobalHeader).

    A constant matrix gets a range of 1 + |value|, so that the range is never zero.
    """
    lowest = frames.min(axis=(1, 2))
    highest = frames.max(axis=(1, 2))
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
