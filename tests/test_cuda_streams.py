"""Work beside the main stream and graphs, with a CuPy that tries other orders where it may."""

from contextlib import closing

import fake_cupy
import numpy as np
import pytest

from nnet.device.cuda.gpu import Gpu


@pytest.fixture(params=["FORWARD", "BACKWARD"])
def gpu(request):
    """Branches of a graph are done as they were captured, or the other way round."""
    order = getattr(fake_cupy, request.param)
    with fake_cupy.installed(order=order) as module, closing(Gpu(module)) as gpu:
        yield gpu


@pytest.fixture
def cupy(gpu):
    return gpu.xp


def add(x, amount):
    np.add(x, amount, out=x)


def test_first_call_runs_second_captures_others_replay(gpu, cupy):
    x, calls = cupy.asarray(np.zeros(3)), []

    def function():
        calls.append(1)
        add(x, 1.0)

    replayed = gpu.captured(function)
    for key in "aabaabb":
        replayed(key)
    assert x.tolist() == [7.0] * 3
    assert len(calls) == 4  # two for each key
    before = fake_cupy.counts["launches"]
    replayed("a")
    assert fake_cupy.counts["launches"] == before + 1 and len(calls) == 4


def test_what_is_done_in_a_side_stream_comes_after_the_fork_and_before_the_join(gpu, cupy):
    x, y, side = cupy.asarray(np.ones(1)), cupy.asarray(np.zeros(1)), gpu.side_stream()

    def function():
        add(x, 1.0)
        with side:
            np.multiply(x, x, out=y)
        gpu.join_side_streams()
        np.add(x, y, out=x)

    replayed = gpu.captured(function)
    for _ in range(3):
        replayed(None)
    expected = 1.0
    for _ in range(3):
        expected = expected + 1 + (expected + 1) ** 2
    assert x.tolist() == [expected]


def test_what_is_done_in_a_side_stream_is_not_the_main_streams(gpu, cupy):
    main = cupy.cuda.get_current_stream()
    with gpu.side_stream():
        assert cupy.cuda.get_current_stream() is not main
        with gpu.side_stream():
            assert cupy.cuda.get_current_stream() is not main
    assert cupy.cuda.get_current_stream() is main


def test_what_is_allocated_while_captured_is_the_graphs(gpu, cupy):
    x, results = cupy.asarray(np.zeros(3)), []

    def function():
        add(x, 1.0)
        results.append(x + 1)

    replayed = gpu.captured(function)
    for _ in range(4):
        replayed(None)
    assert results[-1].tolist() == [5.0] * 3
    with pytest.raises(AssertionError, match="from the pool that all share"):
        captured(cupy, function)


@pytest.mark.parametrize(
    ("what", "function"),
    [("waits", lambda cupy, x: float(x)), ("uploads", lambda cupy, x: cupy.asarray(np.ones(3)))],
)
def test_host_transfers_are_errors_while_captured(gpu, cupy, what, function):
    x = cupy.asarray(np.zeros(()))
    replayed = gpu.captured(lambda: function(cupy, x))
    replayed(None)
    with pytest.raises(RuntimeError, match=f"stream is capturing, so {what} are disallowed"):
        replayed(None)
    assert not cupy.cuda.get_current_stream().is_capturing()


# The stand-in -------------------------------------------------------------------------------------


def captured(cupy, function):
    stream = cupy.cuda.get_current_stream()
    stream.begin_capture()
    try:
        function()
    finally:
        graph = stream.end_capture()
    return graph


@pytest.mark.parametrize("replays", [True, False])
def test_the_fake_shows_a_missing_join(replays):
    results = []
    for order in fake_cupy.FORWARD, fake_cupy.BACKWARD:
        with fake_cupy.installed(order=order) as cupy, closing(Gpu(cupy)) as gpu:
            x, y, side = cupy.asarray(np.ones(1)), cupy.asarray(np.zeros(1)), gpu.side_stream()

            def function(x=x, y=y, side=side):
                with side:
                    np.multiply(x, x, out=y)
                add(x, 1.0)

            if replays:
                replayed = gpu.captured(function)
                replayed(None)
                replayed(None)
            else:
                function()
                early = y.tolist()
                side.join()
                assert early == (y.tolist() if order == fake_cupy.FORWARD else [0.0])
            results.append(y.tolist())
    assert results == ([[4.0], [9.0]] if replays else [[1.0], [4.0]])


def test_current_stream_as_in_cupy(cupy):
    """CuPy's tests/cupy_tests/cuda_tests/test_stream.py: `with` forgets what use() has set."""
    current, (main, other) = cupy.cuda.get_current_stream, (cupy.cuda.Stream() for _ in range(2))
    outer = current()
    main.use()
    with other:
        assert current() == other
        main.use()
        assert current() == main
    assert current() == outer


def test_capture_as_in_cupy(cupy):
    """cupy/cuda/stream.pyx, and what NVIDIA says of streams and events while they are captured."""
    Error, null = cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.Stream.null
    with null, pytest.raises(RuntimeError, match="cannot capture on the default"):
        captured(cupy, lambda: None)
    main, other, event = cupy.cuda.get_current_stream(), cupy.cuda.Stream(), cupy.cuda.Event()
    event.record()
    with pytest.raises(Error, match="StreamCaptureIsolation"):
        captured(cupy, lambda: main.wait_event(event))

    def fork():
        event.record()
        other.wait_event(event)
        assert other.is_capturing()
        with other:
            add(x, 1.0)

    x = cupy.asarray(np.zeros(1))
    with pytest.raises(Error, match="StreamCaptureUnjoined"):
        captured(cupy, fork)
    assert not other.is_capturing()
    with pytest.raises(Error, match="CapturedEvent"):
        main.wait_event(event)
    with pytest.raises(Error, match="CapturedEvent"):
        event.synchronize()
    assert x.tolist() == [0.0]


def test_libraries_refuse_a_capture_as_in_cupy(cupy):
    import cupy.cublas

    a = cupy.asarray(np.eye(3))
    for function in (
        lambda: cupy.cublas.gemm("N", "N", a, a, out=a),
        lambda: np.matmul(a, a, out=a),
        lambda: a @ a,
        lambda: cupy.einsum("ij,ij->i", a, a),
        lambda: cupy.linalg.inv(a),
    ):
        function()
        with pytest.raises(NotImplementedError, match="during stream capture"):
            captured(cupy, function)


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
