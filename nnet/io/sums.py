"""Sums of vectors, in float64 (Kaldi bin/vector-sum.cc, bin/matrix-sum-rows.cc)."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.random_access import random_access_table
from nnet.io.tables import FLOAT_MATRIX, FLOAT_VECTOR, sequential_table, table_writer
from nnet.io.tokens import read_object

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


def sum_tables(rspecifiers: Sequence[str], wspecifier: str) -> tuple[int, int]:
    """Write for every key of the first table the sum over tables.

    Returns:
        The numbers of keys, and of vectors that were missing or of another dimension.
    """
    num_done = num_missing = 0
    with ExitStack() as stack:
        first = stack.enter_context(sequential_table(rspecifiers[0], FLOAT_VECTOR))
        others = [
            stack.enter_context(random_access_table(rspecifier, FLOAT_VECTOR))
            for rspecifier in rspecifiers[1:]
        ]
        output = stack.enter_context(table_writer(wspecifier, FLOAT_VECTOR))
        for key, vector in first:
            total = vector.astype(np.float64)
            for rspecifier, other in zip(rspecifiers[1:], others, strict=True):
                addend = other.get(key)
                if addend is None or len(addend) != len(total):
                    log.warning("no vector of dimension %d: %s, %s", len(total), key, rspecifier)
                    num_missing += 1
                else:
                    total += addend
            output.write(key, total.astype(np.float32))
            num_done += 1
    return num_done, num_missing


def sum_table(rspecifier: str, average: bool) -> tuple[np.ndarray, int, int]:
    """Sum or average a table's vectors; also counts them, and those of wrong dimension.

    Raises:
        NgtrainError: there are none.
    """
    total = None
    num_done = num_errors = 0
    with sequential_table(rspecifier, FLOAT_VECTOR) as entries:
        for key, vector in entries:
            if total is None and len(vector):
                total = np.zeros(len(vector))
            if total is None or len(vector) != len(total):
                log.warning("vector of dimension %d for key %s", len(vector), key)
                num_errors += 1
                continue
            total += vector
            num_done += 1
    if total is None:
        raise NgtrainError(f"no vectors in {rspecifier}")
    return (total / (num_done if average else 1)).astype(np.float32), num_done, num_errors


def sum_files(rxfilenames: Sequence[str]) -> np.ndarray:
    """Sum vectors in files; shorter ones are padded with zeros."""
    if not rxfilenames:
        raise NgtrainError("no vectors were given")
    vectors = [read_object(name, FLOAT_VECTOR.parse) for name in rxfilenames]
    total = np.zeros(max(map(len, vectors)))
    for vector in vectors:
        total[: len(vector)] += vector
    return total.astype(np.float32)
