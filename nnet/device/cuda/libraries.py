"""NVIDIA's libraries, for what CuPy does not let them do."""

from __future__ import annotations

import ctypes
import functools


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """Load one, for instance "cublas": that which CuPy has loaded, as CuPy finds it.

    Integers are passed to its functions as C's int; for pointers and others ctypes has types.
    """
    from cuda.pathfinder import load_nvidia_dynamic_lib  # which CuPy depends on

    return ctypes.CDLL(load_nvidia_dynamic_lib(name).abs_path)
