"""CUDA C++ compiled for the CPU, and run as an operation on a stream."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fake_cupy.streams import Emulation, submit

EMULATION = Path(__file__).with_name("cuda_on_cpu.h")
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


class RawModule:
    """A module of kernels; a test that comes to one is left out where there is no compiler."""

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

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert len(grid) == len(block) == 1 and grid[0] > 0 and 0 < block[0] <= 1024
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= 227 << 10
        submit(lambda: self._launch(grid[0], block[0], shared_mem, args))

    def _launch(self, blocks, threads, shared_mem, args):
        threads = min(threads, Emulation.max_threads)
        numbers = (blocks, threads, shared_mem, Emulation.order)
        self.function(*map(ctypes.c_uint, numbers), *map(_c_argument, args))


def _c_argument(value):
    match value:
        case np.uintp():
            return ctypes.c_void_p(int(value))
        case np.int32():
            return ctypes.c_int(int(value))
        case np.float64():
            return ctypes.c_double(float(value))
    if not hasattr(value, "_host"):
        raise TypeError(f"argument {value!r} of a kernel")
    return ctypes.c_void_p(value._host.ctypes.data)


@functools.cache
def compiled(code: str) -> str:
    """The shared library of some kernels; launch_NAME runs the kernel NAME."""
    if not shutil.which("g++"):
        pytest.skip("needs g++, to run CUDA on the CPU")
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
        options = ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++"]
        command = ["g++", *options, "-", "-o", partial]
        subprocess.run(command, input=text.encode(), check=True)
        os.replace(partial, library)
    return str(library)
