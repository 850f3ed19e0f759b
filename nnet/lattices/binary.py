"""The binary form of lattices: OpenFst's type vector with Kaldi's weights.

After OpenFst's fst/vector-fst.h and Kaldi's fstext/lattice-weight.h.  All is made of words of 32
bits; only arcs with strings differ in their size, so that these have to be walked one by one.
"""

from __future__ import annotations

import numpy as np

from nnet.io.openfst import FstHeader
from nnet.io.streams import InputStream, OutputStream
from nnet.lattices.lattice import COMPACT_ARC, LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.strings import LabelStrings, ranges

_WORD = np.dtype("<i4")
_ARC_TYPES: dict[str, tuple[bool, np.dtype]] = {
    "lattice4": (False, np.dtype("<f4")),
    "lattice8": (False, np.dtype("<f8")),
    "compactlattice44": (True, np.dtype("<f4")),
    "compactlattice84": (True, np.dtype("<f8")),
}
"""Whether arcs have strings, and the type of costs, by the name of the arcs' type."""


def read_binary(stream: InputStream) -> Lattice | CompactLattice:
    """Read a lattice of either type, with costs of either size.

    Raises:
        NgtrainError: no lattice, truncated, or with sizes, states or costs that make no sense.
    """
    header = FstHeader.read(stream)
    if header.fst_type != "vector" or header.arc_type not in _ARC_TYPES:
        raise stream.fail(
            f"not a lattice: a transducer of type {header.fst_type} with {header.arc_type} arcs"
        )
    is_compact, cost_type = _ARC_TYPES[header.arc_type]
    read = _read_compact_lattice if is_compact else _read_lattice
    lattice = read(_Words(stream), header, cost_type)
    lattice.properties = header.properties
    try:
        return lattice.checked()
    except ValueError as error:
        raise stream.fail(str(error)) from None


class _Words:
    """A walk over the words of a stream, which reads those that it passes and none behind."""

    def __init__(self, stream: InputStream):
        self.stream = stream
        self._passed: list[bytearray] = []
        self._first = 0  # position of the view's first word
        self._view = memoryview(b"").cast("i")

    def __getitem__(self, position: int) -> int:
        """Return the word at a position that is not before those asked for until now."""
        if position - self._first >= len(self._view):
            self._go_to(position)
        return self._view[position - self._first]

    def _go_to(self, position: int) -> None:
        self._passed.append(self.stream.read_exact(_WORD.itemsize * (position - self._first)))
        ahead = self.stream.buffered(_WORD.itemsize)
        if len(ahead) < _WORD.itemsize:
            self.stream.read_exact(_WORD.itemsize)  # which says that it is truncated
        self._first = position
        self._view = ahead[: len(ahead) // _WORD.itemsize * _WORD.itemsize].cast("i")

    def count(self, position: int) -> int:
        """Return the number of 64 bits at a position, a number of arcs."""
        count = (self[position] & 0xFFFFFFFF) | self[position + 1] << 32
        if count < 0:
            raise self.stream.fail("a state of the lattice has a negative number of arcs")
        return count

    def after_string(self, position: int) -> int:
        """Return the position behind a string, which begins with its size."""
        size = self[position]
        if size < 0:
            raise self.stream.fail("a string of a negative size in the lattice")
        return position + 1 + size

    def up_to(self, end: int) -> np.ndarray:
        """Return all words before `end`, int32 (end,), from where the stream then goes on."""
        self._passed.append(self.stream.read_exact(_WORD.itemsize * (end - self._first)))
        return np.frombuffer(b"".join(self._passed), _WORD)


def _read_lattice(words: _Words, header: FstHeader, cost_type: np.dtype) -> Lattice:
    cost_size = cost_type.itemsize // _WORD.itemsize
    arc_size = 3 + 2 * cost_size
    position = 0
    states: list[int] = []
    counts: list[int] = []
    while len(states) != header.num_states:
        states.append(position)
        counts.append(words.count(position + 2 * cost_size))
        position += 2 * cost_size + 2 + arc_size * counts[-1]
    every, at_state = words.up_to(position), np.array(states, np.int64)
    count = np.array(counts, np.int64)
    at_arc = np.repeat(at_state + 2 * cost_size + 2, count)
    at_arc += arc_size * ranges(np.zeros(len(count), np.int64), count)
    arcs = np.empty(len(at_arc), LATTICE_ARC)
    arcs["ilabel"], arcs["olabel"] = every[at_arc], every[at_arc + 1]
    arcs["weight"] = _costs(every, at_arc + 2, cost_type)
    arcs["nextstate"] = every[at_arc + arc_size - 1]
    first_arc = np.concatenate(([0], np.cumsum(count)))
    return Lattice(header.start, _costs(every, at_state, cost_type), first_arc, arcs)


def _read_compact_lattice(words: _Words, header: FstHeader, cost_type: np.dtype) -> CompactLattice:
    weight_size = 2 * cost_type.itemsize // _WORD.itemsize
    position = 0
    states: list[int] = []
    counts: list[int] = []
    arc_positions: list[int] = []
    while len(states) != header.num_states:
        states.append(position)
        position = words.after_string(position + weight_size)
        counts.append(words.count(position))
        position += 2
        for _ in range(counts[-1]):
            arc_positions.append(position)
            position = words.after_string(position + 2 + weight_size) + 1
    every = words.up_to(position)
    at_state, at_arc = np.array(states, np.int64), np.array(arc_positions, np.int64)
    arc_strings = _strings(every, at_arc + 2 + weight_size)
    arcs = np.empty(len(at_arc), COMPACT_ARC)
    arcs["label"] = every[at_arc]
    if (every[at_arc] != every[at_arc + 1]).any():
        raise words.stream.fail("a compact lattice with two labels on an arc")
    arcs["weight"] = _costs(every, at_arc + 2, cost_type)
    arcs["nextstate"] = every[at_arc + 3 + weight_size + arc_strings.lengths]
    first_arc = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    final_strings = _strings(every, at_state + weight_size)
    finals = _costs(every, at_state, cost_type)
    return CompactLattice(header.start, finals, first_arc, arcs, arc_strings, final_strings)


def _costs(words: np.ndarray, positions: np.ndarray, cost_type: np.dtype) -> np.ndarray:
    """Take the pairs of costs at these positions; float32 (positions, 2)."""
    offsets = np.arange(2 * cost_type.itemsize // _WORD.itemsize)
    taken = np.ascontiguousarray(words[positions[:, None] + offsets])
    return taken.view(cost_type).astype(np.float32)


def _strings(words: np.ndarray, positions: np.ndarray) -> LabelStrings:
    """Take the strings at these positions, each behind its size."""
    sizes = words[positions].astype(np.int64)
    return LabelStrings.of_lengths(words[ranges(positions + 1, sizes)], sizes)


# Writing ------------------------------------------------------------------------------------------


def write_binary(stream: OutputStream, lattice: Lattice | CompactLattice) -> None:
    """Write a lattice as Kaldi does; a copy of one of Kaldi's has the same bytes."""
    is_compact = isinstance(lattice, CompactLattice)
    arc_type = "compactlattice44" if is_compact else "lattice4"
    header = FstHeader(
        *("vector", arc_type, lattice.start, lattice.num_states), properties=lattice.properties
    )
    header.write(stream)
    body = _compact_body(lattice) if isinstance(lattice, CompactLattice) else _body(lattice)
    stream.write(body.tobytes())


def _places(lattice, state_sizes, arc_sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out states, each with its arcs behind it: all words, and where either begin in them."""
    states = np.arange(lattice.num_states)
    state_index = lattice.first_arc[:-1] + states
    arc_index = np.arange(lattice.num_arcs) + lattice.source + 1
    sizes = np.empty(lattice.num_states + lattice.num_arcs, np.int64)
    sizes[state_index], sizes[arc_index] = state_sizes, arc_sizes
    ends = np.cumsum(sizes)
    words = np.empty(ends[-1] if len(ends) else 0, _WORD)
    return words, (ends - sizes)[state_index], (ends - sizes)[arc_index]


def _body(lattice: Lattice) -> np.ndarray:
    arc_size = LATTICE_ARC.itemsize // _WORD.itemsize
    words, at_state, at_arc = _places(lattice, 4, arc_size)
    _put_weights(words, at_state, lattice.finals)
    _put_counts(words, at_state + 2, lattice)
    arcs = np.ascontiguousarray(lattice.arcs).view(_WORD).reshape(-1, arc_size)
    words[at_arc[:, None] + np.arange(arc_size)] = arcs
    return words


def _compact_body(lattice: CompactLattice) -> np.ndarray:
    state_lengths, arc_lengths = lattice.final_strings.lengths, lattice.arc_strings.lengths
    words, at_state, at_arc = _places(lattice, 5 + state_lengths, 6 + arc_lengths)
    _put_weights(words, at_state, lattice.finals)
    _put_strings(words, at_state + 2, lattice.final_strings)
    _put_counts(words, at_state + 3 + state_lengths, lattice)
    words[at_arc] = words[at_arc + 1] = lattice.arcs["label"]
    _put_weights(words, at_arc + 2, lattice.arcs["weight"])
    _put_strings(words, at_arc + 4, lattice.arc_strings)
    words[at_arc + 5 + arc_lengths] = lattice.arcs["nextstate"]
    return words


def _put_weights(words: np.ndarray, positions: np.ndarray, weights: np.ndarray) -> None:
    words[positions[:, None] + np.arange(2)] = np.ascontiguousarray(weights, "<f4").view(_WORD)


def _put_counts(words: np.ndarray, positions: np.ndarray, lattice) -> None:
    words[positions] = np.diff(lattice.first_arc)
    words[positions + 1] = 0


def _put_strings(words: np.ndarray, positions: np.ndarray, strings: LabelStrings) -> None:
    words[positions] = strings.lengths
    words[ranges(positions + 1, strings.lengths)] = strings.values
