"""Elementwise nonlinearities, and the statistics that they keep of themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nnet.components.base import DOUBLE, INTEGER, STATISTICS, Component, Field, component_type
from nnet.components.layout import FrameLayout
from nnet.device.backend import (
    Array,
    Workspace,
    array_module,
    in_row_blocks,
    on_gpu,
    on_host,
    row_blocks,
)


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

    def add_statistics(self, y: Array, function: str | None = None) -> None:
        """Add sums over the rows of `y`, and of the slopes of `function` there, if it is given."""
        if len(self.value_sum) == 0 or (function and len(self.deriv_sum) == 0):
            self.count = 0.0
            self.value_sum = array_module(y).zeros(self.dim, np.float64)
            if function:
                self.deriv_sum = self.value_sum.copy()
        add_column_sums(y, self.value_sum, function, self.deriv_sum if function else None)
        on_host(functools.partial(self._add_to_count, len(y)))

    def _add_to_count(self, num_rows: int) -> None:
        self.count += num_rows

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

    function: ClassVar[str]
    """One of FUNCTIONS."""
    needs_input = False
    in_place = True

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        nonlinear(x, self.function, out)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        nonlinear_backward(y, self.function, derivative, out)

    def store_statistics(self, y: Array, to: NonlinearComponent) -> None:
        to.add_statistics(y, self.function)


@component_type
class SigmoidComponent(ElementwiseComponent):
    """y = 1 / (1 + e^{-x})."""

    function = "sigmoid"


@component_type
class TanhComponent(ElementwiseComponent):
    """y = tanh(x)."""

    function = "tanh"


@component_type
class RectifiedLinearComponent(ElementwiseComponent):
    """y = max(x, 0)."""

    function = "rectifier"


# The functions ------------------------------------------------------------------------------------


class Function(NamedTuple):
    """A function of one variable, computed elementwise as NumPy's ufuncs are.

    value: from x; slope: the derivative, from y, which is the value.
    """

    value: Callable[[np.ndarray, np.ndarray], Any]
    slope: Callable[[np.ndarray, np.ndarray], Any]


def _sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out=out)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
        np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)


def _sigmoid_slope(y: np.ndarray, out: np.ndarray) -> None:
    np.subtract(1, y, out=out)
    out *= y


def _tanh_slope(y: np.ndarray, out: np.ndarray) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)


FUNCTIONS = {
    "sigmoid": Function(_sigmoid, _sigmoid_slope),
    "tanh": Function(np.tanh, _tanh_slope),
    "rectifier": Function(
        lambda x, out: np.maximum(x, 0, out=out), lambda y, out: np.greater(y, 0, out=out)
    ),
}


@on_gpu("layers")
def nonlinear(x: Array, function: str, out: Array) -> None:
    """One of FUNCTIONS; `out` may be `x`."""
    value = FUNCTIONS[function].value
    in_row_blocks(lambda rows, _: value(x[rows], out[rows]), x)


@on_gpu("layers")
def nonlinear_backward(y: Array, function: str, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input, from the output `y`; `out` may be `derivative`."""

    def multiply_by_slope(rows: slice, scratch: Workspace) -> None:
        slope = scratch.array("slope", y[rows].shape, y)
        FUNCTIONS[function].slope(y[rows], slope)
        np.multiply(derivative[rows], slope, out=out[rows])

    in_row_blocks(multiply_by_slope, y)


@on_gpu("layers")
def add_column_sums(
    y: Array, value_sum: Array, function: str | None, slope_sum: Array | None
) -> None:
    """Add the sums over the rows of `y` to `value_sum`, (dim,) float64.

    Where `function` is given, the sums of its slopes are added to `slope_sum`.
    """
    if function is None:
        value_sum += y.sum(axis=0)
        return
    scratch = Workspace()
    for rows in row_blocks(y):
        slope = scratch.array("slope", y[rows].shape, y)
        FUNCTIONS[function].slope(y[rows], slope)
        value_sum += y[rows].sum(axis=0)
        slope_sum += slope.sum(axis=0)
