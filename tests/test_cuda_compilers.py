"""The CUDA kernels compiled for GPUs, by what compilers there are: without a warning."""

import shutil
import subprocess

import numpy as np
import pytest

from nnet.device.cuda import kernels

on_each_gpu = pytest.mark.parametrize("gpu", ["sm_80", "sm_90"])
in_each_precision = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.slow
@on_each_gpu
@in_each_precision
def test_nvrtc_compiles_all_kernels(gpu, dtype, record_property):
    """By NVIDIA's run-time compiler, as CuPy does it."""
    reason = "needs NVRTC and cuda-bindings (utils/setup_env.sh nvrtc)"
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason=reason)
    try:
        major, minor = results(nvrtc.nvrtcVersion())
    except RuntimeError as error:
        pytest.skip(f"{reason}: {error}")
    code = kernels.source(dtype).encode()
    (program,) = results(nvrtc.nvrtcCreateProgram(code, b"kernels.cu", 0, [], []))
    options = [b"-std=c++17", f"--gpu-architecture={gpu}".encode()]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    (size,) = results(nvrtc.nvrtcGetProgramLogSize(program))
    said = bytearray(size)
    results(nvrtc.nvrtcGetProgramLog(program, said))
    assert said.rstrip(b"\0").decode() == ""
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
    (size,) = results(nvrtc.nvrtcGetCUBINSize(program))
    assert size > 10_000
    record_property("all kernels compiled", f"by NVRTC {major}.{minor} for {gpu}")


def results(answer):
    """What a function of cuda.bindings gives besides its status."""
    status, *values = answer
    if status.value:
        raise RuntimeError(status.name)
    return values


@pytest.mark.slow
@on_each_gpu
@in_each_precision
def test_nvcc_compiles_all_kernels(tmp_path, gpu, dtype, record_property):
    if not shutil.which("nvcc"):
        pytest.skip("needs nvcc")
    file = tmp_path / "kernels.cu"
    file.write_text(kernels.source(dtype))
    command = ["nvcc", "-std=c++17", f"-arch={gpu}", "-cubin", "-Werror=all-warnings"]
    subprocess.run([*command, "-o", tmp_path / "kernels.cubin", file], check=True)
    version = subprocess.check_output(["nvcc", "--version"], text=True).split("release ")[1]
    record_property("all kernels compiled", f"by nvcc {version.split(',')[0]} for {gpu}")
