"""Conversion of alignments to the states of another tree (Kaldi's hmm/hmm-utils.cc)."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency
from nnet.trees.phones import mapped

log = logging.getLogger("ngtrain")

Window = tuple[int, ...]


class UnsuitableAlignment(Exception):
    """An alignment that cannot be converted; the message says why."""


class AlignmentConverter:
    """A converter of alignments from one transition model to another, phone by phone.

    Where the topology of a phone is another, or its length changes with the frame rate, its states
    are passed through at random.

    Args:
        old, new: transition models.
        tree: that of the new one.
        phone_map: (old phones + 1,): the new phone of each, -1 for none; by default itself.
        subsampling: frames of the old alignment per frame of the new.
        repeat_frames: repeat the frames of the new one, so that it is as long as the old.
        reordered: whether self-loops come after the transition that leaves their state.
        rng: for passages at random.

    Source: ConvertAlignment.
    """

    def __init__(
        self,
        old: TransitionModel,
        new: TransitionModel,
        tree: ContextDependency,
        *,
        phone_map: np.ndarray | None = None,
        subsampling: int = 1,
        repeat_frames: bool = False,
        reordered: bool = True,
        rng: np.random.Generator | None = None,
    ):
        if subsampling < 1:
            raise NgtrainError(f"--frame-subsampling-factor={subsampling}")
        self._old, self._new, self._tree = old, new, tree
        self._phone_map = phone_map
        self._subsampling, self._repeat = subsampling, repeat_frames
        self._reordered = reordered
        self._rng = rng or np.random.default_rng(0)
        self._new_id: dict[tuple[Window, int], int] = {}
        self._warned = False
        if old.topology != new.topology:
            log.warning(
                "Topologies of models are not equal: conversion may not be correct or may fail."
            )

    def __call__(self, alignment: np.ndarray) -> np.ndarray:
        """Convert transition-ids (T,); int32 of the length that the frame rate gives.

        Raises:
            UnsuitableAlignment: it is not made of whole phones, or too short.
            NgtrainError: a phone, or a context of one, that the new tree does not have.
        """
        if not self._old.is_whole(alignment):
            raise UnsuitableAlignment("it is not made of whole phones (truncated?)")
        last = self._subsampling - 1
        if last == 0 or not self._repeat:
            return self._converted(alignment, last)
        shifted = [self._converted(alignment, shift) for shift in range(last, -1, -1)]
        padded = np.full((len(shifted), max(map(len, shifted))), -1, np.int32)
        for row, part in zip(padded, shifted, strict=True):
            row[: len(part)] = part
        repeated = padded.T.ravel()
        return repeated[repeated >= 0]

    def _converted(self, alignment: np.ndarray, shift: int) -> np.ndarray:
        starts = self._old.phone_starts(alignment)
        bounds = np.append(starts, len(alignment))
        phones = mapped(self._old.phone_of[alignment[starts]], self._phone_map).tolist()
        lengths = np.diff((bounds + shift) // self._subsampling)
        if self._subsampling > 1 or self._old.topology != self._new.topology:
            lengths = _borrowed(lengths, [self._new.topology.min_length(p) for p in phones])
        was_reordered = self._old.is_reordered(alignment)
        before = self._tree.central_position
        after = self._tree.context_width - 1 - before
        padded = (*[0] * before, *phones, *[0] * after)
        parts = []
        for number, (begin, end) in enumerate(pairwise(bounds.tolist())):
            window = padded[number : number + self._tree.context_width]
            old_ids, length = alignment[begin:end], int(lengths[number])
            parts.append(self._phone(old_ids, window, length, was_reordered))
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _phone(
        self, old_ids: np.ndarray, window: Window, length: int, was_reordered: bool
    ) -> np.ndarray:
        """Convert the frames of one phone in its context."""
        phone = window[self._tree.central_position]
        old_states = self._old.topology.states(int(self._old.phone_of[old_ids[0]]))
        same_topology = old_states == self._new.topology.states(phone)
        if not same_topology and not self._warned:
            log.warning("Topology mismatch detected; automatically converting. Won't warn again.")
            self._warned = True
        if same_topology and length == len(old_ids):
            new_ids = np.array([self._same_place(window, old) for old in old_ids.tolist()])
        else:
            new_ids, was_reordered = self._random_passage(window, length), False
        if was_reordered != self._reordered:
            new_ids = self._new.with_other_order(new_ids)
        return new_ids.astype(np.int32)

    def _same_place(self, window: Window, old_id: int) -> int:
        """Find the transition-id that is at the same place of the same topology."""
        if (window, old_id) not in self._new_id:
            place = int(self._old.hmm_state_of[old_id])
            number = old_id - int(self._old.first_id[self._old.state_of[old_id]])
            self._new_id[window, old_id] = self._transition(window, place, number)
        return self._new_id[window, old_id]

    def _transition(self, window: Window, place: int, number: int) -> int:
        """Return the id of transition `number` of HMM state `place` in a context."""
        phone = window[self._tree.central_position]
        state = self._new.topology.states(phone)[place]
        pdf = self._tree.compute(window, state.forward_pdf_class)
        self_loop_pdf = self._tree.compute(window, state.self_loop_pdf_class)
        try:
            new_state = self._new.transition_state(phone, place, pdf, self_loop_pdf)
            return int(self._new.first_id[new_state]) + number
        except KeyError:
            raise NgtrainError(
                f"the new tree and model have no state {place} of the phones {window}"
            ) from None

    def _random_passage(self, window: Window, length: int) -> np.ndarray:
        """Pass through a phone in `length` frames, by transitions that are chosen at random."""
        states = self._new.topology.states(window[self._tree.central_position])
        if not all(state.emitting for state in states[:-1]):
            raise NgtrainError(f"a state of phone {window} emits nothing: it cannot be converted")
        end = len(states) - 1
        reach = [[place == end for place in range(end + 1)]]  # in so many frames, from there
        for _ in range(length):
            reach.append([any(reach[-1][to] for to, _ in state.transitions) for state in states])
        if not reach[length][0]:
            raise UnsuitableAlignment(f"phone {window} does not fit into {length} frames")
        place, ids = 0, []
        for left in range(length - 1, -1, -1):
            transitions = states[place].transitions
            open_ = [n for n, (to, _) in enumerate(transitions) if reach[left][to]]
            number = open_[self._rng.integers(len(open_))]
            ids.append(self._transition(window, place, number))
            place = transitions[number][0]
        return np.array(ids)


def _borrowed(lengths: np.ndarray, least: list[int]) -> np.ndarray:
    """Lengthen phones that are too short by frames of the nearest that can spare some.

    Source: ComputeNewPhoneLengths.
    """
    lengths = lengths.copy()
    while (short := np.flatnonzero(lengths < least)).size:
        for phone in short:
            spare = np.flatnonzero(lengths > least)
            between = [lengths[min(s, phone) + 1 : max(s, phone)].sum() for s in spare]
            if not between:
                raise UnsuitableAlignment("it has too few frames for its phones")
            lengths[spare[int(np.argmin(between))]] -= 1
            lengths[phone] += 1
    return lengths
