"""Compiling and launching the kernels of the files *.cu of this directory.

They are compiled when the first of them is launched, for the GPU at hand; CuPy keeps the result in
its cache directory, so that this happens once on a machine.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from nnet.device.device import Array

REAL = {"f": "float", "d": "double"}
THREADS = 256
MAX_BLOCKS = 1 << 16
_SHARED_BYTES = 48 << 10  # more must be asked for


def source(dtype: Any) -> str:
    """Return all kernels for data of this precision, as one text of CUDA C++."""
    directory = Path(__file__).parent
    files = [directory / "common.cuh", *sorted(directory.glob("*.cu"))]
    header = f"#define REAL {REAL[np.dtype(dtype).char]}\n"
    return header + "\n".join(file.read_text(encoding="utf-8") for file in files)


def launch(
    name: str, blocks: int, threads: int, *args: Any, dtype: Any = np.float32, shared: int = 0
) -> None:
    """Run a kernel on the current stream, with `shared` bytes of dynamic shared memory.

    dtype: the precision of the data, for kernels that know `real`.
    args: arrays, which must be C-contiguous; None for a null pointer; int for an int or unsigned,
        float for a double.
    """
    if blocks == 0:
        return
    kernel = _kernel(name, np.dtype(dtype).char)
    if shared > _SHARED_BYTES:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel((blocks,), (threads,), tuple(map(_argument, args)), shared_mem=shared)


def launch_elementwise(name: str, size: int, *args: Any, dtype: Any) -> None:
    """Run a kernel with about one thread for each of `size` elements."""
    blocks = min(-(-size // THREADS), MAX_BLOCKS)
    launch(name, blocks, THREADS, *args, dtype=dtype)


@functools.cache
def _kernel(name: str, dtype_char: str) -> Any:
    return _module(dtype_char).get_function(name)


@functools.cache
def _module(dtype_char: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(dtype_char), options=("-std=c++17",))


def _argument(value: Any) -> Array | np.generic:
    match value:
        case None:
            return np.uintp(0)
        case int():
            return np.int32(value)
        case float():
            return np.float64(value)
    if not value.flags.c_contiguous:
        raise ValueError("kernels take C-contiguous arrays")
    return value
