"""Training as on a GPU, on one or on a stand-in: the same numbers, and no waiting in a step."""

import contextlib
import itertools

import fake_cupy
import numpy as np
import pytest
from fake_cupy.libraries import TF32
from test_natural_gradient import DEGENERATE, correlated_rows

from nnet.components import base
from nnet.components.nonlinear import ElementwiseComponent, NonlinearComponent
from nnet.device import select_device
from nnet.device.cuda import cublas
from nnet.device.cuda.staging import NUM_SLOTS
from nnet.device.device import Device, Elementwise, to_host
from nnet.device.gathered_frames import GatheredFrames
from nnet.egs.minibatches import Minibatch, read_minibatches
from nnet.io.compressed_frames import CompressedFrames
from nnet.model.acoustic_model import load_network
from nnet.model.network import Network
from nnet.natural_gradient.online import EPSILON, OnlinePreconditioner
from nnet.training.train import Trainer, train

ONLINE = (
    "AffineComponentPreconditionedOnline rank-in=5 rank-out=8 update-period=4 "
    "num-samples-history=2000 alpha=4.0 max-change-per-sample=0.075"
)
SIMPLE = "AffineComponentPreconditioned alpha=4.0 max-change=10.0"
PNORM = ["PnormComponent input-dim=30 output-dim=10 p=2", "NormalizeComponent dim=10"]
DIM, NUM_PDFS = 6, 12


def config(affine, hidden):
    affine += " learning-rate=0.02"
    return [
        f"SpliceComponent input-dim={DIM} left-context=1 right-context=1",
        f"{affine} input-dim={3 * DIM} output-dim=30 param-stddev=0.3",
        *hidden,
        f"{affine} input-dim=10 output-dim={NUM_PDFS} param-stddev=0.1",
        f"SoftmaxComponent dim={NUM_PDFS}",
    ]


CONFIGS = {
    "plain": config("AffineComponent", PNORM),
    "online": config(ONLINE, PNORM),
    "simple": config(SIMPLE, PNORM),
    "sigmoid": config(ONLINE, ["SigmoidComponent dim=30", f"{ONLINE} input-dim=30 output-dim=10"]),
    "mixtures": [
        *config(ONLINE, PNORM)[:-2],
        f"{ONLINE} input-dim=10 output-dim=20 learning-rate=0.02",
        "SoftmaxComponent dim=20",
        "SumGroupComponent sizes=1:2:3:1:1:2:1:3:1:2:2:1",
    ],
    "dropout": config("AffineComponent", [*PNORM, "DropoutComponent dim=10"]),
    "noise": config(
        "AffineComponent",
        [*PNORM, "DropoutComponent dim=10", "AdditiveNoiseComponent dim=10 stddev=0.1"],
    ),
    "blocks": [
        f"SpliceMaxComponent dim={DIM} left-context=1 right-context=1",
        f"BlockAffineComponentPreconditioned input-dim={DIM} output-dim=12 num-blocks=3",
        "PermuteComponent dim=12",
        "DctComponent dim=12 dct-dim=4 reorder=true",
        "DctComponent dim=12 dct-dim=4 reorder=false dct-keep-dim=3",
        "SoftHingeComponent dim=9",
        "MaxoutComponent input-dim=9 output-dim=3",
        "PowerComponent dim=3 power=0.5",
        "ScaleComponent dim=3 scale=3",
        "AffineComponent input-dim=3 output-dim=6",
        "LogSoftmaxComponent dim=6",
        f"BlockAffineComponent input-dim=6 output-dim={NUM_PDFS} num-blocks=2",
        f"SoftmaxComponent dim={NUM_PDFS}",
    ],
    "convolution": [
        f"SpliceComponent input-dim={DIM} left-context=1 right-context=1",
        "Convolutional1dComponent input-dim=18 output-dim=20 patch-dim=3 patch-step=1 "
        "patch-stride=6",
        "MaxpoolingComponent input-dim=20 output-dim=10 pool-size=2 pool-stride=5",
        "Convolutional1dComponent input-dim=10 output-dim=6 patch-dim=1 patch-step=1 "
        "patch-stride=2 appended-conv=true",
        f"AffineComponent input-dim=6 output-dim={NUM_PDFS}",
        f"SoftmaxComponent dim={NUM_PDFS}",
    ],
}


def minibatches(count, size=32, seed=0, last=None):
    """Labels that depend on the input; some rows with two labels, so that their number varies."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((3 * DIM, NUM_PDFS))
    for number in range(count):
        n = last if last and number == count - 1 else size
        frames = rng.standard_normal((n, 3, DIM), np.float32)
        pdfs = (frames.reshape(n, -1) @ weights).argmax(axis=1).astype(np.int32)
        rows = np.sort(np.concatenate([np.arange(n), rng.integers(0, n, rng.integers(0, 4))]))
        yield Minibatch(
            frames, rows.astype(np.int32), pdfs[rows], rng.uniform(0.5, 1, len(rows)).astype("f")
        )


def network_of(name, device=None):
    network = Network.from_config(CONFIGS[name], np.random.default_rng(1))
    if device:
        network.move_to(device)
    return network


def cycles_of(network, minibatches):
    """Cycles of training steps."""
    return Trainer(network).run(minibatches)


@pytest.fixture
def gpu():
    """gpu(order): a context that gives the fake device, or a GPU for "GPU".

    On the CPU, for comparison, updates of Fisher matrices take effect as late as on a GPU.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Device, "overlaps", True)

        class Gpu:
            def __init__(self, order="FORWARD"):
                if order == "GPU":
                    self.context = contextlib.nullcontext(fake_cupy.real_or_skip())
                else:
                    self.context = fake_cupy.installed(order=getattr(fake_cupy, order))

            def __enter__(self):
                self.context.__enter__()
                self.device = select_device("yes")
                return self.device

            def __exit__(self, *error):
                self.device.close()
                self.context.__exit__(*error)

        yield Gpu


def assert_same_parameters(on_gpu, on_cpu, rtol):
    for ours, expected in zip(
        on_gpu.updatable_components, on_cpu.updatable_components, strict=True
    ):
        for name in ours.parameter_names:
            a, b = to_host(getattr(ours, name)), getattr(expected, name)
            assert np.linalg.norm(a - b) <= rtol * np.linalg.norm(b), (ours.index, name)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["FORWARD", "BACKWARD", "GPU"])
@pytest.mark.parametrize("name", CONFIGS)
def test_training_gives_the_same_network(gpu, name, order):
    """42 minibatches, the last of them smaller; branches of graphs in either order."""
    on_cpu = network_of(name)
    expected = train(on_cpu, minibatches(42, last=20), minibatches_per_phase=7)
    with gpu(order) as device:
        on_gpu = network_of(name, device)
        seen = train(on_gpu, minibatches(42, last=20), minibatches_per_phase=7)
        assert_same_parameters(on_gpu, on_cpu, rtol=1e-4)
        assert seen.num_examples == expected.num_examples
        np.testing.assert_allclose(seen.log_prob, expected.log_prob, rtol=1e-5)
        np.testing.assert_allclose(seen.weight, expected.weight)
        for ours, theirs in zip(on_gpu.components, on_cpu.components, strict=True):
            if hasattr(ours, "value_sum"):
                assert ours.count == theirs.count
                for statistics in "value_sum", "deriv_sum":
                    a, b = (to_host(getattr(c, statistics)) for c in (ours, theirs))
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.fixture
def components_without_kernels(monkeypatch):
    """Two new components in array code: an elementwise one, and one that knows its device."""
    monkeypatch.setattr(base, "_types", dict(base._types))

    @base.component_type
    class SoftsignComponent(ElementwiseComponent):
        """y = x / (1 + |x|)."""

        function = Elementwise(
            "softsign",
            lambda xp, x, out: xp.divide(x, 1 + xp.absolute(x), out=out),
            lambda xp, y, out: xp.square(1 - xp.absolute(y), out=out),
        )

    @base.component_type
    class SineComponent(NonlinearComponent):
        """y = sin x."""

        needs_output = False

        def propagate(self, x, out):
            self.device.xp.sin(x, out=out)

        def backpropagate(self, x, y, derivative, out):
            self.device.xp.multiply(self.device.xp.cos(x), derivative, out=out)


@pytest.mark.parametrize("order", ["FORWARD", "BACKWARD", "GPU"])
@pytest.mark.parametrize("name", ["Softsign", "Sine"])
def test_a_new_component_needs_no_kernel(gpu, components_without_kernels, name, order):
    """Trained by graphs as any other: the same network as on the CPU, statistics included."""
    layer = f"{name}Component dim=30"
    lines = config("AffineComponent", [layer, "AffineComponent input-dim=30 output-dim=10"])
    on_cpu = Network.from_config(lines, np.random.default_rng(1))
    train(on_cpu, minibatches(12))
    with gpu(order) as device:
        on_gpu = Network.from_config(lines, np.random.default_rng(1))
        on_gpu.move_to(device)
        train(on_gpu, minibatches(12))
        assert_same_parameters(on_gpu, on_cpu, rtol=1e-4)
        ours, theirs = on_gpu.components[2], on_cpu.components[2]
        assert ours.type == f"{name}Component" and ours.count == theirs.count
        np.testing.assert_allclose(to_host(ours.deriv_sum), theirs.deriv_sum, rtol=1e-4)


@pytest.mark.parametrize("order", ["FORWARD", "BACKWARD", "GPU"])
def test_the_main_stream_lasts(gpu, order):
    """And is not the legacy one, of which no graph can be captured."""
    with gpu(order) as device:
        cuda = device.xp.cuda
        main = cuda.get_current_stream()
        assert main.ptr != 0
        train(network_of("online", device), minibatches(9))
        assert cuda.get_current_stream() is main
    assert cuda.get_current_stream().ptr == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "period"),
    [
        *(("plain", 1), ("simple", 1), ("noise", 1), ("online", 4), ("sigmoid", 4)),
        *(("blocks", 1), ("convolution", 1)),
    ],
)
def test_a_cycle_is_one_launch_and_waits_for_nothing(gpu, name, period):
    with gpu() as device:
        cycles = cycles_of(network_of(name, device), minibatches(60))
        for _ in range(20):
            next(cycles)
        assert fake_cupy.counts["allocations while captured"] == 0
        fake_cupy.counts.clear()
        assert sum(len(next(cycles)) for _ in range(4)) == 4 * period
        # A graph for each cycle; a copy to the device and one into place for each minibatch, of
        # which some are ahead.
        expected = 4 + 2 * 4 * period
        assert expected - NUM_SLOTS <= fake_cupy.counts.pop("launches") <= expected + NUM_SLOTS
        assert not fake_cupy.counts


@pytest.mark.slow
def test_a_minibatch_travels_compressed_at_the_cost_of_one_launch(gpu, golden, reference):
    with gpu() as device:
        network = load_network(str(reference("kaldi/golden/training/sgd_tanh/0.mdl")), device)
        context = network.left_context, network.right_context
        egs = f"ark:{golden}/egs_8frames.ark"
        options = {"frame": 0, "compressed": device.takes_compressed_frames}
        group = list(read_minibatches(egs, 16, *context, **options))[:-1]
        assert all(isinstance(minibatch.frames, CompressedFrames) for minibatch in group)
        steps = cycles_of(network, itertools.cycle(group))
        for _ in range(2 * len(group)):
            next(steps)
        fake_cupy.counts.clear()
        assert sum(len(next(steps)) for _ in range(16)) == 16
        # A graph, a copy to the device and one into place, and this for each minibatch.
        assert abs(fake_cupy.counts.pop("launches") - 4 * 16) <= 2 * NUM_SLOTS
        assert not fake_cupy.counts


@pytest.mark.slow
def test_frames_are_gathered_where_the_features_are(gpu):
    features = np.random.default_rng(1).standard_normal((500, DIM)).astype(np.float32)
    places = np.random.default_rng(2).integers(0, 500, (12, 16, 3), dtype=np.int32)
    labels = np.arange(16, dtype=np.int32)
    with gpu() as device:
        on_device = device.asarray(features)
        networks = []
        for frames in (
            [features[rows] for rows in places],
            [GatheredFrames(on_device, rows) for rows in places],
        ):
            networks.append(network_of("online", device))
            group = [Minibatch(f, labels, labels % 12, np.ones(16, np.float32)) for f in frames]
            train(networks[-1], group)
        for one, other in zip(*(n.updatable_components for n in networks), strict=True):
            for a, b in zip(one.parameters, other.parameters, strict=True):
                np.testing.assert_array_equal(to_host(a), to_host(b))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["FORWARD", "GPU"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["online_lowrank", "sgd_tanh"])
def test_golden_training(gpu, golden, reference, name, compressed, order):
    """Kaldi's own training run, to the tolerance of tests/test_golden_training.py."""
    directory = reference(f"kaldi/golden/training/{name}/1.first5.mdl").parent
    size = int((directory / "minibatch").read_text())
    kaldis = load_network(str(directory / "1.first5.mdl"))
    with gpu(order) as device:
        network = load_network(str(directory / "0.mdl"), device)
        context = network.left_context, network.right_context
        egs = f"ark:{golden}/egs_1frame.ark"
        examples = list(read_minibatches(egs, size, *context, compressed=compressed))
        train(network, examples[:5])
        assert_same_parameters(network, kaldis, rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["FORWARD", "BACKWARD", "GPU"])
@pytest.mark.parametrize("first", DEGENERATE)
@pytest.mark.parametrize("rank", [10, 39])
def test_online_stays_finite_and_orthonormal(gpu, first, rank, order):
    """As in tests/test_natural_gradient.py; the trace is kept, too."""
    rng = np.random.default_rng(5)
    kinds = [first] * 12 + list(rng.choice(list(DEGENERATE), 30))
    with gpu(order) as device:
        online = OnlinePreconditioner(rank, device=device)
        for kind in kinds:
            X = DEGENERATE[kind](rng).astype(np.float32)
            norm = np.linalg.norm(X.astype(np.float64))
            X = device.asarray(X)
            scale, X = online.precondition(X).get(), X.get()
            device.join_side_streams()
            W, e, d = (a.get() for a in (online.estimate.W, online.estimate.e, online.estimate.d))
            assert np.isfinite(scale) and np.isfinite(X).all() and np.isfinite(W).all(), kind
            R = W / np.sqrt(e)[:, np.newaxis]
            assert np.abs(R @ R.T - np.eye(len(R))).max() < 1e-5, kind
            assert online.estimate.rho.get() >= EPSILON and d.min() >= EPSILON
            if norm > 1e-15:
                kept = scale * np.linalg.norm(X.astype(np.float64))
                np.testing.assert_allclose(kept, norm, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("N", "D"), [(64, 100), (100, 40), (7, 2), (5, 1)])
@pytest.mark.parametrize("of_product", [False, True])
def test_online_as_on_the_cpu(gpu, N, D, of_product):
    """As far as the directions in which there is next to nothing can be the same."""
    rng = np.random.default_rng(14)
    on_cpu = OnlinePreconditioner(20, 3)
    with gpu() as device:
        on_gpu = OnlinePreconditioner(20, 3, device=device)
        for t in range(20):
            rows = N + (on_cpu.rank if of_product else 0)
            X = np.zeros((rows, D), np.float32)
            if t != 5:
                X[:N] = correlated_rows(rng, N, D, np.float32)
            Y, norms = rng.standard_normal((rows, 3)).astype(np.float32), np.empty(N, np.float32)
            arrays = [device.asarray(a) for a in (X, Y, norms)]
            if of_product:
                scale, count = on_gpu.precondition_product(*arrays)
                scale, product = scale.get(), arrays[0][:count].get().T @ arrays[1][:count].get()
                expected_scale, expected_count = on_cpu.precondition_product(X, Y, norms)
                assert count == expected_count
                expected = X[:count].T @ Y[:count]
            else:
                scale = on_gpu.precondition(arrays[0], arrays[2]).get()
                product = arrays[0].get()
                expected_scale = on_cpu.precondition(X, norms)
                expected = X
            np.testing.assert_allclose(scale, expected_scale, rtol=1e-3)
            assert np.linalg.norm(product - expected) <= 2e-3 * np.linalg.norm(expected)
            np.testing.assert_allclose(arrays[2].get(), norms, rtol=1e-2, atol=1e-4)


def test_online_does_not_learn_from_what_is_not_finite(gpu):
    rng = np.random.default_rng(8)
    with gpu() as device:
        online = OnlinePreconditioner(4, device=device)
        for value in 0.0, np.nan, 0.0:
            X = correlated_rows(rng, 20, 10, np.float32)
            X[3, 4] += value
            before = None if online.estimate is None else online.next_estimate.W.get()
            scale = online.precondition(device.asarray(X)).get()
            assert np.isnan(scale) == np.isnan(value)
            device.join_side_streams()
            if before is not None:
                assert np.array_equal(online.next_estimate.W.get(), before) == np.isnan(value)
        assert all(np.isfinite(e.W.get()).all() for e in (online.estimate, online.next_estimate))


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_asked_for(gpu, tf32):
    with gpu():
        device = select_device("yes", tf32=tf32)
        a, out = (device.xp.zeros((2, 2), np.float32) for _ in range(2))
        device.matmul(a, a, out=out)
        device.close()
        assert cublas.library().modes[-1] == (TF32 if tf32 else 0)
