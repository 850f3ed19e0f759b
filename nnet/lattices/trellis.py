"""Shares of arcs in the paths of a lattice, and means over its paths, with an end for all of them.

Source: Kaldi's lat/lattice-functions.cc, LatticeForwardBackward and
LatticeForwardBackwardMpeVariants, where states come one after the other.
"""

from __future__ import annotations

import numpy as np

from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.order import levels_of
from nnet.lattices.sweep import Level, PathSums

LOG_ZERO = -np.inf


class Trellis(PathSums):
    """The states and arcs of a lattice, over whose paths scores are summed up.

    An arc from each final state to one end stands for its final weight.

    Attributes:
        source, into: the states that arcs join, int (arcs,): first those of the lattice, then
            those of its final states, in order.
        final_states: these.
        end: the state where paths end, which is the last.

    Raises:
        ValueError: the lattice is empty, or has a cycle.
    """

    def __init__(self, lattice: Lattice | CompactLattice):
        if lattice.start < 0:
            raise ValueError("the lattice is empty")
        self.end = lattice.num_states
        self.final_states = np.flatnonzero(lattice.is_final)
        source = np.concatenate([lattice.source, self.final_states])
        into = np.append(lattice.arcs["nextstate"], np.full(len(self.final_states), self.end))
        levels = levels_of(lattice)
        super().__init__(lattice.start, source, into, np.append(levels, levels.max() + 1))

    def times(self, length: np.ndarray) -> np.ndarray:
        """Find when paths are at each state, int (states,); -1 if they never are.

        length: frames of each arc, int (arcs,).

        Raises:
            ValueError: there is no path, or they differ in their number of frames.
        """
        longest = self.forward(length.astype(np.float64), np.maximum)
        time = np.where(longest == LOG_ZERO, -1, longest).astype(np.int64)
        begin = time[self.source]
        if time[self.end] < 0:
            raise ValueError("the lattice has no path to a final state")
        if ((begin + length != time[self.into]) & (begin >= 0)).any():
            raise ValueError("the lattice has paths of different numbers of frames")
        return time

    def posteriors(self, score: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the logarithm of the sum over all paths, and each arc's share in it.

        score: of the arcs, float64 (arcs,); that of a path is the sum over its arcs.

        Returns:
            log Z = log sum_paths exp score, and gamma_a = exp(alpha + score_a + beta - log Z),
            (arcs,).  If there is no path, that is -inf and zeros.
        """
        return self._shares(*self._totals(score), score)

    def expectation(
        self, score: np.ndarray, value: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Compute the mean of a sum over the arcs of a path, and how far each arc is from it.

        value: what each arc adds, (arcs,), such as the number of its frames that are right.

        Returns:
            The mean over all paths, weighted by exp score; gamma as posteriors() has it; and the
            mean over the paths through each arc, less that over all, (arcs,), 0 where gamma is.
        """
        alpha, beta = self._totals(score)
        gamma = self._shares(alpha, beta, score)[1]
        from_start = _ratio(alpha[self.source] + score, alpha[self.into])
        to_end = _ratio(beta[self.into] + score, beta[self.source])
        before = self._means(self.by_target, self.source, from_start, value)
        after = self._means(self.by_source, self.into, to_end, value)
        mean = float(before[self.end])
        deviation = before[self.source] + value + after[self.into] - mean
        return mean, gamma, np.where(gamma > 0, deviation, 0.0)

    def _totals(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum over the ways from the start to each state, alpha, and from it to the end, beta."""
        at_end = np.full(self.num_states, LOG_ZERO)
        at_end[self.end] = 0.0
        return self.forward(score, np.logaddexp), self.backward(score, at_end, np.logaddexp)

    def _means(
        self, levels: list[Level], far: np.ndarray, share: np.ndarray, value: np.ndarray
    ) -> np.ndarray:
        """Average the values of the ways to each state, by the shares of their last arcs.

        far: the states that arcs come from, in the direction of the levels.
        """
        mean = np.zeros(self.num_states)
        for arcs, first, states in levels:
            mean[states] = np.add.reduceat(share[arcs] * (mean[far[arcs]] + value[arcs]), first)
        return mean

    def _shares(
        self, alpha: np.ndarray, beta: np.ndarray, score: np.ndarray
    ) -> tuple[float, np.ndarray]:
        log_z = alpha[self.end]
        through = alpha[self.source] + score + beta[self.into]
        return float(log_z), _ratio(through, np.full(len(score), log_z))


def _ratio(log_part: np.ndarray, log_whole: np.ndarray) -> np.ndarray:
    """Divide what the logarithms are given of; 0 where the whole is."""
    log_ratio = np.full(len(log_part), LOG_ZERO)
    return np.exp(np.subtract(log_part, log_whole, out=log_ratio, where=log_whole > LOG_ZERO))
