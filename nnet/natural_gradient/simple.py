"""The simple natural gradient: a row's Fisher matrix is estimated from the rest of its minibatch.

Let the rows x_n of X (N by D) be the inputs, or the output derivatives, of a weight matrix for one
minibatch.  Row n is multiplied by the inverse of the smoothed scatter of the other rows,

    x_hat_n = ( lambda I + 1/(N-1) sum_{m != n} x_m x_m^T )^{-1} x_n,                          (1)
    lambda  = alpha/(N D) tr(X X^T),                                                           (2)

leaving out x_n itself lest a large row reduce itself, which would bias the gradient.  Afterwards
all rows are scaled by one factor so that the Frobenius norm is that of X.

Dividing (1) by lambda, which that scaling undoes, and writing mu = 1/((N-1) lambda), the inverse
without row n follows from the inverse with all rows by the formula of Sherman and Morrison:

    q_n     = (I + mu X^T X)^{-1} x_n                                                          (3)
    x_hat_n = q_n / (1 - mu x_n^T q_n)                                                         (4)

A D by D matrix is inverted in (3).  Where N < D it is cheaper to move the inverse to the other
side of X: with S = (I + mu X X^T)^{-1}, which is N by N, Q = S X and 1 - mu x_n^T q_n = s_nn, so

    X_hat = diag(S)^{-1} S X.                                                                  (5)

Everything inverted here is dimensionless and at least I, whatever the scale of X.

Source: Povey, Zhang, Khudanpur (arXiv 1410.7455), the simple method; Kaldi's
nnet2/nnet-precondition.h (PreconditionDirectionsAlphaRescaled), whose gamma_n/(N-1) is
mu x_n^T q_n here, and whose beta_n is 1/(1 - mu x_n^T q_n).
"""

from __future__ import annotations

import logging
import math
from types import ModuleType

import numpy as np

from nnet.backend import Array, Workspace, array_module, row_dots
from nnet.errors import NgtrainError
from nnet.natural_gradient.norms import norm_ratio

logger = logging.getLogger("ngtrain")


class SimplePreconditioner:
    """Preconditions every minibatch with its own scatter; keeps nothing but workspaces.

    alpha: smoothing with the unit matrix (2).  Raises NgtrainError where it is not positive.
    """

    def __init__(self, alpha: float = 0.1):
        if not 0.0 < alpha < math.inf:
            raise NgtrainError(f"simple preconditioner: alpha must be positive, not {alpha}")
        self.alpha = alpha
        self._workspace = Workspace()

    def precondition(self, X: Array, row_products: Array | None = None) -> Array:
        """Replace the rows of X by (4) or (5), which are those of (1) times lambda.

        X: (N, D) array, overwritten.
        row_products: (N,) array, overwritten by the squared norms of the new rows.
        Returns the scale with which the new rows have the Frobenius norm of X, as a 0-dimensional
        array on the device of X; whoever uses them multiplies by it.
        """
        xp = array_module(X)
        N, D = X.shape
        if row_products is None:
            row_products = self._workspace.array("row_products", (N,), X)
        X64 = self._workspace.array("X64", (N, D), X, np.float64)
        X64[...] = X
        tr = xp.vdot(X64, X64)
        if N == 1:
            logger.warning("The simple preconditioner leaves a minibatch of one row unchanged.")
        else:
            mu = N * D / ((N - 1) * self.alpha * xp.where(tr > 0.0, tr, 1.0))  # any, if X = 0
            X_hat = self._workspace.array("X_hat", (N, D), X)
            if N < D:  # (5)
                S = _inverse(xp, X64 @ X64.T, mu)
                S /= xp.diag(S)[:, np.newaxis]
                xp.matmul(S.astype(X.dtype), X, out=X_hat)
            else:  # (3), (4)
                xp.matmul(X, _inverse(xp, X64.T @ X64, mu).astype(X.dtype), out=X_hat)
                X_hat /= 1.0 - mu * xp.einsum("nd,nd->n", X64, X_hat)[:, np.newaxis]
            X[...] = X_hat
        row_dots(X, X, out=row_products)
        return norm_ratio(tr, row_products.sum(dtype=np.float64)).astype(X.dtype)


def _inverse(xp: ModuleType, scatter: Array, mu: Array) -> Array:
    """(I + mu scatter)^{-1}; overwrites scatter."""
    scatter *= mu
    scatter += xp.eye(len(scatter))
    return xp.linalg.inv(scatter)
