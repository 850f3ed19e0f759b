"""The head of transducers in OpenFst's binary form, which Kaldi's graphs and lattices begin with.

After OpenFst's fst/fst.h (FstHeader); what follows it depends on the types that it names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nnet.io.streams import InputStream, OutputStream

MAGIC = struct.pack("<i", 2125659606)
_SYMBOLS_MAGIC = struct.pack("<i", 2125658996)
_HAS_INPUT_SYMBOLS, _HAS_OUTPUT_SYMBOLS, _IS_ALIGNED = 1, 2, 4
_NUMBERS = struct.Struct("<iiQqqq")  # version, flags, properties, start, states, arcs
_VERSION = 2  # of the types vector and const
_LONGEST_STRING = 1 << 16

EXPANDED, MUTABLE = 1, 2
"""Properties that the types const (the first) and vector (both) always have."""


@dataclass(frozen=True)
class FstHeader:
    """Hold what a transducer's file says before its states.

    Attributes:
        fst_type: how states and arcs are laid out: "vector" or "const".
        arc_type: what an arc has for its weight: "standard", "lattice4", "compactlattice44".
        start: the start state, -1 when the transducer is empty.
        num_states: -1 if the file leaves that open.
        num_arcs: 0 for the type vector, which tells it for each state.
        properties: OpenFst's bits for what is known of the transducer.
        is_aligned: whether arrays begin at multiples of 16 bytes (type const).
    """

    fst_type: str
    arc_type: str
    start: int
    num_states: int
    num_arcs: int = 0
    properties: int = EXPANDED | MUTABLE
    is_aligned: bool = False

    @classmethod
    def read(cls, stream: InputStream) -> FstHeader:
        """Read it, and pass over tables of symbols behind it: labels are integers here.

        Raises:
            NgtrainError: no transducer in binary form, or a damaged header.
        """
        magic = bytes(stream.read_exact(4))
        if magic != MAGIC:
            raise stream.mismatch("a transducer in OpenFst's binary form", magic)
        fst_type, arc_type = (_string(stream).decode(errors="replace") for _ in range(2))
        version, flags, properties, start, num_states, num_arcs = _NUMBERS.unpack(
            stream.read_exact(_NUMBERS.size)
        )
        for flag in (_HAS_INPUT_SYMBOLS, _HAS_OUTPUT_SYMBOLS):
            if flags & flag:
                _skip_symbols(stream)
        is_aligned = bool(flags & _IS_ALIGNED) or version == 1
        return cls(fst_type, arc_type, start, num_states, num_arcs, properties, is_aligned)

    def write(self, stream: OutputStream) -> None:
        """Write it, without flags: not aligned, without tables of symbols."""
        stream.write(MAGIC)
        for string in self.fst_type, self.arc_type:
            stream.write(struct.pack("<i", len(string)) + string.encode())
        numbers = (self.properties, self.start, self.num_states, self.num_arcs)
        stream.write(_NUMBERS.pack(_VERSION, 0, *numbers))


def _string(stream: InputStream) -> bytes:
    (size,) = struct.unpack("<i", stream.read_exact(4))
    if not 0 <= size <= _LONGEST_STRING:
        raise stream.fail("the header of the transducer is damaged")
    return bytes(stream.read_exact(size))


def _skip_symbols(stream: InputStream) -> None:
    if bytes(stream.read_exact(4)) != _SYMBOLS_MAGIC:
        raise stream.fail("expected the symbol table of a transducer")
    _string(stream)
    _, size = struct.unpack("<qq", stream.read_exact(16))
    for _ in range(size):
        _string(stream)
        stream.read_exact(8)
