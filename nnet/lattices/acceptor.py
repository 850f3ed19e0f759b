"""Acyclic acceptors of transition-ids: epsilons removed, reversed, determinized.

After OpenFst's RmEpsilon, Reverse and Determinize with Kaldi's weights, of which the lighter one
counts (fstext/lattice-weight.h).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from nnet.lattices.lattice import EPSILON, LATTICE_ARC, Lattice
from nnet.lattices.order import connected, topsorted

Weight = tuple[float, float]
"""Graph and acoustic cost."""

Subset = tuple[tuple[int, Weight], ...]
"""States, and what is left of the weights of the paths to them."""

ONE: Weight = (0.0, 0.0)

DELTA = 1 / 1024
"""To which OpenFst rounds what is left of the weights of states that are one from then on."""


def times(a: Weight, b: Weight) -> Weight:
    """Weigh one after the other."""
    return a[0] + b[0], a[1] + b[1]


def lightness(weight: Weight) -> tuple[float, float]:
    """Give a key by which the lighter weight is less."""
    return weight[0] + weight[1], weight[0]


def put(weights: dict, key, weight: Weight) -> None:
    """Keep the lighter one of a weight and the one that is there."""
    if key not in weights or lightness(weight) < lightness(weights[key]):
        weights[key] = weight


@dataclass
class Acceptor:
    """States 0, 1, ..., of which arcs[s] are (label, next state, weight); finals[s] is a weight."""

    start: int
    arcs: list[list[tuple[int, int, Weight]]]
    finals: dict[int, Weight]

    @classmethod
    def of(cls, lattice: Lattice) -> Acceptor:
        """Take the transition-ids of a lattice, in topological order, without the words.

        Raises:
            ValueError: the lattice is empty, or has a cycle.
        """
        if lattice.start < 0:
            raise ValueError("the lattice is empty")
        lattice = topsorted(lattice)
        arcs: list[list[tuple[int, int, Weight]]] = [[] for _ in range(lattice.num_states)]
        found = lattice.arcs
        for source, label, to, weight in zip(
            *(lattice.source.tolist(), found["ilabel"].tolist(), found["nextstate"].tolist()),
            found["weight"].tolist(),
            strict=True,
        ):
            arcs[source].append((label, to, tuple(weight)))
        finals = np.flatnonzero(lattice.is_final)
        weights = map(tuple, lattice.finals[finals].tolist())
        return cls(lattice.start, arcs, dict(zip(finals.tolist(), weights, strict=True)))

    def lattice(self) -> Lattice:
        """Make a lattice without words, in topological order, of the states on its paths."""
        rows = [
            (source, label, to, weight)
            for source, arcs in enumerate(self.arcs)
            for label, to, weight in arcs
        ]
        arcs = np.zeros(len(rows), LATTICE_ARC)
        if rows:
            source, arcs["ilabel"], arcs["nextstate"], arcs["weight"] = zip(*rows, strict=True)
        finals = np.full((len(self.arcs), 2), np.inf)
        for state, weight in self.finals.items():
            finals[state] = weight
        return topsorted(
            connected(Lattice.from_arcs(self.start, finals, source if rows else [], arcs))
        )

    def without_epsilons(self) -> Acceptor:
        """Put what follows an arc without a label in its place; states are in topological order."""
        arcs: list = [[]] * len(self.arcs)
        finals = dict(self.finals)
        for state in reversed(range(len(self.arcs))):
            going: dict[tuple[int, int], Weight] = {}
            for label, to, weight in self.arcs[state]:
                if label != EPSILON:
                    put(going, (label, to), weight)
                    continue
                for following, beyond, further in arcs[to]:
                    put(going, (following, beyond), times(weight, further))
                if to in finals:
                    put(finals, state, times(weight, finals[to]))
            arcs[state] = [(*key, weight) for key, weight in going.items()]
        return Acceptor(self.start, arcs, finals)

    def reversed(self) -> Acceptor:
        """Turn the arcs round; those to where paths ended come from a new state, the start."""
        start = len(self.arcs)
        arcs: list[list[tuple[int, int, Weight]]] = [[] for _ in range(start + 1)]
        for source, going in enumerate(self.arcs):
            for label, to, weight in going:
                arcs[to].append((label, source, weight))
        arcs[start] = [(EPSILON, state, weight) for state, weight in self.finals.items()]
        return Acceptor(start, arcs, {self.start: ONE})

    def determinized(self) -> Acceptor:
        """Make an acceptor of sets of states, in which no state has two arcs of one label.

        A set has with each state what its path weighs more than the lightest to the set, which is
        what the arcs into the set weigh.
        """
        first: Subset = ((self.start, ONE),)
        numbers, sets = {first: 0}, [first]
        made = Acceptor(0, [], {})
        for number, members in enumerate(sets):  # which grows
            reached: defaultdict[int, dict[int, Weight]] = defaultdict(dict)
            for state, rest in members:
                for label, to, weight in self.arcs[state]:
                    put(reached[label], to, times(rest, weight))
                if state in self.finals:
                    put(made.finals, number, times(rest, self.finals[state]))
            made.arcs.append([])
            for label in sorted(reached):
                lightest = min(reached[label].values(), key=lightness)
                following = tuple(
                    (to, _rounded(weight[0] - lightest[0], weight[1] - lightest[1]))
                    for to, weight in sorted(reached[label].items())
                )
                if following not in numbers:
                    numbers[following] = len(sets)
                    sets.append(following)
                made.arcs[number].append((label, numbers[following], lightest))
        return made

    def minimized(self) -> Acceptor:
        """Determinize it from both ends, which leaves few states."""
        both = self.reversed().determinized().reversed().determinized()
        return Acceptor.of(both.lattice()).without_epsilons()


def _rounded(graph: float, acoustic: float) -> Weight:
    return round(graph / DELTA) * DELTA, round(acoustic / DELTA) * DELTA
