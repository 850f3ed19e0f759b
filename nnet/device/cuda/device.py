"""Getting hold of a GPU: of those that there are the freest, and proof that it computes."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time
from types import ModuleType
from typing import Any

import numpy as np

from nnet.device.cuda import cublas, layers
from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

_SECONDS_BETWEEN_TRIALS = 5


def acquire(wait: bool, tf32: bool, until: contextlib.ExitStack) -> ModuleType:
    """CuPy, once it has the GPU with the most free memory, and a stream of it that can be captured.

    The stream is the thread's current one until `until` is closed.  It is entered for that: what
    Stream.use() makes current is forgotten at the end of the next ``with`` of another stream.

    wait: wait until a GPU is free.  tf32: as in nnet.device.backend.select_device().
    Raises NgtrainError where no GPU can be used.
    """
    cupy = _cupy()
    device, free_memory = _freest(cupy, wait)
    device.use()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    try:
        until.enter_context(cupy.cuda.Stream(non_blocking=True))
        cublas.use_tf32(tf32)
        _try(cupy)
    except Exception as error:
        until.close()
        problem = f"GPU {device.id} ({name}) cannot be used: {_line(error)}"
        raise NgtrainError(problem) from error
    log.info("Using GPU %d: %s, %d MB free", device.id, name, free_memory >> 20)
    return cupy


def _cupy() -> ModuleType:
    try:
        import cupy
    except Exception as error:  # CuPy raises others than ImportError, too, where a library is bad
        raise NgtrainError(
            "no GPU can be used because CuPy cannot be imported "
            f"({_line(error.__cause__ or error)}); "
            "install it for your CUDA version, for instance by utils/setup_env.sh gpu-cuda12"
        ) from error
    return cupy


def _freest(cupy: ModuleType, wait: bool) -> tuple[Any, int]:
    """The device with the most free memory, and how much, in bytes."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise NgtrainError(f"no GPU can be used: {error}") from None
    while True:
        free = {i: memory for i in range(count) if (memory := _free_memory(cupy, i)) is not None}
        if free:
            best = max(free, key=free.get)
            return cupy.cuda.Device(best), free[best]
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


def _try(cupy: ModuleType) -> None:
    """Run a kernel and a product: what they need besides CuPy is loaded when it is needed first."""
    twos, out = (cupy.zeros((3, 3), np.float32) for _ in range(2))
    layers.broadcast_rows(cupy.full(3, 2, np.float32), twos)
    cublas.gemm(twos, twos, out, alpha=1.0, beta=0.0)
    if not (out.get() == 12).all():
        raise NgtrainError("it computes 3 * 2 * 2 wrongly")


def _line(error: BaseException) -> str:
    """What an error says, on one line, if not all that a compiler may have to say."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
