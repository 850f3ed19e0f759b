"""Products of matrices by NVIDIA's cuBLAS, on the current stream, whether captured or not.

CuPy's functions refuse a stream that is being captured (setStream() in its
cupy_backends/cuda/libs/cublas.pyx), though cuBLAS does not.  So the library that CuPy has loaded is
called directly.  NVIDIA's nvmath-python wraps it, too, but takes longer to import than CuPy itself.

One handle serves all streams.  Before every call it is given the current stream, and after that, as
that takes it away, memory in which cuBLAS may work and which is this stream's alone: the products
of two streams may run at the same time, and those of a graph whenever it is launched (cuBLAS's
manual, "CUDA Graphs Support" and cublasSetWorkspace()).
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_char_p, c_double, c_float, c_size_t, c_void_p
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from nnet.device.device import Array
from nnet.errors import NgtrainError

# Of enumerations in cublas_api.h.
_AS_IT_IS, _TRANSPOSED = 0, 1
_LOWER = 0
_DEFAULT_MATH, _TF32_MATH = 0, 3

_PRECISIONS = {"f": ("S", c_float), "d": ("D", c_double)}

_workspaces: WeakKeyDictionary[Any, Array] = WeakKeyDictionary()
"""The memory in which cuBLAS works for a stream."""


def use_tf32(tf32: bool) -> None:
    """Let products of float32 matrices round what they multiply to 10 bits, or not."""
    mode = _TF32_MATH if tf32 else _DEFAULT_MATH
    _check(library().cublasSetMathMode(_handle(_device().id), mode))


def gemm(a: Array, b: Array, out: Array, alpha: float, beta: float) -> None:
    """Compute out = alpha * a @ b + beta * out; rows or columns of matrices are contiguous.

    The rows of `out` are.  Operands with neither are copied.

    Raises:
        ValueError: shapes or types do not fit.
    """
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or out.shape != (m, n):
        raise ValueError(f"the product of {a.shape} and {b.shape} matrices is not {out.shape}")
    # cuBLAS is column-major: what it sees of a row-major matrix is the transpose.
    left, right = _operand(b), _operand(a)
    _call("gemm", (left[1], right[1], n, m, k), [left, right], alpha, beta, out)


def gram(a: Array, out: Array) -> None:
    """Compute the upper triangle of out = a @ a.T; matrices as in gemm()."""
    n, k = a.shape
    if out.shape != (n, n):
        raise ValueError(f"the product of a {a.shape} matrix and its transpose is not {out.shape}")
    operand = _operand(a)
    _call("syrk", (_LOWER, 1 - operand[1], n, k), [operand], 1.0, 0.0, out)


def _operand(x: Array) -> tuple[Array, int, int]:
    """Return a matrix, whether to transpose what cuBLAS sees of it, and the stride of that.

    That is x.T or, where not the rows but the columns are contiguous, x.
    """
    (num_rows, num_columns), (row, column) = x.shape, (s // x.itemsize for s in x.strides)
    if (column == 1 or num_columns == 1) and (row >= num_columns or num_rows == 1):
        return x, _AS_IT_IS, max(row, num_columns, 1)
    if (row == 1 or num_rows == 1) and (column >= num_rows or num_columns == 1):
        return x, _TRANSPOSED, max(column, num_rows, 1)
    import cupy

    return cupy.ascontiguousarray(x), _AS_IT_IS, max(num_columns, 1)


def _call(
    name: str,
    options: tuple[int, ...],
    operands: list[tuple[Array, int, int]],
    alpha: float,
    beta: float,
    out: Array,
) -> None:
    """Call a function of level 3 of the BLAS: they all take arguments in this order."""
    if not out.size:
        return
    result, is_transposed, stride = _operand(out)
    if is_transposed or result is not out:
        raise ValueError("the rows of the result of a product are not contiguous")
    if any(x.dtype != out.dtype for x, _, _ in operands):
        raise ValueError("the matrices of a product differ in type")
    letter, real = _PRECISIONS[out.dtype.char]
    function = getattr(library(), f"cublas{letter}{name}_v2")
    matrices = [value for x, _, ld in operands for value in (c_void_p(x.data.ptr), ld)]
    scales = byref(real(alpha)), byref(real(beta))
    args = *options, scales[0], *matrices, scales[1], c_void_p(out.data.ptr), stride
    _check(function(_handle_of_current_stream(), *args))


# The library --------------------------------------------------------------------------------------


@functools.cache
def library() -> ctypes.CDLL:
    """Load cuBLAS, that which CuPy has loaded, as CuPy finds it.

    Integers are passed to its functions as C's int; for pointers and others ctypes has types.
    """
    from cuda.pathfinder import load_nvidia_dynamic_lib  # which CuPy depends on

    return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)


@functools.cache
def _handle(device: int) -> c_void_p:
    handle = c_void_p()
    _check(library().cublasCreate_v2(byref(handle)))
    return handle


def _handle_of_current_stream() -> c_void_p:
    """Return the handle, once it knows the current stream and then its workspace."""
    import cupy

    stream, device = cupy.cuda.get_current_stream(), _device()
    handle, cublas = _handle(device.id), library()
    if stream not in _workspaces:
        size = 32 if int(device.compute_capability) >= 90 else 4  # MB, as NVIDIA recommends
        _workspaces[stream] = cupy.empty(size << 20, np.uint8)
    workspace = _workspaces[stream]
    _check(cublas.cublasSetStream_v2(handle, c_void_p(stream.ptr)))
    memory = c_void_p(workspace.data.ptr), c_size_t(workspace.nbytes)
    _check(cublas.cublasSetWorkspace_v2(handle, *memory))
    return handle


def _device() -> Any:
    import cupy

    return cupy.cuda.Device()


def _check(status: int) -> None:
    if status:
        describe = library().cublasGetStatusString
        describe.restype = c_char_p
        raise NgtrainError(f"cuBLAS cannot multiply matrices: {describe(status).decode()}")
