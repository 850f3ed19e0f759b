"""Gaussian statistics of HMM states in phonetic context, of which decision trees are built.

Formats and counting are those of Kaldi's hmm/tree-accu.cc, tree/build-tree-utils.cc and
tree/clusterable-classes.cc (GaussClusterable).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import PDF_CLASS, WIDEST_CONTEXT
from nnet.io.tokens import Reader, Stored, Writer
from nnet.trees.phones import mapped

log = logging.getLogger("ngtrain")

ABSENT = np.iinfo(np.int32).max
"""The phone at a position about which nothing may be asked; it sorts last, as in Kaldi's files."""

ROWS_BEFORE_MERGING = 1 << 16
"""Rows that accumulate before those of the same event are added up."""


def column(key: int) -> int:
    """Find the column of events in which the value of a tree's key stands."""
    return key - PDF_CLASS


def objective(sums: np.ndarray, var_floor: float) -> np.ndarray:
    """Compute the log-likelihood of data under the diagonal Gaussians that fit them best.

    It is rounded to single precision, as Kaldi compares it, so that ties fall as they do there.

    Args:
        sums: float64 (..., 1 + 2 D): count, sums of x, sums of x^2.
        var_floor: least variance of a Gaussian.
    Returns:
        float32 (...), summed over frames; 0 without data.
    Source: GaussClusterable::Objf.
    """
    dim = sums.shape[-1] // 2
    count = sums[..., 0]
    frames = np.where(count > 0, count, 1)[..., np.newaxis]
    mean = sums[..., 1 : 1 + dim] / frames
    variance = sums[..., 1 + dim :] / frames - mean * mean
    floored = np.maximum(variance, var_floor)
    per_frame = (variance / floored + np.log(2 * np.pi * floored)).sum(axis=-1)
    return np.where(count > 0, -0.5 * count * per_frame, 0.0).astype(np.float32)


def sums_by(groups: np.ndarray, sums: np.ndarray, num_groups: int) -> np.ndarray:
    """Add up statistics (n, 1 + 2 D) by the group (n,) of each; (num_groups, 1 + 2 D)."""
    total = np.zeros((num_groups, sums.shape[1]))
    np.add.at(total, groups, sums)
    return total


class TreeStatistics(Stored):
    """Sums over the frames of each event: a pdf-class of a phone among its neighbours.

    Attributes:
        events: int32 (E, 1 + N), sorted and unique: the pdf-class, then the phones of a window of
            N; 0 beyond the ends of an utterance, `ABSENT` beside context-independent phones.
        sums: float64 (E, 1 + 2 D): count, sums of x, sums of x^2.
        var_floor: least variance of a Gaussian.
    """

    def __init__(self, events: np.ndarray, sums: np.ndarray, var_floor: float):
        self.events, self.sums = events, sums
        self.var_floor = var_floor

    def __len__(self) -> int:
        return len(self.events)

    @property
    def count(self) -> float:
        """Frames of all events."""
        return float(self.sums[:, 0].sum())

    def values(self, key: int) -> np.ndarray:
        """Return the value of a key in each event (E,); `ABSENT` where there is none."""
        if not 0 <= column(key) < self.events.shape[1]:
            return np.full(len(self), ABSENT, np.int32)
        return self.events[:, column(key)]

    def selected(self, rows: np.ndarray) -> TreeStatistics:
        """Return the statistics of some events, given by a mask."""
        return TreeStatistics(self.events[rows], self.sums[rows], self.var_floor)

    @classmethod
    def total(cls, all_statistics: Iterable[TreeStatistics]) -> TreeStatistics:
        """Add up statistics; NgtrainError where they are of other windows or dimensions."""
        parts = list(all_statistics)
        if len({(p.events.shape[1], p.sums.shape[1]) for p in parts if len(p)}) > 1:
            raise NgtrainError("statistics of other contexts or dimensions cannot be added")
        parts = [part for part in parts if len(part)] or parts[:1]
        events = np.concatenate([part.events for part in parts])
        sums = np.concatenate([part.sums for part in parts])
        return cls(*_merged(events, sums), parts[0].var_floor)

    @classmethod
    def read(cls, reader: Reader) -> TreeStatistics:
        """Parse the output of acc-tree-stats, text or binary; NgtrainError when it is malformed."""
        events, sums, floors = [], [], set()
        for _ in range(reader.expect("BTS").unsigned()):
            size = reader.expect("EV").unsigned()
            event = {}
            for _ in range(size):
                key = reader.integer()
                event[key] = reader.integer()
            if len(event) != size or not event or not _is_event(event):
                raise reader.fail(f"an event that cannot be: {event}")
            events.append(event)
            if not reader.boolean():
                raise reader.fail("an event without statistics")
            count = reader.expect("GCL").real()
            floors.add(reader.real())
            moments = reader.matrix(np.float64)
            if len(moments) != 2 or moments.size != 2 * moments.shape[1]:
                raise reader.fail(f"statistics of {len(moments)} rows, which must be two")
            sums.append(np.concatenate(([count], moments.ravel())))
        if len(floors) > 1 or len({len(row) for row in sums}) > 1:
            raise reader.fail("statistics of several dimensions or floors of variance")
        if not events:
            return cls(np.zeros((0, 1), np.int32), np.zeros((0, 1)), 0.0)
        width = 1 + max(column(key) for event in events for key in event)
        array = np.full((len(events), width), ABSENT, np.int32)
        for row, event in zip(array, events, strict=True):
            row[[column(key) for key in event]] = list(event.values())
        return cls(*_merged(array, np.array(sums)), floors.pop())

    def write(self, writer: Writer) -> None:
        """Write as Kaldi does (WriteBuildTreeStats)."""
        writer.token("BTS").unsigned(len(self))
        dim = self.sums.shape[1] // 2
        for event, sums in zip(self.events.tolist(), self.sums, strict=True):
            keys = [key for key, value in enumerate(event, PDF_CLASS) if value != ABSENT]
            writer.token("EV").unsigned(len(keys))
            for key in keys:
                writer.integer(key).integer(event[column(key)])
            writer.newline()
            writer.boolean(True)
            writer.token("GCL").double(sums[0])
            writer.double(self.var_floor)
            writer.matrix(sums[1:].reshape(2, dim))
        writer.newline()


def _is_event(event: dict[int, int]) -> bool:
    """Tell whether the keys are a pdf-class and positions of a window, and no value is negative."""
    return PDF_CLASS <= min(event) <= max(event) < WIDEST_CONTEXT and min(event.values()) >= 0


def _merged(events: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the events, and add up the sums of the same ones."""
    if not len(events):
        return events, sums
    order = np.lexsort(events.T[::-1])
    events = events[order]
    first = np.flatnonzero(np.append(True, (events[1:] != events[:-1]).any(axis=1)))
    return events[first], np.add.reduceat(sums[order], first, axis=0)


class StateAccumulator:
    """An accumulator of statistics over aligned utterances.

    Args:
        transition_model: what the transition-ids of alignments mean.
        context_width, central_position: the window of phones.
        ci_phones: phones whose neighbours are not looked at.
        phone_map: (phones + 1,): the phone in whose place each stands; by default itself.
        var_floor: least variance of a Gaussian.
    """

    def __init__(
        self,
        transition_model: TransitionModel,
        context_width: int = 3,
        central_position: int = 1,
        ci_phones: Iterable[int] = (),
        phone_map: np.ndarray | None = None,
        var_floor: float = 0.01,
    ):
        self._model = transition_model
        self._width, self._centre = context_width, central_position
        self._ci_phones = np.array(list(ci_phones), np.int32)
        self._phone_map = phone_map
        self._var_floor = float(np.float32(var_floor))  # Kaldi's BaseFloat
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, alignment: np.ndarray, features: np.ndarray) -> None:
        """Add an utterance: transition-ids (T,) of whole phones, and features (T, D).

        Raises:
            NgtrainError: features of another dimension than before, or a phone without a place in
                the map.
        """
        if self._parts and self._parts[0][1].shape[1] != 1 + 2 * features.shape[1]:
            raise NgtrainError(
                f"features of dimension {features.shape[1]}, those before had "
                f"{self._parts[0][1].shape[1] // 2}"
            )
        starts = self._model.phone_starts(alignment)
        phones = mapped(self._model.phone_of[alignment[starts]], self._phone_map)
        padded = np.pad(phones, (self._centre, self._width - 1 - self._centre))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self._width).copy()
        neighbours = np.arange(self._width) != self._centre
        windows[np.ix_(np.isin(phones, self._ci_phones), neighbours)] = ABSENT

        pdf_class = self._model.pdf_class_of[alignment]
        begins = np.union1d(starts, 1 + np.flatnonzero(np.diff(pdf_class)))
        events = np.column_stack(
            [pdf_class[begins], windows[np.searchsorted(starts, begins, "right") - 1]]
        )
        features = features.astype(np.float64)
        ones = np.ones((len(features), 1))
        moments = np.hstack([ones, features, features * features])
        self._parts.append((events, np.add.reduceat(moments, begins, axis=0)))
        if sum(len(events) for events, _ in self._parts) > ROWS_BEFORE_MERGING:
            self._merge()

    def _merge(self) -> None:
        events, sums = zip(*self._parts, strict=True)
        self._parts = [_merged(np.concatenate(events), np.concatenate(sums))]

    def statistics(self) -> TreeStatistics:
        """Return the statistics of all utterances so far; there must be one."""
        self._merge()
        return TreeStatistics(*self._parts[0], self._var_floor)
