"""Examples as minibatches for training.

The other faces of examples: :class:`NnetExample` is one of them as an object, and
:func:`nnet.egs.archives.read_blocks` reads many at a time without looking into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.egs.archives import read_blocks
from nnet.egs.blocks import ALL_FRAMES, ExampleBlock
from nnet.egs.example import EXAMPLE, NnetExample
from nnet.egs.order import shuffled
from nnet.egs.store import read_store_shuffled, store_path
from nnet.io.compressed_frames import CompressedFrames, Part
from nnet.io.memory import keep_freed_memory

# Examples that are decompressed together, about.
_DECOMPRESS_SIZE = 1024

__all__ = ["EXAMPLE", "Minibatch", "NnetExample", "read_minibatches"]


@dataclass
class Minibatch:
    """Examples of one labelled frame each, ready to be trained on.

    Attributes:
        frames: float32 (num_examples, left_context + 1 + right_context, input_dim), the input with
            spk_info appended to every frame; or the same as CompressedFrames.
        rows, pdfs, weights: parallel arrays over labels, int32, int32 and float32: example
            rows[i] has the label pdfs[i] with weights[i]. In the order of the examples.
    """

    frames: np.ndarray | CompressedFrames
    rows: np.ndarray
    pdfs: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def split(self, size: int) -> list[Minibatch]:
        """The same examples in minibatches of `size`, the last one perhaps smaller."""
        parts = []
        for begin in range(0, len(self), size):
            labels = slice(*np.searchsorted(self.rows, [begin, begin + size]))
            frames = self.frames[begin : begin + size]
            rows = self.rows[labels] - np.int32(begin)
            parts.append(Minibatch(frames, rows, self.pdfs[labels], self.weights[labels]))
        return parts

    @staticmethod
    def concatenate(minibatches: Sequence[Minibatch]) -> Minibatch:
        """All examples of some minibatches as one; their frames must not be compressed."""
        first = np.cumsum([0, *map(len, minibatches)], dtype=np.int32)
        return Minibatch(
            np.concatenate([m.frames for m in minibatches]),
            np.concatenate([m.rows + begin for m, begin in zip(minibatches, first, strict=False)]),
            np.concatenate([m.pdfs for m in minibatches]),
            np.concatenate([m.weights for m in minibatches]),
        )


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
        rspecifier: the table, or `h5:FILE`.
        minibatch_size: number of examples of each; the last one may be smaller.
        left_context, right_context: frames of input that the network needs around a labelled one;
            what the examples have beyond is not even decompressed.
        frame: of examples with several labelled frames, the index of the one to take, or "random".
        buffer_size: if given, shuffle the examples as :func:`nnet.egs.order.shuffled` does,
            or :func:`nnet.egs.store.read_store_shuffled` those of `h5:FILE`.
        rng: for "random" and shuffling.
        compressed: leave it to the device to decompress the frames;
            nnet.device.backend.decompresses() says whether it does.
    Raises:
        NgtrainError: the table cannot be read; an example has too little context, several labelled
            frames none of which was selected, another dimension than the ones before it, or NaN.
    """
    path = store_path(rspecifier)
    if path is not None and buffer_size is not None:
        blocks = read_store_shuffled(path, buffer_size, rng)
    else:
        blocks = read_blocks(rspecifier)
    if frame is not None:
        blocks = select_frames(blocks, frame, rng)
    if path is None and buffer_size is not None:
        blocks = shuffled(blocks, buffer_size, rng)
    keep_freed_memory()
    # Small minibatches are decompressed several at a time: what a call costs is shared.
    size = minibatch_size * max(_DECOMPRESS_SIZE // minibatch_size, 1)
    for examples in _batches(blocks, size):
        whole = minibatch_of(examples, left_context, right_context, compressed)
        yield from whole.split(minibatch_size)


def select_frames(
    blocks: Iterable[ExampleBlock], frame: int | str, rng: np.random.Generator | None = None
) -> Iterator[ExampleBlock]:
    """One labelled frame of each example: of a given index, or "random"."""
    for block in blocks:
        chosen = rng.integers(0, block.num_frames()) if frame == "random" else frame
        yield block.select_frame(chosen)


def minibatch_of(
    block: ExampleBlock, left_context: int, right_context: int, compressed: bool = False
) -> Minibatch:
    """The examples of a block as a minibatch; see :func:`read_minibatches`."""
    parts, labels = [], []
    dim = None
    for indices, contents in block.by_layout():
        layout = contents.layout
        frame = block.records["frame"][indices]
        if frame[0] == ALL_FRAMES and layout.num_frames != 1:
            raise contents.fail(
                f"{layout.num_frames} labelled frames where one is expected "
                "(nnet-copy-egs --frame=N selects one)"
            )
        if layout.left_context < left_context or layout.right_context < right_context:
            raise contents.fail(
                f"left and right context {layout.left_context} and {layout.right_context}, but the "
                f"network needs {left_context} and {right_context},"
            )
        dim = dim or layout.input_dim
        if layout.input_dim != dim:
            raise contents.fail(f"dimension {layout.input_dim} instead of {dim}")
        frame = np.maximum(frame, 0)
        parts.append(Part(indices, contents, layout.left_context + frame - left_context))
        example, _, pdf, weight = contents.labels().of_frames(frame, 1)
        labels.append((indices[example], pdf, weight))
    shape = len(block), left_context + 1 + right_context, dim
    frames = (CompressedFrames.of if compressed else _decompressed)(parts, shape)
    rows, pdfs, weights = map(np.concatenate, zip(*labels, strict=True))
    order = np.argsort(rows, kind="stable")
    return Minibatch(frames, rows[order].astype(np.int32), pdfs[order], weights[order])


def _decompressed(parts: list[Part], shape: tuple[int, int, int]) -> np.ndarray:
    """The frames of parts that are together a minibatch."""
    frames = np.empty(shape, np.float32)
    for indices, contents, first_row in parts:
        num_cols = contents.layout.num_cols
        own = frames if len(parts) == 1 else np.empty((len(indices), *shape[1:]), np.float32)
        contents.input(first_row, own[:, :, :num_cols])
        own[:, :, num_cols:] = contents.fixed["spk_info"][:, None]
        if len(parts) > 1:
            frames[indices] = own
    return frames


def _batches(blocks: Iterable[ExampleBlock], size: int) -> Iterator[ExampleBlock]:
    """The same examples in blocks of `size`, the last one perhaps smaller."""
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
