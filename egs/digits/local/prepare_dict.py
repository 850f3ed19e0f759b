#!/usr/bin/env python3
"""Write the dictionary directory of the ten digits: what utils/prepare_lang.py makes a lang from.

The phones are those of the CMU Pronouncing Dictionary (cmudict), without stress.
"""

from pathlib import Path

from nnet.cli import argument, program
from nnet.io.streams import open_output

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


@program(
    "Usage:  local/prepare_dict.py <dict-dir>\n e.g.: local/prepare_dict.py exp/synth/local/dict"
)
@argument("dict_dir")
def main(dict_dir):
    phones = sorted({phone for phones in PRONUNCIATIONS.values() for phone in phones.split()})
    lexicon = {SILENCE_WORD: SILENCE_PHONE, **PRONUNCIATIONS}
    files = {
        "lexicon.txt": [f"{word} {phones}" for word, phones in sorted(lexicon.items())],
        "nonsilence_phones.txt": phones,
        "silence_phones.txt": [SILENCE_PHONE],
        "optional_silence.txt": [SILENCE_PHONE],
        "extra_questions.txt": [],
    }
    directory = Path(dict_dir)
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        with open_output(str(directory / name)) as stream:
            stream.write("".join(line + "\n" for line in lines).encode())


if __name__ == "__main__":
    main()
