"""Threads divide work; results are the same, byte for byte, by any number of them."""

import os
import threading
import time

import numpy as np
import pytest

from nnet.decoding.task_sequencer import TaskSequencer
from nnet.device import blas
from nnet.device.threads import for_each, num_threads, set_num_threads
from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError
from nnet.model.network import Network
from nnet.training.combination import combine
from nnet.training.shares import Shares
from nnet.training.train import train

COUNTS = 1, 2, 3
PRODUCTS = {  # m, k, n of (m, k) @ (k, n): which dimension is divided, and into how many pieces
    (512, 400, 4000): ("n", 4),
    (512, 361, 1000): ("n", 2),
    (4000, 592, 400): ("m", 4),
    (512, 4000, 400): ("k", 4),
    (512, 4000, 80): ("k", 4),
    (80, 512, 4000): ("n", 4),
    (512, 400, 8200): ("n", 8),
    (1500, 3100, 800): ("m", 2),  # parts of the sum would be large
    (1, 592, 4000): (None, 1),
    (4000, 592, 1): (None, 1),
    (1030, 700, 1029): ("m", 2),  # the last piece is shorter
    (4100, 1, 4100): ("n", 4),
    (128, 50, 200): (None, 1),
}
TYPES = {np.float32: 1e-5, np.float64: 1e-13}


@pytest.fixture(autouse=True)
def threads():
    yield
    set_num_threads(None)


def by_any_number_of_threads(compute):
    """What `compute` returns, an array or more, which has to be the same."""
    results = []
    for count in COUNTS:
        set_num_threads(count)
        results.append(compute())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    return results[0]


def matrix(rng, rows, columns, dtype, transposed=False):
    shape = (columns, rows) if transposed else (rows, columns)
    a = rng.standard_normal(shape).astype(dtype)
    return a.T if transposed else a


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
@pytest.mark.parametrize("layouts", [(False, False), (True, False), (False, True), (True, True)])
def test_products(shape, dtype, layouts):
    rng = np.random.default_rng(0)
    m, k, n = shape
    a, b = matrix(rng, m, k, dtype, layouts[0]), matrix(rng, k, n, dtype, layouts[1])
    c = matrix(rng, m, n, dtype)

    def compute():
        out = c.copy()
        blas.gemm(a, b, out, alpha=-0.5, beta=2.0)
        return out

    expected = 2.0 * c - 0.5 * (a.astype(np.float64) @ b)
    error = np.abs(by_any_number_of_threads(compute) - expected).max()
    assert error <= TYPES[dtype] * np.sqrt(k) * 8


@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
def test_large_products_are_divided(shape, monkeypatch):
    pieces = []
    monkeypatch.setattr(blas, "for_each", lambda function, items: pieces.extend(items))
    m, k, n = shape
    a, b, out = (np.zeros(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
    blas.gemm(a, b, out, alpha=1.0, beta=0.0)
    assert (len(pieces) or 1) == PRODUCTS[shape][1]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(512, 4000), (1500, 700), (512, 361), (100, 50)])
@pytest.mark.parametrize("transposed", [False, True])
def test_scatters(shape, dtype, transposed):
    a = matrix(np.random.default_rng(0), *shape, dtype, transposed)

    def compute():
        out = np.zeros((len(a), len(a)), dtype)
        blas.gram(a, out)
        return np.triu(out)

    expected = np.triu(a.astype(np.float64) @ a.T)
    error = np.abs(by_any_number_of_threads(compute) - expected).max()
    assert error <= TYPES[dtype] * shape[1]


@pytest.mark.parametrize("dim", [100, 361, 700])
def test_inverses(dim):
    x = np.random.default_rng(0).standard_normal((dim, 50))
    a = np.eye(dim) + x @ x.T
    inverse = by_any_number_of_threads(lambda: blas.inverse(np.triu(a)))
    np.testing.assert_allclose(inverse @ a, np.eye(dim), atol=1e-11)


def test_products_of_unlike_shapes_are_refused():
    a, out = np.zeros((300, 500)), np.zeros((300, 300))
    with pytest.raises(ValueError, match=r"shapes do not match: \(300, 500\) @ \(400, 300\)"):
        blas.gemm(a, np.zeros((400, 300)), out, alpha=1.0, beta=0.0)


def random_network(affine, num_hidden=1000):
    lines = [
        f"{affine} input-dim=200 output-dim={num_hidden} param-stddev=0.1 bias-stddev=0.5",
        f"PnormComponent input-dim={num_hidden} output-dim=200 p=2",
        "NormalizeComponent dim=200",
        f"{affine} input-dim=200 output-dim=600 param-stddev=0 bias-stddev=0",
        "SoftmaxComponent dim=600",
    ]
    return Network.from_config(lines, np.random.default_rng(0))


def random_minibatches(count, size=512):
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield Minibatch(
            rng.standard_normal((size, 1, 200), dtype=np.float32),
            np.arange(size, dtype=np.int32),
            rng.integers(0, 600, size, dtype=np.int32),
            np.ones(size, np.float32),
        )


def parameters(network):
    return np.concatenate(
        [
            getattr(component, name).ravel()
            for component in network.updatable_components
            for name in component.parameter_names
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "affine",
    [
        "AffineComponent learning-rate=0.0001",
        "AffineComponentPreconditioned learning-rate=0.01 alpha=4.0 max-change=10.0",
        "AffineComponentPreconditionedOnline learning-rate=0.01 rank-in=20 rank-out=80 "
        "update-period=2 num-samples-history=2000 alpha=4.0 max-change-per-sample=0.075",
    ],
)
def test_training(affine):
    def compute():
        network = random_network(affine)
        train(network, random_minibatches(3))
        return parameters(network)

    assert np.isfinite(by_any_number_of_threads(compute)).all()


@pytest.mark.slow
def test_combination():
    """By processes, and by threads; the examples make several shares."""
    networks = [random_network("AffineComponent learning-rate=0.01", dim) for dim in (400, 400)]
    for seed, network in enumerate(networks):
        for component in network.updatable_components:
            shape = component.linear_params.shape
            noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
            component.linear_params += np.float32(0.02) * noise
    examples = next(random_minibatches(1, 1100))
    options = {"minibatch_size": 128, "num_lbfgs_iters": 4}
    results = [
        parameters(combine(networks, examples, num_processes=count, **options))
        for count in (*COUNTS, 9)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert (
        by_any_number_of_threads(
            lambda: parameters(combine(networks, examples, **options))
        ).tobytes()
        == results[0].tobytes()
    )


@pytest.mark.slow
def test_programs(golden, reference, run_program, tmp_path):
    """Which get the number as an option, or from the environment."""
    start = reference("kaldi/golden/training/online_pnorm/0.mdl")
    egs = f"ark:{golden}/egs_1frame.ark"
    for count in COUNTS:
        option = f"--num-threads={count}"
        trained, combined = tmp_path / f"{count}.mdl", tmp_path / f"combined.{count}.mdl"
        run_program("nnet-train-simple", option, "--minibatch-size=256", start, egs, trained)
        options = option, "--num-lbfgs-iters=3", "--minibatch-size=128"
        run_program("nnet-combine-fast", *options, start, tmp_path / "1.mdl", egs, combined)
    for name in "{}.mdl", "combined.{}.mdl":
        assert len({(tmp_path / name.format(count)).read_bytes() for count in COUNTS}) == 1


# Threads and processes ----------------------------------------------------------------------------


def test_pieces_are_done_at_once_and_each_once():
    set_num_threads(3)
    together, done = threading.Barrier(3, timeout=60), []

    def work(item):
        together.wait()
        done.append(item)

    for_each(work, range(3))
    assert sorted(done) == [0, 1, 2]


def test_all_pieces_are_done_in_the_end():
    """Whenever the others begin: with those that do, and with those that find nothing to do."""
    set_num_threads(4)
    for i in range(2000):
        done = []

        def work(item, done=done, seconds=i % 7 * 1e-5):
            time.sleep(item * seconds)
            done.append(item)

        for_each(work, range(4))
        assert sorted(done) == [0, 1, 2, 3]


def test_a_thread_that_does_not_come_is_not_waited_for():
    """As where other programs keep the processors: here, somebody else has the pool."""
    set_num_threads(2)
    begun, end = threading.Event(), threading.Event()

    def hold(item):
        if threading.current_thread() is not caller:
            begun.set()
            end.wait(60)
        else:
            begun.wait(60)

    caller = threading.Thread(target=lambda: for_each(hold, range(2)))
    caller.start()
    assert begun.wait(60)
    done = []
    for_each(done.append, range(5))
    assert done == [0, 1, 2, 3, 4]
    end.set()
    caller.join()


def test_errors_of_threads_are_raised():
    set_num_threads(2)
    together = threading.Barrier(2, timeout=60)

    def fail(item):
        together.wait()
        if threading.current_thread() is not threading.main_thread():
            raise KeyError(item)

    with pytest.raises(KeyError):
        for_each(fail, range(2))


def test_a_process_that_was_forked_has_threads_of_its_own():
    set_num_threads(2)

    def meet(share):
        together = threading.Barrier(2, timeout=60)
        for_each(lambda _: together.wait(), range(2))
        return share

    meet(0)
    with Shares(meet, [1, 2]) as shares:
        assert shares() == [1, 2]


@pytest.mark.parametrize("num_processes", [None, 1, 2, 3, 5])
def test_shares_are_in_their_order(num_processes):
    with Shares(lambda share, x: share * x, [1, 2, 3], num_processes) as shares:
        assert shares(10) == [10, 20, 30]


def test_results_are_in_the_order_of_items():
    """However long each takes; and no more are read ahead than may wait."""
    read = []

    def items():
        for i in range(12):
            read.append(i)
            yield i

    def slow(i):
        time.sleep(0.05 * (i % 3 == 0))
        return i, os.getpid()

    with TaskSequencer(slow, num_threads=3, num_threads_total=4) as sequencer:
        found = []
        for i, process in sequencer.results(items()):
            found.append(i)
            assert process != os.getpid() and len(read) <= len(found) + 4
    assert found == list(range(12))


def test_the_end_of_a_process_is_noticed_among_tasks():
    with TaskSequencer(os._exit, 2) as sequencer, pytest.raises(NgtrainError, match="has ended"):
        list(sequencer.results([3, 3]))
    with pytest.raises(NgtrainError, match="--num-threads-total=2 is less than --num-threads=3"):
        TaskSequencer(abs, 3, 2)


def test_number_of_threads(monkeypatch):
    from nnet.device import threads

    threads.set_num_threads(None)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert num_threads() == 7
    set_num_threads(2)
    assert num_threads() == 2
    threads.set_num_threads(None)
