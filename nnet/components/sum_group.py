"""Sums over groups of outputs: the mixtures of "mixing-up"."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from nnet.components.base import INTEGERS, Component, component_type, option
from nnet.device.device import Array, Device


@component_type
class SumGroupComponent(Component):
    """y_j = sum_{i in group j} x_i, over groups of neighbours of the given `sizes`."""

    fields = (option("sizes", INTEGERS),)
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

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self.__dict__.pop("group_of", None)
        self.__dict__.pop("starts", None)

    @cached_property
    def group_of(self) -> Array:
        """The output to which each input belongs, (input_dim,)."""
        return self.device.asarray(np.repeat(np.arange(self.output_dim), self.sizes))

    @cached_property
    def starts(self) -> Array:
        """The first input of each group, (output_dim,)."""
        return self.device.asarray(np.cumsum([0, *self.sizes[:-1]]))

    def propagate(self, x: Array, out: Array) -> None:
        self.device.sum_ranges(x, self.starts, out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.xp.take(derivative, self.group_of, axis=1, out=out)
