"""The path of a lattice with the fewest errors against a reference (Kaldi's lattice-oracle)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.paths import Path
from nnet.lattices.sweep import Sweep


@dataclass
class Errors:
    """Counts of errors, and of words of the reference."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    num_words: int = 0

    @property
    def total(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    def add(self, other: Errors) -> None:
        self.substitutions += other.substitutions
        self.insertions += other.insertions
        self.deletions += other.deletions
        self.num_words += other.num_words

    def __str__(self) -> str:
        """Spell out the rate in percent, and the counts, as Kaldi's log does."""
        rate = 100 * self.total / self.num_words if self.num_words else float("nan")
        return (
            f"{rate:g} [ {self.total} / {self.num_words}, {self.insertions} insertions, "
            f"{self.deletions} deletions, {self.substitutions} sub ]"
        )


def oracle(
    lattice: CompactLattice, reference: Sequence[int], wildcards: Collection[int] = ()
) -> tuple[Path, Errors] | None:
    """Find the path with the fewest errors, of these the one of the least cost; None without any.

    d(n, i) is the least number of errors of the ways to state n against i words of the reference;
    that of one arc follows for all i at once, and likewise for all arcs into one level of states.

    wildcards: words that count as nothing, in the lattice and in the reference.

    Raises:
        ValueError: the lattice has a cycle.
    """
    reference = [word for word in reference if word not in wildcards and word != EPSILON]
    if lattice.start < 0:
        return None
    words = np.where(np.isin(lattice.words, list(wildcards)), EPSILON, lattice.words)
    search = _Search(lattice, words, np.array(reference, np.int64))
    return search.best()


class _Search:
    """The table d(n, i), in which costs decide between equal numbers of errors."""

    def __init__(self, lattice: CompactLattice, words: np.ndarray, reference: np.ndarray):
        self.lattice, self.words, self.reference = lattice, words, reference
        self.sweep = Sweep(lattice)
        final_costs = lattice.final_costs
        costs = np.abs(lattice.costs).sum() + np.abs(final_costs[lattice.is_final]).sum()
        self.error = 1 + 2 * costs  # dearer than any path
        self.deletions = self.error * np.arange(len(reference) + 1)
        self.d = np.full((lattice.num_states, len(reference) + 1), np.inf)
        self.d[lattice.start] = self.deletions
        for arcs, first, states in self.sweep.by_target:
            over_arc = self._over_arcs(arcs)
            reached = np.minimum(self.d[states], np.minimum.reduceat(over_arc, first))
            # Deletions may come behind any arc.
            self.d[states] = (
                np.minimum.accumulate(reached - self.deletions, axis=1) + self.deletions
            )

    def _over_arcs(self, arcs: np.ndarray) -> np.ndarray:
        """Extend d over arcs without deletions; float64 (arcs, words + 1)."""
        before = self.d[self.sweep.source[arcs]] + self.lattice.costs[arcs, None]
        word = self.words[arcs, None]
        result = before + np.where(word == EPSILON, 0, self.error)  # an insertion
        aligned = before[:, :-1] + np.where(word == self.reference, 0, self.error)
        aligned[word[:, 0] == EPSILON] = np.inf
        np.minimum(result[:, 1:], aligned, out=result[:, 1:])
        return result

    def best(self) -> tuple[Path, Errors] | None:
        """Follow the best path back from its end."""
        total = self.d[:, -1] + self.lattice.final_costs
        final = int(total.argmin())
        if not total[final] < np.inf:
            return None
        order = np.argsort(self.sweep.into, kind="stable")
        bounds = np.searchsorted(self.sweep.into[order], np.arange(self.lattice.num_states + 1))
        arcs: list[int] = []
        errors = Errors(num_words=len(self.reference))
        state, i = final, len(self.reference)
        while state != self.lattice.start:
            entering = order[bounds[state] : bounds[state + 1]]
            over_arc = self._over_arcs(entering)[:, i]
            if i and self.d[state, i - 1] + self.error < over_arc.min():
                errors.deletions += 1
                i -= 1
                continue
            arc = int(entering[over_arc.argmin()])
            arcs.append(arc)
            state = int(self.sweep.source[arc])
            if (word := self.words[arc]) == EPSILON:
                continue
            is_wrong = i == 0 or word != self.reference[i - 1]
            if i and self.d[state, i - 1] + is_wrong * self.error <= self.d[state, i] + self.error:
                errors.substitutions += is_wrong
                i -= 1
            else:
                errors.insertions += 1
        errors.deletions += i
        return Path(arcs[::-1], final), errors
