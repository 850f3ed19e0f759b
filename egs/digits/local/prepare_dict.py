#!/usr/bin/env python3
"""Write the dictionary directory of the ten digits: what utils/prepare_lang.py makes a lang from.

The pronunciations are those of the CMU Pronouncing Dictionary (cmudict).  There are so few words
that a phone can be that of one word at one place: "N3_nine" is the last of nine.  The network then
learns to tell words apart, from all the frames that it sees, and not phones.
"""

from pathlib import Path

from nnet.cli import argument, program
from nnet.io.text import write_lines

SILENCE_WORD, SILENCE_PHONE = "!SIL", "SIL"
PRONUNCIATIONS = {
    "zero": "Z IH R OW",
    "one": "W AH N",
    "two": "T UW",
    "three": "TH R IY",
    "four": "F AO R",
    "five": "F AY V",
    "six": "S IH K S",
    "seven": "S EH V AH N",
    "eight": "EY T",
    "nine": "N AY N",
}


def phones_of(word: str) -> list[str]:
    return [f"{p}{place}_{word}" for place, p in enumerate(PRONUNCIATIONS[word].split(), 1)]


@program(
    "Usage:  local/prepare_dict.py <dict-dir>\n e.g.: local/prepare_dict.py exp/synth/local/dict"
)
@argument("dict_dir")
def main(dict_dir):
    lexicon = {SILENCE_WORD: [SILENCE_PHONE], **{word: phones_of(word) for word in PRONUNCIATIONS}}
    directory = Path(dict_dir)
    directory.mkdir(parents=True, exist_ok=True)
    write_lines(
        directory / "lexicon.txt", [f"{w} {' '.join(phones)}" for w, phones in lexicon.items()]
    )
    write_lines(
        directory / "nonsilence_phones.txt",
        [phone for word in PRONUNCIATIONS for phone in phones_of(word)],
    )
    write_lines(directory / "silence_phones.txt", [SILENCE_PHONE])
    write_lines(directory / "optional_silence.txt", [SILENCE_PHONE])
    write_lines(directory / "extra_questions.txt", [])


if __name__ == "__main__":
    main()
