#!/usr/bin/env python3
"""Turn spk2utt, a line "speaker utterance ..." per speaker, into utt2spk, a line per utterance.
Reads standard input when no file is given.
"""

from nnet.drivers.data_dir import print_row, split_row
from nnet.drivers.driver import argument, tool
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines


@tool("""Usage:  utils/spk2utt_to_utt2spk.py [<spk2utt>] > <utt2spk>
 e.g.: utils/spk2utt_to_utt2spk.py data/train/spk2utt | sort > data/train/utt2spk""")
@argument("spk2utt", required=False)
def main(spk2utt):
    where = spk2utt or "<stdin>"
    for number, line in enumerate(text_lines(spk2utt or "-"), 1):
        speaker, utterances = split_row(line, f"{where}: line {number}")
        if not utterances:
            raise NgtrainError(f"{where}: line {number}: {speaker} has no utterance")
        for utterance in split_words(utterances):
            print_row(f"{utterance} {speaker}")


if __name__ == "__main__":
    main()
