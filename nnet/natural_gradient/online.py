"""The online natural gradient: a running, low-rank estimate of the Fisher matrix, and its inverse.

The update of a weight matrix is a sum over the N frames of a minibatch of outer products of two
vectors, an input and an output derivative.  Each of the two kinds has an ``OnlinePreconditioner``,
which sees the minibatch as the rows of X_t (N by D) and replaces every row by its product with the
inverse of a smoothed Fisher matrix, up to an overall scale.

Symbols: t counts minibatches, N is the minibatch size, D the dimension, R the rank (R < D); R_t is
R by D with orthonormal rows, D_t > 0 and E_t are diagonal, rho_t and beta_t are positive scalars.

The Fisher matrix and its inverse
    The estimate is a low-rank matrix plus a multiple of the unit matrix,

        F_t = R_t^T D_t R_t + rho_t I                                                           (1)

    and what is inverted is smoothed further, in proportion to its mean eigenvalue:

        G_t = F_t + (alpha/D) tr(F_t) I = R_t^T D_t R_t + beta_t I
        beta_t = rho_t (1 + alpha) + (alpha/D) tr(D_t)                                          (2)

    By Woodbury's identity,

        beta_t G_t^{-1} = I - R_t^T E_t R_t,  e_i = 1/(beta_t/d_i + 1)                          (3)

    so that, if what is kept is W_t = E_t^{1/2} R_t, a minibatch costs two thin products:

        H_t     = X_t W_t^T                                       (N by R)                      (4)
        X_hat_t = beta_t X_t G_t^{-1} = X_t - H_t W_t             (N by D)                      (5)

    The factor beta_t does not matter because the result is rescaled to the norm of what came in:

        gamma_t = sqrt( tr(X_t X_t^T) / tr(X_hat_t X_hat_t^T) )                                 (6)
        tr(X_t X_t^T) = tr(X_hat_t X_hat_t^T) + sum_i (2 - e_i) ||column i of H_t||^2           (7)

    where (7) follows from (5) and W_t W_t^T = E_t, and saves a pass over X_t.

The product without X_hat_t
    Of the two sides of a gradient X_hat_t^T Y only one, Y, has to be preconditioned row by row,

        X_hat_t^T Y = X_t^T Y - W_t^T H_t^T Y = [ X_t ; -W_t ]^T [ Y ; H_t^T Y ],               (8)

    which is one product, with N + R rows in place of N, and leaves X_t as it is.  That saves work
    where Y has fewer columns than rows.  The norms of the rows then follow as in (7),

        ||x_hat_n||^2 = ||x_n||^2 - sum_i (2 - e_i) h_ni^2.                                     (9)

The update of the estimate
    One step of the power method on the old estimate, mixed with the scatter of the new rows with
    the weight eta = 1 - exp(-N/num_samples_history):

        S_t = X_t^T X_t / N,   T_t = eta S_t + (1 - eta) F_t,   Y_t = R_t T_t
        J_t = H_t^T X_t                                           (R by D)                      (10)
        Y_t = E_t^{-1/2} ( (eta/N) J_t + (1 - eta) (D_t + rho_t I) W_t )                        (11)

    The rows of Y_t are roughly the top eigenvectors of T_t times their eigenvalues.  With

        Z_t = Y_t Y_t^T = U_t C_t U_t^T                           (R by R, eigenvalues sorted) (12)
        R_{t+1} = C_t^{-1/2} U_t^T Y_t                                                         (13)

    the new rows are orthonormal, and C_t^{1/2} estimates the eigenvalues of T_t that belong to
    them.  F_{t+1} is given those eigenvalues and the trace of T_t:

        tr(T_t)   = (eta/N) tr(X_t X_t^T) + (1 - eta) (D rho_t + tr(D_t))
        rho_{t+1} = (tr(T_t) - tr(C_t^{1/2})) / (D - R)                                        (14)
        D_{t+1}   = C_t^{1/2} - rho_{t+1} I

    both floored at max(epsilon, delta max C_t^{1/2}) to bound the condition number of F_{t+1}.

The start
    From a fixed orthonormal R_0 and rho_0 = D_0 = epsilon, three updates are made on the first
    minibatch before it is preconditioned.  The estimate is then updated on each of the first ten
    minibatches, later on every ``update_period``-th.

When an update takes effect
    With the next minibatch, as in Kaldi.  On a GPU, where an update goes on beside the minibatches
    after it and its chain of small operations takes as long as some of these, it takes effect when
    the next update is due: nothing waits for it, and it makes no difference in the first ten
    minibatches, or for a period of one.

Precision
    Everything that is N by D, and the terms of Y_t, are computed in the precision of X_t (float32).
    Z_t holds the squares of squared data, so all that follows from Y_t is float64: one R by R by D
    product to form Z_t and one to form R_{t+1}.  Because Z_t is computed from the very Y_t that
    (13) transforms, departures of R_t from orthonormality do not accumulate.  Only where the
    eigenvalues of Z_t span more than float64 resolves (at the start, when the rank exceeds that of
    the data, or when the scale of the data jumps) does (13) not give orthonormal rows; they are
    then orthonormalised from the first, which has the largest eigenvalue, to the last, as
    Gram-Schmidt would, but by Householder's reflections, which cannot fail.

Source: D. Povey, X. Zhang, S. Khudanpur, "Parallel training of DNNs with Natural Gradient and
Parameter Averaging" (arXiv 1410.7455), the online method; Kaldi's
nnet2/nnet-precondition-online.h, from which constants and the order of things are taken.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import numpy as np

from nnet.device.blas import eigh
from nnet.device.device import CPU, Array, Device, Workspace
from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

EPSILON = 1.0e-10  # absolute floor of rho_t and D_t: the estimate must not vanish with its data
DELTA = 5.0e-4  # the same relative to the largest eigenvalue
MAX_ETA = 0.9  # some of the old estimate always remains, whatever the minibatch size
NUM_INITIAL_ITERATIONS = 3  # updates on the first minibatch before it is preconditioned
NUM_INITIAL_UPDATES = 10  # minibatches on each of which the estimate is updated
MAX_CONDITION = 1.0e8  # of Z_t, up to which (13) is orthonormal to about 1e-6 in float64


class Estimate(NamedTuple):
    """The estimate of a Fisher matrix, on the device of the data.

    Attributes:
        W: E_t^{1/2} R_t, (R, D), in the precision of the data.
        d, e: the diagonals of D_t and E_t, (R,) float64.
        rho: rho_t, 0-dimensional float64.
    """

    W: Array
    d: Array
    e: Array
    rho: Array


class OnlinePreconditioner:
    """The online estimate of one Fisher matrix, and the product with its inverse.

    The dimension is that of the first minibatch.  ``copy.deepcopy`` gives an independent estimate.

    Args:
        rank: R, lowered to D - 1, with a warning, where it is not smaller than the dimension D.
        update_period: minibatches per update of the estimate, after the first ten.
        num_samples_history: time constant of the estimate, in rows; finite and positive.
        alpha: smoothing with the unit matrix (2); not negative.
        device: where the data is.

    Raises:
        NgtrainError: a parameter is out of its range.
    """

    def __init__(
        self,
        rank: int = 40,
        update_period: int = 1,
        num_samples_history: float = 2000.0,
        alpha: float = 4.0,
        device: Device = CPU,
    ):
        if rank < 1:
            raise NgtrainError(f"online preconditioner: rank must be positive, not {rank}")
        if update_period < 1:
            raise NgtrainError(
                f"online preconditioner: update-period must be positive, not {update_period}"
            )
        if not 0.0 < num_samples_history <= 1.0e6:
            raise NgtrainError(
                "online preconditioner: num-samples-history must be positive and at most 1e+06, "
                f"not {num_samples_history}"
            )
        if not 0.0 <= alpha < math.inf:
            raise NgtrainError(f"online preconditioner: alpha must not be negative, not {alpha}")
        self.rank = rank
        self.update_period = update_period
        self.num_samples_history = num_samples_history
        self.alpha = alpha
        self.device = device
        self.t = 0  # minibatches so far
        self.estimate: Estimate | None = None
        self.next_estimate: Estimate | None = None  # at t + 1, once _side_stream is done
        self._side_stream = device.side_stream()  # for updates
        self._workspace = Workspace()

    def precondition(self, X: Array, squared_norms: Array | None = None) -> Array:
        """Replace the rows of X by X_hat (5), and learn from them if an update is due.

        The domain is that of squared norms: ||X||^2 must be finite in the precision of X; where it
        is not, the estimate is left as it was.

        Args:
            X: (N, D) array, overwritten.
            squared_norms: (N,) array, overwritten by those of the rows of X_hat.

        Returns:
            gamma_t (6), the scale with which X_hat has the Frobenius norm of X, as a 0-dimensional
            array on the device of X.  Whoever uses X_hat multiplies by it; one scalar is cheaper
            than a pass over X.
        """
        if squared_norms is None:
            squared_norms = self._workspace.array("squared_norms", (len(X),), X)
        return self.precondition_product(X, None, squared_norms)[0]

    def precondition_product(
        self, X: Array, Y: Array | None, squared_norms: Array
    ) -> tuple[Array, int]:
        """Change X and Y so that X^T Y becomes X_hat^T Y, and learn from X if an update is due.

        By (8) if that costs less than (5), which is all that is done where Y is None.

        Args:
            X, Y: (N, D) and (N, M), in memory for R rows more; overwritten.
            squared_norms: (N,) array, overwritten by those of the rows of X_hat.

        Returns:
            gamma_t, as precondition() does, and the number of rows of X and Y now, N or N + R.
        """
        N, D = len(squared_norms), X.shape[1]
        device, scratch, rows = self.device, self._workspace.array, X[:N]
        gamma = scratch("gamma", (), X)
        if D == 1:  # scaled to the norm of X, every multiple of X is X
            device.row_dots(rows, rows, out=squared_norms)
            gamma.fill(1)
            return gamma, N
        is_due, is_product = self.due, Y is not None and Y.shape[1] < N
        if self.estimate is None:
            self._start(rows, squared_norms)
        elif is_due and device.overlaps:
            self._take_effect()
        W, _, e, _ = self.estimate
        R = len(W)

        H = device.matmul(rows, W.T, out=scratch("H", (N, R), X))  # (4)
        if is_due:
            J = device.matmul(H.T, rows, out=scratch("J", (R, D), X))  # (10)
        if is_product:  # (8)
            device.xp.negative(W, out=X[N : N + R])
            device.matmul(H.T, Y[:N], out=Y[N : N + R])
        else:
            device.add_matmul(H, W, out=rows, alpha=-1.0)  # (5)

        norms = scratch("norms", (N,), X)
        # An update reads its trace beside the next minibatches.
        tr = scratch("tr of update" if is_due else "tr", (), X, np.float64)
        (device.row_norms or row_norms)(rows, not is_product, H, e, norms, squared_norms)
        device.norm_ratio(norms, squared_norms, tr, gamma)  # (6)
        if is_due:
            with self._side_stream:
                self._update(J, tr, N)
            if not device.overlaps:
                self._take_effect()
        device.on_host(self._count_minibatch)
        return gamma, N + R if is_product else N

    @property
    def due(self) -> bool:
        """True if the estimate will be updated with the next minibatch."""
        since_initial = self.t - NUM_INITIAL_UPDATES + 1
        return since_initial <= 0 or since_initial % self.update_period == 0

    @property
    def cycle_length(self) -> int:
        """The minibatches after which it does the same again, if they begin now; else 0."""
        return self.update_period if self.due and self.t >= NUM_INITIAL_UPDATES else 0

    def _count_minibatch(self) -> None:
        self.t += 1

    def _start(self, X: Array, squared_norms: Array) -> None:
        """Begin with R_0, and make NUM_INITIAL_ITERATIONS updates with X."""
        xp, matmul, (N, D) = self.device.xp, self.device.matmul, X.shape
        if self.rank >= D:
            log.warning(
                "Rank %d of online preconditioner is >= dim %d, setting it to %d "
                "(but this is probably still too high)",
                *(self.rank, D, D - 1),
            )
            self.rank = D - 1
        R = self.rank
        d, e, rho = xp.full(R, EPSILON), xp.empty(R), xp.full((), EPSILON)
        set_e(d, rho, self.alpha, D, out=e)
        W = xp.asarray(_initial_R(R, D), X.dtype)
        W *= xp.sqrt(e)[:, np.newaxis].astype(X.dtype)
        self.estimate = Estimate(W, d, e, rho)
        self.next_estimate = Estimate(*(array.copy() for array in self.estimate))

        self.device.row_dots(X, X, out=squared_norms)
        tr = squared_norms.sum(dtype=np.float64)
        H, J = (self._workspace.array(*shape, X) for shape in (("H", (N, R)), ("J", (R, D))))
        for _ in range(NUM_INITIAL_ITERATIONS):
            matmul(X, W.T, out=H)  # (4)
            matmul(H.T, X, out=J)  # (10)
            self._update(J, tr, N)
            self._take_effect()

    def _update(self, J: Array, tr: Array, N: int) -> None:
        """Estimate t + 1 from t, J_t (10), overwritten, and tr = tr(X_t X_t^T)."""
        eta = min(1.0 - math.exp(-N / self.num_samples_history), MAX_ETA)
        constants = eta, self.alpha, EPSILON, DELTA, MAX_CONDITION
        update = self.device.update_estimate or update_estimate
        update(J, self.estimate, self.next_estimate, tr, N, constants, self._workspace)

    def _take_effect(self) -> None:
        """Replace the estimate by that of the last update."""
        self.device.join(self._side_stream)
        for array, updated in zip(self.estimate, self.next_estimate, strict=True):
            array[...] = updated


def row_norms(X: Array, is_X_hat: bool, H: Array, e: Array, norms: Array, hat_norms: Array) -> None:
    """Compute the squared norms of the rows of X_t, `norms`, and of X_hat_t, `hat_norms`, (N,).

    Args:
        X: X_hat_t if `is_X_hat`, else X_t, (N, D).
        H: H_t (4).
    """
    differences = np.einsum("ni,i->n", H * H, 2.0 - e)  # (7), (9)
    if is_X_hat:
        CPU.row_dots(X, X, out=hat_norms)
        norms[...] = hat_norms + differences
    else:
        CPU.row_dots(X, X, out=norms)
        hat_norms[...] = np.maximum(norms - differences, 0.0)  # roundoff


def update_estimate(
    J: Array,
    estimate: Estimate,
    updated: Estimate,
    tr: Array,
    N: int,
    constants: tuple[float, ...],
    workspace: Workspace,
) -> None:
    """Set `updated` to the estimate at t + 1, given that at t; where nothing is finite, leave it.

    Args:
        J: J_t (10), overwritten.
        tr: tr(X_t X_t^T).
        constants: eta, alpha, epsilon and delta of the floor, and the condition up to which (13)
            suffices.
    """
    eta, alpha, epsilon, delta, max_condition = constants
    W, d, e, rho = estimate
    next_W, next_d, next_e, next_rho = updated
    R, D = W.shape
    inv_sqrt_e = e**-0.5

    # (11), with J_t as the scratch space of its second term.
    Y = workspace.array("Y", (R, D), J, dtype=np.float64)
    np.multiply(J, (eta / N * inv_sqrt_e).astype(J.dtype)[:, np.newaxis], out=Y)
    old_scales = (1.0 - eta) * inv_sqrt_e * (d + rho)
    np.multiply(W, old_scales.astype(J.dtype)[:, np.newaxis], out=J)
    Y += J

    Z = CPU.matmul(Y, Y.T, out=workspace.array("Z", (R, R), Y))  # (12)
    if not (np.isfinite(Z).all() and np.isfinite(tr)):
        log.warning("Not updating the Fisher matrix: the derivatives are not finite.")
        return
    c, U = eigh(Z)
    c, U = c[::-1], U[:, ::-1]
    # Exact arithmetic could not give less; roundoff can, below zero even.
    sqrt_c = np.sqrt(np.maximum(c, ((1.0 - eta) * rho) ** 2))

    # (14)
    tr_T = eta / N * tr + (1.0 - eta) * (D * rho + d.sum())
    remainder = (tr_T - sqrt_c.sum()) / (D - R)
    floor = max(epsilon, delta * sqrt_c[0])
    np.maximum(sqrt_c - remainder, floor, out=next_d)
    next_rho[...] = max(remainder, floor)
    set_e(next_d, next_rho, alpha, D, out=next_e)

    # (13), and E_{t+1}^{1/2} with it.
    product = workspace.array("next_W", (R, D), Y)
    if c[0] < max_condition * c[-1]:
        CPU.matmul(np.ascontiguousarray((U * (np.sqrt(next_e) / sqrt_c)).T), Y, out=product)
    else:
        CPU.matmul(np.ascontiguousarray((U / sqrt_c).T), Y, out=product)
        product = _orthonormal_rows(product) * np.sqrt(next_e)[:, np.newaxis]
    next_W[...] = product


def set_e(d: Array, rho: Array, alpha: float, D: int, out: Array) -> None:
    """Compute E_t (3)."""
    beta = rho * (1.0 + alpha) + alpha / D * d.sum()  # (2)
    out[...] = 1.0 / (beta / d + 1.0)


def _initial_R(R: int, D: int) -> np.ndarray:
    """Return R_0 (R, D), whose row r is nonzero at columns r, r + R, r + 2R, ...: no row is zero.

    The first of these weighs 1.1 and the others 1: with equal weights the rows would sum to a
    constant vector, along which some networks' derivatives are always zero.
    """
    columns = np.arange(D)
    R_0 = np.zeros((R, D))
    R_0[columns % R, columns] = 1.0
    R_0[np.arange(R), np.arange(R)] = 1.1
    return R_0 / np.linalg.norm(R_0, axis=1, keepdims=True)


def _orthonormal_rows(A: Array) -> Array:
    """Return Gram-Schmidt's orthonormal rows of A (R, D), first to last, even of a singular A.

    Of A^T = Q C with upper triangular C, Householder's method determines Q and C up to the signs
    of the diagonal of C, which Gram-Schmidt and Cholesky's factor of A A^T have positive.
    """
    Q, C = np.linalg.qr(A.T)
    return (Q * np.where(np.diag(C) < 0.0, -1.0, 1.0)).T
