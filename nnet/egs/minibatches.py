"""Minibatches for training: examples with one labelled frame each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.device.gathered_frames import GatheredFrames
from nnet.egs.block import ExampleBlock, ExampleGroup
from nnet.egs.tables import keep_freed_memory, read_frames
from nnet.io.compressed_frames import CompressedFrames

# Number of examples that are decompressed together, roughly.
_DECOMPRESS_SIZE = 1024
# Formats of matrices in the order of their numbers in nnet/device/cuda/decompress.cu.
_FORMATS = ("CM", "CM2", "CM3")


@dataclass
class Minibatch:
    """Examples of one labelled frame each, ready to be trained on.

    Attributes:
        frames: float32 (num_examples, left_context + 1 + right_context, input_dim), the input with
            spk_info appended to every frame; or the same as CompressedFrames or GatheredFrames.
        rows, pdfs, weights: parallel arrays over labels, int32, int32 and float32: example
            rows[i] has the label pdfs[i] with weights[i]. In the order of the examples.
    """

    frames: np.ndarray | CompressedFrames | GatheredFrames
    rows: np.ndarray
    pdfs: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def split(self, size: int) -> list[Minibatch]:
        """Divide into minibatches of `size`, the last one perhaps smaller."""
        parts = []
        for begin in range(0, len(self), size):
            labels = slice(*np.searchsorted(self.rows, [begin, begin + size]))
            frames = self.frames[begin : begin + size]
            rows = self.rows[labels] - np.int32(begin)
            parts.append(Minibatch(frames, rows, self.pdfs[labels], self.weights[labels]))
        return parts


def read_minibatches(
    rspecifier: str,
    minibatch_size: int,
    left_context: int,
    right_context: int,
    *,
    frame: int | str | None = None,
    buffer_size: int | None = None,
    rng: np.random.Generator | None = None,
    compressed: bool = False,
) -> Iterator[Minibatch]:
    """Read a table of examples as minibatches.

    Args:
        minibatch_size: number of examples of each; the last one may be smaller.
        left_context, right_context: frames of input that the network needs around a labelled one;
            further frames of the examples are not even decompressed.
        frame, buffer_size, rng: see :func:`nnet.egs.tables.read_frames`.
        compressed: leave it to the device to decompress the frames;
            Device.takes_compressed_frames says whether it does.
    Raises:
        NgtrainError: the table cannot be read; an example has too little context, several labelled
            frames none of which was selected, another dimension than the ones before it, or NaN.
    """
    blocks = read_frames(rspecifier, frame, buffer_size, rng)
    keep_freed_memory()
    # Small minibatches are decompressed several at a time, to share the cost of a call.
    size = minibatch_size * max(_DECOMPRESS_SIZE // minibatch_size, 1)
    for examples in _batches(blocks, size):
        whole = minibatch_of(examples, left_context, right_context, compressed)
        yield from whole.split(minibatch_size)


def minibatch_of(
    block: ExampleBlock, left_context: int, right_context: int, compressed: bool = False
) -> Minibatch:
    """Make a minibatch of the examples of a block; see :func:`read_minibatches`."""
    parts, labels = [], []
    dim = None
    for group in block.by_layout():
        layout = group.layout
        frame, num_frames = group.selected()
        if num_frames != 1:
            raise group.fail(
                f"{num_frames} labelled frames where one is expected "
                "(nnet-copy-egs --frame=N selects one)"
            )
        if layout.left_context < left_context or layout.right_context < right_context:
            raise group.fail(
                f"left and right context {layout.left_context} and {layout.right_context}, but the "
                f"network needs {left_context} and {right_context},"
            )
        dim = dim or layout.input_dim
        if layout.input_dim != dim:
            raise group.fail(f"dimension {layout.input_dim} instead of {dim}")
        parts.append((group, layout.left_context + frame - left_context))
        example, _, pdf, weight = group.labels().of_frames(frame, 1)
        labels.append((group.indices[example], pdf, weight))
    shape = len(block), left_context + 1 + right_context, dim
    frames = (_compressed if compressed else _decompressed)(parts, shape)
    rows, pdfs, weights = map(np.concatenate, zip(*labels, strict=True))
    order = np.argsort(rows, kind="stable")
    return Minibatch(frames, rows[order].astype(np.int32), pdfs[order], weights[order])


_Parts = Sequence[tuple[ExampleGroup, np.ndarray]]
"""The groups of a minibatch, and the first of the rows that it takes of each example's input."""


def _decompressed(parts: _Parts, shape: tuple[int, int, int]) -> np.ndarray:
    """Decompress the rows that a minibatch takes."""
    frames = np.empty(shape, np.float32)
    for group, first_row in parts:
        num_cols = group.layout.num_cols
        own = frames if len(parts) == 1 else np.empty((len(first_row), *shape[1:]), np.float32)
        group.input(first_row, own[:, :, :num_cols])
        own[:, :, num_cols:] = group.fixed["spk_info"][:, None]
        if len(parts) > 1:
            frames[group.indices] = own
    return frames


def _compressed(parts: _Parts, shape: tuple[int, int, int]) -> CompressedFrames:
    """Gather the rows that a minibatch takes as they stand in its examples."""
    places = np.empty((shape[0], 7), np.int32)
    data = []
    for group, first_row in parts:
        group.check_scale()
        layout = group.layout
        where = [layout.dtype.fields[name][1] for name in ("min_value", "codes", "spk_info")]
        form = _FORMATS.index(layout.matrix)
        places[group.indices] = [form, layout.num_rows, layout.num_cols, 0, *where]
        places[group.indices, 3] = first_row
        data.append(group.fixed.view(np.uint8).reshape(len(first_row), -1))
    if len(parts) == 1:
        return CompressedFrames(data[0], places, shape)
    together = np.zeros((shape[0], max(own.shape[1] for own in data)), np.uint8)
    for own, (group, _) in zip(data, parts, strict=True):
        together[group.indices, : own.shape[1]] = own
    return CompressedFrames(together, places, shape)


def _batches(blocks: Iterable[ExampleBlock], size: int) -> Iterator[ExampleBlock]:
    """Divide examples into blocks of `size`, the last one perhaps smaller."""
    waiting: list[ExampleBlock] = []
    num_waiting = 0
    for block in blocks:
        begin = 0
        while num_waiting + len(block) - begin >= size:
            end = begin + size - num_waiting
            yield ExampleBlock.concatenate([*waiting, block.take(slice(begin, end))])
            waiting, num_waiting, begin = [], 0, end
        waiting.append(block.take(slice(begin, None)))
        num_waiting += len(block) - begin
    if num_waiting:
        yield ExampleBlock.concatenate(waiting)
