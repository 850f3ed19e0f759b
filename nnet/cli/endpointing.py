"""Options that say where an utterance ends (Kaldi's OnlineEndpointConfig)."""

from __future__ import annotations

from math import inf
from typing import Any

from nnet.cli import option
from nnet.cli.config_options import options

_HELP = {
    "must_contain_nonsilence": "there must be nonsilence in the best-path traceback",
    "min_trailing_silence": "duration of trailing silence (in seconds) must be >= this value",
    "max_relative_cost": "relative-cost of final-states must be <= this value",
    "min_utterance_length": "utterance-length (in seconds) must be >= this value",
}
_DEFAULTS = (
    (False, 5.0, inf, 0.0),
    (True, 0.5, 2.0, 0.0),
    (True, 1.0, 8.0, 0.0),
    (True, 2.0, inf, 0.0),
    (False, 0.0, inf, 20.0),
)


def _declared():
    yield option(
        "--endpoint.silence-phones",
        "",
        "List of phones that are considered to be silence phones by the endpointing code "
        "(colon-separated).",
        "endpoint_silence_phones",
    )
    for number, defaults in enumerate(_DEFAULTS, 1):
        for (name, text), default in zip(_HELP.items(), defaults, strict=True):
            yield option(
                f"--endpoint.rule{number}.{name.replace('_', '-')}",
                default,
                f"For endpointing rule {number} to apply, {text}",
                f"endpoint_rule{number}_{name}",
            )


endpoint_options = options(*_declared())
"""Decorator for the options of endpointing; an utterance ends where one of five rules applies."""


def take_endpointing(given: dict[str, Any]) -> dict[str, Any]:
    """Take what `endpoint_options` declares out of a program's options, as fields of OnlineOptions.

    Raises:
        NgtrainError: the silence phones are no list of integers.
    """
    from dataclasses import fields

    from nnet.cli.option_lists import parse_integers
    from nnet.decoding.online import EndpointRule

    phones = given.pop("endpoint_silence_phones").replace(",", ":")
    rules = [
        EndpointRule(*(given.pop(f"endpoint_rule{n}_{part.name}") for part in fields(EndpointRule)))
        for n in range(1, len(_DEFAULTS) + 1)
    ]
    return {"silence_phones": parse_integers("--endpoint.silence-phones", phones), "rules": rules}
