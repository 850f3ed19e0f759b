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
side of X: with G = X X^T and S = (I + mu G)^{-1}, which are N by N, Q = S X and
1 - mu x_n^T q_n = s_nn, so

    X_hat = T X,  T = diag(S)^{-1} S.                                                          (5)

The rows of X_hat need not be formed to know their norms, because mu G S = I - S:

    ||x_hat_n||^2 = (S G S)_nn / s_nn^2 = (s_nn - sum_m s_nm^2) / (mu s_nn^2),                 (6)

nor to form the gradient, X_hat^T Y = X^T (T^T Y), in which Y has as many columns as the weight
matrix has inputs, but X as many as it has outputs.

With a very large alpha, UNIT_ALPHA, X_hat is X: mu G is at most D/alpha, and the scatter does not
count.  What remains is the plain gradient, to which the limit on the change applies.

Everything inverted here is dimensionless and at least I, whatever the scale of X.

Source: Povey, Zhang, Khudanpur (arXiv 1410.7455), the simple method; Kaldi's
nnet2/nnet-precondition.h (PreconditionDirectionsAlphaRescaled), whose gamma_n/(N-1) is
mu x_n^T q_n here, and whose beta_n is 1/(1 - mu x_n^T q_n).
"""

from __future__ import annotations

import logging
import math

import numpy as np

from nnet.device import blas
from nnet.device.device import CPU, Array, Device, Workspace
from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

UNIT_ALPHA = 1e7
"""The alpha with which the preconditioner is the unit matrix, for any dimension of a layer."""


class SimplePreconditioner:
    """The preconditioner of a minibatch by its own scatter; keeps nothing but workspaces.

    Args:
        alpha: smoothing with the unit matrix (2).
        device: where the data is.

    Raises:
        NgtrainError: alpha is not positive.
    """

    cycle_length = 1
    """The minibatches after which it does the same again."""

    def __init__(self, alpha: float = 0.1, device: Device = CPU):
        if not 0.0 < alpha < math.inf:
            raise NgtrainError(f"simple preconditioner: alpha must be positive, not {alpha}")
        self.alpha = alpha
        self.device = device
        self._workspace = Workspace()

    def precondition(self, X: Array, squared_norms: Array | None = None) -> Array:
        """Replace the rows of X by (4) or (5), which are those of (1) times lambda.

        Arguments and result are those of OnlinePreconditioner.precondition().
        """
        if squared_norms is None:
            squared_norms = self._workspace.array("squared_norms", (len(X),), X)
        return self.precondition_product(X, None, squared_norms)[0]

    def precondition_product(
        self, X: Array, Y: Array | None, squared_norms: Array
    ) -> tuple[Array, int]:
        """Change Y, if D is the largest of dimensions, else X, so that X^T Y becomes X_hat^T Y.

        Arguments and result are those of OnlinePreconditioner.precondition_product().
        """
        (N, D), scratch, device = X.shape, self._workspace.array, self.device
        norms, mu = scratch("norms", (N,), X), scratch("mu", (), X, np.float64)
        device.row_dots(X, X, out=norms)
        n = min(N, D)  # (I + mu X X^T)^{-1} if N < D, else (I + mu X^T X)^{-1}, in float64
        if N > 1:
            scatter = scratch("scatter", (n, n), X)
            device.gram(X if N < D else X.T, out=scatter)
            inverse = device.smoothed_inverse or smoothed_inverse
            S = inverse(scatter, norms, D, self.alpha, mu, self._workspace)
            S_or_T = scratch("S or T", (n, n), X)
        if N == 1:
            log.warning("The simple preconditioner leaves a minibatch of one row unchanged.")
            squared_norms[...] = norms
        elif N >= D:
            S_or_T[...] = S
            Q = device.matmul(X, S_or_T, out=scratch("product", X.shape, X))  # (3)
            (device.leave_rows_out or leave_rows_out)(X, Q, mu, squared_norms)  # (4)
        else:
            (device.leave_one_out or leave_one_out)(S, mu, S_or_T, squared_norms)  # (5), (6)
            if Y is not None and Y.shape[1] < D:
                Y[...] = device.matmul(S_or_T.T, Y, out=scratch("product", Y.shape, Y))
            else:
                X[...] = device.matmul(S_or_T, X, out=scratch("product", X.shape, X))
                device.row_dots(X, X, out=squared_norms)
        tr, gamma = scratch("tr", (), X, np.float64), scratch("gamma", (), X)
        device.norm_ratio(norms, squared_norms, tr, gamma)
        return gamma, N


def smoothed_inverse(
    scatter: Array, norms: Array, D: int, alpha: float, mu: Array, workspace: Workspace
) -> Array:
    """Compute (I + mu `scatter`)^{-1}, in float64.

    Args:
        scatter: X X^T or X^T X, of which the upper triangle is read.
        norms: squared norms of the rows of X (N, D), (N,).
        mu: set to that of (3), float64 and 0-dimensional; any, where X = 0.
    """
    N, tr = len(norms), norms.sum(dtype=np.float64)
    mu[...] = N * D / ((N - 1) * alpha * (tr if tr > 0.0 else 1.0))
    A = mu * np.triu(scatter)
    A[np.diag_indices(len(A))] += 1.0
    return blas.inverse(A)


def leave_one_out(S: Array, mu: Array, T: Array, squared_norms: Array) -> None:
    """Compute T (5), and the squared norms (6), which roundoff could make negative."""
    s = np.diag(S)
    np.divide(S, s[:, np.newaxis], out=T, casting="same_kind")
    left = s - np.einsum("nm,nm->n", S, S)
    squared_norms[...] = np.maximum(left, 0.0) / (mu * s * s)


def leave_rows_out(X: Array, Q: Array, mu: Array, squared_norms: Array) -> None:
    """Overwrite X by (4), and `squared_norms` by the squared norms of its new rows."""
    CPU.row_dots(X, Q, out=squared_norms)  # x_n^T q_n
    np.divide(Q, 1.0 - mu * squared_norms[:, np.newaxis], out=X, casting="same_kind")
    CPU.row_dots(X, X, out=squared_norms)
