"""Noise that is added in training, and taken out of a model (nnet-am-copy --remove-dropout) after.

Drawn from `rng`, so that a training run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnet.backend import Array, array_module, to_device
from nnet.components.base import INTEGER, REAL, Component, Field, component_type, format_number
from nnet.components.layout import FrameLayout


class NoiseComponent(Component):
    """A function of as many outputs as inputs, with a random part."""

    dim: int
    needs_input = False
    needs_output = False
    in_place = True
    cycle_length = 0  # random numbers come from the host

    def __init__(self, **values: Any):
        super().__init__(**values)
        self.rng = np.random.default_rng(0)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


@component_type
class DropoutComponent(NoiseComponent):
    """y_i = m_i x_i, with random m_i of mean one.

    A proportion `dropout_proportion` of the m_i equal `dropout_scale`, the others what makes up
    for it.
    """

    fields = (
        Field("dim", "Dim", INTEGER, option="dim"),
        Field("dropout_scale", "DropoutScale", REAL, option="dropout-scale", default=0.0),
        Field(
            "dropout_proportion",
            "DropoutProportion",
            REAL,
            option="dropout-proportion",
            default=0.5,
        ),
    )

    def check(self) -> None:
        super().check()
        self.require(0 <= self.dropout_proportion < 1, "the dropout-proportion is not in [0, 1)")
        self.require(0 <= self.dropout_scale <= 1, "the dropout-scale is not in [0, 1]")

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "dropout_proportion ", f" {format_number(self.dropout_proportion)}"
        yield "dropout_scale ", f" {format_number(self.dropout_scale)}"

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        xp = array_module(x)
        mask = self.workspace.array("mask", x.shape, x)
        is_dropped = self.rng.random(x.shape, dtype=np.float32) < self.dropout_proportion
        dropped = self.dropout_proportion * self.dropout_scale
        other_scale = (1 - dropped) / (1 - self.dropout_proportion)
        mask[...] = xp.where(to_device(is_dropped), self.dropout_scale, other_scale)
        xp.multiply(x, mask, out=out)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        mask = self.workspace.array("mask", derivative.shape, derivative)
        array_module(derivative).multiply(derivative, mask, out=out)


@component_type
class AdditiveNoiseComponent(NoiseComponent):
    """y_i = x_i + n_i, with Gaussian noise n_i of standard deviation `stddev`."""

    fields = (
        Field("dim", "Dim", INTEGER, option="dim"),
        Field("stddev", "Stddev", REAL, option="stddev", default=1.0),
    )

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        noise = self.stddev * self.rng.standard_normal(x.shape, dtype=np.float32)
        array_module(x).add(x, to_device(noise), out=out)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        out[...] = derivative
