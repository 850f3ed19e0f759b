"""Sums over the paths of a lattice, forward and backward, level by level (see order.py).

In the log semiring (`np.logaddexp`) they are total likelihoods, in the tropical one (`np.maximum`)
those of the best path.
"""

from __future__ import annotations

import numpy as np

from nnet.lattices.lattice import _Lattice
from nnet.lattices.order import levels_of

Level = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Arcs of one level, where those of each state begin among them, and the states."""


def _by_level(ends: np.ndarray, levels: np.ndarray) -> list[Level]:
    """Group arcs by the level of one of their ends, and in it by the state at that end."""
    arcs = np.lexsort((ends, levels[ends]))
    at = ends[arcs]
    first = np.flatnonzero(np.diff(at, prepend=-1))  # of each state's arcs
    states = at[first]
    bounds = [*np.flatnonzero(np.diff(levels[states], prepend=-1)).tolist(), len(states)]
    arc_bounds = [*first[bounds[:-1]].tolist(), len(arcs)]
    return [
        (
            arcs[arc : arc_bounds[n + 1]],
            first[bounds[n] : bounds[n + 1]] - arc,
            states[bounds[n] : bounds[n + 1]],
        )
        for n, arc in enumerate(arc_bounds[:-1])
    ]


class PathSums:
    """The order in which sums over the paths of an acyclic graph are made.

    Attributes:
        start: the state where paths begin, -1 if there are none.
        source, into: the states that arcs join, int64 (arcs,).
        by_target: arcs by the level of the state they lead into, in ascending order.
        by_source: arcs by the level of the state they come from, in descending order.
    """

    def __init__(self, start: int, source: np.ndarray, into: np.ndarray, levels: np.ndarray):
        self.start, self.source, self.into = start, source, into
        self.num_states = len(levels)
        self.by_target = _by_level(into, levels)
        self.by_source = _by_level(source, levels)[::-1]

    def forward(self, weights: np.ndarray, add: np.ufunc) -> np.ndarray:
        """Sum up over all ways from the start to each state.

        Args:
            weights: log-likelihoods of arcs, float64 (arcs,).
            add: np.logaddexp or np.maximum.

        Returns:
            float64 (states,): 0 for the start, -inf where no way leads.
        """
        alpha = np.full(self.num_states, -np.inf)
        if self.start >= 0:
            alpha[self.start] = 0.0
        for arcs, first, states in self.by_target:
            sums = add.reduceat(alpha[self.source[arcs]] + weights[arcs], first)
            alpha[states] = add(alpha[states], sums)
        return alpha

    def backward(self, weights: np.ndarray, finals: np.ndarray, add: np.ufunc) -> np.ndarray:
        """Sum up over all ways from each state to the end.

        Args:
            weights, add: as for `forward`.
            finals: log-likelihoods of ending in a state, -inf where that cannot be; (states,).

        Returns:
            float64 (states,): -inf where no way leads to the end.
        """
        beta = np.array(finals, np.float64)
        for arcs, first, states in self.by_source:
            sums = add.reduceat(beta[self.into[arcs]] + weights[arcs], first)
            beta[states] = add(beta[states], sums)
        return beta


class Sweep(PathSums):
    """The order in which sums over a lattice's paths are made.

    Raises:
        ValueError: the lattice has a cycle.
    """

    def __init__(self, lattice: _Lattice):
        into = lattice.arcs["nextstate"].astype(np.int64)
        super().__init__(lattice.start, lattice.source, into, levels_of(lattice))
