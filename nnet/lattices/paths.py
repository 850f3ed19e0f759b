"""The best paths of a lattice (Kaldi's lattice-best-path, lattice-1best, lattice-to-nbest).

Lattices of one path stand for what they say in turn (nbest-to-linear, linear-to-nbest).

The n best are found in order of their cost by A*: the exact cost to the end is known for every
state, so that nothing is looked at which is on none of them (OpenFst's shortest-path.h).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np

from nnet.lattices.conversion import to_compact_lattice
from nnet.lattices.lattice import EPSILON, LATTICE_ARC, CompactLattice, Lattice, _Lattice
from nnet.lattices.order import coaccessible, costs_to_end
from nnet.lattices.strings import LabelStrings

L = TypeVar("L", bound=_Lattice)


@dataclass(frozen=True)
class Path:
    """A path from the start of a lattice to its end.

    Attributes:
        arcs: indices of its arcs.
        final: the state in which it ends.
    """

    arcs: list[int]
    final: int

    def words(self, lattice: _Lattice) -> list[int]:
        """Return its words."""
        words = lattice.words[self.arcs]
        return words[words != EPSILON].tolist()

    def alignment(self, lattice: Lattice | CompactLattice) -> list[int]:
        """Return its transition-ids."""
        if isinstance(lattice, Lattice):
            ids = lattice.arcs["ilabel"][self.arcs]
            return ids[ids != EPSILON].tolist()
        on_arcs = lattice.arc_strings.take(np.array(self.arcs, np.int64)).values
        return [*on_arcs.tolist(), *lattice.final_strings[self.final].tolist()]

    def weight(self, lattice: _Lattice) -> np.ndarray:
        """Add up its costs: float64 (2,), of the graph and acoustic."""
        return (
            lattice.arcs["weight"][self.arcs].sum(axis=0, dtype=np.float64)
            + (lattice.finals[self.final])
        )


def best_path(lattice: _Lattice) -> Path | None:
    """Find the path of the least cost; None when the lattice has none.

    Raises:
        ValueError: the lattice has a cycle.
    """
    return next(iter(best_paths(lattice, 1)), None)


def best_paths(lattice: _Lattice, n: int) -> list[Path]:
    """Find the n paths of the least cost, in that order; fewer if there are no more.

    Raises:
        ValueError: the lattice has a cycle.
    """
    if lattice.start < 0:
        return []
    left = costs_to_end(lattice)
    into, first_arc = lattice.arcs["nextstate"].tolist(), lattice.first_arc.tolist()
    arc_cost, final_cost = lattice.costs.tolist(), lattice.final_costs.tolist()
    infinite = float("inf")
    found: list[Path] = []
    num_expanded = [0] * lattice.num_states
    number = count()  # of ties, the one that was seen first
    # What a way costs with the best end; its own cost, state (negative behind the end), and arcs as
    # a linked list.
    queue: list[tuple[float, int, float, int, tuple | None]] = [
        (left[lattice.start], next(number), 0.0, lattice.start, None)
    ]
    if left[lattice.start] == infinite:
        return []
    while queue and len(found) < n:
        _, _, cost, state, way = heapq.heappop(queue)
        if state < 0:
            found.append(Path(_unrolled(way), -1 - state))
            continue
        num_expanded[state] += 1
        if num_expanded[state] > n:
            continue
        if final_cost[state] < infinite:
            heapq.heappush(queue, (cost + final_cost[state], next(number), cost, -1 - state, way))
        for arc in range(first_arc[state], first_arc[state + 1]):
            to, so_far = into[arc], cost + arc_cost[arc]
            if left[to] < infinite:
                entry = (so_far + left[to], next(number), so_far, to, (arc, way))
                heapq.heappush(queue, entry)
    return found


def _unrolled(way: tuple | None) -> list[int]:
    arcs = []
    while way is not None:
        arc, way = way
        arcs.append(arc)
    return arcs[::-1]


def random_paths(lattice: _Lattice, n: int, rng: np.random.Generator) -> list[Path]:
    """Draw n paths: all that leads on from a state, or ends there, is equally probable.

    None are drawn where no path leads to the end.
    """
    useful = coaccessible(lattice)
    if lattice.start < 0 or not useful[lattice.start]:
        return []
    into, is_final = lattice.arcs["nextstate"], lattice.is_final
    paths = []
    for _ in range(n):
        state, arcs = lattice.start, []
        while True:
            leaving = np.arange(lattice.first_arc[state], lattice.first_arc[state + 1])
            choices = [*leaving[useful[into[leaving]]].tolist(), *[-1] * bool(is_final[state])]
            arc = choices[rng.integers(len(choices))]
            if arc < 0:
                break
            arcs.append(arc)
            state = int(into[arc])
        paths.append(Path(arcs, state))
    return paths


def linear(lattice: CompactLattice, path: Path) -> CompactLattice:
    """Make the lattice of one path."""
    num_states = len(path.arcs) + 1
    arcs = lattice.arcs[path.arcs]
    arcs["nextstate"] = np.arange(1, num_states)
    finals = np.full((num_states, 2), np.inf, np.float32)
    finals[-1] = lattice.finals[path.final]
    final_strings = LabelStrings.concatenate(
        [LabelStrings.empty(num_states - 1), lattice.final_strings.take(np.array([path.final]))]
    )
    strings = lattice.arc_strings.take(np.array(path.arcs, np.int64))
    first_arc = np.minimum(np.arange(num_states + 1), num_states - 1)
    return CompactLattice(0, finals, first_arc, arcs, strings, final_strings)


def only_path(lattice: _Lattice) -> Path:
    """Return the path of a lattice that has one and no more (GetLinearSymbolSequence).

    Raises:
        ValueError: it is empty, or does not go straight on from its start to its end.
    """
    if lattice.start < 0:
        raise ValueError("the lattice is empty")
    first_arc, into = lattice.first_arc, lattice.arcs["nextstate"]
    state = lattice.start
    arcs: list[int] = []
    for _ in range(lattice.num_states):
        num_arcs = first_arc[state + 1] - first_arc[state]
        if num_arcs + lattice.is_final[state] != 1:
            break
        if not num_arcs:
            return Path(arcs, state)
        arcs.append(int(first_arc[state]))
        state = int(into[arcs[-1]])
    raise ValueError("the lattice is not one path from its start to its end")


def lattice_of_path(
    alignment: Sequence[int], words: Sequence[int], graph: float, acoustic: float
) -> CompactLattice:
    """Make the lattice of one path, whose costs are at its end (MakeLatticeFromLinear).

    Where the words begin is not known: each stands beside one of the first transition-ids.
    """
    length = max(len(alignment), len(words))
    arcs = np.zeros(length, LATTICE_ARC)
    arcs["ilabel"][: len(alignment)], arcs["olabel"][: len(words)] = alignment, words
    arcs["nextstate"] = np.arange(1, length + 1)
    finals = np.full((length + 1, 2), np.inf, np.float32)
    finals[-1] = graph, acoustic
    return to_compact_lattice(Lattice.from_arcs(0, finals, np.arange(length), arcs))
