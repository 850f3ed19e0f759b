"""The online estimate of a Fisher matrix on the device: norms and updates without the host.

The equations are those of nnet.natural_gradient.online, where the symbols are explained.
"""

from __future__ import annotations

import numpy as np

from nnet.backend import Array
from nnet.cuda.eigh import Eigensolver
from nnet.cuda.kernels import THREADS, launch


def row_norms(
    X: Array, is_X_hat: bool, H: Array, e: Array, products: Array, hat_products: Array
) -> None:
    """Squared norms of the rows of X_t, into `products`, and of X_hat_t, into `hat_products`.

    X: X_hat_t if `is_X_hat`, else X_t, (N, D); H: H_t (4).  The norms are (N,).
    """
    args = X, int(is_X_hat), H, e, products, hat_products, X.shape[1], H.shape[1]
    launch("row_norms", len(X), THREADS, *args, dtype=X.dtype)


def norm_ratio(products: Array, hat_products: Array, tr: Array, gamma: Array) -> None:
    """tr(X_t X_t^T), float64, and gamma_t (6), each one element, from what row_norms() gave."""
    args = products, hat_products, len(products), tr, gamma
    launch("norm_ratio", 1, THREADS, *args, dtype=gamma.dtype)


class FisherUpdate:
    """Updates an estimate of dimension D and rank R; holds the scratch memory for that.

    status (3,) int32: see next_estimate in online.cu; status[2] counts the minibatches that were
    not learnt from because something in them was not finite.
    """

    def __init__(self, R: int, D: int):
        import cupy

        self.status = cupy.zeros(3, np.int32)
        self._Y = cupy.empty((R, D), np.float64)
        self._R_next = cupy.empty((R, D), np.float64)
        self._Z = cupy.empty((R, R), np.float64)
        self._U = cupy.empty((R, R), np.float64)
        self._inverse_roots = cupy.empty(R, np.float64)
        self._dots = cupy.empty(R, np.float64)
        self._eigensolver = Eigensolver(R)

    def __call__(
        self,
        W: Array,
        d: Array,
        e: Array,
        rho: Array,
        J: Array,
        tr: Array,
        *,
        N: int,
        eta: float,
        alpha: float,
        epsilon: float,
        delta: float,
        max_condition: float,
    ) -> None:
        """Overwrite W_t, d_t, e_t, rho_t by those at t + 1, from J_t (10) and tr(X_t X_t^T).

        W and J are in the precision of the data, the others in float64.
        """
        (R, D), dtype = W.shape, W.dtype
        args = J, W, d, e, rho, self._Y, D, N, eta
        launch("power_step", R, THREADS, *args, dtype=dtype)  # (11)
        _matmul(self._Y, self._Y.T, out=self._Z)
        self._eigensolver.solve(self._Z)  # (12)
        args = self._eigensolver.values, tr, d, e, rho, self._inverse_roots, self.status
        args = *args, R, D, N, eta, alpha, epsilon, delta, max_condition
        launch("next_estimate", 1, THREADS, *args, dtype=dtype)  # (14), (2), (3)
        self._eigensolver.vectors(self._inverse_roots, out=self._U)
        _matmul(self._U, self._Y, out=self._R_next)  # (13)
        args = self._R_next, self._dots, self.status, R, D
        launch("orthonormalise", 1, 1024, *args, dtype=dtype)
        launch("next_W", R, THREADS, self._R_next, e, self.status, W, D, dtype=dtype)


def _matmul(a: Array, b: Array, out: Array) -> None:
    import cupy.cublas

    cupy.cublas.gemm("N", "N", a, b, out=out)
