"""The p-norm nonlinearity (Zhang et al., "Improving deep neural network acoustic models using
generalized maxout networks", ICASSP 2014)."""

from __future__ import annotations

import math

import numpy as np

from nnet.components.base import INTEGER, REAL, Component, ConfigLine, Field, component_type
from nnet.components.layout import FrameLayout
from nnet.device.backend import Array, Workspace, array_module, in_row_blocks, matmul, on_gpu


@component_type
class PnormComponent(Component):
    """y_j = (sum_{i in group j} |x_i|^p)^{1/p}, over groups of neighbours of equal size.

    p = 0 counts what is not zero, p = inf takes the largest magnitude (matrix/kaldi-vector.cc).
    """

    fields = (
        Field("input_dim", "InputDim", INTEGER, option="input-dim"),
        Field("output_dim", "OutputDim", INTEGER, option="output-dim"),
        Field("p", "P", REAL, option="p", default=2.0, label="p"),
    )
    info_equals = " = "

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        values = cls.configured(line)
        values["input_dim"] = values["input_dim"] or 10 * values["output_dim"]
        return line.build(cls, values)

    def check(self) -> None:
        super().check()
        self.require(
            self.input_dim % self.output_dim == 0,
            f"output-dim={self.output_dim} does not divide input-dim={self.input_dim}",
        )
        self.require(self.p >= 0, f"p={self.p:g} is negative")

    @property
    def cycle_length(self) -> int:
        return 1 if self.p == 2 else 0

    @property
    def group_size(self) -> int:
        return self.input_dim // self.output_dim

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        if self.p == 2:
            pnorm2(x, out)
        else:
            in_row_blocks(lambda rows, scratch: self._norms(x[rows], out[rows], scratch), x)

    def _norms(self, x: Array, out: Array, scratch: Workspace) -> None:
        """What propagate() does, for some of the rows."""
        xp = array_module(x)
        powers = scratch.array("powers", x.shape, x)
        xp.absolute(x, out=powers)
        groups = self._by_group(powers)
        if self.p == 1:
            sum_groups(powers, out)
        elif self.p == 0:
            sum_groups((powers > 0).astype(x.dtype), out)
        elif self.p == math.inf:
            groups.max(axis=-1, out=out)
        else:
            # Divided by the largest of its group, no power overflows.
            largest = groups.max(axis=-1)
            groups /= xp.where(largest > 0, largest, 1)[:, :, None]
            xp.power(powers, self.p, out=powers)
            sum_groups(powers, out)
            xp.power(out, 1 / self.p, out=out)
            out *= largest

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        """dy_j/dx_i = sign(x_i) (|x_i| / y_j)^{p-1}, and zero where x_i is zero."""
        if self.p == 2:
            pnorm2_backward(x, y, derivative, out)
        else:
            in_row_blocks(
                lambda rows, _: self._derivatives(
                    *(array[rows] for array in (x, y, derivative, out))
                ),
                x,
            )

    def _derivatives(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """What backpropagate() does, for some of the rows."""
        xp = array_module(x)
        groups, d_x = self._by_group(x), self._by_group(out)
        xp.sign(x, out=out)
        if self.p == 0:
            out[...] = 0
        elif self.p == math.inf:
            d_x *= xp.absolute(groups) == y[:, :, None]
        elif self.p != 1:
            magnitudes = xp.absolute(groups)
            magnitudes /= xp.where(y > 0, y, 1)[:, :, None]
            magnitudes[groups == 0] = 1
            d_x *= xp.power(magnitudes, self.p - 1, out=magnitudes)
        d_x *= derivative[:, :, None]

    def _by_group(self, a: Array) -> Array:
        """(rows, input_dim) as (rows, groups, members), without a copy."""
        return a.reshape(len(a), self.output_dim, self.group_size)


@on_gpu("layers")
def pnorm2(x: Array, out: Array) -> None:
    """Euclidean norms of groups of neighbours, as many as there are columns of `out`."""

    def norms(rows: slice, scratch: Workspace) -> None:
        squares = scratch.array("squares", x[rows].shape, x)
        np.multiply(x[rows], x[rows], out=squares)
        sum_groups(squares, out[rows])
        np.sqrt(out[rows], out=out[rows])

    in_row_blocks(norms, x)


@on_gpu("layers")
def pnorm2_backward(x: Array, y: Array, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input of pnorm2(), whose output was `y`."""
    by_group = *y.shape, x.shape[1] // y.shape[1]

    def derivatives(rows: slice, scratch: Workspace) -> None:
        ratio = scratch.array("ratio", y[rows].shape, y)
        np.maximum(y[rows], np.finfo(y.dtype).tiny, out=ratio)
        np.divide(derivative[rows], ratio, out=ratio)
        groups, d_x = (a.reshape(by_group)[rows] for a in (x, out))
        np.multiply(groups, ratio[:, :, None], out=d_x)

    in_row_blocks(derivatives, x)


def sum_groups(a: Array, out: Array) -> None:
    """Sums over groups of neighbours in each row of `a`, as many as `out` has columns.

    As a product with a vector of ones, because sums over so few numbers are slow otherwise.
    """
    size = a.shape[1] // out.shape[1]
    ones = array_module(a).ones((size, 1), a.dtype)
    matmul(a.reshape(-1, size), ones, out=out.reshape(-1, 1))
