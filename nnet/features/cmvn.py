"""Cepstral mean and variance normalization (Kaldi transform/cmvn.cc).

Statistics are a float64 matrix (2, D + 1): sums of the features and, after them, the count of
frames; then sums of their squares, and a zero.
"""

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip
from nnet.io.losses import Losses
from nnet.io.random_access import RandomAccessTable, random_access_table
from nnet.io.tables import FEATURES, FLOAT_VECTOR, MATRIX, TOKENS, sequential_table, table_writer

log = logging.getLogger("ngtrain")

VARIANCE_FLOOR = 1e-20


def accumulate(stats: np.ndarray, features: np.ndarray, weights: np.ndarray | None = None) -> None:
    """Add features (T, D) float32 to statistics, each frame counted by its weight (T,), or 1.

    Frame by frame, and with products in single precision, as Kaldi does: the sums are the same to
    the last bit. NgtrainError if the features are of another dimension than the statistics.
    """
    if features.shape[1] != stats.shape[1] - 1:
        raise NgtrainError(
            f"features of dimension {features.shape[1]}, those before had {stats.shape[1] - 1}"
        )
    w = np.ones((len(features), 1), np.float32) if weights is None else weights[:, None]
    for row, terms in zip(stats, (features * w, features * features * w), strict=True):
        row[:-1] = np.vstack([row[:-1], terms]).sum(axis=0)
    stats[0, -1] += w.sum(dtype=np.float64)


def normalization(
    stats: np.ndarray, norm_vars: bool = False, reverse: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Compute scale and offset (D,), float32, that normalize features, or undo it if `reverse`.

    Raises:
        NgtrainError: the statistics are of the wrong shape or of less than one frame.
    """
    if not 1 <= len(stats) <= 2:
        raise NgtrainError(f"CMVN statistics of {len(stats)} rows, expected 2")
    count = stats[0, -1]
    if not count >= 1.0:
        raise NgtrainError(f"too little data to normalize with: the count is {count:g}")
    mean = stats[0, :-1] / count
    deviation = np.ones_like(mean)
    if norm_vars:
        if len(stats) < 2:
            raise NgtrainError("the CMVN statistics have no variances")
        variance = stats[1, :-1] / count - mean * mean
        if (variance < VARIANCE_FLOOR).any():
            log.warning("flooring cepstral variance from %g", variance.min())
        deviation = np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
    scale, offset = (deviation, mean) if reverse else (1.0 / deviation, -mean / deviation)
    return scale.astype(np.float32), offset.astype(np.float32)


def normalize(
    features: np.ndarray, stats: np.ndarray, norm_vars: bool = False, reverse: bool = False
) -> np.ndarray:
    """Normalize features (T, D) to zero mean and, if `norm_vars`, unit variance.

    Raises:
        NgtrainError: the dimensions differ, or as :func:`normalization`.
    """
    if features.shape[1] != stats.shape[1] - 1:
        raise NgtrainError(
            f"CMVN statistics of dimension {stats.shape[1] - 1}, features of {features.shape[1]}"
        )
    scale, offset = normalization(stats, norm_vars, reverse)
    return (features * scale if norm_vars else features) + offset


def pretend_normalized(stats: np.ndarray, dims: Iterable[int]) -> np.ndarray:
    """Change statistics so that these dimensions stay as they are (Kaldi's FakeStatsForSomeDims).

    Raises:
        NgtrainError: there is no such dimension.
    """
    stats = stats.copy()
    for dim in dims:
        if not 0 <= dim < stats.shape[1] - 1:
            raise NgtrainError(f"no dimension {dim} in CMVN statistics of {stats.shape[1] - 1}")
        stats[:, dim] = 0.0, stats[0, -1]
    return stats


def normalizer(
    stats: np.ndarray | RandomAccessTable,
    norm_vars: bool,
    skip_dims: Sequence[int] = (),
    reverse: bool = False,
) -> Callable[[str, np.ndarray], np.ndarray]:
    """Make the function for `map_features` that normalizes by one set of statistics, or a table."""

    def apply(key: str, features: np.ndarray) -> np.ndarray:
        own = stats if isinstance(stats, np.ndarray) else stats.get(key)
        if own is None:
            raise Skip("no normalization statistics")
        return normalize(features, pretend_normalized(own, skip_dims), norm_vars, reverse)

    return apply


class Accumulator:
    """A sum of statistics of utterances, weighted if there is a table of weights.

    Attributes:
        num_done: utterances counted.
        lost: utterances that could not be.
    """

    def __init__(self, weights_rspecifier: str = ""):
        rspecifier = weights_rspecifier
        self._weights = random_access_table(rspecifier, FLOAT_VECTOR) if rspecifier else None
        self.num_done = 0
        self.lost = Losses()

    def per_utterance(self, feats_rspecifier: str, stats_wspecifier: str) -> None:
        """Write the statistics of every utterance."""
        with (
            sequential_table(feats_rspecifier, FEATURES) as utterances,
            table_writer(stats_wspecifier, MATRIX) as output,
        ):
            self.lost = utterances.losses
            for key, features in utterances:
                if (stats := self._add(None, key, features)) is not None:
                    output.write(key, stats)

    def per_speaker(
        self, spk2utt_rspecifier: str, feats_rspecifier: str, stats_wspecifier: str
    ) -> None:
        """Write the sum of the statistics of every speaker's utterances."""
        with (
            sequential_table(spk2utt_rspecifier, TOKENS) as speakers,
            random_access_table(feats_rspecifier, FEATURES) as utterances,
            table_writer(stats_wspecifier, MATRIX) as output,
        ):
            for speaker, keys in speakers:
                stats = None
                for key in keys:
                    features = utterances.get(key)
                    if features is None:
                        log.warning("Did not find features for utterance %s", key)
                        self.lost.add(key, utterances.why_not(key))
                    else:
                        stats = self._add(stats, key, features)
                if stats is None:
                    log.warning("No stats accumulated for speaker %s", speaker)
                else:
                    output.write(speaker, stats)

    def total(self, feats_rspecifier: str) -> np.ndarray:
        """Sum the statistics of all utterances.

        Raises:
            NgtrainError: there are none.
        """
        stats = None
        with sequential_table(feats_rspecifier, FEATURES) as utterances:
            self.lost = utterances.losses
            for key, features in utterances:
                stats = self._add(stats, key, features)
        if stats is None:
            raise NgtrainError(f"no statistics accumulated from {feats_rspecifier}")
        return stats

    def _add(self, stats: np.ndarray | None, key: str, features: np.ndarray) -> np.ndarray | None:
        """Add an utterance to statistics, unless it or its weights are no good."""
        weights, reason = None, ""
        if len(features) == 0:
            reason = "empty feature matrix"
        elif self._weights is not None:
            weights = self._weights.get(key)
            if weights is None or len(weights) != len(features):
                reason = "no weights, or a wrong number of them"
        if reason:
            log.warning("utterance %s: %s", key, reason)
            self.lost.add(key, reason)
            return stats
        if stats is None:
            stats = np.zeros((2, features.shape[1] + 1))
        try:
            accumulate(stats, features, weights)
        except NgtrainError as error:
            raise NgtrainError(f"utterance {key}: {error}") from error
        self.num_done += 1
        return stats
