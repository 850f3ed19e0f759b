"""Weights of frames in i-vectors of online decoding: less for what the search takes for silence.

Worked from Kaldi's OnlineSilenceWeighting (online2/online-ivector-feature.cc).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from nnet.hmm.transition_model import TransitionModel

REACH = 100
"""Frames before those that are new whose weights may still change."""


@dataclass(frozen=True)
class SilenceOptions:
    """Options of the weighting (OnlineSilenceWeightingConfig).

    Attributes:
        silence_phones: phones whose frames are silence.
        silence_weight: of these.
        max_state_duration: as many frames in a row of one transition-id are silence, too; if
            positive.
    """

    silence_phones: Collection[int] = ()
    silence_weight: float = 1.0
    max_state_duration: float = -1.0

    @property
    def is_active(self) -> bool:
        return bool(self.silence_phones) and self.silence_weight != 1.0


class SilenceWeighting:
    """The weighting of one utterance, whose frames weigh 1 until it says otherwise."""

    def __init__(self, options: SilenceOptions, transitions: TransitionModel):
        self._options = options
        self._is_silence = np.isin(transitions.phone_of, list(options.silence_phones))
        self._weights = np.zeros(0)

    def changes(
        self, num_frames: int, num_decoded: int, ids_backward: Iterator[int]
    ) -> tuple[int, np.ndarray]:
        """Weigh the frames that there are by the best path of the moment.

        Frames after those that were decoded weigh what the last of these does; as long as there is
        none, they are silence.

        Args:
            ids_backward: the path's transition-ids, from the last of `num_decoded` frames back.

        Returns:
            The first frame whose weight may change, and by how much it and those after it change.
        """
        begin = max(0, len(self._weights) - REACH)
        ids = list(islice(ids_backward, max(0, num_decoded - begin)))[::-1]
        before = self._options.silence_weight if begin == 0 else self._weights[begin - 1]
        known = self._weights_of(ids) if ids else [before]
        count = num_frames - begin
        weights = np.pad(known, (0, max(0, count - len(known))), "edge")[:count]
        old = np.ones(count)
        old[: len(self._weights) - begin] = self._weights[begin:]
        self._weights = np.concatenate([self._weights[:begin], weights])
        return begin, weights - old

    def _weights_of(self, ids: list[int]) -> list[float]:
        most, weights = self._options.max_state_duration, []
        for transition_id, run in groupby(ids):
            count = len(list(run))
            silent = self._is_silence[transition_id] or 0 < most <= count
            weights += [self._options.silence_weight if silent else 1.0] * count
        return weights
