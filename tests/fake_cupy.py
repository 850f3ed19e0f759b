"""A stand-in for CuPy, with the host as its device, for tests where there is no GPU.

Arrays are NumPy's, wrapped so that what CuPy forbids is an error here too (an implicit conversion
to NumPy, arrays of both in one operation), and what is slow is counted in `counts`:

    waits: the host waits for the device, to bring an array or a number back, or to synchronize
    uploads: copies to the device for which the host waits, too: from memory that is not pinned, or
        without a stream
    allocations: arrays of device memory
    launches: kernels and other operations; those inside a graph do not count, its launch does

Kernels are compiled by the C++ compiler with cuda_on_cpu.h.  While a stream is captured nothing is
computed; a launch of the graph does it.  Allocating, waiting and uploading are then errors.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

import numpy as np
import pytest

counts: collections.Counter = collections.Counter()

EMULATION = Path(__file__).with_name("cuda_on_cpu.h")
FORWARD, BACKWARD, RANDOM = range(3)


class Emulation:
    """How the threads of a block run: how many at most, and in which order they take turns."""

    max_threads = 1
    order = FORWARD


# Arrays -------------------------------------------------------------------------------------------


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """A cupy.ndarray whose memory is `_host`, which nothing but this module may look at."""

    __array_priority__ = 100

    def __init__(self, host: np.ndarray):
        self._host = host

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: ndarray(self._host.T))

    def __len__(self):
        return len(self._host)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return _operate(getattr(ufunc, method), inputs, kwargs)

    def __getitem__(self, key):
        return _operate(lambda a, k: a[k], (self, key), {})

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("assigning a NumPy array to a part of a CuPy array")
        _operate(np.ndarray.__setitem__, (self, key, value), {}, out=self)

    def __getattr__(self, name):
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)
        return lambda *args, **kwargs: _operate(
            lambda a, *args, **kwargs: getattr(a, name)(*args, **kwargs), (self, *args), kwargs
        )

    def __deepcopy__(self, memo):
        return self.copy()

    def get(self, stream=None, out=None):
        _not_in_capture("waits")
        if out is None:
            return self._host.copy()
        out[...] = self._host
        return out

    def set(self, host, stream=None):
        if stream is None or not isinstance(_base(host), _Pinned):
            _not_in_capture("uploads")
        _run(lambda: np.copyto(self._host, host))

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    __index__ = __int__

    def __bool__(self):
        return bool(self.item())


class _Pinned(np.ndarray):
    """Memory from which the device copies by itself."""


def _base(array):
    while isinstance(array, np.ndarray) and array.base is not None:
        if isinstance(array, _Pinned):
            break
        array = array.base
    return array


def _unwrapped(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("a NumPy array in an operation of CuPy")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_unwrapped, value))
    return value


def _operate(function, args, kwargs, out=None):
    """Apply a NumPy function to what is behind arrays; `out` is what it changes, if not out=."""
    out = kwargs.get("out", out)
    if isinstance(out, tuple):
        (out,) = out
        kwargs = {**kwargs, "out": out}
    args, kwargs = _unwrapped(tuple(args)), {k: _unwrapped(v) for k, v in kwargs.items()}
    if out is not None:
        _run(lambda: function(*args, **kwargs))
        return out
    with np.errstate(all="ignore"):
        return _wrapped(function(*args, **kwargs), args)


def _wrapped(result, args=()):
    if isinstance(result, (tuple, list)) and not isinstance(result, str):
        return type(result)(_wrapped(r, args) for r in result)
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result
    if not any(isinstance(a, np.ndarray) and np.may_share_memory(result, a) for a in args):
        _not_in_capture("allocations")
    return ndarray(result)


def _not_in_capture(what):
    counts[what] += 1
    if _thread.captured is not None:
        raise cuda.runtime.CUDARuntimeError(f"{what} while a stream is captured")


def _run(operation):
    """Do it, or put it in the graph that is captured."""
    if _thread.captured is not None:
        get_current_stream().capture(operation)
        return
    counts["launches"] += 1
    with np.errstate(all="ignore"):
        operation()


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    _not_in_capture("uploads")
    return _wrapped(np.array(a, dtype))


def ascontiguousarray(a):
    return a if a.flags.c_contiguous else _operate(np.ascontiguousarray, (a,), {})


def asnumpy(a):
    return a.get()


array = asarray


def __getattr__(name):
    value = getattr(np, name)
    if isinstance(value, np.ufunc):
        return _Ufunc(value)
    if not callable(value) or isinstance(value, type):
        return value
    return lambda *args, **kwargs: _operate(value, args, kwargs)


class _Ufunc:
    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kwargs):
        return _operate(self.ufunc, args, kwargs)

    def at(self, a, *args):
        _operate(self.ufunc.at, (a, *args), {}, out=a)

    def reduceat(self, *args, **kwargs):
        return _operate(self.ufunc.reduceat, args, kwargs)


linalg = types.SimpleNamespace(
    **{
        name: functools.partial(lambda f, *args: _operate(f, args, {}), getattr(np.linalg, name))
        for name in ("qr", "inv", "eigh", "norm", "cholesky")
    }
)


# Matrix products ----------------------------------------------------------------------------------


def _gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0):
    def product():
        x, y = (m._host.T if t == "T" else m._host for m, t in ((a, transa), (b, transb)))
        result = np.asarray(alpha, a.dtype) * (x @ y)
        out._host[...] = result if beta == 0 else beta * out._host + result

    for m in a, b, out:
        if not (m.flags.c_contiguous or m.flags.f_contiguous):
            _not_in_capture("allocations")  # of a copy
    _run(product)
    return out


math_mode: list = []
"""Arguments of setMathMode."""
cublas = types.ModuleType("cupy.cublas")
cublas.gemm = _gemm


# Kernels ------------------------------------------------------------------------------------------


class RawModule:
    """CUDA C++ compiled for the CPU."""

    def __init__(self, code, options=()):
        self.code = code

    @functools.cached_property
    def library(self):
        return ctypes.CDLL(compiled(self.code))

    def get_function(self, name):
        return _Kernel(getattr(self.library, f"launch_{name}"))


class _Kernel:
    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, function):
        self.function = function

    def __call__(self, grid, block, args, shared_mem=0):
        assert len(grid) == len(block) == 1 and grid[0] > 0 and 0 < block[0] <= 1024
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= 227 << 10
        _run(lambda: self._launch(grid[0], block[0], shared_mem, args))

    def _launch(self, blocks, threads, shared_mem, args):
        threads = min(threads, Emulation.max_threads)
        numbers = (blocks, threads, shared_mem, Emulation.order)
        self.function(*map(ctypes.c_uint, numbers), *map(_c_argument, args))


def _c_argument(value):
    match value:
        case ndarray():
            return ctypes.c_void_p(value._host.ctypes.data)
        case np.uintp():
            return ctypes.c_void_p(int(value))
        case np.int32():
            return ctypes.c_int(int(value))
        case np.float64():
            return ctypes.c_double(float(value))
    raise TypeError(f"argument {value!r} of a kernel")


KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


@functools.cache
def compiled(code: str) -> str:
    """The shared library of some kernels; launch_NAME runs the kernel NAME."""
    launchers = []
    for name, parameters in KERNEL.findall(code):
        names = ", ".join(re.search(r"(\w+)$", p.strip())[1] for p in parameters.split(","))
        launchers.append(
            f'extern "C" void launch_{name}(\n'
            f"    unsigned blocks_, unsigned threads_, unsigned shared_, int order_,{parameters})\n"
            f"{{ run_grid(blocks_, threads_, shared_, order_, [=] {{ {name}({names}); }}); }}\n"
        )
    text = "\n".join([EMULATION.read_text(), code, *launchers])
    directory = Path(tempfile.gettempdir(), f"ngtrain-kernels-{os.getuid()}")
    directory.mkdir(exist_ok=True)
    library = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.so"
    if not library.exists():
        partial = directory / f"{library.name}.{os.getpid()}"
        command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-x", "c++", "-", "-o", partial]
        subprocess.run(command, input=text.encode(), check=True)
        os.replace(partial, library)
    return str(library)


# Streams, events, graphs --------------------------------------------------------------------------


class Graph:
    """Operations, each with those that must come before it.

    A launch does them in an order that this allows: as they were captured, or, where the threads
    take turns backward, what was captured last as early as can be.
    """

    def __init__(self):
        self.nodes: list[tuple] = []  # (operation, numbers of the nodes before it)

    def add(self, operation, before) -> int:
        self.nodes.append((operation, frozenset(before)))
        return len(self.nodes) - 1

    def launch(self, stream=None):
        counts["launches"] += 1
        done: set[int] = set()
        left = list(range(len(self.nodes)))
        with np.errstate(all="ignore"):
            while left:
                ready = [n for n in left if self.nodes[n][1] <= done]
                number = ready[-1 if Emulation.order == BACKWARD else 0]
                self.nodes[number][0]()
                done.add(number)
                left.remove(number)


class _Thread(threading.local):
    """What a thread captures, and its current streams."""

    def __init__(self):
        self.captured: Graph | None = None
        self.streams: list[Stream] = []


_thread = _Thread()


class Stream:
    """Outside a graph all streams do at once what they are told to do."""

    def __init__(self, non_blocking=False, **_):
        self.before: set[tuple] = set()  # (graph, number) of what the next node comes after

    def __enter__(self):
        _thread.streams.append(self)
        return self

    def __exit__(self, *_):
        _thread.streams.pop()

    def use(self):
        _thread.streams[:] = [self]
        return self

    def capture(self, operation):
        graph = _thread.captured
        before = {number for of_graph, number in self.before if of_graph is graph}
        self.before = {(graph, graph.add(operation, before))}

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        self.before = self.before | event.before

    def synchronize(self):
        _not_in_capture("waits")

    def begin_capture(self, mode=None):
        assert _thread.captured is None and self is get_current_stream() is not Stream.null
        _thread.captured = Graph()
        self.before = set()

    def end_capture(self):
        graph, _thread.captured = _thread.captured, None
        last = set(range(len(graph.nodes))) - {n for _, before in graph.nodes for n in before}
        if not last <= {number for of_graph, number in self.before if of_graph is graph}:
            raise cuda.runtime.CUDARuntimeError("a stream was not joined before the capture ended")
        return graph

    def is_capturing(self):
        return _thread.captured is not None


Stream.null = Stream()


class Event:
    done = True

    def __init__(self, **_):
        self.before: set[tuple] = set()

    def record(self, stream=None):
        self.before = set((stream or get_current_stream()).before)

    def synchronize(self):
        _not_in_capture("waits")


def get_current_stream():
    return _thread.streams[-1] if _thread.streams else Stream.null


def _pinned(size):
    return np.empty(size, np.uint8).view(_Pinned).data


class _Device:
    def __init__(self, number=0):
        self.id = number

    def use(self):
        pass

    def synchronize(self):
        _not_in_capture("waits")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class CUDARuntimeError(RuntimeError):
    pass


class _MemoryPool:
    def malloc(self, size):
        raise AssertionError("the fake allocates by itself")


cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    Device=_Device,
    MemoryPool=_MemoryPool,
    using_allocator=lambda allocator: contextlib.nullcontext(),
    get_current_stream=get_current_stream,
    is_available=lambda: True,
    get_cublas_handle=lambda: "handle",
    cublas=types.SimpleNamespace(setMathMode=lambda *args: math_mode.append(args)),
    runtime=types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: {"name": b"fake GPU"},
        memGetInfo=lambda: (8 << 30, 8 << 30),
    ),
)


def empty_pinned(shape, dtype):
    """cupyx.empty_pinned."""
    return np.empty(shape, dtype).view(_Pinned)


cupyx = types.ModuleType("cupyx")
cupyx.empty_pinned = empty_pinned


@contextlib.contextmanager
def installed(max_threads: int = 1, order: int = FORWARD):
    """`import cupy` gives this module; kernels run with so many threads, in such an order."""
    from nnet.cuda import kernels

    module = sys.modules[__name__]
    names = {"cupy": module, "cupy.cublas": cublas, "cupyx": cupyx}
    before = {name: sys.modules.get(name) for name in names}
    settings = Emulation.max_threads, Emulation.order
    sys.modules.update(names)
    Emulation.max_threads, Emulation.order = max_threads, order
    counts.clear()
    math_mode.clear()
    forget = [kernels._kernel.cache_clear, kernels._module.cache_clear]
    for clear in forget:
        clear()
    try:
        yield module
    finally:
        Emulation.max_threads, Emulation.order = settings
        _thread.streams.clear()
        for name, value in before.items():
            if value is None:
                sys.modules.pop(name)
            else:
                sys.modules[name] = value
        for clear in forget:
            clear()


def real_or_skip():
    """CuPy itself, where there is a GPU; elsewhere the test is left out."""
    module = pytest.importorskip("cupy", reason="needs CuPy")
    if not module.cuda.is_available():
        pytest.skip("needs a GPU")
    return module
