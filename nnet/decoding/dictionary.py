"""Dictionary directories, from which lang directories are made: reading and checking them."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines, visible

if TYPE_CHECKING:
    from nnet.decoding.lexicon import Pronunciation

log = logging.getLogger("ngtrain")

POSITIONS = {"_B": "begin", "_E": "end", "_I": "internal", "_S": "singleton"}

UNUSED = {
    "lexiconp_silprob.txt": "silence is as likely after every word (--sil-prob)",
    "nonterminals.txt": "grammars do not refer to others",
}
"""Files that Kaldi's prepare_lang.sh uses and this does not, and what that means."""

_NEITHER = "neither in silence_phones.txt nor in nonsilence_phones.txt"

PhoneSets = list[list[str]]


@dataclass
class Dictionary:
    """The contents of a dictionary directory.

    The phones of a list in `silence` or `nonsilence` are variants of one phone.
    """

    path: Path
    lexicon: list[Pronunciation]
    silence: PhoneSets
    nonsilence: PhoneSets
    optional_silence: list[str]  # what may be between words; it should be one phone
    questions: PhoneSets  # for the questions of trees

    @classmethod
    def read(cls, path: Path) -> Dictionary:
        """Read the directory; NgtrainError if a file is missing, or a line is malformed."""
        for name, meaning in UNUSED.items():
            if (path / name).exists():
                log.warning(f"{path / name} is not used: {meaning}")
        questions = path / "extra_questions.txt"
        return cls(
            path,
            read_lexicons(path),
            read_phone_sets(path / "silence_phones.txt"),
            read_phone_sets(path / "nonsilence_phones.txt"),
            flat(read_phone_sets(path / "optional_silence.txt")),
            read_phone_sets(questions) if questions.exists() else [],
        )

    def problems(self, oov_word: str, position_dependent: bool) -> list[str]:
        """List all that is wrong, a sentence each; `oov_word` is the word for unknown words."""
        silence, nonsilence = flat(self.silence), flat(self.nonsilence)
        known = Counter(silence + nonsilence)
        found = []
        for name, phones in ("silence", silence), ("nonsilence", nonsilence):
            if not phones:
                found.append(f"{name}_phones.txt is empty: it must list phones")
        if repeated := [phone for phone, count in known.items() if count > 1]:
            found.append(
                "silence_phones.txt and nonsilence_phones.txt must list phones each once, but "
                f"{visible(min(repeated))} comes again"
            )
        for phone in sorted(known):
            if phone.startswith("#") or phone == "<eps>":
                found.append(f"{phone} cannot be the name of a phone")
            elif position_dependent and phone[-2:] in POSITIONS:
                found.append(
                    f"{visible(phone)} cannot be the name of a phone: {phone[-2:]} marks positions "
                    "in words (--position-dependent-phones)"
                )
        if (count := len(self.optional_silence)) != 1:
            found.append(f"optional_silence.txt has {count} phones; there must be just one")
        for phone in set(self.optional_silence) - set(silence):
            found.append(f"optional_silence.txt: {visible(phone)} is not in silence_phones.txt")
        for phone in sorted(set(flat(self.questions)) - known.keys()):
            found.append(f"extra_questions.txt: {visible(phone)} is {_NEITHER}")
        first_word: dict[str, str] = {}
        for entry in self.lexicon:
            for phone in set(entry.phones) - known.keys():
                first_word.setdefault(phone, entry.word)
        for phone, word in first_word.items():
            found.append(
                f"the lexicon: {visible(word)} has the phone {visible(phone)}, which is {_NEITHER}"
            )
        if oov_word not in {entry.word for entry in self.lexicon}:
            found.append(f"the word for unknown words, {oov_word}, has no pronunciation")
        return [f"{self.path}: {problem}" for problem in found]


def read_lexicons(path: Path) -> list[Pronunciation]:
    """Read the entries of lexiconp.txt or, where there is none, of lexicon.txt.

    Raises NgtrainError where there are both, with different entries: one is older than the other.
    """
    from nnet.decoding.lexicon import read_lexicon

    files = [path / name for name in ("lexiconp.txt", "lexicon.txt") if (path / name).exists()]
    if not files:
        raise NgtrainError(f"no such file: {path}/lexicon.txt or lexiconp.txt")
    lexicons = [read_lexicon(str(file), file.name == "lexiconp.txt") for file in files]
    entries = [{(entry.word, entry.phones) for entry in lexicon} for lexicon in lexicons]
    for here, there in (0, -1), (-1, 0):
        if missing := entries[here] - entries[there]:
            word, phones = min(missing)
            raise NgtrainError(
                f"{files[here]} has {len(missing)} entries that {files[there].name} has not, such "
                f"as '{visible(' '.join((word, *phones)))}': remove the one that is out of date"
            )
    log.info(f"{len(lexicons[0])} pronunciations are read from {files[0]}")
    return lexicons[0]


def read_phone_sets(path: Path) -> PhoneSets:
    """Read the phones on each line that is not empty."""
    if not path.is_file():
        raise NgtrainError(f"no such file: {path}")
    return [phones for line in text_lines(path) if (phones := split_words(line))]


def flat(sets: PhoneSets) -> list[str]:
    """Join the phones of all sets."""
    return [phone for phone_set in sets for phone in phone_set]
