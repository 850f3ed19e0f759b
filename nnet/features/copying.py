"""Copying features, perhaps compressed (Kaldi featbin/copy-feats.cc), and counting their frames."""

from contextlib import ExitStack

from nnet.errors import NgtrainError
from nnet.io.copying import copy_objects
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import (
    COMPRESSED_MATRIX,
    FLOAT_MATRIX,
    INTEGER,
    is_rspecifier,
    sequential_table,
    table_writer,
)


def copy_features(
    source: str,
    target: str,
    binary: bool,
    compress: bool,
    layout: str | None,
    num_frames_wspecifier: str,
) -> int | None:
    """Copy a table of features, or one matrix in a file.

    Args:
        compress, layout: whether and how, see :meth:`CompressedMatrix.compress`.
        num_frames_wspecifier: where to write the utterances' lengths, if not empty.
    Returns:
        The number of utterances; None for a file.
    Raises:
        NgtrainError: one has NaN or infinity and is to be compressed.
    """
    if not is_rspecifier(source):
        return copy_objects(source, target, FLOAT_MATRIX, binary)
    count = 0
    with ExitStack() as stack:
        entries = stack.enter_context(sequential_table(source, FLOAT_MATRIX))
        output = stack.enter_context(
            table_writer(target, COMPRESSED_MATRIX if compress else FLOAT_MATRIX)
        )
        lengths = None
        if num_frames_wspecifier:
            lengths = stack.enter_context(table_writer(num_frames_wspecifier, INTEGER))
        for key, features in entries:
            if compress:
                try:
                    features = CompressedMatrix.compress(features, layout)
                except NgtrainError as error:
                    raise NgtrainError(f"{source}, key {key}: {error}") from error
            output.write(key, features)
            if lengths is not None:
                lengths.write(key, features.shape[0])
            count += 1
        entries.losses.report(f"%d of {count + entries.losses.count} entries were passed over")
    return count


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
