#!/usr/bin/env python3
"""Make a dictionary directory, from which utils/prepare_lang.py makes a lang directory.

<lexicon> has a word and its phones on each line, one line for each way to say it; words of silence
are not in it: the word !SIL and the phone SIL are added.  With --spell true there is no lexicon,
but the transcripts of a data directory, and the phones of their words are letters: for languages
that are written as they are spoken.  With --word-phones true a phone is that of one word at one
place, such as N3_nine: for some dozens of words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import argument, driver, log, option, require_files
from nnet.errors import NgtrainError
from nnet.io.text import split_words, write_lines

if TYPE_CHECKING:
    from nnet.decoding.lexicon import Pronunciation

SILENCE_WORD, SILENCE_PHONE = "!SIL", "SIL"


@driver(
    "Usage:  utils/make_dict.py [options] <lexicon> <dict-dir>\n"
    "   or:  utils/make_dict.py --spell true [options] <text> <dict-dir>\n"
    " e.g.:  utils/make_dict.py lexicon.txt data/dict\n"
    "        utils/make_dict.py --spell true data/train/text data/dict",
    writes="dict_dir",
)
@argument("source", "dict_dir")
@option("--spell", False, "Spell the words of transcripts")
@option("--word-phones", False, "Let each phone belong to one word")
def main(source, dict_dir, spell, word_phones):
    from nnet.decoding.lexicon import read_lexicon

    require_files(source)
    entries = spelt(Path(source)) if spell else read_lexicon(source, has_probabilities=False)
    if word_phones:
        entries = [entry._replace(phones=phones_of_word(entry)) for entry in entries]
    phones = sorted({phone for entry in entries for phone in entry.phones})
    if SILENCE_PHONE in phones or any(entry.word == SILENCE_WORD for entry in entries):
        raise NgtrainError(f"{source}: {SILENCE_WORD} {SILENCE_PHONE} is added, leave it out")
    directory = Path(dict_dir)
    directory.mkdir(parents=True, exist_ok=True)
    rows = [(SILENCE_WORD, (SILENCE_PHONE,)), *((e.word, e.phones) for e in entries)]
    for name, lines in {
        "lexicon.txt": [" ".join((word, *of_word)) for word, of_word in rows],
        "nonsilence_phones.txt": phones,
        "silence_phones.txt": [SILENCE_PHONE],
        "optional_silence.txt": [SILENCE_PHONE],
        "extra_questions.txt": [],
    }.items():
        write_lines(directory / name, lines)
    log.info(f"{directory}: {len({e.word for e in entries})} words, {len(phones)} phones")


def spelt(text: Path) -> list[Pronunciation]:
    """The words of transcripts, with their letters for phones; signs that are no letters go."""
    from nnet.decoding.lexicon import Pronunciation

    words = sorted({word for said in read_table(text).values() for word in split_words(said)})
    entries = [
        Pronunciation(word, 1.0, tuple(letter for letter in word.lower() if letter.isalnum()))
        for word in words
    ]
    if silent := [entry.word for entry in entries if not entry.phones]:
        raise NgtrainError(f"{text}: {silent[0]} cannot be spelt: leave out signs that nobody says")
    return entries


def phones_of_word(entry: Pronunciation) -> tuple[str, ...]:
    """Phones that no other word has."""
    return tuple(f"{phone}{place}_{entry.word}" for place, phone in enumerate(entry.phones, 1))


if __name__ == "__main__":
    main()
