"""A device as an object: the CPU here, a GPU in a subclass.

Networks, their components and preconditioners have a ``device``, and compute by its methods or by
array functions that they take from its ``xp``::

    self.device.matmul(x, w.T, out=y)
    self.device.xp.multiply(x, x, out=y)

so that the same code runs everywhere.  CuPy is imported only when a GPU was asked for.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nnet.device import blas
from nnet.device.threads import for_each
from nnet.io.tables import read_ahead

T = TypeVar("T")
Array = Any
"""A numpy.ndarray or a cupy.ndarray."""

_BLOCK_SIZE = 1 << 16  # elements; a few arrays of that size fit in a core's second-level cache


def array_module(array: Array) -> ModuleType:
    """Return the module, numpy or cupy, whose functions apply to `array`."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def to_host(array: Array) -> np.ndarray:
    """Return `array` as a numpy.ndarray; itself when it is one."""
    return array if array_module(array) is np else array.get()


# Kinds of arrays ----------------------------------------------------------------------------------


class Workspace:
    """Scratch arrays that are allocated once and then used again for every minibatch.

    An array is asked for by name; what it held before is undefined.  A smaller one (the last
    minibatch) is cut from the memory of the larger.  A copy of a workspace is empty: scratch memory
    is never part of what an object means.
    """

    def __init__(self):
        self._memory: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], like: Array, dtype=None) -> Array:
        """Return a C-contiguous array, with device and, unless given, dtype of `like`."""
        dtype = like.dtype if dtype is None else dtype
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = self._memory[name] = array_module(like).empty(size, dtype)
        return memory[:size].reshape(shape)

    def __deepcopy__(self, memo: dict) -> Workspace:
        return Workspace()


class SparseRows(NamedTuple):
    """A sparse matrix, such as the labels of the rows of a network's output.

    Attributes:
        rows, columns, values: of each element that is not zero, int32, int32 and float32, in the
            order of the rows; an element may stand there several times, for its sum.
        starts: (rows + 1,) int32; row n has the elements starts[n] to starts[n + 1].  There may be
            room for more elements behind the last.
    """

    rows: Array
    columns: Array
    values: Array
    starts: Array

    @classmethod
    def full(cls, matrix: Array) -> SparseRows:
        """Return a matrix, none of whose elements is taken to be zero."""
        xp, (num_rows, num_columns) = array_module(matrix), matrix.shape
        rows = xp.repeat(xp.arange(num_rows, dtype=np.int32), num_columns)
        columns = xp.tile(xp.arange(num_columns, dtype=np.int32), num_rows)
        starts = num_columns * xp.arange(num_rows + 1, dtype=np.int32)
        return cls(rows, columns, matrix.ravel(), starts)

    def on(self, device: Device) -> SparseRows:
        """Return the matrix on a device; itself when it is there already."""
        return SparseRows(*map(device.asarray, self))


class Elementwise(NamedTuple):
    """A function of one variable, computed elementwise as ufuncs are.

    Attributes:
        name: for devices that have a kernel for it.
        value: function(xp, x, out), from the input, by functions of the array module `xp`.
        slope: function(xp, y, out), the derivative, from the value y.
    """

    name: str
    value: Callable[[ModuleType, Array, Array], Any]
    slope: Callable[[ModuleType, Array, Array], Any]


class _Scratch(Workspace, threading.local):
    """A workspace of the calling thread's own."""


# Devices ------------------------------------------------------------------------------------------


class Device:
    """The CPU, whose arrays are NumPy's.

    A subclass for another device has another `xp` and overrides what that device does better.  It
    inherits the rest, which is plain array code.

    Attributes:
        xp: the module of array functions.
        tf32: whether products of float32 matrices may be rounded to TF32.
        takes_compressed_frames: whether make_steps() takes nnet.io.compressed_frames.
        overlaps: whether what is done in a side stream goes on beside what comes after it, and so
            needs memory that that does not touch.
        side_stream: makes a context whose work may go on so, until join().
    """

    xp: ModuleType = np
    blas: ModuleType = blas
    tf32 = False
    takes_compressed_frames = False
    overlaps = False
    side_stream: Callable[[], AbstractContextManager] = nullcontext

    # Kernels for equations of nnet.natural_gradient, whose own array code is used where there are
    # none; arguments are those of the functions of these names there.
    row_norms: Callable | None = None
    update_estimate: Callable | None = None
    smoothed_inverse: Callable | None = None
    leave_one_out: Callable | None = None
    leave_rows_out: Callable | None = None

    def __init__(self):
        self._scratch = _Scratch()

    def __deepcopy__(self, memo: dict) -> Device:
        return self

    def close(self) -> None:
        """Give back what was acquired."""

    # Arrays ---------------------------------------------------------------------------------------

    def asarray(self, array: Array) -> Array:
        """Return `array` on this device; itself when it is there already."""
        return np.asarray(to_host(array))

    # Steps ----------------------------------------------------------------------------------------

    def make_steps(
        self,
        step: Callable[..., None],
        minibatches: Iterator[tuple[T, tuple[Array, ...]]],
        cycle_length: Callable[[], int],
    ) -> Iterator[list[T]]:
        """Call `step(*arrays)` for each pair (what, arrays); yield what has been done since.

        A thread takes the next pairs, with arrays on the host, meanwhile.

        Args:
            cycle_length: counts the steps from now on that form a cycle, which the device may
                repeat as a whole; 0 if none begins with the next one.
        """
        for what, arrays in read_ahead(minibatches):
            step(*arrays)
            yield [what]

    def on_host(self, function: Callable[[], None]) -> None:
        """Call `function` now, and again whenever the cycle that this is part of is repeated."""
        function()

    def join(self, stream: AbstractContextManager) -> None:
        """Let what comes next wait for what was done in a side stream."""

    # Products -------------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Compute out = a @ b, and return it.

        `out` is C-contiguous; `a` and `b` are C-contiguous or transposes of such, or are copied.
        """
        self.blas.gemm(a, b, out, alpha=1.0, beta=0.0)
        return out

    def add_matmul(self, a: Array, b: Array, out: Array, alpha: float = 1.0) -> None:
        """Compute out += alpha a @ b, without a temporary; for arrays as in matmul()."""
        self.blas.gemm(a, b, out, alpha=alpha, beta=1.0)

    def gram(self, a: Array, out: Array) -> Array:
        """Compute the upper triangle of out = a @ a.T, and return it.

        What is below is undefined.  For arrays as in matmul().
        """
        self.blas.gram(a, out)
        return out

    # Rows of matrices -----------------------------------------------------------------------------

    def row_blocks(self, a: Array) -> list[slice]:
        """Slice the rows of a matrix into blocks that stay in the cache for several operations."""
        rows = len(a)
        size = max(1, _BLOCK_SIZE // a[0].size) if rows else 1
        return [slice(begin, begin + size) for begin in range(0, rows, size)]

    def in_row_blocks(self, function: Callable[[slice, Workspace], None], a: Array) -> None:
        """Call `function(rows, scratch)` for slices of the rows of a matrix, together all of them.

        Threads divide the blocks among themselves.  What `scratch` held before is undefined.
        """
        for_each(lambda rows: function(rows, self._scratch), self.row_blocks(a))

    def row_dots(self, a: Array, b: Array, out: Array) -> None:
        """Compute the dot product of each row of `a` with that of `b`, (rows, dim), (rows,)."""
        einsum = self.xp.einsum
        self.in_row_blocks(lambda rows, _: einsum("nd,nd->n", a[rows], b[rows], out=out[rows]), a)

    def norm_ratio(self, norms: Array, hat_norms: Array, tr: Array, gamma: Array) -> None:
        """Compute tr(X X^T), float64, and the scale that gives X_hat the norm of X, 1 if that is 0.

        norms, hat_norms: squared norms of the rows of X and of X_hat, (N,).
        """
        tr[...] = norms.sum(dtype=np.float64)
        hat_tr = hat_norms.sum(dtype=np.float64)
        gamma[...] = self.xp.sqrt(tr / hat_tr) if hat_tr != 0.0 else 1.0

    def sum_groups(self, a: Array, out: Array) -> None:
        """Compute sums over groups of neighbours in each row of `a`, one for a column of `out`."""
        size = a.shape[1] // out.shape[1]
        ones = self.xp.ones((size, 1), a.dtype)  # plain sums over so few numbers are slow
        self.matmul(a.reshape(-1, size), ones, out=out.reshape(-1, 1))

    def sum_ranges(self, x: Array, starts: Array, out: Array) -> None:
        """Compute sums over ranges of columns from `starts`, int64, to where the next begins."""
        self.xp.add.reduceat(x, starts, axis=1, out=out)

    # Affine functions -----------------------------------------------------------------------------

    def broadcast_rows(self, row: Array, out: Array) -> None:
        """Set every row of `out` to `row`."""
        out[...] = row

    def append_one(self, x: Array, out: Array) -> None:
        """Set `out`, (rows, dim + 1), to x, (rows, dim), and a column of ones."""
        out[:, :-1] = x
        out[:, -1] = 1

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
        """Split `extended`, (rows, dim + 1), into x, (rows, dim), and ones, (1, rows), and scale.

        Args:
            norms: squared norms of the preconditioned rows, (2, N), of inputs and of derivatives.
            scales: those that preconditioning returned for both.
            max_change: largest sum of the norms of the terms of the step; 0 for any.
            limits: how many steps were shortened for it, and the smallest factor; updated.
        """
        xp = self.xp
        length = learning_rate * (scales[0] * scales[1])
        if max_change > 0:
            change = length * xp.sqrt(norms[0] * norms[1]).sum()
            factor = max_change / xp.maximum(change, max_change)
            limits[0] += factor < 1.0
            limits[1] = xp.minimum(limits[1], factor)
            length *= factor
        xp.multiply(extended[:, :-1], length, out=x)
        xp.multiply(extended[:, -1], length, out=ones[0])

    # Nonlinearities: "in place" says that `out` may be the argument before it ---------------------

    def nonlinear(self, x: Array, function: Elementwise, out: Array) -> None:
        """Compute an elementwise function, in place."""
        self.in_row_blocks(lambda rows, _: function.value(self.xp, x[rows], out[rows]), x)

    def nonlinear_backward(
        self, y: Array, function: Elementwise, derivative: Array, out: Array
    ) -> None:
        """Compute the derivative w.r.t. the input of nonlinear(), from the output `y`, in place."""

        def multiply_by_slope(rows: slice, scratch: Workspace) -> None:
            slope = scratch.array("slope", y[rows].shape, y)
            function.slope(self.xp, y[rows], slope)
            self.xp.multiply(derivative[rows], slope, out=out[rows])

        self.in_row_blocks(multiply_by_slope, y)

    def add_column_sums(self, y: Array, sums: list[Array], function: Elementwise | None) -> None:
        """Add the sums over the rows of `y`, and of the slopes of `function`, to `sums`.

        They are of (dim,) float64.
        """
        if function is None:
            (value_sum,) = sums
            value_sum += y.sum(axis=0)
            return
        value_sum, slope_sum = sums
        scratch = Workspace()
        for rows in self.row_blocks(y):
            slope = scratch.array("slope", y[rows].shape, y)
            function.slope(self.xp, y[rows], slope)
            value_sum += y[rows].sum(axis=0)
            slope_sum += slope.sum(axis=0)

    def pnorm2(self, x: Array, out: Array) -> None:
        """Compute Euclidean norms of groups of neighbours, one for a column of `out`."""

        def norms(rows: slice, scratch: Workspace) -> None:
            squares = scratch.array("squares", x[rows].shape, x)
            self.xp.multiply(x[rows], x[rows], out=squares)
            self.sum_groups(squares, out[rows])
            self.xp.sqrt(out[rows], out=out[rows])

        self.in_row_blocks(norms, x)

    def pnorm2_backward(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Compute the derivative w.r.t. the input of pnorm2(), whose output was `y`."""
        by_group = *y.shape, x.shape[1] // y.shape[1]

        def derivatives(rows: slice, scratch: Workspace) -> None:
            ratio = scratch.array("ratio", y[rows].shape, y)
            self.xp.maximum(y[rows], np.finfo(y.dtype).tiny, out=ratio)
            self.xp.divide(derivative[rows], ratio, out=ratio)
            groups, d_x = (a.reshape(by_group)[rows] for a in (x, out))
            self.xp.multiply(groups, ratio[:, :, None], out=d_x)

        self.in_row_blocks(derivatives, x)

    def normalize(self, x: Array, out: Array, floor: float) -> None:
        """Divide each row by its root mean square, whose square is floored, in place."""
        self.xp.multiply(x, self._inverse_rms(x, floor)[:, None], out=out)

    def normalize_backward(self, x: Array, derivative: Array, out: Array, floor: float) -> None:
        """Compute the derivative w.r.t. the input of normalize(), in place."""
        f = self._inverse_rms(x, floor)
        projection = self.xp.empty_like(f)
        self.row_dots(x, derivative, out=projection)
        projection *= f**3 / -x.shape[1]
        projection[f == floor**-0.5] = 0

        def add_along_x(rows: slice, scratch: Workspace) -> None:
            along_x = scratch.array("along_x", x[rows].shape, x)
            self.xp.multiply(x[rows], projection[rows, None], out=along_x)
            self.xp.multiply(derivative[rows], f[rows, None], out=out[rows])
            out[rows] += along_x

        self.in_row_blocks(add_along_x, x)

    def _inverse_rms(self, x: Array, floor: float) -> Array:
        """Return the inverse root mean square of each row, (rows,)."""
        f = self.xp.empty(len(x), x.dtype)
        self.row_dots(x, x, out=f)
        f /= x.shape[1]
        self.xp.maximum(f, floor, out=f)
        self.xp.sqrt(f, out=f)
        return self.xp.reciprocal(f, out=f)

    def softmax(self, x: Array, out: Array, floor: float) -> None:
        """Compute the softmax of each row, floored, in place."""
        xp = self.xp

        def softmax_of(rows: slice, scratch: Workspace) -> None:
            x_rows, y_rows = x[rows], out[rows]
            of_row = scratch.array("of_row", (len(x_rows), 1), x)
            xp.max(x_rows, axis=1, keepdims=True, out=of_row)
            xp.subtract(x_rows, of_row, out=y_rows)
            xp.exp(y_rows, out=y_rows)
            xp.sum(y_rows, axis=1, keepdims=True, out=of_row)
            xp.reciprocal(of_row, out=of_row)
            y_rows *= of_row
            xp.maximum(y_rows, floor, out=y_rows)

        self.in_row_blocks(softmax_of, x)

    def softmax_backward(self, y: Array, derivative: Array, out: Array) -> None:
        """Compute the derivative w.r.t. the input of softmax(), in place."""
        mean = self.xp.empty(len(y), y.dtype)
        self.row_dots(y, derivative, out=mean)
        self.xp.subtract(derivative, mean[:, None], out=out)
        out *= y

    def softmax_log_backward(self, y: Array, derivative: SparseRows, out: Array) -> None:
        """Compute the derivative w.r.t. the input of softmax(), given that w.r.t. log y."""
        xp, values = self.xp, derivative.values.astype(y.dtype, copy=False)
        sums = -xp.bincount(derivative.rows, values, minlength=len(y)).astype(y.dtype)[:, None]
        self.in_row_blocks(lambda rows, _: xp.multiply(y[rows], sums[rows], out=out[rows]), y)
        xp.add.at(out, (derivative.rows, derivative.columns), values)

    def log_backward(self, y: Array, derivative: SparseRows, floor: float, out: Array) -> None:
        """Compute the derivative w.r.t. `y`, given that w.r.t. log y, of a floored y."""
        out[...] = 0
        floored = self.xp.maximum(y[derivative.rows, derivative.columns], floor)
        values = (derivative.values / floored).astype(y.dtype, copy=False)
        self.xp.add.at(out, (derivative.rows, derivative.columns), values)

    def add_log_prob(self, y: Array, labels: SparseRows, floor: float, total: Array) -> None:
        """Add sum_k w_k log max(y[row_k, pdf_k], floor) to `total`, one element of float64."""
        floored = self.xp.maximum(y[labels.rows, labels.columns], floor)
        total += self.xp.log(floored, dtype=np.float64) @ labels.values

    def draw_uniform(self, state: Array, x: Array) -> None:
        """Fill `x`, float32, with random numbers from [0, 1).

        state: the key of the generator "Philox", and the second word of its counter; three of
            uint64.
        """
        *key, count = state
        generator = np.random.Generator(np.random.Philox(key=key, counter=[0, count, 0, 0]))
        generator.random(out=x, dtype=np.float32)


CPU = Device()
"""The device of everything that has not been moved to another."""
