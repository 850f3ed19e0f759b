"""The functions of a network's layers, and their derivatives, each as one kernel or two.

Activations are (rows, dim), C-contiguous, float32 or float64, all of one precision.  The arithmetic
is written down in the file *.cu of the kernel's name.
"""

from __future__ import annotations

import numpy as np

from nnet.backend import Array
from nnet.cuda.kernels import THREADS, launch, launch_elementwise

FUNCTIONS = {"sigmoid": 1, "tanh": 2, "rectifier": 3}
"""enum Function of nonlinear.cu"""
_IDENTITY = 0
_COLUMNS_PER_BLOCK = 32


def _launch_rowwise(name: str, x: Array, *args) -> None:
    """A block per row of `x`, with threads as the length of a row can use them."""
    rows, dim = x.shape
    threads = min(1024, max(32, 32 * (dim // 256)))
    launch(name, rows, threads, *args, dtype=x.dtype)


# Softmax and objective ----------------------------------------------------------------------------


def softmax(x: Array, out: Array, floor: float) -> None:
    """The softmax of each row, floored; `out` may be `x`."""
    _launch_rowwise("softmax", x, x, out, x.shape[1], floor)


def softmax_backward(y: Array, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input of softmax(); `out` may be `derivative`."""
    _launch_rowwise("softmax_backward", y, y, derivative, out, y.shape[1])


def softmax_log_backward(y: Array, starts: Array, pdfs: Array, weights: Array, out: Array) -> None:
    """The derivative of sum_k w_k log y[row_k, pdf_k] w.r.t. the input of softmax().

    The labels of row n are starts[n] to starts[n + 1] of `pdfs` and `weights`; starts (rows + 1,)
    and pdfs are int32, weights of the precision of y.  `out` may be `y`.
    """
    _launch_rowwise("softmax_log_backward", y, y, starts, pdfs, weights, out, y.shape[1])


def add_log_prob(
    y: Array, starts: Array, pdfs: Array, weights: Array, floor: float, totals: Array
) -> None:
    """Add sum_k w_k log max(y[row_k, pdf_k], floor) and sum_k w_k to `totals`, (2,) float64."""
    args = y, starts, pdfs, weights, *y.shape, floor, totals
    launch("add_log_prob", 1, 1024, *args, dtype=y.dtype)


# Normalization and p-norm -------------------------------------------------------------------------


def normalize(x: Array, out: Array, floor: float) -> None:
    """Each row divided by its root mean square, whose square is floored; `out` may be `x`."""
    _launch_rowwise("normalize", x, x, out, x.shape[1], floor)


def normalize_backward(x: Array, derivative: Array, out: Array, floor: float) -> None:
    """The derivative w.r.t. the input of normalize(); `out` may be `derivative`."""
    _launch_rowwise("normalize_backward", x, x, derivative, out, x.shape[1], floor)


def pnorm2(x: Array, out: Array) -> None:
    """Euclidean norms of groups of neighbours, as many as there are columns of `out`."""
    group = x.shape[1] // out.shape[1]
    launch_elementwise("pnorm2", out.size, x, out, out.size, group, dtype=x.dtype)


def pnorm2_backward(x: Array, y: Array, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input of pnorm2(), whose output was `y`."""
    group, tiny = x.shape[1] // y.shape[1], float(np.finfo(y.dtype).tiny)
    args = x, y, derivative, out, x.size, group, tiny
    launch_elementwise("pnorm2_backward", x.size, *args, dtype=x.dtype)


# Elementwise functions ----------------------------------------------------------------------------


def nonlinear(function: str, x: Array, out: Array) -> None:
    """One of FUNCTIONS; `out` may be `x`."""
    launch_elementwise("nonlinear", x.size, FUNCTIONS[function], x, out, x.size, dtype=x.dtype)


def nonlinear_backward(function: str, y: Array, derivative: Array, out: Array) -> None:
    """The derivative w.r.t. the input, from the output `y`; `out` may be `derivative`."""
    args = FUNCTIONS[function], y, derivative, out, y.size
    launch_elementwise("nonlinear_backward", y.size, *args, dtype=y.dtype)


def add_column_sums(
    y: Array, value_sum: Array, function: str | None = None, slope_sum: Array | None = None
) -> None:
    """Add sums over the rows of y to value_sum, and of the slopes of `function` to slope_sum.

    Both sums are (dim,) float64.
    """
    rows, dim = y.shape
    number = _IDENTITY if function is None else FUNCTIONS[function]
    blocks = -(-dim // _COLUMNS_PER_BLOCK)
    launch(
        "add_column_sums", blocks, 512, number, y, value_sum, slope_sum, rows, dim, dtype=y.dtype
    )


# Affine functions ---------------------------------------------------------------------------------


def broadcast_rows(bias: Array, out: Array) -> None:
    """Set every row of `out` to `bias`."""
    launch_elementwise("broadcast_rows", out.size, bias, out, *_size_and_dim(out), dtype=out.dtype)


def _size_and_dim(a: Array) -> tuple[int, int]:
    return a.size, a.shape[1]


def append_one(x: Array, out: Array) -> None:
    """`out` (rows, dim + 1) is x (rows, dim) and a column of ones."""
    launch_elementwise("append_one", out.size, x, out, *x.shape, dtype=x.dtype)


def take_off_one(extended: Array, step: Array, x: Array, ones: Array) -> None:
    """step times `extended` (rows, dim + 1), as x (rows, dim) and the last column, ones (rows,).

    step: one element, on the device.
    """
    args = extended, step, x, ones, *x.shape
    launch_elementwise("take_off_one", extended.size, *args, dtype=x.dtype)


def step_length(
    learning_rate: Array,
    scales: tuple[Array, Array],
    products: tuple[Array, Array],
    max_change: float,
    step: Array,
    report: Array,
) -> None:
    """How far to go along the preconditioned gradient: *step, one element.

    learning_rate: one element, float64.
    scales, products: of the input and of the output derivative: what precondition() returned, and
        the squared norms of the rows, (rows,).
    max_change: largest allowed sum of the norms of the terms of the step; 0 for any.
    report: (3,) float64: adds the number of shortened steps to report[0], sets report[1] to the
        last factor, and adds the number of steps that are not finite, and not made, to report[2].
    """
    x_products, d_products = products
    args = learning_rate, *scales, x_products, d_products, len(x_products), max_change, step, report
    launch("step_length", 1, THREADS, *args, dtype=step.dtype)
