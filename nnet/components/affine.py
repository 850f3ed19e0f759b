"""Affine functions of a frame, and the three ways in which they are trained.

With the input x, extended by a one, and the derivative d of the objective w.r.t. the output, the
gradient w.r.t. the parameters [W b] is the sum over frames of the outer products d [x 1]^T: the
bias is the weight of an input that is always one, and is preconditioned like the others
(arXiv 1410.7455, section 4).

Source: Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from nnet.components.base import (
    BOOLEAN,
    INTEGER,
    MATRIX,
    REAL,
    VECTOR,
    Component,
    ConfigLine,
    Field,
    UpdatableComponent,
    component_type,
    format_number,
    option,
    single,
)
from nnet.device.device import Array, Device, array_module, to_host
from nnet.io.numbers import integer
from nnet.io.tokens import LARGEST_ARRAY, read_object
from nnet.natural_gradient.online import OnlinePreconditioner
from nnet.natural_gradient.simple import SimplePreconditioner

log = logging.getLogger("ngtrain")


class LinearFunction(Component):
    """y = W x, with W `linear_params` (output, input)."""

    linear_params: Array
    needs_output = False

    def check(self) -> None:
        self.require(
            self.linear_params.ndim == 2 and self.linear_params.size > 0, "W is not a matrix"
        )

    @property
    def input_dim(self) -> int:
        return self.linear_params.shape[1]

    @property
    def output_dim(self) -> int:
        return self.linear_params.shape[0]

    def propagate(self, x: Array, out: Array) -> None:
        self.device.matmul(x, self.linear_params.T, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.matmul(derivative, self.linear_params, out=out)


class AffineFunction(LinearFunction):
    """y = W x + b, with W `linear_params` (output, input) and b `bias_params` (output,)."""

    bias_params: Array

    def check(self) -> None:
        super().check()
        check_bias(self)

    def info_items(self) -> Iterator[tuple[str, str]]:
        dims_first = super().info_items()
        yield next(dims_first)
        yield next(dims_first)
        yield "linear-params-stddev", format_number(root_mean_square(self.linear_params))
        yield "bias-params-stddev", format_number(root_mean_square(self.bias_params))
        yield from dims_first

    def propagate(self, x: Array, out: Array) -> None:
        self.device.broadcast_rows(self.bias_params, out)
        self.device.add_matmul(x, self.linear_params.T, out=out)


def check_bias(component: Component) -> None:
    """Raise NgtrainError unless there is an element of b for each row of W."""
    component.require(
        component.bias_params.shape == component.linear_params.shape[:1],
        f"the dimension of b, {component.bias_params.size}, is not the number of rows of W, "
        f"{len(component.linear_params)}",
    )


def root_mean_square(a: Array) -> float:
    """Compute what Kaldi calls the standard deviation of parameters."""
    xp = array_module(a)
    return math.sqrt(float(xp.square(a, dtype=np.float64).mean()))


# Parameters of a config line ----------------------------------------------------------------------


def read_affine_matrix(line: ConfigLine) -> dict[str, Array]:
    """Read W and b from the file of [W b] that the option ``matrix`` names."""
    filename = line.take("matrix", str)
    matrix = read_object(filename, lambda reader: reader.matrix(np.float32))
    if matrix.shape[1] < 2:
        raise line.fail(f"{filename} has {matrix.shape[1]} columns; [W b] has at least two")
    return {
        "linear_params": np.ascontiguousarray(matrix[:, :-1]),
        "bias_params": matrix[:, -1].copy(),
    }


def take_dims(line: ConfigLine) -> tuple[int, int]:
    """Return the values of input-dim and output-dim."""
    input_dim, output_dim = line.take("input-dim", integer), line.take("output-dim", integer)
    if input_dim <= 0 or output_dim <= 0:
        raise line.fail("dimensions must be positive")
    return input_dim, output_dim


def require_dims(line: ConfigLine, component: Component) -> Component:
    """Return the component, if the dimensions that the line may give are those of its matrix."""
    for name, dim in ("input-dim", component.input_dim), ("output-dim", component.output_dim):
        if line.take(name, integer, dim) != dim:
            raise line.fail(f"{name} is not that of the matrix, {dim}")
    return component


def random_parameters(
    line: ConfigLine, rng: np.random.Generator, input_dim: int, shape: tuple[int, int]
) -> dict[str, Array]:
    """Draw W of a shape, and b, normally distributed.

    Standard deviations are those of the options ``param-stddev`` (default: `input_dim` ^{-1/2}) and
    ``bias-stddev`` (1).
    """
    output_dim, num_columns = shape
    if 4 * output_dim * num_columns > LARGEST_ARRAY:
        raise line.fail(f"a matrix of {output_dim} by {num_columns} is too large for a file")
    param_stddev = line.take("param-stddev", float, input_dim**-0.5)
    bias_stddev = line.take("bias-stddev", float, 1.0)
    if not (param_stddev >= 0 and bias_stddev >= 0):
        raise line.fail("standard deviations must not be negative")

    def random(stddev: float, *shape: int) -> np.ndarray:
        return np.float32(stddev) * rng.standard_normal(shape, dtype=np.float32)

    return {
        "linear_params": random(param_stddev, *shape),
        "bias_params": random(bias_stddev, output_dim),
    }


# Steps --------------------------------------------------------------------------------------------

NO_LIMITS = (0.0, 1.0)
"""No step has been shortened, and the smallest factor so far."""


class AffineStep(UpdatableComponent):
    """A component with parameters [W b], trained by plain stochastic gradient ascent.

    The methods take x (rows, input), the derivative (rows, output), W (output, input) and b
    (output,), which need not be all of the component's: it may consist of several such functions.
    """

    parameter_names = ("linear_params", "bias_params")
    linear_params: Array
    bias_params: Array

    def step(self, x: Array, derivative: Array, W: Array, b: Array) -> None:
        """Add a step to W and b; the derivative, and `num_extra_rows` behind it, are scratch."""
        self.add_outer_products(self.learning_rate, x, derivative, W, b)

    def add_outer_products(self, a: float, x: Array, derivative: Array, W: Array, b: Array) -> None:
        """Add `a` times the gradient to W and b."""
        self.device.add_matmul(derivative.T, x, out=W, alpha=a)
        ones = self.workspace.array("ones", (1, len(x)), x)
        ones.fill(1)
        self.device.add_matmul(ones, derivative, out=b[np.newaxis], alpha=a)


class NaturalGradientStep(AffineStep):
    """A component with parameters [W b], trained by preconditioned steps, limited in size.

    The inputs, extended by a one, and the derivatives are preconditioned; the step is the sum of
    the outer products of the results.  The sum of the norms of these products bounds the change of
    the parameters; where it exceeds `max_change_of` the minibatch, the step is shortened.
    """

    limits: Array | None = None
    """How many updates since the last report were shortened, and the smallest factor."""

    def max_change_of(self, minibatch_size: int) -> float:
        """Return the largest change allowed; 0 for any."""
        return 0.0

    def step(self, x: Array, derivative: Array, W: Array, b: Array) -> None:
        N, input_dim = x.shape
        scratch, device = self.workspace.array, self.device
        preconditioner_in, preconditioner_out = self.preconditioners
        extended = scratch("x", (N + self.num_extra_rows, input_dim + 1), x)
        device.append_one(x, out=extended[:N])
        norms = scratch("squared_norms", (2, N), x)
        gamma_in = preconditioner_in.precondition(extended[:N], norms[0])
        gamma_out, rows = preconditioner_out.precondition_product(derivative, extended, norms[1])
        if self.limits is None:
            self.limits = device.asarray(np.array(NO_LIMITS))
        scaled_x = scratch("scaled_x", (rows, input_dim), x)
        scaled_1 = scratch("scaled_1", (1, rows), x)
        limits = self.learning_rate, self.max_change_of(N)
        gammas = gamma_in, gamma_out
        device.scale_step(extended[:rows], norms, gammas, *limits, scaled_x, scaled_1, self.limits)
        device.add_matmul(derivative[:rows].T, scaled_x, out=W)
        device.add_matmul(scaled_1, derivative[:rows], out=b[np.newaxis])

    def report_updates(self, num_updates: int) -> int:
        if self.limits is None:
            return 0
        num_limited, smallest_factor = to_host(self.limits)
        if num_limited:
            log.info(
                "Limited step size %d of %d times, using scaling factors of %g or more, for "
                "component index %d",
                *(num_limited, num_updates, smallest_factor, self.index),
            )
            self.limits[0], self.limits[1] = NO_LIMITS
        return int(num_limited)


# Components ---------------------------------------------------------------------------------------


@component_type
class AffineComponent(AffineFunction, AffineStep):
    """An affine function trained by plain stochastic gradient ascent.

    A config line has either ``matrix=FILE``, for [W b], or ``input-dim``, ``output-dim`` and the
    standard deviations ``param-stddev`` (default: input-dim^{-1/2}) and ``bias-stddev`` (1).
    """

    trained_fields: ClassVar[tuple[Field, ...]] = (
        option("learning_rate", REAL, single(0.001), label="learning-rate"),
        Field("linear_params", MATRIX),
        Field("bias_params", VECTOR),
    )
    fields = (
        *trained_fields,
        Field("avg_input", VECTOR, absent=None, is_kept=False),
        Field("avg_input_count", REAL, absent=None, is_kept=False),
        Field("is_gradient", BOOLEAN, default=False, absent=False),
    )

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        values = cls.configured(line)
        if "matrix" in line:
            return require_dims(line, line.build(cls, values | read_affine_matrix(line)))
        input_dim, output_dim = take_dims(line)
        shape = output_dim, input_dim
        return line.build(cls, values | random_parameters(line, rng, input_dim, shape))

    def update(self, x: Array, y: Array, derivative: Array) -> None:
        self.step(x, derivative, self.linear_params, self.bias_params)

    def add_gradient(self, x: Array, y: Array, derivative: Array, to: Component) -> None:
        self.add_outer_products(1.0, x, derivative[: len(x)], to.linear_params, to.bias_params)


@component_type
class AffineComponentPreconditioned(NaturalGradientStep, AffineComponent):
    """An affine function trained with the simple natural gradient (nnet.natural_gradient.simple).

    `max_change` limits the change by a whole minibatch.
    """

    fields = (
        *AffineComponent.trained_fields,
        option("alpha", REAL, single(0.1), label="alpha"),
        option("max_change", REAL, 0.0, absent=0.0, label="max-change"),
    )

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self.preconditioners = tuple(SimplePreconditioner(self.alpha, device) for _ in range(2))

    def max_change_of(self, minibatch_size: int) -> float:
        return self.max_change


_ONE_RANK = {"<Rank>": lambda reader: dict.fromkeys(("rank_in", "rank_out"), reader.integer())}


@component_type
class AffineComponentPreconditionedOnline(NaturalGradientStep, AffineComponent):
    """An affine function trained with the online natural gradient (nnet.natural_gradient.online).

    `max_change_per_sample` limits the change by a minibatch, divided by its size.  The estimates of
    the Fisher matrices are not written to files; they start anew, within a few minibatches.
    """

    fields = (
        *AffineComponent.trained_fields,
        option("rank_in", INTEGER, 30, older=_ONE_RANK, label="rank-in"),
        option("rank_out", INTEGER, 80, label="rank-out"),
        option("update_period", INTEGER, 1, absent=1, label="update_period"),
        option("num_samples_history", REAL, 2000.0, label="num_samples_history"),
        option("alpha", REAL, 4.0, label="alpha"),
        option("max_change_per_sample", REAL, single(0.1), label="max-change-per-sample"),
    )
    info_order = (
        *("learning_rate", "rank_in", "rank_out", "num_samples_history", "update_period"),
        *("alpha", "max_change_per_sample"),
    )

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        options = self.update_period, self.num_samples_history, self.alpha, device
        ranks = self.rank_in, self.rank_out
        self.preconditioners = tuple(OnlinePreconditioner(rank, *options) for rank in ranks)
        self.num_extra_rows = self.rank_out

    def max_change_of(self, minibatch_size: int) -> float:
        return self.max_change_per_sample * minibatch_size
