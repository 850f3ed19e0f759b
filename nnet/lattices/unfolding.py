"""Lattices that are read and written anew along their paths, as alignment with words does it.

A node is a state of the lattice that is read, with what has been read and is not written yet.  Arcs
from node to node either read, which costs and writes nothing (an epsilon), or write a word with its
transition-ids for nothing.  In the end the epsilons are removed.  After the aligners of Kaldi's
lat/phone-align-lattice.cc, word-align-lattice.cc and word-align-lattice-lexicon.cc, and OpenFst's
rmepsilon.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from nnet.lattices.lattice import COMPACT_ARC, EPSILON, CompactLattice
from nnet.lattices.operations import with_super_final
from nnet.lattices.order import connected, topsorted
from nnet.lattices.strings import LabelStrings

Ids = tuple[int, ...]
Epsilon = tuple[float, float, int]  # graph cost, acoustic cost, node
Written = tuple[int, Ids, int]  # word, transition-ids, node


class Pending(NamedTuple):
    """What has been read and not been written."""

    words: tuple[int, ...] = ()
    ids: Ids = ()


@dataclass(eq=False)
class Unfolding:
    """Nodes and the arcs between them; node 0 is the start.

    Attributes:
        rank: of each node; all arcs lead to nodes of higher rank.
        epsilons, written: the arcs that leave each node.
        finals: nodes where paths end.
    """

    rank: list[tuple[int, int]] = field(default_factory=list)
    epsilons: list[list[Epsilon]] = field(default_factory=list)
    written: list[list[Written]] = field(default_factory=list)
    finals: set[int] = field(default_factory=set)
    queue: list[tuple[int, Any]] = field(default_factory=list)
    _number: dict[Any, int] = field(default_factory=dict)

    def node(self, key: Any, rank: tuple[int, int]) -> int:
        """Return the node of a key; a new one is put into the queue."""
        number = self._number.setdefault(key, len(self._number))
        if number == len(self.rank):
            self.rank.append(rank)
            self.epsilons.append([])
            self.written.append([])
            self.queue.append((number, key))
        return number

    def without_epsilons(self) -> CompactLattice:
        """Make the lattice of what is written; of two ways to write the same the better remains."""
        arcs_of: list[dict[tuple[int, int], tuple]] = [{} for _ in self.rank]
        for node in sorted(range(len(self.rank)), key=self.rank.__getitem__, reverse=True):
            best = arcs_of[node]
            if node in self.finals:
                best[EPSILON, -1] = 0.0, 0.0, 0.0, ()
            for word, ids, to in self.written[node]:
                best[word, to] = 0.0, 0.0, 0.0, ids
            for graph, acoustic, to in self.epsilons[node]:
                for key, (_, g, a, ids) in arcs_of[to].items():
                    g, a = g + graph, a + acoustic
                    if key not in best or (g + a, g) < best[key][:2]:
                        best[key] = g + a, g, a, ids
        return _lattice_of(arcs_of)


def _lattice_of(arcs_of: list[dict[tuple[int, int], tuple]]) -> CompactLattice:
    """Make a lattice of the nodes that can be reached from the first; node -1 is the end."""
    number, order = {0: 0}, [0]
    rows, source, strings = [], [], []
    finals: list[tuple[float, float]] = []
    for node in order:
        finals.append((np.inf, np.inf))
        for (word, to), (_, graph, acoustic, ids) in arcs_of[node].items():
            if to < 0:
                finals[-1] = graph, acoustic
                continue
            if to not in number:
                number[to] = len(order)
                order.append(to)
            rows.append((word, (graph, acoustic), number[to]))
            source.append(number[node])
            strings.append(ids)
    return connected(
        topsorted(
            CompactLattice.from_arcs(
                0,
                finals,
                source,
                np.array(rows, COMPACT_ARC),
                LabelStrings.of(strings),
                LabelStrings.empty(len(order)),
            )
        )
    )


Output = tuple[int, Ids, Pending]
"""A word, its transition-ids, and what remains pending."""


class WritingRule(Protocol):
    """What decides what is written."""

    def take(self, pending: Pending) -> Output | None:
        """Write what is complete; None when more must be read."""

    def flush(self, pending: Pending) -> Output:
        """Write something at the end, where no more can be read."""


def unfold(lattice: CompactLattice, rule: WritingRule, most_nodes: int = 0) -> Unfolding | None:
    """Write what is complete as soon as it is read, and the rest at the end.

    most_nodes: give up, and return None, beyond so many; any number if 0.

    Raises:
        ValueError: the lattice has a cycle.
    """
    lattice = with_super_final(connected(topsorted(lattice)))
    unfolding = Unfolding()
    if lattice.start < 0:
        return unfolding
    arcs = _arcs_by_state(lattice)
    end = int(np.flatnonzero(lattice.is_final)[0])

    def node_of(state: int, pending: Pending) -> int:
        # To write is to stay in a state and to have less pending.
        return unfolding.node((state, pending), (state, -len(pending.words) - len(pending.ids)))

    node_of(lattice.start, Pending())
    while unfolding.queue:
        node, (state, pending) = unfolding.queue.pop()
        if most_nodes and len(unfolding.rank) > most_nodes:
            return None
        output = rule.take(pending)
        if output is None and state == end:
            if pending == Pending():
                unfolding.finals.add(node)
            else:
                output = rule.flush(pending)
        if output is not None:
            word, ids, left = output
            if word != EPSILON or ids:
                unfolding.written[node].append((word, ids, node_of(state, left)))
            else:
                unfolding.epsilons[node].append((0.0, 0.0, node_of(state, left)))
            continue
        for word, graph, acoustic, ids, to in arcs[state]:
            longer = Pending(pending.words + (word,) * (word != EPSILON), pending.ids + ids)
            unfolding.epsilons[node].append((graph, acoustic, node_of(to, longer)))
    return unfolding


def _arcs_by_state(lattice: CompactLattice) -> list[list[tuple]]:
    """List the arcs that leave each state: word, graph and acoustic cost, ids, next state."""
    arcs: list[list[tuple]] = [[] for _ in range(lattice.num_states)]
    for source, word, (graph, acoustic), ids, to in zip(
        lattice.source.tolist(),
        lattice.words.tolist(),
        lattice.arcs["weight"].tolist(),
        map(tuple, lattice.arc_strings.lists()),
        lattice.arcs["nextstate"].tolist(),
        strict=True,
    ):
        arcs[source].append((word, graph, acoustic, ids, to))
    return arcs
