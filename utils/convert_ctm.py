#!/usr/bin/env python3
"""Make the times of a ctm file, which count from where utterances begin, those of recordings.

Lines of the ctm are utterance, channel, begin and length in seconds, word, and perhaps confidence.
Segments says where in a recording each utterance is, and reco2file_and_channel what the file and
the channel of a recording are called; without it they are the recording's name and 1.  Reads
standard input when no ctm is given.
"""

from nnet.drivers.data_dir import print_row, read_table
from nnet.drivers.driver import argument, log, option, tool
from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.text import split_words, text_lines


@tool("""Usage:  utils/convert_ctm.py [options] <segments> [<reco2file_and_channel> [<ctm>]] > <ctm>
 e.g.: utils/convert_ctm.py data/dev/segments data/dev/reco2file_and_channel utterances.ctm""")
@argument("segments")
@argument("reco2file_and_channel", "ctm", required=False)
@option("--skip-unknown", False, "Leave out utterances that segments does not have")
def main(segments, reco2file_and_channel, ctm, skip_unknown):
    spans = {key: read_span(text, key, segments) for key, text in read_table(segments).items()}
    files = read_table(reco2file_and_channel) if reco2file_and_channel else None
    unknown, late, num_lines = Losses(), Losses(), 0
    for number, line in enumerate(text_lines(ctm or "-"), 1):
        where = f"{ctm or '<stdin>'}: line {number}"
        num_lines = number
        utterance, begin, length, rest = read_word(line, where)
        if utterance not in spans:
            if not skip_unknown:
                raise NgtrainError(f"{where}: {segments} has no utterance {utterance}")
            unknown.add(utterance)
            continue
        recording, start, end = spans[utterance]
        place = f"{recording} 1" if files is None else files.get(recording)
        if place is None:
            raise NgtrainError(f"{reco2file_and_channel} has no recording {recording}")
        print_row(" ".join([place, f"{start + begin:.2f}", f"{length:.2f}", *rest]))
        if start + begin + length > end + 0.01:
            late.add(utterance, line)
    unknown.report(f"%d of {num_lines} words are of utterances that {segments} does not have")
    late.report(f"%d of {num_lines} words end later than their segments")
    if unknown.count == num_lines:
        log.error("there are no words in the result")
        return 1


def read_span(text: str, key: str, path: str) -> tuple[str, float, float]:
    """Read the recording, the begin and the end of a segment.  Raises NgtrainError."""
    try:
        recording, start, end = split_words(text)
        return recording, float(start), float(end)
    except ValueError:
        raise NgtrainError(f"{path}: {key}: expected a recording, begin and end") from None


def read_word(line: str, where: str) -> tuple[str, float, float, list[str]]:
    """Read utterance, begin, length, and the word with its confidence.  Raises NgtrainError."""
    try:
        utterance, _, begin, length, *rest = split_words(line)
        if len(rest) not in (1, 2):
            raise ValueError
        return utterance, float(begin), float(length), rest
    except ValueError:
        raise NgtrainError(
            f"{where}: expected utterance, channel, begin, length, word and perhaps confidence, "
            f"found '{line}'"
        ) from None


if __name__ == "__main__":
    main()
