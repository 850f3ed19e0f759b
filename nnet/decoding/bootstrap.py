"""Confidence intervals of word error rates by bootstrap over sentences.

M. Bisani and H. Ney: Bootstrap estimates for confidence intervals in ASR performance evaluation,
ICASSP 2004.  After Kaldi's bin/compute-wer-bootci.cc.  Where there are speakers, draw these:
`wer_interval` in error_details.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.random_access import RandomAccessTable


def errors_of_sentences(
    references: Iterable[tuple[str, Sequence[str]]],
    hypotheses: Sequence[RandomAccessTable],
    mode: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Count the words of each sentence, and the errors of each system in it.

    mode: what to do with a sentence that a system has not: "strict" is an error, "present" leaves
    it out for all of them, "all" takes it for empty.

    Returns:
        int64 (sentences,) and (systems, sentences).

    Raises:
        NgtrainError: mode is strict and a sentence is missing; or there is not a word to score.
    """
    from kaldialign import edit_distance

    rows, losses = [], Losses()
    for key, reference in references:
        absent = [table for table in hypotheses if key not in table]
        if absent and mode == "strict":
            raise NgtrainError(f"{absent[0].why_not(key)} (and the mode is strict)")
        if absent and mode == "present":
            losses.add(absent[0].why_not(key))
            continue
        said = [[] if table in absent else table[key] for table in hypotheses]
        errors = [edit_distance(list(reference), list(words))["total"] for words in said]
        rows.append([len(reference), *errors])
    losses.report("%d sentences are not scored")
    if not any(row[0] for row in rows):
        raise NgtrainError("the sentences that can be scored have no words")
    counts = np.array(rows, np.int64).T
    return counts[0], counts[1:]


@dataclass(frozen=True)
class Bootstrap:
    """Hold what replications of a test set say, in percent.

    Attributes:
        rates: mean word error rate of each system, float64 (systems,).
        halves: half the width of its interval of 95 %, likewise.
        improves: how often the second system made fewer errors than the first, if there is one.
    """

    rates: np.ndarray
    halves: np.ndarray
    improves: float | None


def bootstrap(words: np.ndarray, errors: np.ndarray, replications: int, srand: int) -> Bootstrap:
    """Draw sentences with replacement, as many as there are, again and again.

    words, errors: what `errors_of_sentences` returns.
    """
    rng = np.random.default_rng(srand)
    totals = np.empty((replications, 1 + len(errors)))
    for total in totals:
        drawn = rng.integers(len(words), size=len(words))
        total[:] = words[drawn].sum(), *errors[:, drawn].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a replication without a word
        rates = 100 * totals[:, 1:] / totals[:, :1]
    improves = 100 * float((totals[:, 1] > totals[:, 2]).mean()) if len(errors) > 1 else None
    return Bootstrap(rates.mean(axis=0), 1.96 * rates.std(axis=0), improves)
