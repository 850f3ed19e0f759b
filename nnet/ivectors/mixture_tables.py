"""Tables made of utterances by a mixture: selected Gaussians, posteriors, statistics.

After Kaldi's gmmbin/gmm-gselect.cc, gmm-global-get-post.cc and gmm-global-acc-stats.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip, leave_out
from nnet.hmm.posterior import Posterior
from nnet.io.random_access import RandomAccessTable
from nnet.io.tables import FEATURES, sequential_table
from nnet.ivectors.mixture_training import GmmStatistics
from nnet.ivectors.mixtures import DiagGmm
from nnet.ivectors.selection import GaussianPosteriors, select

log = logging.getLogger("ngtrain")


class _Average:
    """An average of log-likelihoods of the mixture over frames."""

    def __init__(self) -> None:
        self.total = self.num_frames = 0.0

    def add(self, total: float, num_frames: float) -> None:
        """Add frames with the sum of their log-likelihoods."""
        self.total += total
        self.num_frames += num_frames

    @property
    def value(self) -> float:
        """Average per frame; NaN without any."""
        return self.total / self.num_frames if self.num_frames else float("nan")


def limited(
    log_likelihoods: np.ndarray, selections: RandomAccessTable | None, key: str
) -> np.ndarray:
    """Set log-likelihoods (T, I) to -inf for Gaussians that were not selected for a frame.

    A selection that ends n - 1 after the index it begins with, n being its size, is taken for that
    range by Kaldi (DiagGmm::LogLikelihoodsPreselect), though what gmm-gselect writes is not in the
    order of indexes: then likelihoods are given to the wrong ones of its Gaussians.  That is rare
    in large mixtures, but without it statistics would not be those of Kaldi.

    Raises:
        Skip: the table has no selection for each frame of the utterance.
        NgtrainError: a selection has a Gaussian that the mixture does not have.
    """
    if selections is None:
        return log_likelihoods
    lists: Sequence[np.ndarray] | None = selections.get(key)
    if lists is None:
        raise Skip(f"no gselect information: {selections.why_not(key)}")
    if len(lists) != len(log_likelihoods) or not all(map(len, lists)):
        raise Skip(f"gselect information for {len(lists)} frames, not {len(log_likelihoods)}")
    indexes = np.concatenate(lists)
    num_gauss = log_likelihoods.shape[1]
    if not 0 <= indexes.min() <= indexes.max() < num_gauss:
        raise NgtrainError(f"a selection of Gaussian {indexes.max()}, of {num_gauss}")
    sizes = np.array(list(map(len, lists)))
    ends = np.cumsum(sizes)
    first, last = indexes[ends - sizes], indexes[ends - 1]
    frames = np.repeat(np.arange(len(lists)), sizes)
    ranks = np.arange(len(indexes)) - (ends - sizes)[frames]
    taken_for_range = (last + 1 - first == sizes)[frames]
    source = np.where(taken_for_range, first[frames] + ranks, indexes)
    result = np.full_like(log_likelihoods, -np.inf)
    result[frames, indexes] = log_likelihoods[frames, source]
    return result


def log_sum(log_likelihoods: np.ndarray) -> np.ndarray:
    """Compute log sum exp over the last axis; float64."""
    best = log_likelihoods.max(axis=-1, keepdims=True).astype(np.float64)
    return best[..., 0] + np.log(np.exp(log_likelihoods - best).sum(axis=-1))


class GaussianSelector:
    """A function from utterances to the best Gaussians of each frame, best first.

    Attributes:
        average: of the log-likelihoods by those selected.
        log_likelihood: of the last utterance, summed over frames.
    """

    def __init__(self, mixture: DiagGmm, count: int, selections: RandomAccessTable | None = None):
        self._mixture, self._count, self._selections = mixture, count, selections
        self._num_done = 0
        self.average = _Average()
        self.log_likelihood = 0.0

    def __call__(self, key: str, features: np.ndarray) -> list[np.ndarray]:
        """Select for features (T, D); Skip where an earlier selection is missing."""
        log_likelihoods = self._mixture.log_likelihoods(features)
        log_likelihoods = limited(log_likelihoods, self._selections, key)
        indexes = select(log_likelihoods, self._count)
        chosen = np.take_along_axis(log_likelihoods, indexes, axis=1)
        self.log_likelihood = float(log_sum(chosen).sum())
        if self._num_done % 10 == 0:
            log.info(
                "For %d'th file, average UBM likelihood over %d frames is %g",
                *(self._num_done, len(features), self.log_likelihood / len(features)),
            )
        self._num_done += 1
        self.average.add(self.log_likelihood, len(features))
        if self._selections is None:
            return list(indexes)
        return [row[kept] for row, kept in zip(indexes, chosen > -np.inf, strict=True)]


class PosteriorComputer:
    """A function from utterances to the posteriors of the best Gaussians of each frame.

    Attributes:
        average: of the log-likelihoods by those.
    """

    def __init__(self, mixture: DiagGmm, count: int, min_post: float):
        self._mixture, self._count, self._min_post = mixture, count, min_post
        self.average = _Average()

    def __call__(self, key: str, features: np.ndarray) -> Posterior:
        """Compute posteriors for features (T, D)."""
        log_likelihoods = self._mixture.log_likelihoods(features)
        posteriors = GaussianPosteriors.of(log_likelihoods, self._count, self._min_post)
        self.average.add(float(posteriors.log_likelihoods.sum()), len(features))
        return posteriors.to_table()


def fewer_than_there_are(count: int, mixture: DiagGmm) -> int:
    """Return `count`, or the number of Gaussians and a warning if that is less."""
    if count > len(mixture):
        log.warning(
            "You asked for %d Gaussians but GMM only has %d, returning this many.",
            *(count, len(mixture)),
        )
    return min(count, len(mixture))


def accumulate(
    mixture: DiagGmm,
    feats_rspecifier: str,
    flags: int,
    selections: RandomAccessTable | None,
    weights: RandomAccessTable | None,
) -> tuple[GmmStatistics, int]:
    """Accumulate statistics of a mixture over utterances, and count these.

    Args:
        selections: to which the Gaussians of each frame are limited.
        weights: of the frames of each utterance.
    """
    statistics, average = GmmStatistics(len(mixture), mixture.dim, flags), _Average()
    num_done = 0
    with sequential_table(feats_rspecifier, FEATURES) as utterances:
        lost = utterances.losses
        for key, features in utterances:
            try:
                if not len(features):
                    raise Skip("empty feature matrix")
                of_frames = _frame_weights(weights, key, len(features))
                log_likelihoods = limited(mixture.log_likelihoods(features), selections, key)
            except Skip as reason:
                leave_out(lost, key, reason)
                continue
            totals = log_sum(log_likelihoods)
            posteriors = np.exp(log_likelihoods - totals[:, None]) * of_frames[:, None]
            statistics.add_frames(features, posteriors.T)
            average.add(float(of_frames @ totals), float(of_frames.sum()))
            num_done += 1
    log.info("Done %d files; %d with errors.", num_done, lost.count)
    log.info(
        "Overall likelihood per frame = %g over %g (weighted) frames.",
        *(average.value, average.num_frames),
    )
    lost.report(f"%d of {num_done + lost.count} utterances were not used")
    return statistics, num_done


def _frame_weights(weights: RandomAccessTable | None, key: str, count: int) -> np.ndarray:
    if weights is None:
        return np.ones(count)
    of_frames = weights.get(key)
    if of_frames is None:
        raise Skip(f"no per-frame weights: {weights.why_not(key)}")
    if len(of_frames) != count:
        raise Skip(f"{len(of_frames)} weights for {count} frames")
    return of_frames.astype(np.float64)
