"""Weights of frames in i-vectors by what the search takes for silence."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nnet.cli.config_options import read_options
from nnet.cli.silence_weighting import silence_weighting_options, take_silence_weighting
from nnet.decoding.online import OnlineDecoding
from nnet.decoding.silence_weighting import REACH, SilenceOptions, SilenceWeighting
from nnet.errors import NgtrainError

TRANSITIONS: Any = SimpleNamespace(phone_of=np.array([0, 1, 1, 2, 2, 3]))
S, A, B = 1, 3, 5  # transition-ids; 1 and 2 are of silence, phone 1


class Weights:
    """The weights of frames, added up from their changes."""

    def __init__(self, **options):
        options = SilenceOptions([1], silence_weight=0.25, **options)
        self._weighting = SilenceWeighting(options, TRANSITIONS)
        self._weights = np.ones(1000)

    def after(self, num_frames: int, path: list[int]) -> list[float]:
        """Weigh frames by the best path of those that were decoded."""
        begin, changes = self._weighting.changes(num_frames, len(path), iter(path[::-1]))
        assert begin + len(changes) == num_frames
        self._weights[begin:num_frames] += changes
        return self._weights[:num_frames].tolist()


def test_silence_on_the_best_path():
    weights = Weights()
    assert weights.after(0, []) == []
    assert weights.after(3, []) == [0.25] * 3  # nothing is known yet
    assert weights.after(6, [S, S, A]) == [0.25, 0.25, 1, 1, 1, 1]
    assert weights.after(8, [S, A, A, A, B, 2]) == [0.25, 1, 1, 1, 1, 0.25, 0.25, 0.25]


def test_long_states_are_silence():
    weights = Weights(max_state_duration=3)
    assert weights.after(6, [A, A, A, B, B]) == [0.25] * 3 + [1] * 3
    assert weights.after(7, [A, A, B, B, B, B]) == [1, 1] + [0.25] * 5


def test_frames_of_long_ago_stay():
    weights = Weights()
    path = [A] * 150
    weights.after(150, path)
    assert weights.after(160, [S] * 150) == [1] * 50 + [0.25] * 110
    later = weights.after(300, [A] * (160 - REACH))  # the search lags behind all that may change
    assert later == [1] * 50 + [0.25] * 250


def test_the_weights_go_to_the_source():
    changed = []
    search = SimpleNamespace(begin=lambda: None, transition_ids_backward=lambda: iter([A, S, S]))
    source: Any = SimpleNamespace(
        num_frames_ready=4, reweight=lambda begin, changes: changed.append((begin, list(changes)))
    )
    decoder: Any = SimpleNamespace(search=search)
    decoding = OnlineDecoding("key", None, decoder, source, 0.1)  # type: ignore[arg-type]
    decoding.num_frames = 3
    decoding.weigh_silence(SilenceWeighting(SilenceOptions([1], 0.0), TRANSITIONS))
    assert changed == [(0, [-1.0, -1.0, 0.0, 0.0])]


def test_options():
    given = read_options(silence_weighting_options, "")
    assert not take_silence_weighting(given).is_active
    assert given == {}
    given = {"silence_phones": "1,2:3", "silence_weight": 0.1, "max_state_duration": -1.0}
    options = take_silence_weighting(given)
    assert options.is_active and options.silence_phones == [1, 2, 3]
    given = {"silence_phones": "sil", "silence_weight": 0.1, "max_state_duration": -1.0}
    with pytest.raises(NgtrainError, match="silence-phones=sil: expected integers"):
        take_silence_weighting(given)
