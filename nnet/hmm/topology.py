"""HMM topologies: the states of each phone, and the transitions between them.

The format and the conditions a topology must meet are those of Kaldi's hmm/hmm-topology.{h,cc}.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from nnet.io.numbers import natural
from nnet.io.tokens import Stored

log = logging.getLogger("ngtrain")

LARGEST_PHONE = 1 << 20
"""The binary form has an element for each number up to that of the last phone."""

NO_PDF = -1
"""pdf-class of a state that emits nothing (as a rule only the final state of a phone)."""


UNREACHED = 1 << 30
"""More frames than any phone has: the final state of a senseless topology is never reached."""


@dataclass(frozen=True)
class HmmState:
    """One state of a phone's HMM; `transitions` lists (destination state, initial probability).

    The pdf-class on the transitions that leave the state may differ from the one on its self-loop
    ("chain" topologies).  Both are `NO_PDF` when the state is non-emitting.
    """

    forward_pdf_class: int
    self_loop_pdf_class: int
    transitions: tuple[tuple[int, float], ...]

    @property
    def emitting(self) -> bool:
        return self.forward_pdf_class != NO_PDF


Entry = tuple[HmmState, ...]


class HmmTopology(Stored):
    """The topology of every phone.

    Phones that share a topology share an `Entry`, the tuple of its states; state 0 is the start and
    the last state the (non-emitting) end.

    Attributes:
        phones: the phones covered, in increasing order.
        is_hmm: whether every state has one pdf-class for its self-loop and other transitions.

    Raises:
        ValueError: the rest of the toolkit cannot work with it.
    """

    def __init__(self, entries: list[Entry], entry_of_phone: dict[int, int]):
        self.entries = entries
        self.entry_of_phone = dict(sorted(entry_of_phone.items()))
        self.phones = list(self.entry_of_phone)
        if not entries or not self.phones:
            raise ValueError("topology is empty")
        if set(entry_of_phone.values()) != set(range(len(entries))):
            raise ValueError("topology has an entry without phones, or a phone without an entry")
        if self.phones[0] <= 0:
            raise ValueError("phones must be positive (0 stands for epsilon)")
        if self.phones[-1] > LARGEST_PHONE:
            raise ValueError(f"a phone with the number {self.phones[-1]}")
        for entry in entries:
            _check_entry(entry)
        states = [state for entry in entries for state in entry]
        self.is_hmm = all(s.forward_pdf_class == s.self_loop_pdf_class for s in states)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HmmTopology) and vars(self) == vars(other)

    __hash__ = None

    def states(self, phone: int) -> Entry:
        """Return the states of `phone`; KeyError when the topology does not cover it."""
        return self.entries[self.entry_of_phone[phone]]

    def num_pdf_classes(self, phone: int) -> int:
        return 1 + max(
            max(state.forward_pdf_class, state.self_loop_pdf_class) for state in self.states(phone)
        )

    def min_length(self, phone: int) -> int:
        """Count the fewest frames in which `phone` can be passed (3 for the usual HMM)."""
        states = self.states(phone)
        frames = [int(states[0].emitting)] + [UNREACHED] * (len(states) - 1)
        for _ in states:  # Bellman-Ford: a shortest path has fewer arcs than there are states
            for here, state in enumerate(states):
                for there, _ in state.transitions:
                    frames[there] = min(frames[there], frames[here] + states[there].emitting)
        return frames[-1]

    @classmethod
    def read(cls, reader) -> HmmTopology:
        """Parse a topology, text or binary; NgtrainError when it is malformed."""
        reader.expect("<Topology>")
        entries, entry_of_phone = _read_binary(reader) if reader.binary else _read_text(reader)
        try:
            return cls(entries, entry_of_phone)
        except ValueError as error:
            raise reader.fail(str(error)) from None

    def write(self, writer) -> None:
        writer.token("<Topology>")
        if writer.binary:
            self._write_binary(writer)
        else:
            self._write_text(writer)
        writer.token("</Topology>").newline()

    def _write_text(self, writer) -> None:
        writer.newline()
        for index, entry in enumerate(self.entries):
            writer.token("<TopologyEntry>").newline()
            writer.token("<ForPhones>").newline()
            for phone, entry_index in self.entry_of_phone.items():
                if entry_index == index:
                    writer.integer(phone)
            writer.newline().token("</ForPhones>").newline()
            for number, state in enumerate(entry):
                writer.token("<State>").integer(number)
                if state.emitting and self.is_hmm:
                    writer.token("<PdfClass>").integer(state.forward_pdf_class)
                elif state.emitting:
                    writer.token("<ForwardPdfClass>").integer(state.forward_pdf_class)
                    writer.token("<SelfLoopPdfClass>").integer(state.self_loop_pdf_class)
                for destination, probability in state.transitions:
                    writer.token("<Transition>").integer(destination).real(probability)
                writer.token("</State>").newline()
            writer.token("</TopologyEntry>").newline()

    def _write_binary(self, writer) -> None:
        phones = self.phones
        writer.integers(phones)
        writer.integers([self.entry_of_phone.get(phone, -1) for phone in range(phones[-1] + 1)])
        if not self.is_hmm:
            writer.integer(-1)  # announces that every state has two pdf-classes
        writer.integer(len(self.entries))
        for entry in self.entries:
            writer.integer(len(entry))
            for state in entry:
                writer.integer(state.forward_pdf_class)
                if not self.is_hmm:
                    writer.integer(state.self_loop_pdf_class)
                writer.integer(len(state.transitions))
                for destination, probability in state.transitions:
                    writer.integer(destination).real(probability)


def _read_text(reader) -> tuple[list[Entry], dict[int, int]]:
    entries: list[Entry] = []
    entry_of_phone: dict[int, int] = {}
    while reader.one_of("<TopologyEntry>", "</Topology>") == "<TopologyEntry>":
        reader.expect("<ForPhones>")
        while (token := reader.token()) != "</ForPhones>":
            try:
                phone = natural(token)
            except ValueError:
                raise reader.fail(f"expected a phone, got {token!r}") from None
            if phone in entry_of_phone:
                raise reader.fail(f"phone {phone} appears in more than one <TopologyEntry>")
            entry_of_phone[phone] = len(entries)
        states: list[HmmState] = []
        while reader.one_of("<State>", "</TopologyEntry>") == "<State>":
            number = reader.integer()
            if number != len(states):
                raise reader.fail(f"states must be in order: expected {len(states)}, got {number}")
            states.append(_read_text_state(reader))
        entries.append(tuple(states))
    return entries, entry_of_phone


def _read_text_state(reader) -> HmmState:
    forward = self_loop = NO_PDF
    transitions = []
    token = reader.one_of("<PdfClass>", "<ForwardPdfClass>", "<Transition>", "</State>")
    if token in ("<PdfClass>", "<ForwardPdfClass>"):
        forward = self_loop = reader.integer()
        if token == "<ForwardPdfClass>":
            self_loop = reader.expect("<SelfLoopPdfClass>").integer()
        token = reader.one_of("<Transition>", "</State>")
    while token == "<Transition>":
        transitions.append((reader.integer(), reader.real()))
        token = reader.one_of("<Transition>", "</State>")
    return HmmState(forward, self_loop, tuple(transitions))


def _read_binary(reader) -> tuple[list[Entry], dict[int, int]]:
    phones = reader.integers().tolist()
    entry_index = reader.integers().tolist()
    num_entries = reader.integer()
    is_hmm = num_entries != -1
    if not is_hmm:
        num_entries = reader.integer()
    entries = []
    for _ in range(num_entries):
        states = []
        for _ in range(reader.integer()):
            forward = reader.integer()
            self_loop = forward if is_hmm else reader.integer()
            transitions = tuple((reader.integer(), reader.real()) for _ in range(reader.integer()))
            states.append(HmmState(forward, self_loop, transitions))
        entries.append(tuple(states))
    reader.expect("</Topology>")
    if any(phone < 0 or phone >= len(entry_index) for phone in phones):
        raise reader.fail("topology lists a phone that has no entry")
    return entries, {phone: entry_index[phone] for phone in phones}


def _check_entry(entry: Entry) -> None:
    """Check the conditions of HmmTopology::Check(); ValueError says which one fails."""
    if len(entry) <= 1:
        raise ValueError("a topology entry needs at least one emitting state and a final state")
    if entry[-1].emitting or entry[-1].transitions:
        raise ValueError("the last state of a topology entry must emit nothing and lead nowhere")
    pdf_classes = set()
    reached = {0}
    for number, state in enumerate(entry):
        if state.emitting != (state.self_loop_pdf_class != NO_PDF):
            raise ValueError(f"state {number} must have both of its pdf-classes or neither")
        if state.emitting:
            pdf_classes |= {state.forward_pdf_class, state.self_loop_pdf_class}
        destinations = [destination for destination, _ in state.transitions]
        if len(set(destinations)) != len(destinations):
            raise ValueError(f"state {number} has two transitions to the same state")
        if not all(0 <= destination < len(entry) for destination in destinations):
            raise ValueError(f"state {number} has a transition to a state that does not exist")
        if not state.emitting and (number in destinations or len(entry) - 1 in destinations):
            raise ValueError(
                f"state {number} is non-emitting: it may neither loop nor lead to the final state"
            )
        if not all(probability > 0 for _, probability in state.transitions):
            raise ValueError(f"state {number} has a transition probability that is not positive")
        if number + 1 < len(entry):
            if not state.transitions:
                raise ValueError(f"state {number} has no transition out of it")
            total = sum(probability for _, probability in state.transitions)
            if abs(total - 1) > 0.01:
                log.warning("Total probability for state %d in topology is %g", number, total)
        reached.update(destinations)
    if reached != set(range(len(entry))):
        raise ValueError("some state of a topology entry has no transition into it")
    if pdf_classes != set(range(len(pdf_classes))):
        raise ValueError("pdf-classes of a topology entry must be contiguous and start from 0")
