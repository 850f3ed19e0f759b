"""Products of matrices by cuBLAS, on a stand-in for it or on a GPU."""

import contextlib

import fake_cupy
import numpy as np
import pytest

from nnet.device.cuda import cublas
from nnet.device.cuda.gpu import Gpu
from nnet.errors import NgtrainError


@pytest.fixture(params=["FORWARD", "BACKWARD", "GPU"])
def gpu(request):
    if request.param == "GPU":
        context = contextlib.nullcontext(fake_cupy.real_or_skip())
    else:
        context = fake_cupy.installed(order=getattr(fake_cupy, request.param))
    with context as module, contextlib.closing(Gpu(module)) as gpu:
        yield gpu


@pytest.fixture
def cupy(gpu):
    return gpu.xp


LAYOUTS = {
    "rows": lambda cupy, x: cupy.asarray(x),
    "columns": lambda cupy, x: cupy.asarray(x.T.copy()).T,
    "wide rows": lambda cupy, x: cupy.asarray(np.hstack([x, x]))[:, : x.shape[1]],
    "wide columns": lambda cupy, x: cupy.asarray(np.hstack([x.T, x.T]))[:, : len(x)].T,
    "neither": lambda cupy, x: cupy.asarray(x.repeat(2, axis=0).repeat(2, axis=1))[::2, ::2],
}
SIZES = [(1, 1, 1), (3, 4, 5), (1, 4, 3), (3, 1, 4), (3, 4, 1), (30, 70, 20)]


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_all_layouts(gpu, cupy, size, dtype):
    m, k, n = size
    a_host, b_host = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)
    expected, rtol = a_host.astype(np.float64) @ b_host, 1e-5 if dtype == np.float32 else 1e-12
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            a, b = left(cupy, a_host), right(cupy, b_host)
            out = cupy.asarray(np.full((m, n), np.nan, dtype))
            gpu.matmul(a, b, out=out)
            np.testing.assert_allclose(out.get(), expected, rtol, atol=rtol)
            gpu.add_matmul(a, b, out=out, alpha=-3.0)
            np.testing.assert_allclose(out.get(), -2 * expected, rtol, atol=3 * rtol)
    wide = cupy.asarray(np.zeros((m, 2 * n), dtype))
    gpu.add_matmul(cupy.asarray(a_host), cupy.asarray(b_host), out=wide[:, n:])
    np.testing.assert_allclose(wide.get()[:, n:], expected, rtol, atol=rtol)
    assert (wide.get()[:, :n] == 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_upper_triangle_of_the_product_with_the_transpose(gpu, cupy, size):
    a_host = normal(*size[:2], dtype=np.float64)
    upper, n = np.triu(np.ones((size[0],) * 2, bool)), size[0]
    for layout in LAYOUTS.values():
        out = cupy.asarray(np.full((n, n), np.nan))
        gpu.gram(layout(cupy, a_host), out)
        np.testing.assert_allclose(out.get()[upper], (a_host @ a_host.T)[upper], 1e-12, atol=1e-12)


def test_products_that_make_no_sense(gpu, cupy):
    a, b = cupy.asarray(normal(3, 4)), cupy.asarray(normal(4, 5))
    double = cupy.asarray(normal(4, 5, dtype=np.float64))
    wrong, right, columns = (cupy.asarray(normal(*shape)) for shape in ((3, 4), (3, 5), (5, 3)))
    for args in (a, b, wrong), (a, a, right), (a, double, right), (a, b, columns.T):
        before = args[-1].get()
        with pytest.raises(ValueError):
            gpu.matmul(*args)
        np.testing.assert_array_equal(args[-1].get(), before)
    with pytest.raises(ValueError):
        gpu.gram(a, wrong)
    empty = cupy.asarray(np.zeros((0, 4), np.float32))
    assert gpu.matmul(empty, b, out=cupy.asarray(np.zeros((0, 5), np.float32))).size == 0
    gpu.add_matmul(empty.T, cupy.asarray(np.zeros((0, 5), np.float32)), out=b)
    np.testing.assert_array_equal(b.get(), normal(4, 5))


def test_products_of_two_streams_in_one_graph(gpu, cupy):
    main, other = cupy.cuda.get_current_stream(), cupy.cuda.Stream(non_blocking=True)
    fork, done = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
    a_host = normal(40, 40)
    a, (one, two) = cupy.asarray(a_host), (cupy.asarray(np.zeros((40, 40), "f")) for _ in range(2))

    def function():
        fork.record(main)
        other.wait_event(fork)
        with other:
            gpu.add_matmul(a, a, out=two)
        gpu.add_matmul(a, a.T, out=one)
        done.record(other)
        main.wait_event(done)

    function()
    main.begin_capture()
    function()
    graph = main.end_capture()
    for _ in range(2):
        graph.launch()
    for result, expected in (one, a_host @ a_host.T), (two, a_host @ a_host):
        np.testing.assert_allclose(result.get(), 3 * expected, rtol=1e-4, atol=1e-4)


def test_what_cublas_says_is_an_error():
    with fake_cupy.installed() as cupy:
        a, out = (cupy.asarray(np.zeros((2, 2), np.float32)) for _ in range(2))
        cublas.library().cublasSgemm_v2 = lambda *args: fake_cupy.libraries.INVALID_VALUE
        with pytest.raises(NgtrainError, match="cuBLAS cannot multiply matrices: status 7"):
            cublas.gemm(a, a, out, alpha=1.0, beta=0.0)
