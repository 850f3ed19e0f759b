"""Decoding of speech as it comes in: likelihoods and search are advanced chunk by chunk.

After Kaldi's online2/online-nnet2-decoding.cc, nnet2/online-nnet2-decodable.cc and
online2/online-endpoint.cc.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import numpy as np

from nnet.decoding.lattice_decoder import DecodedUtterance, LatticeDecoder
from nnet.decoding.silence_weighting import SilenceWeighting
from nnet.features.utterances import Skip
from nnet.model.acoustic_model import AcousticModel


class FrameSource(Protocol):
    """A source of frames; see nnet/ivectors/front_end.py."""

    is_finished: bool

    @property
    def num_frames_ready(self) -> int: ...

    def frames(self, indexes: np.ndarray) -> np.ndarray: ...

    def reweight(self, begin: int, changes: np.ndarray) -> None: ...


@dataclass(frozen=True)
class EndpointRule:
    """Conditions all of which must hold for the end of an utterance.

    Attributes:
        must_contain_nonsilence: there was something else than silence.
        min_trailing_silence: seconds of silence at the end.
        max_relative_cost: how much more the best path to a final state costs than the best one.
        min_utterance_length: seconds.
    """

    must_contain_nonsilence: bool = True
    min_trailing_silence: float = 1.0
    max_relative_cost: float = math.inf
    min_utterance_length: float = 0.0

    def holds(self, trailing_silence: float, relative_cost: float, length: float) -> bool:
        """Tell whether the utterance ends by this rule; times are in seconds."""
        return (
            (length > trailing_silence or not self.must_contain_nonsilence)
            and trailing_silence >= self.min_trailing_silence
            and relative_cost <= self.max_relative_cost
            and length >= self.min_utterance_length
        )


ENDPOINT_RULES = (
    EndpointRule(False, 5.0),
    EndpointRule(True, 0.5, 2.0),
    EndpointRule(True, 1.0, 8.0),
    EndpointRule(True, 2.0),
    EndpointRule(False, 0.0, math.inf, 20.0),
)
"""Kaldi's five: an utterance ends where one of them holds."""


class OnlineDecoding:
    """The decoding of one utterance.

    Args:
        decoder: does the search, of this utterance alone until the next begins.
        source: has the frames, and may get more of them from one call to the next.
        max_batch: frames for which the network computes outputs at once.

    Attributes:
        num_frames: decoded until now.
    """

    def __init__(
        self,
        key: str,
        model: AcousticModel,
        decoder: LatticeDecoder,
        source: FrameSource,
        acoustic_scale: float,
        max_batch: int = 256,
    ):
        self._key, self._model, self._source = key, model, source
        self._acoustic_scale, self._max_batch = acoustic_scale, max_batch
        self._decoder = decoder
        decoder.search.begin()
        self.num_frames = 0

    def advance(self) -> None:
        """Decode the frames that have the context that the network needs, or all at the end.

        Raises:
            Skip: no path survives.
            NgtrainError: the features do not fit the model.
        """
        network, source = self._model.network, self._source
        left, right = network.left_context, network.right_context
        ready = source.num_frames_ready - (0 if source.is_finished else right)
        while self.num_frames < ready:
            end = min(ready, self.num_frames + self._max_batch)
            context = np.arange(self.num_frames - left, end + right)
            inputs = source.frames(np.clip(context, 0, source.num_frames_ready - 1))
            outputs = self._model.log_likelihoods(inputs, self._key, pad_input=False)
            if not self._decoder.search.advance(outputs, self._acoustic_scale):
                raise Skip("no path survives")
            self.num_frames = end

    def weigh_silence(self, weighting: SilenceWeighting) -> None:
        """Have frames weighted in i-vectors by the best path until now."""
        path = self._decoder.search.transition_ids_backward()
        ready = self._source.num_frames_ready
        self._source.reweight(*weighting.changes(ready, self.num_frames, path))

    def decoded(self) -> DecodedUtterance:
        """Make the lattice of what was found until now.

        Raises:
            Skip: there was no frame.
        """
        if not self.num_frames:
            raise Skip("no frame could be decoded")
        return self._decoder.decoded(self._acoustic_scale)

    def is_at_end(
        self,
        silence_phones: Collection[int],
        frame_shift: float,
        rules: Iterable[EndpointRule] = ENDPOINT_RULES,
    ) -> bool:
        """Tell whether the utterance seems to have ended; without a frame it has not."""
        if not self.num_frames:
            return False
        phone_of = self._model.transition_model.phone_of
        search, silence = self._decoder.search, set(silence_phones)
        phones = (phone_of[label] for label in search.transition_ids_backward())
        silent = sum(1 for _ in takewhile(silence.__contains__, phones))
        times = silent * frame_shift, search.relative_cost(), self.num_frames * frame_shift
        return any(rule.holds(*times) for rule in rules)
