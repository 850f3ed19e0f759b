"""Linear discriminant analysis, and the transform of a network's input that is made from it.

Worked from Kaldi's transform/lda-estimate.cc and nnet2/get-feature-transform.{h,cc}.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip
from nnet.hmm.transition_model import TransitionModel
from nnet.io.random_access import RandomAccessTable, random_access_table
from nnet.io.tables import FEATURES, POSTERIOR, sequential_table
from nnet.io.tokens import Reader, Writer, read_object

log = logging.getLogger("ngtrain")


class LdaStatistics:
    """Counts, sums and the sum of outer products of vectors that belong to classes.

    Attributes:
        zero: (classes,) float64, how much of each class was seen.
        first: (classes, dim) float64, sums of its vectors.
        second: (dim, dim) float64, sum of outer products over all classes.
    """

    def __init__(self, num_classes: int, dim: int):
        self.zero = np.zeros(num_classes)
        self.first = np.zeros((num_classes, dim))
        self.second = np.zeros((dim, dim))

    def accumulate(self, vectors: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> None:
        """Add vectors (n, dim), each with its class (n,) and weight (n,)."""
        if len(vectors) == 0:
            return
        order = np.argsort(classes, kind="stable")
        vectors, classes = vectors[order].astype(np.float64), classes[order]
        weighted = vectors * weights[order, None]
        present, starts = np.unique(classes, return_index=True)
        self.zero += np.bincount(classes, weights[order], len(self.zero))
        self.first[present] += np.add.reduceat(weighted, starts)
        self.second += weighted.T @ vectors

    def add(self, other: LdaStatistics) -> None:
        """Add statistics of other data.

        Raises:
            NgtrainError: they have another number of classes or dimension.
        """
        if self.first.shape != other.first.shape:
            raise NgtrainError(
                f"LDA statistics of (classes, dimension) {self.first.shape} "
                f"and of {other.first.shape} cannot be added"
            )
        self.zero += other.zero
        self.first += other.first
        self.second += other.second

    def of_dimensions(self, indexes: Sequence[int]) -> LdaStatistics:
        """Return the statistics of some dimensions of the vectors."""
        part = LdaStatistics(0, 0)
        part.zero, part.first = self.zero, self.first[:, indexes]
        part.second = self.second[np.ix_(indexes, indexes)]
        return part

    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute total and between-class covariance (dim, dim) and mean (dim,), in float64.

        Raises:
            NgtrainError: no data.
        """
        count = self.zero.sum()
        if not count > 0:
            raise NgtrainError("the LDA statistics are of no data")
        mean = self.first.sum(axis=0) / count
        seen = self.zero != 0
        class_means = self.first[seen] / self.zero[seen, None]
        outer = np.outer(mean, mean)
        total = self.second / count - outer
        between = (class_means.T * (self.zero[seen] / count)) @ class_means - outer
        return total, between, mean

    def _class_outer_products(self) -> np.ndarray:
        seen = self.zero != 0
        return (self.first[seen].T / self.zero[seen]) @ self.first[seen]

    @classmethod
    def read(cls, reader: Reader) -> LdaStatistics:
        """Read the output of acc-lda; on file the second-order statistics are within classes."""
        dim = reader.expect("<LDAACCS>", "<VECSIZE>").integer()
        num_classes = reader.expect("<NUMCLASSES>").integer()
        zero = reader.expect("<ZERO_ACCS>").vector(np.float64)
        first = reader.expect("<FIRST_ACCS>").matrix(np.float64)
        second = reader.expect("<SECOND_ACCS>").symmetric_matrix(np.float64)
        reader.expect("</LDAACCS>")
        shapes = (zero.shape, first.shape, second.shape)
        if shapes != ((num_classes,), (num_classes, dim), (dim, dim)):
            raise reader.fail("LDA statistics whose parts do not fit together")
        stats = cls(0, 0)
        stats.zero, stats.first = zero, first
        stats.second = second + stats._class_outer_products()
        return stats

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does, in single precision."""
        num_classes, dim = self.first.shape
        writer.token("<LDAACCS>")
        writer.token("<VECSIZE>").integer(dim)
        writer.token("<NUMCLASSES>").integer(num_classes)
        writer.token("<ZERO_ACCS>").vector(self.zero.astype(np.float32))
        writer.token("<FIRST_ACCS>").matrix(self.first.astype(np.float32))
        within = self.second - self._class_outer_products()
        writer.token("<SECOND_ACCS>").symmetric_matrix(within.astype(np.float32))
        writer.token("</LDAACCS>")


@dataclass(frozen=True)
class LdaTransform:
    """A transform as it was estimated.

    Attributes:
        matrix: (dim, input dim) float32, one column more if an offset is removed.
        full: the same with all rows, without the limit on singular values.
        within_cholesky: (input dim, input dim), lower factor of the within-class covariance.
    """

    matrix: np.ndarray
    full: np.ndarray
    within_cholesky: np.ndarray


def estimate_lda(
    stats: LdaStatistics,
    dim: int,
    within_class_factor: float = 1.0,
    max_singular_value: float = 0.0,
    remove_offset: bool = False,
) -> LdaTransform:
    """Estimate a transform that whitens classes and orders directions by their separation of them.

    With the within-class covariance W = L L^T and the between-class covariance B, the rows of
    U^T L^{-1}, where L^{-1} B L^{-T} = U diag(lambda) U^T, give unit variance within classes and
    variance lambda_i between them.  For the input of networks row i is then scaled by
    sqrt((within_class_factor + lambda_i) / (1 + lambda_i)), so that directions which do not tell
    classes apart get little variance, and no singular value of the result may be larger than
    `max_singular_value`, if that is positive.

    Args:
        dim: rows to keep.
        remove_offset: add a column that makes the transformed data's mean zero.
    Raises:
        NgtrainError: `dim` is larger than the data's dimension, or the statistics are degenerate.
    """
    total, between, mean = stats.covariances()
    input_dim = len(mean)
    if not 0 < dim <= input_dim:
        raise NgtrainError(f"LDA to dimension {dim} of data of dimension {input_dim}")
    within = total - between
    cholesky = _cholesky(within)
    whitening = np.linalg.inv(cholesky)
    variances, directions = np.linalg.eigh(whitening @ between @ whitening.T)
    order = np.argsort(-np.abs(variances), kind="stable")
    variances, directions = np.abs(variances[order]), directions[:, order]
    log.info("Data count is %g", stats.zero.sum())
    log.info("LDA singular values are  [ %s ]", " ".join(f"{value:g}" for value in variances))
    log.info("Sum of all singular values is %g", variances.sum())
    log.info("Sum of selected singular values is %g", variances[:dim].sum())
    scales = np.sqrt((within_class_factor + variances) / (1.0 + variances))
    if within_class_factor == 1.0:
        scales[:] = 1.0
    full = scales[:, None] * (directions.T @ whitening)
    matrix = _limit_singular_values(full[:dim], max_singular_value)
    if remove_offset:
        matrix = np.hstack([matrix, -(matrix @ mean)[:, None]])
        full = np.hstack([full, -(full @ mean)[:, None]])
    return LdaTransform(matrix.astype(np.float32), full.astype(np.float32), cholesky)


def estimate_lda_by_parts(
    stats: LdaStatistics, parts: Sequence[Sequence[int]], **options: Any
) -> np.ndarray:
    """Estimate a transform for each of some lists of dimensions, from these alone.

    Args:
        parts: indexes of dimensions; one may be in several lists, but not twice in one.
        options: of estimate_lda(), but for the dimension, which is kept.

    Returns the transforms, one below the other, (number of indexes, dim) float32, with a column
    more where an offset is removed.

    Raises:
        NgtrainError: as estimate_lda() does, and for indexes that are none, out of range or twice.
    """
    input_dim, matrices = stats.first.shape[1], []
    for number, part in enumerate(parts, 1):
        if not part or len(set(part)) < len(part) or not 0 <= min(part) <= max(part) < input_dim:
            raise NgtrainError(
                f"list {number} of indexes: they must be different ones from 0 to {input_dim - 1}"
            )
        transform = estimate_lda(stats.of_dimensions(part), len(part), **options).matrix
        num_offsets = transform.shape[1] - len(part)
        matrix = np.zeros((len(part), input_dim + num_offsets), np.float32)
        matrix[:, [*part, *range(input_dim, input_dim + num_offsets)]] = transform
        matrices.append(matrix)
    return np.vstack(matrices)


def _cholesky(covariance: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        smoothing = 1e-3 * np.trace(covariance) / len(covariance)
        log.info(
            "Cholesky failed (possibly not +ve definite), so adding %g to diagonal and trying "
            "again.",
            smoothing,
        )
    try:
        return np.linalg.cholesky(covariance + smoothing * np.eye(len(covariance)))
    except np.linalg.LinAlgError as error:
        raise NgtrainError(
            "the within-class covariance is not positive definite (too little data?)"
        ) from error


def _limit_singular_values(matrix: np.ndarray, most: float) -> np.ndarray:
    if most <= 0:
        return matrix
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    num_above = int((s > most).sum())
    if num_above == 0:
        return matrix
    log.info(
        "Applied ceiling to %d out of %d singular values of transform using ceiling %g, max is %g",
        *(num_above, len(s), most, s[0]),
    )
    return (u * np.minimum(s, most)) @ vt


def accumulate_lda(
    transition_model: TransitionModel,
    feats_rspecifier: str,
    posteriors_rspecifier: str,
    rand_prune: float,
    rng: np.random.Generator,
) -> tuple[LdaStatistics, int, int]:
    """Accumulate statistics of features with pdf-ids as classes, from posteriors of transition-ids.

    Args:
        rand_prune: a weight below this becomes this, or zero, at random so that its expectation
            stays; it saves time on frames of small weight.
    Returns:
        Statistics, and the numbers of utterances used and not used.
    Raises:
        NgtrainError: there are no features, or a transition-id that the model does not have.
    """
    stats = None
    num_done = 0
    with (
        sequential_table(feats_rspecifier, FEATURES) as utterances,
        random_access_table(posteriors_rspecifier, POSTERIOR) as posteriors,
    ):
        lost = utterances.losses
        for key, features in utterances:
            try:
                posterior = _posterior(posteriors, key, features)
            except Skip as reason:
                log.warning("%s for utterance %s", reason, key)
                lost.add(key, reason)
                continue
            if stats is None:
                stats = LdaStatistics(transition_model.num_pdfs, features.shape[1])
            if features.shape[1] != len(stats.second):
                raise NgtrainError(
                    f"utterance {key} has features of dimension {features.shape[1]}, "
                    f"those before had {len(stats.second)}"
                )
            frames, pdfs, weights = _pdf_posteriors(transition_model, posterior, key)
            weights = _prune(weights, rand_prune, rng)
            kept = weights != 0
            stats.accumulate(features[frames[kept]], pdfs[kept], weights[kept])
            num_done += 1
            if num_done % 100 == 0:
                log.info("Done %d utterances.", num_done)
    if stats is None:
        why = f" that have posteriors; {lost.example}" if lost.count else ""
        raise NgtrainError(f"no features in {feats_rspecifier}{why}")
    lost.report(f"%d of {num_done + lost.count} utterances were not used")
    return stats, num_done, lost.count


def _posterior(posteriors: RandomAccessTable, key: str, features: np.ndarray) -> list:
    """Look up the posterior of an utterance, one entry a frame; Skip if there is none."""
    if len(features) == 0:
        raise Skip("Empty feature matrix")
    if key not in posteriors:
        raise Skip("No posteriors")
    posterior = posteriors[key]
    if len(posterior) != len(features):
        raise Skip(f"Posterior vs. feats size mismatch {len(posterior)} vs. {len(features)}")
    return posterior


def _pdf_posteriors(
    transition_model: TransitionModel, posterior: list, key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert to frames, pdf-ids and weights; those of one pdf-id in a frame are added up."""
    frames = np.repeat(np.arange(len(posterior)), [len(frame) for frame in posterior])
    pairs = [pair for frame in posterior for pair in frame]
    ids = np.array([index for index, _ in pairs], np.int64)
    weights = np.array([weight for _, weight in pairs], np.float64)
    transition_model.check_alignment(ids, key)
    codes, inverse = np.unique(
        frames * transition_model.num_pdfs + transition_model.pdf_of[ids], return_inverse=True
    )
    return *np.divmod(codes, transition_model.num_pdfs), np.bincount(inverse, weights, len(codes))


def _prune(weights: np.ndarray, threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Round small weights at random to the threshold or to 0 (base/kaldi-math.h, RandPrune)."""
    if threshold == 0.0:
        return weights
    survives = rng.random(len(weights)) * threshold <= np.abs(weights)
    pruned = np.where(survives, np.copysign(threshold, weights), 0.0)
    return np.where(np.abs(weights) >= threshold, weights, pruned)


def read_sum(rxfilenames: Sequence[str]) -> LdaStatistics:
    """Sum statistics in files.

    Raises:
        NgtrainError: there are no files, one cannot be read, or they do not go together.
    """
    if not rxfilenames:
        raise NgtrainError("no files of LDA statistics were given")
    total, *others = (read_object(name, LdaStatistics.read) for name in rxfilenames)
    for other in others:
        total.add(other)
    return total
