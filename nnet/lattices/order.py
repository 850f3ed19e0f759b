"""Topological order of a lattice's states, in levels that are computed at once.

The level of a state is the number of arcs on the longest way to it from a state without arcs in.
Every arc goes to a higher level, so that what is to be summed over paths is an array operation for
each level, and not a step for each arc.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from nnet.lattices.lattice import _Lattice
from nnet.lattices.strings import ranges

L = TypeVar("L", bound=_Lattice)


def levels_of(lattice: _Lattice) -> np.ndarray:
    """Find the level of each state; int64 (states,).

    Raises:
        ValueError: the lattice has a cycle.
    """
    next_states, first_arc = lattice.arcs["nextstate"], lattice.first_arc
    missing = np.bincount(next_states, minlength=lattice.num_states)  # arcs in, not yet followed
    levels = np.zeros(lattice.num_states, np.int64)
    ready, level, num_seen = np.flatnonzero(missing == 0), 0, 0
    while len(ready):
        levels[ready] = level
        num_seen += len(ready)
        followed = ranges(first_arc[ready], first_arc[ready + 1] - first_arc[ready])
        reached, counts = np.unique(next_states[followed], return_counts=True)
        missing[reached] -= counts
        ready = reached[missing[reached] == 0]
        level += 1
    if num_seen < lattice.num_states:
        raise ValueError("the lattice has a cycle")
    return levels


def topsorted(lattice: L) -> L:
    """Number the states so that every arc goes to a higher one, and the path starts in state 0.

    States that no path from the start goes through are dropped if the lattice has to be sorted.

    Raises:
        ValueError: the lattice has a cycle.
    """
    if lattice.is_topsorted:
        return lattice
    reached = accessible(lattice)
    order = np.argsort(levels_of(lattice), kind="stable")
    return lattice.renumbered(order[reached[order]])


def accessible(lattice: _Lattice) -> np.ndarray:
    """Find the states that can be reached from the start; bool (states,)."""
    reached = np.zeros(lattice.num_states, bool)
    if lattice.start < 0:
        return reached
    frontier, first_arc = np.array([lattice.start]), lattice.first_arc
    reached[frontier] = True
    while len(frontier):
        followed = ranges(first_arc[frontier], first_arc[frontier + 1] - first_arc[frontier])
        found = np.unique(lattice.arcs["nextstate"][followed])
        frontier = found[~reached[found]]
        reached[frontier] = True
    return reached


def coaccessible(lattice: _Lattice) -> np.ndarray:
    """Find the states from which a final one can be reached; bool (states,)."""
    reaches = lattice.is_final.copy()
    source, into = lattice.source, lattice.arcs["nextstate"]
    order = np.argsort(into, kind="stable")
    first_in = np.concatenate(([0], np.cumsum(np.bincount(into, minlength=lattice.num_states))))
    frontier = np.flatnonzero(reaches)
    while len(frontier):
        followed = ranges(first_in[frontier], first_in[frontier + 1] - first_in[frontier])
        found = np.unique(source[order[followed]])
        frontier = found[~reaches[found]]
        reaches[frontier] = True
    return reaches


def connected(lattice: L) -> L:
    """Keep the states that are on some path from the start to a final state (OpenFst's Connect)."""
    useful = accessible(lattice) & coaccessible(lattice)
    if useful.all():
        return lattice
    if lattice.start >= 0 and not useful[lattice.start]:
        useful[:] = False
    return lattice.renumbered(np.flatnonzero(useful))
