"""Sums over groups of outputs: the mixtures of "mixing-up"."""

from __future__ import annotations

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
        self.input_dim, self.output_dim = sum(self.sizes), len(self.sizes)

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self.starts = device.asarray(np.cumsum([0, *self.sizes[:-1]]))  # (output_dim,)
        self.group_of = None

    def propagate(self, x: Array, out: Array) -> None:
        self.device.sum_ranges(x, self.starts, out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        if self.group_of is None:  # not before: a damaged file may say that there are billions
            group_of = np.repeat(np.arange(self.output_dim), self.sizes)  # (input_dim,)
            self.group_of = self.device.asarray(group_of)
        self.device.xp.take(derivative, self.group_of, axis=1, out=out)
