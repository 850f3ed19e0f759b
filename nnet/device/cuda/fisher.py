"""The online estimate of a Fisher matrix on the device: norms and updates without the host.

These are the counterparts, by name, of functions of nnet.natural_gradient.online and norms, where
the equations stand.
"""

from __future__ import annotations

import numpy as np

from nnet.device.backend import Array, Workspace, matmul
from nnet.device.cuda import eigh
from nnet.device.cuda.kernels import THREADS, launch
from nnet.natural_gradient.online import DELTA, EPSILON, MAX_CONDITION, Estimate


def row_norms(X: Array, is_X_hat: bool, H: Array, e: Array, norms: Array, hat_norms: Array) -> None:
    args = X, int(is_X_hat), H, e, norms, hat_norms, X.shape[1], H.shape[1]
    launch("row_norms", len(X), THREADS, *args, dtype=X.dtype)


def norm_ratio(norms: Array, hat_norms: Array, tr: Array, gamma: Array) -> None:
    args = norms, hat_norms, len(norms), tr, gamma
    launch("norm_ratio", 1, THREADS, *args, dtype=gamma.dtype)


def update_estimate(
    J: Array,
    estimate: Estimate,
    updated: Estimate,
    tr: Array,
    N: int,
    eta: float,
    alpha: float,
    workspace: Workspace,
) -> None:
    W, d, e, rho = estimate
    next_W, *next_spectrum = updated
    (R, D), dtype = W.shape, W.dtype
    Y, R_next = (workspace.array(name, (R, D), W, np.float64) for name in ("Y", "R_next"))
    Z, U = (workspace.array(name, (R, R), Y) for name in ("Z", "U"))
    c, inverse_roots, dots = (workspace.array(name, (R,), Y) for name in ("c", "roots", "dots"))
    status = workspace.array("status", (2,), Y, np.int32)

    launch("power_step", R, THREADS, J, W, d, e, rho, Y, D, N, eta, dtype=dtype)  # (11)
    matmul(Y, Y.T, out=Z)
    eigh.eigenvalues(Z, c, workspace)  # (12)
    args = c, tr, d, rho, *next_spectrum, inverse_roots, status, R, D, N
    constants = eta, alpha, EPSILON, DELTA, MAX_CONDITION
    launch("next_estimate", 1, THREADS, *args, *constants, dtype=dtype)  # (14), (2), (3)
    eigh.eigenvectors(U, inverse_roots, workspace)
    matmul(U, Y, out=R_next)  # (13)
    launch("orthonormalise", 1, 1024, R_next, dots, status, R, D, dtype=dtype)
    launch("next_W", R, THREADS, R_next, next_spectrum[1], status, next_W, D, dtype=dtype)
