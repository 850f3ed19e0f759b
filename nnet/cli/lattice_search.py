"""Options of programs that search for lattices (Kaldi's LatticeFasterDecoderConfig)."""

from nnet.cli import argument, option
from nnet.cli.config_options import options
from nnet.cli.determinization import phone_determinization_options

lattice_search_options = options(
    option("--beam", 16.0, "Decoding beam.  Larger->slower, more accurate.", above=0),
    option(
        "--max-active", 2147483647, "Decoder max active states.  Larger->slower; more accurate",
        least=2,
    ),
    option("--min-active", 200, "Decoder minimum #active states.", least=0),
    option(
        "--lattice-beam", 10.0, "Lattice generation beam.  Larger->slower, and deeper lattices",
        above=0,
    ),
    option("--prune-interval", 25, "Interval (in frames) at which to prune tokens", least=1),
    option("--beam-delta", 0.5, "Increment used in decoding [obscure setting]", above=0),
    option(
        "--determinize-lattice",
        True,
        "If true, determinize the lattice (lattice-determinization, keeping only best pdf-sequence "
        "for each word-sequence).",
    ),
    phone_determinization_options,
)  # fmt: skip
"""Decorator for the fields of LatticeOptions."""

lattice_generation = options(
    argument("model_in", "fst_in", "features_rspecifier", "lattice_wspecifier"),
    argument("words_wspecifier", "alignments_wspecifier", required=False),
    option("--acoustic-scale", 0.1, "Scaling factor for acoustic likelihoods", above=0),
    option("--word-symbol-table", "", "Symbol table for words [for debug output]"),
    option("--allow-partial", False, "If true, produce output even if end state was not reached."),
    lattice_search_options,
)
"""Decorator for what generate_lattices takes, with the file of the model."""

parallel_options = options(
    option("--num-threads", 1, "Number of processes that search at the same time", least=1),
    option(
        "--num-threads-total",
        0,
        "Most utterances at once, with those whose lattices wait for earlier ones.  Controls "
        "memory use.  If <= 0, defaults to --num-threads plus 20.  Otherwise, must be >= "
        "num-threads.",
    ),
)
"""Decorator of the programs that search for several utterances at once."""
