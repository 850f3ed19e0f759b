"""Functions of several frames at once: splicing, which puts them side by side, and maxima.

Source: Kaldi's nnet2/nnet-component.cc.
"""

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
    SameDimComponent,
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


class ContextComponent(Component):
    """A component that computes a frame of several, at the offsets `context` from it."""

    context_field = Field(
        "context", INTEGERS, older={"<LeftContext>": _read_left_and_right_context}
    )
    rearranges_frames = True

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
        super().check()

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "context", "".join(f"{offset} " for offset in self.context)

    def set_layout(self, in_layout: FrameLayout, out_layout: FrameLayout) -> None:
        self._layouts = in_layout, out_layout
        self._blocks = [
            (i, sources, rows)
            for i, offset in enumerate(self.context)
            for rows, sources in runs(in_layout.offsets, out_layout.offsets, offset)
        ]
        """The number of an offset, frames of the input, frames of the output that it is for."""


@component_type
class SpliceComponent(ContextComponent):
    """y_t = [x_{t+c_1} ... x_{t+c_n}] for a list of offsets c.

    The last `const_component_dim` columns of the input (speaker information, constant within a
    chunk in training) are not repeated but appended once.  Where they vary, as i-vectors of a whole
    utterance do, the k-th frame of the output has those of the k-th of the input, as in Kaldi.
    """

    fields = (
        option("input_dim", INTEGER),
        ContextComponent.context_field,
        option("const_component_dim", INTEGER, 0),
    )
    needs_input = False
    needs_output = False

    def check(self) -> None:
        self.require(
            0 <= self.const_component_dim < self.input_dim, "bad dimension of the constant part"
        )
        self.spliced_dim = self.input_dim - self.const_component_dim  # of what is repeated
        self.output_dim = self.spliced_dim * len(self.context) + self.const_component_dim
        super().check()

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        if self.const_component_dim:
            yield "const_component_dim", format_number(self.const_component_dim)

    def propagate(self, x: Array, out: Array) -> None:
        in_layout, out_layout = self._layouts
        x, out = by_chunk(x, in_layout), by_chunk(out, out_layout)
        if out.shape[1:] == (1, x.shape[1] * x.shape[2]):  # all of a chunk, as it lies in memory
            out[...] = x.reshape(out.shape)
            return
        for i, sources, rows in self._blocks:
            out[:, rows, self._columns(i)] = x[:, sources, : self.spliced_dim]
        if self.const_component_dim:
            out[:, :, -self.const_component_dim :] = x[:, : out.shape[1], self.spliced_dim :]

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        in_layout, out_layout = self._layouts
        derivative, out = by_chunk(derivative, out_layout), by_chunk(out, in_layout)
        out[...] = 0
        for i, sources, rows in self._blocks:
            out[:, sources, : self.spliced_dim] += derivative[:, rows, self._columns(i)]
        if self.const_component_dim:
            constant = derivative[:, :, -self.const_component_dim :]
            out[:, : derivative.shape[1], self.spliced_dim :] = constant

    def _columns(self, i: int) -> slice:
        """Return the columns of the output that are for the i-th offset."""
        return slice(i * self.spliced_dim, (i + 1) * self.spliced_dim)


@component_type
class SpliceMaxComponent(ContextComponent, SameDimComponent):
    """y_t = max_c x_{t+c}, for each dimension, over a list of offsets c."""

    fields = (
        option("dim", INTEGER),
        ContextComponent.context_field,
    )

    def propagate(self, x: Array, out: Array) -> None:
        in_layout, out_layout = self._layouts
        x, out = by_chunk(x, in_layout), by_chunk(out, out_layout)
        for i, sources, rows in self._blocks:
            if i == 0:
                out[:, rows] = x[:, sources]
            else:
                self.device.xp.maximum(out[:, rows], x[:, sources], out=out[:, rows])

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Give each derivative to the first frame that has the maximum."""
        in_layout, out_layout = self._layouts
        x, out = by_chunk(x, in_layout), by_chunk(out, in_layout)
        y, derivative = by_chunk(y, out_layout), by_chunk(derivative, out_layout)
        left = self.workspace.array("left", derivative.shape, derivative)
        given = self.workspace.array("given", derivative.shape, derivative)
        left[...] = derivative
        out[...] = 0
        for _, sources, rows in self._blocks:
            self.device.xp.equal(x[:, sources], y[:, rows], out=given[:, rows])
            given[:, rows] *= left[:, rows]
            left[:, rows] -= given[:, rows]
            out[:, sources] += given[:, rows]


def by_chunk(a: Array, layout: FrameLayout) -> Array:
    """View rows as (chunks, frames, dim)."""
    return a.reshape(layout.num_chunks, len(layout.offsets), a.shape[1])
