"""The one place that knows NumPy from CuPy: which device is used, and where scratch memory lives.

Everything else takes its array module from the arrays that it is given::

    xp = array_module(x)
    xp.matmul(x, w, out=y)

so that the same code runs on the CPU and on a GPU.  CuPy is imported only when a GPU was asked for.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import numpy as np

from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

Array = Any
"""A numpy.ndarray or a cupy.ndarray."""

_SECONDS_BETWEEN_TRIALS = 5
_BLOCK_SIZE = 1 << 16  # elements; a few arrays of that size fit in a core's second-level cache


class _Device:
    """Where to_device() puts arrays."""

    module: ModuleType = np


def select_device(use_gpu: str) -> None:
    """Choose where `to_device` puts arrays from now on.

    `use_gpu` is Kaldi's option: "no" (NumPy), "yes" (a GPU, or an error), "optional" (a GPU if one
    can be had, else NumPy with a warning) or "wait" (a GPU, when one becomes free; an error where
    there is none at all).  Of several GPUs the one with the most free memory is taken, as in
    Kaldi's cudamatrix/cu-device.cc; CUDA_VISIBLE_DEVICES narrows the choice.

    Raises NgtrainError when a GPU was asked for and cannot be used.
    """
    if use_gpu not in ("yes", "no", "optional", "wait"):
        raise NgtrainError(f"--use-gpu={use_gpu}: expected yes, no, optional or wait")
    _Device.module = np
    if use_gpu == "no":
        return
    try:
        _Device.module = _acquire_gpu(wait=use_gpu == "wait")
    except NgtrainError as error:
        if use_gpu != "optional":
            raise NgtrainError(f"--use-gpu={use_gpu}: {error}") from None
        log.warning("Computing on the CPU: %s", error)


def _acquire_gpu(wait: bool) -> ModuleType:
    """Import CuPy and make the GPU with the most free memory current."""
    try:
        import cupy
    except ImportError as error:
        raise NgtrainError(
            f"no GPU can be used because CuPy cannot be imported ({error}); "
            "install it for your CUDA version, for instance by utils/setup_env.sh gpu-cuda12"
        ) from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise NgtrainError(f"no GPU can be used: {error}") from None
    while True:
        free_memory = {i: free for i in range(count) if (free := _free_memory(cupy, i)) is not None}
        if free_memory:
            best = max(free_memory, key=free_memory.get)
            cupy.cuda.Device(best).use()
            name = cupy.cuda.runtime.getDeviceProperties(best)["name"].decode()
            log.info("Using GPU %d: %s, %d MB free", best, name, free_memory[best] >> 20)
            return cupy
        if not wait:
            raise NgtrainError(f"none of the {count} GPUs is free")
        log.info("None of the %d GPUs is free; waiting", count)
        time.sleep(_SECONDS_BETWEEN_TRIALS)


def _free_memory(cupy: ModuleType, device: int) -> int | None:
    """Bytes free on a GPU, or None when it is another process's alone."""
    try:
        with cupy.cuda.Device(device):
            return cupy.cuda.runtime.memGetInfo()[0]
    except cupy.cuda.runtime.CUDARuntimeError:
        return None


def array_module(array: Array) -> ModuleType:
    """The module (numpy or cupy) whose functions apply to `array`."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def to_device(array: Array) -> Array:
    """`array` on the selected device; itself when it is there already."""
    return _Device.module.asarray(array)


def to_host(array: Array) -> np.ndarray:
    """`array` as a numpy.ndarray; itself when it is one."""
    return array if array_module(array) is np else array.get()


def row_dots(a: Array, b: Array, out: Array) -> None:
    """The dot product of each row of `a` with that of `b`, (rows, dim), into `out`, (rows,)."""
    if array_module(out) is np:
        np.einsum("nd,nd->n", a, b, out=out)
    else:
        _cupy_row_dots()(a, b, out, axis=1)


@functools.cache
def _cupy_row_dots() -> Callable:
    # CuPy's einsum knows no out=.
    import cupy

    return cupy.ReductionKernel("T x, T y", "T z", "x * y", "a + b", "z = a", "0", "row_dots")


def add_matmul(a: Array, b: Array, alpha: float, out: Array) -> None:
    """out += alpha * a @ b in one BLAS call, without a temporary of the size of `out`.

    `out` is C-contiguous; `a` and `b` are C-contiguous or transposes of such, or are copied.
    """
    if array_module(out) is not np:
        import cupy.cublas

        cupy.cublas.gemm("N", "N", a, b, out=out, alpha=alpha, beta=1.0)
        return
    # BLAS is column-major: what it sees of a C-contiguous matrix is the transpose.
    left, left_transposed = _column_major(b.T)
    right, right_transposed = _column_major(a.T)
    _gemm(out.dtype.char)(
        alpha,
        left,
        right,
        beta=1.0,
        c=out.T,
        trans_a=left_transposed,
        trans_b=right_transposed,
        overwrite_c=True,
    )


def _column_major(a: np.ndarray) -> tuple[np.ndarray, bool]:
    """A column-major matrix, and whether `a` is its transpose."""
    return (a, False) if a.flags.f_contiguous else (a.T, True)


def _gemm(dtype_char: str) -> Callable:
    return {"f": _blas().sgemm, "d": _blas().dgemm}[dtype_char]


@functools.cache
def _blas() -> ModuleType:
    """SciPy's BLAS, without the rest of scipy.linalg, which takes longer to import than short jobs
    would like."""
    folders = importlib.util.find_spec("scipy").submodule_search_locations
    spec = PathFinder.find_spec("_fblas", [f"{folder}/linalg" for folder in folders])
    if spec is None:
        from scipy.linalg import blas

        return blas
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row_blocks(a: Array) -> Iterator[slice]:
    """Slices of the rows of a matrix, for what takes several elementwise steps.

    On the CPU a block stays in the cache from one step to the next; on a GPU there is only one.
    """
    rows = len(a)
    if array_module(a) is np:
        rows = max(1, _BLOCK_SIZE // a[0].size) if rows else 1
    return (slice(begin, begin + rows) for begin in range(0, len(a), rows))


class Workspace:
    """Scratch arrays that are allocated once and then used again for every minibatch.

    An array is asked for by name; what it held before is undefined.  A smaller one (the last
    minibatch) is cut from the memory of the larger.  A copy of a workspace is empty: scratch memory
    is never part of what an object means.
    """

    def __init__(self):
        self._memory: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], like: Array, dtype=None) -> Array:
        """A C-contiguous array of that shape, with device and, unless given, dtype of `like`."""
        dtype = like.dtype if dtype is None else dtype
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = self._memory[name] = array_module(like).empty(size, dtype)
        return memory[:size].reshape(shape)

    def __deepcopy__(self, memo: dict) -> Workspace:
        return Workspace()
