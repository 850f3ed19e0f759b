"""The options of programs that train on sequences."""

from __future__ import annotations

from collections.abc import Callable

from nnet.cli.program import option


def sequence_options(function: Callable) -> Callable:
    """Decorator that gives a program the options of nnet.training.sequence_criteria."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function


criterion_option = option(
    "--criterion",
    "smbr",
    "Criterion, 'mmi'|'mpfe'|'smbr', determines the objective function to use.  Should match "
    "the option used when the examples were created.",
)
drop_frames_option = option(
    "--drop-frames", False, "For MMI, if true we drop frames with no overlap of num and den frames"
)
one_silence_class_option = option(
    "--one-silence-class", False, "If true, newer behavior which will tend to reduce insertions."
)
_OPTIONS = (
    criterion_option,
    option("--acoustic-scale", 0.1, "Weighting factor to apply to acoustic likelihoods."),
    drop_frames_option,
    option("--boost", 0.0, "Boosting factor for boosted MMI (e.g. 0.1)"),
    one_silence_class_option,
    option(
        "--silence-phones",
        "",
        "For MPFE or SMBR, colon-separated list of integer ids of silence phones, e.g. 1:2:3",
    ),
)
