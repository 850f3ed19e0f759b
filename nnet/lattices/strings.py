"""Many strings of integers as two arrays, such as the transition-ids on the arcs of a lattice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenate the ranges starts[i], starts[i] + 1, ... of so many numbers; int64."""
    ends = lengths.cumsum()  # methods, for most are called for a few numbers
    return (starts - (ends - lengths)).repeat(lengths) + np.arange(ends[-1] if len(ends) else 0)


@dataclass(eq=False)
class LabelStrings:
    """LabelStrings one behind the other; values[first[i] : first[i + 1]] are those of string i."""

    values: np.ndarray  # int32 (total length,)
    first: np.ndarray  # int64 (strings + 1,)

    @classmethod
    def of_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> LabelStrings:
        """Cut `values` into strings of these lengths."""
        first = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        return cls(np.asarray(values, np.int32), first)

    @classmethod
    def of(cls, strings: Sequence[Iterable[int]]) -> LabelStrings:
        """Make it of one sequence of integers for each string."""
        lists = list(map(list, strings))
        values = np.array([value for each in lists for value in each], np.int32)
        return cls.of_lengths(values, np.array(list(map(len, lists)), np.int64))

    @classmethod
    def empty(cls, count: int) -> LabelStrings:
        """Make so many empty strings."""
        return cls(np.zeros(0, np.int32), np.zeros(count + 1, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[LabelStrings]) -> LabelStrings:
        """Put the strings of several behind each other."""
        return cls.of_lengths(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one string, int32 (length,)."""
        return self.values[self.first[index] : self.first[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Length of each string, int64 (strings,)."""
        return np.diff(self.first)

    def take(self, indices: np.ndarray) -> LabelStrings:
        """Take the strings at these indices, in their order."""
        lengths = self.lengths[indices]
        return LabelStrings.of_lengths(
            self.values[ranges(self.first[:-1][indices], lengths)], lengths
        )

    def followed_by(self, others: LabelStrings) -> LabelStrings:
        """Put behind each string the one of as many others."""
        count = len(self)
        both = LabelStrings.concatenate([self, others])
        in_turn = np.arange(2 * count).reshape(2, count).T.ravel()
        lengths = self.lengths + others.lengths
        return LabelStrings.of_lengths(both.take(in_turn).values, lengths)

    def where(self, kept: np.ndarray) -> LabelStrings:
        """Make the strings empty that are not `kept`, bool (strings,)."""
        lengths = self.lengths
        values = self.values[np.repeat(kept, lengths)]
        return LabelStrings.of_lengths(values, np.where(kept, lengths, 0))

    def lists(self) -> list[list[int]]:
        """Return the strings as lists."""
        values, first = self.values.tolist(), self.first.tolist()
        return [values[begin:end] for begin, end in pairwise(first)]
