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

Everything inverted here is dimensionless and at least I, whatever the scale of X.

Source: Povey, Zhang, Khudanpur (arXiv 1410.7455), the simple method; Kaldi's
nnet2/nnet-precondition.h (PreconditionDirectionsAlphaRescaled), whose gamma_n/(N-1) is
mu x_n^T q_n here, and whose beta_n is 1/(1 - mu x_n^T q_n).
"""

from __future__ import annotations

import logging
import math

import numpy as np

from nnet.backend import Array, Workspace, array_module, gram, inverse, matmul, row_dots
from nnet.errors import NgtrainError
from nnet.natural_gradient.norms import scale_to_norm

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

    def spare_rows(self, N: int, D: int, M: int) -> int:
        """Rows that precondition_product() needs behind those of X and Y: none."""
        return 0

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
        row_dots(X, X, out=row_products)
        if N == 1:
            return self._one_row(X)
        tr = row_products.sum(dtype=np.float64)
        mu = self._mu(tr, N, D)
        if N < D:
            S = self._inverse(X, mu)
            X[...] = self._product(S / xp.diag(S)[:, np.newaxis], X)  # (5)
        else:
            Q = self._product(X, self._inverse(X.T, mu))  # (3)
            x_dot_q = self._workspace.array("x_dot_q", (N,), X)
            row_dots(X, Q, out=x_dot_q)
            xp.divide(Q, 1.0 - mu * x_dot_q[:, np.newaxis], out=X, casting="same_kind")  # (4)
        row_dots(X, X, out=row_products)
        return scale_to_norm(tr, row_products.sum(dtype=np.float64)).astype(X.dtype)

    def precondition_product(self, X: Array, Y: Array, row_products: Array) -> Array:
        """Change Y so that X^T Y becomes X_hat^T Y, where X_hat is what precondition() makes of X.

        X: (N, D) array, Y: (N, M) array, one of which is overwritten: Y if D is the largest of all.
        row_products: (N,) array, overwritten by the squared norms of the rows of X_hat.
        Returns the scale that precondition() returns.
        """
        xp = array_module(X)
        N, D = X.shape
        if max(N, Y.shape[1]) >= D or N == 1:
            return self.precondition(X, row_products)
        row_dots(X, X, out=row_products)
        tr = row_products.sum(dtype=np.float64)
        mu = self._mu(tr, N, D)
        S = self._inverse(X, mu)
        s = xp.diag(S)
        row_products[...] = (s - xp.einsum("nm,nm->n", S, S)) / (mu * s * s)  # (6)
        Y[...] = self._product(S / s, Y)  # T^T = S diag(S)^{-1}
        return scale_to_norm(tr, row_products.sum(dtype=np.float64)).astype(X.dtype)

    def _one_row(self, X: Array) -> Array:
        logger.warning("The simple preconditioner leaves a minibatch of one row unchanged.")
        return array_module(X).ones((), X.dtype)

    def _mu(self, tr: Array, N: int, D: int) -> Array:
        """The mu of (3); any, where X = 0."""
        return N * D / ((N - 1) * self.alpha * array_module(tr).where(tr > 0.0, tr, 1.0))

    def _inverse(self, X: Array, mu: Array) -> Array:
        """(I + mu X X^T)^{-1}, in float64."""
        xp = array_module(X)
        scatter = self._workspace.array("scatter", (len(X), len(X)), X)
        A = mu * xp.triu(gram(X, out=scatter))
        A[xp.diag_indices(len(X))] += 1.0
        return inverse(A)

    def _product(self, A: Array, B: Array) -> Array:
        """A B in float32 (the data's precision), though one of them is float64."""
        dtype = min(A.dtype, B.dtype)
        product = self._workspace.array("product", (len(A), B.shape[1]), B, dtype)
        return matmul(A.astype(dtype, copy=False), B.astype(dtype, copy=False), out=product)
