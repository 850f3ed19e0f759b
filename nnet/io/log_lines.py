"""Lines that one program writes into a log and another reads there: formats beside their patterns.

Programs write `LINE.format` by logging, whose arguments fill it; drivers and reports look for
`LINE.pattern`.  Most lines are those of Kaldi's programs, for whose logs the patterns hold, too.
"""

from typing import NamedTuple


class LogLine(NamedTuple):
    """A line of a log: its %-format, and the pattern of what is read in it."""

    format: str
    pattern: str


# Training -----------------------------------------------------------------------------------------

BACKPROP = LogLine(
    "Did backprop on %g examples, average log-prob per frame is %g",
    r"Did backprop on (\S+) examples",
)
OBJECTIVE = LogLine(
    "[this line is to be parsed by a script:] log-prob-per-frame=%g", r"log-prob-per-frame=(\S+)"
)
LIMITED = LogLine("Limited %d of %d steps of layers", r"Limited (\d+) of (\d+) steps of layers")
"""How often the limit on the change shortened what a minibatch did to a layer, in all of a job."""
SEQUENCE_OBJECTIVE = LogLine(
    "%s objective function is %s per frame, over %g frames.",
    r"objective function is (?:.* = )?(\S+) per frame",
)
STEPS_SECONDS = LogLine(
    "Finished training, processed %d training examples in %.2f seconds.  Wrote model to %s",
    r"training examples in (\S+) seconds",
)
PROBABILITY = LogLine(
    "Saw %d examples, average probability is %g and accuracy is %g with total weight %g",
    r"average probability is (\S+) and accuracy is (\S+) with",
)
CHANGE = LogLine(
    "Parameter differences per layer are %s", r" Parameter differences per layer are +\[ (.*?) \]"
)
RELATIVE_CHANGE = LogLine(
    "Relative parameter differences per layer are %s",
    r" Relative parameter differences per layer are +\[ (.*?) \]",
)
OBJECTIVE_CHANGE = LogLine(
    "Total objf change per component is %s", r" Total objf change per component is +\[ (.*?) \]"
)
SECONDS = LogLine(
    "seconds: %s; %.1f of the iterations for gradient steps, and %.2f each for the rest",
    r"seconds: (.*); (\S+) of the iterations for gradient steps, and (\S+) each",
)
LEFT_OUT = LogLine("%d %d %s", r"(\d+) (\d+) (.*)")
"""Of the file left_out: an iteration, a job of it that does not count, and why."""

# What became of the data --------------------------------------------------------------------------

LDA_STATISTICS = LogLine(
    "Done %d files, failed for %d", r"Done (?P<done>\d+) files, failed for (?P<failed>\d+)"
)
TREE_STATISTICS = LogLine(
    "Accumulated stats for %d files, %d failed due to no alignment, %d failed for other reasons.",
    r"stats for (?P<done>\d+) files, (?P<no_alignment>\d+) failed .*, (?P<failed>\d+) failed",
)
CONVERTED = LogLine(
    "Succeeded converting alignments for %d files, failed for %d",
    r"converting alignments for (?P<done>\d+) files, failed for (?P<failed>\d+)",
)
EXAMPLES = LogLine(
    "Finished generating examples, successfully processed %d feature files, wrote %d examples,  "
    "with %d egs in total; %d files had errors.",
    r"processed (?P<utterances>\d+) feature files, .* with (?P<frames>\d+) egs in total",
)
DISCRIMINATIVE_EXAMPLES = LogLine(
    "Finished generating examples, successfully processed %d feature files, %d had errors.",
    r"processed (?P<utterances>\d+) feature files, (?P<failed>\d+) had errors",
)
RELABELLED = LogLine(
    "Read %d alignments containing a total of %d frames; labelled %d frames out of %d examples; "
    "labels changed for %d of those frames.",
    r"labelled (?P<done>\d+) frames out of (?P<all>\d+) examples",
)
ALIGNED = LogLine("Done %d, errors on %d", r"Done (?P<done>\d+), errors on \d+")
RETRIED = LogLine("Retried %d out of %d utterances.", r"Retried (?P<retried>\d+) out of")
DECODED = LogLine(
    "Done %d utterances, failed for %d", r"Done (?P<done>\d+) utterances, failed for \d+"
)
COUNTED = LogLine("%s, such as %s", r"WARNING \([^)]*\) (.*?)(\d+) of (\d+) (.*?), such as (.*)")
"""A sentence with the number of what was left out, and the first of it (nnet.io.losses)."""
WER = LogLine(
    "%%WER %.2f [ %d / %d, %d ins, %d del, %d sub ]",
    r"%WER (\d+\.?\d*|nan) \[ (\d+) / (\d+), (\d+) ins, (\d+) del, (\d+) sub \]",
)

# Launchers ----------------------------------------------------------------------------------------

DATE = r"\w{3} (\w{3} +\d+ \d+:\d+:\d+) \S+ (\d{4})"
"""A time as the program `date` prints it, without its zone: all machines of a cluster have one."""
STARTED = LogLine("# Started at %s", rf"^# Started .*?at {DATE}")
ENDED = LogLine("# Ended (%s) at %s, elapsed time %d seconds", rf"^# Ended .*?at {DATE}")
ENDED_CODE = r"^# Ended \((.+?)\)"
ELAPSED = r"elapsed time (\d+) seconds"
"""Parts of the line ENDED, which not all of Kaldi's launchers write."""
