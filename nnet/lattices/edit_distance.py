"""The expected edit distance between a sequence of words and the paths of a lattice.

After H. Xu, D. Povey, L. Mangu, J. Zhu, "Minimum Bayes risk decoding and system combination based
on a recursion for edit distance" (2011), figures 4 and 5, and Kaldi's lat/sausages.cc, whose
correction of the paper's appendix C is followed.

R is a sequence of words with an epsilon before, between and behind them; Q is its length.  Over the
states n of a lattice, alpha(n) is the log-likelihood of the ways to n, and alpha'(n, q) the
expected distance between these and R(1 ... q); alpha'_a(q) is that of the ways over the arc a.  The
derivatives beta' of the distance say how often each word stands against position q: gamma(q, w).
All arcs that leave, or enter, the states of one level are computed at once, for all q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.operations import with_super_final
from nnet.lattices.sweep import Sweep
from nnet.lattices.times import state_times

_DELTA = 1e-5  # more for deletions, so that words rather stand against words
_ROUNDING = 1e-14  # in sums of probabilities
_TIE = 1e-9  # distances that differ by less are equal
_MATCH, _DELETE, _INSERT = 1, 2, 3  # the last step of a way, as numbered in the paper


@dataclass(frozen=True)
class BinCounts:
    """How often words stand against positions of R; one entry for each pair that occurs.

    Attributes:
        position: in R, from 0, in ascending order; int64 (pairs,).
        word: int32 (pairs,).
        gamma: posterior; the sum over a position's words is 1; float64 (pairs,).
        begin, end: of the word on average, in frames; float64 (pairs,).
    """

    position: np.ndarray
    word: np.ndarray
    gamma: np.ndarray
    begin: np.ndarray
    end: np.ndarray


class EditDistance:
    """The recursion on one lattice, which is connected; raises ValueError as `state_times` does."""

    def __init__(self, lattice: CompactLattice):
        lattice = with_super_final(lattice)
        self.sweep = Sweep(lattice)
        self.time = state_times(lattice, self.sweep).astype(np.float64)
        self.word = lattice.words
        log_p = -lattice.costs
        alpha = self.sweep.forward(log_p, np.logaddexp)
        # How much of what comes to the end of an arc comes over this arc.
        self.share = np.exp(alpha[self.sweep.source] + log_p - alpha[self.sweep.into])
        self.start, self.end = lattice.start, int(np.flatnonzero(lattice.is_final)[0])
        self.deletion = np.where(self.word == EPSILON, 0, 1 + _DELTA)

    def between(self, r: np.ndarray) -> tuple[float, BinCounts]:
        """Compute the expected distance to R, int (Q,), and what stands against it."""
        insertion = np.concatenate(([0.0], np.cumsum(r != EPSILON)))  # of R(1 ... q)
        alpha = np.zeros((len(self.time), len(insertion)))
        alpha[self.start] = insertion
        for arcs, first, states in self.sweep.by_target:
            *_, over_arc = self._over_arcs(arcs, r, alpha, insertion)
            alpha[states] += np.add.reduceat(self.share[arcs, None] * over_arc, first)
        return float(alpha[self.end, -1]), self._counts(r, alpha, insertion)

    def _over_arcs(self, arcs, r, alpha, insertion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the distance with a match as last step, with a deletion, and the least.

        alpha'_a(q) = min(match(q), delete(q), alpha'_a(q - 1) + what it costs to insert r(q)); less
        the cost of inserting R(1 ... q), that is a running minimum over q.

        Returns:
            float64, (arcs, Q), (arcs, Q + 1) and (arcs, Q + 1).
        """
        before = alpha[self.sweep.source[arcs]]
        match = before[:, :-1] + (self.word[arcs, None] != r)
        delete = before + self.deletion[arcs, None]
        least = delete.copy()
        np.minimum(least[:, 1:], match, out=least[:, 1:])
        return match, delete, np.minimum.accumulate(least - insertion, axis=1) + insertion

    def _counts(self, r: np.ndarray, alpha: np.ndarray, insertion: np.ndarray) -> BinCounts:
        """Go back from the end, and collect what stands against each position."""
        beta = np.zeros_like(alpha)
        beta[self.end, -1] = 1.0
        tally = _Tally(len(r))
        for arcs, first, states in self.sweep.by_source:
            match, delete, least = self._over_arcs(arcs, r, alpha, insertion)
            step = np.where(match <= delete[:, 1:] + _TIE, _MATCH, _DELETE)
            step[least[:, 1:] < np.minimum(match, delete[:, 1:]) - _TIE] = _INSERT
            into, source = self.sweep.into[arcs], self.sweep.source[arcs]
            beta_a = _carried(self.share[arcs, None] * beta[into], step == _INSERT)
            at_q = beta_a[:, 1:]
            to_source = np.zeros_like(beta_a)
            to_source[:, 0] = beta_a[:, 0]
            to_source[:, :-1] += np.where(step == _MATCH, at_q, 0)
            to_source[:, 1:] += np.where(step == _DELETE, at_q, 0)
            beta[states] = np.add.reduceat(to_source, first)
            begin, end = self.time[source], self.time[into]
            tally.add(np.where(step == _MATCH, at_q, 0), self.word[arcs], begin, end)
            tally.add(np.where(step == _INSERT, at_q, 0), np.full(len(arcs), EPSILON), end, end)
        # What is left at the start are positions before the first word of a path.
        left = np.cumsum(beta[self.start, :0:-1])[::-1]
        at_start = self.time[self.start, None]
        tally.add(left[None], np.array([EPSILON]), at_start, at_start)
        return tally.counts()


def _carried(beta: np.ndarray, is_insertion: np.ndarray) -> np.ndarray:
    """Carry beta'_a(q) on to q - 1 wherever the step at q is an insertion.

    That is, add up from q to the last position before one that has another step behind q.

    Args:
        beta: float64 (arcs, Q + 1).
        is_insertion: bool (arcs, Q), for q = 1 ... Q.
    """
    num_arcs, size = beta.shape
    sums = np.zeros((num_arcs, size + 1))  # over q ... Q
    sums[:, :-1] = np.cumsum(beta[:, ::-1], axis=1)[:, ::-1]
    stop = np.full((num_arcs, size), size)  # the first position behind q with another step
    others = np.where(is_insertion, size, np.arange(1, size))
    stop[:, :-1] = np.minimum.accumulate(others[:, ::-1], axis=1)[:, ::-1]
    total = sums[:, :-1] - np.take_along_axis(sums, stop, axis=1)
    total[total < _ROUNDING] = 0
    return total


class _Tally:
    """Sums of gamma and of times, for pairs of a position and a word."""

    def __init__(self, num_positions: int):
        self.num_positions = num_positions
        self.parts: list[tuple[np.ndarray, ...]] = []

    def add(self, gamma: np.ndarray, word: np.ndarray, begin: np.ndarray, end: np.ndarray) -> None:
        """Add gamma (arcs, Q), of arcs with a word, a begin and an end (arcs,)."""
        row, position = np.nonzero(gamma)
        self.parts.append((position, word[row], gamma[row, position], begin[row], end[row]))

    def counts(self) -> BinCounts:
        position, word, gamma, begin, end = map(np.concatenate, zip(*self.parts, strict=True))
        pairs, which = np.unique(
            word.astype(np.int64) * self.num_positions + position, return_inverse=True
        )
        order = np.argsort(pairs % self.num_positions, kind="stable")
        total, begin, end = (
            np.bincount(which, weights)[order] for weights in (gamma, gamma * begin, gamma * end)
        )
        return BinCounts(
            pairs[order] % self.num_positions,
            (pairs[order] // self.num_positions).astype(np.int32),
            total,
            begin / total,
            end / total,
        )
