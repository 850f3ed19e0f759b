"""The natural gradient: against its explicit formulas, in its properties, on degenerate data."""

from __future__ import annotations

import copy
import logging
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.device.device import Device
from nnet.egs.minibatches import read_minibatches
from nnet.errors import NgtrainError
from nnet.model.acoustic_model import load_network
from nnet.natural_gradient import OnlinePreconditioner, SimplePreconditioner
from nnet.natural_gradient.online import DELTA, EPSILON, _initial_R, _orthonormal_rows
from nnet.natural_gradient.simple import UNIT_ALPHA
from nnet.training.objective import Totals, labels_of
from nnet.training.train import Trainer


def correlated_rows(rng, N, D, dtype=np.float64):
    """Rows whose covariance has a decaying spectrum."""
    mix = rng.standard_normal((D, D)) * 0.7 ** np.arange(D)
    return (rng.standard_normal((N, D)) @ mix.T).astype(dtype)


def departure_from_orthonormality(online):
    """The largest element of R_t R_t^T - I."""
    R = online.estimate.W / np.sqrt(online.estimate.e)[:, np.newaxis]
    return np.abs(R @ R.T - np.eye(len(R))).max()


class ExplicitOnline:
    """The published equations with D by D matrices: the whole Fisher matrix, and its inverse."""

    def __init__(self, X, rank, num_samples_history, alpha):
        self.D = X.shape[1]
        self.history, self.alpha = num_samples_history, alpha
        self.R = _initial_R(rank, self.D)
        self.rho = EPSILON
        self.F = self.R.T @ self.R * EPSILON + EPSILON * np.eye(self.D)
        for _ in range(3):
            self.update(X)

    def precondition(self, X):
        G = self.F + self.alpha / self.D * np.trace(self.F) * np.eye(self.D)
        beta = self.rho + self.alpha / self.D * np.trace(self.F)
        X_hat = beta * X @ np.linalg.inv(G)
        return X_hat, np.linalg.norm(X) / np.linalg.norm(X_hat)

    def update(self, X):
        eta = 1.0 - np.exp(-len(X) / self.history)
        T = eta * X.T @ X / len(X) + (1.0 - eta) * self.F
        Y = self.R @ T
        c, U = np.linalg.eigh(Y @ Y.T)
        order = np.argsort(-c)
        sqrt_c, U = np.sqrt(c[order]), U[:, order]
        self.R = (U / sqrt_c).T @ Y
        self.rho = (np.trace(T) - sqrt_c.sum()) / (self.D - len(c))
        floor = max(EPSILON, DELTA * sqrt_c.max())
        d = np.maximum(sqrt_c - self.rho, floor)
        self.rho = max(self.rho, floor)
        self.F = self.R.T @ np.diag(d) @ self.R + self.rho * np.eye(self.D)


@pytest.mark.parametrize(
    ("N", "D", "rank", "period", "alpha"),
    [(16, 7, 3, 1, 4.0), (5, 12, 4, 3, 4.0), (40, 6, 5, 4, 0.0), (9, 2, 1, 2, 10.0)],
)
def test_online_equals_the_inverse_of_the_smoothed_fisher_matrix(N, D, rank, period, alpha):
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((D, D)) * 0.6 ** np.arange(D)
    online = OnlinePreconditioner(rank, period, num_samples_history=60.0, alpha=alpha)
    explicit = None
    for t in range(30):
        X = rng.standard_normal((N, D)) @ mix.T
        if explicit is None:
            explicit = ExplicitOnline(X, rank, 60.0, alpha)
        expected, expected_scale = explicit.precondition(X)
        if t < 10 or (t - 9) % period == 0:
            explicit.update(X)
        squared_norms = np.empty(N)
        scale = online.precondition(X, squared_norms)
        np.testing.assert_allclose(X, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
        np.testing.assert_allclose(scale, expected_scale, rtol=1e-7)
        np.testing.assert_allclose(squared_norms, (X**2).sum(axis=1), rtol=1e-12)


def test_online_finds_the_scatter_of_its_data():
    rng = np.random.default_rng(2)
    D, rank = 30, 4
    axes, _ = np.linalg.qr(rng.standard_normal((D, D)))
    variances = np.full(D, 0.5)
    variances[:rank] = 100.0, 50.0, 20.0, 8.0
    online = OnlinePreconditioner(rank, num_samples_history=5000.0)
    for _ in range(200):
        X = (rng.standard_normal((128, D)) * np.sqrt(variances) @ axes.T).astype(np.float32)
        online.precondition(X)
    np.testing.assert_allclose(online.estimate.d + online.estimate.rho, variances[:rank], rtol=0.1)
    np.testing.assert_allclose(online.estimate.rho, 0.5, rtol=0.1)
    R = online.estimate.W / np.sqrt(online.estimate.e)[:, np.newaxis]
    assert np.abs(R @ axes[:, :rank]).diagonal().min() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-4), (np.float64, 1e-11)])
@pytest.mark.parametrize(("N", "D"), [(24, 60), (60, 24), (6, 24), (6, 7), (1, 9), (9, 1)])
@pytest.mark.parametrize(
    "new",
    [lambda: OnlinePreconditioner(5, 2, num_samples_history=200.0), SimplePreconditioner],
)
def test_the_product_without_preconditioned_rows(new, N, D, dtype, tolerance):
    rng = np.random.default_rng(11)
    rowwise, product = new(), new()
    rank = getattr(product, "rank", 0)
    for _ in range(16):
        X, Y = (correlated_rows(rng, N + rank, dim, dtype) for dim in (D, 8))
        X_hat, norms, product_norms = X[:N].copy(), *np.empty((2, N), dtype)
        scale = rowwise.precondition(X_hat, norms)
        expected = X_hat.T @ Y[:N]
        product_scale, rows = product.precondition_product(X, Y, product_norms)
        error = np.linalg.norm(X[:rows].T @ Y[:rows] - expected)
        assert error <= tolerance * np.linalg.norm(expected)
        np.testing.assert_allclose(product_norms, norms, rtol=10 * tolerance)
        np.testing.assert_allclose(product_scale, scale, rtol=tolerance)


def explicit_simple(X, alpha):
    """Row by row: the inverse of the smoothed scatter of the other rows."""
    N, D = X.shape
    smoothing = alpha / (N * D) * np.trace(X @ X.T) * np.eye(D)
    X_hat = np.empty_like(X)
    for n in range(N):
        others = np.delete(X, n, axis=0)
        X_hat[n] = np.linalg.solve(smoothing + others.T @ others / (N - 1), X[n])
    return X_hat * np.linalg.norm(X) / np.linalg.norm(X_hat)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [4.0, 0.1, 1e-5])
@pytest.mark.parametrize(("N", "D"), [(5, 9), (20, 6), (8, 8), (2, 1)])
def test_simple_equals_its_explicit_formula(N, D, alpha):
    X = correlated_rows(np.random.default_rng(3), N, D)
    expected = explicit_simple(X, alpha)
    squared_norms = np.empty(N)
    scale = SimplePreconditioner(alpha).precondition(X, squared_norms)
    np.testing.assert_allclose(scale * X, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(squared_norms, (X**2).sum(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize(("N", "D"), [(128, 300), (300, 60)])
def test_simple_in_single_precision(N, D):
    X = correlated_rows(np.random.default_rng(4), N, D, np.float32)
    expected = explicit_simple(X.astype(np.float64), 4.0)
    scale = SimplePreconditioner(4.0).precondition(X)
    assert np.linalg.norm(scale * X - expected) < 2e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(("N", "D"), [(30, 80), (80, 30)])
def test_simple_with_a_huge_alpha_is_the_unit_matrix(N, D):
    X = correlated_rows(np.random.default_rng(5), N, D, np.float32)
    before, squared_norms = X.copy(), np.empty(N, np.float32)
    scale = SimplePreconditioner(UNIT_ALPHA).precondition(X, squared_norms)
    assert np.linalg.norm(scale * X - before) < 3e-6 * np.linalg.norm(before)
    np.testing.assert_allclose(squared_norms, (before**2).sum(axis=1), rtol=1e-5)


def test_simple_leaves_one_row_and_zeros_unchanged(caplog):
    X = np.array([[3.0, 4.0]], np.float32)
    squared_norms = np.empty(1, np.float32)
    assert SimplePreconditioner(4.0).precondition(X, squared_norms) == 1.0
    assert X.tolist() == [[3.0, 4.0]] and squared_norms.tolist() == [25.0]
    assert "one row" in caplog.text
    for shape in [(4, 7), (7, 4)]:
        zeros = np.zeros(shape, np.float32)
        assert SimplePreconditioner(4.0).precondition(zeros) == 1.0
        assert not zeros.any()


@pytest.mark.parametrize(
    "new",
    [lambda: OnlinePreconditioner(3, num_samples_history=50.0), lambda: SimplePreconditioner(0.1)],
)
@settings(deadline=None, max_examples=40)
@given(
    N=st.integers(1, 12),
    D=st.integers(1, 12),
    magnitude=st.integers(-12, 12),
    rank_of_data=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_norm_is_kept(new, N, D, magnitude, rank_of_data, seed):
    rng = np.random.default_rng(seed)
    preconditioner = new()
    for _ in range(3):
        X = rng.standard_normal((N, rank_of_data)) @ rng.standard_normal((rank_of_data, D))
        X = (X * 10.0**magnitude).astype(np.float32)
        before = np.linalg.norm(X.astype(np.float64))
        squared_norms = np.empty(N, np.float32)
        scale = preconditioner.precondition(X, squared_norms)
        np.testing.assert_allclose(scale * np.linalg.norm(X.astype(np.float64)), before, rtol=2e-5)
        np.testing.assert_allclose(
            squared_norms, (X.astype(np.float64) ** 2).sum(axis=1), rtol=1e-5, atol=1e-37
        )


DEGENERATE = {
    "zero": lambda rng: np.zeros((64, 40)),
    "one row of zeros": lambda rng: np.zeros((1, 40)),
    "rank one": lambda rng: np.outer(rng.standard_normal(64), rng.standard_normal(40)),
    "repeated rows": lambda rng: np.repeat(rng.standard_normal((2, 40)), 32, axis=0),
    "constant": lambda rng: np.full((64, 40), 3.0),
    "one column": lambda rng: rng.standard_normal((64, 1)) * (np.arange(40) == 7),
    "denormal": lambda rng: rng.standard_normal((64, 40)) * 1e-40,
    "tiny": lambda rng: rng.standard_normal((64, 40)) * 1e-18,
    "huge": lambda rng: rng.standard_normal((64, 40)) * 1e15,
    "of all magnitudes": lambda rng: (
        rng.standard_normal((64, 40)) * 10.0 ** rng.uniform(-30, 10, (64, 1))
    ),
    "well-behaved": lambda rng: rng.standard_normal((64, 40)),
}


@pytest.mark.parametrize("first", DEGENERATE)
@pytest.mark.parametrize("rank", [10, 39])
def test_online_stays_finite_and_orthonormal(first, rank):
    """Degenerate minibatches at the start, and after one another in any order."""
    rng = np.random.default_rng(5)
    online = OnlinePreconditioner(rank)
    kinds = [first] * 12 + list(rng.choice(list(DEGENERATE), 30))
    for kind in kinds:
        X = DEGENERATE[kind](rng).astype(np.float32)
        norm = np.linalg.norm(X.astype(np.float64))
        scale = online.precondition(X)
        assert (
            np.isfinite(scale) and np.isfinite(X).all() and np.isfinite(online.estimate.W).all()
        ), kind
        assert departure_from_orthonormality(online) < 1e-5, kind
        assert online.estimate.rho >= EPSILON and online.estimate.d.min() >= EPSILON
        if norm > 1e-15:
            np.testing.assert_allclose(
                scale * np.linalg.norm(X.astype(np.float64)), norm, rtol=1e-4
            )


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("N", [30, 64])
def test_simple_stays_finite(kind, N):
    X = DEGENERATE[kind](np.random.default_rng(6)).astype(np.float32)[:N]
    norm = np.linalg.norm(X.astype(np.float64))
    scale = SimplePreconditioner(4.0).precondition(X)
    assert np.isfinite(scale) and np.isfinite(X).all()
    if norm > 1e-15:
        np.testing.assert_allclose(scale * np.linalg.norm(X.astype(np.float64)), norm, rtol=1e-5)


@pytest.mark.slow
def test_online_stays_orthonormal_in_single_precision_over_hundreds_of_updates():
    """Derivatives of a network whose last layer starts at zero: none, then few, then growing.

    The rank far exceeds that of the data and eigenvalues span what float32 cannot resolve; this is
    where Kaldi's Cholesky factorisation fails.
    """
    rng = np.random.default_rng(7)
    N, D = 128, 200
    online = OnlinePreconditioner(rank=80, update_period=1)
    patterns = rng.standard_normal((60, D)) * 0.5 ** np.arange(60)[:, np.newaxis]
    worst = 0.0
    for t in range(400):
        size = min(1.0, 1e-6 * 1.1**t) if t > 0 else 0.0
        X = (size * rng.standard_normal((N, 60)) @ patterns).astype(np.float32)
        online.precondition(X)
        worst = max(worst, departure_from_orthonormality(online))
    assert worst < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["online_pnorm", "online_multisplice"])
def test_online_stays_orthonormal_where_kaldi_falls_over(golden, reference, name):
    """Real training that starts from a last layer of zeros, with rank 80.

    On these files Kaldi's log says three times that its Cholesky factorisation failed.
    """
    directory = reference(f"kaldi/golden/training/{name}/0.mdl").parent
    assert "Cholesky" in (directory / "train.log").read_text()
    network = load_network(str(directory / "0.mdl"))
    trainer = Trainer(network)
    preconditioners = [p for c in network.updatable_components for p in c.preconditioners]
    for preconditioner in preconditioners:
        preconditioner.update_period = 1
    log_probs, worst = [], 0.0
    for _ in range(20):
        minibatches = read_minibatches(
            f"ark:{golden}/egs_1frame.ark", 128, network.left_context, network.right_context
        )
        for minibatch in minibatches:
            trainer.step(minibatch.frames, labels_of(minibatch, network))
            log_probs.append(trainer.finish(Totals.of(minibatch)).log_prob_per_frame)
            worst = max(worst, *map(departure_from_orthonormality, preconditioners))
    assert len(log_probs) == 200 and worst < 1e-5
    assert log_probs[0] < -4.8 and min(log_probs[-10:]) > -0.2


def test_online_does_not_learn_from_what_is_not_finite(caplog):
    rng = np.random.default_rng(8)
    online = OnlinePreconditioner(4)
    online.precondition(correlated_rows(rng, 20, 10, np.float32))
    before = online.estimate.W.copy()
    X = correlated_rows(rng, 20, 10, np.float32)
    X[3, 4] = np.nan
    with np.errstate(invalid="ignore"):
        scale = online.precondition(X)
    assert np.isnan(scale)  # the caller's sign that something is wrong
    np.testing.assert_array_equal(online.estimate.W, before)
    assert "not finite" in caplog.text
    online.precondition(correlated_rows(rng, 20, 10, np.float32))
    assert (
        not np.array_equal(online.estimate.W, before)
        and departure_from_orthonormality(online) < 1e-5
    )


@pytest.mark.parametrize("period", [1, 2, 4])
def test_online_updates_ten_times_then_periodically(period):
    rng = np.random.default_rng(9)
    online = OnlinePreconditioner(3, update_period=period)
    updated = []
    for _ in range(10 + 3 * period):
        before = None if online.estimate is None else online.estimate.W.copy()
        online.precondition(correlated_rows(rng, 16, 8, np.float32))
        updated.append(before is None or not np.array_equal(before, online.estimate.W))
    assert updated == [True] * 10 + ([False] * (period - 1) + [True]) * 3


@pytest.mark.parametrize("period", [1, 3])
def test_an_update_that_goes_on_beside_others_takes_effect_when_the_next_is_due(
    period, monkeypatch
):
    """The estimates are the same; only minibatches of which none is learnt use an older one."""
    rng = np.random.default_rng(15)
    at_once, late = (OnlinePreconditioner(4, update_period=period) for _ in range(2))
    in_force = differences = 0
    for t in range(10 + 4 * period):
        is_due, X = at_once.due, correlated_rows(rng, 16, 9)
        if is_due and t > 0:
            in_force = at_once.estimate.W.copy()
        preconditioned = []
        for online in at_once, late:
            monkeypatch.setattr(Device, "overlaps", online is late)
            X_hat = X.copy()
            online.precondition(X_hat)
            preconditioned.append(X_hat)
        differs = not np.array_equal(*preconditioned)
        assert not (is_due and differs)
        differences += differs
        if t > 0:
            np.testing.assert_array_equal(late.estimate.W, in_force)
    assert differences == 4 * (period - 1)


def test_online_lowers_a_rank_that_is_too_high(caplog):
    X = correlated_rows(np.random.default_rng(10), 16, 6, np.float32)
    online = OnlinePreconditioner(rank=6)
    with caplog.at_level(logging.WARNING, logger="ngtrain"):
        online.precondition(X)
    assert online.rank == 5 and online.estimate.W.shape == (5, 6)
    assert "Rank 6 of online preconditioner is >= dim 6" in caplog.text


def test_online_in_one_dimension_is_the_identity():
    X = np.array([[2.0], [-3.0]], np.float32)
    squared_norms = np.empty(2, np.float32)
    assert OnlinePreconditioner(rank=5).precondition(X, squared_norms) == 1.0
    assert X.tolist() == [[2.0], [-3.0]] and squared_norms.tolist() == [4.0, 9.0]


def test_a_copy_of_online_is_independent():
    rng = np.random.default_rng(11)
    online = OnlinePreconditioner(4)
    online.precondition(correlated_rows(rng, 20, 10, np.float32))
    other = copy.deepcopy(online)
    W, d, rho = online.estimate.W.copy(), online.estimate.d.copy(), online.estimate.rho
    X = correlated_rows(rng, 20, 10, np.float32)
    X_copy = X.copy()
    scale = other.precondition(X)
    assert not np.array_equal(other.estimate.W, W)
    assert (
        np.array_equal(online.estimate.W, W)
        and np.array_equal(online.estimate.d, d)
        and online.estimate.rho == rho
    )
    assert online.precondition(X_copy) == scale and np.array_equal(X, X_copy)


def test_orthonormal_rows_are_those_of_gram_schmidt():
    A = np.random.default_rng(12).standard_normal((4, 9))
    by_cholesky = np.linalg.solve(np.linalg.cholesky(A @ A.T), A)
    np.testing.assert_allclose(_orthonormal_rows(A), by_cholesky, atol=1e-12)
    A[2] = A[1]  # singular: the rows before stay, and all are orthonormal
    Q = _orthonormal_rows(A)
    np.testing.assert_allclose(Q[:2], by_cholesky[:2], atol=1e-12)
    np.testing.assert_allclose(Q @ Q.T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("period", [1, 4])
def test_online_allocates_nothing_large_after_its_first_minibatch(period):
    rng = np.random.default_rng(13)
    N, D, rank = 400, 4000, 60
    online = OnlinePreconditioner(rank, period)
    squared_norms = np.empty(N, np.float32)
    batches = rng.standard_normal((3, N, D), np.float32)
    online.precondition(batches[0], squared_norms)
    tracemalloc.start()
    try:
        for X in batches[1:]:
            online.precondition(X, squared_norms)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < online.estimate.W.nbytes / 2  # R by R matrices, and what ufuncs that cast buffer


@pytest.mark.parametrize(
    "parameters",
    [
        {"rank": 0},
        {"update_period": 0},
        {"num_samples_history": 0.0},
        {"num_samples_history": float("nan")},
        {"alpha": -1.0},
        {"alpha": float("nan")},
    ],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(NgtrainError, match="online preconditioner"):
        OnlinePreconditioner(**parameters)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_simple_needs_a_positive_alpha(alpha):
    with pytest.raises(NgtrainError, match="alpha must be positive"):
        SimplePreconditioner(alpha)


@pytest.fixture(scope="module")
def cupy():
    module = pytest.importorskip("cupy", reason="needs CuPy")
    if not module.cuda.is_available():
        pytest.skip("needs a GPU")
    return module


@pytest.mark.parametrize(
    "new", [lambda: OnlinePreconditioner(20, 3), lambda: SimplePreconditioner(4.0)]
)
@pytest.mark.parametrize(("N", "D"), [(64, 100), (100, 40)])
def test_on_a_gpu_as_on_the_cpu(cupy, new, N, D):
    rng = np.random.default_rng(14)
    on_cpu, on_gpu = new(), new()
    for t in range(20):
        X = np.zeros((N, D), np.float32) if t == 5 else correlated_rows(rng, N, D, np.float32)
        X_gpu = cupy.asarray(X)
        squared_norms, squared_norms_gpu = np.empty(N, np.float32), cupy.empty(N, np.float32)
        scale = on_cpu.precondition(X, squared_norms)
        scale_gpu = on_gpu.precondition(X_gpu, squared_norms_gpu)
        assert isinstance(scale_gpu, cupy.ndarray)
        np.testing.assert_allclose(scale_gpu.get(), scale, rtol=1e-3)
        assert np.linalg.norm(X_gpu.get() - X) <= 2e-3 * np.linalg.norm(X)
        np.testing.assert_allclose(squared_norms_gpu.get(), squared_norms, rtol=1e-2, atol=1e-4)
