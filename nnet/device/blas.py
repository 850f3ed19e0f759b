"""Linear algebra on the CPU, by the BLAS and LAPACK that SciPy carries.

Results do not depend on the number of threads.  A large product is divided into pieces, which are
blocks of the result, or parts of the sum that are added in their order: into which, its shape alone
decides, and one thread computes each.  The threads are ours (threads.py).  The library is told to
have one: its own would divide a product by their number, and spin while they wait for each other.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import math
import threading
from collections.abc import Callable
from ctypes import byref, c_char, c_int, c_void_p
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np

from nnet.device.threads import for_each
from nnet.errors import NgtrainError

_PREFIX = {"f": "s", "d": "d"}  # of the names of routines, by the precision
_REAL = {"f": ctypes.c_float, "d": ctypes.c_double}
_SHORTEST = 128  # times the number of pieces: each has to prepare what they share
_LEAST_FLOPS = 8_000_000  # of a piece, in single precision; less is not worth waking a thread
_MOST_PIECES = 16
_LARGEST_SUM = 1 << 20  # elements: each part of a sum needs as many
_ALIGNMENT = 16  # of where a piece begins: the library computes blocks of such a size at once
_LARGEST_LEAF = 128  # rows of a matrix that LAPACK inverts as a whole


def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray, alpha: float, beta: float) -> None:
    """Compute out = beta * out + alpha * a @ b.

    `out` is C-contiguous; `a` and `b` are C-contiguous or transposes of such, or are copied.
    """
    if not out.size:
        return
    (m, k), n = a.shape, b.shape[1]
    if k != len(b) or out.shape != (m, n):
        raise ValueError(f"shapes do not match: {a.shape} @ {b.shape} = {out.shape}")
    routines, prefix = _library("_fblas"), _PREFIX[out.dtype.char]
    if m == 1:
        a, b, out = b.T, a.T, out.T
    if 1 in (m, n):  # for which gemm would be slow
        columns, transposed = _column_major(a)
        options = {"beta": beta, "y": out[:, 0], "trans": transposed, "overwrite_y": True}
        getattr(routines, prefix + "gemv")(alpha, columns, b[:, 0], **options)
        return
    divides_sum = k >= 2 * max(m, n) and out.size <= _LARGEST_SUM
    pieces = _pieces(k if divides_sum else max(m, n), 2 * m * n * k, out.dtype)
    if len(pieces) == 1:
        # BLAS is column-major: what it sees of a C-contiguous matrix is the transpose.
        (left, trans_a), (right, trans_b) = _column_major(b.T), _column_major(a.T)
        options = {"trans_a": trans_a, "trans_b": trans_b, "beta": beta, "c": out.T}
        getattr(routines, prefix + "gemm")(alpha, left, right, overwrite_c=True, **options)
        return
    a, b = _contiguous(a, out.dtype), _contiguous(b, out.dtype)
    if divides_sum:
        _divided_sum(a, b, out, alpha, beta, pieces)
    elif m > n:
        for_each(lambda rows: _gemm(a[rows], b, out[rows], alpha, beta), pieces)
    else:
        for_each(lambda columns: _gemm(a, b[:, columns], out[:, columns], alpha, beta), pieces)


def gram(a: np.ndarray, out: np.ndarray) -> None:
    """Compute the upper triangle of out = a @ a.T; `out` is C-contiguous, `a` as in gemm()."""
    m, k = a.shape
    pieces = _pieces(m, m * m * k, out.dtype)
    if len(pieces) == 1:
        columns, transposed = _column_major(a)
        routine = getattr(_library("_fblas"), _PREFIX[out.dtype.char] + "syrk")
        routine(1.0, columns, c=out.T, trans=transposed, lower=True, overwrite_c=True)
        return
    a = _contiguous(a, out.dtype)

    def compute(block: tuple[slice, slice]) -> None:
        rows, columns = block
        if rows == columns:
            _syrk(a[rows], out[rows, columns])
        else:
            _gemm(a[rows], a[columns].T, out[rows, columns], 1.0, 0.0)

    blocks = [(rows, columns) for i, rows in enumerate(pieces) for columns in pieces[i:]]
    for_each(compute, sorted(blocks, key=lambda block: block[0] == block[1]))  # large ones first


def inverse(a: np.ndarray) -> np.ndarray:
    """Invert a positive definite matrix of float64, whose upper triangle is given.

    By blocks, which leaves nearly all of the work to products:

        [ P   Q ]^{-1}   [ P^{-1} + T S T^T   -T S ]        T = P^{-1} Q
        [ Q^T R ]      = [ -S T^T                S ],       S = (R - Q^T T)^{-1}.

    Raises:
        NgtrainError: the matrix is not positive definite.
    """
    if len(a) <= _LARGEST_LEAF:
        return _lapack_inverse(a)
    h = len(a) // 2
    Q, R = np.ascontiguousarray(a[:h, h:]), np.ascontiguousarray(a[h:, h:])
    corner, T, TS = inverse(a[:h, :h]), np.empty_like(Q), np.empty_like(Q)
    gemm(corner, Q, T, alpha=1.0, beta=0.0)
    gemm(Q.T, T, R, alpha=-1.0, beta=1.0)
    S = inverse(R)
    gemm(T, S, TS, alpha=1.0, beta=0.0)
    gemm(TS, T.T, corner, alpha=1.0, beta=1.0)
    return np.block([[corner, -TS], [-TS.T, S]])


def _lapack_inverse(a: np.ndarray) -> np.ndarray:
    lapack = _library("_flapack")
    factor, failed = lapack.dpotrf(a.T, lower=True, clean=False)
    if not failed:
        result, failed = lapack.dpotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise NgtrainError("cannot invert a Fisher matrix: it is not finite and positive definite")
    result = result.T
    return np.triu(result) + np.triu(result, 1).T


def eigh(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find eigenvalues, ascending, and eigenvectors, as columns, of a symmetric float64 matrix."""
    values, vectors, failed = _library("_flapack").dsyevd(a)
    if failed:
        raise NgtrainError("the eigenvalues of a Fisher matrix cannot be found")
    return values, vectors


# Pieces -------------------------------------------------------------------------------------------


def _pieces(length: int, flops: int, dtype: np.dtype) -> list[slice]:
    """Slice a dimension of `length`, for so many operations; into one where that is little."""
    number = 1
    while 2 * number <= _MOST_PIECES:
        more = 2 * number
        if length < more * more * _SHORTEST or flops * dtype.itemsize < more * 4 * _LEAST_FLOPS:
            break
        number = more
    size = -(-length // (number * _ALIGNMENT)) * _ALIGNMENT
    return [slice(begin, min(begin + size, length)) for begin in range(0, length, size)]


def _divided_sum(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, alpha: float, beta: float, parts: list[slice]
) -> None:
    """Do what gemm() does, by the sum of products of some columns of `a` and rows of `b`."""
    sums = [out, *_scratch((len(parts) - 1, *out.shape), out.dtype)]

    def compute(p: int) -> None:
        _gemm(a[:, parts[p]], b[parts[p]], sums[p], alpha, beta if p == 0 else 0.0)

    for_each(compute, range(len(parts)))
    with np.errstate(all="ignore"):  # BLAS does not warn either
        for addend in sums[1:]:
            out += addend


class _Memory(threading.local):
    """The calling thread's, for sums of parts; kept, since they are needed again and again."""

    held = np.empty(0, np.uint8)


_memory = _Memory()


def _scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array in the calling thread's memory, valid until the next call."""
    size = math.prod(shape) * dtype.itemsize
    if len(_memory.held) < size:
        _memory.held = np.empty(size, np.uint8)
    return _memory.held[:size].view(dtype).reshape(shape)


def _column_major(a: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return a column-major matrix, and whether `a` is its transpose."""
    return (a, False) if a.flags.f_contiguous else (a.T, True)


# Routines for pieces ------------------------------------------------------------------------------
# While one of these runs, other threads do, too.  SciPy's wrappers, which start faster, stop them.


def _gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray, alpha: float, beta: float) -> None:
    """Do what gemm() does, for blocks of matrices; `out` is one of a C-contiguous matrix."""
    (m, k), n, real = a.shape, b.shape[1], _REAL[out.dtype.char]
    (a_kind, *a_place), (b_kind, *b_place), (_, *place) = map(_seen, (a, b, out))
    dims = byref(c_int(n)), byref(c_int(m)), byref(c_int(k))
    alpha, beta = byref(real(alpha)), byref(real(beta))
    routine = _routine("gemm", out.dtype.char)
    routine(b_kind, a_kind, *dims, alpha, *b_place, *a_place, beta, *place)


def _syrk(a: np.ndarray, out: np.ndarray) -> None:
    """Do what gram() does, for blocks of matrices."""
    (m, k), real = a.shape, _REAL[out.dtype.char]
    (kind, *a_place), (_, *place) = _seen(a.T), _seen(out)
    dims = byref(c_int(m)), byref(c_int(k))
    alpha, beta = byref(real(1)), byref(real(0))
    _routine("syrk", out.dtype.char)(_LOWER, kind, *dims, alpha, *a_place, beta, *place)


_AS_IS, _TRANSPOSED, _LOWER = (byref(c_char(letter)) for letter in (b"N", b"T", b"L"))


def _seen(a: np.ndarray) -> tuple:
    """Describe `a.T` to column-major BLAS: as it is or transposed, its address and its stride.

    `a` is a block of a matrix that is C-contiguous or the transpose of such.
    """
    kind, stride, dim = _AS_IS, a.strides[0], a.shape[1]
    if a.strides[1] != a.itemsize:
        kind, stride, dim = _TRANSPOSED, a.strides[1], a.shape[0]
    return kind, c_void_p(a.ctypes.data), byref(c_int(max(stride // a.itemsize, dim)))


def _contiguous(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `a`, or a copy that is contiguous and of that type."""
    a = a.astype(dtype, copy=False)
    return a if a.flags.forc else np.ascontiguousarray(a)


@functools.cache
def _routine(name: str, precision: str) -> Callable[..., None]:
    """Return a routine of BLAS, which takes the addresses of its arguments."""
    capsule = getattr(_library("_fblas"), _PREFIX[precision] + name)._cpointer
    prototype = ctypes.PYFUNCTYPE(c_void_p, ctypes.py_object, ctypes.c_char_p)
    address_in = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    return ctypes.CFUNCTYPE(None)(address_in(capsule, None))


@functools.cache
def _library(name: str) -> ModuleType:
    """Import SciPy's BLAS or LAPACK without scipy.linalg, which would take long for short jobs."""
    folders = importlib.util.find_spec("scipy").submodule_search_locations
    spec = PathFinder.find_spec(name, [f"{folder}/linalg" for folder in folders])
    if spec is None:
        module = importlib.import_module(f"scipy.linalg.{name}")
    else:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    library = ctypes.CDLL(module.__file__)  # is told to have one thread, if it is of a known make
    for name in "scipy_openblas_set_num_threads", "openblas_set_num_threads", "MKL_Set_Num_Threads":
        if hasattr(library, name):
            getattr(library, name)(c_int(1))
    return module
