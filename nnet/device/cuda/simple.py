"""The simple natural gradient on the device, without the host.

These are the counterparts, by name, of functions of nnet.natural_gradient.simple, where the
equations stand.
"""

from __future__ import annotations

from nnet.device.backend import Array, Workspace, add_matmul
from nnet.device.cuda.kernels import THREADS, launch

_BLOCK = 32  # rows, the SIZE of simple.cu


def smoothed_inverse(
    scatter: Array, norms: Array, D: int, alpha: float, mu: Array, workspace: Workspace
) -> Array:
    n, N, dtype = len(scatter), len(norms), scatter.dtype
    A = workspace.array("A", (n, n), mu)
    factor = N * D / ((N - 1) * alpha)
    launch("smooth", n, THREADS, scatter, norms, N, n, factor, A, mu, dtype=dtype)
    for begin in range(0, n, _BLOCK):
        size = min(_BLOCK, n - begin)
        column = workspace.array("column", (n, size), mu)
        row = workspace.array("row", (size, n), mu)
        P = workspace.array("P", (size, size), mu)
        launch("eliminate", -(-n // _BLOCK), 2 * _BLOCK, A, n, begin, size, P, column, row)
        launch("exchange", size, THREADS, A, n, begin, size, P, row)
        add_matmul(column, row, out=A)
    return A


def leave_one_out(S: Array, mu: Array, T: Array, row_products: Array) -> None:
    n = len(S)
    launch("leave_one_out", n, THREADS, S, mu, n, T, row_products, dtype=T.dtype)


def leave_rows_out(X: Array, Q: Array, mu: Array, row_products: Array) -> None:
    N, D = X.shape
    launch("leave_rows_out", N, THREADS, X, Q, mu, D, row_products, dtype=X.dtype)
