"""Costs of a language model for the paths of lattices (Kaldi's lattice-lmrescore*, -compose).

A model is asked word by word, and goes from one state to one other.  So a lattice in which no two
paths have the same words stays one: composition does what Kaldi needs determinization for, to take
the best way through a model that has several for the same words.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

import numpy as np

from nnet.decoding.fst import EPSILON, FST, ArrayFst
from nnet.decoding.fst_operations import project
from nnet.io.random_access import RandomAccessTable, random_access_table
from nnet.io.tables import is_rspecifier
from nnet.lattices.composition import ArcTransducer, Move, Transducer, compose
from nnet.lattices.conversion import projected_on_words, to_compact_lattice, to_lattice
from nnet.lattices.lattice import GRAPH, LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.operations import scaled, with_strings_on_arcs
from nnet.lattices.order import topsorted
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, change_lattices

log = logging.getLogger("ngtrain")

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
    return with_strings_on_arcs(compose(lattice, Scaled(model, scale)))


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


class Scaled:
    """A model as a transducer that writes the words it reads, its costs scaled graph costs."""

    def __init__(self, model: WordModel, scale: float):
        self._model, self._scale = model, scale

    @property
    def start(self) -> Hashable:
        return self._model.start

    def follow(self, state: Any, word: int) -> Iterable[Move]:
        step = self._model.step(state, word)
        return [Move(word, self._scale * step[1], 0.0, step[0])] if step else []

    def silent(self, state: Any) -> Iterable[Move]:
        return []

    def final(self, state: Any) -> tuple[float, float]:
        cost = self._model.final(state)
        return (self._scale * cost, 0.0) if cost < np.inf else (np.inf, np.inf)


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


class ModelChange:
    """A transducer that takes the costs of one back-off model away and adds those of another.

    Of both the output side is read; arcs that read nothing there are back-off arcs.
    """

    def __init__(self, old: Transducer, new: Transducer, scale: float):
        self._old, self._new, self._scale = old, new, scale

    @property
    def start(self) -> Hashable:
        """The states of both before the first word."""
        return self._old.start, self._new.start

    def follow(self, states: Any, word: int) -> Iterable[Move]:
        """Return the states of both behind a word, if both have it."""
        old, new = (
            list(m.follow(s, word)) for m, s in zip((self._old, self._new), states, strict=True)
        )
        if not old or not new:
            return []
        return [
            Move(word, self._scale * (new[0].graph - old[0].graph), 0.0, (old[0].to, new[0].to))
        ]

    def silent(self, states: Any) -> Iterable[Move]:
        """Return nothing: models are asked word by word."""
        return []

    def final(self, states: Any) -> tuple[float, float]:
        """Return the difference of what it costs to end; inf if one cannot."""
        old, new = self._old.final(states[0])[0], self._new.final(states[1])[0]
        can_end = old < np.inf and new < np.inf
        return (self._scale * (new - old), 0.0) if can_end else (np.inf, np.inf)


def backoff_model(fst: ArrayFst) -> ArcTransducer:
    """Ask a grammar word by word, by way of back-off arcs only where there is no other.

    (BackoffDeterministicOnDemandFst of fstext/deterministic-fst.h)
    """
    return ArcTransducer(graph_costs(project(fst, "olabel")), phi=EPSILON)


# Composition of tables ----------------------------------------------------------------------------


def graph_costs(fst: ArrayFst) -> Lattice:
    """Make a lattice of a transducer, whose costs become graph costs."""
    arcs = np.zeros(len(fst.arcs), LATTICE_ARC)
    for name in "ilabel", "olabel", "nextstate":
        arcs[name] = fst.arcs[name]
    arcs["weight"][:, GRAPH] = fst.arcs["weight"]
    acoustic = np.where(np.isfinite(fst.finals), np.float32(0), np.float32(np.inf))
    return Lattice(fst.start, np.stack([fst.finals, acoustic], 1), fst.first_arc, arcs)


def compose_table(
    lattices: str,
    other: str,
    wspecifier: str,
    *,
    with_fsts: bool = False,
    write_compact: bool = True,
    **labels: int,
) -> int:
    """Compose the lattices of a table with a transducer, or with those of another table by keys.

    Args:
        other: a transducer, or a table: of transducers if `with_fsts`, else of lattices.
        write_compact: otherwise read and write lattices with a transition-id on each arc.
        labels: phi and rho, see `ArcTransducer`.

    Returns:
        The exit status: 1 if nothing came of any lattice.

    Raises:
        NgtrainError: one of them cannot be read, or has a cycle that reads nothing.
    """

    def transducer(found: Any) -> ArcTransducer:
        return ArcTransducer(graph_costs(found) if with_fsts else found, **labels)

    holder = COMPACT_LATTICE if write_compact else LATTICE
    if is_rspecifier(other):
        with random_access_table(other, FST if with_fsts else LATTICE) as table:
            return _compose_all(lattices, _by_key(table, transducer), wspecifier, holder)
    single = ArcTransducer(graph_costs(ArrayFst.load(other)), **labels)
    return _compose_all(lattices, lambda key: single, wspecifier, holder)


def interpolate_tables(first: str, second: str, wspecifier: str, alpha: float) -> int:
    """Compose the lattices of two tables by their words, with costs that are weighted means.

    Args:
        alpha: the weight of the first, whose transition-ids the results have.

    Returns:
        The exit status: 1 if nothing came of any lattice.
    """

    def transducer(found: CompactLattice) -> ArcTransducer:
        return ArcTransducer(scaled(projected_on_words(found), 1 - alpha, 1 - alpha))

    with random_access_table(second, COMPACT_LATTICE) as table:
        transducers = _by_key(table, transducer)
        return _compose_all(first, transducers, wspecifier, COMPACT_LATTICE, alpha)


def _by_key(
    table: RandomAccessTable, transducer: Callable[[Any], ArcTransducer]
) -> Callable[[str], ArcTransducer | None]:
    """Make transducers of what a table has; of what it has not, which is said, None."""

    def find(key: str) -> ArcTransducer | None:
        if key not in table:
            log.warning("%s", table.why_not(key))
            return None
        return transducer(table[key])

    return find


def _compose_all(
    lattices: str,
    transducer_of: Callable[[str], ArcTransducer | None],
    wspecifier: str,
    holder: Any,
    scale: float = 1.0,
) -> int:
    """Compose the lattices of a table, with scaled costs; the exit status, 1 if none is left."""

    def change(key: str, lattice: Any) -> CompactLattice | Lattice | None:
        transducer = transducer_of(key)
        if transducer is None:
            return None
        composed = compose(scaled(lattice, scale, scale), transducer)
        if composed.start < 0:
            log.warning("Empty lattice for utterance %s (incompatible LM?)", key)
            return None
        is_compact = isinstance(composed, CompactLattice)
        return to_compact_lattice(to_lattice(composed)) if is_compact else composed

    counts = change_lattices(lattices, wspecifier, change, holder, holder)
    log.info("Done %d lattices; failed for %d", *counts)
    return 0 if counts[0] else 1
