"""Symmetric matrices by their lower triangles, row by row, as Kaldi's SpMatrix stores them.

Many of them are the rows of one matrix, so that sums of them with weights are a product.
"""

from __future__ import annotations

import numpy as np


def packed(matrices: np.ndarray) -> np.ndarray:
    """Take the lower triangles of symmetric matrices (..., N, N); (..., N (N + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def unpacked(triangles: np.ndarray) -> np.ndarray:
    """Make symmetric matrices (..., N, N) of their lower triangles (..., N (N + 1) / 2)."""
    size = (int(np.sqrt(8 * triangles.shape[-1] + 1)) - 1) // 2
    rows, columns = np.tril_indices(size)
    matrices = np.empty((*triangles.shape[:-1], size, size), triangles.dtype)
    matrices[..., rows, columns] = triangles
    matrices[..., columns, rows] = triangles
    return matrices


def size_of_triangle(size: int) -> int:
    """Count the elements of the lower triangle of a matrix of N rows."""
    return size * (size + 1) // 2
