"""Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method, without the host."""

from __future__ import annotations

import numpy as np

from nnet.device.cuda.kernels import launch
from nnet.device.device import Array, Workspace

MAX_SWEEPS = 15
MAX_IN_SHARED_MEMORY = 160  # rows; that takes 223 of the 227 KiB that a block may have
_COLUMNS_PER_BLOCK, _DAYS_AT_A_TIME = 2, 16


def eigenvalues(Z: Array, c: Array, workspace: Workspace) -> None:
    """Set `c` (n,) to the eigenvalues of Z (n, n), largest first, or NaN if Z is not finite.

    Both are float64; the upper triangle of Z is read.
    """
    n = len(Z)
    m = n + n % 2
    size = m * (m + 2) + -(-m * (m + 2) // 16)  # a matrix and more, and pairs of half its size
    fits = n <= MAX_IN_SHARED_MEMORY
    memory = None if fits else workspace.array("matrix", (size,), Z)
    threads = _whole_warps(m * m // 16, 512)  # two meetings for each
    args = Z, memory, n, MAX_SWEEPS, c, *_rotations(c, workspace)
    launch("jacobi", 1, threads, *args, shared=8 * size if fits else 0)


def eigenvectors(out: Array, scales: Array, workspace: Workspace) -> None:
    """Set row i of `out`, (n, n), to scales[i] times the eigenvector of c[i].

    The matrix is that of the last call of eigenvalues() with this workspace.
    """
    n = len(out)
    blocks, m = -(-n // _COLUMNS_PER_BLOCK), n + n % 2
    args = *_rotations(scales, workspace), scales, n, _COLUMNS_PER_BLOCK, _DAYS_AT_A_TIME, out
    threads = _whole_warps(_COLUMNS_PER_BLOCK * m // 2, 512)
    shared = 8 * m * (_COLUMNS_PER_BLOCK + _DAYS_AT_A_TIME)
    launch("eigenvectors", blocks, threads, *args, shared=shared)


def _whole_warps(threads: int, most: int) -> int:
    return min(-(-max(threads, 1) // 32) * 32, most)


def _rotations(like: Array, workspace: Workspace) -> tuple[Array, Array, Array]:
    """Return memory that eigenvalues() fills for eigenvectors(): order, rotations, their number."""
    n = len(like)
    m = n + n % 2
    order = workspace.array("order", (n,), like, np.int32)
    rotations = workspace.array("rotations", (MAX_SWEEPS * (m - 1), m), like)
    return order, rotations, workspace.array("num_steps", (), like, np.int32)
