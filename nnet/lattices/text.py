"""The text form of lattices: a line for each arc and final state, and an empty one at the end.

After Kaldi's lat/kaldi-lattice.cc (LatticeReader) and OpenFst's script/print.h.  An arc of a
`Lattice` is `from to ilabel olabel graph,acoustic`, one of a `CompactLattice`
`from to word graph,acoustic,1_2_3`; a final state is its number and such a weight.  Weights that
are zero, with empty strings, are left out.  The first line begins with the start state.
"""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from nnet.io.numbers import natural
from nnet.io.streams import InputStream, OutputStream
from nnet.lattices.lattice import COMPACT_ARC, LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.strings import LabelStrings

_COST = r"(Infinity|[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"
_WEIGHT = re.compile(f"{_COST},{_COST}")
_COMPACT_WEIGHT = re.compile(f"{_COST},{_COST},((?:[0-9]+(?:_[0-9]+)*)?)")
_NONE = (0.0, 0.0)


def read_text(stream: InputStream, is_compact: bool) -> Lattice | CompactLattice:
    """Read a lattice of either type, behind its key or token; `is_compact` is for what may be both.

    Raises:
        NgtrainError: a line is neither an arc nor a final state, truncated, or what it refers to
            is not there.
    """
    if stream.readline().strip():
        raise stream.fail("expected a lattice in text form, which begins on a line of its own")
    lines = []
    while line := stream.readline().split():
        lines.append([word.decode(errors="replace") for word in line])
    try:
        kinds = {kind for words in lines if (kind := _is_compact(words)) is not None}
        if len(kinds) == 2:
            raise ValueError("some lines are of a lattice, some of a compact lattice")
        parse = _parse_compact if (kinds or {is_compact}) == {True} else _parse
        return parse(lines).checked()
    except ValueError as error:
        raise stream.fail(f"not a lattice in text form: {error}") from None


def _is_compact(words: list[str]) -> bool | None:
    """Whether a line is of a compact lattice; None if that cannot be seen from it."""
    if len(words) == 1:
        return None
    if len(words) in (3, 5):
        return len(words) == 3
    return words[-1].count(",") == 2


class _Lines:
    """What the lines of a lattice say, arcs in their order."""

    def __init__(self, lines: list[list[str]], num_labels: int):
        self.source: list[int] = []
        self.arcs: list[tuple] = []
        self.arc_strings: list[list[int]] = []
        self.finals: dict[int, tuple[float, float]] = {}
        self.final_strings: dict[int, list[int]] = {}
        for words in lines:
            self._add(words, num_labels)
        self.start = int(lines[0][0]) if lines else -1
        self.num_states = 1 + max([-1, *self.source, *self.finals, *(a[-1] for a in self.arcs)])
        if self.num_states > 2 * len(lines):  # each is in some line, but for those of no use
            raise ValueError(f"{self.num_states} states in {len(lines)} lines")

    def _add(self, words: list[str], num_labels: int) -> None:
        state = natural(words[0])
        if len(words) in (1, 2):
            self.finals[state], self.final_strings[state] = _weight(words[1:], num_labels)
        elif len(words) - num_labels in (2, 3):
            to, *labels = map(natural, words[1 : 2 + num_labels])
            weight, string = _weight(words[2 + num_labels :], num_labels)
            self.source.append(state)
            self.arcs.append((*labels, weight, to))
            self.arc_strings.append(string)
        else:
            raise ValueError(f"neither an arc nor a final state: {' '.join(words)}")

    def final_weights(self) -> np.ndarray:
        finals = np.full((self.num_states, 2), np.inf, np.float32)
        if self.finals:
            finals[list(self.finals)] = list(self.finals.values())
        return finals


def _weight(words: list[str], num_labels: int) -> tuple[tuple[float, float], list[int]]:
    """Parse the weight that may be at the end of a line: its costs, and its string."""
    if not words:
        return _NONE, []
    match = (_WEIGHT if num_labels == 2 else _COMPACT_WEIGHT).fullmatch(words[0])
    if not match:
        raise ValueError(f"not a weight: {words[0]}")
    graph, acoustic, *string = match.groups()
    return (float(graph), float(acoustic)), _integers(string[0] if string else "")


def _integers(string: str) -> list[int]:
    return list(map(natural, string.split("_"))) if string else []


def _parse(lines: list[list[str]]) -> Lattice:
    read = _Lines(lines, num_labels=2)
    arcs = np.array(read.arcs, LATTICE_ARC)
    return Lattice.from_arcs(read.start, read.final_weights(), read.source, arcs)


def _parse_compact(lines: list[list[str]]) -> CompactLattice:
    read = _Lines(lines, num_labels=1)
    finals = [read.final_strings.get(state, []) for state in range(read.num_states)]
    return CompactLattice.from_arcs(
        *(read.start, read.final_weights(), read.source, np.array(read.arcs, COMPACT_ARC)),
        *(LabelStrings.of(read.arc_strings), LabelStrings.of(finals)),
    )


# Writing ------------------------------------------------------------------------------------------


def write_text(
    stream: OutputStream, lattice: Lattice | CompactLattice, num_digits: int = 6
) -> None:
    """Write a lattice, with so many significant digits."""
    weights = lattice.arcs["weight"].tolist()
    arcs = lattice.arcs
    if isinstance(lattice, CompactLattice):
        labels = [f"{word}" for word in arcs["label"].tolist()]
        strings, final_strings = lattice.arc_strings.lists(), lattice.final_strings.lists()
        compact = partial(_compact, num_digits)
        ends = list(map(compact, weights, strings))
        final_ends = list(map(compact, lattice.finals.tolist(), final_strings))
    else:
        labels = [f"{i}\t{o}" for i, o in arcs[["ilabel", "olabel"]].tolist()]
        pair = partial(_pair, num_digits)
        ends = list(map(pair, weights))
        final_ends = list(map(pair, lattice.finals.tolist()))
    lines = [
        f"{source}\t{to}\t{label}{end}\n"
        for source, to, label, end in zip(
            lattice.source.tolist(), arcs["nextstate"].tolist(), labels, ends, strict=True
        )
    ]
    first_arc, is_final = lattice.first_arc.tolist(), lattice.is_final.tolist()
    order = sorted(range(lattice.num_states), key=lambda state: state != lattice.start)
    parts = ["\n"]
    for state in order:
        parts += lines[first_arc[state] : first_arc[state + 1]]
        if is_final[state]:
            parts.append(f"{state}{final_ends[state]}\n")
    stream.write("".join([*parts, "\n"]).encode())


def _pair(num_digits: int, weight: list[float]) -> str:
    graph, acoustic = weight
    return f"\t{graph:.{num_digits}g},{acoustic:.{num_digits}g}" if graph or acoustic else ""


def _compact(num_digits: int, weight: list[float], string: list[int]) -> str:
    graph, acoustic = weight
    if not graph and not acoustic and not string:
        return ""
    costs = f"{graph:.{num_digits}g},{acoustic:.{num_digits}g}"
    return f"\t{costs},{'_'.join(map(str, string))}"
