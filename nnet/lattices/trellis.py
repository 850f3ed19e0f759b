"""Sums over the paths of a lattice: the forward-backward algorithm, level by level.

All arcs into the states of one level come from lower ones (nnet/lattices/order.py), so that a level
is one operation on arrays, and there are far fewer levels than arcs.

Source: Kaldi's lat/lattice-functions.cc, LatticeForwardBackward and
LatticeForwardBackwardMpeVariants, where states come one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.order import levels_of

LOG_ZERO = -np.inf


class _Level(NamedTuple):
    """The arcs by which states of a level are reached.

    Attributes:
        states: those that are.
        arcs: these, in the order of the states.
        starts: where the arcs of each state begin in `arcs`.
    """

    states: np.ndarray
    arcs: np.ndarray
    starts: np.ndarray


class _Sweep(NamedTuple):
    """A way through all states: from the start, or from the end.

    Attributes:
        first: the state where it begins.
        near, far: the states that each arc leads to, and comes from, in this direction.
        levels: the arcs in an order in which `far` is always done before `near`.
    """

    first: int
    near: np.ndarray
    far: np.ndarray
    levels: list[_Level]


class Trellis:
    """The states and arcs of a lattice, over whose paths scores are summed up.

    An arc from each final state to one end stands for its final weight.

    Attributes:
        source, destination: the states that arcs join, int (arcs,): first those of the lattice,
            then those of its final states, in order.
        final_states: these.
        num_states, start, end: as they say; the end is the last state.

    Raises:
        ValueError: the lattice is empty, or has a cycle.
    """

    def __init__(self, lattice: Lattice | CompactLattice):
        if lattice.start < 0:
            raise ValueError("the lattice is empty")
        self.start, self.end = lattice.start, lattice.num_states
        self.num_states = lattice.num_states + 1
        self.final_states = np.flatnonzero(lattice.is_final)
        self.source = np.concatenate([lattice.source, self.final_states])
        self.destination = np.append(
            lattice.arcs["nextstate"], np.full(len(self.final_states), self.end)
        )
        level = levels_of(lattice)
        level = np.append(level, level.max() + 1)
        forward = _by_level(level[self.destination], self.destination)
        backward = _by_level(-level[self.source], self.source)
        self._from_start = _Sweep(self.start, self.destination, self.source, forward)
        self._from_end = _Sweep(self.end, self.source, self.destination, backward)

    def forward(self, score: np.ndarray) -> np.ndarray:
        """Sum over the paths from the start: alpha_s = log sum_paths exp score, float64 (states,).

        score: of the arcs, float64 (arcs,); that of a path is the sum over its arcs.
        """
        return self._totals(self._from_start, score)

    def backward(self, score: np.ndarray) -> np.ndarray:
        """Sum over the paths to the end: beta_s, as forward() does."""
        return self._totals(self._from_end, score)

    def times(self, length: np.ndarray) -> np.ndarray:
        """Find when paths are at each state, int (states,); -1 if they never are.

        length: frames of each arc, int (arcs,).

        Raises:
            ValueError: there is no path, or they differ in their number of frames.
        """
        longest = self._totals(self._from_start, length.astype(np.float64), np.maximum)
        time = np.where(longest == LOG_ZERO, -1, longest).astype(np.int64)
        begin = time[self.source]
        if time[self.end] < 0:
            raise ValueError("the lattice has no path to a final state")
        if ((begin + length != time[self.destination]) & (begin >= 0)).any():
            raise ValueError("the lattice has paths of different numbers of frames")
        return time

    def posteriors(self, score: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the logarithm of the sum over all paths, and each arc's share in it.

        Returns:
            log Z = log sum_paths exp score, and gamma_a = exp(alpha + score_a + beta - log Z),
            (arcs,).  If there is no path, that is -inf and zeros.
        """
        return self._shares(self.forward(score), self.backward(score), score)

    def expectation(
        self, score: np.ndarray, value: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Compute the mean of a sum over the arcs of a path, and how far each arc is from it.

        value: what each arc adds, (arcs,), such as the number of its frames that are right.

        Returns:
            The mean over all paths, weighted by exp score; gamma as posteriors() has it; and the
            mean over the paths through each arc, less that over all, (arcs,), 0 where gamma is.
        """
        alpha, beta = self.forward(score), self.backward(score)
        gamma = self._shares(alpha, beta, score)[1]
        before = self._means(self._from_start, alpha, score, value)
        after = self._means(self._from_end, beta, score, value)
        mean = float(before[self.end])
        deviation = before[self.source] + value + after[self.destination] - mean
        return mean, gamma, np.where(gamma > 0, deviation, 0.0)

    def _totals(self, sweep: _Sweep, score: np.ndarray, add: np.ufunc = np.logaddexp) -> np.ndarray:
        """Add up the scores of the partial paths to each state, (states,)."""
        total = np.full(self.num_states, LOG_ZERO)
        total[sweep.first] = 0
        for states, arcs, starts in sweep.levels:
            total[states] = add.reduceat(total[sweep.far[arcs]] + score[arcs], starts)
        return total

    def _means(
        self, sweep: _Sweep, log_total: np.ndarray, score: np.ndarray, value: np.ndarray
    ) -> np.ndarray:
        """Average the values of the partial paths to each state, by the shares of last arcs."""
        share = _ratio(log_total[sweep.far] + score, log_total[sweep.near])
        mean = np.zeros(self.num_states)
        for states, arcs, starts in sweep.levels:
            along = share[arcs] * (mean[sweep.far[arcs]] + value[arcs])
            mean[states] = np.add.reduceat(along, starts)
        return mean

    def _shares(
        self, alpha: np.ndarray, beta: np.ndarray, score: np.ndarray
    ) -> tuple[float, np.ndarray]:
        log_z = alpha[self.end]
        through = alpha[self.source] + score + beta[self.destination]
        return float(log_z), _ratio(through, np.full(len(score), log_z))


def _ratio(log_part: np.ndarray, log_whole: np.ndarray) -> np.ndarray:
    """Divide what the logarithms are given of; 0 where the whole is."""
    log_ratio = np.full(len(log_part), LOG_ZERO)
    return np.exp(np.subtract(log_part, log_whole, out=log_ratio, where=log_whole > LOG_ZERO))


def _by_level(level: np.ndarray, state: np.ndarray) -> list[_Level]:
    """Group arcs by the levels and states of one of their ends, levels in ascending order."""
    order = np.lexsort((state, level))
    level, state = level[order], state[order]
    begins = np.flatnonzero(np.diff(level, prepend=level[:1] - 1))
    levels = []
    for begin, end in zip(begins, np.append(begins[1:], len(order)), strict=True):
        starts = np.flatnonzero(np.diff(state[begin:end], prepend=-1))
        levels.append(_Level(state[begin:end][starts], order[begin:end], starts))
    return levels
