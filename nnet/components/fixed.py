"""Linear functions that are given, not trained: feature transforms, scales from priors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnet.components.affine import AffineFunction, read_affine_matrix
from nnet.components.base import (
    MATRIX,
    VECTOR,
    Component,
    ConfigLine,
    Field,
    SameDimComponent,
    component_type,
    format_number,
)
from nnet.device.device import Array
from nnet.io.tokens import read_object


@component_type
class FixedAffineComponent(AffineFunction):
    """y = W x + b; in a config line ``matrix=FILE`` names the file of [W b]."""

    fields = (
        Field("linear_params", MATRIX),
        Field("bias_params", VECTOR),
    )
    needs_input = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        return line.build(cls, read_affine_matrix(line))


@component_type
class FixedScaleComponent(SameDimComponent):
    """y_i = s_i x_i; in a config line ``scales=FILE`` names the file of the vector s."""

    fields = (Field("scales", VECTOR),)
    dim = property(lambda self: len(self.scales))
    needs_input = False
    needs_output = False
    in_place = True

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        filename = line.take("scales", str)
        scales = read_object(filename, lambda reader: reader.vector(np.float32))
        return line.build(cls, {"scales": scales})

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "scales-mean", format_number(float(self.scales.mean(dtype=np.float64)))
        yield "scales-stddev", format_number(float(self.scales.std(dtype=np.float64)))

    def propagate(self, x: Array, out: Array) -> None:
        self.device.xp.multiply(x, self.scales, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.xp.multiply(derivative, self.scales, out=out)
