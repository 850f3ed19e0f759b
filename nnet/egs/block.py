"""Many examples at a time, as a structure of arrays over the bytes of an archive.

Python objects, one per example, would cost more than training on it does on a GPU. Here a block of
examples is the bytes that were read and arrays that say where each example lies in them. To select,
repeat and shuffle examples is to index an array. Labels and input are looked into only when they
are asked for, for all examples of one layout together; of the input, only the rows that are needed
are decompressed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nnet.egs.record import (
    Layout,
    LayoutTable,
    Strings,
    available_context,
    scatter,
    scatter_strings,
    windows,
)
from nnet.errors import NgtrainError
from nnet.io import matrices

ALL_FRAMES = -1

RECORD = np.dtype(
    [
        ("buffer", "i4"),  # which buffer it is in
        ("begin", "i8"),  # where in it the key begins,
        ("body", "i8"),  # the example goes on after its key,
        ("end", "i8"),  # and the next record begins
        ("layout", "i4"),  # number in the table of layouts
        ("frame", "i4"),  # the labelled frame that was selected, or ALL_FRAMES
    ]
)

# Elements that are decompressed at a time, so that intermediate results stay in the cache.
_DECODE_SIZE = 1 << 17
# After <Lab2>, every number is a byte of 4 and its four bytes.
_NUMBER = np.dtype([("size", "u1"), ("value", "<i4")])


@dataclass(eq=False)
class ExampleBlock:
    """A sequence of examples.

    Attributes:
        layouts: the layouts that were met so far; one table is shared by all blocks of a reader.
        buffers: bytes of archives in Kaldi's binary form.
        records: RECORD (n,), where the examples are in the buffers. They may come in any order and
            more than once.
    """

    layouts: LayoutTable
    buffers: list[bytes | memoryview]
    records: np.ndarray

    @classmethod
    def over(
        cls, layouts: LayoutTable, data: bytes | memoryview, **places: np.ndarray
    ) -> ExampleBlock:
        """Make a block of examples in one buffer; places are begin, body, end, layout of RECORD."""
        records = np.zeros(len(places["begin"]), RECORD)
        for name, place in places.items():
            records[name] = place
        records["frame"] = ALL_FRAMES
        return cls(layouts, [data], records)

    @classmethod
    def scan(cls, layouts: LayoutTable, data: bytes) -> tuple[ExampleBlock, int]:
        """Find the examples of known layouts from the start of `data`, and where the last ends."""
        begin, body, layout = layouts.scan(data)
        block = cls.over(layouts, data, begin=begin[:-1], body=body, end=begin[1:], layout=layout)
        return block, int(begin[-1])

    @classmethod
    def encode(
        cls, layouts: LayoutTable, keys: Strings, groups: Iterable[EncodedExamples]
    ) -> ExampleBlock:
        """Make a block of new examples from their keys and their parts, each in one of `groups`."""
        groups = list(groups)
        size = keys.size + 1
        layout = np.empty(len(size), np.int32)
        for group in groups:
            layout[group.indices] = layouts.number(group.layout)
            size[group.indices] += len(group.layout.prefix) + group.layout.dtype.itemsize
            if not group.layout.simple:
                size[group.indices] += group.label_texts.size
        end = np.cumsum(size)
        begin, body = end - size, end - size + keys.size + 1
        data = np.empty(size.sum(), np.uint8)
        scatter_strings(data, begin, keys)
        data[body - 1] = ord(" ")
        for group in groups:
            scatter(data, end[group.indices] - group.layout.dtype.itemsize, group.fixed)
            if not group.layout.simple:
                prefix = np.frombuffer(group.layout.prefix, f"V{len(group.layout.prefix)}")
                scatter(data, body[group.indices], np.repeat(prefix, len(group.indices)))
                place = body[group.indices] + len(group.layout.prefix)
                scatter_strings(data, place, group.label_texts)
        return cls.over(layouts, data.data, begin=begin, body=body, end=end, layout=layout)

    @staticmethod
    def concatenate(blocks: Sequence[ExampleBlock]) -> ExampleBlock:
        """Join blocks that share their layouts; no example is copied."""
        if len(blocks) == 1:
            return blocks[0]
        buffers, records = [], []
        for block in blocks:
            moved = block.records.copy()
            moved["buffer"] += len(buffers)
            records.append(moved)
            buffers.extend(block.buffers)
        return ExampleBlock(blocks[0].layouts, buffers, np.concatenate(records))

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices) -> ExampleBlock:
        """Take the examples at `indices` (integers, a mask or a slice); no example is copied."""
        # NumPy moves plain bytes faster than structures.
        records = self.records.view(f"V{RECORD.itemsize}")[indices].view(RECORD)
        return ExampleBlock(self.layouts, self.buffers, records)

    def tidy(self) -> ExampleBlock:
        """Drop the buffers that are used by less than half, after copying the examples in them."""
        records = self.records.copy()
        size = records["end"] - records["begin"]
        used = np.bincount(records["buffer"], size, minlength=len(self.buffers))
        is_sparse = 2 * used < list(map(len, self.buffers))
        moved = is_sparse[records["buffer"]]
        kept = [self.buffers[number] for number in np.flatnonzero(~is_sparse)]
        number = np.where(is_sparse, len(kept), np.cumsum(~is_sparse) - 1)
        records["buffer"] = number[records["buffer"]]
        shift = np.cumsum(size[moved]) - size[moved] - records["begin"][moved]
        for place in ("begin", "body", "end"):
            records[place][moved] += shift
        return ExampleBlock(self.layouts, [*kept, self.take(moved).encoded()], records)

    def keys(self) -> list[bytes]:
        """Return the keys of the examples."""
        buffer, begin, body = (self.records[name] for name in ("buffer", "begin", "body"))
        return list(map(bytes, self._slices(buffer, begin, body - 1)))

    def bodies(self) -> list[bytes]:
        """Return the bytes of the examples after their keys, from \\0B on."""
        buffer, body, end = (self.records[name] for name in ("buffer", "body", "end"))
        return list(map(bytes, self._slices(buffer, body, end)))

    def encoded(self) -> bytes:
        """Join the bytes of the examples with their keys, as they stand in an archive."""
        begin, end, buffer = (self.records[name] for name in ("begin", "end", "buffer"))
        # Neighbours that were neighbours in the archive are copied together.
        starts = (begin[1:] != end[:-1]) | (buffer[1:] != buffer[:-1])
        first = np.flatnonzero(np.append(True, starts)[: len(begin)])
        last = np.append(first[1:], len(begin))[: len(first)] - 1
        return b"".join(self._slices(buffer[first], begin[first], end[last]))

    def num_frames(self) -> np.ndarray:
        """Count the labelled frames of each example, selected or not; int32 (n,)."""
        per_layout = np.array([layout.num_frames for layout in self.layouts], np.int32)
        return per_layout[self.records["layout"]]

    def by_layout(self, chosen: np.ndarray | None = None) -> Iterator[ExampleGroup]:
        """Group by layout the examples, or only those that the mask `chosen` has."""
        numbers = self.records["layout"]
        for number in distinct(numbers if chosen is None else numbers[chosen]):
            members, layout = numbers == number, self.layouts[number]
            indices = np.flatnonzero(members if chosen is None else members & chosen)
            records = self.records if len(indices) == len(self) else self.take(indices).records
            buffer, begin = records["buffer"], records["end"] - layout.dtype.itemsize
            fixed = np.empty(len(indices), f"V{layout.dtype.itemsize}")
            for k in distinct(buffer):
                there = buffer == k
                fixed[there] = windows(self.buffers[k], fixed.itemsize)[begin[there]]
            labels = []
            if not layout.simple:
                labels = self._slices(buffer, records["body"] + len(layout.prefix), begin)
            yield ExampleGroup(layout, indices, Strings.of(labels), fixed.view(layout.dtype), self)

    def is_consistent(self) -> bool:
        """True if the constant bytes of each layout are where they belong in all its examples."""
        for group in self.by_layout():
            layout, records = group.layout, self.records[group.indices]
            for name, part in layout.constants.items():
                if (group.fixed[name] != np.void(part)).any():
                    return False
            if not layout.simple:
                body = records["body"]
                prefixes = self._slices(records["buffer"], body, body + len(layout.prefix))
                if any(prefix != layout.prefix for prefix in prefixes):
                    return False
        return True

    def _slices(self, *places: np.ndarray) -> list[bytes | memoryview]:
        """Cut pieces out of the buffers: which, from where, up to where."""
        places = zip(*(place.tolist() for place in places), strict=True)
        return [self.buffers[k][i:j] for k, i, j in places]

    def select_frame(
        self, frame: int | str | np.ndarray, rng: np.random.Generator | None = None
    ) -> ExampleBlock:
        """Select one labelled frame of each example: an index, one for each, or "random".

        Examples that have no such frame are left out, as Kaldi's nnet-copy-egs does: these are the
        short ones at the ends of utterances.
        """
        if isinstance(frame, str):
            frame = rng.integers(0, self.num_frames())
        there = frame < self.num_frames()
        selected = self.take(there)
        selected.records["frame"] = np.broadcast_to(frame, there.shape)[there]
        return selected

    def sub_examples(
        self, left_context: int | None = None, right_context: int | None = None
    ) -> ExampleBlock:
        """Make new examples of the selected frames, with all of the context (None) or less of it.

        Source: the constructor of NnetExample for this, nnet2/nnet-example.cc, to the last bit.
        """
        parts = (group.sub_examples(left_context, right_context) for group in self.by_layout())
        keys = Strings.of(self.keys())
        return ExampleBlock.encode(self.layouts, keys, itertools.chain.from_iterable(parts))


class FrameLabels(NamedTuple):
    """Labels of the frames of examples, as parallel arrays in order of examples and frames."""

    example: np.ndarray  # int, index of the example
    frame: np.ndarray  # int, index of the labelled frame in it
    pdf: np.ndarray  # int32
    weight: np.ndarray  # float32

    @classmethod
    def one_each(cls, pdfs: np.ndarray) -> FrameLabels:
        """Label each frame with one pdf-id of weight one; pdfs is int32 (n, num_frames)."""
        example, frame = np.divmod(np.arange(pdfs.size), pdfs.shape[1])
        return cls(example, frame, pdfs.ravel(), np.ones(pdfs.size, np.float32))

    def of_frames(self, first: np.ndarray, num_frames: int) -> FrameLabels:
        """Take the labels of num_frames frames of example i, counted from first[i] on."""
        frame = self.frame - first[self.example]
        kept = (frame >= 0) & (frame < num_frames)
        return FrameLabels(self.example[kept], frame[kept], self.pdf[kept], self.weight[kept])

    def of_examples(self, indices: np.ndarray) -> FrameLabels:
        """Take the labels of the examples at `indices` (increasing), counted by place there."""
        place = np.searchsorted(indices, self.example)
        kept = indices[np.minimum(place, len(indices) - 1)] == self.example
        return FrameLabels(place[kept], self.frame[kept], self.pdf[kept], self.weight[kept])

    def strongest(self, shape: tuple[int, int]) -> np.ndarray:
        """Find the pdf-id of the largest weight of each frame (-1 if it has no label).

        The shape is number of examples, and of frames of each.
        """
        order = np.lexsort((-self.weight, self.frame, self.example))[::-1]
        strongest = np.full(shape, -1, np.int32)
        # When several values are assigned to one place, the last remains.
        strongest[self.example[order], self.frame[order]] = self.pdf[order]
        return strongest


@dataclass
class EncodedExamples:
    """Examples of one layout without their keys, as they stand in an archive.

    Attributes:
        layout: the layout.
        indices: their places among the examples of a block.
        label_texts: the bytes after the number of frames of `<Lab2>`; empty if labels are simple.
        fixed: layout.dtype (n,), the parts of fixed structure.
    """

    layout: Layout
    indices: np.ndarray
    label_texts: Strings
    fixed: np.ndarray


@dataclass
class ExampleGroup(EncodedExamples):
    """The examples of a block that have one layout."""

    block: ExampleBlock

    def fail(self, reason: str, index: int = 0) -> NgtrainError:
        """Make the error to raise when one of the examples is wrong."""
        key = self.block.take([self.indices[index]]).keys()[0].decode(errors="replace")
        return NgtrainError(f"{self.block.layouts.name}, key {key}: {reason} in an example")

    def selected(self) -> tuple[np.ndarray, int]:
        """Return the first selected frame of each example, and how many are: one, or all."""
        frame = self.block.records["frame"][self.indices]
        return np.maximum(frame, 0), self.layout.num_frames if frame[0] == ALL_FRAMES else 1

    def check_scale(self) -> None:
        """Raise NgtrainError if the input holds NaN or infinity."""
        right = np.isfinite(self.fixed["min_value"] + self.fixed["value_range"])
        self._check(right, "NaN or infinity")

    def input(self, first_row: np.ndarray, rows: np.ndarray) -> None:
        """Decompress rows of the input, of example i beginning with first_row[i].

        They are put into `rows`, float32 (n, num_rows, num_cols); NgtrainError for NaN or infinity.
        """
        self.check_scale()
        fixed, num_rows = self.fixed, rows.shape[1]
        size = max(_DECODE_SIZE // max(num_rows * self.layout.num_cols, 1), 1)
        for begin in range(0, len(fixed), size):
            part = slice(begin, begin + size)
            scale = fixed["min_value"][part], fixed["value_range"][part]
            codes = self._codes(first_row, num_rows, part)
            if self.layout.matrix == "CM":
                rows[part] = matrices.decode_columns(*scale, fixed["headers"][part], codes)
            else:
                rows[part] = matrices.decode_uniform(*scale, codes)

    def _codes(self, first_row: np.ndarray, num_rows: int, part=slice(None)) -> np.ndarray:
        """Gather the codes of some rows, with the axes in the order of the layout."""
        codes, first_row = self.fixed["codes"][part], first_row[part]
        each = np.arange(len(codes))
        if self.layout.matrix == "CM":
            return sliding_window_view(codes, num_rows, axis=2)[each, :, first_row]
        return sliding_window_view(codes, num_rows, axis=1)[each, first_row].swapaxes(1, 2)

    def labels(self) -> FrameLabels:
        """Decode the labels of all frames.

        Raises:
            NgtrainError: numbers of labels that do not add up, negative pdf-ids, or NaN.
        """
        if self.layout.simple:
            self._check((self.fixed["pdfs"] >= 0).all(axis=1), "a negative pdf-id")
            return FrameLabels.one_each(self.fixed["pdfs"])
        size, num_frames = len(self.fixed), self.layout.num_frames
        numbers = self.label_texts.data.view(_NUMBER)["value"]
        end = np.cumsum(self.label_texts.size // _NUMBER.itemsize)
        # The number of labels of frame t stands where the labels of frame t - 1 end.
        count, place = np.empty((2, size, num_frames), np.int64)
        here = np.concatenate([[0], end[:-1]])
        for t in range(num_frames):
            count[:, t] = numbers[np.minimum(here, end - 1)]
            place[:, t] = here + 1
            here = here + 1 + 2 * count[:, t]
            self._check((count[:, t] >= 0) & (here <= end), "wrong number of labels")
        self._check(here == end, "wrong number of labels")
        count, place = count.ravel(), place.ravel()
        owner = np.repeat(np.arange(size * num_frames), count)
        rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        place = np.repeat(place, count) + 2 * rank
        example, frame = np.divmod(owner, num_frames)
        pdf, weight = numbers[place], numbers[place + 1].view(np.float32)
        wrong = example[(pdf < 0) | ~np.isfinite(weight)]
        if len(wrong):
            raise self.fail("a negative pdf-id, or a weight that is no number", int(wrong[0]))
        return FrameLabels(example, frame, pdf, weight)

    def sub_examples(
        self, left_context: int | None, right_context: int | None
    ) -> Iterator[EncodedExamples]:
        """Make new examples of the selected frames; see :meth:`ExampleBlock.sub_examples`."""
        first, num_frames = self.selected()
        left = available_context("left", left_context, self.layout.left_context)
        right = available_context("right", right_context, self.layout.right_context)
        num_rows = left + num_frames + right
        first_row = self.layout.left_context + first - left
        layout = replace(self.layout, num_frames=num_frames, num_rows=num_rows, left_context=left)
        fields = {name: self.fixed[name] for name in ("min_value", "value_range", "spk_info")}
        if layout.matrix == "CM" and num_rows < 8:
            # The headers of the columns would outweigh so few rows: Kaldi compresses them again.
            layout = replace(layout, matrix="CM2")
            rows = np.empty((len(self.fixed), num_rows, layout.num_cols), np.float32)
            self.input(first_row, rows)
            fields |= compressed_fields("CM2", rows)
        else:
            fields["codes"] = self._codes(first_row, num_rows)
            if layout.matrix == "CM":
                fields["headers"] = self.fixed["headers"]
        labels = self.labels().of_frames(first, num_frames)
        return encode_examples(layout, self.indices, fields, labels)

    def relabelled(self, labels: FrameLabels) -> Iterator[EncodedExamples]:
        """Make new examples with other labels."""
        fields = {name: self.fixed[name] for name in self.fixed.dtype.names if name != "pdfs"}
        return encode_examples(self.layout, self.indices, fields, labels)

    def _check(self, right: np.ndarray, reason: str) -> None:
        if not right.all():
            raise self.fail(reason, int(np.argmin(right)))


def encode_examples(
    layout: Layout, indices: np.ndarray, fields: dict[str, np.ndarray], labels: FrameLabels
) -> Iterator[EncodedExamples]:
    """Make n examples that differ in their labels and values only.

    Args:
        layout: their layout but for `simple`, which is decided here for each by its labels.
        indices: (n,), their places among the examples of a block.
        fields: arrays (n, ...), the fields of `layout.dtype` but for the labels.
    """
    size, num_frames = len(indices), layout.num_frames
    owner = labels.example * num_frames + labels.frame
    count = np.bincount(owner, minlength=size * num_frames).reshape(size, num_frames)
    simple = (count == 1).all(axis=1)
    simple[labels.example[labels.weight != 1.0]] = False
    for kind in True, False:
        chosen = np.flatnonzero(simple == kind)
        if not len(chosen):
            continue
        values, own, texts = fields, labels, Strings.of([])
        if len(chosen) < size:
            values = {name: value[chosen] for name, value in fields.items()}
            own = labels.of_examples(chosen)
        if kind:
            values = values | {"pdfs": own.pdf.reshape(-1, num_frames)}
        else:
            texts = _label_texts(own, count[chosen])
        new = replace(layout, simple=kind)
        yield EncodedExamples(new, indices[chosen], texts, new.encode(values))


def _label_texts(labels: FrameLabels, count: np.ndarray) -> Strings:
    """Encode labels as they follow the number of frames of `<Lab2>`; count is (n, frames)."""
    # For each frame its number of labels, and then pdf-id and weight of each.
    after = np.cumsum(1 + 2 * count)
    numbers = np.empty(after[-1], _NUMBER)
    numbers["size"] = 4
    value = numbers["value"]
    count_place = after - 1 - 2 * count.ravel()
    is_label = np.ones(len(value), bool)
    is_label[count_place] = False
    value[count_place] = count.ravel()
    value[is_label] = np.stack([labels.pdf, labels.weight.view(np.int32)], axis=1).ravel()
    return Strings(numbers.view(np.uint8), (1 + 2 * count).sum(axis=1) * _NUMBER.itemsize)


def compressed_fields(matrix: str, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Compress input, finite float32 (n, rows, cols), to the fields of a layout, "CM" or "CM2"."""
    if matrix == "CM":
        names, values = ("headers", "codes"), matrices.encode_columns(frames)
    else:
        names, values = ("codes",), matrices.encode_uniform(frames, np.uint16)
    return dict(zip(("min_value", "value_range", *names), values, strict=True))


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Find the values that occur among small numbers, ascending.

    np.unique() would load numpy.ma, which takes as long as the rest of a short job.
    """
    return np.flatnonzero(np.bincount(numbers))
