"""Sums of vectors and matrices, in float64.

After Kaldi's bin/vector-sum.cc, bin/matrix-sum.cc and bin/matrix-sum-rows.cc.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.random_access import random_access_table
from nnet.io.tables import FLOAT_MATRIX, FLOAT_VECTOR, sequential_table, table_writer
from nnet.io.tokens import Holder, read_object

log = logging.getLogger("ngtrain")


def sum_rows(matrix_rspecifier: str, vector_wspecifier: str) -> tuple[int, int]:
    """Write the sum of each matrix's rows; the numbers of matrices and of rows."""
    num_done = num_rows = 0
    with (
        sequential_table(matrix_rspecifier, FLOAT_MATRIX) as matrices,
        table_writer(vector_wspecifier, FLOAT_VECTOR) as output,
    ):
        for key, matrix in matrices:
            output.write(key, matrix.sum(axis=0, dtype=np.float64).astype(np.float32))
            num_done += 1
            num_rows += len(matrix)
    return num_done, num_rows


def sum_tables(
    rspecifiers: Sequence[str], wspecifier: str, holder: Holder, scales: Sequence[float]
) -> tuple[int, int]:
    """Write for every key of the first table the sum over tables, each times its scale.

    holder: reads and writes vectors or matrices.

    Returns:
        The numbers of keys, and of summands that were missing or of another dimension.
    """
    num_done = num_missing = 0
    with ExitStack() as stack:
        first = stack.enter_context(sequential_table(rspecifiers[0], holder))
        others = [
            stack.enter_context(random_access_table(rspecifier, holder))
            for rspecifier in rspecifiers[1:]
        ]
        output = stack.enter_context(table_writer(wspecifier, holder))
        for key, summand in first:
            total = scales[0] * summand.astype(np.float64)
            for rspecifier, other, scale in zip(rspecifiers[1:], others, scales[1:], strict=True):
                addend = other.get(key)
                if addend is None or addend.shape != total.shape:
                    log.warning("none of dimension %s: %s, %s", size(total), key, rspecifier)
                    num_missing += 1
                else:
                    total += scale * addend
            output.write(key, total.astype(np.float32))
            num_done += 1
    return num_done, num_missing


def sum_table(rspecifier: str, holder: Holder) -> tuple[np.ndarray, int, int]:
    """Sum a table's vectors or matrices; also counts them, and those of wrong dimension.

    Raises:
        NgtrainError: there are none.
    """
    total = None
    num_done = num_errors = 0
    with sequential_table(rspecifier, holder) as entries:
        for key, summand in entries:
            if total is None and summand.size:
                total = np.zeros(summand.shape)
            if total is None or summand.shape != total.shape:
                log.warning("dimension %s for key %s", size(summand), key)
                num_errors += 1
                continue
            total += summand
            num_done += 1
    if total is None:
        raise NgtrainError(f"nothing to sum in {rspecifier}")
    return total, num_done, num_errors


def sum_files(rxfilenames: Sequence[str], holder: Holder) -> np.ndarray:
    """Sum vectors or matrices in files; smaller ones are padded with zeros."""
    if not rxfilenames:
        raise NgtrainError("no files to sum were given")
    summands = [read_object(name, holder.parse) for name in rxfilenames]
    total = np.zeros(np.max([summand.shape for summand in summands], axis=0))
    for summand in summands:
        total[tuple(map(slice, summand.shape))] += summand
    return total


def size(array: np.ndarray) -> str:
    """Say the dimension of a vector, or rows by columns of a matrix."""
    return " by ".join(map(str, array.shape))
