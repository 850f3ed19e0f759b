"""Weighted finite-state transducers as arrays, and the way between arrays, files and kaldifst.

kaldifst has the algorithms (composition, determinization, ...), but it opens only files by name and
shows one arc at a time.  As arrays, a graph can come from any of Kaldi's streams, damage in it is
found before a library reads beyond its end, and an operation on all arcs is one line.

The binary form is OpenFst's (fst/fst.h, fst/vector-fst.h, fst/const-fst.h); weights are costs, that
is, negated natural logarithms of probabilities ("standard" arcs, tropical semiring).
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnet.io.numbers import natural
from nnet.io.openfst import EXPANDED, MUTABLE, FstHeader
from nnet.io.streams import InputStream, OutputStream, open_input, open_output

EPSILON = 0  # the label of arcs that read (or write) nothing
ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])

_VECTOR_STATE = struct.Struct("<fq")
_CONST_STATE = np.dtype([
    ("final", "<f4"), ("first_arc", "<u4"), ("num_arcs", "<u4"),
    ("num_input_epsilons", "<u4"), ("num_output_epsilons", "<u4"),
])  # fmt: skip
_ALIGNMENT = 16


@dataclass
class ArrayFst:
    """A transducer as arrays; arcs[first_arc[s] : first_arc[s + 1]] leave state s."""

    start: int  # -1 when the transducer is empty
    finals: np.ndarray  # float32 (states,): final costs, inf where a state is not final
    first_arc: np.ndarray  # int64 (states + 1,)
    arcs: np.ndarray  # (arcs,) of dtype ARC

    @property
    def num_states(self) -> int:
        return len(self.finals)

    @property
    def source(self) -> np.ndarray:
        """State that each arc leaves; int64 (arcs,)."""
        return np.repeat(np.arange(self.num_states), np.diff(self.first_arc))

    @classmethod
    def from_arcs(
        cls, start: int, finals: ArrayLike, source: ArrayLike, arcs: ArrayLike
    ) -> ArrayFst:
        """Build a transducer from arcs in any order; those of a state keep theirs."""
        source = np.asarray(source, np.int64)
        order = np.argsort(source, kind="stable")
        counts = np.bincount(source, minlength=len(finals))
        first_arc = np.concatenate(([0], np.cumsum(counts)))
        return cls(start, np.asarray(finals, np.float32), first_arc, np.asarray(arcs, ARC)[order])

    # --- kaldifst ---------------------------------------------------------------------------------

    @classmethod
    def from_kaldifst(cls, fst) -> ArrayFst:
        """Convert any kaldifst transducer."""
        import kaldifst

        with scratch_file() as path:
            kaldifst.StdConstFst(fst).write(path)
            return cls.load(path)

    def to_kaldifst(self):
        """Convert to a `kaldifst.StdVectorFst`."""
        import kaldifst

        return kaldifst.StdVectorFst(self.to_const_kaldifst())

    def to_const_kaldifst(self):
        """Convert to a `kaldifst.StdConstFst`, which is smaller and faster but cannot change."""
        import kaldifst

        with scratch_file() as path:
            with open(path, "wb") as file:
                self.write(file, const=True)
            return kaldifst.StdConstFst.read(path)

    # --- Files ------------------------------------------------------------------------------------

    @classmethod
    def load(cls, rxfilename: str) -> ArrayFst:
        """Read a transducer of type vector or const; NgtrainError when it is damaged or missing."""
        with open_input(rxfilename) as stream:
            return cls.read(stream)

    def save(self, wxfilename: str, const: bool = False) -> None:
        with open_output(wxfilename) as stream:
            self.write(stream, const)

    @classmethod
    def read(cls, stream: InputStream) -> ArrayFst:
        """Read from a stream that stands at the header of a binary transducer.

        Raises NgtrainError: no transducer, truncated, of a kind other than vector or const, with
        arcs to states that it does not have, negative labels, or costs that are none.
        """
        header = FstHeader.read(stream)
        if header.arc_type != "standard" or header.fst_type not in ("vector", "const"):
            raise stream.fail(
                f"cannot read a transducer of type {header.fst_type} with {header.arc_type} arcs: "
                "convert it with fstconvert"
            )
        read_body = _read_vector_body if header.fst_type == "vector" else _read_const_body
        finals, first_arc, arcs = read_body(stream, header)
        try:
            return cls(header.start, finals, first_arc, arcs).checked()
        except ValueError as error:
            raise stream.fail(str(error)) from None

    @classmethod
    def parse(cls, text: str) -> ArrayFst:
        """Read OpenFst's text form, with the numbers of states as they are.

        A line is an arc, `from to ilabel olabel [cost]`, or a final state, `state [cost]`; the
        first one begins with the start state.  Raises ValueError if a line is none of these, or the
        numbers of states have large gaps.
        """
        source, arcs, finals = [], [], {}
        lines = [words for line in text.splitlines() if (words := line.split())]
        for words in lines:
            state = natural(words[0])
            cost = float(words.pop()) if len(words) in (2, 5) else 0.0
            if len(words) == 4:
                to, ilabel, olabel = map(natural, words[1:])
                source.append(state)
                arcs.append((ilabel, olabel, cost, to))
            elif len(words) == 1:
                finals[state] = cost
            else:
                raise ValueError(f"neither an arc nor a final state: {' '.join(words)}")
        start = int(lines[0][0]) if lines else -1
        num_states = 1 + max([-1, *source, *finals, *(to for *_, to in arcs)])
        if num_states > 2 * len(lines):  # each state is in some line, but for those of no use
            raise ValueError(f"{num_states} states in {len(lines)} lines")
        final_costs = np.full(num_states, np.inf, np.float32)
        final_costs[list(finals)] = list(finals.values())
        return cls.from_arcs(start, final_costs, source, arcs).checked()

    def checked(self) -> ArrayFst:
        """Return the transducer; ValueError if a library could not be trusted with it."""
        states, arcs = self.num_states, self.arcs
        next_states, costs = arcs["nextstate"], np.concatenate([self.finals, arcs["weight"]])
        if not -1 <= self.start < states or ((next_states < 0) | (next_states >= states)).any():
            raise ValueError("the transducer refers to a state that it does not have")
        if (arcs["ilabel"] < 0).any() or (arcs["olabel"] < 0).any():
            raise ValueError("the transducer has negative labels")
        if not (costs > -np.inf).all():
            raise ValueError("the transducer has costs that are NaN or minus infinity")
        return self

    def write(self, stream: OutputStream, const: bool = False) -> None:
        """Write as OpenFst's type const, or vector (the one for archives)."""
        header = FstHeader(
            "const" if const else "vector",
            *("standard", self.start, self.num_states),
            num_arcs=len(self.arcs) if const else 0,
            properties=EXPANDED if const else EXPANDED | MUTABLE,
        )
        header.write(stream)
        stream.write(self._const_body() if const else self._vector_body())

    def _const_body(self) -> bytes:
        states = np.zeros(self.num_states, _CONST_STATE)
        states["final"] = self.finals
        states["first_arc"] = self.first_arc[:-1]
        states["num_arcs"] = np.diff(self.first_arc)
        for field, label in ("num_input_epsilons", "ilabel"), ("num_output_epsilons", "olabel"):
            epsilons = self.source[self.arcs[label] == EPSILON]
            states[field] = np.bincount(epsilons, minlength=self.num_states)
        return states.tobytes() + self.arcs.tobytes()

    def _vector_body(self) -> bytes:
        arcs, pieces = self.arcs.tobytes(), []
        for final, (begin, end) in zip(
            self.finals.tolist(), pairwise(self.first_arc.tolist()), strict=True
        ):
            pieces.append(_VECTOR_STATE.pack(final, end - begin))
            pieces.append(arcs[begin * ARC.itemsize : end * ARC.itemsize])
        return b"".join(pieces)


def _read_vector_body(stream: InputStream, header: FstHeader) -> tuple:
    num_states = header.num_states
    finals, counts, arcs = [], [], []
    # Type vector may leave the number of states open: then they go on to the end of the stream.
    while len(finals) != num_states and (num_states >= 0 or stream.peek(1)):
        final, count = _VECTOR_STATE.unpack(stream.read_exact(_VECTOR_STATE.size))
        if count < 0:
            raise stream.fail("a state of the transducer has a negative number of arcs")
        finals.append(final)
        counts.append(count)
        arcs.append(stream.read_exact(count * ARC.itemsize))
    first_arc = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    return np.array(finals, np.float32), first_arc, np.frombuffer(bytearray().join(arcs), ARC)


def _read_const_body(stream: InputStream, header: FstHeader) -> tuple:
    num_states, num_arcs = header.num_states, header.num_arcs
    if num_states < 0 or num_arcs < 0:
        raise stream.fail("the header of the transducer is damaged")

    def read_array(count: int, dtype: np.dtype) -> np.ndarray:
        if header.is_aligned:
            stream.read_exact(-stream.tell() % _ALIGNMENT)
        return np.frombuffer(stream.read_exact(count * dtype.itemsize), dtype)

    states, arcs = read_array(num_states, _CONST_STATE), read_array(num_arcs, ARC)
    first_arc = np.concatenate(([0], np.cumsum(states["num_arcs"], dtype=np.int64)))
    if first_arc[-1] != num_arcs or (states["first_arc"] != first_arc[:-1]).any():
        raise stream.fail("the arcs of the transducer do not belong to its states")
    return states["final"].copy(), first_arc, arcs


@contextlib.contextmanager
def scratch_file() -> Iterator[str]:
    """Make a file to hand a transducer over to or from kaldifst: in memory where the system can."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fst")
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            yield file.name


class FstHolder:
    """The form of transducers in tables (Kaldi's VectorFstHolder), such as training graphs."""

    def read(self, stream: InputStream) -> ArrayFst:
        if stream.peek(1) != b"\n":
            return ArrayFst.read(stream)
        stream.readline()
        lines = []
        while (line := stream.readline()).strip():
            lines.append(line)
        try:
            return ArrayFst.parse(b"".join(lines).decode())
        except ValueError as error:
            raise stream.fail(f"expected a transducer in text form: {error}") from None

    def write(self, stream: OutputStream, value: ArrayFst, binary: bool) -> None:
        if binary:
            value.write(stream)
        else:
            text = value.to_kaldifst().to_str(fst_field_separator="\t")
            stream.write(f"\n{text}\n".encode())


FST: Any = FstHolder()
