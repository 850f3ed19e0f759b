"""Affine functions side by side: a matrix of blocks along its diagonal.

Source: Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from nnet.components.affine import (
    AffineStep,
    NaturalGradientStep,
    check_bias,
    random_parameters,
    take_dims,
)
from nnet.components.base import (
    BOOLEAN,
    INTEGER,
    MATRIX,
    REAL,
    VECTOR,
    Component,
    ConfigLine,
    Field,
    component_type,
    option,
    single,
)
from nnet.device.device import Array, Device
from nnet.natural_gradient.simple import SimplePreconditioner


@component_type
class BlockAffineComponent(AffineStep):
    """y_k = W_k x_k + b_k, for `num_blocks` parts x_k of the input and y_k of the output.

    `linear_params` (output, input / blocks) has the W_k one below the other, `bias_params`
    (output,) the b_k.  They are trained by plain stochastic gradient ascent.  Options of a config
    line are those of AffineComponent, but for ``matrix``.
    """

    trained_fields: ClassVar[tuple[Field, ...]] = (
        option("learning_rate", REAL, single(0.001), label="learning-rate"),
        option("num_blocks", INTEGER),
        Field("linear_params", MATRIX),
        Field("bias_params", VECTOR),
    )
    fields = trained_fields
    needs_output = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        values = cls.configured(line)
        (input_dim, output_dim), num_blocks = take_dims(line), values["num_blocks"]
        if num_blocks <= 0 or input_dim % num_blocks or output_dim % num_blocks:
            raise line.fail(f"{num_blocks} blocks do not divide both dimensions")
        shape = output_dim, input_dim // num_blocks
        return line.build(cls, values | random_parameters(line, rng, input_dim, shape))

    def check(self) -> None:
        self.require(self.linear_params.size > 0, "W is empty")
        check_bias(self)
        (num_rows, num_columns), num_blocks = self.linear_params.shape, self.num_blocks
        self.require(
            num_blocks > 0 and num_rows % num_blocks == 0,
            f"W has {num_rows} rows, which do not make {num_blocks} blocks",
        )
        self.block_shape = num_blocks, num_rows // num_blocks, num_columns
        self.input_dim, self.output_dim = num_blocks * num_columns, num_rows

    def propagate(self, x: Array, out: Array) -> None:
        num_blocks, output_dim, _ = self.block_shape
        products = self.workspace.array("y", (num_blocks, len(x), output_dim), x)
        for x_k, W_k, y_k in zip(self._parts(x, "x"), self._matrices(), products, strict=True):
            self.device.matmul(x_k, W_k.T, out=y_k)
        bias = self.bias_params.reshape(num_blocks, output_dim)
        self.device.xp.add(products.swapaxes(0, 1), bias, out=self._by_part(out))

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        parts = self._parts(derivative, "derivative")
        num_blocks, _, input_dim = self.block_shape
        products = self.workspace.array("below", (num_blocks, len(out), input_dim), out)
        for d_k, W_k, below_k in zip(parts, self._matrices(), products, strict=True):
            self.device.matmul(d_k, W_k, out=below_k)
        self._by_part(out)[...] = products.swapaxes(0, 1)

    def update(self, x: Array, y: Array, derivative: Array) -> None:
        for block in self._blocks(x, derivative, self):
            self.step(*block)

    def add_gradient(self, x: Array, y: Array, derivative: Array, to: Component) -> None:
        for block in self._blocks(x, derivative[: len(x)], to):
            self.add_outer_products(1.0, *block)

    def _blocks(
        self, x: Array, derivative: Array, to: Component
    ) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Yield x_k, its derivative (both scratch), and W_k and b_k of the component `to`."""
        bias = to.bias_params.reshape(self.num_blocks, -1)
        parts = self._parts(x, "x"), self._parts(derivative, "derivative")
        yield from zip(*parts, to._matrices(), bias, strict=True)

    def _matrices(self) -> Array:
        """View W as (blocks, output, input)."""
        return self.linear_params.reshape(self.block_shape)

    def _by_part(self, a: Array) -> Array:
        """View (rows, dim) as (rows, blocks, dim of a block)."""
        return a.reshape(len(a), self.num_blocks, a.shape[1] // self.num_blocks)

    def _parts(self, a: Array, name: str) -> Array:
        """Copy (rows, dim) to (blocks, rows, dim of a block), in scratch memory."""
        parts = self._by_part(a).swapaxes(0, 1)
        copy = self.workspace.array(f"parts of {name}", parts.shape, a)
        copy[...] = parts
        return copy


@component_type
class BlockAffineComponentPreconditioned(NaturalGradientStep, BlockAffineComponent):
    """Affine functions side by side, each trained with the simple natural gradient.

    See nnet.natural_gradient.simple.
    """

    fields = (
        *BlockAffineComponent.trained_fields,
        option("alpha", REAL, 4.0),
        Field("is_gradient", BOOLEAN, default=False),
    )

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self.preconditioners = tuple(SimplePreconditioner(self.alpha, device) for _ in range(2))
