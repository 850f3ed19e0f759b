"""Normalisation of each frame to a root-mean-square of one."""

from __future__ import annotations

import numpy as np

from nnet.components.base import component_type
from nnet.components.layout import FrameLayout
from nnet.components.nonlinear import NonlinearComponent
from nnet.device.backend import Array, Workspace, in_row_blocks, on_gpu, row_dots

NORM_FLOOR = 2.0**-66
"""Of the mean square; it and its inverse square root are exact in single precision."""


@component_type
class NormalizeComponent(NonlinearComponent):
    """y = f x  with  f = max(|x|^2 / D, floor)^{-1/2}, for each row x of dimension D."""

    needs_output = False
    in_place = True

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        normalize(x, out, NORM_FLOOR)

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        """dF/dx = f dF/dy - f^3/D (x^T dF/dy) x, without the second term where f is floored."""
        normalize_backward(x, derivative, out, NORM_FLOOR)


@on_gpu("layers")
def normalize(x: Array, out: Array, floor: float) -> None:
    """Each row divided by its root mean square, whose square is floored; `out` may be `x`."""
    np.multiply(x, _factor(x, floor)[:, None], out=out)


@on_gpu("layers")
def normalize_backward(x: Array, derivative: Array, out: Array, floor: float) -> None:
    """The derivative w.r.t. the input of normalize(); `out` may be `derivative`."""
    f = _factor(x, floor)
    projection = np.empty_like(f)
    row_dots(x, derivative, out=projection)
    projection *= f**3 / -x.shape[1]
    projection[f == floor**-0.5] = 0

    def add_along_x(rows: slice, scratch: Workspace) -> None:
        along_x = scratch.array("along_x", x[rows].shape, x)
        np.multiply(x[rows], projection[rows, None], out=along_x)
        np.multiply(derivative[rows], f[rows, None], out=out[rows])
        out[rows] += along_x

    in_row_blocks(add_along_x, x)


def _factor(x: np.ndarray, floor: float) -> np.ndarray:
    """f of each row, (rows,)."""
    f = np.empty(len(x), x.dtype)
    row_dots(x, x, out=f)
    f /= x.shape[1]
    np.maximum(f, floor, out=f)
    np.sqrt(f, out=f)
    return np.reciprocal(f, out=f)
