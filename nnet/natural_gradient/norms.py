"""The rescaling of preconditioned rows, which both methods share."""

from __future__ import annotations

import numpy as np

from nnet.device.backend import Array, on_gpu


@on_gpu("fisher")
def norm_ratio(norms: Array, hat_norms: Array, tr: Array, gamma: Array) -> None:
    """Trace of X X^T, float64, and scale that gives X_hat the norm of X, both 0-dimensional.

    norms, hat_norms: squared norms of the rows of X and of X_hat, (N,).  The scale is 1 where X_hat
    is zero.
    """
    tr[...] = norms.sum(dtype=np.float64)
    hat_tr = hat_norms.sum(dtype=np.float64)
    gamma[...] = np.sqrt(tr / hat_tr) if hat_tr != 0.0 else 1.0
