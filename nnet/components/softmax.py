"""The softmax, which turns the last layer's outputs into probabilities."""

from __future__ import annotations

from nnet.backend import Array, Workspace, array_module, in_row_blocks, row_dots
from nnet.components.base import component_type
from nnet.components.layout import FrameLayout
from nnet.components.nonlinear import NonlinearComponent

PROBABILITY_FLOOR = 1e-20
"""Keeps the logarithm finite."""


@component_type
class SoftmaxComponent(NonlinearComponent):
    """y_i = e^{x_i} / sum_j e^{x_j}, floored."""

    needs_input = False
    in_place = True

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        xp = array_module(x)

        def softmax(rows: slice, scratch: Workspace) -> None:
            x_rows, y_rows = x[rows], out[rows]
            of_row = scratch.array("of_row", (len(x_rows), 1), x)
            xp.max(x_rows, axis=1, keepdims=True, out=of_row)
            xp.subtract(x_rows, of_row, out=y_rows)
            xp.exp(y_rows, out=y_rows)
            xp.sum(y_rows, axis=1, keepdims=True, out=of_row)
            xp.reciprocal(of_row, out=of_row)
            y_rows *= of_row
            xp.maximum(y_rows, PROBABILITY_FLOOR, out=y_rows)

        in_row_blocks(softmax, x)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        """dF/dx_i = y_i (dF/dy_i - sum_j y_j dF/dy_j)."""
        xp = array_module(y)
        mean = self.workspace.array("of_row", (len(y),), y)
        row_dots(y, derivative, out=mean)
        xp.subtract(derivative, mean[:, None], out=out)
        out *= y

    def backpropagate_log(
        self, y: Array, rows: Array, columns: Array, weights: Array, out: Array
    ) -> None:
        """Backpropagate F = sum_k w_k log y[row_k, column_k] at once: dF/dx = w - (sum w) y.

        Equal to backpropagate() of dF/dy = w / y, without a matrix that is nearly all zero.
        """
        xp = array_module(y)
        row_weights = xp.bincount(rows, weights, minlength=len(y)).astype(y.dtype)
        row_weights = -row_weights[:, None]
        in_row_blocks(lambda rows, _: xp.multiply(y[rows], row_weights[rows], out=out[rows]), y)
        xp.add.at(out, (rows, columns), weights.astype(y.dtype, copy=False))

    def store_statistics(self, y: Array, to: NonlinearComponent) -> None:
        to.add_statistics(y.sum(axis=0), None, len(y))
