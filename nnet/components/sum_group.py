"""Sums over groups of outputs: the mixtures of "mixing-up"."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from nnet.components.base import INTEGERS, Component, Field, component_type
from nnet.components.layout import FrameLayout
from nnet.device.backend import Array, array_module, on_gpu, to_device


@component_type
class SumGroupComponent(Component):
    """y_j = sum_{i in group j} x_i, over groups of neighbours of the given `sizes`."""

    fields = (Field("sizes", "Sizes", INTEGERS, option="sizes"),)
    closing_tokens = ("</SumGroupComponent>", "<SumGroupComponent>")  # Kaldi once wrote the latter
    needs_input = False
    needs_output = False

    def check(self) -> None:
        self.require(len(self.sizes) > 0, "there are no groups")
        self.require(min(self.sizes) > 0, "the sizes of groups must be positive")

    @property
    def input_dim(self) -> int:
        return sum(self.sizes)

    @property
    def output_dim(self) -> int:
        return len(self.sizes)

    @cached_property
    def group_of(self) -> Array:
        """The output to which each input belongs, (input_dim,)."""
        return to_device(np.repeat(np.arange(self.output_dim), self.sizes))

    @cached_property
    def starts(self) -> Array:
        """The first input of each group, (output_dim,)."""
        return to_device(np.cumsum([0, *self.sizes[:-1]]))

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        sum_ranges(x, self.starts, out)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        array_module(derivative).take(derivative, self.group_of, axis=1, out=out)


@on_gpu("layers")
def sum_ranges(x: Array, starts: Array, out: Array) -> None:
    """Sums over ranges of columns that begin at `starts`, int64, and end where the next begins."""
    np.add.reduceat(x, starts, axis=1, out=out)
