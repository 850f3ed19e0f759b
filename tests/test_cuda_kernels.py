"""The CUDA kernels, run on the CPU by cuda_on_cpu.h, against NumPy in float64."""

import fake_cupy
import numpy as np
import pytest

from nnet.components import nonlinear
from nnet.device.cuda import cublas, eigh, kernels
from nnet.device.cuda.fisher import FisherKernels
from nnet.device.cuda.layers import LayerKernels
from nnet.device.cuda.staging import PinnedStagingBuffer
from nnet.device.device import CPU, SparseRows, Workspace
from nnet.egs.minibatches import read_minibatches
from nnet.egs.record import EXAMPLE, NnetExample
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import table_writer
from nnet.natural_gradient import simple

FUNCTIONS = {
    component.function.name: component.function
    for component in nonlinear.ElementwiseComponent.__subclasses__()
}
SHAPES = [(1, 1), (3, 5), (7, 40), (4, 300)]


class Kernels(LayerKernels, FisherKernels):
    """All methods of a device that are kernels, and its products."""

    blas = cublas


layers = Kernels()


@pytest.fixture(
    params=[(1, "FORWARD"), (32, "FORWARD"), (32, "BACKWARD"), (70, "RANDOM"), None],
    ids=lambda param: f"{param[0]} threads {param[1]}" if param else "GPU",
)
def cupy(request):
    """A block has some threads that take turns in some order: races would change results."""
    if request.param is None:
        yield fake_cupy.real_or_skip()
        return
    max_threads, order = request.param
    with fake_cupy.installed(max_threads, getattr(fake_cupy, order)) as module:
        yield module


def normal(cupy, *shape, dtype=np.float32, seed=0):
    """The same random numbers in float64 on the host and on the device."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return x.astype(np.float64), cupy.asarray(x)


def empty(cupy, *shape, dtype=np.float32):
    return cupy.asarray(np.full(shape, np.nan, dtype))


def assert_close(result, expected, rtol=2e-6):
    """Relative to the largest element expected."""
    np.testing.assert_allclose(result.get(), expected, rtol=0, atol=rtol * np.abs(expected).max())


def labels(cupy, rows, dim, rng):
    """None, one or more labels of each row, as SparseRows and as a (rows, dim) matrix."""
    counts = rng.integers(0, 4, rows)
    pdfs = rng.integers(0, dim, counts.sum()).astype(np.int32)
    weights = rng.uniform(0.1, 1.0, counts.sum()).astype(np.float32)
    starts = np.cumsum([0, *counts], dtype=np.int32)
    dense = np.zeros((rows, dim))
    of_rows = np.repeat(np.arange(rows, dtype=np.int32), counts)
    np.add.at(dense, (of_rows, pdfs), weights)
    return SparseRows(*map(cupy.asarray, (of_rows, pdfs, weights, starts))), dense


def arrays_of(minibatch):
    return minibatch.frames, minibatch.rows, minibatch.pdfs, minibatch.weights


def softmax(x):
    y = np.exp(x - x.max(axis=1, keepdims=True))
    return y / y.sum(axis=1, keepdims=True)


# Examples -----------------------------------------------------------------------------------------


def write_examples(path, formats, num_frames, spk_dim):
    """Examples of several labelled frames, in one format after the other."""
    rng = np.random.default_rng(4)
    with table_writer(f"ark:{path}", EXAMPLE) as writer:
        for i in range(60):
            frames_here = num_frames[i % len(num_frames)]
            rows = 10.0 ** rng.integers(-3, 4) * rng.standard_normal((frames_here + 9, 13))
            matrix = CompressedMatrix.compress(rows.astype(np.float32), formats[i % len(formats)])
            labels = [[(int(pdf), 1.0)] for pdf in rng.integers(0, 100, frames_here)]
            spk_info = rng.standard_normal(spk_dim).astype(np.float32)
            writer.write(f"u-{i}", NnetExample(labels, matrix, 5, spk_info))


@pytest.mark.slow
@pytest.mark.parametrize("spk_dim", [0, 3])
@pytest.mark.parametrize("num_frames", [(1,), (8,), (8, 5)])
@pytest.mark.parametrize("formats", [("CM",), ("CM2",), ("CM3",), ("CM", "CM2", "CM3")])
def test_frames_are_decompressed_to_the_bit(cupy, tmp_path, formats, num_frames, spk_dim):
    """On their way through a staging buffer, whole minibatches and a smaller one."""
    write_examples(tmp_path / "egs", formats, num_frames, spk_dim)

    def minibatches(compressed):
        options = {"frame": "random", "rng": np.random.default_rng(3), "compressed": compressed}
        return list(read_minibatches(f"ark:{tmp_path}/egs", 25, 3, 2, **options))

    buffer = PinnedStagingBuffer()
    for ours, theirs in zip(minibatches(True), minibatches(False), strict=True):
        assert len(ours) == len(theirs)
        received = buffer.receive(buffer.send(arrays_of(ours)), 0)
        for a, b in zip(received, arrays_of(theirs), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.get().tobytes() == b.tobytes()


# Layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(cupy, shape, dtype):
    x_host, x = normal(cupy, *shape, dtype=dtype)
    x_host, x = 30 * x_host, (30 * x).astype(dtype)
    d_host, d = normal(cupy, *shape, dtype=dtype, seed=1)
    y = empty(cupy, *shape, dtype=dtype)
    layers.softmax(x, y, floor=1e-20)
    expected = np.maximum(softmax(x_host), 1e-20)
    np.testing.assert_allclose(y.get(), expected, rtol=2e-5)
    out = empty(cupy, *shape, dtype=dtype)
    layers.softmax_backward(y, d, out)
    mean = (expected * d_host).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out.get(), expected * (d_host - mean), atol=2e-6)
    layers.softmax(x, x, floor=1e-20)
    np.testing.assert_array_equal(x.get(), y.get())


def test_softmax_passes_nan_on(cupy):
    x = cupy.asarray(np.float32([[1, np.nan, 2], [1, 2, 3]]))
    layers.softmax(x, x, floor=1e-20)
    assert np.isnan(x.get()[0]).all() and np.isfinite(x.get()[1]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_objective_and_its_derivative(cupy, shape):
    rng = np.random.default_rng(2)
    y_host = softmax(rng.standard_normal(shape)).astype(np.float32)
    y_host[0, 0] = 0
    y, (given, dense) = cupy.asarray(y_host), labels(cupy, *shape, rng)
    total = cupy.asarray(np.float64(10.0))
    layers.add_log_prob(y, given, 1e-20, total)
    log_prob = (dense * np.log(np.maximum(y_host, 1e-20).astype(np.float64))).sum()
    np.testing.assert_allclose(total.get(), 10 + log_prob, rtol=1e-6)
    d_y = empty(cupy, *shape)
    layers.log_backward(y, given, 1e-20, d_y)
    assert_close(d_y, dense / np.maximum(y_host, 1e-20))
    layers.softmax_log_backward(y, given, y)
    assert_close(y, dense - dense.sum(axis=1, keepdims=True) * y_host)


@pytest.mark.parametrize("shape", SHAPES)
def test_normalize(cupy, shape):
    floor = 2.0**-66
    x_host, x = normal(cupy, *shape)
    d_host, d = normal(cupy, *shape, seed=1)
    x_host[0] *= 1e-15
    x[0] *= np.float32(1e-15)
    y, out = empty(cupy, *shape), empty(cupy, *shape)
    layers.normalize(x, y, floor)
    f = np.maximum((x_host**2).mean(axis=1, keepdims=True), floor) ** -0.5
    assert_close(y, f * x_host)
    layers.normalize_backward(x, d, out, floor)
    along = f**3 / shape[1] * (x_host * d_host).sum(axis=1, keepdims=True) * (f != floor**-0.5)
    for result, expected in zip(out, f * d_host - along * x_host, strict=True):
        assert_close(result, expected, rtol=1e-5)


@pytest.mark.parametrize(("rows", "groups", "size"), [(1, 1, 1), (5, 7, 10), (300, 4, 3)])
def test_pnorm(cupy, rows, groups, size):
    x_host, x = normal(cupy, rows, groups * size)
    x_host[0, :size] = 0
    x[0, :size] = 0
    d_host, d = normal(cupy, rows, groups, seed=1)
    y, out = empty(cupy, rows, groups), empty(cupy, rows, groups * size)
    layers.pnorm2(x, y)
    expected = np.sqrt((x_host.reshape(rows, groups, size) ** 2).sum(axis=2))
    assert_close(y, expected)
    layers.pnorm2_backward(x, y, d, out)
    ratio = d_host / np.where(expected > 0, expected, 1)
    assert_close(out, x_host * np.repeat(ratio, size, axis=1), rtol=1e-5)


NONLINEAR = {
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "rectifier": (lambda x: np.maximum(x, 0), lambda y: y > 0),
    "soft hinge": (lambda x: np.logaddexp(x, 0), lambda y: -np.expm1(-y)),
}


@pytest.mark.parametrize("function", NONLINEAR)
@pytest.mark.parametrize("shape", SHAPES)
def test_nonlinear(cupy, function, shape):
    value, slope = NONLINEAR[function]
    x_host, x = normal(cupy, *shape)
    d_host, d = normal(cupy, *shape, seed=1)
    y = empty(cupy, *shape)
    layers.nonlinear(x, FUNCTIONS[function], y)
    assert_close(y, value(x_host))
    value_sum, slope_sum = (cupy.asarray(np.ones(shape[1])) for _ in range(2))
    layers.add_column_sums(y, [value_sum, slope_sum], FUNCTIONS[function])
    assert_close(value_sum, 1 + value(x_host).sum(axis=0))
    assert_close(slope_sum, 1 + slope(value(x_host)).sum(axis=0))
    layers.nonlinear_backward(y, FUNCTIONS[function], d, d)
    assert_close(d, d_host * slope(value(x_host)))


def test_nonlinear_at_the_edges(cupy):
    x = cupy.asarray(np.float32([[np.inf, -np.inf, np.nan, 200, -200]]))
    for function, (value, _) in NONLINEAR.items():
        y = empty(cupy, *x.shape)
        layers.nonlinear(x, FUNCTIONS[function], y)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(y.get(), value(x.get()))


@pytest.mark.parametrize("shape", [(1, 1), (100, 70), (33, 64)])
def test_column_sums_without_slopes(cupy, shape):
    y_host, y = normal(cupy, *shape)
    value_sum = cupy.asarray(np.zeros(shape[1]))
    layers.add_column_sums(y, [value_sum], None)
    np.testing.assert_allclose(value_sum.get(), y_host.sum(axis=0), rtol=1e-10, atol=1e-12)


def test_sums_over_ranges(cupy):
    x_host, x = normal(cupy, 300, 7)
    starts, y = np.array([0, 1, 4]), empty(cupy, 300, 3)
    layers.sum_ranges(x, cupy.asarray(starts), y)
    assert_close(y, np.add.reduceat(x_host, starts, axis=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_row_dots(cupy, shape):
    (a_host, a), (b_host, b) = normal(cupy, *shape), normal(cupy, *shape, seed=1)
    products = empty(cupy, shape[0])
    layers.row_dots(a, b, products)
    assert_close(products, (a_host * b_host).sum(axis=1))


@pytest.mark.parametrize("size", [1, 7, 8, 3000])
def test_random_numbers_are_numpys(cupy, size):
    state = np.uint64([2**64 - 3, 5, 2**40 + 7])
    x, expected = empty(cupy, size), np.empty(size, np.float32)
    layers.draw_uniform(cupy.asarray(state), x)
    CPU.draw_uniform(state, expected)
    np.testing.assert_array_equal(x.get(), expected)
    assert size < 3000 or 0.45 < expected.mean() < 0.55


# Affine functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_column_of_ones(cupy, shape):
    rows, dim = shape
    x_host, x = normal(cupy, *shape)
    bias_host, bias = normal(cupy, dim, seed=1)
    y = empty(cupy, *shape)
    layers.broadcast_rows(bias, y)
    np.testing.assert_array_equal(y.get(), np.broadcast_to(bias_host, shape))
    extended = empty(cupy, rows, dim + 1)
    layers.append_one(x, extended)
    np.testing.assert_array_equal(extended.get(), np.hstack([x_host, np.ones((rows, 1))]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("max_change", "factor"), [(0.0, 1.0), (1000.0, 1.0), (3.0, 0.5)])
def test_scale_step(cupy, shape, max_change, factor):
    """Two rows with |x| |d| = 2 * 3; the learning rate times the scales is 0.5."""
    scales = cupy.asarray(np.float32(4)), cupy.asarray(np.float32(0.5))
    norms = cupy.asarray(np.float32([[4, 4], [9, 9]]))
    limits = cupy.asarray(np.array([0.0, 1.0]))
    rows, dim = shape
    x_host, extended = normal(cupy, rows, dim + 1)
    x, ones = empty(cupy, *shape), empty(cupy, 1, rows)
    for count in 1, 2:
        layers.scale_step(extended, norms, scales, 0.25, max_change, x, ones, limits)
        assert_close(x, 0.5 * factor * x_host[:, :-1])
        assert_close(ones, 0.5 * factor * x_host[np.newaxis, :, -1])
        assert limits.tolist() == [count * (factor < 1), factor]
    scales[0].fill(np.nan)
    layers.scale_step(extended, norms, scales, 0.25, max_change, x, ones, limits)
    assert np.isnan(x.get()).all() and np.isnan(ones.get()).all()


# Eigenvalues and the estimate of the Fisher matrix ------------------------------------------------


def matrices(n, rng):
    """Symmetric matrices, easy and degenerate."""
    wide, thin = rng.standard_normal((n, 2 * n)), rng.standard_normal((n, 2))
    nearly_diagonal = np.diag(np.linspace(1.0, 0.01, n)) @ (np.eye(n) + 0.05 * wide[:, :n])
    yield wide @ wide.T
    yield nearly_diagonal @ nearly_diagonal.T
    yield 1e60 * thin @ thin.T
    yield wide[:, :n] + wide[:, :n].T
    yield np.ones((n, n))
    yield np.eye(n)
    yield np.zeros((n, n))


def eigen(cupy, Z, scales=None):
    """Eigenvalues and eigenvectors, as rows, on the host."""
    n, workspace = len(Z), Workspace()
    scales = np.ones(n) if scales is None else scales
    c, U = empty(cupy, n, dtype=np.float64), empty(cupy, n, n, dtype=np.float64)
    eigh.eigenvalues(cupy.asarray(Z), c, workspace)
    eigh.eigenvectors(U, cupy.asarray(scales), workspace)
    return c.get(), U.get()


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 8, 21, 80])
def test_eigenvalues_and_eigenvectors(cupy, n):
    for Z in matrices(n, np.random.default_rng(3)):
        size, scales = np.abs(Z).max(), np.arange(1.0, n + 1)
        c, U = eigen(cupy, np.triu(Z), scales)
        np.testing.assert_allclose(c, np.linalg.eigvalsh(Z)[::-1], atol=1e-13 * n * size)
        U /= scales[:, np.newaxis]
        np.testing.assert_allclose(U @ U.T, np.eye(n), atol=1e-12)
        np.testing.assert_allclose(U @ Z, c[:, np.newaxis] * U, atol=1e-11 * n * size)


def test_small_eigenvalues_are_as_exact_as_large_ones(cupy):
    n = 12
    A = np.eye(n) + 0.02 * np.random.default_rng(4).standard_normal((n, n))
    scales = 10.0 ** -np.arange(n)
    c, _ = eigen(cupy, scales[:, np.newaxis] * (A + A.T) * scales)
    # Each within the bounds by which the eigenvalues of A + A^T stretch the diagonal.
    stretch = np.linalg.eigvalsh(A + A.T)
    assert (c >= stretch[0] * scales**2).all() and (c <= stretch[-1] * scales**2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_eigenvalues_of_what_is_not_finite(cupy, bad):
    Z = np.eye(5)
    Z[2, 3] = bad
    assert np.isnan(eigen(cupy, Z)[0]).all()


@pytest.mark.slow
def test_large_matrices_are_not_in_shared_memory():
    with fake_cupy.installed() as cupy:
        for n in eigh.MAX_IN_SHARED_MEMORY, eigh.MAX_IN_SHARED_MEMORY + 1:
            A = np.random.default_rng(5).standard_normal((n, n))
            c, _ = eigen(cupy, A @ A.T)
            np.testing.assert_allclose(c, np.linalg.eigvalsh(A @ A.T)[::-1], atol=1e-9)


@pytest.mark.parametrize("rows", ["random", "parallel", "zero", "of all magnitudes"])
def test_orthonormalise(cupy, rows):
    rng = np.random.default_rng(6)
    R, D = 9, 25
    A = {
        "random": lambda: rng.standard_normal((R, D)),
        "parallel": lambda: np.ones((R, D)) + 1e-14 * rng.standard_normal((R, D)),
        "zero": lambda: np.zeros((R, D)),
        "of all magnitudes": lambda: (
            rng.standard_normal((R, D)) * 10.0 ** rng.uniform(-200, 200, (R, 1))
        ),
    }[rows]()
    Q, dots = cupy.asarray(A), cupy.asarray(np.zeros(R))
    kernels.launch("orthonormalise", 1, 64, Q, dots, cupy.asarray(np.int32([1, 0])), R, D)
    np.testing.assert_array_equal(Q.get(), A)  # not ill-conditioned
    kernels.launch("orthonormalise", 1, 64, Q, dots, cupy.asarray(np.int32([1, 1])), R, D)
    np.testing.assert_allclose(Q.get() @ Q.get().T, np.eye(R), atol=1e-12)
    if rows == "random":
        by_cholesky = np.linalg.solve(np.linalg.cholesky(A @ A.T), A)
        np.testing.assert_allclose(Q.get(), by_cholesky, atol=1e-12)


def test_norms_of_rows(cupy):
    N, D, R = 6, 40, 5
    X_host, X = normal(cupy, N, D)
    H_host, H = normal(cupy, N, R, seed=1)
    H_host, H = 0.1 * H_host, (np.float32(0.1) * H).astype(np.float32)
    e = np.linspace(0.1, 0.9, R)
    norms, hat_norms, tr, gamma = (
        empty(cupy, N),
        empty(cupy, N),
        empty(cupy, dtype=np.float64),
        empty(cupy),
    )
    squares, difference = (X_host**2).sum(axis=1), (H_host**2) @ (2 - e)
    for is_X_hat, expected in (
        (True, (squares + difference, squares)),
        (False, (squares, squares - difference)),
    ):
        layers.row_norms(X, is_X_hat, H, cupy.asarray(e), norms, hat_norms)
        assert_close(norms, expected[0])
        assert_close(hat_norms, expected[1])
        layers.norm_ratio(norms, hat_norms, tr, gamma)
        np.testing.assert_allclose(tr.get(), expected[0].sum(), rtol=1e-6)
        np.testing.assert_allclose(
            gamma.get() ** 2, expected[0].sum() / expected[1].sum(), rtol=1e-6
        )
    norms.fill(0)
    layers.norm_ratio(norms, norms, tr, gamma)
    assert gamma.get() == 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 75])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 200])
def test_smoothed_inverse(cupy, n, dtype, rank):
    """Of matrices of condition 10^4, or 10^7 where they are exact, and of nothing."""
    rng = np.random.default_rng(7)
    N, D, alpha = 40, 100, 1.0 if dtype is np.float32 else 1e-3
    X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, D))
    norms = rng.uniform(1, 2, N).astype(dtype)
    for scatter in (X @ X.T).astype(dtype), np.zeros((n, n), dtype):
        mu, mu_host = empty(cupy, dtype=np.float64), np.empty(())
        expected = simple.smoothed_inverse(scatter, norms, D, alpha, mu_host, Workspace())
        args = D, alpha, mu, Workspace()
        S = layers.smoothed_inverse(cupy.asarray(np.triu(scatter)), cupy.asarray(norms), *args)
        np.testing.assert_allclose(mu.get(), mu_host, rtol=1e-12)
        assert_close(S, expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 5, 75])
def test_leaving_one_out(cupy, n):
    D, mu = 30, np.float64(0.7)
    X_host, X = normal(cupy, n, D)
    X_host[0] = 0
    X[0] = 0
    S = np.linalg.inv(np.eye(n) + mu * X_host @ X_host.T)
    X_hat = S @ X_host / np.diag(S)[:, np.newaxis]
    T, squared_norms, of_device = empty(cupy, n, n), empty(cupy, n), cupy.asarray(mu)
    layers.leave_one_out(cupy.asarray(S), of_device, T, squared_norms)
    assert_close(T, S / np.diag(S)[:, np.newaxis])
    assert squared_norms.get()[0] == 0
    if n > 1:
        assert_close(squared_norms, (X_hat**2).sum(axis=1), rtol=1e-5)
        Q = (S @ X_host).astype(np.float32)
        layers.leave_rows_out(X, cupy.asarray(Q), of_device, squared_norms)
        assert_close(X, X_hat, rtol=2e-5)
        assert_close(squared_norms, (X_hat**2).sum(axis=1), rtol=2e-5)
