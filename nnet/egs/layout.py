r"""How an example lies in a binary archive, as a type of NumPy and as a regular expression.

The records of an archive of examples differ in their keys and values and hardly in anything else:
the number of labelled frames, the size of the input and the left context recur. A :class:`Layout`
is one such arrangement. Its last `dtype.itemsize` bytes have a fixed structure, so that the ends of
many records joined together are an array of `dtype`, without a Python object for any of them; and a
regular expression recognises the records of all layouts that an archive has shown so far.

A record is written by Kaldi's table writer and NnetExample::Write (nnet2/nnet-example.cc):

    key, space, \0B<NnetExample>, labels, <InputFrames> matrix <LeftContext> n <SpkInfo> vector
    </NnetExample>, space

with labels `<Lab1>` n, pdf-ids when each frame has one label of weight one, else `<Lab2>` and for
each frame its number of labels and the labels. An integer is \4 (its size) and its four bytes, but
the elements of `<Lab1>` go without \4.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnet.egs.example import NnetExample

EXAMPLE_BEGIN = b"\0B<NnetExample> "
SIMPLE_LABELS = b"<Lab1> "
GENERAL_LABELS = b"<Lab2> "


def int32(*values: int) -> bytes:
    """Integers as they stand in a binary archive."""
    return b"".join([b"\4" + value.to_bytes(4, "little", signed=True) for value in values])


@dataclass(frozen=True)
class Layout:
    """An arrangement of the bytes of an example.

    Attributes:
        simple: whether the labels are `<Lab1>`; their number is then fixed. `<Lab2>` has a varying
            number of them, and the part of fixed structure begins only after it.
        num_frames: number of labelled frames.
        matrix: layout of the compressed input: "CM", "CM2" or "CM3".
        num_rows, num_cols: of the input.
        left_context: rows of the input before the one of the first labelled frame.
        spk_dim: dimension of spk_info.
    """

    simple: bool
    num_frames: int
    matrix: str
    num_rows: int
    num_cols: int
    left_context: int
    spk_dim: int

    @classmethod
    def of(cls, example: NnetExample) -> "Layout":
        """The layout in which an example is written."""
        return cls(
            example.has_simple_labels,
            example.num_frames,
            example.input_frames.layout,
            *example.input_frames.shape,
            example.left_context,
            len(example.spk_info),
        )

    @property
    def right_context(self) -> int:
        """Rows of the input after the one of the last labelled frame."""
        return self.num_rows - self.left_context - self.num_frames

    @property
    def input_dim(self) -> int:
        """Dimension of a frame together with spk_info."""
        return self.num_cols + self.spk_dim

    @property
    def _parts(self) -> list[bytes | tuple]:
        """The fixed part in order: constant bytes and (name, type, shape) of what varies."""
        rows, cols = self.num_rows, self.num_cols
        labels = [
            EXAMPLE_BEGIN + SIMPLE_LABELS + int32(self.num_frames),
            ("pdfs", "<i4", (self.num_frames,)),
        ]
        elements = {
            "CM": [("headers", "<u2", (cols, 4)), ("codes", "u1", (cols, rows))],
            "CM2": [("codes", "<u2", (rows, cols))],
            "CM3": [("codes", "u1", (rows, cols))],
        }
        shape = int32(rows)[1:] + int32(cols)[1:]
        return [
            *(labels if self.simple else []),
            b"<InputFrames> " + self.matrix.encode() + b" ",
            ("min_value", "<f4", ()),
            ("value_range", "<f4", ()),
            shape,
            *elements[self.matrix],
            b"<LeftContext> " + int32(self.left_context),
            b"<SpkInfo> FV " + int32(self.spk_dim),
            ("spk_info", "<f4", (self.spk_dim,)),
            b"</NnetExample> ",
        ]

    @cached_property
    def dtype(self) -> np.dtype:
        """The fixed part of a record as a structure.

        Fields: pdfs (num_frames,) of simple labels; min_value, value_range, headers (CM only) and
        codes as :mod:`nnet.io.compression` has them; spk_info. The constant parts are fields of
        their own.
        """
        return np.dtype(
            [
                (f"constant{i}", f"V{len(part)}") if isinstance(part, bytes) else part
                for i, part in enumerate(self._parts)
            ]
        )

    @property
    def fields(self) -> list[str]:
        """Names of the fields of `dtype` that vary."""
        return [part[0] for part in self._parts if not isinstance(part, bytes)]

    @property
    def constants(self) -> dict[str, bytes]:
        """The fields of `dtype` that do not vary, and what they hold."""
        parts = zip(self.dtype.names, self._parts, strict=True)
        return {name: part for name, part in parts if isinstance(part, bytes)}

    @property
    def prefix(self) -> bytes:
        """What stands between the key and the labels, unless it is part of `dtype`."""
        return b"" if self.simple else EXAMPLE_BEGIN + GENERAL_LABELS + int32(self.num_frames)

    def encode(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        """The fixed parts of records, dtype (n,), from all fields that vary; arrays (n, ...)."""
        records = np.empty(len(fields["codes"]), self.dtype)
        for name, part in zip(self.dtype.names, self._parts, strict=True):
            records[name] = np.void(part) if isinstance(part, bytes) else fields[name]
        return records

    @property
    def expression(self) -> bytes:
        """Regular expression of a record after its key."""
        fixed = b"".join(
            [
                re.escape(part) if isinstance(part, bytes) else b".{%d}" % np.dtype([part]).itemsize
                for part in self._parts
            ]
        )
        if self.simple:
            return fixed
        return re.escape(self.prefix) + rb"(?:\x04.{4})+" + fixed


class LayoutTable:
    """The layouts met so far, numbered in the order in which they were met.

    Attributes:
        name: what the archive is called in messages.
    """

    def __init__(self, name: str):
        self.name = name
        self._layouts: list[Layout] = []
        self._numbers: dict[Layout, int] = {}
        self._match = None

    def __getitem__(self, number: int) -> Layout:
        return self._layouts[number]

    def __iter__(self) -> Iterator[Layout]:
        return iter(self._layouts)

    def number(self, layout: Layout) -> int:
        """The number of a layout, which becomes known by this."""
        if layout not in self._numbers:
            self._numbers[layout] = len(self._layouts)
            self._layouts.append(layout)
            self._match = None
        return self._numbers[layout]

    def scan(self, data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the records of known layouts that follow each other from the start of `data`.

        Returns:
            begin: int64 (n + 1,), where each record begins, and where the last one ends.
            body: int64 (n,), where each record goes on after its key.
            layout: int32 (n,), numbers of their layouts.
        """
        begin, body, group = [0], [], []
        if self._match is None and self._layouts:
            # The empty group at the end of each alternative tells which one has matched.
            alternatives = b"|".join([known.expression + b"()" for known in self._layouts])
            self._match = re.compile(rb"(\S+) (?:" + alternatives + rb")", re.DOTALL).match
        match = self._match
        while match is not None and (found := match(data, begin[-1])):
            begin.append(found.end())
            body.append(found.end(1) + 1)
            group.append(found.lastindex)
        # Group 1 is the key; layout 0 has the next.
        return (
            np.array(begin, np.int64),
            np.array(body, np.int64),
            np.array(group, np.int32) - np.int32(2),
        )
