"""Elementwise nonlinearities, and the statistics that they keep of themselves."""

from __future__ import annotations

import numpy as np

from nnet.backend import Array, Workspace, array_module, in_row_blocks, row_blocks
from nnet.components.base import DOUBLE, INTEGER, STATISTICS, Component, Field, component_type
from nnet.components.layout import FrameLayout


class NonlinearComponent(Component):
    """A nonlinearity of as many outputs as inputs.

    While it is trained it sums up, in float64, what diagnostics want to know: `value_sum` of its
    outputs, `deriv_sum` of its derivatives, over `count` frames.  Those never seen are empty.
    """

    fields = (
        Field("dim", "Dim", INTEGER, option="dim"),
        Field("value_sum", "ValueSum", STATISTICS, default=np.zeros(0)),
        Field("deriv_sum", "DerivSum", STATISTICS, default=np.zeros(0)),
        Field("count", "Count", DOUBLE, default=0.0),
    )

    def check(self) -> None:
        super().check()
        self.require(
            {len(self.value_sum), len(self.deriv_sum)} <= {0, self.dim},
            "the statistics have another dimension than the component",
        )

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim

    def store_statistics(self, y: Array, to: NonlinearComponent) -> None:
        """Add the output `y`, (rows, dim), of a minibatch to the statistics in `to`.

        `to` is the component itself, or its counterpart in a gradient.
        """

    def add_statistics(self, value_sum: Array, deriv_sum: Array | None, count: int) -> None:
        """Add sums over `count` frames, each (dim,)."""
        if len(self.value_sum) == 0 or (deriv_sum is not None and len(self.deriv_sum) == 0):
            self.count = 0.0
            self.value_sum = array_module(value_sum).zeros(self.dim, np.float64)
            if deriv_sum is not None:
                self.deriv_sum = self.value_sum.copy()
        self.value_sum += value_sum
        if deriv_sum is not None:
            self.deriv_sum += deriv_sum
        self.count += count

    def scale(self, a: float) -> None:
        self.value_sum = self.value_sum * a
        self.deriv_sum = self.deriv_sum * a
        self.count *= a

    def add(self, a: float, other: NonlinearComponent) -> None:
        for name in ("value_sum", "deriv_sum"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if len(theirs):
                setattr(self, name, a * theirs if len(mine) == 0 else mine + a * theirs)
        self.count += a * other.count


class ElementwiseComponent(NonlinearComponent):
    """y_i = f(x_i), with a derivative that follows from y."""

    needs_input = False
    in_place = True

    def derivative_of(self, y: Array, out: Array) -> None:
        """Compute f' where f is `y`."""
        raise NotImplementedError

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        def multiply_by_slope(rows: slice, scratch: Workspace) -> None:
            slope = scratch.array("slope", y[rows].shape, y)
            self.derivative_of(y[rows], slope)
            array_module(y).multiply(derivative[rows], slope, out=out[rows])

        in_row_blocks(multiply_by_slope, y)

    def store_statistics(self, y: Array, to: NonlinearComponent) -> None:
        for rows in row_blocks(y):
            slope = self.workspace.array("slope", y[rows].shape, y)
            self.derivative_of(y[rows], slope)
            to.add_statistics(y[rows].sum(axis=0), slope.sum(axis=0), len(slope))


@component_type
class SigmoidComponent(ElementwiseComponent):
    """y = 1 / (1 + e^{-x})."""

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        xp = array_module(x)

        def sigmoid(rows: slice, scratch: Workspace) -> None:
            y = out[rows]
            xp.negative(x[rows], out=y)
            with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
                xp.exp(y, out=y)
            y += 1
            xp.reciprocal(y, out=y)

        in_row_blocks(sigmoid, x)

    def derivative_of(self, y: Array, out: Array) -> None:
        """y (1 - y)."""
        xp = array_module(y)
        xp.subtract(1, y, out=out)
        out *= y


@component_type
class TanhComponent(ElementwiseComponent):
    """y = tanh(x)."""

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        in_row_blocks(lambda rows, _: array_module(x).tanh(x[rows], out=out[rows]), x)

    def derivative_of(self, y: Array, out: Array) -> None:
        """1 - y^2."""
        xp = array_module(y)
        xp.multiply(y, y, out=out)
        xp.subtract(1, out, out=out)


@component_type
class RectifiedLinearComponent(ElementwiseComponent):
    """y = max(x, 0)."""

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        in_row_blocks(lambda rows, _: array_module(x).maximum(x[rows], 0, out=out[rows]), x)

    def derivative_of(self, y: Array, out: Array) -> None:
        """1 where y is positive, else 0."""
        array_module(y).greater(y, 0, out=out)
