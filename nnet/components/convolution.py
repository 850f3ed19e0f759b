"""Convolution along one dimension, such as the frequency of a filterbank.

Source: Kaldi's nnet2/nnet-component.{h,cc}; Abdel-Hamid et al., "Applying convolutional neural
networks concepts to hybrid NN-HMM model for speech recognition", ICASSP 2012.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnet.components.affine import (
    AffineStep,
    check_bias,
    random_parameters,
    read_affine_matrix,
    require_dims,
    root_mean_square,
    take_dims,
)
from nnet.components.base import (
    BOOLEAN,
    INTEGER,
    MATRIX,
    REAL,
    VECTOR,
    Component,
    ConfigLine,
    Field,
    component_type,
    format_number,
    option,
    single,
)
from nnet.device.device import Array


@component_type
class Convolutional1dComponent(AffineStep):
    """y_p = W x_p + b, for patches x_p of the input, with filters that are the rows of W.

    The input is an array (splice, `patch_stride`), such as frames and their frequencies, or its
    transpose if `appended_conv`, as where it is the output of another convolution.  Patch p has
    the columns p `patch_step` to p `patch_step` + `patch_dim` of it.  The output has all filters'
    values of the first patch, then all of the second.

    A config line has either ``matrix=FILE``, for [W b], or dimensions and standard deviations as
    that of an AffineComponent.
    """

    fields = (
        option("learning_rate", REAL, single(0.001), label="learning-rate"),
        option("patch_dim", INTEGER),
        option("patch_step", INTEGER),
        option("patch_stride", INTEGER),
        option("appended_conv", BOOLEAN, default=False, absent=False),
        Field("linear_params", MATRIX, token="<FilterParams>"),
        Field("bias_params", VECTOR),
        Field("is_gradient", BOOLEAN, default=False, absent=False),
    )
    needs_output = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        values = cls.configured(line)
        if "matrix" in line:
            return require_dims(line, line.build(cls, values | read_affine_matrix(line)))
        dim, step, stride = (values[f"patch_{name}"] for name in ("dim", "step", "stride"))
        if not (0 < dim <= stride and step > 0 and (stride - dim) % step == 0):
            raise line.fail(f"patches of {dim}, {step} apart, do not cover {stride} columns")
        (input_dim, output_dim), num_patches = take_dims(line), _num_patches(dim, step, stride)
        if input_dim % stride or output_dim % num_patches:
            raise line.fail(
                f"input-dim={input_dim} is not a multiple of patch-stride={stride}, or "
                f"output-dim={output_dim} not one of the number of patches, {num_patches}"
            )
        shape = output_dim // num_patches, input_dim // stride * dim
        return line.build(cls, values | random_parameters(line, rng, input_dim, shape))

    def check(self) -> None:
        self.require(self.linear_params.size > 0, "W is empty")
        check_bias(self)
        self.require(
            0 < self.patch_dim <= self.patch_stride and self.patch_step > 0,
            f"patches of {self.patch_dim}, {self.patch_step} apart, among {self.patch_stride}",
        )
        self.num_filters, self.filter_dim = self.linear_params.shape
        self.require(
            self.filter_dim % self.patch_dim == 0,
            f"filters of dimension {self.filter_dim} for patches of {self.patch_dim}",
        )
        self.num_splice = self.filter_dim // self.patch_dim
        self.num_patches = _num_patches(self.patch_dim, self.patch_step, self.patch_stride)
        self.input_dim = self.num_splice * self.patch_stride
        self.output_dim = self.num_patches * self.num_filters

    def info_items(self) -> Iterator[tuple[str, str]]:
        *dims, learning_rate = super().info_items()
        yield from dims
        for name in "num_splice", "num_patches", "num_filters", "filter_dim":
            yield name.replace("_", "-"), f"{getattr(self, name)}"
        yield "filter-params-stddev", format_number(root_mean_square(self.linear_params))
        yield "bias-params-stddev", format_number(root_mean_square(self.bias_params))
        yield "appended-conv", f"{self.appended_conv:d}"
        yield learning_rate

    def propagate(self, x: Array, out: Array) -> None:
        y = out.reshape(-1, self.num_filters)
        self.device.broadcast_rows(self.bias_params, y)
        self.device.add_matmul(self._patches(x), self.linear_params.T, out=y)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        shape = len(out), self.num_patches, self.num_splice, self.patch_dim
        patches = self.workspace.array("derivatives of patches", shape, out)
        of_filters = derivative.reshape(-1, self.num_filters)
        rows = patches.reshape(-1, self.filter_dim)
        self.device.matmul(of_filters, self.linear_params, out=rows)
        out[...] = 0
        for p, columns in enumerate(self._windows(out)):
            columns += patches[:, p]

    def update(self, x: Array, y: Array, derivative: Array) -> None:
        of_filters = derivative.reshape(-1, self.num_filters)
        self.step(self._patches(x), of_filters, self.linear_params, self.bias_params)

    def add_gradient(self, x: Array, y: Array, derivative: Array, to: Component) -> None:
        of_filters = derivative[: len(x)].reshape(-1, self.num_filters)
        self.add_outer_products(1.0, self._patches(x), of_filters, to.linear_params, to.bias_params)

    def columns_of_patches(self) -> np.ndarray:
        """Return the column of the input that each column of the patches is, patch by patch."""
        columns = np.arange(self.input_dim)[np.newaxis]
        return np.concatenate([window.ravel() for window in self._windows(columns)])

    def _patches(self, x: Array) -> Array:
        """Copy the patches of x to the rows of a matrix, (rows * patches, filter_dim)."""
        shape = len(x), self.num_patches, self.num_splice, self.patch_dim
        patches = self.workspace.array("patches", shape, x)
        for p, columns in enumerate(self._windows(x)):
            patches[:, p] = columns
        return patches.reshape(-1, self.filter_dim)

    def _windows(self, a: Array) -> Iterator[Array]:
        """View the columns of each patch, (rows, splice, patch_dim)."""
        if self.appended_conv:
            a = a.reshape(len(a), self.patch_stride, self.num_splice).swapaxes(1, 2)
        else:
            a = a.reshape(len(a), self.num_splice, self.patch_stride)
        for first in range(0, self.num_patches * self.patch_step, self.patch_step):
            yield a[:, :, first : first + self.patch_dim]


def _num_patches(dim: int, step: int, stride: int) -> int:
    """Count the patches of `dim` columns, `step` apart, that fit into `stride`."""
    return 1 + (stride - dim) // step
