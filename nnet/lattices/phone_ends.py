"""Where phones end in strings of transition-ids, and lattices with one phone on an arc.

After Kaldi's lat/phone-align-lattice.cc.
"""

from __future__ import annotations

from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.phones import known_ids
from nnet.lattices.unfolding import Ids, Output, Pending


class PhoneEnds:
    """A transition model's view of strings of transition-ids.

    reorder: whether self-loops come behind the transition that leaves their state, as in graphs
    that were made with --reorder=true.

    Attributes:
        faults: what was found wrong with a lattice, until `clear`.
    """

    def __init__(self, model: TransitionModel, reorder: bool = True):
        self.model, self.reorder = model, reorder
        self.phone: list[int] = model.phone_of.tolist()
        self._leaves_phone: list[bool] = model.is_final.tolist()
        self._is_loop: list[bool] = model.is_self_loop.tolist()
        self.faults: list[str] = []

    def begin(self, lattice: CompactLattice) -> None:
        """Begin with a lattice; NgtrainError if it has transition-ids that the model has not."""
        self.faults.clear()
        for strings in lattice.arc_strings, lattice.final_strings:
            known_ids(strings.values, self.model)

    def end_of(self, ids: Ids, start: int = 0) -> int:
        """Find where the phone that begins at `start` ends; 0 while it may go on."""
        phone = self.phone[ids[start]]
        for position in range(start, len(ids)):
            if self.phone[ids[position]] != phone:
                self.faults.append("a phone changes before it has ended")
            if self._leaves_phone[ids[position]]:
                break
        else:
            return 0
        position += 1
        while self.reorder and position < len(ids) and self._is_loop[ids[position]]:
            position += 1
        return position if position < len(ids) else 0

    def is_one_phone(self, ids: Ids) -> bool:
        """True if a string is one phone, whole."""
        phones = {self.phone[i] for i in ids}
        return len(phones) == 1 and sum(self._leaves_phone[i] for i in ids) == 1

    def ends_with_phone(self, ids: Ids) -> bool:
        """True if a phone is whole where the string ends."""
        last = len(ids) - 1
        while self.reorder and last > 0 and self._is_loop[ids[last]]:
            last -= 1
        return self._leaves_phone[ids[last]]


class PhoneAligner:
    """An aligner that writes each phone as soon as it has ended; words come with the next phone."""

    def __init__(self, ends: PhoneEnds):
        self.ends = ends

    def take(self, pending: Pending) -> Output | None:
        """Write a whole phone, or a word if two are waiting."""
        words, ids = pending
        if ids and (end := self.ends.end_of(ids)):
            return words[0] if words else EPSILON, ids[:end], Pending(words[1:], ids[end:])
        if len(words) > 1:
            return words[0], (), Pending(words[1:], ids)
        return None

    def flush(self, pending: Pending) -> Output:
        """Write the last phone."""
        words, ids = pending
        if ids and not self.ends.is_one_phone(ids):
            self.ends.faults.append("what is left at the end is not one phone (forced out?)")
        return words[0] if words else EPSILON, ids, Pending(words[1:], ())
