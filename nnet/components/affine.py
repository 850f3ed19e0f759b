"""The affine function, and the three ways in which it is trained.

With the input x, extended by a one, and the derivative d of the objective w.r.t. the output, the
gradient w.r.t. [W b] is the sum over frames of the outer products d [x 1]^T: the bias is the weight
of an input that is always one, and is preconditioned like the others (arXiv 1410.7455, section 4).
Worked from Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, ClassVar

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
    single,
)
from nnet.components.layout import FrameLayout
from nnet.device.backend import Array, add_matmul, array_module, matmul, on_gpu, to_device, to_host
from nnet.io.numbers import integer
from nnet.io.tokens import LARGEST_ARRAY, Reader, read_object
from nnet.natural_gradient.online import OnlinePreconditioner
from nnet.natural_gradient.simple import SimplePreconditioner

log = logging.getLogger("ngtrain")


class AffineFunction(Component):
    """y = W x + b, with W `linear_params` (output, input) and b `bias_params` (output,)."""

    linear_params: Array
    bias_params: Array
    needs_output = False

    def check(self) -> None:
        self.require(
            self.linear_params.ndim == 2 and self.linear_params.size > 0, "W is not a matrix"
        )
        self.require(
            self.bias_params.shape == self.linear_params.shape[:1],
            f"the dimension of b, {self.bias_params.size}, is not the number of rows of W, "
            f"{len(self.linear_params)}",
        )

    @property
    def input_dim(self) -> int:
        return self.linear_params.shape[1]

    @property
    def output_dim(self) -> int:
        return self.linear_params.shape[0]

    def info_items(self) -> Iterator[tuple[str, str]]:
        dims_first = super().info_items()
        yield next(dims_first)
        yield next(dims_first)
        yield "linear-params-stddev", format_number(_root_mean_square(self.linear_params))
        yield "bias-params-stddev", format_number(_root_mean_square(self.bias_params))
        yield from dims_first

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        broadcast_rows(self.bias_params, out)
        add_matmul(x, self.linear_params.T, out=out)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        matmul(derivative, self.linear_params, out=out)


def read_affine_matrix(line: ConfigLine) -> dict[str, Array]:
    """W and b from the file of [W b] that the option ``matrix`` names."""
    filename = line.take("matrix", str)
    matrix = read_object(filename, lambda reader: reader.matrix(np.float32))
    if matrix.shape[1] < 2:
        raise line.fail(f"{filename} has {matrix.shape[1]} columns; [W b] has at least two")
    return {
        "linear_params": to_device(np.ascontiguousarray(matrix[:, :-1])),
        "bias_params": to_device(matrix[:, -1].copy()),
    }


def _root_mean_square(a: Array) -> float:
    xp = array_module(a)
    return math.sqrt(float(xp.square(a, dtype=np.float64).mean()))


@component_type
class AffineComponent(AffineFunction, UpdatableComponent):
    """An affine function trained by plain stochastic gradient ascent.

    A config line has either ``matrix=FILE``, for [W b], or ``input-dim``, ``output-dim`` and the
    standard deviations ``param-stddev`` (default: input-dim^{-1/2}) and ``bias-stddev`` (1).
    """

    trained_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "learning_rate",
            "LearningRate",
            REAL,
            option="learning-rate",
            default=single(0.001),
            label="learning-rate",
        ),
        Field("linear_params", "LinearParams", MATRIX),
        Field("bias_params", "BiasParams", VECTOR),
    )
    fields = (
        *trained_fields,
        Field(None, "AvgInput", VECTOR, absent=None),
        Field(None, "AvgInputCount", REAL, absent=None),
        Field("is_gradient", "IsGradient", BOOLEAN, default=False, absent=False),
    )
    parameter_names = ("linear_params", "bias_params")

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        values = cls.configured(line)
        if "matrix" in line:
            values.update(read_affine_matrix(line))
            output_dim, input_dim = values["linear_params"].shape
            for option, dim in ("input-dim", input_dim), ("output-dim", output_dim):
                if line.take(option, integer, dim) != dim:
                    raise line.fail(f"{option} is not that of the matrix, {dim}")
        else:
            values.update(_random_parameters(line, rng))
        return line.build(cls, values)

    def set_zero(self, as_gradient: bool = False) -> None:
        super().set_zero(as_gradient)
        if as_gradient:
            self.is_gradient = True

    def update(self, x: Array, derivative: Array) -> None:
        self._add_gradient(self.learning_rate, x, derivative, self)

    def accumulate_gradient(self, x: Array, derivative: Array, gradient: Component) -> None:
        self._add_gradient(1.0, x, derivative, gradient)

    def _add_gradient(self, a: float, x: Array, derivative: Array, to: Component) -> None:
        """Add `a` times the gradient to the parameters of `to`."""
        add_matmul(derivative.T, x, out=to.linear_params, alpha=a)
        ones = self.workspace.array("ones", (1, len(x)), x)
        ones.fill(1)
        add_matmul(ones, derivative, out=to.bias_params[np.newaxis], alpha=a)


def _random_parameters(line: ConfigLine, rng: np.random.Generator) -> dict[str, Array]:
    input_dim, output_dim = line.take("input-dim", integer), line.take("output-dim", integer)
    if input_dim <= 0 or output_dim <= 0:
        raise line.fail("dimensions must be positive")
    if 4 * input_dim * output_dim > LARGEST_ARRAY:
        raise line.fail(f"a matrix of {output_dim} by {input_dim} is too large for a file")
    param_stddev = line.take("param-stddev", float, input_dim**-0.5)
    bias_stddev = line.take("bias-stddev", float, 1.0)
    if not (param_stddev >= 0 and bias_stddev >= 0):
        raise line.fail("standard deviations must not be negative")

    def random(stddev: float, *shape: int) -> Array:
        return to_device(np.float32(stddev) * rng.standard_normal(shape, dtype=np.float32))

    return {
        "linear_params": random(param_stddev, output_dim, input_dim),
        "bias_params": random(bias_stddev, output_dim),
    }


class NaturalGradientAffineComponent(AffineComponent):
    """What the two natural-gradient methods share: preconditioned steps, limited in size.

    The inputs, extended by a one, and the derivatives are preconditioned; the step is the sum of
    the outer products of the results.  The sum of the norms of these products bounds the change of
    the parameters; where it exceeds `max_change_of` the minibatch, the step is shortened.
    """

    limits: Array | None = None
    """Of the steps since the last report: how many were shortened, and the smallest factor."""

    def spare_rows(self, rows: int) -> int:
        return self.preconditioner_out.spare_rows(rows, self.output_dim, self.input_dim + 1)

    def max_change_of(self, minibatch_size: int) -> float:
        """The largest change allowed; 0 for any."""
        raise NotImplementedError

    def update(self, x: Array, derivative: Array) -> None:
        rows, input_dim = x.shape
        y = self.workspace.array("y", (len(derivative), input_dim + 1), x)
        append_one(x, out=y[:rows])
        norms = self.workspace.array("squared_norms", (2, rows), x)
        scales = (
            self.preconditioner_in.precondition(y[:rows], norms[0]),
            self.preconditioner_out.precondition_product(derivative, y, norms[1]),
        )
        if self.limits is None:
            self.limits = array_module(x).array(NO_LIMITS)
        scaled_y = self.workspace.array("scaled_y", (len(y), input_dim), x)
        scaled_1 = self.workspace.array("scaled_1", (1, len(y)), x)
        max_change = self.max_change_of(rows)
        scale_step(
            y, norms, scales, self.learning_rate, max_change, scaled_y, scaled_1, self.limits
        )
        add_matmul(derivative.T, scaled_y, out=self.linear_params)
        add_matmul(scaled_1, derivative, out=self.bias_params[np.newaxis])

    def report_steps(self) -> None:
        """Log how many steps have been shortened since the last call, if any."""
        if self.limits is None:
            return
        num_limited, smallest_factor = to_host(self.limits)
        if num_limited:
            log.info(
                "Limited step size %d times, using scaling factors of %g or more, for component "
                "index %d",
                *(num_limited, smallest_factor, self.index),
            )
            self.limits[0], self.limits[1] = NO_LIMITS


@component_type
class AffineComponentPreconditioned(NaturalGradientAffineComponent):
    """An affine function trained with the simple natural gradient (nnet.natural_gradient.simple).

    `max_change` limits the change by a whole minibatch.
    """

    fields = (
        *AffineComponent.trained_fields,
        Field("alpha", "Alpha", REAL, option="alpha", default=single(0.1), label="alpha"),
        Field(
            "max_change",
            "MaxChange",
            REAL,
            option="max-change",
            default=0.0,
            absent=0.0,
            label="max-change",
        ),
    )

    def __init__(self, **values: Any):
        super().__init__(**values)
        self.preconditioner_in = SimplePreconditioner(self.alpha)
        self.preconditioner_out = SimplePreconditioner(self.alpha)

    def max_change_of(self, minibatch_size: int) -> float:
        return self.max_change


def _read_one_rank(reader: Reader) -> dict[str, Any]:
    rank = reader.integer()
    return {"rank_in": rank, "rank_out": rank}


@component_type
class AffineComponentPreconditionedOnline(NaturalGradientAffineComponent):
    """An affine function trained with the online natural gradient (nnet.natural_gradient.online).

    `max_change_per_sample` limits the change by a minibatch, divided by its size.  The estimates of
    the Fisher matrices are not written to files; they start anew, within a few minibatches.
    """

    fields = (
        *AffineComponent.trained_fields,
        Field(
            "rank_in",
            "RankIn",
            INTEGER,
            option="rank-in",
            default=30,
            older={"Rank": _read_one_rank},
            label="rank-in",
        ),
        Field("rank_out", "RankOut", INTEGER, option="rank-out", default=80, label="rank-out"),
        Field(
            "update_period",
            "UpdatePeriod",
            INTEGER,
            option="update-period",
            default=1,
            absent=1,
            label="update_period",
        ),
        Field(
            "num_samples_history",
            "NumSamplesHistory",
            REAL,
            option="num-samples-history",
            default=2000.0,
            label="num_samples_history",
        ),
        Field("alpha", "Alpha", REAL, option="alpha", default=4.0, label="alpha"),
        Field(
            "max_change_per_sample",
            "MaxChangePerSample",
            REAL,
            option="max-change-per-sample",
            default=single(0.1),
            label="max-change-per-sample",
        ),
    )
    info_order = (
        "learning_rate",
        "rank_in",
        "rank_out",
        "num_samples_history",
        "update_period",
        "alpha",
        "max_change_per_sample",
    )

    def __init__(self, **values: Any):
        super().__init__(**values)
        self.preconditioner_in, self.preconditioner_out = (
            OnlinePreconditioner(rank, self.update_period, self.num_samples_history, self.alpha)
            for rank in (self.rank_in, self.rank_out)
        )

    @property
    def cycle_length(self) -> int:
        sides = self.preconditioner_in, self.preconditioner_out
        return math.lcm(*(side.cycle_length for side in sides))

    def max_change_of(self, minibatch_size: int) -> float:
        return self.max_change_per_sample * minibatch_size


# Around the products of matrices ------------------------------------------------------------------

NO_LIMITS = (0.0, 1.0)
"""What scale_step() adds to: no step shortened, the smallest factor."""


@on_gpu("layers")
def broadcast_rows(bias: Array, out: Array) -> None:
    """Set every row of `out` to `bias`."""
    out[...] = bias


@on_gpu("layers")
def append_one(x: Array, out: Array) -> None:
    """`out` (rows, dim + 1) is x (rows, dim) and a column of ones."""
    out[:, :-1] = x
    out[:, -1] = 1


@on_gpu("layers")
def scale_step(
    extended: Array,
    norms: Array,
    scales: tuple[Array, Array],
    learning_rate: float,
    max_change: float,
    x: Array,
    ones: Array,
    limits: Array,
) -> None:
    """`extended` (rows, dim + 1), times the length of a step, as x (rows, dim) and ones (1, rows).

    norms: squared norms of the preconditioned rows, (2, N), of inputs and of derivatives.
    scales: what precondition() returned for both.
    max_change: largest sum of the norms of the terms of the step; 0 for any.
    limits: see NaturalGradientAffineComponent; updated.
    """
    length = learning_rate * (scales[0] * scales[1])
    if max_change > 0:
        change = length * np.sqrt(norms[0] * norms[1]).sum()
        factor = max_change / np.maximum(change, max_change)
        limits[0] += factor < 1.0
        limits[1] = np.minimum(limits[1], factor)
        length *= factor
    np.multiply(extended[:, :-1], length, out=x)
    np.multiply(extended[:, -1], length, out=ones[0])
