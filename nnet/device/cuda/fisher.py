"""The equations of the natural gradient on the device: norms, updates, inverses without the host.

The methods are counterparts, by name, of functions of nnet.natural_gradient.online and simple,
where the equations stand.
"""

from __future__ import annotations

import numpy as np

from nnet.device.cuda import eigh
from nnet.device.cuda.kernels import THREADS, launch
from nnet.device.device import Array, Device, Workspace

_BLOCK = 32  # rows, the SIZE of simple.cu

Estimate = tuple[Array, Array, Array, Array]


class FisherKernels(Device):
    """The methods of a device that deal with Fisher matrices, by kernels."""

    def norm_ratio(self, norms: Array, hat_norms: Array, tr: Array, gamma: Array) -> None:
        args = norms, hat_norms, len(norms), tr, gamma
        launch("norm_ratio", 1, THREADS, *args, dtype=gamma.dtype)

    def row_norms(
        self, X: Array, is_X_hat: bool, H: Array, e: Array, norms: Array, hat_norms: Array
    ) -> None:
        args = X, int(is_X_hat), H, e, norms, hat_norms, X.shape[1], H.shape[1]
        launch("row_norms", len(X), THREADS, *args, dtype=X.dtype)

    def update_estimate(
        self,
        J: Array,
        estimate: Estimate,
        updated: Estimate,
        tr: Array,
        N: int,
        constants: tuple[float, ...],
        workspace: Workspace,
    ) -> None:
        W, d, e, rho = estimate
        next_W, *next_spectrum = updated
        (R, D), dtype = W.shape, W.dtype
        Y, R_next = (workspace.array(name, (R, D), W, np.float64) for name in ("Y", "R_next"))
        Z, U = (workspace.array(name, (R, R), Y) for name in ("Z", "U"))
        c, inverse_roots, dots = (workspace.array(name, (R,), Y) for name in ("c", "roots", "dots"))
        status = workspace.array("status", (2,), Y, np.int32)

        args = J, W, d, e, rho, Y, D, N, constants[0]
        launch("power_step", R, THREADS, *args, dtype=dtype)  # (11)
        self.matmul(Y, Y.T, out=Z)
        eigh.eigenvalues(Z, c, workspace)  # (12)
        args = c, tr, d, rho, *next_spectrum, inverse_roots, status, R, D, N
        launch("next_estimate", 1, THREADS, *args, *constants, dtype=dtype)  # (14), (2), (3)
        eigh.eigenvectors(U, inverse_roots, workspace)
        self.matmul(U, Y, out=R_next)  # (13)
        launch("orthonormalise", 1, 1024, R_next, dots, status, R, D, dtype=dtype)
        launch("next_W", R, THREADS, R_next, next_spectrum[1], status, next_W, D, dtype=dtype)

    def smoothed_inverse(
        self, scatter: Array, norms: Array, D: int, alpha: float, mu: Array, workspace: Workspace
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
            self.add_matmul(column, row, out=A)
        return A

    def leave_one_out(self, S: Array, mu: Array, T: Array, squared_norms: Array) -> None:
        n = len(S)
        launch("leave_one_out", n, THREADS, S, mu, n, T, squared_norms, dtype=T.dtype)

    def leave_rows_out(self, X: Array, Q: Array, mu: Array, squared_norms: Array) -> None:
        N, D = X.shape
        launch("leave_rows_out", N, THREADS, X, Q, mu, D, squared_norms, dtype=X.dtype)
