#!/usr/bin/env python3
"""Turn utt2spk, a line "utterance speaker" per utterance, into spk2utt, a line per speaker with
all its utterances.  Reads standard input when no file is given.
"""

from nnet.errors import NgtrainError
from utils.data_dir import open_text, print_row, split_row
from utils.driver import argument, tool


@tool(
    "Usage:  utils/utt2spk_to_spk2utt.py [<utt2spk>] > <spk2utt>\n"
    " e.g.: utils/utt2spk_to_spk2utt.py data/train/utt2spk > data/train/spk2utt"
)
@argument("utt2spk", required=False)
def main(utt2spk):
    spk2utt = {}
    with open_text(utt2spk) as file:
        for number, line in enumerate(file, 1):
            utterance, speaker = split_row(line, f"{file.name}: line {number}")
            if len(speaker.split()) != 1:
                raise NgtrainError(f"{file.name}: line {number} has not two fields: {line}")
            spk2utt.setdefault(speaker, []).append(utterance)
    for speaker, utterances in spk2utt.items():
        print_row(f"{speaker} {' '.join(utterances)}\n")


if __name__ == "__main__":
    main()
