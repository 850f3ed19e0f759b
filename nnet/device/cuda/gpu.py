"""A GPU as a device, and getting hold of one: the freest, and proof that it computes."""

from __future__ import annotations

import itertools
import logging
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np

from nnet.device.cuda import cublas
from nnet.device.cuda.fisher import FisherKernels
from nnet.device.cuda.layers import LayerKernels
from nnet.device.cuda.staging import PinnedStagingBuffer
from nnet.device.cuda.streams import CudaGraph, CudaSideStream
from nnet.device.device import Array, Device, T
from nnet.errors import NgtrainError
from nnet.io.tables import read_ahead

log = logging.getLogger("ngtrain")

_SECONDS_BETWEEN_TRIALS = 5


class Gpu(LayerKernels, FisherKernels, Device):
    """A GPU, whose arrays are CuPy's, and whose work waits in a main stream that can be captured.

    The main stream is the thread's current one until close().  It is entered for that: what
    Stream.use() makes current is forgotten at the end of the next ``with`` of another stream.
    """

    blas = cublas
    takes_compressed_frames = True
    overlaps = True

    def __init__(self, cupy: ModuleType, tf32: bool = False):
        super().__init__()
        self.xp, self.tf32 = cupy, tf32
        self._main_stream = cupy.cuda.Stream(non_blocking=True)
        self._main_stream.__enter__()
        self._not_joined: list[CudaSideStream] = []
        self.host_calls: list[Callable[[], None]] | None = None  # of the graph being captured

    def close(self) -> None:
        self._main_stream.__exit__(None, None, None)

    def asarray(self, array: Array) -> Array:
        return self.xp.asarray(array)

    def row_blocks(self, a: Array) -> list[slice]:
        """Return all rows as one slice: there is no cache of a core to fit in."""
        return [slice(0, len(a))] if len(a) else []

    def side_stream(self) -> CudaSideStream:
        return CudaSideStream(self._not_joined)

    def join(self, stream: CudaSideStream) -> None:
        stream.join()

    def join_side_streams(self) -> None:
        """Let the current stream wait for what was done in all side streams."""
        for stream in tuple(self._not_joined):
            stream.join()

    def make_steps(
        self,
        step: Callable[..., None],
        minibatches: Iterator[tuple[T, tuple[Array, ...]]],
        cycle_length: Callable[[], int],
    ) -> Iterator[list[T]]:
        """Do what Device's does, by a graph of all steps of a cycle where there is one.

        A minibatch travels through a staging buffer to memory where it is always found.  A cycle
        begins with the steps that update Fisher matrices, which has time until these are needed
        again.  Steps outside of cycles are made one by one.
        """
        buffer, received = PinnedStagingBuffer(), []

        def make_all() -> None:
            for arrays in received:
                step(*arrays)

        graph = self.captured(make_all)
        on_their_way = read_ahead((what, buffer.send(arrays)) for what, arrays in minibatches)
        for what, sent in on_their_way:
            done, length = [what], cycle_length()
            received[:] = [buffer.receive(sent, 0)]
            for what, sent in itertools.islice(on_their_way, max(length - 1, 0)):
                done.append(what)
                received.append(buffer.receive(sent, len(received)))
            shapes = [frames.shape for frames, *_ in received]
            if len(done) == length and len(set(shapes)) == 1:
                graph((buffer.age, shapes[0]))
            else:
                make_all()
            yield done

    def captured(self, function: Callable[[], None]) -> CudaGraph:
        return CudaGraph(function, self)

    def on_host(self, function: Callable[[], None]) -> None:
        function()
        if self.host_calls is not None:
            self.host_calls.append(function)


def acquire(wait: bool, tf32: bool) -> Gpu:
    """Take the GPU with the most free memory; `tf32` is that of nnet.device.select_device().

    Raises:
        NgtrainError: no GPU can be used, or none is free and we do not `wait` until one is.
    """
    cupy = _cupy()
    device, free_memory = _freest(cupy, wait)
    device.use()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    gpu = None
    try:
        gpu = Gpu(cupy, tf32)
        cublas.use_tf32(tf32)
        _try(gpu)
    except Exception as error:
        if gpu is not None:
            gpu.close()
        problem = f"GPU {device.id} ({name}) cannot be used: {_line(error)}"
        raise NgtrainError(problem) from error
    log.info("Using GPU %d: %s, %d MB free", device.id, name, free_memory >> 20)
    return gpu


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
    """Return the device with the most free memory, and how much, in bytes."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise NgtrainError(f"no GPU can be used: {error}") from None
    while True:
        free = {}
        for i in range(count):
            with suppress(cupy.cuda.runtime.CUDARuntimeError), cupy.cuda.Device(i):
                free[i] = cupy.cuda.runtime.memGetInfo()[0]  # unless it is another process's alone
        if free:
            best = max(free, key=free.get)
            return cupy.cuda.Device(best), free[best]
        if not wait:
            raise NgtrainError(f"none of the {count} GPUs is free")
        log.info("None of the %d GPUs is free; waiting", count)
        time.sleep(_SECONDS_BETWEEN_TRIALS)


def _try(gpu: Gpu) -> None:
    """Run a kernel and a product: what they need besides CuPy is loaded when it is needed first."""
    twos, out = (gpu.xp.zeros((3, 3), np.float32) for _ in range(2))
    gpu.broadcast_rows(gpu.xp.full(3, 2, np.float32), twos)
    gpu.matmul(twos, twos, out=out)
    if not (out.get() == 12).all():
        raise NgtrainError("it computes 3 * 2 * 2 wrongly")


def _line(error: BaseException) -> str:
    """Say what an error says on one line, if not all that a compiler may have to say."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
