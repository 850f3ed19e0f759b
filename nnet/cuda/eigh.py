"""Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method, without the host."""

from __future__ import annotations

import numpy as np

from nnet.backend import Array
from nnet.cuda.kernels import launch

MAX_SWEEPS = 15
MAX_IN_SHARED_MEMORY = 160  # rows; that takes 202 of the 227 KiB that a block may have
_COLUMNS_PER_BLOCK = 8


class Eigensolver:
    """Finds the eigenvalues of matrices (n, n) of float64, and then their eigenvectors.

    values (n,): of the last matrix, largest first; NaN where it was not finite.
    """

    def __init__(self, n: int):
        import cupy

        self.n = n
        self.values = cupy.empty(n, np.float64)
        m = n + n % 2
        self._order = cupy.empty(n, np.int32)
        self._rotations = cupy.empty((MAX_SWEEPS * (m - 1), m), np.float64)
        self._num_steps = cupy.empty((), np.int32)
        fits = n <= MAX_IN_SHARED_MEMORY
        self._workspace = None if fits else cupy.empty((m, m), np.float64)
        self._shared = 8 * (m + m * m if fits else m)
        self._shared_for_vectors = 8 * m * _COLUMNS_PER_BLOCK

    def solve(self, Z: Array) -> None:
        """Find the eigenvalues of Z, of which the upper triangle is read."""
        args = Z, self._workspace, self.n, MAX_SWEEPS, self.values
        args = *args, self._order, self._rotations, self._num_steps
        launch("jacobi", 1, 1024, *args, shared=self._shared)

    def vectors(self, scales: Array, out: Array) -> None:
        """Set row i of `out`, (n, n), to scales[i] times the eigenvector of values[i]."""
        blocks = -(-self.n // _COLUMNS_PER_BLOCK)
        args = self._rotations, self._num_steps, self._order, scales
        args = *args, self.n, _COLUMNS_PER_BLOCK, out
        launch("eigenvectors", blocks, 512, *args, shared=self._shared_for_vectors)
