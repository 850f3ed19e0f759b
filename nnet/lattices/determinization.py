"""Determinization with pruning in the lattice semiring: of all paths with the same words, the best.

After Kaldi's lat/determinize-lattice-pruned.{h,cc} (Povey et al., "Generating exact lattices in the
WFST framework", 2012).  A state of the result stands for a set of elements: a state of the input,
with the cost and the transition-ids that paths to it have beyond what all in the set have in
common.  Two sets with the same states, strings and (nearly) costs are one state.  Arcs are made in
the order of the best path through them, and those beyond the beam are not made at all.

What is done for each set is a loop over dictionaries.  It is short because chains of arcs without
words have become single arcs before (`to_compact_lattice`), states are visited in topological
order, each once, and strings are nodes of a trie (label_trie.py).
"""

from __future__ import annotations

import heapq
import logging
import math
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from nnet.lattices.label_trie import ROOT, LabelTrie
from nnet.lattices.lattice import COMPACT_ARC, EPSILON, GRAPH, CompactLattice
from nnet.lattices.operations import pruned
from nnet.lattices.order import connected, costs_to_end, topsorted
from nnet.lattices.strings import LabelStrings

log = logging.getLogger("ngtrain")

NO_CHAIN = -1
_MOST_RETRIES = 10

# What an element, an arc and a string of Kaldi's take, by which --max-mem is counted.
_ELEMENT_BYTES, _ARC_BYTES, _STRING_BYTES = 24, 32, 24


@dataclass(frozen=True)
class DeterminizationOptions:
    """How far to go (DeterminizeLatticePrunedOptions); limits of -1 are none.

    Attributes:
        delta: costs that differ by no more are the same.
        max_mem: bytes that Kaldi would take; when there are more, it ends with a narrower beam.
        max_states, max_arcs: of the result, likewise.
        retry_cutoff: if that beam is less than this part of what was asked for, the lattice is
            pruned with a narrower one, and all begins anew.
    """

    delta: float = 1.0 / 1024
    max_mem: int = -1
    max_states: int = -1
    max_arcs: int = -1
    retry_cutoff: float = 0.5


_Element = tuple[float, float, int, int]
"""Cost, graph cost and string, as node and chain, on the way to a state of the input in a set.

The string is that of the node, then the labels of the chain, if it is not NO_CHAIN: most elements
are replaced by better ones before their own node is needed.
"""


@dataclass(eq=False)
class _Arc:
    label: int
    to: int  # -1: the path ends
    cost: float
    graph: float
    ways: tuple[tuple[int, int], ...]  # in the trie, whose labels are the string


@dataclass(eq=False)
class _State:
    """A state of the result."""

    elements: list[tuple[int, float, float, int]]  # state of the input, cost, graph cost, node
    base: int  # node from which their strings count
    forward_cost: float  # of the best path to it
    arcs: list[_Arc] = field(default_factory=list)


class Determinizer:
    """The determinization of one lattice; `run` it once.

    Args:
        lattice: in topological order; arcs may be without words, states have any number of arcs.
        beam: paths that cost so much more than the best one are left out.

    Attributes:
        effective_beam: the beam that was reached when it ended.
    """

    def __init__(self, lattice: CompactLattice, beam: float, options: DeterminizationOptions):
        self.options, self.effective_beam = options, beam
        self._backward = costs_to_end(lattice)
        self._best = self._backward[lattice.start]
        self._cutoff = self._best + beam
        chains = lattice.arc_strings.lists() + lattice.final_strings.lists()
        self._trie = LabelTrie(chains)
        self._silent: list[list[tuple]] = [[] for _ in range(lattice.num_states)]
        self._labelled: list[list[tuple]] = [[] for _ in range(lattice.num_states)]
        columns = (lattice.source, lattice.words, lattice.arcs["nextstate"], lattice.costs,
                   lattice.arcs["weight"][:, GRAPH].astype(np.float64))  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for chain, (source, label, to, cost, graph) in enumerate(rows):
            chain = chain if chains[chain] else NO_CHAIN
            if label == EPSILON:
                self._silent[source].append((to, cost, graph, chain))
            else:
                self._labelled[source].append((label, to, cost, graph, chain))
        # Costs and string of ending in a state, where that can be.
        self._final: dict[int, tuple[float, float, int]] = {}
        final_costs = lattice.final_costs
        for state in np.flatnonzero(lattice.is_final).tolist():
            chain = lattice.num_arcs + state
            graph = float(lattice.finals[state, GRAPH])
            self._final[state] = (float(final_costs[state]), graph,
                                  chain if chains[chain] else NO_CHAIN)  # fmt: skip
        self._start = lattice.start
        self._states: list[_State] = []
        self._by_elements: dict[tuple, list[tuple[list[float], int]]] = {}
        self._by_beginning: dict[tuple, list[tuple]] = {}
        self._queue: list[tuple] = []
        self._number = count()
        self._num_arcs = self._num_elements = 0

    def run(self) -> CompactLattice:
        """Determinize; states that lead to no end within the beam are still in the result."""
        elements = self._closed({self._start: (0.0, 0.0, ROOT, NO_CHAIN)})
        self._add_state(elements, ROOT, 0.0)
        while self._queue:
            if self._is_too_large():
                self.effective_beam = self._queue[0][0] - self._best
                break
            _, _, state, label, elements = heapq.heappop(self._queue)
            self._follow(self._states[state], label, elements)
        return self._result()

    def _is_too_large(self) -> bool:
        options, num_states = self.options, len(self._states)
        size = (
            len(self._trie) * _STRING_BYTES
            + self._num_arcs * _ARC_BYTES
            + self._num_elements * _ELEMENT_BYTES
        )
        return (
            0 < options.max_states < num_states
            or 0 < options.max_arcs < self._num_arcs
            or 0 < options.max_mem < size
        )

    # --- Sets of elements -------------------------------------------------------------------------

    def _closed(self, elements: dict[int, _Element]) -> list[tuple[int, float, float, int]]:
        """Follow arcs without words; returns what has words on arcs out, or is final, by state."""
        silent, extended = self._silent, self._trie.extended
        waiting = [state for state in elements if silent[state]]
        heapq.heapify(waiting)
        while waiting:  # in topological order: nothing better can come for the lowest state
            state = heapq.heappop(waiting)
            cost, graph, node, chain = elements[state]
            if chain != NO_CHAIN:
                node = extended(node, chain)
                elements[state] = cost, graph, node, NO_CHAIN
            for to, arc_cost, arc_graph, arc_chain in silent[state]:
                other = elements.get(to)
                new = cost + arc_cost, graph + arc_graph, node, arc_chain
                if other is None:
                    elements[to] = new
                    if silent[to]:
                        heapq.heappush(waiting, to)
                elif self._is_better(new, other):
                    elements[to] = new
        return self._listed(
            {s: e for s, e in elements.items() if self._labelled[s] or s in self._final}
        )

    def _listed(self, elements: dict[int, _Element]) -> list[tuple[int, float, float, int]]:
        """Put elements in the order of states, with the nodes of their strings."""
        extended = self._trie.extended
        return [
            (state, cost, graph, node if chain == NO_CHAIN else extended(node, chain))
            for state, (cost, graph, node, chain) in sorted(elements.items())
        ]

    def _is_better(self, one: _Element, other: _Element) -> bool:
        """Compare in the semiring: by cost, graph cost, then the shorter and the larger string."""
        if one[0] != other[0]:
            return one[0] < other[0]
        if one[1] != other[1]:
            return one[1] < other[1]
        strings = [
            self._trie.labels(ROOT, self._trie.extended(node, chain) if chain != NO_CHAIN else node)
            for _, _, node, chain in (one, other)
        ]
        return (-len(strings[0]), strings[0]) > (-len(strings[1]), strings[1])

    def _normalized(self, elements: list[tuple], base: int) -> tuple[float, float, int, list]:
        """Take out what the elements have in common: cost, graph cost, node; and what is left."""
        _, cost, graph, _ = min(elements, key=lambda element: element[1:3])
        node = self._trie.common([element[3] for element in elements], base)
        left = [(state, c - cost, g - graph, at) for state, c, g, at in elements]
        return cost, graph, node, left

    def _find(self, index: dict, elements: list[tuple], base: int) -> tuple[list, Any]:
        """Look for a set with the same states and strings, and nearly the same costs.

        Returns:
            Those with the same states and strings, to which it can be added, and what was found.
        """
        fingerprint = self._trie.fingerprint
        key = tuple([x for state, _, _, node in elements for x in (state, fingerprint(base, node))])
        alike = index.setdefault(key, [])
        delta = self.options.delta
        for costs, value in alike:
            if all(abs(e[1] - c) <= delta for e, c in zip(elements, costs, strict=True)):
                return alike, value
        return alike, None

    # --- States and arcs of the result ------------------------------------------------------------

    def _add_state(self, elements: list[tuple], base: int, forward_cost: float) -> int:
        """Add a state, with the queue of what leaves it, if there is none like it; its number."""
        alike, found = self._find(self._by_elements, elements, base)
        if found is not None:
            return found
        number = len(self._states)
        alike.append(([element[1] for element in elements], number))
        state = _State(elements, base, forward_cost)
        self._states.append(state)
        self._num_elements += len(elements)
        self._end(state)
        self._queue_arcs(number, state)
        return number

    def _end(self, state: _State) -> None:
        """Find the best way to end in a state of the result."""
        best = None
        for at, cost, graph, node in state.elements:
            if at in self._final:
                final_cost, final_graph, chain = self._final[at]
                way = cost + final_cost, graph + final_graph, node, chain
                if best is None or self._is_better(way, best):
                    best = way
        if best is None:
            return
        cost, graph, node, chain = best
        if cost + state.forward_cost <= self._cutoff:
            if chain != NO_CHAIN:
                node = self._trie.extended(node, chain)
            state.arcs.append(_Arc(EPSILON, -1, cost, graph, ((state.base, node),)))
            self._num_arcs += 1

    def _queue_arcs(self, number: int, state: _State) -> None:
        """Collect by word what the elements of a state lead to, if it is within the beam."""
        by_label: dict[int, dict[int, _Element]] = {}
        for at, cost, graph, node in state.elements:
            for label, to, arc_cost, arc_graph, chain in self._labelled[at]:
                new = cost + arc_cost, graph + arc_graph, node, chain
                found = by_label.setdefault(label, {})
                other = found.get(to)
                if other is None or self._is_better(new, other):
                    found[to] = new
        backward = self._backward
        for label, elements in by_label.items():
            best = min([element[0] + backward[to] for to, element in elements.items()])
            total = best + state.forward_cost
            if total <= self._cutoff:
                heapq.heappush(self._queue, (total, next(self._number), number, label, elements))

    def _follow(self, state: _State, label: int, reached: dict[int, _Element]) -> None:
        """Make the arc of a word, and the state that it leads to if that is new."""
        cost, graph, node, elements = self._normalized(self._listed(reached), state.base)
        alike, found = self._find(self._by_beginning, elements, node)
        if found is None:
            begin = {at: (c, g, n, NO_CHAIN) for at, c, g, n in elements}
            more, more_graph, base, closed = self._normalized(self._closed(begin), node)
            to = self._add_state(closed, base, state.forward_cost + cost + more)
            found = (to, more, more_graph, (node, base))
            alike.append(([element[1] for element in elements], found))
            self._num_elements += len(elements)
        to, more, more_graph, way = found
        ways = ((state.base, node), way)
        state.arcs.append(_Arc(label, to, cost + more, graph + more_graph, ways))
        self._num_arcs += 1

    def _result(self) -> CompactLattice:
        num_states = len(self._states)
        finals = np.full((num_states, 2), np.inf, np.float32)
        source, arcs, arc_strings = [], [], []
        final_strings: list[list[int]] = [[] for _ in range(num_states)]
        for number, state in enumerate(self._states):
            for arc in state.arcs:
                weight = (arc.graph, arc.cost - arc.graph)
                string = [label for way in arc.ways for label in self._trie.labels(*way)]
                if arc.to < 0:
                    finals[number], final_strings[number] = weight, string
                else:
                    source.append(number)
                    arcs.append((arc.label, weight, arc.to))
                    arc_strings.append(string)
        return CompactLattice.from_arcs(
            *(0, finals, source, np.array(arcs, COMPACT_ARC)),
            *(LabelStrings.of(arc_strings), LabelStrings.of(final_strings)),
        )


def determinize(
    lattice: CompactLattice, beam: float, options: DeterminizationOptions
) -> tuple[CompactLattice, bool]:
    """Keep, of all paths with the same words, the best one, where it is within the beam.

    Args:
        lattice: with scaled costs; of transition-ids, it has to be converted before.
        beam: of the paths of the result, counted from the best one; may be inf.

    Returns:
        The result, connected and in topological order; and whether it reaches the beam.

    Raises:
        ValueError: the lattice has a cycle.
    """
    lattice = topsorted(connected(lattice))
    for retry in range(_MOST_RETRIES):
        if not lattice.num_states:
            return lattice, True
        determinizer = Determinizer(lattice, beam, options)
        result = determinizer.run()
        reached = determinizer.effective_beam
        if reached >= beam * options.retry_cutoff or retry == _MOST_RETRIES - 1:
            break
        beam = beam * max(0.5, math.sqrt(max(reached, 0.0) / beam)) if beam < math.inf else reached
        lattice = pruned(lattice, beam)
        log.info(
            "Pruned state-level lattice with beam %g and retrying determinization with that beam.",
            beam,
        )
    return topsorted(connected(result)), reached == beam
