"""Splicing: each output frame is several input frames, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from nnet.components.base import (
    INTEGER,
    INTEGERS,
    Component,
    ConfigLine,
    Field,
    component_type,
    format_number,
    option,
)
from nnet.components.layout import FrameLayout, runs
from nnet.device.device import Array
from nnet.io.numbers import integer
from nnet.io.tokens import Reader


def _read_left_and_right_context(reader: Reader) -> dict[str, Any]:
    left = reader.integer()
    right = reader.expect("<RightContext>").integer()
    return {"context": range(-left, right + 1)}


LONGEST_CONTEXT = 1 << 16
"""The longest context, in frames: ten minutes.  So many are added at the ends of an utterance."""


@component_type
class SpliceComponent(Component):
    """y_t = [x_{t+c_1} ... x_{t+c_n}] for a list of offsets c.

    The last `const_component_dim` columns of the input (speaker information, constant within a
    chunk) are not repeated but appended once.
    """

    fields = (
        option("input_dim", INTEGER),
        Field("context", INTEGERS, older={"<LeftContext>": _read_left_and_right_context}),
        option("const_component_dim", INTEGER, 0),
    )
    rearranges_frames = True
    needs_input = False
    needs_output = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        if "context" in line:
            context = line.take("context", INTEGERS.parse)
        else:
            left, right = line.take("left-context", integer), line.take("right-context", integer)
            context = range(-left, right + 1)
        return line.build(cls, {"context": context, **cls.configured(line)})

    def check(self) -> None:
        self.require(len(self.context) > 0, "there is no context")
        span = self.context[-1] - self.context[0]
        self.require(span < LONGEST_CONTEXT, f"a context of {span + 1} frames")
        self.context = tuple(self.context)
        self.require(self.context[0] <= 0 <= self.context[-1], "the context does not span frame 0")
        self.require(
            all(a < b for a, b in pairwise(self.context)),
            "the offsets of the context are not in ascending order",
        )
        self.require(
            0 <= self.const_component_dim < self.input_dim, "bad dimension of the constant part"
        )
        self.spliced_dim = self.input_dim - self.const_component_dim  # of what is repeated
        self.output_dim = self.spliced_dim * len(self.context) + self.const_component_dim

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "context", "".join(f"{offset} " for offset in self.context)
        if self.const_component_dim:
            yield "const_component_dim", format_number(self.const_component_dim)

    def set_layout(self, in_layout: FrameLayout, out_layout: FrameLayout) -> None:
        self._layouts = in_layout, out_layout
        self._blocks = [
            (slice(i * self.spliced_dim, (i + 1) * self.spliced_dim), sources, rows)
            for i, offset in enumerate(self.context)
            for rows, sources in runs(in_layout.offsets, out_layout.offsets, offset)
        ]
        """Columns of the output, frames of the input, frames of the output that are equal."""

    def propagate(self, x: Array, out: Array) -> None:
        in_layout, out_layout = self._layouts
        x, out = by_chunk(x, in_layout), by_chunk(out, out_layout)
        if out.shape[1:] == (1, x.shape[1] * x.shape[2]):  # all of a chunk, as it lies in memory
            out[...] = x.reshape(out.shape)
            return
        for columns, sources, rows in self._blocks:
            out[:, rows, columns] = x[:, sources, : self.spliced_dim]
        if self.const_component_dim:
            out[:, :, -self.const_component_dim :] = x[:, :1, self.spliced_dim :]

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        in_layout, out_layout = self._layouts
        derivative, out = by_chunk(derivative, out_layout), by_chunk(out, in_layout)
        out[...] = 0
        for columns, sources, rows in self._blocks:
            out[:, sources, : self.spliced_dim] += derivative[:, rows, columns]
        if self.const_component_dim:
            # Of the frames of a chunk, which are all the same here, propagate() used the first.
            constant = derivative[:, :, -self.const_component_dim :]
            constant.sum(axis=1, out=out[:, 0, self.spliced_dim :])


def by_chunk(a: Array, layout: FrameLayout) -> Array:
    """View rows as (chunks, frames, dim)."""
    return a.reshape(layout.num_chunks, len(layout.offsets), a.shape[1])
