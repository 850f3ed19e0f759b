"""Work beside the main stream and graphs, with a CuPy that tries other orders where it may."""

import fake_cupy
import numpy as np
import pytest

from nnet.cuda.streams import Replayed, Stream, join_all


@pytest.fixture(params=["FORWARD", "BACKWARD"])
def cupy(request):
    """Branches of a graph are done as they were captured, or the other way round."""
    order = getattr(fake_cupy, request.param)
    with fake_cupy.installed(order=order) as module, module.cuda.Stream():
        yield module


def add(x, amount):
    np.add(x, amount, out=x)


def test_first_call_runs_second_captures_others_replay(cupy):
    x, calls = cupy.asarray(np.zeros(3)), []

    def function():
        calls.append(1)
        add(x, 1.0)

    replayed = Replayed(function)
    for key in "aabaabb":
        replayed(key)
    assert x.tolist() == [7.0] * 3
    assert len(calls) == 4  # two for each key
    before = fake_cupy.counts["launches"]
    replayed("a")
    assert fake_cupy.counts["launches"] == before + 1 and len(calls) == 4


def test_what_is_done_aside_comes_after_the_fork_and_before_the_join(cupy):
    x, y, aside = cupy.asarray(np.ones(1)), cupy.asarray(np.zeros(1)), Stream()

    def function():
        add(x, 1.0)
        with aside:
            np.multiply(x, x, out=y)
        join_all()
        np.add(x, y, out=x)

    replayed = Replayed(function)
    for _ in range(3):
        replayed(None)
    expected = 1.0
    for _ in range(3):
        expected = expected + 1 + (expected + 1) ** 2
    assert x.tolist() == [expected]


def test_the_fake_shows_a_missing_join():
    results = []
    for order in fake_cupy.FORWARD, fake_cupy.BACKWARD:
        with fake_cupy.installed(order=order) as cupy, cupy.cuda.Stream():
            x, y, aside = cupy.asarray(np.ones(1)), cupy.asarray(np.zeros(1)), Stream()

            def function(x=x, y=y, aside=aside):
                with aside:
                    np.multiply(x, x, out=y)
                add(x, 1.0)

            replayed = Replayed(function)
            for _ in range(2):
                replayed(None)
            results.append(y.tolist())
    assert results == [[4.0], [9.0]]


def test_host_transfers_and_allocations_are_errors_while_captured(cupy):
    x = cupy.asarray(np.zeros(3))
    for function in (lambda: x + 1, lambda: float(x.sum()), lambda: cupy.asarray(np.ones(3))):
        replayed = Replayed(function)
        replayed(None)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="while a stream is captured"):
            replayed(None)


def test_the_fake_refuses_what_cupy_refuses(cupy):
    x = cupy.asarray(np.zeros(3))
    with pytest.raises(TypeError):
        np.asarray(x)
    with pytest.raises(TypeError):
        x + np.ones(3)
    with pytest.raises(TypeError):
        x[:2] = np.ones(2)
    assert fake_cupy.counts["waits"] == 0
    assert float(x[0]) == 0.0 and fake_cupy.counts["waits"] == 1
