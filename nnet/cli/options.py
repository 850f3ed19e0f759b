"""Options that several programs share, as decorators."""

import os
from collections.abc import Callable

from nnet.cli.program import Choice, option


def _use_gpu(default: str, more: str = "") -> Callable:
    return option(
        "--use-gpu",
        default,
        "Compute on a GPU: yes (none is an error), no, optional (if there is one), wait (until one "
        f"is free){more}",
        type=Choice(["yes", "no", "optional", "wait"]),
    )


gpu_option = _use_gpu("no")
"""Decorator that gives a program ``--use-gpu``, and its function a parameter ``device``."""

training_gpu_option = _use_gpu(
    os.environ.get("NGTRAIN_USE_GPU") or "no",
    ".  Kaldi's scripts do not pass it: NGTRAIN_USE_GPU in the environment is what it is if not "
    "given",
)
"""The same, for programs that in Kaldi compute on a GPU if they are not told otherwise."""

checksum_option = option(
    "--write-checksum",
    False,
    "Write a checksum into <output>.crc32, by which programs that average or combine models find "
    "damage",
)
"""Decorator for programs whose models other jobs read."""

tf32_option = option(
    "--tf32",
    False,
    "On a GPU, let products of matrices round what they multiply to 10 bits (TF32), which is "
    "several times as fast",
)
"""Decorator for programs with ``--use-gpu``, likewise."""

info_dir_option = option(
    "--info-dir",
    "",
    "Write into this directory, for each file of examples that is written, a file of the same name "
    "that says what nnet-egs-info says of it",
)
"""Decorator for programs that write examples."""

zero_stats_option = option(
    "--zero-stats",
    True,
    "If true, zero the statistics stored with the neural net (activations, and occupation counts "
    "for mixing up)",
)
"""Decorator for programs that train on labelled frames."""

minibatches_per_phase_option = option(
    "--minibatches-per-phase",
    50,
    "Number of minibatches to wait before printing training-set objective",
    least=1,
)
"""The same."""

learning_rate_option = option(
    "--learning-rate",
    -1.0,
    "If supplied, all the learning rates of updatable layers are set to this value",
)

learning_rate_scales_option = option(
    "--learning-rate-scales",
    "",
    "Scaling factors for the learning rates of particular component types, e.g. "
    "--learning-rate-scales=AffineComponent=0.5:AffineComponentPreconditioned=0.1",
)

truncate_option = option(
    "--truncate",
    -1,
    "If set, will truncate the neural net to this many components by removing the last components",
)

pad_input_option = option(
    "--pad-input",
    True,
    "If true, duplicate the first and last frames of input features as required for temporal "
    "context, to prevent #frames of output being less than those of input",
)

apply_log_option = option(
    "--apply-log", False, "Apply a log to the result of the computation before outputting"
)


def transform_options(function: Callable) -> Callable:
    """Give a program the options of the transform of a network's input, which they share."""
    options = [
        option(
            "--remove-offset",
            True,
            "If true, output an affine transform that makes the projected data mean equal to zero",
        ),
        option(
            "--within-class-factor",
            0.001,
            "If 1.0, do conventional LDA where the within-class variance will be unit in the "
            "projected space; if less, give less variance to what does not tell classes apart",
        ),
        option(
            "--max-singular-value",
            5.0,
            "If > 0, maximum allowed singular value of final transform",
        ),
    ]
    for declare in reversed(options):
        function = declare(function)
    return function


def determinization_options(function: Callable) -> Callable:
    """Give a program ``--delta`` and ``--max-mem``, of the determinization of lattices."""
    max_mem = option(
        "--max-mem",
        50_000_000,
        "Maximum approximate memory usage in determinization (real usage might be many times this)",
    )
    return option("--delta", 1.0 / 1024, "Tolerance used in determinization")(max_mem(function))


def scoring_options(function: Callable) -> Callable:
    """Give a program ``--inv-acoustic-scales`` and ``--word-ins-penalties``, for many outputs."""
    penalties = option(
        "--word-ins-penalties", "0.0", "Values of PENALTY, the cost added to each word"
    )
    scales = option(
        "--inv-acoustic-scales",
        "",
        "If given, values of LMWT, numbers and ranges first:last[:step], separated by commas, e.g. "
        "7:17,20:60:5",
    )
    return scales(penalties(function))
