"""Getting hold of a GPU, or saying in one line why there is none."""

import logging
import sys

import fake_cupy
import numpy as np
import pytest

from nnet.device import select_device
from nnet.device.cuda import cublas
from nnet.errors import NgtrainError


@pytest.fixture
def cupy():
    with fake_cupy.installed() as module:
        yield module


def no_compiler(cupy, patch):
    def compile(code, options):
        raise RuntimeError(
            "libnvrtc.so.12 is not found:\n  searched here\n  and there" + 200 * " x"
        )

    patch.setattr(cupy, "RawModule", compile)


def no_cublas(cupy, patch):
    def load():
        raise OSError("libcublas.so is not found")

    patch.setattr(cublas, "library", load)


def wrong_product(cupy, patch):
    patch.setattr(cublas.library(), "cublasSgemm_v2", lambda *args: 0)


def failing_product(cupy, patch):
    patch.setattr(cublas.library(), "cublasSgemm_v2", lambda *args: 15)


def no_gpu(cupy, patch):
    def count():
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNoDevice: none is detected")

    patch.setattr(cupy.cuda.runtime, "getDeviceCount", count)


def no_cupy(cupy, patch):
    patch.setitem(sys.modules, "cupy", None)


PROBLEMS = {
    no_compiler: r"GPU 0 \(fake GPU\) cannot be used: libnvrtc.so.12 is not found: searched here",
    no_cublas: r"GPU 0 \(fake GPU\) cannot be used: libcublas.so is not found$",
    wrong_product: r"GPU 0 \(fake GPU\) cannot be used: it computes 3 \* 2 \* 2 wrongly$",
    failing_product: r"GPU 0 \(fake GPU\) cannot be used: cuBLAS cannot multiply .* status 15$",
    no_gpu: "no GPU can be used: cudaErrorNoDevice: none is detected$",
    no_cupy: r"no GPU can be used because CuPy cannot be imported .*/setup_env.sh gpu-cuda12$",
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_is_one_line(cupy, monkeypatch, caplog, problem):
    problem(cupy, monkeypatch)
    for use_gpu in "yes", "wait":
        with pytest.raises(
            NgtrainError, match=f"^--use-gpu={use_gpu}: {PROBLEMS[problem]}"
        ) as info:
            select_device(use_gpu)
        assert "\n" not in str(info.value) and len(str(info.value)) < 400
    caplog.clear()
    device = select_device("optional")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("Computing on the CPU: ")
    assert type(device.asarray([1.0, 2.0])) is np.ndarray
    assert fake_cupy.get_current_stream() is fake_cupy.Stream.null


def test_the_gpu_with_the_most_free_memory(cupy, monkeypatch, caplog):
    used = []
    monkeypatch.setattr(cupy.cuda.Device, "use", lambda device: used.append(device.id))
    monkeypatch.setattr(cupy.cuda.Device, "__enter__", lambda device: used.append(device.id))
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 4)

    def memory():
        if used[-1] == 1:
            raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorDevicesUnavailable")
        return (2 + used[-1] % 3) << 30, 8 << 30

    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", memory)
    caplog.set_level(logging.INFO)
    select_device("yes").close()
    assert used == [0, 1, 2, 3, 2]
    assert "Using GPU 2: fake GPU, 4096 MB free" in caplog.text
