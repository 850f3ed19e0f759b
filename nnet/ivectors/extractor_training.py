"""Training of i-vector extractors by expectation maximization.

Worked from Kaldi's ivector/ivector-extractor.cc, with its symbols; see nnet/ivectors/extractor.py.
The E-step of an utterance finds mean m and covariance V of its i-vector x, and adds, with
E[x x^T] = V + m m^T,

    Y_i += X_i m^T,   R_i += gamma_i E[x x^T],   S_i += sum of outer products of Gaussian i's data,

from which the M-step has (UpdateProjection, UpdateVariances, UpdatePrior)

    M_i = Y_i R_i^-1,   Sigma_i = (S_i - Y_i M_i^T - M_i Y_i^T + M_i R_i M_i^T) / gamma_i,

and a transform of the space of x after which x has unit covariance around (p, 0, 0, ...).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import sparray

from nnet.errors import NgtrainError
from nnet.io.tokens import Reader, Stored, Writer
from nnet.ivectors.extractor import IvectorExtractor, UtteranceStatistics
from nnet.ivectors.packed import packed, size_of_triangle, unpacked

log = logging.getLogger("ngtrain")

_LARGEST_CONDITION = 1e4  # of the matrices R_i (SolverOptions)
_LEAST_IVECTOR_VARIANCE = 1e-7


class ExtractorStatistics(Stored):
    """Sums over utterances for the training of an extractor (IvectorExtractorStats).

    Attributes:
        auxiliary: log-likelihood of the data, expected over the i-vectors.
        gamma: float64 (I,).
        linear: float64 (I, D, R), the Y_i.
        quadratic: float64 (I, R (R + 1) / 2), the R_i, packed.
        scatter: float64 (I, D (D + 1) / 2), the S_i, packed; (0, 0) if variances stay.
        num_ivectors: utterances.
        ivector_sum, ivector_scatter: sums of m (R,) and of E[x x^T] (R, R).
    """

    def __init__(
        self, num_gauss: int, dim: int, ivector_dim: int, variances: bool = True, cache: int = 100
    ):
        triangle = size_of_triangle(ivector_dim)
        self.auxiliary = self.num_ivectors = 0.0
        self.gamma = np.zeros(num_gauss)
        self.linear = np.zeros((num_gauss, dim, ivector_dim))
        self.quadratic = np.zeros((num_gauss, triangle))
        self.scatter = np.zeros((num_gauss, size_of_triangle(dim)) if variances else (0, 0))
        self.ivector_sum = np.zeros(ivector_dim)
        self.ivector_scatter = np.zeros((ivector_dim, ivector_dim))
        self._cache_size = cache
        self._cache: list[tuple[np.ndarray, np.ndarray]] = []  # gamma and E[x x^T], packed

    def accumulate(
        self,
        extractor: IvectorExtractor,
        features: np.ndarray,
        posteriors: sparray,
        compute_auxiliary: bool = True,
    ) -> None:
        """Add an utterance: features (T, D), posteriors (I, T).

        Raises:
            NgtrainError: the features have another dimension.
        """
        extractor.check_features(features.shape[1])
        has_variances = self.scatter.size > 0
        utterance = UtteranceStatistics.of(features, posteriors, has_variances)
        mean, covariance = extractor.distribution(utterance)
        if compute_auxiliary:
            self.auxiliary += extractor.auxiliary(utterance, mean, covariance)
        second_moment = covariance + np.outer(mean, mean)
        self.gamma += utterance.gamma
        seen = np.flatnonzero(utterance.gamma)
        self.linear[seen] += utterance.first[seen, :, None] * mean
        if has_variances:
            self.scatter += utterance.second
        self.num_ivectors += 1.0
        self.ivector_sum += mean
        self.ivector_scatter += second_moment
        self._cache.append((utterance.gamma, packed(second_moment)))
        if len(self._cache) == self._cache_size:
            self._flush()

    def _flush(self) -> None:
        """Add the cached utterances to the R_i, as one product of matrices."""
        if self._cache:
            gammas, moments = map(np.array, zip(*self._cache, strict=True))
            self.quadratic += gammas.T @ moments
            self._cache.clear()

    def add(self, other: ExtractorStatistics) -> None:
        """Add statistics of other utterances; NgtrainError if of an extractor of another size."""
        for mine, theirs in (self.linear, other.linear), (self.scatter, other.scatter):
            if mine.shape != theirs.shape:
                raise NgtrainError(
                    "statistics of i-vector extractors of different sizes: (Gaussians, dimension, "
                    f"i-vector dimension) {self.linear.shape} and {other.linear.shape}"
                )
        self._flush()
        other._flush()
        self.auxiliary += other.auxiliary
        self.gamma += other.gamma
        self.linear += other.linear
        self.quadratic += other.quadratic
        self.scatter += other.scatter
        self.num_ivectors += other.num_ivectors
        self.ivector_sum += other.ivector_sum
        self.ivector_scatter += other.ivector_scatter

    @classmethod
    def total(cls, parts: Iterable[ExtractorStatistics]) -> ExtractorStatistics:
        """Add up statistics, of which there must be some."""
        first, *others = parts
        for other in others:
            first.add(other)
        return first

    @classmethod
    def read(cls, reader: Reader) -> ExtractorStatistics:
        """Parse statistics; NgtrainError when they are malformed."""
        auxiliary = reader.expect("<IvectorExtractorStats>", "<TotAuxf>").real()
        gamma = reader.expect("<gamma>").vector(np.float64)
        linear = [reader.matrix(np.float64) for _ in range(reader.expect("<Y>").integer())]
        quadratic = reader.expect("<R>").matrix(np.float64)
        weights = reader.expect("<Q>").matrix(), reader.expect("<G>").matrix()
        if weights[0].size or weights[1].size:
            raise reader.fail("statistics of weights that depend on the i-vector (--use-weights)")
        scatter = [
            packed(reader.symmetric_matrix(np.float64))
            for _ in range(reader.expect("<S>").integer())
        ]
        num_ivectors = reader.expect("<NumIvectors>").real()
        ivector_sum = reader.expect("<IvectorSum>").vector(np.float64)
        ivector_scatter = reader.expect("<IvectorScatter>").symmetric_matrix(np.float64)
        reader.expect("</IvectorExtractorStats>")
        if not linear or len({matrix.shape for matrix in linear}) > 1:
            raise reader.fail("statistics of an i-vector extractor that differ in size, or of none")
        dim, ivector_dim = linear[0].shape
        statistics = cls(len(linear), dim, ivector_dim, len(scatter) > 0)
        if {row.shape for row in scatter} - {statistics.scatter.shape[1:]}:
            raise reader.fail("statistics of an i-vector extractor that do not fit together")
        parts = {
            "gamma": gamma, "linear": np.array(linear), "quadratic": quadratic,
            "scatter": np.array(scatter).reshape(statistics.scatter.shape[0], -1)
            if scatter else statistics.scatter,
            "ivector_sum": ivector_sum, "ivector_scatter": ivector_scatter,
        }  # fmt: skip
        for name, array in parts.items():
            if not np.isfinite(array).all():
                raise reader.fail("NaN or infinity in statistics of an i-vector extractor")
            if array.shape != getattr(statistics, name).shape:
                raise reader.fail("statistics of an i-vector extractor that do not fit together")
            setattr(statistics, name, array)
        statistics.auxiliary, statistics.num_ivectors = auxiliary, num_ivectors
        return statistics

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does: most in double precision."""
        self._flush()
        writer.token("<IvectorExtractorStats>")
        writer.token("<TotAuxf>").double(self.auxiliary)
        writer.token("<gamma>").vector(self.gamma)
        writer.token("<Y>").integer(len(self.linear))
        for matrix in self.linear:
            writer.matrix(matrix)
        writer.token("<R>").matrix(self.quadratic.astype(np.float32))
        writer.token("<Q>").matrix(np.zeros((0, 0), np.float32))
        writer.token("<G>").matrix(np.zeros((0, 0)))
        writer.token("<S>").integer(len(self.scatter))
        for triangle in self.scatter:
            writer.symmetric_matrix(unpacked(triangle))
        writer.token("<NumIvectors>").double(self.num_ivectors)
        writer.token("<IvectorSum>").vector(self.ivector_sum)
        writer.token("<IvectorScatter>").symmetric_matrix(self.ivector_scatter)
        writer.token("</IvectorExtractorStats>")


@dataclass(frozen=True)
class EstimationOptions:
    """Floors of the M-step (IvectorExtractorEstimationOptions)."""

    variance_floor_factor: float = 0.1
    gaussian_min_count: float = 100.0
    diagonalize: bool = True


def estimate(
    extractor: IvectorExtractor, statistics: ExtractorStatistics, options: EstimationOptions
) -> IvectorExtractor:
    """Estimate an extractor from the statistics that another gave (IvectorExtractorStats::Update).

    Gaussians with a count below the least stay as they are.

    Raises:
        NgtrainError: the statistics are of another extractor, or of no data.
    """
    num_frames = statistics.gamma.sum()
    if statistics.linear.shape != extractor.projections.shape:
        raise NgtrainError("the statistics are not of this i-vector extractor: they differ in size")
    if not (num_frames > 0 and statistics.num_ivectors > 0):
        raise NgtrainError("the statistics of the i-vector extractor are of no data")
    if statistics.auxiliary:
        log.info(
            "Overall auxf/frame on training data was %g per frame over %g frames.",
            *(statistics.auxiliary / num_frames, num_frames),
        )
    enough = statistics.gamma >= options.gaussian_min_count
    for index in np.flatnonzero(~enough):
        log.warning(
            "Skipping Gaussian index %d because count %g is below min-count.",
            *(index, statistics.gamma[index]),
        )
    if not enough.any():
        raise NgtrainError(
            f"no Gaussian has a count of {options.gaussian_min_count:g} (--gaussian-min-count)"
        )
    try:
        return _estimated(extractor, statistics, enough, options)
    except np.linalg.LinAlgError as error:
        raise NgtrainError(
            f"statistics of the i-vector extractor are degenerate: {error}"
        ) from None


def _estimated(
    extractor: IvectorExtractor,
    statistics: ExtractorStatistics,
    enough: np.ndarray,
    options: EstimationOptions,
) -> IvectorExtractor:
    """Estimate projections and covariances of those Gaussians, then the prior."""
    projections, improvement = _new_projections(extractor, statistics, enough)
    inv_covars = extractor.inv_covars
    if statistics.scatter.size:
        inv_covars, gain = _new_covariances(
            extractor, projections, statistics, enough, options.variance_floor_factor
        )
        improvement += gain
    updated = IvectorExtractor(extractor.weights, projections, inv_covars, extractor.prior_offset)
    updated, gain = _with_unit_prior(updated, statistics, options.diagonalize)
    log.info(
        "Overall objective-function improvement per frame was %g",
        improvement + gain,
    )
    return updated


def _new_projections(
    extractor: IvectorExtractor, statistics: ExtractorStatistics, enough: np.ndarray
) -> tuple[np.ndarray, float]:
    """Maximize tr(M_i^T Sigma_i^-1 Y_i) - 1/2 tr(Sigma_i^-1 M_i R_i M_i^T).

    As SolveQuadraticMatrixProblem does: R_i is scaled to a unit diagonal, small eigenvalues are
    raised to bound its condition, and the change is solved for.

    Returns:
        The M_i (I, D, R), and the improvement per frame.
    """
    old, linear = extractor.projections[enough], statistics.linear[enough]
    quadratic = unpacked(statistics.quadratic[enough])
    diagonal = np.maximum(np.diagonal(quadratic, axis1=1, axis2=2), np.finfo(float).tiny * 1e3)
    scale = 1.0 / np.sqrt(diagonal)[:, None, :]
    values, vectors = np.linalg.eigh(quadratic * scale * scale.transpose(0, 2, 1))
    values = np.maximum(values, values.max(axis=1, keepdims=True) / _LARGEST_CONDITION)
    gradient = (linear - old @ quadratic) * scale
    change = (gradient @ vectors / values[:, None, :]) @ vectors.transpose(0, 2, 1) * scale

    def objective(projections: np.ndarray) -> np.ndarray:
        inner = linear - 0.5 * projections @ quadratic
        return (projections * (extractor.inv_covars[enough] @ inner)).sum(axis=(1, 2))

    improvement = objective(old + change) - objective(old)
    better = improvement > 0
    projections = extractor.projections.copy()
    projections[np.flatnonzero(enough)[better]] = (old + change)[better]
    count = statistics.gamma.sum()
    per_frame = float(improvement[better].sum()) / count
    log.info(
        "Overall objective function improvement for M (mean projections) was %g per frame over %g "
        "frames.",
        *(per_frame, count),
    )
    return projections, per_frame


def _new_covariances(
    extractor: IvectorExtractor,
    projections: np.ndarray,
    statistics: ExtractorStatistics,
    enough: np.ndarray,
    floor_factor: float,
) -> tuple[np.ndarray, float]:
    """Estimate the inverse covariances (I, D, D), with the improvement per frame."""
    m, y = projections[enough], statistics.linear[enough]
    cross = y @ m.transpose(0, 2, 1)
    moments = m @ unpacked(statistics.quadratic[enough]) @ m.transpose(0, 2, 1)
    scatter = unpacked(statistics.scatter[enough]) - cross - cross.transpose(0, 2, 1) + moments
    count = statistics.gamma[enough]
    covariances = scatter / count[:, None, None]
    floor = _with_floor(floor_factor * scatter.sum(axis=0) / count.sum())

    lower = np.linalg.cholesky(floor)
    whitening = np.linalg.inv(lower)
    values, vectors = np.linalg.eigh(whitening @ covariances @ whitening.T)
    num_floored = (values < 1.0).sum(axis=1)
    for index, number in zip(np.flatnonzero(enough), num_floored, strict=True):
        if number:
            log.info("For Gaussian index %d, floored %d eigenvalues of variance.", index, number)
    percent = 100.0 * num_floored.sum() / extractor.inv_covars[:, 0].size
    log.info("Floored %g%% of all Gaussian eigenvalues", percent)
    directions = vectors.transpose(0, 2, 1) @ whitening
    new = directions.transpose(0, 2, 1) @ (directions / np.maximum(values, 1.0)[:, :, None])

    old = extractor.inv_covars[enough]
    gain = [
        -0.5 * ((covariances * matrices).sum(axis=(1, 2)) - np.linalg.slogdet(matrices)[1])
        for matrices in (new, old)
    ]
    per_frame = float(count @ (gain[0] - gain[1])) / statistics.gamma.sum()
    log.info(
        "Overall objf impr/frame for variances was %g over %g frames.",
        *(per_frame, statistics.gamma.sum()),
    )
    inv_covars = extractor.inv_covars.copy()
    inv_covars[enough] = new
    return inv_covars, per_frame


def _with_floor(matrix: np.ndarray) -> np.ndarray:
    """Raise eigenvalues of a covariance that are far below the largest."""
    values, vectors = np.linalg.eigh(matrix)
    least = np.abs(values).max() * 1e-4
    if values.min() < least:
        log.warning(
            "Floored %d eigenvalues of the variance floor matrix.  This is not expected.  Maybe "
            "your feature data is linearly dependent.",
            (values < least).sum(),
        )
    return (vectors * np.maximum(values, least)) @ vectors.T


def _with_unit_prior(
    extractor: IvectorExtractor, statistics: ExtractorStatistics, diagonalize: bool
) -> tuple[IvectorExtractor, float]:
    """Transform the space of i-vectors so that they have unit covariance around (p, 0, 0, ...).

    The transform is a whitening followed by a reflection that turns their mean to the first axis
    and, with `diagonalize`, by a rotation around it that makes the mean of the U_i diagonal, with
    decreasing elements.

    Returns:
        The extractor, and the improvement per frame.
    """
    mean = statistics.ivector_sum / statistics.num_ivectors
    covariance = statistics.ivector_scatter / statistics.num_ivectors - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    log.info("Eigenvalues of iVector covariance range from %g to %g", values.min(), values.max())
    if values.min() < _LEAST_IVECTOR_VARIANCE:
        log.warning(
            "Floored %d eigenvalues of covar of iVectors.", (values < _LEAST_IVECTOR_VARIANCE).sum()
        )
    values = np.maximum(values, _LEAST_IVECTOR_VARIANCE)
    whitening = vectors.T / np.sqrt(values)[:, None]
    whitened = whitening @ mean
    transform = _reflection_to_first_axis(whitened) @ whitening
    if diagonalize:
        rotation = _diagonalizing(extractor, transform[1:, 1:])
        transform[1:] = rotation @ transform[1:]

    offset = mean - extractor.default_ivector()
    old = -0.5 * (np.trace(covariance) + offset @ offset)
    new = -0.5 * (len(mean) + np.log(values).sum())
    gain = (new - old) * statistics.num_ivectors / statistics.gamma.sum()
    log.info(
        "Overall auxf improvement from prior is %g per frame, or %g per iVector.", gain, new - old
    )
    prior_offset = float(np.linalg.norm(whitened))
    log.info("Setting iVector prior offset to %g", prior_offset)
    projections = extractor.projections @ np.linalg.inv(transform)
    return (
        IvectorExtractor(extractor.weights, projections, extractor.inv_covars, prior_offset),
        float(gain),
    )


def _reflection_to_first_axis(vector: np.ndarray) -> np.ndarray:
    """Make the Householder reflection that maps a vector to (|vector|, 0, 0, ...)."""
    normal = vector / np.linalg.norm(vector)
    normal[0] -= 1.0
    length = np.linalg.norm(normal)
    normal = normal / length if length > 0 else normal
    return np.eye(len(vector)) - 2.0 * np.outer(normal, normal)


def _diagonalizing(extractor: IvectorExtractor, transform: np.ndarray) -> np.ndarray:
    """Find the rotation (R - 1, R - 1) after `transform` that makes the mean of the U_i diagonal.

    The first dimension is left out of it, so that the mean of the prior stays on that axis.
    """
    mean = unpacked(extractor.weights @ extractor.quadratic)[1:, 1:]
    inverse = np.linalg.inv(transform)
    values, vectors = np.linalg.eigh(inverse.T @ mean @ inverse)
    log.info("Eigenvalues of Vavg:  [ %s ]", " ".join(f"{value:g}" for value in values[::-1]))
    return vectors[:, ::-1].T


def report_explained_variance(extractor: IvectorExtractor, statistics: ExtractorStatistics) -> None:
    """Log how much of the variance within Gaussians is explained by i-vectors.

    As in Kaldi, no eigenvalue of a covariance counts as more than 1 there.
    """
    weights = statistics.gamma / statistics.gamma.sum()
    precisions = np.linalg.eigvalsh(extractor.inv_covars)
    within = weights @ (1.0 / np.maximum(precisions, 1.0)).sum(axis=1)
    between = weights @ (extractor.projections**2).sum(axis=(1, 2))
    log.info(
        "The proportion of within-Gaussian variance explained by the iVectors is %g.",
        between / (between + within),
    )
