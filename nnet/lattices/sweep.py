"""Sums over the paths of a lattice, forward and backward, level by level (see order.py).

In the log semiring (`np.logaddexp`) they are total likelihoods, in the tropical one (`np.maximum`)
those of the best path.
"""

from __future__ import annotations

import numpy as np

from nnet.lattices.lattice import _Lattice
from nnet.lattices.order import levels_of


class _Groups:
    """Arcs ordered by one of their ends, the states at that end ordered by level."""

    def __init__(self, ends: np.ndarray, levels: np.ndarray):
        order = np.lexsort((ends, levels[ends]))
        self.arcs = order
        at = ends[order]
        self.first = np.flatnonzero(np.diff(at, prepend=-1))  # of each state's arcs
        self.states = at[self.first]
        # Level by level: where its states begin, and where its arcs do.
        bounds = np.flatnonzero(np.diff(levels[self.states], prepend=-1))
        self.bounds = [*bounds.tolist(), len(self.states)]
        self.first_arc = [*self.first[bounds].tolist(), len(order)]


class Sweep:
    """The order in which sums over a lattice's paths are made.

    Raises:
        ValueError: the lattice has a cycle.
    """

    def __init__(self, lattice: _Lattice):
        self.lattice = lattice
        self.source = lattice.source
        self.into = lattice.arcs["nextstate"].astype(np.int64)
        levels = levels_of(lattice)
        self._forward = _Groups(self.into, levels)
        self._backward = _Groups(self.source, levels)

    def forward(self, weights: np.ndarray, add: np.ufunc) -> np.ndarray:
        """Sum up over all ways from the start to each state.

        Args:
            weights: log-likelihoods of arcs, float64 (arcs,).
            add: np.logaddexp or np.maximum.

        Returns:
            float64 (states,): 0 for the start, -inf where no way leads.
        """
        alpha = np.full(self.lattice.num_states, -np.inf)
        if self.lattice.start >= 0:
            alpha[self.lattice.start] = 0.0
        groups = self._forward
        source, weights = self.source[groups.arcs], weights[groups.arcs]
        for level in range(len(groups.bounds) - 1):
            begin, end = groups.bounds[level : level + 2]
            arcs = slice(*groups.first_arc[level : level + 2])
            sums = add.reduceat(
                alpha[source[arcs]] + weights[arcs], groups.first[begin:end] - arcs.start
            )
            states = groups.states[begin:end]
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
        groups = self._backward
        into, weights = self.into[groups.arcs], weights[groups.arcs]
        for level in reversed(range(len(groups.bounds) - 1)):
            begin, end = groups.bounds[level : level + 2]
            arcs = slice(*groups.first_arc[level : level + 2])
            sums = add.reduceat(
                beta[into[arcs]] + weights[arcs], groups.first[begin:end] - arcs.start
            )
            states = groups.states[begin:end]
            beta[states] = add(beta[states], sums)
        return beta
