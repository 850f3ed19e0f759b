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

from nnet.backend import Array, add_matmul, array_module, matmul, to_device
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
from nnet.io.tokens import Reader, read_object
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
        out[...] = self.bias_params
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
                if line.take(option, int, dim) != dim:
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
        scaled_x = self.workspace.array("scaled_x", x.shape, x)
        add_matmul(derivative.T, array_module(x).multiply(x, a, out=scaled_x), to.linear_params)
        to.bias_params += a * derivative.sum(axis=0)


def _random_parameters(line: ConfigLine, rng: np.random.Generator) -> dict[str, Array]:
    input_dim, output_dim = line.take("input-dim", int), line.take("output-dim", int)
    if input_dim <= 0 or output_dim <= 0:
        raise line.fail("dimensions must be positive")
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

    def __init__(self, **values: Any):
        super().__init__(**values)
        # Of the steps since the last report: how many were shortened, and the smallest factor.
        self.num_limited: Array | int = 0
        self.smallest_factor: Array | float = 1.0

    @property
    def spare_rows(self) -> int:
        return self.preconditioner_out.spare_rows(self.output_dim)

    def max_change_of(self, minibatch_size: int) -> float:
        """The largest change allowed; 0 for any."""
        raise NotImplementedError

    def update(self, x: Array, derivative: Array) -> None:
        xp = array_module(x)
        rows, input_dim = x.shape
        y = self.workspace.array("y", (len(derivative), input_dim + 1), x)
        extended = y[:rows]
        extended[:, :-1] = x
        extended[:, -1] = 1
        x_norms, d_norms = self.workspace.array("squared_norms", (2, rows), x)
        step = self.learning_rate * (
            self.preconditioner_in.precondition(extended, x_norms)
            * self.preconditioner_out.precondition_product(derivative, y, d_norms)
        )
        if self.max_change_of(rows) > 0:
            x_norms *= d_norms
            xp.sqrt(x_norms, out=x_norms)
            step *= self._limit(step * x_norms.sum(), self.max_change_of(rows))
        scaled_y = self.workspace.array("scaled_y", (len(y), input_dim), x)
        add_matmul(derivative.T, xp.multiply(y[:, :-1], step, out=scaled_y), self.linear_params)
        scaled_1 = self.workspace.array("scaled_1", (1, len(y)), x)
        xp.multiply(y[:, -1], step, out=scaled_1[0])
        add_matmul(scaled_1, derivative, out=self.bias_params[np.newaxis])

    def _limit(self, change: Array, max_change: float) -> Array:
        """The factor, at most one, that brings `change` down to `max_change`."""
        xp = array_module(change)
        factor = max_change / xp.maximum(change, max_change)
        self.num_limited += factor < 1.0
        self.smallest_factor = xp.minimum(self.smallest_factor, factor)
        return factor

    def report_steps(self) -> None:
        """Log how many steps have been shortened since the last call, if any."""
        if self.num_limited:
            log.info(
                "Limited step size %d times, using scaling factors of %g or more, for component "
                "index %d",
                *(self.num_limited, self.smallest_factor, self.index),
            )
        self.num_limited, self.smallest_factor = 0, 1.0


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

    def max_change_of(self, minibatch_size: int) -> float:
        return self.max_change_per_sample * minibatch_size
