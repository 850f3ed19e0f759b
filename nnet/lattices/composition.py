"""Composition of lattices with transducers (Kaldi's latbin/lattice-compose.cc).

A pair of a lattice's state and a transducer's is a state of the result.  Between two words, first
the lattice goes on through arcs without words, then the transducer through those that read nothing
(the sequence filter of OpenFst's fst/compose-filter.h), so that no path is there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from nnet.lattices.lattice import EPSILON, GRAPH, CompactLattice, Lattice
from nnet.lattices.order import connected, topsorted
from nnet.lattices.strings import LabelStrings

L = TypeVar("L", CompactLattice, Lattice)


class Move(NamedTuple):
    """A way on through a transducer: what it writes, both its costs, and where it leads."""

    label: int
    graph: float
    acoustic: float
    to: Any


class Transducer(Protocol):
    """What a lattice is composed with: it reads the lattice's words."""

    @property
    def start(self) -> Hashable:
        """State before the first word."""

    def follow(self, state: Any, word: int) -> Iterable[Move]:
        """Find the ways on that read a word."""

    def silent(self, state: Any) -> Iterable[Move]:
        """Find the ways on that read nothing."""

    def final(self, state: Any) -> tuple[float, float]:
        """Return the costs of ending in a state, graph and acoustic; inf if that cannot be."""


class ArcTransducer:
    """A transducer of arcs: a lattice, or what has been made one, with its costs as graph costs.

    Args:
        phi: the label of back-off arcs, which are taken only where a state, or those that it backs
            off to before, have no arc for a word (OpenFst's PhiMatcher).  Otherwise none has it.
        rho: the label of arcs that stand for all other words, and write these (RhoMatcher).
    """

    def __init__(self, arcs: Lattice, phi: int = -1, rho: int = -1):
        self._lattice, self._phi, self._rho = arcs, phi, rho
        self._moves: dict[int, dict[int, list[Move]]] = {}  # of states that were asked for

    @property
    def start(self) -> int:
        """The state before the first word; -1 if there is none."""
        return self._lattice.start

    def follow(self, state: int, word: int) -> list[Move]:
        """Find the ways that read a word, also by way of back-off arcs.

        Raises:
            ValueError: back-off arcs lead in a circle.
        """
        state, graph, acoustic = self._backed_off(state, lambda at: word in self._leaving(at))
        leaving = self._leaving(state)
        if word in leaving:
            return [Move(label, graph + g, acoustic + a, to) for label, g, a, to in leaving[word]]
        others = leaving.get(self._rho, [])
        return [m._replace(label=word if m.label == self._rho else m.label) for m in others]

    def silent(self, state: int) -> list[Move]:
        """Find the arcs that read nothing."""
        return self._leaving(state).get(EPSILON, [])

    def final(self, state: int) -> tuple[float, float]:
        """Return the costs of ending in a state, or in what it backs off to.

        Raises:
            ValueError: back-off arcs lead in a circle.
        """
        finals = self._lattice.finals
        state, graph, acoustic = self._backed_off(state, lambda at: finals[at, GRAPH] < np.inf)
        final_graph, final_acoustic = finals[state].tolist()
        return graph + final_graph, acoustic + final_acoustic

    def _backed_off(self, state: int, suits: Callable[[int], bool]) -> tuple[int, float, float]:
        """Follow back-off arcs to a state that suits, or has none; and what they cost."""
        graph = acoustic = 0.0
        for _ in range(self._lattice.num_states):
            if suits(state) or self._phi not in self._leaving(state):
                return state, graph, acoustic
            _, more_graph, more_acoustic, state = self._leaving(state)[self._phi][0]
            graph, acoustic = graph + more_graph, acoustic + more_acoustic
        raise ValueError(f"arcs with the label {self._phi} lead in a circle")

    def _leaving(self, state: int) -> dict[int, list[Move]]:
        """Return what leaves a state, by the word that it reads."""
        if state not in self._moves:
            moves: dict[int, list[Move]] = {}
            begin, end = self._lattice.first_arc[state : state + 2]
            for word, label, costs, to in self._lattice.arcs[begin:end].tolist():
                moves.setdefault(word, []).append(Move(label, float(costs[0]), float(costs[1]), to))
            self._moves[state] = moves
        return self._moves[state]


def compose(lattice: L, transducer: Transducer) -> L:
    """Replace the words of a lattice by what a transducer writes for them, and add its costs.

    Paths whose words it does not read are dropped.  One that it has several ways for becomes as
    many; `determinize` reduces them to the best.

    Returns:
        The result, connected and in topological order, with the transition-ids of the lattice.

    Raises:
        ValueError: the lattice has a cycle, or the transducer one that reads nothing.
    """
    lattice = topsorted(lattice)
    return _Composition(lattice, transducer).result() if lattice.start >= 0 else lattice


class _Composition:
    """The pairs of states that can be reached, and the steps between them.

    Attributes:
        pairs: (state of the lattice, state of the transducer, whether the transducer has gone on
            alone, so that the lattice must not before its next word).
        steps: (pair, arc of the lattice or, where the transducer goes alone, num_arcs, word, costs
            that the transducer adds, next pair).
    """

    def __init__(self, lattice: CompactLattice | Lattice, transducer: Transducer):
        self.lattice, self.transducer = lattice, transducer
        self.numbers: dict[tuple[int, Hashable, bool], int] = {}
        self.pairs: list[tuple[int, Any, bool]] = []
        self.steps: list[tuple[int, int, int, float, float, int]] = []
        self._number(lattice.start, transducer.start, False)
        self._run()

    def _number(self, state: int, at: Hashable, waits: bool) -> int:
        pair = state, at, waits
        if pair not in self.numbers:
            self.numbers[pair] = len(self.pairs)
            self.pairs.append(pair)
        return self.numbers[pair]

    def _run(self) -> None:
        lattice, transducer = self.lattice, self.transducer
        words, into = lattice.words.tolist(), lattice.arcs["nextstate"].tolist()
        first_arc = lattice.first_arc.tolist()
        silent = lattice.source[lattice.words == EPSILON]
        num_silent = np.bincount(silent, minlength=lattice.num_states)
        only_silent = ((num_silent == np.diff(first_arc)) & ~lattice.is_final).tolist()
        has_silent = (num_silent > 0).tolist()
        for pair, (state, at, waits) in enumerate(self.pairs):  # which become more meanwhile
            for arc in range(first_arc[state], first_arc[state + 1]):
                if words[arc] != EPSILON:
                    for move in transducer.follow(at, words[arc]):
                        self._step(pair, arc, move, into[arc], False)
                elif not waits:
                    self._step(pair, arc, Move(EPSILON, 0.0, 0.0, at), into[arc], False)
            if not only_silent[state]:
                for move in transducer.silent(at):
                    self._step(pair, lattice.num_arcs, move, state, has_silent[state])

    def _step(self, pair: int, arc: int, move: Move, state: int, waits: bool) -> None:
        label, graph, acoustic, to = move
        self.steps.append((pair, arc, label, graph, acoustic, self._number(state, to, waits)))

    def result(self) -> Any:
        """Make the lattice of the pairs, of the type of the given one."""
        composed: CompactLattice | Lattice
        lattice, states = self.lattice, np.array([state for state, _, _ in self.pairs])
        columns = np.array(self.steps, np.float64).reshape(-1, 6)  # integers stay exact
        source, taken, label, to = columns[:, [0, 1, 2, 5]].T.astype(np.int64)
        arcs = np.append(lattice.arcs, np.zeros(1, lattice.arcs.dtype))[taken]
        arcs["label" if isinstance(lattice, CompactLattice) else "olabel"] = label
        arcs["weight"] += columns[:, 3:5]
        arcs["nextstate"] = to
        finals = lattice.finals[states] + [self.transducer.final(at) for _, at, _ in self.pairs]
        can_end = np.isfinite(finals[:, GRAPH])
        finals[~can_end] = np.inf
        if isinstance(lattice, CompactLattice):
            strings = LabelStrings.concatenate([lattice.arc_strings, LabelStrings.empty(1)])
            final_strings = lattice.final_strings.take(states).where(can_end)
            composed = CompactLattice.from_arcs(
                0, finals, source, arcs, strings.take(taken), final_strings
            )
        else:
            composed = Lattice.from_arcs(0, finals, source, arcs)
        return topsorted(connected(composed))
