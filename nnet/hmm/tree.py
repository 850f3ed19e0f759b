"""Phonetic-context decision trees, which map a window of phones and a pdf-class to a pdf-id.

The file format and the lookups are those of Kaldi's tree/event-map.{h,cc} and
tree/context-dep.{h,cc}.  An *event* is a dictionary from a key (a position in the phone window, or
`PDF_CLASS`) to a value (the phone there, or the pdf-class).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nnet.io.tokens import Stored

PDF_CLASS = -1
"""The key of an event under which its pdf-class stands."""

WIDEST_CONTEXT = 100
"""More phones than a decision ever looked at; there are tables of such size."""

Event = Mapping[int, int]


@dataclass(frozen=True)
class Leaf:
    """An answer (a pdf-id) to every event (`ConstantEventMap`)."""

    answer: int

    def lookup(self, event: Event) -> int | None:
        return self.answer

    def answers(self, event: Event) -> Iterator[int]:
        yield self.answer

    def write(self, writer) -> None:
        writer.token("CE").integer(self.answer)


@dataclass(frozen=True)
class Table:
    """A branch per value of `key`; None where a value has no answer (`TableEventMap`)."""

    key: int
    branches: tuple[Node | None, ...]

    def _branch(self, value: int) -> Node | None:
        return self.branches[value] if 0 <= value < len(self.branches) else None

    def lookup(self, event: Event) -> int | None:
        branch = self._branch(event[self.key]) if self.key in event else None
        return None if branch is None else branch.lookup(event)

    def answers(self, event: Event) -> Iterator[int]:
        branches = [self._branch(event[self.key])] if self.key in event else self.branches
        for branch in branches:
            if branch is not None:
                yield from branch.answers(event)

    def write(self, writer) -> None:
        writer.token("TE").integer(self.key).unsigned(len(self.branches)).token("(")
        for branch in self.branches:
            if branch is None:
                writer.token("NULL")
            else:
                branch.write(writer)
        writer.token(")").newline()


@dataclass(frozen=True)
class Split:
    """A question, whether the value of `key` belongs to `yes_set` (`SplitEventMap`)."""

    key: int
    yes_set: tuple[int, ...]
    yes: Node
    no: Node
    _members: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_members", frozenset(self.yes_set))

    def lookup(self, event: Event) -> int | None:
        if self.key not in event:
            return None
        return (self.yes if event[self.key] in self._members else self.no).lookup(event)

    def answers(self, event: Event) -> Iterator[int]:
        if self.key not in event or event[self.key] in self._members:
            yield from self.yes.answers(event)
        if self.key not in event or event[self.key] not in self._members:
            yield from self.no.answers(event)

    def write(self, writer) -> None:
        writer.token("SE").integer(self.key).integers(self.yes_set).token("{")
        self.yes.write(writer)
        self.no.write(writer)
        writer.token("}").newline()


Node = Leaf | Table | Split


def _read_node(reader) -> Node | None:
    kind = reader.one_of("CE", "TE", "SE", "NULL")
    if kind == "NULL":
        return None
    if kind == "CE":
        return Leaf(reader.integer())
    key = reader.integer()
    if kind == "TE":
        size = reader.unsigned()
        reader.expect("(")
        branches = tuple(_read_node(reader) for _ in range(size))
        reader.expect(")")
        return Table(key, branches)
    yes_set = tuple(reader.integers().tolist())
    reader.expect("{")
    yes, no = _read_node(reader), _read_node(reader)
    reader.expect("}")
    if yes is None or no is None:
        raise reader.fail("a question of the tree lacks one of its branches")
    return Split(key, yes_set, yes, no)


class ContextDependency(Stored):
    """A decision tree over windows of `context_width` phones around `central_position`."""

    def __init__(self, context_width: int, central_position: int, root: Node):
        if not 0 <= central_position < context_width:
            raise ValueError(
                f"central position {central_position} lies outside a window of {context_width}"
            )
        if context_width > WIDEST_CONTEXT:
            raise ValueError(f"a context of {context_width} phones")
        self.context_width = context_width
        self.central_position = central_position
        self.root = root
        self.num_pdfs = 1 + max(root.answers({}), default=-1)

    def compute(self, phone_window: Sequence[int], pdf_class: int) -> int | None:
        """Find the pdf-id of `pdf_class` of the central phone; None when the tree has no answer.

        `phone_window` holds `context_width` phones, 0 where the window reaches past an end of the
        utterance.
        """
        if len(phone_window) != self.context_width:
            raise ValueError(f"expected {self.context_width} phones, got {len(phone_window)}")
        return self.root.lookup({PDF_CLASS: pdf_class, **dict(enumerate(phone_window))})

    def pdfs_of(self, phone: int, pdf_class: int) -> list[int]:
        """List the pdf-ids that `pdf_class` of `phone` can have, over all contexts."""
        event = {self.central_position: phone, PDF_CLASS: pdf_class}
        return sorted(set(self.root.answers(event)))

    def pdf_pairs_of(
        self, phone: int, forward_class: int, self_loop_class: int, phones: Sequence[int]
    ) -> list[tuple[int, int]]:
        """List the pairs (pdf of `forward_class`, of `self_loop_class`) that a context can give.

        Contexts are enumerated, nearest position to the centre first, only as far as they matter
        (ContextDependency::EnumeratePairs).  `phones` are the phones of the topology.
        """
        pairs: set[tuple[int, int]] = set()
        free = [i for i in range(self.context_width) if i != self.central_position]
        free.sort(key=lambda position: (abs(position - self.central_position), position))

        def enumerate_contexts(context: dict[int, int], free: list[int]) -> None:
            forward = set(self.root.answers({**context, PDF_CLASS: forward_class}))
            self_loop = set(self.root.answers({**context, PDF_CLASS: self_loop_class}))
            if len(forward) == 1 or len(self_loop) == 1 or not free:
                pairs.update((f, s) for f in forward for s in self_loop)
            else:
                for neighbour in (0, *phones):
                    enumerate_contexts({**context, free[0]: neighbour}, free[1:])

        enumerate_contexts({self.central_position: phone}, free)
        return sorted(pairs)

    @classmethod
    def read(cls, reader) -> ContextDependency:
        """Parse a tree, text or binary; NgtrainError when it is malformed."""
        try:
            reader.expect("ContextDependency")
            context_width, central_position = reader.integer(), reader.integer()
            if reader.one_of("ToLength", "ToPdf") == "ToLength":
                _read_node(reader)  # trees of Kaldi's early days also told the number of states
                reader.expect("ToPdf")
            root = _read_node(reader)
            reader.expect("EndContextDependency")
            if root is None:
                raise reader.fail("the tree is empty")
            return cls(context_width, central_position, root)
        except RecursionError:
            raise reader.fail("the tree is nested too deeply") from None
        except ValueError as error:
            raise reader.fail(str(error)) from None

    def write(self, writer) -> None:
        writer.token("ContextDependency")
        writer.integer(self.context_width).integer(self.central_position).token("ToPdf")
        self.root.write(writer)
        writer.token("EndContextDependency")


def map_leaves(node: Node, replacement: Mapping[int, Node]) -> Node:
    """Put other nodes in place of leaves, given by their answers (EventMap::Copy)."""
    if isinstance(node, Leaf):
        return replacement.get(node.answer, node)
    if isinstance(node, Split):
        yes, no = map_leaves(node.yes, replacement), map_leaves(node.no, replacement)
        return Split(node.key, node.yes_set, yes, no)
    branches = (branch and map_leaves(branch, replacement) for branch in node.branches)
    return Table(node.key, tuple(branches))


@dataclass(frozen=True)
class RootPhones:
    """Phones that share the root of a tree, as a line of roots.int has them.

    Attributes:
        phones: sorted.
        shared: whether their pdf-classes share it, too.
        split: whether there may be questions below it.
    """

    phones: tuple[int, ...]
    shared: bool
    split: bool


def root_map(
    roots: Sequence[RootPhones], num_pdf_classes: Mapping[int, int], central_position: int
) -> tuple[Node, int]:
    """Map each set of phones to a leaf of its own, or to one for each of its pdf-classes.

    The shape, and so the numbering of leaves, is that of GetStubMap in Kaldi's
    tree/build-tree-utils.cc.

    Args:
        num_pdf_classes: how many pdf-classes each phone has (`HmmTopology.num_pdf_classes`).
    Returns:
        the map, and the number of its leaves.
    Raises:
        ValueError: phones that have no topology, or are in two roots, or in none.
    """
    phones = [phone for root in roots for phone in root.phones]
    if not roots or not all(root.phones for root in roots) or len(set(phones)) != len(phones):
        raise ValueError("phone sets must be disjoint and not empty")
    if not set(phones) <= set(num_pdf_classes):
        raise ValueError(f"no topology for phone {min(set(phones) - set(num_pdf_classes))}")
    leaves = itertools.count()

    def map_of(roots: Sequence[RootPhones]) -> Node:
        if len(roots) == 1:
            if roots[0].shared:
                return Leaf(next(leaves))
            size = max(num_pdf_classes[phone] for phone in roots[0].phones)
            return Table(PDF_CLASS, tuple(Leaf(next(leaves)) for _ in range(size)))
        highest = max(phone for root in roots for phone in root.phones)
        if max(len(root.phones) for root in roots) == 1 and len(roots) <= 2 * highest:
            branch = {root.phones[0]: map_of([root]) for root in roots}
            return Table(central_position, tuple(branch.get(p) for p in range(highest + 1)))
        half = len(roots) // 2
        first = tuple(sorted(phone for root in roots[:half] for phone in root.phones))
        yes = map_of(roots[:half])
        return Split(central_position, first, yes, map_of(roots[half:]))

    return map_of(roots), next(leaves)


def monophone_tree(
    phone_sets: Iterable[Iterable[int]], num_pdf_classes: Mapping[int, int]
) -> ContextDependency:
    """Make a tree without context: every set of phones has its own pdfs, one per pdf-class.

    The sets are disjoint; `num_pdf_classes` says how many each phone has.
    Source: Kaldi's MonophoneContextDependencyShared.
    """
    roots = [RootPhones(tuple(sorted(s)), shared=False, split=False) for s in phone_sets]
    return ContextDependency(1, 0, root_map(roots, num_pdf_classes, 0)[0])
