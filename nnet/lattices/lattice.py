"""Lattices as arrays: Kaldi's two types (lat/kaldi-lattice.h, fstext/lattice-weight.h).

A lattice is an acyclic transducer of what a search found possible in one utterance.  A weight is a
pair of costs, of the graph (language model, pronunciations, transitions) and acoustic, which are
kept apart so that they can be scaled; a path costs the sum of both over its arcs and final state.

- `Lattice`: an arc reads a transition-id (or 0) and writes a word (or 0).
- `CompactLattice`: an arc has a word, and on it the string of transition-ids of that stretch of the
  path; so has a final state.  Usually no two paths have the same words.

The semiring: of two weights the one with the smaller sum counts, when these are equal the one with
the smaller graph cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nnet.io.openfst import EXPANDED, MUTABLE
from nnet.lattices.strings import LabelStrings, ranges

EPSILON = 0
"""The label of arcs without a word, or without a transition-id."""

GRAPH, ACOUSTIC = 0, 1
"""Columns of weights."""

LATTICE_ARC = np.dtype(
    [("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4", (2,)), ("nextstate", "<i4")]
)
COMPACT_ARC = np.dtype([("label", "<i4"), ("weight", "<f4", (2,)), ("nextstate", "<i4")])

L = TypeVar("L", bound="_Lattice")


@dataclass(eq=False)
class _Lattice:
    """What both types have; arcs[first_arc[s] : first_arc[s + 1]] leave state s."""

    start: int  # -1 when the lattice is empty
    finals: np.ndarray  # float32 (states, 2): final costs, inf where a state is not final
    first_arc: np.ndarray  # int64 (states + 1,)
    arcs: np.ndarray  # (arcs,) of LATTICE_ARC or COMPACT_ARC
    # OpenFst's bits as they were read, so that copies are equal; what computes leaves the default,
    # which claims nothing.
    properties: int = field(default=EXPANDED | MUTABLE, kw_only=True)

    @property
    def num_states(self) -> int:
        return len(self.finals)

    @property
    def num_arcs(self) -> int:
        return len(self.arcs)

    @property
    def source(self) -> np.ndarray:
        """State that each arc leaves; int64 (arcs,)."""
        return np.repeat(np.arange(self.num_states), np.diff(self.first_arc))

    @property
    def is_final(self) -> np.ndarray:
        """Whether a path may end in a state; bool (states,)."""
        return self.finals[:, GRAPH] < np.inf

    @property
    def words(self) -> np.ndarray:
        """Word of each arc, EPSILON for none; int32 (arcs,)."""
        raise NotImplementedError

    @property
    def costs(self) -> np.ndarray:
        """Graph and acoustic cost of each arc in sum; float64 (arcs,)."""
        return self.arcs["weight"].sum(axis=1, dtype=np.float64)

    @property
    def final_costs(self) -> np.ndarray:
        """Likewise of each state if the path ends there, inf if it cannot; float64 (states,)."""
        return self.finals.sum(axis=1, dtype=np.float64)

    @property
    def is_topsorted(self) -> bool:
        """Whether every arc goes to a state of a higher number, and the path starts in state 0."""
        return self.start <= 0 and bool((self.arcs["nextstate"] > self.source).all())

    def with_weights(self: L, arc_weights: np.ndarray, finals: np.ndarray) -> L:
        """Make the same lattice with other costs, (arcs, 2) and (states, 2)."""
        arcs = self.arcs.copy()
        arcs["weight"] = arc_weights
        default = EXPANDED | MUTABLE
        return replace(self, arcs=arcs, finals=np.asarray(finals, np.float32), properties=default)

    def renumbered(self: L, order: np.ndarray) -> L:
        """Take the states in `order`, (new states,), as 0, 1, ...; others go with their arcs."""
        number = np.full(self.num_states, -1)
        number[order] = np.arange(len(order))
        counts = np.diff(self.first_arc)[order]
        kept = ranges(self.first_arc[:-1][order], counts)
        stays = number[self.arcs["nextstate"][kept]] >= 0
        counts = np.bincount(np.repeat(np.arange(len(order)), counts)[stays], minlength=len(order))
        kept = kept[stays]
        arcs = self.arcs[kept]
        arcs["nextstate"] = number[arcs["nextstate"]]
        start = int(number[self.start]) if self.start >= 0 else -1
        first_arc = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        return self._taken(start, order, kept, first_arc, arcs)

    def _taken(self: L, start, states, kept, first_arc, arcs) -> L:
        """Make the lattice of some states and arcs, with what else belongs to them."""
        raise NotImplementedError

    def with_arcs(self: L, kept: np.ndarray) -> L:
        """Keep some arcs, bool (arcs,), and all states."""
        counts = np.bincount(self.source[kept], minlength=self.num_states)
        first_arc = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        states = np.arange(self.num_states)
        return self._taken(self.start, states, np.flatnonzero(kept), first_arc, self.arcs[kept])

    def checked(self: L) -> L:
        """Return the lattice; ValueError if it refers to what it has not, or has no such costs."""
        next_states, weights = self.arcs["nextstate"], self.arcs["weight"]
        states = self.num_states
        if not -1 <= self.start < states or ((next_states < 0) | (next_states >= states)).any():
            raise ValueError("the lattice refers to a state that it does not have")
        if (states > 0) != (self.start >= 0):
            raise ValueError("the lattice has states, but none to start from")
        if any(
            (self.arcs[name] < 0).any() for name in self.arcs.dtype.fields or () if "label" in name
        ):
            raise ValueError("the lattice has negative labels")
        not_final = (self.finals == np.inf).all(axis=1)
        if not np.isfinite(weights).all() or not np.isfinite(self.finals[~not_final]).all():
            raise ValueError("the lattice has costs that are not finite")
        return self


@dataclass(eq=False)
class Lattice(_Lattice):
    """A lattice whose arcs have a transition-id and a word; arcs of dtype LATTICE_ARC."""

    @classmethod
    def from_arcs(
        cls, start: int, finals: ArrayLike, source: ArrayLike, arcs: np.ndarray
    ) -> Lattice:
        """Build a lattice from arcs in any order; those of a state keep theirs."""
        order, first_arc = _by_source(source, len(np.asarray(finals)))
        return cls(start, np.asarray(finals, np.float32).reshape(-1, 2), first_arc, arcs[order])

    @property
    def words(self) -> np.ndarray:
        return self.arcs["olabel"]

    def _taken(self, start, states, kept, first_arc, arcs) -> Lattice:
        return Lattice(start, self.finals[states], first_arc, arcs)


@dataclass(eq=False)
class CompactLattice(_Lattice):
    """A lattice of words, with the transition-ids as strings; arcs of dtype COMPACT_ARC."""

    arc_strings: LabelStrings  # (arcs,)
    final_strings: LabelStrings  # (states,), empty where a state is not final

    @classmethod
    def from_arcs(
        cls,
        start: int,
        finals: ArrayLike,
        source: ArrayLike,
        arcs: np.ndarray,
        arc_strings: LabelStrings,
        final_strings: LabelStrings,
    ) -> CompactLattice:
        """Build a lattice from arcs in any order; those of a state keep theirs."""
        order, first_arc = _by_source(source, len(final_strings))
        finals = np.asarray(finals, np.float32).reshape(-1, 2)
        return cls(start, finals, first_arc, arcs[order], arc_strings.take(order), final_strings)

    @property
    def words(self) -> np.ndarray:
        return self.arcs["label"]

    def _taken(self, start, states, kept, first_arc, arcs) -> CompactLattice:
        strings = self.arc_strings.take(kept), self.final_strings.take(states)
        return CompactLattice(start, self.finals[states], first_arc, arcs, *strings)


def _by_source(source: ArrayLike, num_states: int) -> tuple[np.ndarray, np.ndarray]:
    """Order arcs by the state that they leave; the order, and first_arc."""
    source = np.asarray(source, np.int64)
    counts = np.bincount(source, minlength=num_states)
    return np.argsort(source, kind="stable"), np.concatenate(([0], np.cumsum(counts)))
