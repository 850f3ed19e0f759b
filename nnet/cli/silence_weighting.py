"""Options that say how silence is weighted in i-vectors (Kaldi's OnlineSilenceWeightingConfig)."""

from __future__ import annotations

from typing import Any

from nnet.cli import option
from nnet.cli.config_options import options

_PREFIX = "--ivector-silence-weighting."

silence_weighting_options = options(
    option(
        f"{_PREFIX}silence-phones",
        "",
        "List of integer ids of silence phones, separated by colons (or commas).  What the best "
        "path of the moment takes for one of these is weighted by silence-weight in i-vectors",
        "silence_phones",
    ),
    option(
        f"{_PREFIX}silence-weight",
        1.0,
        "Weight of frames of silence; only relevant if silence-phones are given",
        "silence_weight",
        least=0,
    ),
    option(
        f"{_PREFIX}max-state-duration",
        -1.0,
        "Maximum duration of a single transition-id, in frames; what is as long as that or longer "
        "is weighted as silence (if positive)",
        "max_state_duration",
    ),
)
"""Decorator for the options of the weighting of silence."""


def take_silence_weighting(given: dict[str, Any]):
    """Take what `silence_weighting_options` declares out of a program's options: SilenceOptions.

    Raises:
        NgtrainError: the silence phones are no list of integers.
    """
    from nnet.cli.option_lists import parse_integers
    from nnet.decoding.silence_weighting import SilenceOptions

    phones = given.pop("silence_phones").replace(",", ":")
    return SilenceOptions(
        parse_integers(f"{_PREFIX}silence-phones", phones),
        given.pop("silence_weight"),
        given.pop("max_state_duration"),
    )
