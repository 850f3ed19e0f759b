"""A stand-in for CuPy, with the host as its device, for tests where there is no GPU.

Arrays are NumPy's, wrapped so that what CuPy forbids is an error here too (an implicit conversion
to NumPy, arrays of both in one operation), and what is slow is counted in `counts`:

    waits: the host waits for the device, to bring an array or a number back, or to synchronize
    uploads: copies to the device for which the host waits, too: from memory that is not pinned, or
        without a stream
    allocations: arrays of device memory
    launches: kernels and other operations; those inside a graph do not count, its launch does

streams.py says when operations are done, and what a stream that is being captured refuses; kernels
are compiled by the C++ compiler with cuda_on_cpu.h (kernels.py).
"""

from __future__ import annotations

import contextlib
import sys
import types

import numpy as np
import pytest

from fake_cupy import libraries
from fake_cupy.kernels import RawModule
from fake_cupy.streams import (
    BACKWARD,
    FORWARD,
    RANDOM,
    CUDARuntimeError,
    Emulation,
    Event,
    Graph,
    MemoryPool,
    Stream,
    allocate,
    counts,
    finish,
    get_current_stream,
    not_in_capture,
    refuse_in_capture,
    reset,
    submit,
    using_allocator,
)

__all__ = ["BACKWARD", "FORWARD", "RANDOM", "Graph", "RawModule", "counts", "installed", "ndarray"]


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
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    T = property(lambda self: ndarray(self._host.T))

    @property
    def data(self):
        pointer = self._host.ctypes.data
        libraries.arrays[pointer] = self._host
        return types.SimpleNamespace(ptr=pointer)

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

    def fill(self, value):
        self[...] = value

    def dot(self, other):
        return _operate(np.dot, (self, other), {})

    def __getattr__(self, name):
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)
        return lambda *args, **kwargs: _operate(
            lambda a, *args, **kwargs: getattr(a, name)(*args, **kwargs), (self, *args), kwargs
        )

    def __deepcopy__(self, memo):
        return self.copy()

    def get(self, stream=None, out=None):
        """What there is when that stream, by default the current one, has come so far."""
        stream = stream or get_current_stream()
        not_in_capture("waits", stream)
        finish(stream.last)
        if out is None:
            return self._host.copy()
        out[...] = self._host
        return out

    def set(self, host, stream=None):
        is_copied_later = stream is not None and isinstance(_base(host), _Pinned)
        if not is_copied_later or stream.is_capturing():
            not_in_capture("uploads", stream)
        if not is_copied_later:
            host = host.copy()
        submit(lambda: np.copyto(self._host, host), stream)

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


_BY_CUBLAS = {np.matmul, np.dot, np.vdot, np.inner, np.tensordot, np.einsum}


def _operate(function, args, kwargs, out=None):
    """Apply a NumPy function to what is behind arrays; `out` is what it changes, if not out=."""
    if getattr(function, "__self__", function) in _BY_CUBLAS:
        refuse_in_capture("cuBLAS")
    out = kwargs.get("out", out)
    if isinstance(out, tuple):
        (out,) = out
        kwargs = {**kwargs, "out": out}
    args, kwargs = _unwrapped(tuple(args)), {k: _unwrapped(v) for k, v in kwargs.items()}
    if out is not None:
        submit(lambda: function(*args, **kwargs))
        return out
    stream = get_current_stream()
    if not stream.is_capturing():
        finish(stream.last)
    with np.errstate(all="ignore"):
        result = function(*args, **kwargs)
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if isinstance(result, np.ndarray) and not _is_view(result, args) and stream.is_capturing():
        submit(lambda: np.copyto(result, function(*args, **kwargs)))
    return _wrapped(result, args)


def _is_view(result, args):
    return any(isinstance(a, np.ndarray) and np.may_share_memory(result, a) for a in args)


def _wrapped(result, args=()):
    if isinstance(result, (tuple, list)):
        return tuple(_wrapped(r, args) for r in result)
    if not isinstance(result, np.ndarray):
        return result
    if not _is_view(result, args):
        allocate()
    return ndarray(result)


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    not_in_capture("uploads")
    host = np.array(a, dtype)
    allocate()
    result = ndarray(np.empty_like(host))
    submit(lambda: np.copyto(result._host, host))
    return result


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


def _linalg(name):
    def function(*args):
        refuse_in_capture("cuSOLVER")
        return _operate(getattr(np.linalg, name), args, {})

    return function


linalg = types.SimpleNamespace(
    **{name: _linalg(name) for name in ("qr", "inv", "eigh", "norm", "cholesky")}
)


def _gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0):
    def product():
        x, y = (m._host.T if t == "T" else m._host for m, t in ((a, transa), (b, transb)))
        result = np.asarray(alpha, a.dtype) * (x @ y)
        out._host[...] = result if beta == 0 else beta * out._host + result

    refuse_in_capture("cuBLAS")
    for m in a, b, out:
        if not (m.flags.c_contiguous or m.flags.f_contiguous):
            allocate()  # a copy
    submit(product)
    return out


cublas = types.ModuleType("cupy.cublas")
cublas.gemm = _gemm


# The device ---------------------------------------------------------------------------------------


class _Device:
    compute_capability = "90"

    def __init__(self, number=0):
        self.id = number

    def use(self):
        pass

    def synchronize(self):
        not_in_capture("waits")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    Device=_Device,
    MemoryPool=MemoryPool,
    using_allocator=using_allocator,
    get_current_stream=get_current_stream,
    is_available=lambda: True,
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
    from nnet.device.cuda import cublas as ours
    from nnet.device.cuda import kernels

    module, library = sys.modules[__name__], ours.library
    names = {"cupy": module, "cupy.cublas": cublas, "cupyx": cupyx}
    before = {name: sys.modules.get(name) for name in names}
    settings = Emulation.max_threads, Emulation.order
    sys.modules.update(names)
    Emulation.max_threads, Emulation.order = max_threads, order
    fake = libraries.Cublas()
    ours.library = lambda: fake
    counts.clear()
    forget = [f.cache_clear for f in (kernels._kernel, kernels._module, ours._handle)]
    for clear in forget:
        clear()
    try:
        yield module
    finally:
        Emulation.max_threads, Emulation.order = settings
        ours.library = library
        reset()
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
