"""Words of transcripts that are not in a lang directory, and probable reasons.

They become the word for unknown words, and a training whose transcripts are in capitals and whose
lexicon is in small letters would run on nothing else.
"""

from __future__ import annotations

import logging
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.io.text import ENCODING, is_utf8, split_key, split_words, text_lines, visible

log = logging.getLogger("ngtrain")

MANY, TOO_MANY = 0.05, 0.5
"""The parts of all words from which on there is a warning, and beyond which there is an error."""

_PUNCTUATION = string.punctuation + "«»‹›„“”‚‘’…–—¿¡。，、？！"


@dataclass
class UnknownWords:
    """A count of the words that are not in a symbol table."""

    words: SymbolTable
    num_words: int = 0  # known and unknown
    counts: Counter[str] = field(default_factory=Counter)  # of unknown words

    def add(self, transcript: Sequence[str]) -> None:
        """Count the words of an utterance."""
        self.num_words += len(transcript)
        self.counts.update(word for word in transcript if word not in self.words)

    def report(self, source: str) -> None:
        """Say how many words of `source` are unknown: in a line, from 5 % on as a warning.

        Raises NgtrainError if most are unknown; it names what seems to be the reason.
        """
        unknown = self.counts.total()
        if not unknown:
            log.info("all %d words of %s are in %s", self.num_words, source, self.words.name)
            return
        part = unknown / self.num_words
        examples = ", ".join(
            f"{visible(word)} ({count} times)" if count > 1 else visible(word)
            for word, count in self.counts.most_common(5)
        )
        sentence = (
            f"{unknown} of {self.num_words} words of {source} ({100 * part:.3g} %) "
            f"are not in {self.words.name}, such as {examples}"
        )
        reason = self.reason() if part >= MANY else ""
        if part > TOO_MANY:
            reason = reason or "are they of another language, or another lang directory?"
            raise NgtrainError(f"{sentence}; {reason}")
        level = logging.WARNING if part >= MANY else logging.INFO
        log.log(level, "%s%s", sentence, reason and f"; {reason}")

    def reason(self) -> str:
        """Guess a reason for at least half of the unknown words; "" when there is none."""
        most, remedy = 0, ""
        for change, said in _REMEDIES.items():
            known = {change(word) for word in self.words.number_of}
            found = sum(count for word, count in self.counts.items() if change(word) in known)
            if found > most:
                most, remedy = found, f"{found} of them {said}"
        return remedy if most >= self.counts.total() / 2 else ""


def check_transcripts(text: Path, words: SymbolTable) -> None:
    """Report on the words of the file `text` of a data directory, as UnknownWords.report does."""
    unknown = UnknownWords(words)
    for line in text_lines(text):
        unknown.add(split_words(split_key(line)[1]))
    unknown.report(str(text))


def _bare(word: str) -> str:
    return word.strip(_PUNCTUATION) or word


def _decoded(word: str) -> str:
    """Decode a word that is not UTF-8 as Latin-1."""
    return word if is_utf8(word) else word.encode(**ENCODING).decode("latin-1")


_REMEDIES: dict[Callable[[str], str], str] = {
    str.casefold: "are there but for capitals: write transcripts and lexicon in the same letters",
    _bare: "are there without the punctuation around them: take it out of the transcripts",
    lambda word: _bare(word).casefold(): (
        "are there but for capitals and punctuation: normalize the transcripts as the lexicon is"
    ),
    partial(unicodedata.normalize, "NFC"): (
        "are there in another Unicode normal form: normalize both (uconv -x nfc)"
    ),
    _decoded: "are there in another encoding: convert both to UTF-8 (iconv -f latin1 -t utf8)",
}
"""Differences because of which words are not found, with remedies; the first that explains most
counts."""
