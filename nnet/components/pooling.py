"""Maxima over groups of inputs.

Maxout is that of Goodfellow et al., "Maxout networks", ICML 2013.

Source: Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

from nnet.components.base import INTEGER, Component, component_type, option
from nnet.components.nonlinear import GroupComponent
from nnet.device.device import Array, Workspace


class MaximumComponent(Component):
    """y_qs = max_r x_qrs, where the input is seen as an array (pools, `pool_size`, `pool_stride`).

    All of a pool that equal its maximum get its derivative.
    """

    info_equals = " = "
    pool_size: int
    pool_stride: int

    def propagate(self, x: Array, out: Array) -> None:
        maximum = self.device.xp.maximum

        def maxima(rows: slice, _: Workspace) -> None:
            inputs, y = self._inputs(x[rows]), self._outputs(out[rows])
            y[...] = inputs[:, :, 0]
            for r in range(1, self.pool_size):
                maximum(y, inputs[:, :, r], out=y)

        self.device.in_row_blocks(maxima, x)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        xp = self.device.xp

        def derivatives(rows: slice, _: Workspace) -> None:
            inputs, below = self._inputs(x[rows]), self._inputs(out[rows])
            outputs, d_y = self._outputs(y[rows]), self._outputs(derivative[rows])
            xp.equal(inputs, outputs[:, :, None], out=below)
            below *= d_y[:, :, None]

        self.device.in_row_blocks(derivatives, x)

    def _inputs(self, x: Array) -> Array:
        """View (rows, input_dim) as (rows, pools, pool_size, pool_stride)."""
        pool = self.pool_size, self.pool_stride
        return x.reshape(len(x), self.input_dim // (pool[0] * pool[1]), *pool)

    def _outputs(self, y: Array) -> Array:
        """View (rows, output_dim) as (rows, pools, pool_stride)."""
        return y.reshape(len(y), self.output_dim // self.pool_stride, self.pool_stride)


@component_type
class MaxoutComponent(GroupComponent, MaximumComponent):
    """y_j = max_{i in group j} x_i, over groups of neighbours of equal size."""

    fields = (
        option("input_dim", INTEGER),
        option("output_dim", INTEGER),
    )
    pool_stride = 1

    @property
    def pool_size(self) -> int:  # type: ignore[override]
        return self.input_dim // self.output_dim


@component_type
class MaxpoolingComponent(MaximumComponent):
    """The maximum over `pool_size` neighbours of each of `pool_stride` channels.

    The input has all channels of the first frequency, then all of the second, as the output of a
    Convolutional1dComponent, whose number of filters `pool_stride` is.
    """

    fields = (
        option("input_dim", INTEGER),
        option("output_dim", INTEGER),
        option("pool_size", INTEGER, label="pool-size"),
        option("pool_stride", INTEGER, label="pool-stride"),
    )

    def check(self) -> None:
        super().check()
        self.require(
            min(self.pool_size, self.pool_stride) > 0
            and self.output_dim % self.pool_stride == 0
            and self.output_dim * self.pool_size == self.input_dim,
            f"pools of {self.pool_size}, with a stride of {self.pool_stride}, do not make "
            f"{self.output_dim} outputs of {self.input_dim} inputs",
        )
