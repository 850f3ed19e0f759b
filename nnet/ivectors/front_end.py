"""The front end of online decoding: from samples to the input of a network, chunk by chunk.

After Kaldi's online2/online-nnet2-feature-pipeline.cc: cepstra or filter banks, normalized online
if that is asked for, and beside them i-vectors that were estimated from frames as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nnet.features.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.features.plp import PlpFeatures
from nnet.features.speakers import by_speaker
from nnet.features.spectral import SpectralFeatures
from nnet.features.utterances import Skip, leave_out
from nnet.features.wave import WAVE, Wave
from nnet.io.losses import Losses
from nnet.ivectors.online import IvectorSystem, OnlineIvectors, SpeakerState

T = TypeVar("T")


@dataclass
class FrontEndSystem:
    """All that a front end is made of.

    Attributes:
        spectral: computes MFCC, PLP or filter banks.
        cmvn: how these are normalized, with `global_cmvn_stats`; None for not at all.
        ivectors: what i-vectors are made with; None for none.
    """

    spectral: SpectralFeatures | PlpFeatures
    cmvn: OnlineCmvnOptions | None = None
    global_cmvn_stats: np.ndarray | None = None
    ivectors: IvectorSystem | None = None

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self.spectral.frame_shift

    @property
    def ivector_dim(self) -> int:
        """Dimension of the i-vectors; 0 where there are none."""
        return self.ivectors.extractor.ivector_dim if self.ivectors is not None else 0

    def chunks(
        self, key: str, recording: Wave, seconds: float
    ) -> Iterator[tuple[np.ndarray, bool]]:
        """Cut the first channel into what comes in at once; tell of each part if it is the last.

        All is one part if `seconds` is not positive.

        Raises:
            Skip: it is of another sample rate.
        """
        rate = self.spectral.sample_rate
        samples = self.spectral.at_sample_rate(key, recording.samples[0], recording.sample_rate)
        size = max(int(rate * seconds), 1) if seconds > 0 else max(len(samples), 1)
        for begin in range(0, max(len(samples), 1), size):
            yield samples[begin : begin + size], begin + size >= len(samples)


@dataclass
class FrontEndState:
    """The rest of earlier utterances of a speaker."""

    ivectors: SpeakerState | None = None
    cmvn_stats: np.ndarray | None = None


def adapting(
    function: Callable[[str, Wave, FrontEndState], tuple[T, FrontEndState]],
    spk2utt_rspecifier: str,
    wav_rspecifier: str,
    lost: Losses,
) -> Iterator[tuple[str, T]]:
    """Yield what a function finds in each utterance, given what is known of the speaker until then.

    Args:
        function: called with key, recording and state, it returns what it found and the new state.
        lost: counts utterances that are not there, or for which `function` raised Skip.
    """
    for _, utterances in by_speaker(spk2utt_rspecifier, wav_rspecifier, WAVE, lost):
        state = FrontEndState()
        for key, recording in utterances:
            try:
                found, state = function(key, recording, state)
            except Skip as reason:
                leave_out(lost, key, reason)
            else:
                yield key, found


class OnlineFrontEnd:
    """The front end of one utterance.

    Attributes:
        num_frames_ready: frames that can be asked for.
        is_finished: whether there will be no more.
    """

    def __init__(self, system: FrontEndSystem, key: str, state: FrontEndState):
        """Begin with an utterance, at the configured sample rate."""
        self._stream = system.spectral.stream(key)
        self._cmvn = None
        if system.cmvn is not None and system.global_cmvn_stats is not None:
            self._cmvn = OnlineCmvn(system.cmvn, system.global_cmvn_stats, state.cmvn_stats)
        self._ivectors = None
        if system.ivectors is not None:
            known = state.ivectors or SpeakerState.of_nothing(system.ivectors)
            self._ivectors = OnlineIvectors(system.ivectors, known)
        self._frames: list[np.ndarray] = []
        self.is_finished = False

    def accept(self, samples: np.ndarray, is_last: bool = False) -> None:
        """Take the samples (n,) that come next, on the scale of 16-bit integers.

        Raises:
            NgtrainError: features do not have the dimension that statistics have.
        """
        frames = self._stream(samples, is_last)
        self.is_finished = is_last
        if self._ivectors is not None and (len(frames) or is_last):
            self._ivectors.accept(frames, is_last)
        self._frames.extend(self._cmvn(frames) if self._cmvn is not None else frames)

    @property
    def num_frames_ready(self) -> int:
        if self._ivectors is None:
            return len(self._frames)
        return min(len(self._frames), self._ivectors.num_frames_ready)

    def reweight(self, begin: int, changes: np.ndarray) -> None:
        """Change what frames from `begin` on weigh in i-vectors; see OnlineIvectors."""
        if self._ivectors is not None:
            self._ivectors.reweight(begin, changes)

    def frames(self, indexes: np.ndarray) -> np.ndarray:
        """Return frames by their numbers (n,), each with the i-vector that there is for it now."""
        rows = np.array([self._frames[index] for index in indexes])
        if self._ivectors is None:
            return rows
        return np.hstack([rows, self._ivectors.rows(indexes.tolist())])

    def state(self) -> FrontEndState:
        """Return what the next utterance of the speaker is to begin with."""
        return FrontEndState(
            self._ivectors.speaker_state() if self._ivectors is not None else None,
            self._cmvn.speaker_statistics() if self._cmvn is not None else None,
        )
