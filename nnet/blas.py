"""Linear algebra on the CPU, by the BLAS and LAPACK that SciPy carries.

NumPy carries another copy of the same library.  Each has threads of its own, which wait for work
by spinning: a training step that used both would have them take the processors from each other.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np

from nnet.errors import NgtrainError

_PREFIX = {"f": "s", "d": "d"}  # of the names of routines, by the precision


def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray, alpha: float, beta: float) -> None:
    """out = beta * out + alpha * a @ b.

    `out` is C-contiguous; `a` and `b` are C-contiguous or transposes of such, or are copied.
    """
    if not out.size:
        return
    if len(out) == 1:
        _gemv(b.T, a[0], out[0], alpha, beta)
        return
    if out.shape[1] == 1:
        _gemv(a, b[:, 0], out[:, 0], alpha, beta)
        return
    # BLAS is column-major: what it sees of a C-contiguous matrix is the transpose.
    left, left_transposed = _column_major(b.T)
    right, right_transposed = _column_major(a.T)
    routine = getattr(_library("_fblas"), _PREFIX[out.dtype.char] + "gemm")
    routine(
        alpha,
        left,
        right,
        beta=beta,
        c=out.T,
        trans_a=left_transposed,
        trans_b=right_transposed,
        overwrite_c=True,
    )


def _gemv(a: np.ndarray, x: np.ndarray, out: np.ndarray, alpha: float, beta: float) -> None:
    """out = beta * out + alpha * a @ x, for which gemm would be slow."""
    columns, transposed = _column_major(a)
    routine = getattr(_library("_fblas"), _PREFIX[out.dtype.char] + "gemv")
    routine(alpha, columns, x, beta=beta, y=out, trans=transposed, overwrite_y=True)


def gram(a: np.ndarray, out: np.ndarray) -> None:
    """The upper triangle of a @ a.T into that of `out`, which is C-contiguous; `a` as in gemm()."""
    columns, transposed = _column_major(a)
    routine = getattr(_library("_fblas"), _PREFIX[out.dtype.char] + "syrk")
    routine(1.0, columns, c=out.T, trans=transposed, lower=True, overwrite_c=True)


def inverse(a: np.ndarray) -> np.ndarray:
    """The inverse of a positive definite matrix of float64, whose upper triangle is given.

    Raises NgtrainError where the matrix is not positive definite.
    """
    lapack = _library("_flapack")
    factor, failed = lapack.dpotrf(a.T, lower=True, clean=False)
    if not failed:
        result, failed = lapack.dpotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise NgtrainError("cannot invert a Fisher matrix: it is not finite and positive definite")
    result = result.T
    return np.triu(result) + np.triu(result, 1).T


def eigh(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors, as columns, of a symmetric matrix of float64."""
    values, vectors, failed = _library("_flapack").dsyevd(a)
    if failed:
        raise NgtrainError("the eigenvalues of a Fisher matrix cannot be found")
    return values, vectors


def _column_major(a: np.ndarray) -> tuple[np.ndarray, bool]:
    """A column-major matrix, and whether `a` is its transpose."""
    return (a, False) if a.flags.f_contiguous else (a.T, True)


@functools.cache
def _library(name: str) -> ModuleType:
    """SciPy's BLAS or LAPACK, without the rest of scipy.linalg, which takes longer to import than
    short jobs would like."""
    folders = importlib.util.find_spec("scipy").submodule_search_locations
    spec = PathFinder.find_spec(name, [f"{folder}/linalg" for folder in folders])
    if spec is None:
        return importlib.import_module(f"scipy.linalg.{name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
