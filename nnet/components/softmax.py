"""The softmax, which turns the last layer's outputs into probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnet.components.base import component_type
from nnet.components.layout import FrameLayout
from nnet.components.nonlinear import NonlinearComponent
from nnet.device.backend import Array, Workspace, in_row_blocks, on_gpu, row_dots

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
        softmax(x, out, PROBABILITY_FLOOR)

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
        softmax_backward(y, derivative, out)

    def backpropagate_log(self, y: Array, labels: Labels, out: Array) -> None:
        """Backpropagate F = sum_k w_k log y[row_k, pdf_k] at once: dF/dx = w - (sum w) y.

        Equal to backpropagate() of dF/dy = w / y, without a matrix that is nearly all zero.
        """
        softmax_log_backward(y, labels, out)

    def store_statistics(self, y: Array, to: NonlinearComponent) -> None:
        to.add_statistics(y)


class Labels(NamedTuple):
    """The labels of a minibatch, on the device of its output, in the order of the rows.

    rows, pdfs (int32), weights (float32): of each label, as in a Minibatch.
    starts: (output rows + 1,) int32; row n has the labels starts[n] to starts[n + 1].  There may be
        room for more labels behind the last.
    """

    rows: Array
    pdfs: Array
    weights: Array
    starts: Array


@on_gpu("layers")
def softmax(x: Array, out: Array, floor: float) -> None:
    """The softmax of each row, floored; `out` may be `x`."""

    def softmax_of(rows: slice, scratch: Workspace) -> None:
        x_rows, y_rows = x[rows], out[rows]
        of_row = scratch.array("of_row", (len(x_rows), 1), x)
        np.max(x_rows, axis=1, keepdims=True, out=of_row)
        np.subtract(x_rows, of_row, out=y_rows)
        np.exp(y_rows, out=y_rows)
        np.sum(y_rows, axis=1, keepdims=True, out=of_row)
        np.reciprocal(of_row, out=of_row)
        y_rows *= of_row
        np.maximum(y_rows, floor, out=y_rows)

    in_row_blocks(softmax_of, x)


@on_gpu("layers")
def softmax_backward(y: Array, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input of softmax(); `out` may be `derivative`."""
    mean = np.empty(len(y), y.dtype)
    row_dots(y, derivative, out=mean)
    np.subtract(derivative, mean[:, None], out=out)
    out *= y


@on_gpu("layers")
def softmax_log_backward(y: Array, labels: Labels, out: Array) -> None:
    """The derivative of sum_k w_k log y[row_k, pdf_k] w.r.t. the input of softmax()."""
    weights = labels.weights.astype(y.dtype, copy=False)
    row_weights = -np.bincount(labels.rows, weights, minlength=len(y)).astype(y.dtype)[:, None]
    in_row_blocks(lambda rows, _: np.multiply(y[rows], row_weights[rows], out=out[rows]), y)
    np.add.at(out, (labels.rows, labels.pdfs), weights)


@on_gpu("layers")
def add_log_prob(y: Array, labels: Labels, floor: float, total: Array) -> None:
    """Add sum_k w_k log max(y[row_k, pdf_k], floor) to `total`, one element of float64."""
    floored = np.maximum(y[labels.rows, labels.pdfs], floor)
    total += np.log(floored, dtype=np.float64) @ labels.weights


@on_gpu("layers")
def log_prob_backward(y: Array, labels: Labels, floor: float, out: Array) -> None:
    """The derivative w.r.t. `y` of what add_log_prob() adds, as if there were no floor."""
    out[...] = 0
    floored = np.maximum(y[labels.rows, labels.pdfs], floor)
    derivative = (labels.weights / floored).astype(y.dtype, copy=False)
    np.add.at(out, (labels.rows, labels.pdfs), derivative)
