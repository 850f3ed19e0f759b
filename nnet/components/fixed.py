"""Linear functions that are given, not trained: feature transforms, scales from priors.

Source: Kaldi's nnet2/nnet-component.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from nnet.components.affine import (
    AffineFunction,
    LinearFunction,
    read_affine_matrix,
    root_mean_square,
)
from nnet.components.base import (
    BOOLEAN,
    INTEGER,
    INTEGERS,
    MATRIX,
    REAL,
    VECTOR,
    Component,
    ConfigLine,
    Field,
    SameDimComponent,
    component_type,
    format_number,
    option,
    single,
)
from nnet.device.device import Array, Device
from nnet.io.numbers import integer
from nnet.io.tokens import LARGEST_ARRAY, read_object


@component_type
class FixedAffineComponent(AffineFunction):
    """y = W x + b; in a config line ``matrix=FILE`` names the file of [W b]."""

    fields = (
        Field("linear_params", MATRIX),
        Field("bias_params", VECTOR),
    )
    needs_input = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        return line.build(cls, read_affine_matrix(line))


@component_type
class FixedLinearComponent(LinearFunction):
    """y = W x; in a config line ``matrix=FILE`` names the file of W."""

    fields = (Field("linear_params", MATRIX, token="<CuMatrix>"),)
    needs_input = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        filename = line.take("matrix", str)
        matrix = read_object(filename, lambda reader: reader.matrix(np.float32))
        return line.build(cls, {"linear_params": matrix})

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "params-stddev", format_number(root_mean_square(self.linear_params))


class DiagonalComponent(SameDimComponent):
    """A function of each input by itself, whose slope does not depend on it."""

    needs_input = False
    needs_output = False
    in_place = True


class FixedVectorComponent(DiagonalComponent):
    """A function with one parameter for each input; `vector_name` is that of the vector of them.

    In a config line an option of this name gives the file of the vector.
    """

    vector_name: ClassVar[str]
    dim = property(lambda self: len(self.vector))

    @property
    def vector(self) -> Array:
        return getattr(self, self.vector_name)

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        filename = line.take(cls.vector_name, str)
        vector = read_object(filename, lambda reader: reader.vector(np.float32))
        return line.build(cls, {cls.vector_name: vector})

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield f"{self.vector_name}-mean", format_number(float(self.vector.mean(dtype=np.float64)))
        yield f"{self.vector_name}-stddev", format_number(float(self.vector.std(dtype=np.float64)))


@component_type
class FixedScaleComponent(FixedVectorComponent):
    """y_i = s_i x_i; in a config line ``scales=FILE`` names the file of the vector s."""

    vector_name = "scales"
    fields = (Field("scales", VECTOR),)

    def propagate(self, x: Array, out: Array) -> None:
        self.device.xp.multiply(x, self.scales, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.xp.multiply(derivative, self.scales, out=out)


@component_type
class FixedBiasComponent(FixedVectorComponent):
    """y_i = x_i + b_i; in a config line ``bias=FILE`` names the file of the vector b."""

    vector_name = "bias"
    fields = (Field("bias", VECTOR),)

    def propagate(self, x: Array, out: Array) -> None:
        self.device.xp.add(x, self.bias, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        out[...] = derivative


@component_type
class ScaleComponent(DiagonalComponent):
    """y = s x, with the number s, `factor`; in a config line it is ``scale``."""

    fields = (
        option("dim", INTEGER),
        Field("factor", REAL, token="<Scale>"),
    )

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        factor = single(line.take("scale", float))
        return line.build(cls, {**cls.configured(line), "factor": factor})

    def check(self) -> None:
        super().check()
        self.require(self.factor != 0, "the scale is zero")

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield "dim", f"{self.dim}"
        yield "scale", format_number(self.factor)

    def propagate(self, x: Array, out: Array) -> None:
        self.device.xp.multiply(x, self.factor, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.xp.multiply(derivative, self.factor, out=out)


@component_type
class PermuteComponent(Component):
    """y_{r_i} = x_i, with the permutation r, `reorder`; a config line has it random (``dim=D``)."""

    fields = (Field("reorder", INTEGERS),)
    needs_input = False
    needs_output = False

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        dim = line.take("dim", integer)
        if not 0 < dim <= LARGEST_ARRAY // 4:
            raise line.fail(f"dim={dim} is not positive, or too large for a file")
        return line.build(cls, {"reorder": tuple(rng.permutation(dim).tolist())})

    def check(self) -> None:
        self.input_dim = self.output_dim = len(self.reorder)
        super().check()
        self.require(
            sorted(self.reorder) == list(range(self.input_dim)), "this is not a permutation"
        )

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self._place = device.asarray(np.array(self.reorder))  # of each input among the outputs
        self._source = device.asarray(np.argsort(self.reorder))

    def propagate(self, x: Array, out: Array) -> None:
        self.device.xp.take(x, self._source, axis=1, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self.device.xp.take(derivative, self._place, axis=1, out=out)


@component_type
class DctComponent(Component):
    """Cosine transforms C x_k of parts x_k of the input, each of `dct_dim` elements.

    The first `dct_keep_dim` coefficients are kept.  A part is made of neighbours, or, to `reorder`,
    of every so many-th element, such as the same one of each spliced frame; then y_k is, too.

        C_{kn} = (2/N)^{1/2} cos(pi/N (n + 1/2) k),  C_{0n} = N^{-1/2},  with N = `dct_dim`
    """

    fields = (
        option("dim", INTEGER),
        option("dct_dim", INTEGER, label="dct_dim"),
        option("reorder", BOOLEAN, False),
        option("dct_keep_dim", INTEGER, 0, absent=0),
    )
    dct_keep_dim: int
    needs_input = False
    needs_output = False

    def check(self) -> None:
        self.require(
            self.dim > 0 and self.dct_dim > 0 and self.dim % self.dct_dim == 0,
            f"dct-dim={self.dct_dim} does not divide dim={self.dim}",
        )
        self.dct_keep_dim = self.dct_keep_dim or self.dct_dim
        self.require(
            0 < self.dct_keep_dim <= self.dct_dim,
            f"dct-keep-dim={self.dct_keep_dim} is not in 1 to dct-dim={self.dct_dim}",
        )
        self.require(
            not self.reorder or self.dct_keep_dim == self.dct_dim,
            "with reorder=true all coefficients must be kept; Kaldi mixes up what is left of them",
        )
        self.require(4 * self.dct_dim**2 <= LARGEST_ARRAY, f"dct-dim={self.dct_dim} is too large")
        self.num_parts = self.dim // self.dct_dim
        self.input_dim, self.output_dim = self.dim, self.num_parts * self.dct_keep_dim

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        self._matrix: Array | None = None

    def matrix(self, like: Array) -> Array:
        """Return C, (dct_keep_dim, dct_dim), in the precision of `like`."""
        if self._matrix is None or self._matrix.dtype != like.dtype:
            k, n = np.ogrid[: self.dct_keep_dim, : self.dct_dim]
            C = np.sqrt(2 / self.dct_dim) * np.cos(np.pi / self.dct_dim * (n + 0.5) * k)
            C[0] = self.dct_dim**-0.5
            self._matrix = self.device.asarray(C.astype(like.dtype))
        return self._matrix

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        if self.dct_keep_dim != self.dct_dim:
            yield "dct_keep_dim", f"{self.dct_keep_dim}"

    def propagate(self, x: Array, out: Array) -> None:
        self._multiply(x, self.matrix(x).T, out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        self._multiply(derivative, self.matrix(derivative), out)

    def _multiply(self, a: Array, by: Array, out: Array) -> None:
        """Multiply each part of the rows of `a` by a matrix."""
        if not self.reorder:
            self.device.matmul(a.reshape(-1, len(by)), by, out=out.reshape(-1, by.shape[1]))
            return
        apart = len(a), self.dct_dim, self.num_parts
        together = len(a), self.num_parts, self.dct_dim
        parts, results = (self.workspace.array(name, together, a) for name in ("parts", "results"))
        parts[...] = a.reshape(apart).swapaxes(1, 2)
        self.device.matmul(parts.reshape(-1, len(by)), by, out=results.reshape(-1, len(by)))
        out.reshape(apart)[...] = results.swapaxes(1, 2)
