"""A cuBLAS on the host, behind functions of C with the parameters that cublas_api.h gives them.

Each call is an operation on the handle's stream.  What makes real products wrong now and then is an
error: no workspace of the stream's own, a stride or a size beyond the memory of an array.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, c_double, c_float, c_int, c_size_t, c_void_p

import numpy as np

from fake_cupy.streams import get_current_stream, submit

SUCCESS, INVALID_VALUE, INTERNAL_ERROR = 0, 7, 14
TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH

arrays: dict[int, np.ndarray] = {}
"""Of which pointers have been asked for since the last call."""


class Cublas:
    """The library: functions of C, by name."""

    def __init__(self):
        self.cublasGetStatusString = lambda status: f"status {status}".encode()
        self.mode = 0
        self.modes: list[int] = []  # of the products
        self.stream = self.workspace = None
        self.owners: dict[int, tuple[weakref.ref, int]] = {}  # workspaces and their streams
        pointer, flag = c_void_p, c_int
        for name, function, *parameters in (
            ("cublasCreate_v2", self.create, POINTER(c_void_p)),
            ("cublasSetStream_v2", self.set_stream, pointer, pointer),
            ("cublasSetWorkspace_v2", self.set_workspace, pointer, pointer, c_size_t),
            ("cublasSetMathMode", self.set_math_mode, pointer, c_int),
        ):
            setattr(self, name, _function_of_c(function, *parameters))
        for letter, real in ("S", c_float), ("D", c_double):
            scalar, matrix, sizes = POINTER(real), (pointer, c_int), (c_int,) * 3
            gemm = pointer, flag, flag, *sizes, scalar, *matrix, *matrix, scalar, *matrix
            syrk = pointer, flag, flag, *sizes[:2], scalar, *matrix, scalar, *matrix
            for name, function, parameters in (
                ("gemm", self.gemm, gemm),
                ("syrk", self.syrk, syrk),
            ):
                setattr(self, f"cublas{letter}{name}_v2", _function_of_c(function, *parameters))

    def create(self, handle):
        handle[0] = 0xB1A5

    def set_stream(self, handle, stream):
        self.stream, self.workspace = stream or 0, None

    def set_workspace(self, handle, workspace, size):
        memory, of_stream = self.owners.get(workspace, (lambda: None, 0))
        assert memory() is None or of_stream == self.stream
        assert arrays[workspace].nbytes == size
        self.owners[workspace] = weakref.ref(arrays[workspace]), self.stream
        self.workspace = workspace

    def set_math_mode(self, handle, mode):
        self.mode = mode

    def gemm(self, handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        alpha, beta = alpha[0], beta[0]
        A = _matrix(a, *((k, m) if op_a else (m, k)), lda)
        B = _matrix(b, *((n, k) if op_b else (k, n)), ldb)
        C = _matrix(c, m, n, ldc)
        A, B = A.T if op_a else A, B.T if op_b else B

        def product():
            C.T[...] = alpha * (B.T @ A.T) + (beta * C.T if beta else 0)

        self._submit(product)

    def syrk(self, handle, upper, op, n, k, alpha, a, lda, beta, c, ldc):
        alpha, beta = alpha[0], beta[0]
        A = _matrix(a, *((k, n) if op else (n, k)), lda)
        A, C = A.T if op else A, _matrix(c, n, n, ldc)
        part = np.tri(n, dtype=bool)
        part = part.T if upper else part

        def product():
            C[part] = alpha * (A @ A.T)[part] + (beta * C[part] if beta else 0)

        self._submit(product)

    def _submit(self, product):
        assert self.workspace is not None and self.stream == get_current_stream().ptr
        self.modes.append(self.mode)
        arrays.clear()
        submit(product)


def _function_of_c(function, *parameters):
    def call(*args):
        try:
            function(*args)
        except Exception:  # which ctypes would print and forget
            return INTERNAL_ERROR
        return SUCCESS

    return ctypes.CFUNCTYPE(c_int, *parameters)(call)


def _matrix(pointer, rows, columns, stride):
    """A view of an array's memory that is column-major, and keeps that memory."""
    array = arrays[pointer]
    begin, end = np.lib.array_utils.byte_bounds(array)
    assert stride >= max(1, rows)
    if rows and columns:
        assert pointer == begin
        assert array.itemsize * (stride * (columns - 1) + rows) <= end - begin
    strides = array.itemsize, array.itemsize * stride
    return np.lib.stride_tricks.as_strided(array, (rows, columns), strides)
