"""Options of programs that determinize lattices."""

from nnet.cli import determinization_options, option
from nnet.cli.config_options import options

determinized_tables = options(
    option(
        "--write-compact",
        True,
        "If true, write in normal (compact) form.  --write-compact=false allows you to retain "
        "frame-level acoustic score information, but this requires the input to be in non-compact "
        "form e.g. undeterminized lattice straight from decoding.",
    ),
    option("--acoustic-scale", 1.0, "Scaling factor for acoustic likelihoods"),
    option("--beam", 10.0, "Pruning beam [applied after acoustic scaling].", above=0),
)
"""Decorator for what determinize_table takes, and a beam."""

phone_determinization_options = options(
    option(
        "--phone-determinize",
        True,
        "If true, do an initial pass of determinization on both phones and words (see also "
        "--word-determinize)",
    ),
    option(
        "--word-determinize",
        True,
        "If true, do a second pass of determinization on words only (see also --phone-determinize)",
    ),
    option("--minimize", False, "If true, push and minimize after determinization."),
    determinization_options,
)
"""Decorator for the passes and limits of determinize_phones_and_words."""
