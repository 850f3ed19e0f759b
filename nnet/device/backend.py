"""The one place that knows NumPy from CuPy: which device is used, and where scratch memory lives.

Everything else takes its array module from the arrays that it is given::

    xp = array_module(x)
    xp.matmul(x, w, out=y)

so that the same code runs on the CPU and on a GPU.  CuPy is imported only when a GPU was asked for.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from nnet.device import blas
from nnet.device.threads import for_each
from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

Array = Any
"""A numpy.ndarray or a cupy.ndarray."""

F = TypeVar("F", bound=Callable)

_BLOCK_SIZE = 1 << 16  # elements; a few arrays of that size fit in a core's second-level cache


class _Device:
    """Where to_device() puts arrays, and what on_host() has been given during a capture."""

    module: ModuleType = np
    tf32: bool = False
    selection = contextlib.ExitStack()  # what ends when another device is selected
    to_repeat: list[Callable[[], None]] | None = None


def select_device(use_gpu: str, tf32: bool = False) -> None:
    """Choose where `to_device` puts arrays from now on.

    `use_gpu` is Kaldi's option: "no" (NumPy), "yes" (a GPU, or an error), "optional" (a GPU if one
    can be had, else NumPy with a warning) or "wait" (a GPU, when one becomes free; an error where
    there is none at all).  Of several GPUs the one with the most free memory is taken, as in
    Kaldi's cudamatrix/cu-device.cc; CUDA_VISIBLE_DEVICES narrows the choice.

    tf32: products of float32 matrices on a GPU may round what they multiply to 10 bits (TF32).

    Raises NgtrainError when a GPU was asked for and cannot be used.
    """
    if use_gpu not in ("yes", "no", "optional", "wait"):
        raise NgtrainError(f"--use-gpu={use_gpu}: expected yes, no, optional or wait")
    _Device.selection.close()
    _Device.module, _Device.tf32 = np, False
    if use_gpu == "no":
        return
    from nnet.device.cuda.device import acquire

    try:
        _Device.module = acquire(use_gpu == "wait", tf32, until=_Device.selection)
        _Device.tf32 = tf32
    except NgtrainError as error:
        if use_gpu != "optional":
            raise NgtrainError(f"--use-gpu={use_gpu}: {error}") from None
        log.warning("Computing on the CPU: %s", error)


def uses_tf32() -> bool:
    """Whether select_device() was asked for TF32, and found a GPU."""
    return _Device.tf32


def array_module(array: Array) -> ModuleType:
    """The module (numpy or cupy) whose functions apply to `array`."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def to_device(array: Array) -> Array:
    """`array` on the selected device; itself when it is there already."""
    return _Device.module.asarray(array)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of zeros on the selected device."""
    return _Device.module.zeros(shape, dtype)


def to_host(array: Array) -> np.ndarray:
    """`array` as a numpy.ndarray; itself when it is one."""
    return array if array_module(array) is np else array.get()


def on_gpu(module: str) -> Callable[[F], F]:
    """Decorate a function of arrays that has a counterpart in nnet.device.cuda.<module>.

    The function itself is for NumPy's arrays, its counterpart for CuPy's; the first argument
    decides.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def dispatch(array: Array, *args: Any, **kwargs: Any) -> Any:
            if array_module(array) is np:
                return function(array, *args, **kwargs)
            counterpart = getattr(import_module(f"nnet.device.cuda.{module}"), function.__name__)
            return counterpart(array, *args, **kwargs)

        return dispatch

    return decorate


@contextlib.contextmanager
def repeated_on_host() -> Iterator[list[Callable[[], None]]]:
    """A list of what on_host() is given inside."""
    _Device.to_repeat = []
    try:
        yield _Device.to_repeat
    finally:
        _Device.to_repeat = None


@on_gpu("layers")
def row_dots(a: Array, b: Array, out: Array) -> None:
    """The dot product of each row of `a` with that of `b`, (rows, dim), into `out`, (rows,)."""
    in_row_blocks(lambda rows, _: np.einsum("nd,nd->n", a[rows], b[rows], out=out[rows]), a)


def matmul(a: Array, b: Array, out: Array) -> Array:
    """out = a @ b; also returned.

    `out` is C-contiguous; `a` and `b` are C-contiguous or transposes of such, or are copied.
    """
    _blas(out).gemm(a, b, out, alpha=1.0, beta=0.0)
    return out


def add_matmul(a: Array, b: Array, out: Array, alpha: float = 1.0) -> None:
    """out += alpha a @ b, without a temporary of the size of `out`; for arrays as in matmul()."""
    _blas(out).gemm(a, b, out, alpha=alpha, beta=1.0)


def gram(a: Array, out: Array) -> Array:
    """The upper triangle of a @ a.T into that of `out`; also returned.  What is below is undefined.

    Arrays as in matmul().
    """
    _blas(out).gram(a, out)
    return out


def _blas(array: Array) -> ModuleType:
    """Where gemm() and gram() are for an array's device."""
    return blas if array_module(array) is np else import_module("nnet.device.cuda.cublas")


def row_blocks(a: Array) -> list[slice]:
    """Slices of the rows of a matrix, for what takes several elementwise steps.

    On the CPU a block stays in the cache from one step to the next; on a GPU there is only one.
    """
    rows = len(a)
    if array_module(a) is np:
        rows = max(1, _BLOCK_SIZE // a[0].size) if rows else 1
    return [slice(begin, begin + rows) for begin in range(0, len(a), rows)]


def in_row_blocks(function: Callable[[slice, Workspace], None], a: Array) -> None:
    """Call `function(rows, scratch)` for slices of the rows of a matrix, together all of them.

    Threads divide the blocks among themselves.  What `scratch` held before is undefined.
    """
    for_each(lambda rows: function(rows, _scratch()), row_blocks(a))


def _scratch() -> Workspace:
    """The calling thread's."""
    if not hasattr(_thread, "scratch"):
        _thread.scratch = Workspace()
    return _thread.scratch


_thread = threading.local()


class Inbox:
    """The way of arrays from the host to the device, while that is busy with those before."""

    age = 0
    """Of the memory where arrays are received; a new age, new addresses."""

    def send(self, arrays: tuple[np.ndarray, ...]) -> Any:
        """Send some arrays on their way, from any thread; returns a parcel.

        No more than two parcels may have been sent and not received.
        """
        return arrays

    def receive(self, parcel: Any, place: int) -> tuple[Array, ...]:
        """The arrays of a parcel on the device, where they stay until the next call for `place`."""
        return parcel


def inbox() -> Inbox:
    """An Inbox of the selected device."""
    if _Device.module is np:
        return Inbox()
    from nnet.device.cuda.inbox import DeviceInbox

    return DeviceInbox()


def decompresses() -> bool:
    """Whether an inbox() takes frames as nnet.io.compressed_frames.CompressedFrames, too."""
    return _Device.module is not np


class Aside:
    """What is done inside ``with aside`` may go on beside what comes after it, until join().

    On a GPU it does; on the CPU it is done at once.

    overlaps: it does, and so needs memory that what comes after it does not touch.
    """

    overlaps = False

    def __enter__(self) -> None: ...

    def __exit__(self, *error: Any) -> None: ...

    def join(self) -> None:
        """Wait for what was done aside."""


def aside() -> Aside:
    """An Aside for the selected device."""
    if _Device.module is np:
        return Aside()
    from nnet.device.cuda.streams import Stream

    return Stream()


class Step:
    """Calls a function, which on a GPU is captured as a graph, and replayed."""

    is_replayed = False

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def __call__(self, key: Hashable) -> None:
        """Make a step, like those before for which `key` was equal."""
        self.function()


def step(function: Callable[[], None]) -> Step:
    """A Step on the selected device.

    `function` must not wait for the device, and what it does there must follow from the key; what
    it does on the host, it does by on_host().
    """
    if _Device.module is np:
        return Step(function)
    from nnet.device.cuda.streams import Replayed

    return Replayed(function)


def on_host(function: Callable[[], None]) -> None:
    """Call `function` now, and again whenever the Step that is being captured is replayed."""
    function()
    if _Device.to_repeat is not None:
        _Device.to_repeat.append(function)


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
