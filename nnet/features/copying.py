"""Copying features, perhaps compressed (Kaldi featbin/copy-feats.cc), and counting their frames."""

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.copying import copy_objects
from nnet.io.holders import COMPRESSED_MATRIX, FLOAT_MATRIX, INTEGER, Holder
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import sequential_table, table_writer


def copy_features(
    source: str,
    target: str,
    binary: bool,
    compress: bool,
    layout: str | None,
    num_frames_wspecifier: str,
    source_form: Holder = FLOAT_MATRIX,
) -> int | None:
    """Copy a table of features, or one matrix in a file; the number of utterances, None for a file.

    Args:
        compress, layout: whether and how, see :meth:`CompressedMatrix.compress`.
        num_frames_wspecifier: where to write the utterances' lengths, if not empty.
        source_form: how they are stored in the source.
    Raises:
        NgtrainError: one has NaN or infinity and is to be compressed.
    """
    with table_writer(num_frames_wspecifier or "ark:/dev/null", INTEGER) as lengths:

        def change(key: str, features: np.ndarray) -> np.ndarray | CompressedMatrix:
            if key:
                lengths.write(key, len(features))
            try:
                return CompressedMatrix.compress(features, layout) if compress else features
            except NgtrainError as error:
                raise NgtrainError(f"{source}, key {key}: {error}") from error

        return copy_objects(source, target, source_form, binary, change, written=COMPRESSED_MATRIX)


def total_frames(feats_rspecifier: str) -> int:
    """Count the frames of all utterances."""
    with sequential_table(feats_rspecifier, COMPRESSED_MATRIX) as entries:
        return sum(matrix.shape[0] for _, matrix in entries)


def write_shapes(feats_rspecifier: str, wspecifier: str, axis: int) -> None:
    """Write the number of frames (axis 0) or the dimension (axis 1) of every utterance."""
    with (
        sequential_table(feats_rspecifier, COMPRESSED_MATRIX) as entries,
        table_writer(wspecifier, INTEGER) as output,
    ):
        for key, matrix in entries:
            output.write(key, matrix.shape[axis])
