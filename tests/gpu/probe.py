#!/usr/bin/env python3
"""Try what the project assumes of a GPU and of CuPy, each assumption alone, and time the basics.

An assumption that does not hold says so in its line, and the others are tried all the same; the
status is then 1.  The times are medians, of work that is captured and replayed as in training:
bandwidth, and products of the shapes of a network of 9.46 million parameters, minibatch 512.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable

import cupy
import numpy as np

from nnet.device import select_device
from nnet.device.device import Device

N = 512
PRODUCTS = {  # what is multiplied, of x (N, in), y (N, out) and w (out, in), and what is added to
    "forward 400 -> 4000": (lambda x, y, w: (x, w.T, y), 400, 4000),
    "derivative of the input": (lambda x, y, w: (y, w, x), 400, 4000),
    "gradient": (lambda x, y, w: (y.T, x, w), 400, 4000),
    "forward 400 -> 8000": (lambda x, y, w: (x, w.T, y), 400, 8000),
    "gradient, 8000": (lambda x, y, w: (y.T, x, w), 400, 8000),
    "H, rank 20 of 401": (lambda x, y, w: (x, w.T, y), 401, 20),
    "H, rank 80 of 4000": (lambda x, y, w: (x, w.T, y), 4000, 80),
    "J, rank 80 of 4000": (lambda x, y, w: (y.T, x, w), 4000, 80),
}

rng = np.random.default_rng(0)
failed: list[str] = []


def random(*shape: int, dtype: type = np.float32) -> cupy.ndarray:
    return cupy.asarray(rng.standard_normal(shape).astype(dtype))


def probe(function: Callable[[Device], object], device: Device) -> None:
    """Call a function and print what its docstring asks, and what it returned."""
    try:
        print(f"{function.__doc__:64} {function(device)}", flush=True)
    except Exception as error:
        failed.append(function.__name__)
        print(f"{function.__doc__:64} FAILS: {type(error).__name__}: {error}", flush=True)
        traceback.print_exc()


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def microseconds(
    device: Device, function: Callable[[], None], repeats: int = 20, replays: int = 20
) -> float:
    """Of one call, in a row of them in a graph: the median of some replays."""

    def many() -> None:
        for _ in range(repeats):
            function()

    replayed, times = device.captured(many), []
    for _ in range(2):  # the second time it is captured
        replayed("many")
    stream = cupy.cuda.get_current_stream()
    for _ in range(replays):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        replayed("many")
        end.record(stream)
        end.synchronize()
        times.append(1000 * cupy.cuda.get_elapsed_time(begin, end) / repeats)
    return float(np.median(times))


def main_stream_lasts(device: Device) -> str:
    """The stream that was current before a side stream is so after it"""
    before = cupy.cuda.get_current_stream()
    with device.side_stream():
        expect(cupy.cuda.get_current_stream() != before, "there is no other stream")
    expect(cupy.cuda.get_current_stream() == before, "another stream is current")
    expect(before.ptr != 0, "it is the default stream, which cannot be captured")
    return "yes"


def products_are_captured(device: Device) -> str:
    """Products in two branches of a graph, replayed: relative error"""
    a, b = random(N, 400), random(400, 4000)
    out, total = cupy.zeros((N, 4000), np.float32), cupy.zeros((400, 4000), np.float32)
    other = device.side_stream()

    def work() -> None:
        device.matmul(a, b, out=out)
        with other:
            device.add_matmul(a.T, out, out=total)
        device.matmul(a, b, out=out)
        other.join()

    replayed = device.captured(work)
    for _ in range(4):  # eager, captured and launched, replayed twice
        replayed("work")
    a, b = (x.get().astype(np.float64) for x in (a, b))
    exact = 4 * (a.T @ (a @ b))
    error = np.linalg.norm(total.get() - exact) / np.linalg.norm(exact)
    expect(error < 1e-2, f"{error:.1e}")
    return f"{error:.1e}"


def captured_work_may_allocate(device: Device) -> str:
    """Memory that is allocated while a stream is captured belongs to the graph"""
    x = random(1000)
    replayed = device.captured(lambda: cupy.multiply(x + 1, 0, out=x))
    for _ in range(3):
        replayed("x")
        random(1000)  # what others allocate in between must not be the same
    expect(float(abs(x).max()) == 0, f"largest element {float(abs(x).max()):g}, not 0")
    return "yes"


def bandwidth(device: Device) -> str:
    """Copy of 1 GiB on the device, read and written, TB/s"""
    a, b = cupy.ones(1 << 28, np.float32), cupy.empty(1 << 28, np.float32)
    copy = microseconds(device, lambda: b.data.copy_from_device_async(a.data, a.nbytes), repeats=4)
    return f"{8 * a.size / copy / 1e6:.2f}"


def main() -> None:
    for tf32 in False, True:
        device = select_device("yes", tf32)
        print(f"\nTF32: {'yes' if tf32 else 'no'}")
        for function in main_stream_lasts, products_are_captured, captured_work_may_allocate:
            probe(function, device)
        print(f"{'products, microseconds and TFLOP/s':48}")
        for name, (operands, i, o) in PRODUCTS.items():
            args = operands(random(N, i), random(N, o), random(o, i))
            time = microseconds(device, functools.partial(device.add_matmul, *args))
            print(f"{name:48}{time:10.1f}{2 * N * i * o / time / 1e6:10.1f}", flush=True)
    for dim in 401, 4000, 8000:
        y, z = random(80, dim, dtype=np.float64), cupy.empty((80, 80))
        time = microseconds(device, functools.partial(device.gram, y, out=z))
        print(f"{f'Y Y^T, 80 x {dim}, float64':48}{time:10.1f}{80 * 80 * dim / time / 1e6:10.1f}")
    probe(bandwidth, device)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
