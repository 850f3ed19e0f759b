"""Costs of a language model for the paths of lattices (Kaldi's lattice-lmrescore*).

A model is asked word by word, and goes from one state to one other.  So a lattice in which no two
paths have the same words stays one: composition does what Kaldi needs determinization for, to take
the best way through a model that has several for the same words.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np

from nnet.decoding.fst import EPSILON, ArrayFst
from nnet.lattices.lattice import GRAPH, CompactLattice
from nnet.lattices.operations import with_strings_on_arcs
from nnet.lattices.order import connected, topsorted
from nnet.lattices.tables import change_lattices

log = logging.getLogger("ngtrain")

_STEP = np.dtype([("pair", "i8"), ("arc", "i8"), ("to", "i8"), ("cost", "f8")])
_DIGITS = 3  # in which costs are compared; Kaldi's kDelta is 1/1024


class WordModel(Protocol):
    """A language model that is asked word by word; costs are negated natural logarithms."""

    @property
    def start(self) -> Hashable:
        """State before the first word."""

    def step(self, state: Any, word: int) -> tuple[Hashable, float] | None:
        """Return the state behind a word, and its cost; None if the model does not have it."""

    def final(self, state: Any) -> float:
        """Return what it costs to end, inf if it cannot be."""


def add_language_model(lattice: CompactLattice, model: WordModel, scale: float) -> CompactLattice:
    """Add to the graph cost of each path `scale` times what the model says of its words.

    Paths whose words the model does not have are dropped.  A scale of -1 takes away the costs of
    the model that a graph was made with.

    Raises:
        ValueError: the lattice has a cycle.
    """
    lattice = topsorted(lattice)
    if scale == 0 or lattice.start < 0:
        return lattice
    composition = _Composition(lattice, model)
    composition.run()
    return composition.result(scale)


def rescore_table(rspecifier: str, model: WordModel, scale: float, wspecifier: str) -> int:
    """Add a model's costs to the lattices of a table; the exit status, 1 if none is left."""

    def rescore(key: str, lattice: CompactLattice) -> CompactLattice | None:
        rescored = add_language_model(lattice, model, scale)
        if rescored.start < 0:
            log.warning("Empty lattice for utterance %s (incompatible LM?)", key)
            return None
        return rescored

    num_done, num_failed = change_lattices(rspecifier, wspecifier, rescore)
    log.info("Done %d lattices, failed for %d", num_done, num_failed)
    return 0 if num_done else 1


class _Composition:
    """The composition of a lattice with a model: pairs of a state of one and of the other.

    Attributes:
        pairs_at: for each state of the lattice, the pairs by the states of the model.
        state_of: the state of the lattice of each pair; end_cost: what the model wants at its end.
        steps: arcs from pair to pair: (pair, arc of the lattice, next pair, cost of the model).
    """

    def __init__(self, lattice: CompactLattice, model: WordModel):
        self.lattice, self.model = lattice, model
        self.pairs_at: list[dict[Hashable, int]] = [{} for _ in range(lattice.num_states)]
        self.state_of: list[int] = []
        self.end_cost: list[float] = []
        self.steps: list[tuple[int, int, int, float]] = []

    def run(self) -> None:
        """Go through the states in their topological order."""
        words, into = self.lattice.words.tolist(), self.lattice.arcs["nextstate"].tolist()
        first_arc, step = self.lattice.first_arc.tolist(), self.model.step
        self._pair(self.lattice.start, self.model.start)
        for state, pairs in enumerate(self.pairs_at):
            for model_state, pair in pairs.items():
                for arc in range(first_arc[state], first_arc[state + 1]):
                    word = words[arc]
                    following = step(model_state, word) if word != EPSILON else (model_state, 0.0)
                    if following is not None:
                        to = self._pair(into[arc], following[0])
                        self.steps.append((pair, arc, to, following[1]))

    def _pair(self, state: int, model_state: Hashable) -> int:
        pairs = self.pairs_at[state]
        if model_state not in pairs:
            pairs[model_state] = len(self.state_of)
            self.state_of.append(state)
            self.end_cost.append(self.model.final(model_state))
        return pairs[model_state]

    def result(self, scale: float) -> CompactLattice:
        """Make the lattice of the pairs, with `scale` times the costs of the model."""
        lattice, states, steps = self.lattice, np.array(self.state_of), np.array(self.steps, _STEP)
        arcs = lattice.arcs[steps["arc"]]
        arcs["nextstate"] = steps["to"]
        arcs["weight"][:, GRAPH] += (scale * steps["cost"]).astype(np.float32)
        end_cost = np.array(self.end_cost)
        ends = lattice.is_final[states] & (end_cost < np.inf)
        finals = np.full((len(states), 2), np.inf, np.float32)
        finals[ends] = lattice.finals[states[ends]]
        finals[ends, GRAPH] += (scale * end_cost[ends]).astype(np.float32)
        strings = lattice.final_strings.take(states).where(ends)
        arc_strings = lattice.arc_strings.take(steps["arc"])
        composed = CompactLattice.from_arcs(0, finals, steps["pair"], arcs, arc_strings, strings)
        return with_strings_on_arcs(connected(topsorted(composed)))


class FstModel:
    """A transducer as a model: its output side, whose words may have many ways through it.

    A state is the set of states that the transducer may be in, each with what it has cost more than
    the cheapest of them (determinization, as a word asks for it).
    """

    def __init__(self, fst: ArrayFst):
        self._finals = fst.finals.tolist()
        self._by_word: list[dict[int, list[tuple[float, int]]]] = [{} for _ in self._finals]
        for source, (_, word, cost, to) in zip(fst.source.tolist(), fst.arcs.tolist(), strict=True):
            self._by_word[source].setdefault(word, []).append((cost, to))
        self._numbers: dict[tuple, int] = {}
        self._sets: list[dict[int, float]] = []
        self._steps: dict[tuple[int, int], tuple[int, float] | None] = {}
        self._start, _ = self._number({fst.start: 0.0} if fst.start >= 0 else {})

    @property
    def start(self) -> int:
        return self._start

    def step(self, state: int, word: int) -> tuple[int, float] | None:
        """Return the state behind a word, and its cost; None if there is no way."""
        key = state, word
        if key not in self._steps:
            reached: dict[int, float] = {}
            for source, so_far in self._sets[state].items():
                for cost, to in self._by_word[source].get(word, ()):
                    reached[to] = min(reached.get(to, np.inf), so_far + cost)
            self._steps[key] = self._number(reached) if reached else None
        return self._steps[key]

    def final(self, state: int) -> float:
        """Return what it costs to end, inf if it cannot be."""
        return min((c + self._finals[s] for s, c in self._sets[state].items()), default=np.inf)

    def _number(self, costs: dict[int, float]) -> tuple[int, float]:
        """Follow epsilons; the number of the set of states, and the least cost in it."""
        queue = list(costs)
        while queue:
            source = queue.pop()
            for cost, to in self._by_word[source].get(EPSILON, ()):
                if costs[source] + cost < costs.get(to, np.inf) - 1e-9:
                    costs[to] = costs[source] + cost
                    queue.append(to)
        least = min(costs.values(), default=0.0)
        key = tuple(sorted((s, round(cost - least, _DIGITS)) for s, cost in costs.items()))
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append({s: cost - least for s, cost in costs.items()})
        return self._numbers[key], least
