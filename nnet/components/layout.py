"""Layouts: the frames that the rows of a matrix of activations are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FrameLayout:
    """The rows of a matrix of activations: `num_chunks` chunks, each with a row for every offset.

    A chunk is one example of a minibatch, or a whole utterance.  `offsets` are frame numbers, in
    ascending order, counted so that the first frame of the network's input is 0.  They are a
    `range` where they are contiguous; they have gaps inside a network that splices, say, frames -5,
    0 and 5 of a hidden layer, of which only the frames that are needed are computed.

    This is the ChunkInfo of Kaldi's nnet2/nnet-component.h.
    """

    num_chunks: int
    offsets: range | tuple[int, ...]

    @property
    def num_rows(self) -> int:
        return self.num_chunks * len(self.offsets)


def needed_offsets(offsets: Sequence[int], context: Sequence[int]) -> range | tuple[int, ...]:
    """Find the frames from which a component with this `context` computes `offsets`."""
    if isinstance(offsets, range) and context[-1] - context[0] + 1 == len(context):
        return range(offsets[0] + context[0], offsets[-1] + context[-1] + 1)
    needed = sorted({offset + c for offset in offsets for c in context})
    first, last = needed[0], needed[-1]
    return range(first, last + 1) if last - first + 1 == len(needed) else tuple(needed)


@functools.lru_cache(maxsize=256)
def runs(
    in_offsets: range | tuple[int, ...], out_offsets: range | tuple[int, ...], shift: int
) -> tuple[tuple[slice, slice], ...]:
    """Find the frames `out_offsets` + `shift` in the input of a chunk.

    The pairs (output rows, input rows) are slices of equal length, as long as can be.  Raises
    ValueError when the input lacks a frame.
    """
    if isinstance(in_offsets, range) and isinstance(out_offsets, range):
        first, last = (in_offsets.index(out_offsets[i] + shift) for i in (0, -1))
        return ((slice(0, len(out_offsets)), slice(first, last + 1)),)
    pairs: list[tuple[slice, slice]] = []
    for row, offset in enumerate(out_offsets):
        source = in_offsets.index(offset + shift)
        start_row, start_source = row, source
        if pairs and pairs[-1][1].stop == source:
            rows, sources = pairs.pop()
            start_row, start_source = rows.start, sources.start
        pairs.append((slice(start_row, row + 1), slice(start_source, source + 1)))
    return tuple(pairs)
