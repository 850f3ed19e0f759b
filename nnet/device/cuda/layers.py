"""The functions of a network's layers, and their derivatives, each as one kernel.

Activations are (rows, dim), C-contiguous, all of one precision, float32 or float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnet.device.cuda.kernels import THREADS, launch, launch_elementwise
from nnet.device.device import Array, Device, Elementwise, SparseRows

FUNCTIONS = {"none": 0, "sigmoid": 1, "tanh": 2, "rectifier": 3, "soft hinge": 4}
"""The elementwise functions that kernels know, by the numbers of enum Function of nonlinear.cu."""
_COLUMNS_PER_BLOCK = 32
_BLOCKS_AT_ONCE = 256
"""As many as a GPU runs together, for kernels of which every block first does the same."""


def _launch_rowwise(name: str, x: Array, *args: Any) -> None:
    """Run a kernel with a block per row of `x`, of as many threads as a row has work for."""
    rows, dim = x.shape
    threads = min(1024, max(32, 32 * (dim // 256)))
    launch(name, rows, threads, *args, dtype=x.dtype)


def _elements(matrix: SparseRows, y: Array) -> tuple[Array, Array, Array]:
    return matrix.starts, matrix.columns, matrix.values.astype(y.dtype, copy=False)


class LayerKernels(Device):
    """The methods of a device that are kernels; Device says what they do."""

    def row_dots(self, a: Array, b: Array, out: Array) -> None:
        _launch_rowwise("row_dots", a, a, b, out, a.shape[1])

    def sum_ranges(self, x: Array, starts: Array, out: Array) -> None:
        args = x, starts, out, out.size, x.shape[1], out.shape[1]
        launch_elementwise("sum_ranges", out.size, *args, dtype=x.dtype)

    def softmax(self, x: Array, out: Array, floor: float) -> None:
        _launch_rowwise("softmax", x, x, out, x.shape[1], floor)

    def softmax_backward(self, y: Array, derivative: Array, out: Array) -> None:
        _launch_rowwise("softmax_backward", y, y, derivative, out, y.shape[1])

    def softmax_log_backward(self, y: Array, derivative: SparseRows, out: Array) -> None:
        args = *_elements(derivative, y), out, y.shape[1]
        _launch_rowwise("softmax_log_backward", y, y, *args)

    def add_log_prob(self, y: Array, labels: SparseRows, floor: float, total: Array) -> None:
        args = *_elements(labels, y), *y.shape, floor, total
        launch("add_log_prob", 1, 1024, y, *args, dtype=y.dtype)

    def log_backward(self, y: Array, derivative: SparseRows, floor: float, out: Array) -> None:
        args = *_elements(derivative, y), floor, out, y.shape[1]
        _launch_rowwise("log_prob_backward", y, y, *args)

    def normalize(self, x: Array, out: Array, floor: float) -> None:
        _launch_rowwise("normalize", x, x, out, x.shape[1], floor)

    def normalize_backward(self, x: Array, derivative: Array, out: Array, floor: float) -> None:
        _launch_rowwise("normalize_backward", x, x, derivative, out, x.shape[1], floor)

    def pnorm2(self, x: Array, out: Array) -> None:
        group = x.shape[1] // out.shape[1]
        launch_elementwise("pnorm2", out.size, x, out, out.size, group, dtype=x.dtype)

    def pnorm2_backward(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        group, tiny = x.shape[1] // y.shape[1], float(np.finfo(y.dtype).tiny)
        args = x, y, derivative, out, x.size, group, tiny
        launch_elementwise("pnorm2_backward", x.size, *args, dtype=x.dtype)

    def nonlinear(self, x: Array, function: Elementwise, out: Array) -> None:
        if function.name not in FUNCTIONS:
            super().nonlinear(x, function, out)
            return
        number = FUNCTIONS[function.name]
        launch_elementwise("nonlinear", x.size, number, x, out, x.size, dtype=x.dtype)

    def nonlinear_backward(
        self, y: Array, function: Elementwise, derivative: Array, out: Array
    ) -> None:
        if function.name not in FUNCTIONS:
            super().nonlinear_backward(y, function, derivative, out)
            return
        args = FUNCTIONS[function.name], y, derivative, out, y.size
        launch_elementwise("nonlinear_backward", y.size, *args, dtype=y.dtype)

    def add_column_sums(self, y: Array, sums: list[Array], function: Elementwise | None) -> None:
        name = function.name if function else "none"
        if name not in FUNCTIONS:
            super().add_column_sums(y, sums, function)
            return
        value_sum, slope_sum = (*sums, None)[:2]
        blocks = -(-y.shape[1] // _COLUMNS_PER_BLOCK)
        args = FUNCTIONS[name], y, value_sum, slope_sum, *y.shape
        launch("add_column_sums", blocks, 512, *args, dtype=y.dtype)

    def draw_uniform(self, state: Array, x: Array) -> None:
        launch_elementwise("draw_uniform", -(-x.size // 8), state, x, x.size, dtype=x.dtype)

    def broadcast_rows(self, bias: Array, out: Array) -> None:
        launch_elementwise(
            "broadcast_rows", out.size, bias, out, out.size, out.shape[1], dtype=out.dtype
        )

    def append_one(self, x: Array, out: Array) -> None:
        launch_elementwise("append_one", out.size, x, out, *x.shape, dtype=x.dtype)

    def scale_step(
        self,
        extended: Array,
        norms: Array,
        scales: tuple[Array, Array],
        learning_rate: float,
        max_change: float,
        x: Array,
        ones: Array,
        limits: Array,
    ) -> None:
        blocks = min(-(-extended.size // THREADS), _BLOCKS_AT_ONCE)
        numbers = norms.shape[1], float(learning_rate), float(max_change), *x.shape
        args = extended, norms, *scales, *numbers, x, ones, limits
        launch("scale_step", blocks, THREADS, *args, dtype=x.dtype)
