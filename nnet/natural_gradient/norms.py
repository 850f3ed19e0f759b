"""The rescaling of preconditioned rows, which both methods share."""

from __future__ import annotations

from nnet.backend import Array, array_module


def scale_to_norm(tr: Array, tr_hat: Array) -> Array:
    """sqrt(tr / tr_hat), the scale that gives X_hat the norm of X; 1 where X_hat is zero."""
    xp = array_module(tr_hat)
    nonzero = tr_hat != 0.0
    return xp.sqrt(xp.where(nonzero, tr, 1.0) / xp.where(nonzero, tr_hat, 1.0))
