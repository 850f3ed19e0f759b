"""Estimation of n-gram models: interpolated Kneser-Ney smoothing with three discounts.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", 1998,
section 3 ("modified Kneser-Ney").  With h a history of n-1 words and h' the same without its first:

    p(w|h) = (a(hw) - D(a(hw))) / a(h) + gamma(h) p(w|h'),        a(h) = sum over w of a(hw)

a(hw), the adjusted count, is the number of different words that come before hw; it is the count
itself for the highest order and where hw begins a sentence, since nothing can come before that.
gamma(h) is the probability that the discounts D have left over, and below the unigrams is the
uniform distribution over the vocabulary, so that every word of it is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.decoding.arpa import BEGIN, END, LanguageModel, NGrams
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError

Discounts = tuple[float, float, float]

UNUSUAL_DISCOUNTS: Discounts = (0.5, 1.0, 1.5)
"""Discounts where counts of counts are too irregular for an estimate, as in very small texts."""


@dataclass
class Counts:
    """The N n-grams of one order that the text has, sorted by history and then word.

    history, suffix: the n-gram without its last and without its first word, as numbers of n-grams
    of the order below.
    """

    history: np.ndarray  # int64, as all but the last
    suffix: np.ndarray
    word: np.ndarray  # the last word
    count: np.ndarray  # how often it comes
    begins: np.ndarray  # bool: whether it begins with the beginning of a sentence


def estimate(
    sentences: Iterable[Sequence[int]],
    words: SymbolTable,
    vocabulary: Sequence[int],
    order: int,
    min_counts: Sequence[int],
) -> LanguageModel:
    """Estimate a model of sentences, given as word-ids.

    vocabulary: the words that shall be possible; those of the sentences must be among them, but the
    beginning and the end of sentences need not be.
    min_counts: for each order, how often an n-gram must come to be kept; the first is not used, and
    they must not decrease.

    Raises NgtrainError: no sentences, a word outside of the vocabulary, or senseless `min_counts`.
    """
    if order < 1 or len(min_counts) != order or sorted(min_counts) != list(min_counts):
        raise NgtrainError(
            f"expected {order} minimum counts that do not decrease, got {list(min_counts)}"
        )
    begin, end = words.number(BEGIN), words.number(END)
    possible = np.union1d(np.asarray(vocabulary, np.int64), [begin, end])
    tokens = np.fromiter((word for s in sentences for word in (begin, *s, end)), np.int64)
    if not len(tokens):
        raise NgtrainError("there are no sentences to estimate a language model from")
    index = np.minimum(np.searchsorted(possible, tokens), len(possible) - 1)
    unknown = tokens[possible[index] != tokens]
    if len(unknown):
        raise NgtrainError(f"the word {words[int(unknown[0])]} is not in the vocabulary")

    counts = count_ngrams(index, len(possible), int(np.searchsorted(possible, begin)), order)
    kept = [np.ones(len(possible), bool)]
    kept += [c.count >= least for c, least in zip(counts[1:], min_counts[1:], strict=True)]
    # The probability of n-grams below the unigrams: the same for all but the beginning.
    lower = np.array([1 / (len(possible) - 1)])
    probabilities, backoffs = [], []
    for this, above, keep in zip(counts, [*counts[1:], None], kept, strict=True):
        adjusted = this.count
        if above is not None:
            words_before = np.bincount(above.suffix, minlength=len(this.word))
            adjusted = np.where(this.begins, this.count, words_before)
        discount = np.array([0.0, *discounts(adjusted)])[np.minimum(adjusted, 3)]
        discounted = np.where(keep, adjusted - discount, 0.0)
        total = np.bincount(this.history, adjusted, minlength=len(lower))
        left_over = np.bincount(this.history, adjusted - discounted, minlength=len(lower))
        gamma = np.divide(left_over, total, out=np.ones_like(total), where=total > 0)
        own = discounted / np.maximum(total, 1)[this.history]
        lower = own + gamma[this.history] * lower[this.suffix]
        probabilities.append(lower)
        backoffs.append(gamma)
    probabilities[0] = np.where(counts[0].begins, 0.0, probabilities[0])
    backoffs.append(np.ones(len(counts[-1].word)))

    orders, ngrams = [], np.empty((1, 0), np.int64)
    for this, keep, p, gamma in zip(counts, kept, probabilities, backoffs[1:], strict=True):
        ngrams = np.column_stack((ngrams[this.history], possible[this.word]))
        orders.append(NGrams(ngrams[keep], p[keep], gamma[keep]))
    return LanguageModel(words, orders)


def count_ngrams(tokens: np.ndarray, num_words: int, begin: int, order: int) -> list[Counts]:
    """Count the n-grams of each order, 1 to `order`, in sentences that begin with `begin`.

    For unigrams, all words are there, history and suffix are 0, and `begin` does not count.
    """
    position = np.arange(len(tokens))
    in_sentence = position - np.maximum.accumulate(np.where(tokens == begin, position, 0))
    everything, nothing = np.arange(num_words), np.zeros(num_words, np.int64)
    unigrams = np.bincount(tokens, minlength=num_words)
    unigrams[begin] = 0  # given, not said
    counts = [Counts(nothing, nothing, everything, unigrams, everything == begin)]
    number = tokens  # of the n-gram that ends at each position
    for n in range(2, order + 1):
        ends = np.flatnonzero(in_sentence >= n - 1)
        keys, first, inverse, count = np.unique(
            number[ends - 1] * num_words + tokens[ends],
            return_index=True, return_inverse=True, return_counts=True,
        )  # fmt: skip
        history, word = np.divmod(keys, num_words)
        suffix, begins = number[ends[first]], counts[-1].begins[history]
        counts.append(Counts(history, suffix, word, count, begins))
        number = np.full(len(tokens), -1)
        number[ends] = inverse
    return counts


def discounts(adjusted: np.ndarray) -> Discounts:
    """Compute the discounts of counts of 1, of 2, and of 3 or more (equation 26 of the report)."""
    n1, n2, n3, n4 = np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5].astype(float)
    if min(n1, n2, n3) == 0:
        return UNUSUAL_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    sensible = all(0 <= d <= count for count, d in enumerate(found, start=1))
    return found if sensible else UNUSUAL_DISCOUNTS
