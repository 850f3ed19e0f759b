"""Steps of the parameters [W b] of affine functions, by the gradient or by a natural gradient.

With the input x, extended by a one, and the derivative d of the objective w.r.t. the output, the
gradient w.r.t. [W b] is the sum over frames of the outer products d [x 1]^T: the bias is the weight
of an input that is always one, and is preconditioned like the others (arXiv 1410.7455, section 4).

Source: Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

import logging

import numpy as np

from nnet.components.base import UpdatableComponent
from nnet.device.device import Array, to_host

log = logging.getLogger("ngtrain")

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
