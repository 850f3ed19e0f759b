"""The i-vector extractor: a mixture whose means depend on a vector x of low dimension.

The i-th Gaussian has the mean M_i x and the covariance Sigma_i, and x is Gaussian with unit
covariance around the mean (p, 0, 0, ...), where p is the prior offset.  Kaldi's
ivector/ivector-extractor.{h,cc} is the source, and of its symbols: gamma_i is how much of the data
belongs to Gaussian i, X_i the sum of that data, S_i the sum of its outer products.

    log p(x | data) = const + x^T a - 1/2 x^T B x
    a = (p, 0, ...) + sum_i M_i^T Sigma_i^-1 X_i        (linear)
    B = I + sum_i gamma_i U_i,  U_i = M_i^T Sigma_i^-1 M_i    (quadratic)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import sparray

from nnet.errors import NgtrainError
from nnet.io.tokens import Reader, Stored, Writer
from nnet.ivectors.mixtures import LOG_2PI, FullGmm, checked_covariances
from nnet.ivectors.packed import packed, unpacked

log = logging.getLogger("ngtrain")

FIRST_PRIOR_OFFSET = 100.0
"""Of an extractor that has not been trained; Kaldi's."""


@dataclass
class UtteranceStatistics:
    """Sums over the frames of an utterance or a speaker, by Gaussian.

    Attributes:
        gamma: float64 (I,), sums of posteriors.
        first: float64 (I, D), X: sums of frames with their posteriors.
        second: float64 (I, D (D + 1) / 2), S: sums of their outer products, packed; or None.
    """

    gamma: np.ndarray
    first: np.ndarray
    second: np.ndarray | None = None

    @classmethod
    def of(cls, features: np.ndarray, posteriors: sparray, second_order: bool = False):
        """Sum features (T, D) with posteriors (I, T)."""
        features = features.astype(np.float64)
        rows, columns = np.tril_indices(features.shape[1])
        second = posteriors @ (features[:, rows] * features[:, columns]) if second_order else None
        return cls(posteriors.sum(axis=1), posteriors @ features, second)

    @property
    def num_frames(self) -> float:
        """Frames, by the weight of their posteriors."""
        return float(self.gamma.sum())

    def __add__(self, other: UtteranceStatistics) -> UtteranceStatistics:
        """Add those of another utterance, without second order."""
        return UtteranceStatistics(self.gamma + other.gamma, self.first + other.first)

    def scaled(self, scale: float) -> UtteranceStatistics:
        """Return the statistics of a part of the data, without second order."""
        return UtteranceStatistics(self.gamma * scale, self.first * scale)


class IvectorExtractor(Stored):
    """An extractor with I Gaussians of dimension D, for i-vectors of dimension R.

    Attributes:
        weights: float64 (I,), of the mixture it was made of.
        projections: float64 (I, D, R), the M_i.
        inv_covars: float64 (I, D, D), the inverses of the Sigma_i.
        prior_offset: p, the mean of the i-vector's first element.
    """

    def __init__(
        self,
        weights: np.ndarray,
        projections: np.ndarray,
        inv_covars: np.ndarray,
        prior_offset: float,
    ):
        self.weights = weights
        self.projections, self.inv_covars = projections, inv_covars
        self.prior_offset = prior_offset

    @classmethod
    def from_mixture(
        cls, mixture: FullGmm, ivector_dim: int, rng: np.random.Generator
    ) -> IvectorExtractor:
        """Make one whose means are those of a mixture where x is its mean, else random."""
        means = mixture.means
        projections = rng.standard_normal((*means.shape, ivector_dim))
        projections[:, :, 0] = means / FIRST_PRIOR_OFFSET
        weights = mixture.weights.astype(np.float64)
        inv_covars = mixture.inv_covars.astype(np.float64)
        return cls(weights, projections, inv_covars, FIRST_PRIOR_OFFSET)

    def __len__(self) -> int:
        return len(self.projections)

    @property
    def feature_dim(self) -> int:
        return self.projections.shape[1]

    @property
    def ivector_dim(self) -> int:
        return self.projections.shape[2]

    # What is computed once from the parameters ---------------------------------------------------

    @cached_property
    def inv_covars_projections(self) -> np.ndarray:
        """The products Sigma_i^-1 M_i, float64 (I, D, R)."""
        return self.inv_covars @ self.projections

    @cached_property
    def quadratic(self) -> np.ndarray:
        """The matrices U_i, packed, float64 (I, R (R + 1) / 2)."""
        return packed(self.projections.transpose(0, 2, 1) @ self.inv_covars_projections)

    @cached_property
    def constants(self) -> np.ndarray:
        """The constants of the Gaussians' log-likelihoods, without weights; float64 (I,)."""
        log_determinants = np.linalg.slogdet(self.inv_covars)[1]
        return 0.5 * (log_determinants - self.feature_dim * LOG_2PI)

    # Estimation of an i-vector -------------------------------------------------------------------

    def default_ivector(self) -> np.ndarray:
        """Return the mean of the prior, float64 (R,)."""
        return self.prior_offset * np.eye(1, self.ivector_dim)[0]

    def data_terms(self, statistics: UtteranceStatistics) -> tuple[np.ndarray, np.ndarray]:
        """Compute what the data adds to a (R,) and to B (R, R)."""
        seen = np.flatnonzero(statistics.gamma)
        linear = np.tensordot(statistics.first[seen], self.inv_covars_projections[seen], 2)
        return linear, unpacked(statistics.gamma[seen] @ self.quadratic[seen])

    def distribution(self, statistics: UtteranceStatistics) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean (R,) and covariance (R, R) of the i-vector, given the data."""
        linear, quadratic = self.data_terms(statistics)
        covariance = np.linalg.inv(quadratic + np.eye(self.ivector_dim))
        return covariance @ (linear + self.default_ivector()), covariance

    def auxiliary(
        self,
        statistics: UtteranceStatistics,
        mean: np.ndarray,
        covariance: np.ndarray | None = None,
    ) -> float:
        """Compute the log-likelihood of data, summed over frames, expected over the i-vector.

        Args:
            mean: (R,) of the i-vector's distribution.
            covariance: (R, R); None for the point `mean` alone (GetAuxf).
        """
        gamma = statistics.gamma
        seen = gamma > 0
        count, inv_covars = gamma[seen], self.inv_covars[seen]
        data_means = statistics.first[seen] / count[:, None]
        squares = ((inv_covars @ data_means[:, :, None])[:, :, 0] * data_means).sum(axis=1)
        linear, quadratic = self.data_terms(statistics)
        offset = mean - self.default_ivector()

        total = gamma[seen] @ (np.log(self.weights[seen]) + self.constants[seen])
        total += -0.5 * count @ squares + mean @ linear - 0.5 * mean @ quadratic @ mean
        total -= 0.5 * self._spread(statistics, seen, data_means)
        if covariance is None:
            prior = -0.5 * (offset @ offset + self.ivector_dim * LOG_2PI)
        else:
            total -= 0.5 * (covariance * quadratic).sum()
            log_determinant = np.linalg.slogdet(covariance)[1]
            trace = np.trace(covariance) - self.ivector_dim
            prior = -0.5 * (offset @ offset + trace - log_determinant)
        return float(total + prior)

    def _spread(
        self, statistics: UtteranceStatistics, seen: np.ndarray, data_means: np.ndarray
    ) -> float:
        """Sum gamma_i tr(Sigma_i^-1 V_i), with V_i the covariance of Gaussian i's data.

        Without second-order statistics the data are taken to spread as the Gaussians do.
        """
        if statistics.second is None:
            return statistics.num_frames * self.feature_dim
        count = statistics.gamma[seen]
        outer = data_means[:, :, None] * data_means[:, None, :]
        scatter = unpacked(statistics.second[seen]) - count[:, None, None] * outer
        return float((scatter * self.inv_covars[seen]).sum())

    # Files ---------------------------------------------------------------------------------------

    @classmethod
    def read(cls, reader: Reader) -> IvectorExtractor:
        """Parse an extractor; NgtrainError when it is malformed, or its weights depend on x."""
        reader.expect("<IvectorExtractor>", "<w>")
        if reader.matrix().size:
            raise reader.fail(
                "an i-vector extractor with weights that depend on the i-vector, which is not "
                "supported: train it with --use-weights=false, as for online decoding"
            )
        weights = reader.expect("<w_vec>").vector(np.float64)
        count = reader.expect("<M>").integer()
        if count < 1 or count != len(weights):
            raise reader.fail(f"an i-vector extractor of {count} Gaussians, {len(weights)} weights")
        projections = [reader.matrix(np.float64) for _ in range(count)]
        reader.expect("<SigmaInv>")
        inv_covars = [reader.symmetric_matrix(np.float64) for _ in range(count)]
        prior_offset = reader.expect("<IvectorOffset>").real()
        reader.expect("</IvectorExtractor>")
        dim, ivector_dim = projections[0].shape
        shapes = {matrix.shape for matrix in projections}, {matrix.shape for matrix in inv_covars}
        if shapes != ({(dim, ivector_dim)}, {(dim, dim)}) or not ivector_dim:
            raise reader.fail("an i-vector extractor whose parts do not fit together")
        parts = np.concatenate([weights, np.ravel(projections), [prior_offset]])
        if not np.isfinite(parts).all() or weights.min() < 0:
            raise reader.fail("an i-vector extractor with NaN or infinity, or a negative weight")
        covariances = checked_covariances(reader, np.array(inv_covars))
        return cls(weights, np.array(projections), covariances, prior_offset)

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does, in double precision."""
        writer.token("<IvectorExtractor>")
        writer.token("<w>").matrix(np.zeros((0, 0)))
        writer.token("<w_vec>").vector(self.weights)
        writer.token("<M>").integer(len(self))
        for matrix in self.projections:
            writer.matrix(matrix)
        writer.token("<SigmaInv>")
        for matrix in self.inv_covars:
            writer.symmetric_matrix(matrix)
        writer.token("<IvectorOffset>").double(self.prior_offset)
        writer.token("</IvectorExtractor>")

    def check_features(self, dim: int) -> None:
        """Raise NgtrainError unless features have the dimension of the Gaussians."""
        if dim != self.feature_dim:
            raise NgtrainError(
                f"features of dimension {dim}, the i-vector extractor wants {self.feature_dim}"
            )
