"""Decoding of speech as it comes in: likelihoods and search are advanced chunk by chunk.

After Kaldi's online2/online-nnet2-decoding.cc, nnet2/online-nnet2-decodable.cc and
online2/online-endpoint.cc.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nnet.decoding.decoder import Decoder, GraphPath
from nnet.model.acoustic_model import AcousticModel


class FrameSource(Protocol):
    """A source of frames; see nnet/ivectors/front_end.py."""

    is_finished: bool

    @property
    def num_frames_ready(self) -> int: ...

    def frames(self, indexes: np.ndarray) -> np.ndarray: ...


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
        decoder: Decoder,
        source: FrameSource,
        acoustic_scale: float,
        max_batch: int = 256,
    ):
        self._key, self._model, self._source = key, model, source
        self._acoustic_scale, self._max_batch = acoustic_scale, max_batch
        self._decoder = decoder
        decoder.begin()
        self.num_frames = 0

    def advance(self) -> None:
        """Decode the frames that have the context that the network needs, or all at the end.

        Raises:
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
            self._decoder.advance(outputs, self._acoustic_scale)
            self.num_frames = end

    def best_path(self, is_complete: bool = True) -> GraphPath | None:
        """Find the best path so far; None without a frame.

        is_complete: have it end in a final state, if one was reached.
        """
        return self._decoder.best_path(is_complete) if self.num_frames else None

    def is_at_end(
        self,
        silence_phones: Collection[int],
        frame_shift: float,
        rules: Iterable[EndpointRule] = ENDPOINT_RULES,
    ) -> bool:
        """Tell whether the utterance seems to have ended."""
        path = self.best_path(is_complete=False)
        if path is None:
            return False
        phones = self._model.transition_model.phone_of[path.alignment]
        is_speech = ~np.isin(phones, list(silence_phones))
        silent = len(phones) if not is_speech.any() else int(is_speech[::-1].argmax())
        times = silent * frame_shift, self._decoder.relative_cost(), self.num_frames * frame_shift
        return any(rule.holds(*times) for rule in rules)
