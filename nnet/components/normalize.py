"""Normalisation of each frame to a root-mean-square of one."""

from __future__ import annotations

from nnet.backend import Array, Workspace, array_module, in_row_blocks, row_dots
from nnet.components.base import component_type
from nnet.components.layout import FrameLayout
from nnet.components.nonlinear import NonlinearComponent

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
        array_module(x).multiply(x, self._factor(x)[:, None], out=out)

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
        xp = array_module(x)
        f = self._factor(x)
        projection = self.workspace.array("projection", f.shape, f)
        row_dots(x, derivative, out=projection)
        projection *= f**3 / -self.dim
        projection[f == NORM_FLOOR**-0.5] = 0

        def add_along_x(rows: slice, scratch: Workspace) -> None:
            along_x = scratch.array("along_x", x[rows].shape, x)
            xp.multiply(x[rows], projection[rows, None], out=along_x)
            xp.multiply(derivative[rows], f[rows, None], out=out[rows])
            out[rows] += along_x

        in_row_blocks(add_along_x, x)

    def _factor(self, x: Array) -> Array:
        """f of each row, (rows,)."""
        xp = array_module(x)
        f = self.workspace.array("factor", x.shape[:1], x)
        row_dots(x, x, out=f)
        f /= self.dim
        xp.maximum(f, NORM_FLOOR, out=f)
        xp.sqrt(f, out=f)
        return xp.reciprocal(f, out=f)
