"""Gaussians of a mixture to which a frame belongs: the best few, and their posteriors.

After Kaldi's DiagGmm::GaussianSelection (gmm/diag-gmm.cc) and VectorToPosteriorEntry
(hmm/posterior.cc), for all frames at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from nnet.errors import NgtrainError
from nnet.hmm.posterior import Posterior


def select(log_likelihoods: np.ndarray, count: int) -> np.ndarray:
    """Choose the best components of each frame, best first; int (T, min(count, I)).

    Of equal ones the later is first, as in Kaldi.
    """
    num_gauss = log_likelihoods.shape[1]
    backwards = np.argsort(-log_likelihoods[:, ::-1], axis=1, kind="stable")
    return num_gauss - 1 - backwards[:, :count]


class GaussianPosteriors(NamedTuple):
    """Posteriors of the best Gaussians of each frame.

    Attributes:
        indexes: int (T, n), best first.
        weights: float (T, n); 0 for what was pruned.
        log_likelihoods: float (T,), of the mixture of those that were kept.
    """

    indexes: np.ndarray
    weights: np.ndarray
    log_likelihoods: np.ndarray

    @classmethod
    def of(cls, log_likelihoods: np.ndarray, count: int, min_post: np.ndarray | float):
        """Keep at most `count` components with posteriors of at least `min_post`, or the best.

        Args:
            log_likelihoods: (T, I).
            min_post: a threshold for all frames, or (T,) for each.
        """
        threshold = np.broadcast_to(np.asarray(min_post, np.float64), len(log_likelihoods))[:, None]
        indexes = select(log_likelihoods, count)
        chosen = np.take_along_axis(log_likelihoods, indexes, axis=1).astype(np.float64)
        best = chosen[:, :1]
        weights = np.exp(chosen - best)
        weights[weights <= threshold] = 0.0
        weights[weights < threshold * weights.sum(axis=1, keepdims=True)] = 0.0
        weights[:, 0] = 1.0
        total = weights.sum(axis=1, keepdims=True)
        return cls(indexes, weights / total, (best + np.log(total))[:, 0])

    def scaled(self, scale: np.ndarray | float) -> GaussianPosteriors:
        """Multiply the weights by a scale for all frames, or for each (T, 1)."""
        return self._replace(weights=self.weights * scale)

    def to_table(self) -> Posterior:
        """Convert to the form in which tables hold posteriors."""
        return [
            [(index, weight) for index, weight in zip(indexes, weights, strict=True) if weight]
            for indexes, weights in zip(self.indexes.tolist(), self.weights.tolist(), strict=True)
        ]

    def by_gaussian(self, num_gauss: int) -> csr_array:
        """Lay them out as a sparse matrix (I, T)."""
        frames = np.broadcast_to(np.arange(len(self.indexes))[:, None], self.indexes.shape)
        shape = num_gauss, len(self.indexes)
        return _sparse(self.indexes.ravel(), frames.ravel(), self.weights.ravel(), shape)


def by_gaussian(posterior: Posterior, num_gauss: int) -> csr_array:
    """Lay out a posterior of T frames as a sparse matrix (I, T).

    Raises:
        NgtrainError: it has an index outside of 0 to I - 1, or a weight that is not finite.
    """
    pairs = [pair for frame in posterior for pair in frame]
    indexes = np.array([index for index, _ in pairs], np.int64)
    weights = np.array([weight for _, weight in pairs], np.float64)
    if not np.isfinite(weights).all():
        raise NgtrainError("a posterior with NaN or infinity")
    frames = np.repeat(np.arange(len(posterior)), [len(frame) for frame in posterior])
    if len(indexes) and not 0 <= indexes.min() <= indexes.max() < num_gauss:
        raise NgtrainError(
            f"a posterior with Gaussian {indexes.max()} or {indexes.min()}, of {num_gauss}: was "
            "it made with another mixture?"
        )
    return _sparse(indexes, frames, weights, (num_gauss, len(posterior)))


def _sparse(
    indexes: np.ndarray, frames: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> csr_array:
    kept = weights != 0
    return csr_array((weights[kept], (indexes[kept], frames[kept])), shape=shape)
