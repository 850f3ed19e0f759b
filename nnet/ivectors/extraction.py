"""I-vectors of whole utterances or speakers, from features and posteriors of Gaussians.

After Kaldi's ivectorbin/ivector-extract.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from nnet.errors import NgtrainError
from nnet.features.speakers import by_speaker
from nnet.features.utterances import Skip, leave_out
from nnet.hmm.posterior import Posterior
from nnet.io.losses import Losses
from nnet.io.random_access import RandomAccessTable, random_access_table
from nnet.io.tables import FEATURES, FLOAT_VECTOR, POSTERIOR, sequential_table, table_writer
from nnet.ivectors.extractor import IvectorExtractor, UtteranceStatistics
from nnet.ivectors.selection import by_gaussian

log = logging.getLogger("ngtrain")


def posterior_of(table: RandomAccessTable, key: str, num_frames: int) -> Posterior:
    """Look up the posterior of an utterance; Skip unless there is one, with an entry a frame."""
    if not num_frames:
        raise Skip("empty feature matrix")
    posterior = table.get(key)
    if posterior is None:
        raise Skip(f"No posteriors: {table.why_not(key)}")
    if len(posterior) != num_frames:
        raise Skip(f"Size mismatch between posterior {len(posterior)} and features {num_frames}")
    return posterior


def gaussians_of(
    extractor: IvectorExtractor, key: str, features: np.ndarray, posterior: Posterior
) -> csr_array:
    """Lay out the posterior of an utterance (T, D) as a sparse matrix (I, T).

    Raises:
        NgtrainError: features or posterior are not those that the extractor is for.
    """
    try:
        extractor.check_features(features.shape[1])
        return by_gaussian(posterior, len(extractor))
    except NgtrainError as error:
        raise NgtrainError(f"utterance {key}: {error}") from error


@dataclass
class FeaturesWithPosteriors:
    """An iterator over (utterance, features (T, D), posterior) of two tables.

    Attributes:
        lost: utterances that lack one or the other, or for which they do not go together.
    """

    utterances: Iterator[tuple[str, np.ndarray]]
    posteriors: RandomAccessTable
    lost: Losses

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, Posterior]]:
        for key, features in self.utterances:
            try:
                yield key, features, posterior_of(self.posteriors, key, len(features))
            except Skip as reason:
                leave_out(self.lost, key, reason)


@contextmanager
def features_with_posteriors(
    feats_rspecifier: str, posteriors_rspecifier: str
) -> Iterator[FeaturesWithPosteriors]:
    """Open tables of features and posteriors to be read together."""
    with (
        sequential_table(feats_rspecifier, FEATURES) as utterances,
        random_access_table(posteriors_rspecifier, POSTERIOR) as posteriors,
    ):
        yield FeaturesWithPosteriors(utterances, posteriors, utterances.losses)


@dataclass
class Extraction:
    """An extraction of one i-vector for each utterance or speaker, with sums for the log.

    Attributes:
        acoustic_weight: how much the data count.
        max_count: frames, after that weight, above which they count less; 0 for no limit.
        compute_change: find how much better the i-vector is than the mean of its prior.
        num_done: i-vectors written.
        lost: utterances that were not used, and speakers without any.
    """

    extractor: IvectorExtractor
    acoustic_weight: float = 1.0
    max_count: float = 0.0
    compute_change: bool = True
    num_done: int = 0
    lost: Losses = field(default_factory=Losses)
    _frames: float = 0.0
    _change: float = 0.0
    _norm: float = 0.0

    def run(
        self,
        feats_rspecifier: str,
        posteriors_rspecifier: str,
        ivector_wspecifier: str,
        spk2utt_rspecifier: str = "",
    ) -> None:
        """Write a vector for each utterance or, if there is a list of speakers, for each of them.

        That of an utterance whose frames have no weight is 0; such speakers are left out.

        Raises:
            NgtrainError: features or posteriors are not those that the extractor is for.
        """
        with (
            random_access_table(posteriors_rspecifier, POSTERIOR) as posteriors,
            table_writer(ivector_wspecifier, FLOAT_VECTOR) as output,
        ):
            for speaker, utterances in by_speaker(
                spk2utt_rspecifier, feats_rspecifier, FEATURES, self.lost
            ):
                total = None
                for key, features in utterances:
                    try:
                        posterior = posterior_of(posteriors, key, len(features))
                    except Skip as reason:
                        leave_out(self.lost, key, reason)
                        continue
                    weighted = gaussians_of(self.extractor, key, features, posterior)
                    own = UtteranceStatistics.of(features, weighted * self.acoustic_weight)
                    total = own if total is None else total + own
                if spk2utt_rspecifier and (total is None or total.num_frames == 0.0):
                    leave_out(self.lost, speaker, Skip("No stats accumulated"))
                elif total is not None:
                    output.write(speaker, self._ivector(speaker, total).astype(np.float32))

    def _ivector(self, key: str, statistics: UtteranceStatistics) -> np.ndarray:
        """Estimate an i-vector, less the mean of its prior."""
        if 0 < self.max_count < statistics.num_frames:
            scale = self.max_count / statistics.num_frames
            statistics = statistics.scaled(scale)
            log.info(
                "Scaling stats for %s by scale %g due to --max-count=%g",
                *(key, scale, self.max_count),
            )
        default = self.extractor.default_ivector()
        ivector, _ = self.extractor.distribution(statistics)
        num_frames = statistics.num_frames
        if self.compute_change:
            change = self.extractor.auxiliary(statistics, ivector)
            change -= self.extractor.auxiliary(statistics, default)
            log.log(
                logging.DEBUG - 1,
                "Auxf change for %s was %g per frame over %g frames (weighted)",
                *(key, change / num_frames if num_frames else 0.0, num_frames),
            )
            self._change += change
        norm = float(np.linalg.norm(ivector - default))
        log.log(logging.DEBUG - 1, "Ivector norm for %s was %g", key, norm)
        self._norm += norm * num_frames
        self._frames += num_frames
        self.num_done += 1
        return ivector - default

    def report(self) -> None:
        """Log the lines of Kaldi's program."""
        log.info(
            "Done %d files, %d with errors.  Total (weighted) frames %g",
            *(self.num_done, self.lost.count, self._frames),
        )
        self.lost.report("%d utterances or speakers were not used")
        if not self._frames:
            return
        if self.compute_change:
            log.info(
                "Overall average objective-function change from estimating ivector was %g per "
                "frame  over %g (weighted) frames.",
                *(self._change / self._frames, self._frames),
            )
        log.info(
            "Average iVector norm (weighted by frames) was %g over %g frames (weighted)",
            *(self._norm / self._frames, self._frames),
        )
