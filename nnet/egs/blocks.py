"""Many examples at a time, as a structure of arrays over the bytes of an archive.

Python objects, one per example, would cost more than training on it does on a GPU. Here a block of
examples is the bytes that were read and arrays that say where each example lies in them. To select,
repeat and shuffle examples is to index an array; the input is decompressed only when it is asked
for, only the rows that are needed, for all examples of one layout together.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nnet.egs.contents import EncodedExamples, ExampleContents
from nnet.egs.layout import Layout, LayoutTable
from nnet.errors import NgtrainError
from nnet.io.strings import Strings, gather, scatter, scatter_strings

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


class ExampleBlock:
    """A sequence of examples.

    Attributes:
        layouts: the layouts that were met so far; one table is shared by all blocks of a reader.
        buffers: bytes of archives in Kaldi's binary form.
        records: RECORD (n,), where the examples are in the buffers. They may come in any order and
            more than once.
    """

    def __init__(
        self, layouts: LayoutTable, buffers: list[bytes | memoryview], records: np.ndarray
    ):
        self.layouts = layouts
        self.buffers = buffers
        self.records = records

    @classmethod
    def scan(cls, layouts: LayoutTable, data: bytes) -> tuple["ExampleBlock", int]:
        """The examples of known layouts that follow each other from the start of `data`.

        Returns:
            The block, and where its last example ends.
        """
        begin, body, layout = layouts.scan(data)
        return cls(layouts, [data], records_of(begin[:-1], body, begin[1:], layout)), int(begin[-1])

    @classmethod
    def encode(
        cls, layouts: LayoutTable, keys: Strings, groups: Iterable[EncodedExamples]
    ) -> "ExampleBlock":
        """A block of new examples, from their keys and their parts, which are all in some group."""
        groups = list(groups)
        size = keys.size + 1
        layout = np.empty(len(size), np.int32)
        for group in groups:
            layout[group.indices] = layouts.number(group.layout)
            size[group.indices] += len(group.layout.prefix) + group.layout.dtype.itemsize
            if not group.layout.simple:
                size[group.indices] += group.label_texts.size
        end = np.cumsum(size)
        begin = end - size
        body = begin + keys.size + 1
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
        return cls(layouts, [data.data], records_of(begin, body, end, layout))

    @staticmethod
    def concatenate(blocks: Sequence["ExampleBlock"]) -> "ExampleBlock":
        """Blocks that share their layouts, one after the other; no example is copied."""
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

    def take(self, indices) -> "ExampleBlock":
        """The examples at `indices` (integers, a mask or a slice); no example is copied."""
        # NumPy moves plain bytes faster than structures.
        records = self.records.view(f"V{RECORD.itemsize}")[indices].view(RECORD)
        return ExampleBlock(self.layouts, self.buffers, records)

    def tidy(self) -> "ExampleBlock":
        """The same examples, without the buffers of which they are less than half.

        What is left of these is moved together into a new one.
        """
        records = self.records.copy()
        size = records["end"] - records["begin"]
        used = np.bincount(records["buffer"], size, minlength=len(self.buffers))
        is_sparse = 2 * used < list(map(len, self.buffers))
        moved = is_sparse[records["buffer"]]
        kept = [
            buffer for buffer, sparse in zip(self.buffers, is_sparse, strict=True) if not sparse
        ]
        number = np.where(is_sparse, len(kept), np.cumsum(~is_sparse) - 1)
        records["buffer"] = number[records["buffer"]]
        shift = np.cumsum(size[moved]) - size[moved] - records["begin"][moved]
        for place in ("begin", "body", "end"):
            records[place][moved] += shift
        return ExampleBlock(self.layouts, [*kept, self.take(moved).encoded()], records)

    # Looking into it ------------------------------------------------------------------------------

    def keys(self) -> list[bytes]:
        """The keys of the examples."""
        records = self.records
        slices = self._slices(records["buffer"], records["begin"], records["body"] - 1)
        return list(map(bytes, slices))

    def bodies(self) -> list[bytes]:
        """What stands after the keys, from \\0B on."""
        slices = self._slices(*(self.records[name] for name in ("buffer", "body", "end")))
        return list(map(bytes, slices))

    def encoded(self) -> bytes:
        """The examples with their keys, whole, as they stand in an archive."""
        begin, end, buffer = (self.records[name] for name in ("begin", "end", "buffer"))
        # Neighbours that were neighbours in the archive are copied together.
        starts = (begin[1:] != end[:-1]) | (buffer[1:] != buffer[:-1])
        first = np.flatnonzero(np.append(True, starts)[: len(begin)])
        last = np.append(first[1:], len(begin))[: len(first)] - 1
        return b"".join(self._slices(buffer[first], begin[first], end[last]))

    def num_frames(self) -> np.ndarray:
        """Number of labelled frames of each example, whether selected or not; int32 (n,)."""
        per_layout = np.array([layout.num_frames for layout in self.layouts], np.int32)
        return per_layout[self.records["layout"]]

    def by_layout(self) -> Iterator[tuple[np.ndarray, ExampleContents]]:
        """For each layout the indices of the examples that have it, and what is in them."""
        for number in distinct(self.records["layout"]):
            indices = np.flatnonzero(self.records["layout"] == number)
            group = self if len(indices) == len(self) else self.take(indices)
            yield indices, ExampleContents(group._encoded(self.layouts[number]), group._fail)

    def is_consistent(self) -> bool:
        """Whether what is the same in all examples of a layout is there, where it should be."""
        for indices, contents in self.by_layout():
            layout, records = contents.layout, self.records[indices]
            for name, part in layout.constants.items():
                if (contents.fixed[name] != np.void(part)).any():
                    return False
            if not layout.simple:
                body = records["body"]
                prefixes = self._slices(records["buffer"], body, body + len(layout.prefix))
                if any(prefix != layout.prefix for prefix in prefixes):
                    return False
        return True

    def _encoded(self, layout: Layout) -> EncodedExamples:
        """What is in the examples, all of which have the same layout."""
        records = self.records
        begin = records["end"] - layout.dtype.itemsize
        fixed = np.empty(len(self), f"V{layout.dtype.itemsize}")
        for number in distinct(records["buffer"]):
            members = records["buffer"] == number
            fixed[members] = gather(self.buffers[number], begin[members], fixed.itemsize)
        labels = []
        if not layout.simple:
            labels = self._slices(records["buffer"], records["body"] + len(layout.prefix), begin)
        indices = np.arange(len(self))
        return EncodedExamples(layout, indices, Strings.of(labels), fixed.view(layout.dtype))

    def _slices(
        self, buffer: np.ndarray, begin: np.ndarray, end: np.ndarray
    ) -> list[bytes | memoryview]:
        if len(self.buffers) == 1:
            data = self.buffers[0]
            return [data[i:j] for i, j in zip(begin.tolist(), end.tolist(), strict=True)]
        places = zip(buffer.tolist(), begin.tolist(), end.tolist(), strict=True)
        return [self.buffers[k][i:j] for k, i, j in places]

    def _fail(self, reason: str, index: int = 0) -> NgtrainError:
        key = self.keys()[index].decode(errors="replace")
        return NgtrainError(f"{self.layouts.name}, key {key}: {reason} in an example")

    # Parts of examples ----------------------------------------------------------------------------

    def select_frame(self, frame: int | np.ndarray) -> "ExampleBlock":
        """One labelled frame of each example: the one of index `frame`, or `frame[i]` of example i.

        Examples that have no such frame are left out, as Kaldi's nnet-copy-egs does: these are the
        short ones at the ends of utterances.
        """
        there = frame < self.num_frames()
        selected = self.take(there)
        selected.records["frame"] = np.broadcast_to(frame, there.shape)[there]
        return selected

    def sub_examples(
        self, left_context: int | None = None, right_context: int | None = None
    ) -> "ExampleBlock":
        """New examples of the frames that were selected, with all of the context or less of it.

        To the last bit what Kaldi's constructor for this gives (nnet2/nnet-example.cc).

        Args:
            left_context, right_context: None for as much as there is.
        """

        def groups():
            for indices, contents in self.by_layout():
                frame = self.records["frame"][indices]
                num_frames = contents.layout.num_frames if frame[0] == ALL_FRAMES else 1
                first = np.maximum(frame, 0)
                for part in contents.sub_examples(first, num_frames, left_context, right_context):
                    yield part._replace(indices=indices[part.indices])

        return ExampleBlock.encode(self.layouts, Strings.of(self.keys()), groups())


def records_of(
    begin: np.ndarray, body: np.ndarray, end: np.ndarray, layout: np.ndarray
) -> np.ndarray:
    """RECORD (n,) of examples in one buffer, with all of their frames."""
    records = np.zeros(len(begin), RECORD)
    records["begin"] = begin
    records["body"] = body
    records["end"] = end
    records["layout"] = layout
    records["frame"] = ALL_FRAMES
    return records


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The values that occur among small numbers, ascending.

    np.unique() would load numpy.ma, which takes as long as the rest of a short job.
    """
    return np.flatnonzero(np.bincount(numbers))
