#!/usr/bin/env python3
"""Turn utt2spk, a line "utterance speaker" per utterance, into spk2utt, a line per speaker with
all its utterances.  Reads standard input when no file is given.
"""

from nnet.drivers.data_dir import print_row, split_row
from nnet.drivers.driver import argument, tool
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines


@tool("""Usage:  utils/utt2spk_to_spk2utt.py [<utt2spk>] > <spk2utt>
 e.g.: utils/utt2spk_to_spk2utt.py data/train/utt2spk > data/train/spk2utt""")
@argument("utt2spk", required=False)
def main(utt2spk):
    spk2utt = {}
    where = utt2spk or "<stdin>"
    for number, line in enumerate(text_lines(utt2spk or "-"), 1):
        utterance, speaker = split_row(line, f"{where}: line {number}")
        if len(split_words(speaker)) != 1:
            raise NgtrainError(f"{where}: line {number} has not two fields: {line}")
        spk2utt.setdefault(speaker, []).append(utterance)
    for speaker, utterances in spk2utt.items():
        print_row(f"{speaker} {' '.join(utterances)}")


if __name__ == "__main__":
    main()
