"""Topological order of a lattice's states, in levels that are computed at once.

The level of a state is the number of arcs on the longest way to it from a state without arcs in.
Every arc goes to a higher level, so that what is to be summed over paths is an array operation for
each level, and not a step for each arc.  What is here walks over arcs as lists: lattices are
narrow, and arrays of a few states are slower.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from nnet.lattices.lattice import _Lattice

L = TypeVar("L", bound=_Lattice)


class Transitions(Protocol):
    """What the order of states depends on: arcs[first_arc[s] : first_arc[s + 1]] leave state s."""

    first_arc: np.ndarray
    arcs: np.ndarray

    @property
    def num_states(self) -> int:
        """Number of states."""


def levels_of(lattice: Transitions) -> np.ndarray:
    """Find the level of each state; int64 (states,).

    Raises:
        ValueError: the lattice has a cycle.
    """
    into, first_arc = lattice.arcs["nextstate"].tolist(), lattice.first_arc.tolist()
    missing = np.bincount(into, minlength=lattice.num_states).tolist()  # arcs in, not yet followed
    levels = [0] * lattice.num_states
    ready = [state for state, count in enumerate(missing) if not count]
    for state in ready:  # in the order of their levels, so that the last arc in is from the highest
        for to in into[first_arc[state] : first_arc[state + 1]]:
            missing[to] -= 1
            if not missing[to]:
                levels[to] = levels[state] + 1
                ready.append(to)
    if len(ready) < lattice.num_states:
        raise ValueError("the lattice has a cycle")
    return np.array(levels, np.int64)


def costs_to_end(lattice: _Lattice) -> list[float]:
    """Find what the best way from each state to the end costs, inf where none leads there.

    Raises:
        ValueError: the lattice has a cycle.
    """
    states = range(lattice.num_states)
    in_order = states if lattice.is_topsorted else np.argsort(levels_of(lattice)).tolist()
    into, first_arc = lattice.arcs["nextstate"].tolist(), lattice.first_arc.tolist()
    arc_costs, costs = lattice.costs.tolist(), lattice.final_costs.tolist()
    for state in reversed(in_order):
        for arc in range(first_arc[state], first_arc[state + 1]):
            cost = arc_costs[arc] + costs[into[arc]]
            if cost < costs[state]:
                costs[state] = cost
    return costs


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
    num_in = np.bincount(lattice.arcs["nextstate"], minlength=lattice.num_states)
    if lattice.start == 0 and lattice.is_topsorted and num_in[1:].all():
        return np.ones(lattice.num_states, bool)  # of others, the lowest would have no arc in
    begin = [lattice.start] if lattice.start >= 0 else []
    return _reached(begin, lattice.first_arc, lattice.arcs["nextstate"])


def coaccessible(lattice: _Lattice) -> np.ndarray:
    """Find the states from which a final one can be reached; bool (states,)."""
    if lattice.is_topsorted and (lattice.is_final | (np.diff(lattice.first_arc) > 0)).all():
        return np.ones(lattice.num_states, bool)  # of others, the highest would have no arc out
    into = lattice.arcs["nextstate"]
    num_in = np.bincount(into, minlength=lattice.num_states)
    first_in = np.concatenate(([0], np.cumsum(num_in)))
    sources = lattice.source[np.argsort(into, kind="stable")]
    return _reached(np.flatnonzero(lattice.is_final).tolist(), first_in, sources)


def _reached(begin: list[int], first: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Find what can be reached; those next to state s are neighbours[first[s] : first[s + 1]]."""
    bounds, others = first.tolist(), neighbours.tolist()
    reached = [False] * (len(bounds) - 1)
    for state in begin:
        reached[state] = True
    found = list(begin)
    for state in found:
        for other in others[bounds[state] : bounds[state + 1]]:
            if not reached[other]:
                reached[other] = True
                found.append(other)
    return np.array(reached, bool)


def connected(lattice: L) -> L:
    """Keep the states that are on some path from the start to a final state (OpenFst's Connect)."""
    useful = accessible(lattice) & coaccessible(lattice)
    if useful.all():
        return lattice
    if lattice.start >= 0 and not useful[lattice.start]:
        useful[:] = False
    return lattice.renumbered(np.flatnonzero(useful))
