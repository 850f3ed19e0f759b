"""Nonlinearities without parameters, and the statistics that some of them keep of themselves.

The p-norm is that of Zhang et al., "Improving deep neural network acoustic models using generalized
maxout networks", ICASSP 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import ClassVar

import numpy as np

from nnet.components.base import (
    DOUBLE,
    INTEGER,
    REAL,
    STATISTICS,
    Component,
    ConfigLine,
    Field,
    SameDimComponent,
    component_type,
    format_number,
    option,
)
from nnet.device.device import Array, Elementwise, SparseRows, Workspace
from nnet.io.numbers import integer

NORM_FLOOR = 2.0**-66
"""The least mean square; it and its inverse square root are exact in single precision."""

PROBABILITY_FLOOR = 1e-20
"""The least probability, which keeps the logarithm finite."""


class NonlinearComponent(SameDimComponent):
    """A nonlinearity of as many outputs as inputs.

    While it is trained it sums up, in float64, what diagnostics want to know: `value_sum` of its
    outputs, `deriv_sum` of its derivatives, over `count` frames.  Those never seen are empty.
    """

    learns = True
    statistics: ClassVar[tuple[str, ...]] = ()
    """The sums that are kept; deriv_sum is that of the slopes of `function`."""
    function: ClassVar[Elementwise | None] = None
    fields = (
        option("dim", INTEGER),
        Field("value_sum", STATISTICS, default=np.zeros(0)),
        Field("deriv_sum", STATISTICS, default=np.zeros(0)),
        Field("count", DOUBLE, default=0.0),
    )

    def check(self) -> None:
        super().check()
        self.require(
            {len(self.value_sum), len(self.deriv_sum)} <= {0, self.dim},
            "the statistics have another dimension than the component",
        )

    def update(self, x: Array, y: Array, derivative: Array) -> None:
        self.add_gradient(x, y, derivative, to=self)

    def add_gradient(self, x: Array, y: Array, derivative: Array, to: Component) -> None:
        if not self.statistics:
            return
        if not all(len(getattr(to, name)) for name in self.statistics):
            to.count = 0.0
            for name in self.statistics:
                setattr(to, name, self.device.xp.zeros(self.dim, np.float64))
        sums, num_rows = [getattr(to, name) for name in self.statistics], len(y)
        self.device.add_column_sums(y, sums, self.function)

        def count_rows() -> None:
            to.count += num_rows

        self.device.on_host(count_rows)

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


def _sigmoid(xp: ModuleType, x: Array, out: Array) -> None:
    xp.negative(x, out=out)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
        xp.exp(out, out=out)
    out += 1
    xp.reciprocal(out, out=out)


def _sigmoid_slope(xp: ModuleType, y: Array, out: Array) -> None:
    xp.subtract(1, y, out=out)
    out *= y


def _tanh_slope(xp: ModuleType, y: Array, out: Array) -> None:
    xp.multiply(y, y, out=out)
    xp.subtract(1, out, out=out)


class ElementwiseComponent(NonlinearComponent):
    """y_i = f(x_i), with a derivative that follows from y."""

    function: ClassVar[Elementwise]
    statistics = "value_sum", "deriv_sum"
    needs_input = False
    in_place = True

    def propagate(self, x: Array, out: Array) -> None:
        self.device.nonlinear(x, self.function, out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.nonlinear_backward(y, self.function, derivative, out)


@component_type
class SigmoidComponent(ElementwiseComponent):
    """y = 1 / (1 + e^{-x})."""

    function = Elementwise("sigmoid", _sigmoid, _sigmoid_slope)


@component_type
class TanhComponent(ElementwiseComponent):
    """y = tanh(x)."""

    function = Elementwise("tanh", lambda xp, x, out: xp.tanh(x, out=out), _tanh_slope)


@component_type
class RectifiedLinearComponent(ElementwiseComponent):
    """y = max(x, 0)."""

    function = Elementwise(
        "rectifier",
        lambda xp, x, out: xp.maximum(x, 0, out=out),
        lambda xp, y, out: xp.greater(y, 0, out=out),
    )


def _soft_hinge_slope(xp: ModuleType, y: Array, out: Array) -> None:
    """Compute 1 / (1 + e^{-x}), which is 1 - e^{-y}."""
    xp.negative(y, out=out)
    xp.expm1(out, out=out)
    xp.negative(out, out=out)


@component_type
class SoftHingeComponent(ElementwiseComponent):
    """y = log(1 + e^x)."""

    function = Elementwise(
        "soft hinge", lambda xp, x, out: xp.logaddexp(x, 0, out=out), _soft_hinge_slope
    )


@component_type
class PowerComponent(Component):
    """y = |x|^p, with p `power`."""

    fields = (
        option("input_dim", INTEGER),
        Field("output_dim", INTEGER),
        option("power", REAL, 2.0),
    )
    info_equals = " = "
    needs_output = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        dim = line.take("dim" if "dim" in line else "input-dim", integer)
        power = line.take("power", REAL.parse, 2.0)
        return line.build(cls, {"input_dim": dim, "output_dim": dim, "power": power})

    def check(self) -> None:
        super().check()
        self.require(self.input_dim == self.output_dim, "the dimensions differ")
        self.require(self.power >= 0, f"power={self.power:g} is negative")

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield "dim", f"{self.input_dim}"
        yield "power", format_number(self.power)

    def propagate(self, x: Array, out: Array) -> None:
        xp = self.device.xp

        def powers(rows: slice, _: Workspace) -> None:
            xp.absolute(x[rows], out=out[rows])
            xp.power(out[rows], self.power, out=out[rows])

        self.device.in_row_blocks(powers, x)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Use dy/dx = sign(x) p |x|^{p-1}, and zero where x is zero."""
        xp = self.device.xp

        def derivatives(rows: slice, scratch: Workspace) -> None:
            d_x, magnitudes = out[rows], scratch.array("magnitudes", x[rows].shape, x)
            xp.absolute(x[rows], out=magnitudes)
            xp.equal(magnitudes, 0, out=d_x)
            magnitudes += d_x  # the power of zero could be infinite
            xp.power(magnitudes, self.power - 1, out=magnitudes)
            magnitudes *= self.power
            xp.sign(x[rows], out=d_x)
            d_x *= magnitudes
            d_x *= derivative[rows]

        self.device.in_row_blocks(derivatives, x)


@component_type
class NormalizeComponent(NonlinearComponent):
    """y = f x  with  f = max(|x|^2 / D, floor)^{-1/2}, for each row x of dimension D."""

    needs_output = False
    in_place = True

    def propagate(self, x: Array, out: Array) -> None:
        self.device.normalize(x, out, NORM_FLOOR)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Compute dF/dx = f dF/dy - f^3/D (x^T dF/dy) x; without the last term if f is floored."""
        self.device.normalize_backward(x, derivative, out, NORM_FLOOR)


@component_type
class SoftmaxComponent(NonlinearComponent):
    """y_i = e^{x_i} / sum_j e^{x_j}, floored."""

    statistics = ("value_sum",)
    needs_input = False
    in_place = True

    def propagate(self, x: Array, out: Array) -> None:
        self.device.softmax(x, out, PROBABILITY_FLOOR)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Compute dF/dx_i = y_i (dF/dy_i - sum_j y_j dF/dy_j)."""
        self.device.softmax_backward(y, derivative, out)

    def backpropagate_log(self, y: Array, derivative: SparseRows, out: Array) -> None:
        """Compute dF/dx = g - (sum_j g_j) y from g = dF/d(log y).

        Equal to backpropagate() of dF/dy = g / y, without a matrix that is nearly all zero.
        """
        self.device.softmax_log_backward(y, derivative, out)


@component_type
class LogSoftmaxComponent(NonlinearComponent):
    """y_i = x_i - log sum_j e^{x_j}, floored."""

    statistics = ("value_sum",)
    needs_input = False
    in_place = True

    def propagate(self, x: Array, out: Array) -> None:
        xp = self.device.xp

        def log_softmax(rows: slice, scratch: Workspace) -> None:
            y, powers = out[rows], scratch.array("powers", out[rows].shape, out)
            of_row = scratch.array("of_row", (len(y), 1), out)
            xp.max(x[rows], axis=1, keepdims=True, out=of_row)
            xp.subtract(x[rows], of_row, out=y)
            xp.exp(y, out=powers)
            xp.sum(powers, axis=1, keepdims=True, out=of_row)
            xp.log(of_row, out=of_row)
            y -= of_row
            xp.maximum(y, math.log(PROBABILITY_FLOOR), out=y)

        self.device.in_row_blocks(log_softmax, x)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Compute dF/dx_i = dF/dy_i - e^{y_i} sum_j dF/dy_j."""
        xp = self.device.xp

        def derivatives(rows: slice, scratch: Workspace) -> None:
            posteriors = scratch.array("posteriors", y[rows].shape, y)
            total = scratch.array("total", (len(posteriors), 1), y)
            xp.sum(derivative[rows], axis=1, keepdims=True, out=total)
            xp.exp(y[rows], out=posteriors)
            posteriors *= total
            xp.subtract(derivative[rows], posteriors, out=out[rows])

        self.device.in_row_blocks(derivatives, y)


class GroupComponent(Component):
    """An output for each group of neighbours, which are of equal size.

    A config line without ``input-dim`` has groups of ten.
    """

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


@component_type
class PnormComponent(GroupComponent):
    """y_j = (sum_{i in group j} |x_i|^p)^{1/p}, over groups of neighbours of equal size.

    p = 0 counts what is not zero, p = inf takes the largest magnitude (matrix/kaldi-vector.cc).
    """

    fields = (
        option("input_dim", INTEGER),
        option("output_dim", INTEGER),
        option("p", REAL, 2.0, label="p"),
    )

    def check(self) -> None:
        super().check()
        self.require(self.p >= 0, f"p={self.p:g} is negative")

    @property
    def can_be_captured(self) -> bool:
        return self.p == 2

    @property
    def group_size(self) -> int:
        return self.input_dim // self.output_dim

    def propagate(self, x: Array, out: Array) -> None:
        if self.p == 2:
            self.device.pnorm2(x, out)
            return
        xp = self.device.xp

        def norms(rows: slice, scratch: Workspace) -> None:
            y, powers = out[rows], scratch.array("powers", x[rows].shape, x)
            groups = self._by_group(xp.absolute(x[rows], out=powers))
            if self.p == 1:
                self.device.sum_groups(powers, y)
            elif self.p == 0:
                self.device.sum_groups((powers > 0).astype(x.dtype), y)
            elif self.p == math.inf:
                groups.max(axis=-1, out=y)
            else:
                # Divided by the largest of its group, no power overflows.
                largest = groups.max(axis=-1)
                groups /= xp.where(largest > 0, largest, 1)[:, :, None]
                xp.power(powers, self.p, out=powers)
                self.device.sum_groups(powers, y)
                xp.power(y, 1 / self.p, out=y)
                y *= largest

        self.device.in_row_blocks(norms, x)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Use dy_j/dx_i = sign(x_i) (|x_i| / y_j)^{p-1}, and zero where x_i is zero."""
        if self.p == 2:
            self.device.pnorm2_backward(x, y, derivative, out)
            return
        xp = self.device.xp

        def derivatives(rows: slice, _: Workspace) -> None:
            groups, d_x, y_rows = self._by_group(x[rows]), self._by_group(out[rows]), y[rows]
            xp.sign(x[rows], out=out[rows])
            if self.p == 0:
                d_x[...] = 0
            elif self.p == math.inf:
                d_x *= xp.absolute(groups) == y_rows[:, :, None]
            elif self.p != 1:
                magnitudes = xp.absolute(groups)
                magnitudes /= xp.where(y_rows > 0, y_rows, 1)[:, :, None]
                magnitudes[groups == 0] = 1
                d_x *= xp.power(magnitudes, self.p - 1, out=magnitudes)
            d_x *= derivative[rows][:, :, None]

        self.device.in_row_blocks(derivatives, x)

    def _by_group(self, a: Array) -> Array:
        """View (rows, input_dim) as (rows, groups, members)."""
        return a.reshape(len(a), self.output_dim, self.group_size)
