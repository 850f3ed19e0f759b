"""Word error rates, in the form of Kaldi's bin/compute-wer.cc.

kaldialign counts the errors; where an alignment is ambiguous it decides as Kaldi does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnet.errors import NgtrainError
from nnet.io.log_lines import WER


@dataclass
class WordErrors:
    """Errors of words and of sentences, summed over utterances."""

    num_words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    num_sentences: int = 0
    wrong_sentences: int = 0
    absent_sentences: int = 0

    def add(self, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
        """Score one utterance."""
        from kaldialign import edit_distance

        errors = edit_distance(list(reference), list(hypothesis))
        self.count(len(reference), errors["ins"], errors["del"], errors["sub"])

    def count(self, num_words: int, insertions: int, deletions: int, substitutions: int) -> None:
        """Count a sentence with so many words and errors."""
        self.num_words += num_words
        self.insertions += insertions
        self.deletions += deletions
        self.substitutions += substitutions
        self.num_sentences += 1
        self.wrong_sentences += insertions + deletions + substitutions != 0

    @property
    def total(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    @property
    def wer(self) -> float:
        """Percent of errors per word of the reference; nan when it has no words."""
        return 100 * self.total / (self.num_words or math.nan)

    @property
    def ser(self) -> float:
        """Percent of the sentences that have an error; nan when there are none."""
        return 100 * self.wrong_sentences / (self.num_sentences or math.nan)

    def __str__(self) -> str:
        """Format the three lines that compute-wer prints."""
        partial = " [PARTIAL]" if self.absent_sentences else ""
        counts = self.total, self.num_words, self.insertions, self.deletions, self.substitutions
        return (
            f"{WER.format % (self.wer, *counts)}{partial}\n"
            f"%SER {self.ser:.2f} [ {self.wrong_sentences} / {self.num_sentences} ]\n"
            f"Scored {self.num_sentences} sentences, {self.absent_sentences} not present in hyp.\n"
        )


def score(references: Iterable[tuple[str, Sequence[str]]], hypotheses, mode: str) -> WordErrors:
    """Score hypotheses by utterance.

    hypotheses: from utterances to words: a dictionary or a random access table.
    mode: what to do with an utterance that has no hypothesis: "strict" raises NgtrainError,
    "present" leaves it out, "all" takes it for empty.
    """
    errors = WordErrors()
    for key, reference in references:
        if key in hypotheses:
            errors.add(reference, hypotheses[key])
            continue
        if mode == "strict":
            raise NgtrainError(f"no hypothesis for {key} (and the mode is strict)")
        errors.absent_sentences += 1
        if mode == "all":
            errors.add(reference, [])
    return errors
