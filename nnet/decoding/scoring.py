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


def aligned(
    key: str, reference: Sequence[str], hypothesis: Sequence[str], nothing: str
) -> list[tuple[str, str]]:
    """Pair the words of two sentences so that as few as can be differ.

    Of equal ways back from the end that which pairs words is taken, then that which leaves out one
    of the reference.  compute-wer decides otherwise, in Kaldi, too.

    nothing: stands beside words that have no other.

    Raises:
        NgtrainError: a sentence has the word `nothing`.

    Source: LevenshteinAlignment in Kaldi's util/edit-distance-inl.h.
    """
    if nothing in reference or nothing in hypothesis:
        raise NgtrainError(f"sentence {key} has the special symbol {nothing} itself")
    errors = [list(range(len(hypothesis) + 1))]  # of the first m words beside the first n
    for m, word in enumerate(reference, 1):
        above, row = errors[-1], [m]
        for n, other in enumerate(hypothesis, 1):
            row.append(min(above[n - 1] + (word != other), above[n] + 1, row[-1] + 1))
        errors.append(row)
    m, n = len(reference), len(hypothesis)
    pairs = []
    while m or n:
        is_wrong = m and n and reference[m - 1] != hypothesis[n - 1]
        if m and n and errors[m][n] == errors[m - 1][n - 1] + is_wrong:
            m, n = m - 1, n - 1
            pairs.append((reference[m], hypothesis[n]))
        elif m and errors[m][n] == errors[m - 1][n] + 1:
            m -= 1
            pairs.append((reference[m], nothing))
        else:
            n -= 1
            pairs.append((nothing, hypothesis[n]))
    return pairs[::-1]
