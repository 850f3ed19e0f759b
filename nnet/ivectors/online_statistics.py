"""Estimation of an i-vector from data that come in part by part.

Kaldi's OnlineIvectorEstimationStats (ivector/ivector-extractor.cc) and LinearCgd
(matrix/optimization.cc) are the source; the symbols are those of nnet/ivectors/extractor.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.ivectors.extractor import IvectorExtractor
from nnet.ivectors.packed import unpacked
from nnet.ivectors.selection import GaussianPosteriors

_CG_ITERATIONS = 15
_RECOMPUTE_FACTOR = 0.01**2
"""The residual is computed anew when its squared length has fallen by this."""


@dataclass
class OnlineStatistics:
    """The terms of an i-vector's distribution, given the data so far.

    Attributes:
        linear: float64 (R,), a.
        quadratic: float64 (R, R), B.
        prior_offset: p, the first element of the prior's mean.
        max_count: if positive, the prior is scaled up as soon as the data are more than that.
        num_frames: frames, by the weight of their posteriors.
    """

    linear: np.ndarray
    quadratic: np.ndarray
    prior_offset: float
    max_count: float = 0.0
    num_frames: float = 0.0

    @classmethod
    def of_prior(cls, extractor: IvectorExtractor, max_count: float = 0.0) -> OnlineStatistics:
        """Make those of no data."""
        quadratic = np.eye(extractor.ivector_dim)
        return cls(extractor.default_ivector(), quadratic, extractor.prior_offset, max_count)

    def accumulate(
        self, extractor: IvectorExtractor, features: np.ndarray, posteriors: GaussianPosteriors
    ) -> None:
        """Add frames (T, D) with their posteriors."""
        frames, ranks = np.nonzero(posteriors.weights)
        seen, place = np.unique(posteriors.indexes[frames, ranks], return_inverse=True)
        weights = np.zeros((len(seen), len(features)))
        weights[place, frames] = posteriors.weights[frames, ranks]
        gamma = weights.sum(axis=1)
        sums = weights @ features.astype(np.float64)
        self.linear += np.tensordot(sums, extractor.inv_covars_projections[seen], 2)
        self.quadratic += unpacked(gamma @ extractor.quadratic[seen])
        scale = self._prior_scale
        self.num_frames += float(gamma.sum())
        self._add_prior(self._prior_scale - scale)

    @property
    def _prior_scale(self) -> float:
        """Scale of the prior."""
        return max(self.num_frames / self.max_count, 1.0) if self.max_count > 0 else 1.0

    def _add_prior(self, scale: float) -> None:
        self.linear[0] += self.prior_offset * scale
        self.quadratic += scale * np.eye(len(self.linear))

    def scaled(self, scale: float) -> OnlineStatistics:
        """Return those of less data, 0 <= scale <= 1; the prior is not scaled."""
        result = OnlineStatistics(
            self.linear * scale, self.quadratic * scale, self.prior_offset, self.max_count,
            self.num_frames * scale,
        )  # fmt: skip
        result._add_prior(result._prior_scale - scale * self._prior_scale)
        return result

    def copy(self) -> OnlineStatistics:
        """Return statistics to which others can be added."""
        return self.scaled(1.0)

    def ivector(self, start: np.ndarray) -> np.ndarray:
        """Estimate the i-vector (R,), by a few steps from an earlier estimate `start`."""
        if self.num_frames <= 0.0:
            return self.prior_offset * np.eye(1, len(self.linear))[0]
        return conjugate_gradients(self.quadratic, self.linear, start)

    def improvement(self, ivector: np.ndarray) -> float:
        """Compute by how much log-likelihood per frame is better than with the prior's mean."""
        if self.num_frames == 0.0:
            return 0.0
        default = self.prior_offset * np.eye(1, len(self.linear))[0]
        values = [x @ self.linear - 0.5 * x @ self.quadratic @ x for x in (ivector, default)]
        return float(values[0] - values[1]) / self.num_frames


def conjugate_gradients(matrix: np.ndarray, vector: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Solve A x = b for positive definite A (R, R), by at most 15 steps from x = `start`.

    Should they lead away from the solution, it is solved exactly.
    """
    x = start
    direction = vector - matrix @ x
    residual = -direction
    square = first = recomputed = residual @ residual
    for _ in range(min(_CG_ITERATIONS, len(vector) + 5)):
        if square <= np.finfo(float).tiny:
            break
        image = matrix @ direction
        step = -(direction @ residual) / (direction @ image)
        x = x + step * direction
        residual = residual + step * image
        new = residual @ residual
        if not _RECOMPUTE_FACTOR <= new / recomputed <= 1 / _RECOMPUTE_FACTOR:
            residual = matrix @ x - vector
            new = recomputed = residual @ residual
        direction = direction * (new / square) - residual
        square = new
    if square > first + 1e-10 * (vector @ vector):
        return np.linalg.solve(matrix, vector)
    return x
