"""Minimum Bayes risk decoding: the words with the least expected number of errors, and confidences.

The words R are aligned with all paths of a lattice (nnet/lattices/edit_distance.py); what stands
against one position is a bin of a "sausage".  The word that is most frequent in its bin makes the
expected distance smaller, until R stays as it is.  After figure 6 of the paper named there, and
MinimumBayesRisk of Kaldi's lat/sausages.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnet.io.losses import Losses
from nnet.lattices.edit_distance import BinCounts, EditDistance
from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.order import connected, topsorted
from nnet.lattices.paths import best_path

log = logging.getLogger("ngtrain")

_MOST_ITERATIONS = 100
Times = tuple[float, float]
"""Begin and end, in frames."""


@dataclass(frozen=True)
class Bin:
    """What may stand at one position, the most probable first.

    Attributes:
        words: EPSILON for nothing.
        posteriors: of the words; they sum to one.
        times: of each word on average.
    """

    words: list[int]
    posteriors: list[float]
    times: list[Times]

    def posterior(self, word: int) -> float:
        """Return the posterior of a word, 0 if it is not there."""
        return self.posteriors[self.words.index(word)] if word in self.words else 0.0

    def times_of(self, word: int) -> Times:
        """Return the times of a word, those of the most probable one if it is not there."""
        return self.times[self.words.index(word) if word in self.words else 0]

    @property
    def mean_times(self) -> Times:
        """Times on average over its words."""
        begin, end = np.array(self.posteriors) @ np.array(self.times)
        return float(begin), float(end)


@dataclass(frozen=True)
class Decoded:
    """What minimum Bayes risk decoding says of an utterance.

    Attributes:
        words: with EPSILON for positions without a word, if these were asked for.
        confidences: the posterior of each.
        times: of each.
        risk: expected number of errors.
        bins: the sausage.
    """

    words: list[int]
    confidences: list[float]
    times: list[Times]
    risk: float
    bins: list[Bin]

    @property
    def mean_confidence(self) -> float:
        """The average over the words, NaN without any."""
        return float(np.mean(self.confidences)) if self.words else float("nan")

    def ctm(self, key: str, frame_shift: float, digits: int) -> Iterator[str]:
        """Yield a line for each word: key, channel 1, begin, duration, word, confidence.

        frame_shift: in seconds, as are the times of the lines; digits: behind the point.
        """
        for word, confidence, (begin, end) in zip(
            self.words, self.confidences, self.times, strict=True
        ):
            numbers = frame_shift * begin, frame_shift * (end - begin), confidence
            start, duration, certainty = (f"{number:.{digits}f}" for number in numbers)
            yield f"{key} 1 {start} {duration} {word} {certainty}"

    @property
    def bin_times(self) -> list[Times]:
        """Times of the bins; two that overlap meet halfway."""
        times = [each.mean_times for each in self.bins]
        for q in range(1, len(times)):
            (begin, end), (next_begin, next_end) = times[q - 1], times[q]
            if end > next_begin:
                middle = (end + next_begin) / 2
                times[q - 1], times[q] = (begin, middle), (middle, next_end)
        return times


def decode(
    lattice: CompactLattice,
    words: Sequence[int] | None = None,
    update: bool = True,
    keep_silence: bool = False,
) -> Decoded:
    """Find the words of least expected error rate in a lattice whose costs are scaled already.

    words: to begin with; those of the best path by default.
    update: if false, these words stay, and confidences and times are found (MAP decoding).
    keep_silence: have positions without a word in the result, too.

    Raises:
        ValueError: the lattice is empty, has a cycle, or ways to a state that differ in frames.
    """
    lattice = connected(topsorted(lattice))
    path = best_path(lattice)
    if path is None:
        raise ValueError("the lattice is empty")
    distance = EditDistance(lattice)
    r = _with_epsilons(path.words(lattice) if words is None else words)
    for _ in range(_MOST_ITERATIONS):
        risk, counts = distance.between(np.array(r))
        bins = _bins(counts)
        changed = [each.words[0] for each in bins] if update else r
        if all(
            b.posterior(old) == b.posterior(new)
            for b, old, new in zip(bins, r, changed, strict=True)
        ):
            break
        r = _with_epsilons(changed)
    else:
        log.warning("Iterating too many times in MbrDecode; stopping.")
    kept = [(b, w) for b, w in zip(bins, changed, strict=True) if w != EPSILON or keep_silence]
    return Decoded(
        [word for _, word in kept],
        [each.posterior(word) for each, word in kept],
        _in_order([each.times_of(word) for each, word in kept]),
        risk,
        bins,
    )


@dataclass
class MbrTotals:
    """MbrTotals over the utterances of a table, for the log.

    Attributes:
        num_done, num_words: utterances and their words.
        risk: expected errors.
        losses: utterances that are left out.
    """

    num_done: int = 0
    num_words: int = 0
    risk: float = 0.0
    losses: Losses = field(default_factory=Losses)

    def decode(self, key: str, lattice: CompactLattice, **options) -> Decoded | None:
        """Decode one utterance (see the function `decode`); None, which is counted, if it fails."""
        try:
            decoded = decode(lattice, **options)
        except ValueError as error:
            self.losses.add(key, error)
            return None
        self.num_done += 1
        self.num_words += len(decoded.words)
        self.risk += decoded.risk
        return decoded

    def report(self) -> None:
        """Log the averages."""
        self.losses.report("%d utterances are left out")
        log.info("Done %d lattices.", self.num_done)
        log.info(
            "Overall average Bayes Risk per sentence is %g and per word, %g",
            self.risk / max(self.num_done, 1),
            self.risk / max(self.num_words, 1),
        )


def _with_epsilons(words: Sequence[int]) -> list[int]:
    """Put EPSILON before, between and behind the words (NormalizeEps)."""
    result = [EPSILON]
    for word in words:
        if word != EPSILON:
            result += [word, EPSILON]
    return result


def _bins(counts: BinCounts) -> list[Bin]:
    """Sort each position's words by their posterior; of equal ones, the higher number first."""
    order = np.lexsort((-counts.word, -counts.gamma, counts.position))
    ends = np.cumsum(np.bincount(counts.position))
    bins = []
    for which in np.split(order, ends[:-1]):
        times = zip(counts.begin[which].tolist(), counts.end[which].tolist(), strict=True)
        bins.append(Bin(counts.word[which].tolist(), counts.gamma[which].tolist(), list(times)))
    return bins


def _in_order(times: list[Times]) -> list[Times]:
    """Let two words that overlap share the time of both by their durations."""
    result: list[Times] = []
    for begin, end in times:
        if result and result[-1][1] > begin:
            last_begin, last_end = result.pop()
            left = max(result[-1][1] if result else 0.0, min(last_begin, begin))
            right = max(last_end, end)
            first, second = last_end - last_begin, end - begin
            middle = left + (right - left) * first / (first + second) if first > 0 else left
            result.append((left, middle))
            begin, end = middle, right
        result.append((begin, end))
    return result
