"""Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method, without the host."""

from __future__ import annotations

import numpy as np

from nnet.backend import Array, Workspace
from nnet.cuda.kernels import launch

MAX_SWEEPS = 15
MAX_IN_SHARED_MEMORY = 160  # rows; that takes 202 of the 227 KiB that a block may have
_COLUMNS_PER_BLOCK = 8


def eigenvalues(Z: Array, c: Array, workspace: Workspace) -> None:
    """Set `c` (n,) to the eigenvalues of Z (n, n), largest first, or NaN if Z is not finite.

    Both are float64; the upper triangle of Z is read.
    """
    n = len(Z)
    m = n + n % 2
    fits = n <= MAX_IN_SHARED_MEMORY
    matrix = None if fits else workspace.array("matrix", (m, m), Z)
    shared = 8 * (m + m * m if fits else m)
    launch("jacobi", 1, 1024, Z, matrix, n, MAX_SWEEPS, c, *_rotations(c, workspace), shared=shared)


def eigenvectors(out: Array, scales: Array, workspace: Workspace) -> None:
    """Set row i of `out`, (n, n), to scales[i] times the eigenvector of c[i].

    The matrix is that of the last call of eigenvalues() with this workspace.
    """
    n = len(out)
    blocks, shared = -(-n // _COLUMNS_PER_BLOCK), 8 * (n + n % 2) * _COLUMNS_PER_BLOCK
    args = *_rotations(scales, workspace), scales, n, _COLUMNS_PER_BLOCK, out
    launch("eigenvectors", blocks, 512, *args, shared=shared)


def _rotations(like: Array, workspace: Workspace) -> tuple[Array, Array, Array]:
    """What eigenvalues() leaves for eigenvectors(): order, rotations and number of steps."""
    n = len(like)
    m = n + n % 2
    order = workspace.array("order", (n,), like, np.int32)
    rotations = workspace.array("rotations", (MAX_SWEEPS * (m - 1), m), like)
    return order, rotations, workspace.array("num_steps", (), like, np.int32)
