"""Transition models: transition-ids, what they stand for, and their probabilities.

After Kaldi's hmm/transition-model.{h,cc} and SplitToPhones in hmm/hmm-utils.cc.  A
*transition-state* is a combination of phone, HMM state and pdf-ids that the tree allows; each of
its transitions has a *transition-id*.  Both are numbered from 1, and element 0 of the arrays below
stands for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.tree import ContextDependency
from nnet.io.tokens import Stored

log = logging.getLogger("ngtrain")

PHONE, HMM_STATE, FORWARD_PDF, SELF_LOOP_PDF = range(4)
"""Columns of `TransitionModel.tuples`."""


class TransitionModel(Stored):
    """A topology with its transition-states, and one log-probability per transition-id.

    Args:
        topology: the HMM of each phone.
        tuples: (transition-states, 4) ints, sorted and unique: phone, HMM state, pdf-id on the
            transitions that leave the state, pdf-id on its self-loop.
        log_probs: float32 (transition-ids + 1,), element 0 unused; by default the probabilities
            that the topology gives.

    Attributes:
        phones: those of the topology.
        num_pdfs, num_transition_states, num_transition_ids: as they say.
        first_id: int32 (transition-states + 2,): transition-state s has the transition-ids
            first_id[s] ... first_id[s + 1] - 1.
        pdf_of, phone_of, hmm_state_of, state_of: int32 (transition-ids + 1,): the pdf-id, the
            phone, the HMM state and the transition-state of each transition-id.
        is_self_loop, is_final: bool (transition-ids + 1,): does the transition stay in its state;
            does it end the phone.
        self_loop_of: int32 (transition-states + 1,): transition-id of the self-loop, 0 for none.

    Raises:
        ValueError: the parts do not fit together.
    """

    def __init__(
        self, topology: HmmTopology, tuples: np.ndarray, log_probs: np.ndarray | None = None
    ):
        self.topology = topology
        self.phones = topology.phones
        self.tuples = np.asarray(tuples, dtype=np.int32).reshape(-1, 4)
        self._check_tuples()
        states = [topology.states(phone)[s] for phone, s in self.tuples[:, :FORWARD_PDF].tolist()]
        last_state = [len(topology.states(phone)) - 1 for phone in self.tuples[:, PHONE].tolist()]
        num_transitions = np.array([len(state.transitions) for state in states], dtype=np.int32)

        self.num_transition_states = len(self.tuples)
        self.num_transition_ids = int(num_transitions.sum(dtype=np.int64))
        if log_probs is not None and np.shape(log_probs) != (self.num_transition_ids + 1,):
            raise ValueError(
                f"expected {self.num_transition_ids + 1} transition log-probabilities, "
                f"got {len(log_probs)}"
            )
        self.num_pdfs = 1 + int(self.tuples[:, FORWARD_PDF:].max())
        # Element 0 of what follows: transition-state 0 has one transition-id, 0, to no state.
        numbers = np.arange(self.num_transition_states + 1, dtype=np.int32)
        self.state_of = np.repeat(numbers, np.append(1, num_transitions))
        self.first_id = np.searchsorted(self.state_of, np.append(numbers, len(numbers)))
        self.first_id = self.first_id.astype(np.int32)
        row = np.vstack([np.zeros_like(self.tuples[:1]), self.tuples])[self.state_of]
        self.phone_of, self.hmm_state_of, forward_pdf, self_loop_pdf = np.ascontiguousarray(row.T)
        transitions = [transition for state in states for transition in state.transitions]
        destination = np.array([-1, *(there for there, _ in transitions)])
        self.is_self_loop = destination == self.hmm_state_of
        self.is_final = destination == np.append(0, last_state)[self.state_of]
        self.pdf_of = np.where(self.is_self_loop, self_loop_pdf, forward_pdf)
        self.self_loop_of = np.zeros(self.num_transition_states + 1, dtype=np.int32)
        loops = np.flatnonzero(self.is_self_loop)
        self.self_loop_of[self.state_of[loops]] = loops

        if log_probs is None:
            log_probs = np.log(np.array([1, *(p for _, p in transitions)], dtype=np.float32))
        self.log_probs = np.array(log_probs, dtype=np.float32)
        if not (np.isfinite(self.log_probs[1:]) & (self.log_probs[1:] <= 0)).all():
            raise ValueError("a transition log-probability is positive or not finite")

    @classmethod
    def from_tree(cls, tree: ContextDependency, topology: HmmTopology) -> TransitionModel:
        """Make the transition model of a tree, with the probabilities that the topology gives.

        Raises:
            ValueError: the tree has no answer for a phone and pdf-class of the topology.
        """
        tuples = set()
        for phone in topology.phones:
            for number, state in enumerate(topology.states(phone)):
                if not state.emitting:
                    continue
                forward, self_loop = state.forward_pdf_class, state.self_loop_pdf_class
                if topology.is_hmm:
                    pairs = [(pdf, pdf) for pdf in tree.pdfs_of(phone, forward)]
                else:
                    pairs = tree.pdf_pairs_of(phone, forward, self_loop, topology.phones)
                if not pairs:
                    raise ValueError(
                        f"the tree has no pdf for pdf-class {forward} of phone {phone}: tree and "
                        "topology do not match"
                    )
                tuples.update((phone, number, *pair) for pair in pairs)
        return cls(topology, np.array(sorted(tuples)))

    def _check_tuples(self) -> None:
        """Check that tuples name emitting states of the topology, and are in order."""
        rows = self.tuples.tolist()
        if not rows:
            raise ValueError("transition model has no transition-states")
        if any(before >= after for before, after in pairwise(rows)):
            raise ValueError("the transition-states of the transition model are not sorted")
        for phone, state, *pdfs in rows:
            if phone not in self.topology.entry_of_phone:
                raise ValueError(f"the topology does not cover phone {phone}")
            states = self.topology.states(phone)
            if not 0 <= state < len(states) or not states[state].emitting:
                raise ValueError(f"phone {phone} has no emitting HMM state {state}")
            if min(pdfs) < 0:
                raise ValueError(f"state {state} of phone {phone} has a negative pdf-id")

    # --- Lookups ----------------------------------------------------------------------------------

    @cached_property
    def _state_of_tuple(self) -> dict[tuple[int | None, ...], int]:
        return {tuple(row): state for state, row in enumerate(self.tuples.tolist(), start=1)}

    @cached_property
    def pdf_class_of(self) -> np.ndarray:
        """pdf-class of each transition-id; int32 (transition-ids + 1,)."""
        states = [self.topology.states(phone)[s] for phone, s in self.tuples[:, :2].tolist()]
        classes = np.array([(s.forward_pdf_class, s.self_loop_pdf_class) for s in states])
        own = classes[self.state_of[1:] - 1, self.is_self_loop[1:].astype(int)]
        return np.append(0, own).astype(np.int32)

    def transition_state(
        self, phone: int, hmm_state: int, pdf: int | None, self_loop_pdf: int | None
    ) -> int:
        """Return the transition-state of a tuple; KeyError when the model does not have it."""
        return self._state_of_tuple[phone, hmm_state, pdf, self_loop_pdf]

    def check_alignment(self, alignment: np.ndarray, key: str) -> None:
        """Raise NgtrainError when the alignment of utterance `key` is not one of this model."""
        alignment = np.asarray(alignment)
        wrong = alignment[(alignment < 1) | (alignment > self.num_transition_ids)]
        if wrong.size:
            raise NgtrainError(
                f"alignment of {key}: {wrong[0]} is not a transition-id of the model, which has "
                f"{self.num_transition_ids} (made with another model?)"
            )

    def phone_starts(self, alignment: np.ndarray) -> np.ndarray:
        """Find the frames at which the phones of an alignment begin, the first 0 (SplitToPhones).

        The self-loops of a state may come after the transition that leaves it ("reordered", as
        Kaldi's graphs have them) or before it.
        """
        alignment = np.asarray(alignment)
        if not alignment.size:
            return np.zeros(0, dtype=np.int64)
        if self.is_reordered(alignment):
            leaving = np.flatnonzero(~self.is_self_loop[alignment])
            begins = leaving[1:][self.is_final[alignment[leaving[:-1]]]]
        else:
            begins = 1 + np.flatnonzero(self.is_final[alignment[:-1]])
        phones = self.phone_of[alignment]
        changes = 1 + np.flatnonzero(phones[1:] != phones[:-1])
        return np.union1d([0], np.union1d(begins, changes)).astype(np.int64)

    def is_whole(self, alignment: np.ndarray) -> bool:
        """Tell whether each phone of an alignment begins in its first state and comes to its end.

        Source: SplitToPhones.
        """
        alignment = np.asarray(alignment)
        starts = self.phone_starts(alignment)
        leaving = np.flatnonzero(~self.is_self_loop[alignment])
        last = np.searchsorted(leaving, np.append(starts[1:], len(alignment))) - 1
        if not len(leaving) or last.min() < 0 or (leaving[last] < starts).any():
            return not len(alignment)
        at_start = self.hmm_state_of[alignment[starts]] == 0
        phones = self.phone_of[alignment[starts]].tolist()
        silent = [not self.topology.states(phone)[0].emitting for phone in phones]
        return bool((at_start | silent).all() and self.is_final[alignment[leaving[last]]].all())

    def with_other_order(self, alignment: np.ndarray) -> np.ndarray:
        """Put the transition out of each state first if it came last, or last if it came first.

        Source: ChangeReorderingOfAlignment.
        """
        alignment = np.array(alignment)
        loops, states = self.is_self_loop[alignment], self.state_of[alignment]
        begin = 0
        for end in range(1, len(alignment) + 1):
            inside = end < len(alignment) and states[end] == states[begin]
            if inside and (loops[end] if not loops[begin] else loops[end - 1]):
                continue
            alignment[[begin, end - 1]] = alignment[[end - 1, begin]]
            begin = end
        return alignment

    def is_reordered(self, alignment: np.ndarray) -> bool:
        """Tell whether self-loops come after the transition out of their state (IsReordered)."""
        loops = self.is_self_loop[alignment]
        boundary = np.flatnonzero(np.diff(self.state_of[alignment]))
        for before, after in zip(loops[boundary], loops[boundary + 1], strict=True):
            if before or after:
                return bool(before)
        return len(loops) > 0 and not loops[0] and bool(loops[-1])

    # --- Probabilities ----------------------------------------------------------------------------

    @property
    def non_self_loop_log_probs(self) -> np.ndarray:
        """Log-probability of leaving each state; float32 (transition-states + 1,)."""
        has_loop = self.self_loop_of > 0
        stay = np.where(has_loop, np.exp(self.log_probs[self.self_loop_of]), 0)
        if (stay >= 1).any():
            log.warning("The probability of a self-loop is one; taking 1 - 1e-10 instead")
        return np.log(np.maximum(1 - stay, 1e-10)).astype(np.float32)

    @property
    def log_probs_ignoring_self_loops(self) -> np.ndarray:
        """Log-probability of each transition, given that its state is left; float32 (ids + 1,).

        It says nothing about self-loops.
        """
        return self.log_probs - self.non_self_loop_log_probs[self.state_of]

    def scaled_log_probs(self, transition_scale: float, self_loop_scale: float) -> np.ndarray:
        """Scale log-probabilities as graphs carry them; float32 (transition-ids + 1,).

        Whether a state is left is scaled by `self_loop_scale`, where to by `transition_scale`
        (GetScaledTransitionLogProb in hmm/hmm-utils.cc).
        """
        leave = self.non_self_loop_log_probs[self.state_of]
        leaving = self_loop_scale * leave + transition_scale * (self.log_probs - leave)
        scaled = np.where(self.is_self_loop, self_loop_scale * self.log_probs, leaving)
        return scaled.astype(np.float32)

    def mle_update(
        self,
        counts: np.ndarray,
        *,
        floor: float = 0.01,
        min_count: float = 5.0,
        share_for_pdfs: bool = False,
    ) -> tuple[float, float]:
        """Set the probabilities to the relative frequencies of `counts` (MleUpdate).

        Args:
            counts: float64 (transition-ids + 1,): how often each transition was taken.
            floor: the least probability a transition may have.
            min_count: states with a smaller count keep their probabilities.
            share_for_pdfs: states with the same pdf-id share their probabilities.
        Returns:
            The gain in total, and the frames that it was over.
        Raises:
            NgtrainError: sharing was asked for, but states of a pdf have not the same number of
                transitions, or different pdf-ids on self-loops.
        """
        num_transitions = np.diff(self.first_id)[1:]
        pdfs = self.tuples[:, FORWARD_PDF]
        if share_for_pdfs:
            sizes = np.unique(np.stack([pdfs, num_transitions]), axis=1)
            if not self.topology.is_hmm or sizes.shape[1] != len(np.unique(pdfs)):
                raise NgtrainError(
                    "transition probabilities cannot be shared among the states of a pdf "
                    "(--share-for-pdfs) with this topology and tree"
                )
        objf_change = total_count = 0.0
        num_skipped = num_floored = 0
        for size in np.unique(num_transitions[num_transitions > 1]):
            states = np.flatnonzero(num_transitions == size)
            ids = self.first_id[states + 1][:, np.newaxis] + np.arange(size)
            _, first_member, group = np.unique(
                pdfs[states] if share_for_pdfs else states, return_index=True, return_inverse=True
            )
            sums = np.zeros((len(first_member), size))
            np.add.at(sums, group, counts[ids])
            totals = sums.sum(axis=1, keepdims=True)
            enough = totals[:, 0] >= min_count
            probs = (sums / np.maximum(totals, np.finfo(float).tiny)).astype(np.float32)
            for _ in range(3):  # a floored row no longer sums to one
                probs /= np.maximum(probs.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
                np.maximum(probs, np.float32(floor), out=probs)
            new = np.log(probs)
            old = self.log_probs[ids[first_member]]
            objf_change += float(np.sum((sums * (new - old))[enough]))
            total_count += float(totals.sum())
            num_skipped += int(np.sum(~enough))
            num_floored += int(np.sum(probs[enough] == np.float32(floor)))
            updated = enough[group]
            self.log_probs[ids[updated]] = new[group[updated]]
        self._report_update(objf_change, total_count, num_floored, num_skipped, share_for_pdfs)
        return objf_change, total_count

    def _report_update(
        self, objf_change: float, count: float, floored: int, skipped: int, shared: bool
    ) -> None:
        gain = objf_change / max(count, 1), count
        if shared:
            log.info(
                "Objf change is %g per frame over %g frames; %d probabilities floored, %d pdf-ids "
                "skipped due to insuffient data.",
                *(*gain, floored, skipped),
            )
            return
        log.info("TransitionModel::Update, objf change is %g per frame over %g frames. ", *gain)
        log.info(
            "%d probabilities floored, %d out of %d transition-states skipped due to "
            "insuffient data (it is normal to have some skipped.)",
            *(floored, skipped, self.num_transition_states),
        )

    def info(self) -> str:
        """Describe the model as am-info does: a line per property."""
        return (
            f"number of phones {len(self.phones)}\n"
            f"number of pdfs {self.num_pdfs}\n"
            f"number of transition-ids {self.num_transition_ids}\n"
            f"number of transition-states {self.num_transition_states}\n"
        )

    # --- Files ------------------------------------------------------------------------------------

    @classmethod
    def read(cls, reader) -> TransitionModel:
        """Parse a transition model, text or binary; NgtrainError when it is malformed."""
        reader.expect("<TransitionModel>")
        topology = HmmTopology.read(reader)
        kind = reader.one_of("<Triples>", "<Tuples>")
        tuples = []
        for _ in range(reader.integer()):
            phone, hmm_state, pdf = reader.integer(), reader.integer(), reader.integer()
            self_loop_pdf = reader.integer() if kind == "<Tuples>" else pdf
            tuples.append((phone, hmm_state, pdf, self_loop_pdf))
        log_probs = reader.expect(kind.replace("<", "</"), "<LogProbs>").vector()
        reader.expect("</LogProbs>", "</TransitionModel>")
        try:
            return cls(topology, np.array(tuples), log_probs)
        except ValueError as error:
            raise reader.fail(str(error)) from None

    def write(self, writer) -> None:
        kind, columns = ("Triples", 3) if self.topology.is_hmm else ("Tuples", 4)
        writer.token("<TransitionModel>").newline()
        self.topology.write(writer)
        writer.token(f"<{kind}>").integer(self.num_transition_states).newline()
        for row in self.tuples[:, :columns].tolist():
            for number in row:
                writer.integer(number)
            writer.newline()
        writer.token(f"</{kind}>").newline()
        writer.token("<LogProbs>").newline().vector(self.log_probs).token("</LogProbs>").newline()
        writer.token("</TransitionModel>").newline()

    # --- For people -------------------------------------------------------------------------------

    def describe(self, phone_names: Sequence[str], occupancies: np.ndarray | None = None) -> str:
        """Format the lines of show-transitions; `occupancies` are counts by pdf-id."""
        lines = []
        for state, (phone, hmm_state, pdf, self_loop_pdf) in enumerate(self.tuples.tolist(), 1):
            pdfs = f"pdf = {pdf}"
            if not self.topology.is_hmm:
                pdfs = f"forward-pdf = {pdf} self-loop-pdf = {self_loop_pdf}"
            lines.append(
                f"Transition-state {state}: phone = {phone_names[phone]} "
                f"hmm-state = {hmm_state} {pdfs}"
            )
            transitions = self.topology.states(phone)[hmm_state].transitions
            for transition_id, (destination, _) in enumerate(transitions, self.first_id[state]):
                line = f" Transition-id = {transition_id}"
                line += f" p = {np.exp(self.log_probs[transition_id]):g}"
                if occupancies is not None:
                    line += f" count of pdf = {occupancies[self.pdf_of[transition_id]]:g}"
                loop = self.is_self_loop[transition_id]
                line += " [self-loop]" if loop else f" [{hmm_state} -> {destination}]"
                lines.append(line)
        return "\n".join(lines) + "\n"
