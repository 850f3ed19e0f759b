"""What is in examples of one layout: taken out of their bytes, or made into bytes, all together."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nnet.egs.example import available_context
from nnet.egs.layout import Layout
from nnet.errors import NgtrainError
from nnet.io import compression
from nnet.io.strings import Strings

# Elements that are decompressed at a time, so that intermediate results stay in the cache.
_DECODE_SIZE = 1 << 17

# What follows <Lab2>: every number is a byte of 4 and its four bytes.
_NUMBER = np.dtype([("size", "u1"), ("value", "<i4")])


class Labels(NamedTuple):
    """Labels of the frames of examples, as parallel arrays in order of examples and frames."""

    example: np.ndarray  # int, index of the example
    frame: np.ndarray  # int, index of the labelled frame in it
    pdf: np.ndarray  # int32
    weight: np.ndarray  # float32

    def of_frames(self, first: np.ndarray, num_frames: int) -> "Labels":
        """The labels of num_frames frames from first[i] on of example i, counted from there."""
        frame = self.frame - first[self.example]
        kept = (frame >= 0) & (frame < num_frames)
        return Labels(self.example[kept], frame[kept], self.pdf[kept], self.weight[kept])

    def of_examples(self, indices: np.ndarray) -> "Labels":
        """The labels of the examples at some indices (increasing), counted by their place there."""
        place = np.searchsorted(indices, self.example)
        kept = indices[np.minimum(place, len(indices) - 1)] == self.example
        return Labels(place[kept], self.frame[kept], self.pdf[kept], self.weight[kept])

    def strongest(self, shape: tuple[int, int]) -> np.ndarray:
        """The pdf-id of the largest weight of each frame (-1 if it has no label).

        Args:
            shape: the numbers of examples and of frames of each.
        """
        order = np.lexsort((-self.weight, self.frame, self.example))[::-1]
        strongest = np.full(shape, -1, np.int32)
        # Of what is assigned to one place, the last remains.
        strongest[self.example[order], self.frame[order]] = self.pdf[order]
        return strongest


class EncodedExamples(NamedTuple):
    """Examples of one layout without their keys, as they stand in an archive.

    Attributes:
        layout: the layout.
        indices: their places among the examples of a block.
        label_texts: what follows the number of frames of `<Lab2>`; empty if the labels are simple.
        fixed: layout.dtype (n,), the parts of fixed structure.
    """

    layout: Layout
    indices: np.ndarray
    label_texts: Strings
    fixed: np.ndarray


class ExampleContents:
    """Contents of examples of one layout.

    Attributes:
        encoded: the examples as they are.
        layout, label_texts, fixed: what is in them.
        fail: makes the error to raise of a reason and, if only one is wrong, the index of it.
    """

    def __init__(self, encoded: EncodedExamples, fail: Callable[..., NgtrainError]):
        self.encoded = encoded
        self.layout = encoded.layout
        self.label_texts = encoded.label_texts
        self.fixed = encoded.fixed
        self.fail = fail

    def __len__(self) -> int:
        return len(self.fixed)

    def check_scale(self) -> None:
        """Raises NgtrainError if the input holds NaN or infinity."""
        right = np.isfinite(self.fixed["min_value"] + self.fixed["value_range"])
        self._check(right, "NaN or infinity")

    def input(self, first_row: np.ndarray, rows: np.ndarray) -> None:
        """Decompress rows of the input of each example, beginning with first_row[i].

        Args:
            first_row: (n,).
            rows: float32 (n, num_rows, num_cols), where to put them.
        Raises:
            NgtrainError: NaN or infinity.
        """
        self.check_scale()
        fixed, num_rows = self.fixed, rows.shape[1]
        size = max(_DECODE_SIZE // max(num_rows * self.layout.num_cols, 1), 1)
        for begin in range(0, len(fixed), size):
            part = slice(begin, begin + size)
            scale = fixed["min_value"][part], fixed["value_range"][part]
            codes = self._codes(first_row, num_rows, part)
            if self.layout.matrix == "CM":
                rows[part] = compression.decode_columns(*scale, fixed["headers"][part], codes)
            else:
                rows[part] = compression.decode_uniform(*scale, codes)

    def _codes(self, first_row: np.ndarray, num_rows: int, part=slice(None)) -> np.ndarray:
        """The codes of some rows, with the axes in the order of the layout."""
        codes, first_row = self.fixed["codes"][part], first_row[part]
        each = np.arange(len(codes))
        if self.layout.matrix == "CM":
            return sliding_window_view(codes, num_rows, axis=2)[each, :, first_row]
        return sliding_window_view(codes, num_rows, axis=1)[each, first_row].swapaxes(1, 2)

    def labels(self) -> Labels:
        """The labels of all frames.

        Raises:
            NgtrainError: numbers of labels that do not add up, negative pdf-ids, or NaN.
        """
        size, num_frames = len(self), self.layout.num_frames
        if self.layout.simple:
            self._check((self.fixed["pdfs"] >= 0).all(axis=1), "a negative pdf-id")
            example, frame = np.divmod(np.arange(size * num_frames), num_frames)
            pdf = self.fixed["pdfs"].ravel()
            return Labels(example, frame, pdf, np.ones(len(pdf), np.float32))
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
        return Labels(example, frame, pdf, weight)

    def sub_examples(
        self,
        first_frame: np.ndarray,
        num_frames: int,
        left_context: int | None,
        right_context: int | None,
    ) -> Iterator[EncodedExamples]:
        """New examples of some of the frames, with all of the context or less of it.

        Args:
            first_frame: (n,), the first labelled frame of each example to keep.
            num_frames: how many frames to keep.
            left_context, right_context: None for as much as there is.
        Yields:
            As :func:`encode_examples`.
        """
        left = available_context("left", left_context, self.layout.left_context)
        right = available_context("right", right_context, self.layout.right_context)
        num_rows = left + num_frames + right
        first_row = self.layout.left_context + first_frame - left
        layout = replace(self.layout, num_frames=num_frames, num_rows=num_rows, left_context=left)
        fields = {name: self.fixed[name] for name in ("min_value", "value_range", "spk_info")}
        if layout.matrix == "CM" and num_rows < 8:
            # The headers of the columns would outweigh so few rows: Kaldi compresses them again.
            layout = replace(layout, matrix="CM2")
            rows = np.empty((len(self), num_rows, layout.num_cols), np.float32)
            self.input(first_row, rows)
            fields |= compressed_fields("CM2", rows)
        else:
            fields["codes"] = self._codes(first_row, num_rows)
            if layout.matrix == "CM":
                fields["headers"] = self.fixed["headers"]
        return encode_examples(layout, fields, self.labels().of_frames(first_frame, num_frames))

    def relabelled(self, pdfs: np.ndarray) -> Iterator[EncodedExamples]:
        """The examples with other labels of weight one; pdfs is int32 (n, num_frames).

        Yields:
            As :func:`encode_examples`.
        """
        fields = {n: self.fixed[n] for n in self.layout.fields if n != "pdfs"}
        example, frame = np.divmod(np.arange(pdfs.size), pdfs.shape[1])
        labels = Labels(example, frame, pdfs.ravel(), np.ones(pdfs.size, np.float32))
        return encode_examples(self.layout, fields, labels)

    def _check(self, right: np.ndarray, reason: str) -> None:
        if not right.all():
            raise self.fail(reason, int(np.argmin(right)))


def encode_examples(
    layout: Layout, fields: dict[str, np.ndarray], labels: Labels
) -> Iterator[EncodedExamples]:
    """Make examples that differ in their labels and values only.

    Args:
        layout: their layout but for `simple`, which is decided here for each by its labels.
        fields: (n, ...), the fields of `layout.dtype` but for the labels.
        labels: their labels.
    """
    size, num_frames = len(fields["codes"]), layout.num_frames
    owner = labels.example * num_frames + labels.frame
    count = np.bincount(owner, minlength=size * num_frames).reshape(size, num_frames)
    simple = (count == 1).all(axis=1)
    simple[labels.example[labels.weight != 1.0]] = False
    for kind in True, False:
        indices = np.flatnonzero(simple == kind)
        if not len(indices):
            continue
        chosen = replace(layout, simple=kind)
        values, own = fields, labels
        if len(indices) < size:
            values = {name: value[indices] for name, value in fields.items()}
            own = labels.of_examples(indices)
        if kind:
            values = values | {"pdfs": own.pdf.reshape(-1, num_frames)}
            texts = Strings.of([])
        else:
            texts = _label_texts(own, count[indices])
        yield EncodedExamples(chosen, indices, texts, chosen.encode(values))


def _label_texts(labels: Labels, count: np.ndarray) -> Strings:
    """What follows the number of frames of `<Lab2>`; count is (n, frames), numbers of labels."""
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
    """Fields of a layout for input that is not compressed yet.

    Args:
        matrix: the layout of the matrix, "CM" or "CM2".
        frames: finite float32 (n, rows, cols).
    """
    if matrix == "CM":
        names = ("min_value", "value_range", "headers", "codes")
        return dict(zip(names, compression.encode_columns(frames), strict=True))
    names = ("min_value", "value_range", "codes")
    return dict(zip(names, compression.encode_uniform(frames, np.uint16), strict=True))
