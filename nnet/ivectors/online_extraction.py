"""Tables of i-vectors at regular intervals, each of the frames until then.

After Kaldi's online2bin/ivector-extract-online2.cc.
"""

from __future__ import annotations

import logging

import numpy as np

from nnet.features.speakers import by_speaker
from nnet.features.utterances import Skip, leave_out
from nnet.io.losses import Losses
from nnet.io.random_access import RandomAccessTable
from nnet.io.tables import FEATURES, table_writer
from nnet.ivectors.online import IvectorSystem, OnlineIvectors, SpeakerState

log = logging.getLogger("ngtrain")


class OnlineExtraction:
    """An extraction of i-vectors at regular intervals, with averages for the log.

    Attributes:
        num_done: utterances with i-vectors.
        lost: utterances without.
    """

    def __init__(
        self,
        system: IvectorSystem,
        repeat: bool = False,
        frame_weights: RandomAccessTable | None = None,
        length_tolerance: int = 0,
    ):
        self._system = system
        self._step = 1 if repeat else system.options.ivector_period
        self._frame_weights = frame_weights
        self._length_tolerance = length_tolerance
        self.num_done = 0
        self.lost = Losses()
        # Sums over frames: improvement, length of the i-vectors, length of the last, count.
        self._sums = np.zeros(4)
        self._surplus_said = False

    def run(self, spk2utt_rspecifier: str, feats_rspecifier: str, ivector_wspecifier: str) -> None:
        """Write a matrix of i-vectors for each utterance of the speakers."""
        system = self._system
        with table_writer(ivector_wspecifier, FEATURES) as output:
            for _, utterances in by_speaker(
                spk2utt_rspecifier, feats_rspecifier, FEATURES, self.lost
            ):
                state = SpeakerState.of_nothing(system)
                for key, features in utterances:
                    try:
                        ivectors = self._begin(key, features, state)
                    except Skip as reason:
                        leave_out(self.lost, key, reason)
                        continue
                    rows = ivectors.rows(range(0, len(features), self._step))
                    output.write(key, rows)
                    self._count(key, ivectors, rows, len(features))
                    state = ivectors.speaker_state()

    def _begin(self, key: str, features: np.ndarray, state: SpeakerState) -> OnlineIvectors:
        """Take in an utterance; Skip without frames, or without weights for them."""
        if not len(features):
            raise Skip("empty feature matrix")
        dim = self._system.base_dim
        if features.shape[1] == dim + 3:
            if not self._surplus_said:
                log.warning(
                    "Feature dimension is too large by 3, assuming there are pitch features and "
                    "removing the last 3 dims."
                )
                self._surplus_said = True
            features = features[:, :dim]
        ivectors = OnlineIvectors(self._system, state)
        ivectors.accept(features, is_last=True)
        if self._frame_weights is not None:
            weights = self._frame_weights.get(key)
            if weights is None:
                raise Skip(f"no weights: {self._frame_weights.why_not(key)}")
            if abs(len(weights) - len(features)) > self._length_tolerance:
                raise Skip(f"{len(weights)} weights for {len(features)} frames")
            missing = max(0, len(features) - len(weights))
            weights = np.pad(weights[: len(features)].astype(np.float64), (0, missing))
            ivectors.reweight(0, weights - 1.0)
        return ivectors

    def _count(self, key: str, ivectors: OnlineIvectors, rows: np.ndarray, num_frames: int) -> None:
        lengths = np.linalg.norm(rows, axis=1)
        self.num_done += 1
        means = ivectors.improvement, lengths.mean(), lengths[-1], 1.0
        self._sums += num_frames * np.array(means)
        log.log(
            logging.DEBUG - 1,
            "For utterance %s, UBM loglike/frame was %g, iVector length (at utterance end) was %g, "
            "objf improvement/frame from iVector estimation was %g",
            *(key, ivectors.ubm_log_likelihood / num_frames, lengths[-1], ivectors.improvement),
        )

    def report(self) -> None:
        """Log the lines of Kaldi's program."""
        log.info("Estimated iVectors for %d files, %d with errors.", self.num_done, self.lost.count)
        self.lost.report(f"no i-vectors for %d of {self.num_done + self.lost.count} utterances")
        if not self.num_done:
            return
        count = self._sums[-1]
        improvement, length, last_length, _ = self._sums / count
        log.info(
            "Average objective-function improvement was %g per frame, over %g frames (weighted).",
            *(improvement, count),
        )
        log.info(
            "Average iVector length was %g and at utterance-end was %g, over %g frames "
            "(weighted);  expected length is %g",
            *(length, last_length, count, self._system.extractor.ivector_dim**0.5),
        )
