r"""A training example of nnet2, as an object and as bytes of an archive.

As an object it is an :class:`NnetExample`; :mod:`nnet.egs.block` reads the same archives many
examples at a time, by means of their :class:`Layout`.

The records of an archive differ in their keys and values and hardly in anything else: the number of
labelled frames, the size of the input and the left context recur. A layout is one such arrangement.
Its last `dtype.itemsize` bytes have a fixed structure, so that the ends of many records joined
together are an array of `dtype`, without a Python object for any of them; and a regular expression
recognises the records of all layouts that an archive has shown so far.

A record is written by Kaldi's table writer and NnetExample::Write:

    key, space, \0B<NnetExample>, labels, <InputFrames> matrix <LeftContext> n <SpkInfo> vector
    </NnetExample>, space

with labels `<Lab1>` n, pdf-ids when each frame has one label of weight one, else `<Lab2>` and for
each frame its number of labels and the labels. An integer is \4 (its size) and its four bytes, but
the elements of `<Lab1>` go without \4.

Source: nnet2/nnet-example.{h,cc}
"""

import logging
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nnet.io.matrices import CompressedMatrix
from nnet.io.tokens import Holder, Reader, Writer

log = logging.getLogger("ngtrain")


@dataclass
class NnetExample:
    """Consecutive labelled frames with the input around them.

    Attributes:
        labels: for each labelled frame the pairs (pdf-id, weight), usually a single [(pdf, 1.0)].
        input_frames: (left_context + frames + right_context, dim), kept compressed.
        left_context: rows of input before the one of the first labelled frame.
        spk_info: float32 (spk_dim,), often empty: features that are constant over the example, such
            as an iVector. They are appended to every row of the input.
    """

    labels: list[list[tuple[int, float]]]
    input_frames: CompressedMatrix
    left_context: int
    spk_info: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def num_frames(self) -> int:
        """Number of labelled frames."""
        return len(self.labels)

    @property
    def right_context(self) -> int:
        """Rows of input after the one of the last labelled frame."""
        return self.input_frames.shape[0] - self.left_context - self.num_frames

    @property
    def has_simple_labels(self) -> bool:
        """True if every frame has one label of weight one, so that <Lab1> can hold them."""
        return all(len(frame) == 1 and frame[0][1] == 1.0 for frame in self.labels)

    @classmethod
    def read(cls, reader: Reader) -> "NnetExample":
        """Read an example, in the present form or the old one of a single frame (<Labels>).

        Input that is not compressed, as in text, is compressed on reading, as Kaldi does.

        Raises:
            NgtrainError: no example, or one that contradicts itself.
        """
        kind = reader.expect("<NnetExample>").one_of("<Lab1>", "<Lab2>", "<Labels>")
        if kind == "<Lab1>":
            labels = [[(pdf, 1.0)] for pdf in reader.integers().tolist()]
        else:
            num_frames = reader.integer() if kind == "<Lab2>" else 1
            labels = [
                [(reader.integer(), reader.real()) for _ in range(reader.integer())]
                for _ in range(num_frames)
            ]
        input_frames = reader.expect("<InputFrames>").compressed_matrix()
        if not isinstance(input_frames, CompressedMatrix):
            if not np.isfinite(input_frames).all():
                raise reader.fail("NaN or infinity in the input of an example")
            input_frames = CompressedMatrix.compress(input_frames)
        left_context = reader.expect("<LeftContext>").integer()
        spk_info = reader.expect("<SpkInfo>").vector(np.float32)
        reader.expect("</NnetExample>")
        example = cls(labels, input_frames, left_context, spk_info)
        if not labels or left_context < 0 or example.right_context < 0:
            raise reader.fail(
                f"example of {len(labels)} labelled frames and left context {left_context} "
                f"with {input_frames.shape[0]} rows of input"
            )
        return example

    def write(self, writer: Writer) -> None:
        """Write the example in the present form; what Kaldi wrote comes out byte for byte."""
        writer.token("<NnetExample>")
        if self.has_simple_labels:
            writer.token("<Lab1>").integers([frame[0][0] for frame in self.labels])
        else:
            writer.token("<Lab2>").integer(self.num_frames)
            for frame in self.labels:
                writer.integer(len(frame))
                for pdf, weight in frame:
                    writer.integer(pdf).real(weight)
        writer.token("<InputFrames>").compressed_matrix(self.input_frames)
        writer.token("<LeftContext>").integer(self.left_context)
        writer.token("<SpkInfo>").vector(self.spk_info)
        writer.token("</NnetExample>")


_warned = set()


def available_context(side: str, requested: int | None, available: int) -> int:
    """Limit the context that is asked for to what an example has, with a warning the first time."""
    if requested is None:
        return available
    if requested > available and side not in _warned:
        _warned.add(side)
        log.warning(
            "Requested %s-context %d exceeds input %s-context %d, will not warn again.",
            *(side, requested, side, available),
        )
    return min(requested, available)


EXAMPLE = Holder(NnetExample.read, lambda writer, example: example.write(writer))

_BEGIN = b"\0B<NnetExample> "
_INT32 = struct.Struct("<bi")


@dataclass(frozen=True)
class Layout:
    """An arrangement of the bytes of an example, which many examples share.

    Attributes:
        simple: whether the labels are `<Lab1>`; their number is then fixed. `<Lab2>` has a varying
            number of them, and the part of fixed structure begins only after it.
        num_frames: number of labelled frames.
        matrix: format of the compressed input: "CM", "CM2" or "CM3".
        num_rows, num_cols: shape of the input.
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
        """Find the layout in which an example is written."""
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
        """Parts of the fixed part: bytes that are constant, (name, type, shape) of others."""
        rows, cols = self.num_rows, self.num_cols
        labels = [
            _BEGIN + b"<Lab1> " + _INT32.pack(4, self.num_frames),
            ("pdfs", "<i4", (self.num_frames,)),
        ]
        elements = {
            "CM": [("headers", "<u2", (cols, 4)), ("codes", "u1", (cols, rows))],
            "CM2": [("codes", "<u2", (rows, cols))],
            "CM3": [("codes", "u1", (rows, cols))],
        }
        return [
            *(labels if self.simple else []),
            b"<InputFrames> " + self.matrix.encode() + b" ",
            ("min_value", "<f4", ()),
            ("value_range", "<f4", ()),
            struct.pack("<ii", rows, cols),
            *elements[self.matrix],
            b"<LeftContext> " + _INT32.pack(4, self.left_context),
            b"<SpkInfo> FV " + _INT32.pack(4, self.spk_dim),
            ("spk_info", "<f4", (self.spk_dim,)),
            b"</NnetExample> ",
        ]

    @cached_property
    def dtype(self) -> np.dtype:
        """The structured type of the fixed part of a record.

        Its fields: pdfs (num_frames,) of simple labels; min_value, value_range, headers (CM only)
        and codes as :mod:`nnet.io.matrices` has them; spk_info; and the constant parts.
        """
        return np.dtype(
            [
                (f"constant{i}", f"V{len(part)}") if isinstance(part, bytes) else part
                for i, part in enumerate(self._parts)
            ]
        )

    @property
    def constants(self) -> dict[str, bytes]:
        """The fields of `dtype` that do not vary, with their bytes."""
        parts = zip(self.dtype.names, self._parts, strict=True)
        return {name: part for name, part in parts if isinstance(part, bytes)}

    @property
    def prefix(self) -> bytes:
        """The bytes between the key and the labels, unless they are part of `dtype`."""
        return b"" if self.simple else _BEGIN + b"<Lab2> " + _INT32.pack(4, self.num_frames)

    def encode(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        """Join the fields that vary, arrays (n, ...), into the fixed parts of n records."""
        records = np.empty(len(fields["codes"]), self.dtype)
        for name, part in zip(self.dtype.names, self._parts, strict=True):
            records[name] = np.void(part) if isinstance(part, bytes) else fields[name]
        return records

    @property
    def expression(self) -> bytes:
        """The regular expression of a record after its key."""
        labels = b"" if self.simple else re.escape(self.prefix) + rb"(?:\x04.{4})+"
        return labels + b"".join(
            re.escape(part) if isinstance(part, bytes) else b".{%d}" % np.dtype([part]).itemsize
            for part in self._parts
        )


class LayoutTable:
    """The layouts met in an archive so far, numbered in the order in which they were met.

    Attributes:
        name: the archive, in messages.
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
        """Return the number of a layout, which is added to the table if it is new."""
        if layout not in self._numbers:
            self._numbers[layout] = len(self._layouts)
            self._layouts.append(layout)
            self._match = None
        return self._numbers[layout]

    def scan(self, data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the records of known layouts that follow each other from the start of `data`.

        Returns:
            Where each record begins, and where the last one ends, int64 (n + 1,); where each goes
            on after its key, int64 (n,); and the numbers of their layouts, int32 (n,).
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
            group.append(found.lastindex - 2)  # group 1 is the key; layout 0 has the next
        return np.array(begin, np.int64), np.array(body, np.int64), np.array(group, np.int32)


class Strings(NamedTuple):
    """Byte strings, one after the other in one array.

    Attributes:
        data: uint8, their bytes.
        size: int64 (n,), the size of each.
    """

    data: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, strings: list[bytes]) -> "Strings":
        size = np.fromiter(map(len, strings), np.int64, len(strings))
        return cls(np.frombuffer(b"".join(strings), np.uint8), size)


def scatter(buffer: np.ndarray, begin: np.ndarray, values: np.ndarray) -> None:
    """Put the bytes of values[i] into a buffer (uint8) from begin[i] on."""
    size = values.dtype.itemsize
    if size:
        windows(buffer, size)[begin] = values.view(f"V{size}")


def scatter_strings(buffer: np.ndarray, begin: np.ndarray, strings: Strings) -> None:
    """Put string i into a buffer (uint8) from begin[i] on."""
    end = np.cumsum(strings.size)
    shift = np.repeat(begin - (end - strings.size), strings.size)
    buffer[shift + np.arange(len(shift))] = strings.data


def windows(buffer, size: int) -> np.ndarray:
    """View a buffer as all of its parts of `size` bytes, which overlap."""
    return np.ndarray(max(memoryview(buffer).nbytes - size + 1, 0), f"V{size}", buffer, strides=1)
