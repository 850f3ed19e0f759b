"""Networks: what is computed where, gradients, training, and the programs that change networks."""

import logging
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from minibatches_joined import joined

from nnet.components.layout import FrameLayout
from nnet.device import select_device
from nnet.device.device import CPU, Workspace
from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError
from nnet.model.network import Network
from nnet.model.propagation import Propagation, compute
from nnet.natural_gradient.simple import UNIT_ALPHA
from nnet.training.collapse import collapse
from nnet.training.evaluation import (
    compute_outputs,
    divided_by_priors,
    evaluate,
    evaluate_minibatch,
    objective_gradient,
)
from nnet.training.objective import labels_of
from nnet.training.train import Trainer, train

MULTISPLICE = [
    "SpliceComponent input-dim=4 left-context=1 right-context=1",
    "AffineComponent input-dim=12 output-dim=12 learning-rate=0.1",
    "PnormComponent input-dim=12 output-dim=4",
    "NormalizeComponent dim=4",
    "SpliceComponent input-dim=4 context=-3:2",
    "AffineComponent input-dim=8 output-dim=6 learning-rate=0.2",
    "TanhComponent dim=6",
    "AffineComponent input-dim=6 output-dim=5 learning-rate=0.3",
    "SoftmaxComponent dim=5",
]


def network_of(lines, seed=0) -> Network:
    return Network.from_config(lines, np.random.default_rng(seed))


def minibatch_of(network: Network, size: int, seed=1) -> Minibatch:
    """Random examples, some with two weighted labels."""
    rng = np.random.default_rng(seed)
    num_frames = network.left_context + 1 + network.right_context
    frames = rng.standard_normal((size, num_frames, network.input_dim)).astype(np.float32)
    rows = np.sort(np.concatenate([np.arange(size), np.arange(0, size, 3)])).astype(np.int32)
    pdfs = rng.integers(0, network.output_dim, len(rows)).astype(np.int32)
    return Minibatch(frames, rows, pdfs, rng.uniform(0.2, 1.5, len(rows)).astype(np.float32))


def parameters(network: Network) -> list[np.ndarray]:
    return [p.copy() for component in network.updatable_components for p in component.parameters]


# What is computed where --------------------------------------------------------------------------


def test_only_frames_that_are_needed_are_computed():
    network = network_of(MULTISPLICE)
    assert (network.left_context, network.right_context) == (4, 3)
    offsets = [layout.offsets for layout in network.layouts(7, 8)]
    assert offsets == [range(8)] + 4 * [(1, 6)] + 5 * [range(4, 5)]
    assert [layout.num_rows for layout in network.layouts(7, 8)] == [56] + 4 * [14] + 5 * [7]
    # Of a whole utterance all are, but for those between the first and the last two.
    assert network.layouts(1, 100)[2] == FrameLayout(1, range(1, 99))


def test_layers_before_the_first_splice_take_contiguous_frames():
    lines = ["TanhComponent dim=3", "SpliceComponent input-dim=3 context=-2:1"]
    offsets = [layout.offsets for layout in network_of(lines).layouts(2, 4)]
    assert offsets == [range(4), range(4), range(2, 3)]


def test_minibatches_and_utterances_agree():
    network = network_of(MULTISPLICE)
    features = np.random.default_rng(2).standard_normal((40, 4)).astype(np.float32)
    whole = compute(network, features, pad_input=False)
    assert whole.shape == (33, 5)
    windows = np.stack([features[i : i + 8] for i in range(33)])
    np.testing.assert_allclose(Propagation(network).forward(windows), whole, rtol=2e-5)
    padded = compute(network, features)
    np.testing.assert_allclose(padded[4:-3], whole, rtol=2e-5)
    edges = np.concatenate([features[:1].repeat(4, 0), features, features[-1:].repeat(3, 0)])
    np.testing.assert_allclose(padded, compute(network, edges, pad_input=False), rtol=2e-5)
    in_chunks = Propagation(network, goes_back=False).compute(features, chunk_size=7)
    np.testing.assert_allclose(in_chunks, padded, rtol=2e-5)


@pytest.mark.parametrize("goes_back", [True, False])
def test_memory_that_is_used_again_changes_nothing(goes_back):
    """Also where components work in place, and where what is not needed is overwritten."""
    lines = [
        "FixedScaleComponent scales=SCALES",
        "SpliceComponent input-dim=4 left-context=1 right-context=1",
        *("AffineComponent input-dim=12 output-dim=6", "SigmoidComponent dim=6"),
        *("NormalizeComponent dim=6", "TanhComponent dim=6", "RectifiedLinearComponent dim=6"),
        *("AffineComponent input-dim=6 output-dim=6", "SoftmaxComponent dim=6"),
        "SumGroupComponent sizes=1:3:2",
    ]
    lines[0] = "TanhComponent dim=4"
    network = network_of(lines)
    frames = np.random.default_rng(0).standard_normal((9, 3, 4)).astype(np.float32)
    propagation, before = Propagation(network, goes_back), frames.copy()
    expected = propagation.forward(frames).copy()
    x = frames
    for component, layout in zip(network.components, network.layouts(9, 3)[1:], strict=True):
        out = np.empty((layout.num_rows, component.output_dim), np.float32)
        component.propagate(x.reshape(-1, component.input_dim), out)
        x = out
    np.testing.assert_array_equal(expected, x)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(propagation.forward(frames[:4]), expected[:4])
    np.testing.assert_array_equal(propagation.forward(frames), expected)


def test_wrong_input_is_refused():
    network = network_of(MULTISPLICE)
    with pytest.raises(NgtrainError, match="dimension is 3, but the network expects 4"):
        compute(network, np.zeros((20, 3), np.float32))
    with pytest.raises(NgtrainError, match="7 frames are too few"):
        compute(network, np.zeros((7, 4), np.float32), pad_input=False)
    with pytest.raises(NgtrainError, match="NaN"):
        compute(network, np.full((20, 4), np.nan, np.float32))
    minibatch = minibatch_of(network, 5)
    minibatch.pdfs[3] = 5
    with pytest.raises(NgtrainError, match="pdf-ids from 0 to 5, but the network has 5 outputs"):
        evaluate_minibatch(Propagation(network), minibatch)
    minibatch = minibatch_of(network, 5)
    minibatch.frames = np.concatenate([minibatch.frames, minibatch.frames], axis=1)
    with pytest.raises(NgtrainError, match="16 frames of input"):
        evaluate_minibatch(Propagation(network), minibatch)


def test_dimensions_must_fit():
    with pytest.raises(NgtrainError, match=r"component 0 \(TanhComponent\) has output dimension 3"):
        network_of(["TanhComponent dim=3", "TanhComponent dim=4"])
    with pytest.raises(NgtrainError, match="at least one"):
        network_of(["# nothing"])


# Objective and gradient --------------------------------------------------------------------------


def test_objective_is_what_it_says():
    network = network_of(MULTISPLICE)
    minibatch = minibatch_of(network, 20)
    seen = evaluate_minibatch(Propagation(network), minibatch)
    log_prob, weight, correct = seen.log_prob, seen.weight, seen.correct
    y = Propagation(network).forward(minibatch.frames).astype(np.float64)
    labels = list(zip(minibatch.rows, minibatch.pdfs, minibatch.weights, strict=True))
    np.testing.assert_allclose(log_prob, sum(w * np.log(y[r, p]) for r, p, w in labels))
    np.testing.assert_allclose(weight, sum(w for _, _, w in labels))
    np.testing.assert_allclose(correct, sum(w for r, p, w in labels if y[r].argmax() == p))
    assert 0 < correct < weight


@pytest.mark.parametrize("end", [[], ["SumGroupComponent sizes=1:3:1"]])
def test_gradient_is_that_of_finite_differences(end):
    network = network_of(MULTISPLICE + end)
    minibatch = minibatch_of(network, 10)
    network.convert(np.float64)
    propagation = Propagation(network)
    gradient = network.copy()
    objective_gradient(propagation, 2 * [minibatch], gradient)
    rng = np.random.default_rng(3)
    for component, derivative in zip(
        network.updatable_components, gradient.updatable_components, strict=True
    ):
        for parameter, analytic in zip(component.parameters, derivative.parameters, strict=True):
            direction = rng.standard_normal(parameter.shape)
            values = []
            for step in 1e-6, -2e-6, 1e-6:
                parameter += step * direction
                values.append(evaluate_minibatch(propagation, minibatch).log_prob)
            numeric = (values[0] - values[1]) / 2e-6
            np.testing.assert_allclose((analytic * direction).sum() / 2, numeric, rtol=1e-6)
    assert gradient.components[6].count == 20  # statistics go where the gradient goes
    assert network.components[6].count == 0
    assert gradient.learning_rates == [1, 1, 1]


def test_step_of_plain_sgd_is_learning_rate_times_gradient():
    network = network_of(MULTISPLICE)
    minibatch = minibatch_of(network, 10)
    gradient = network.copy()
    objective_gradient(Propagation(network), [minibatch], gradient)
    before = parameters(network)
    Trainer(network).step(minibatch.frames, labels_of(minibatch, network))
    rates = np.repeat([0.1, 0.2, 0.3], 2)
    for new, old, g, rate in zip(
        parameters(network), before, parameters(gradient), rates, strict=True
    ):
        np.testing.assert_allclose(new, old + np.float32(rate) * g, rtol=1e-4, atol=1e-6)
    assert network.components[6].count == 10


def test_limited_step_of_plain_sgd_is_a_shorter_one():
    plain = network_of(["AffineComponent input-dim=8 output-dim=6 learning-rate=1"])
    start = plain.components[0].copy()
    rng = np.random.default_rng(0)
    x, derivative = (rng.standard_normal((50, dim)).astype(np.float32) for dim in (8, 6))
    plain.components[0].update(x, None, derivative)
    for max_change in 0.0, 0.5:  # any, and one that is exceeded
        limited = network_of(
            [
                "AffineComponentPreconditioned input-dim=8 output-dim=6 learning-rate=1 "
                f"alpha={UNIT_ALPHA:g} max-change={max_change}"
            ]
        )
        component = limited.components[0]
        component.scale(0.0)
        component.add(1.0, start)
        component.update(x, None, derivative.copy())
        norms = np.linalg.norm(x, axis=1)[:, None], np.linalg.norm(derivative, axis=1)[:, None]
        bound = (np.hypot(norms[0], 1) * norms[1]).sum()  # the input has a one beside it
        factor = min(1.0, max_change / bound) if max_change else 1.0
        for new, old, unlimited in zip(
            component.parameters, start.parameters, plain.components[0].parameters, strict=True
        ):
            np.testing.assert_allclose(new, old + factor * (unlimited - old), rtol=1e-4, atol=1e-5)
        assert component.report_updates(1) == (factor < 1)


@pytest.mark.parametrize(
    ("method", "max_change"),
    [
        ("AffineComponentPreconditioned alpha=4 max-change=0.01", 0.01),
        (
            "AffineComponentPreconditionedOnline rank-in=3 rank-out=3 max-change-per-sample=2e-4",
            0.01,
        ),
    ],
)
def test_change_is_limited(method, max_change, caplog):
    name, options = method.split(" ", 1)
    network = network_of([f"{name} input-dim=8 output-dim=6 learning-rate=1 {options}"])
    component = network.components[0]
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, "ngtrain"):
        for _ in range(12):
            before = component.copy()
            x = rng.standard_normal((50, 8)).astype(np.float32)
            num_rows = 50 + component.num_extra_rows
            derivative = rng.standard_normal((num_rows, 6)).astype(np.float32)
            component.update(x, None, derivative)
            before.add(-1.0, component)
            change = np.sqrt(before.dot_product(before))
            assert 1e-4 < change <= max_change * 1.001
        assert component.report_updates(13) == 12
        assert component.report_updates(0) == 0
    assert len(caplog.records) == 1
    assert re.fullmatch(
        r"Limited step size 12 of 13 times, using scaling factors of \d\S+ or more, for component "
        "index 0",
        caplog.records[0].getMessage(),
    )


# Training ----------------------------------------------------------------------------------------


def test_training_learns_and_says_so(caplog):
    network = network_of(MULTISPLICE)
    network.set_learning_rate(0.002)
    minibatches = [minibatch_of(network, 30, seed) for seed in range(3)]
    with caplog.at_level(logging.INFO, "ngtrain"):
        seen = train(network, 20 * minibatches, minibatches_per_phase=25)
    lines = [record.getMessage() for record in caplog.records]
    phases = [line for line in lines if line.startswith("Training objective function (this phase)")]
    assert len(phases) == 3
    first, *_, last = (float(line.split()[6]) for line in phases)
    assert last > first + 0.02
    weight = 20 * sum(float(m.weights.sum(dtype=np.float64)) for m in minibatches)
    assert seen.num_examples == 1800
    assert lines[-1].endswith(f"] log-prob-per-frame={seen.log_prob_per_frame:g}")
    assert f"Did backprop on {weight:g} examples" in lines[-2]


def test_training_is_reproducible():
    results = []
    for _ in range(2):
        network = network_of(MULTISPLICE)
        train(network, [minibatch_of(network, 30, seed) for seed in range(5)])
        results.append(parameters(network))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_allocates_no_activations_after_the_first_minibatch():
    lines = [line.replace("=12", "=1200").replace("=4", "=400") for line in MULTISPLICE]
    lines[0], lines[1] = (
        "SpliceComponent input-dim=4 left-context=1 right-context=1",
        "AffineComponentPreconditionedOnline input-dim=12 output-dim=1200 rank-in=4 rank-out=20",
    )
    lines[5] = "AffineComponent input-dim=800 output-dim=6 learning-rate=0"
    network = network_of(lines)
    minibatch = minibatch_of(network, 128)
    trainer, labels = Trainer(network), labels_of(minibatch, network)

    def step():
        trainer.step(minibatch.frames, labels)

    for _ in range(2):
        step()
    tracemalloc.start()
    try:
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1200 * 4 / 2  # half of the activations of one layer


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_ends_training():
    network = network_of(MULTISPLICE)
    network.set_learning_rate(1e30)
    with pytest.raises(NgtrainError, match="learning rate"):
        train(network, 5 * [minibatch_of(network, 30)])


def test_evaluation_adds_up():
    network = network_of(MULTISPLICE)
    minibatches = [minibatch_of(network, 30, seed) for seed in range(3)]
    seen = evaluate(network, minibatches)
    whole = evaluate_minibatch(Propagation(network), joined(minibatches))
    for name in "log_prob", "weight", "correct":
        np.testing.assert_allclose(getattr(seen, name), getattr(whole, name), rtol=1e-5)
    with pytest.raises(NgtrainError, match="no examples"):
        evaluate(network, [])


def test_likelihoods_of_each_frame_sum_to_one():
    posteriors = np.array([[0.5, 0.25, 0.25], [0.1, 0.9, 0]], np.float32)
    likelihoods = divided_by_priors(posteriors, np.array([0.5, 0.5, 0], np.float32))
    np.testing.assert_allclose(likelihoods, [[2 / 3, 1 / 3, 0], [0.1, 0.9, 0]], rtol=1e-6)


def test_short_utterances_are_passed_over(caplog):
    network = network_of(MULTISPLICE)
    utterances = [(f"u{t}", np.ones((t, 4), np.float32)) for t in (0, 7, 8, 20)]
    sizes = {key: len(y) for key, y in compute_outputs(network, utterances, pad_input=False)}
    assert sizes == {"u8": 1, "u20": 13}
    assert "Skipping utterance u7" in caplog.text
    sizes = {key: len(y) for key, y in compute_outputs(network, utterances)}
    assert sizes == {"u7": 7, "u8": 8, "u20": 20}
    with pytest.raises(NgtrainError, match="u3: feature dimension is 5"):
        list(compute_outputs(network, [("u3", np.ones((9, 5), np.float32))]))


# Arithmetic and structure ------------------------------------------------------------------------


def test_arithmetic_is_that_of_vectors():
    a, b = network_of(MULTISPLICE, 1), network_of(MULTISPLICE, 2)
    Propagation(a).forward(minibatch_of(a, 3).frames)
    combination = a.copy()
    combination.scale(2.0)
    combination.add(-0.5, b)
    for result, p, q in zip(*map(parameters, (combination, a, b)), strict=True):
        np.testing.assert_allclose(result, 2 * p - 0.5 * q, rtol=1e-5, atol=1e-6)
    products = [
        sum(
            float((p.astype(float) * q).sum())
            for p, q in zip(c.parameters, d.parameters, strict=True)
        )
        for c, d in zip(a.updatable_components, b.updatable_components, strict=True)
    ]
    np.testing.assert_allclose(a.dot_product(b), products, rtol=1e-6)
    with pytest.raises(NgtrainError, match="differ"):
        a.add(1.0, network_of(MULTISPLICE[:-1]))


def test_collapse_computes_the_same(tmp_path):
    matrix = tmp_path / "matrix"
    rng = np.random.default_rng(0)
    matrix.write_text(
        "[\n" + "\n".join(" ".join(map(str, row)) for row in rng.random((3, 5))) + "]"
    )
    lines = [
        f"FixedAffineComponent matrix={matrix}",
        "AffineComponent input-dim=3 output-dim=6",
        "AffineComponent input-dim=6 output-dim=2",
        "TanhComponent dim=2",
        "AffineComponent input-dim=2 output-dim=2",
    ]
    x = rng.standard_normal((10, 4)).astype(np.float32)
    for match_updatableness, types in (
        (True, ["FixedAffineComponent", "AffineComponent", "TanhComponent", "AffineComponent"]),
        (False, ["FixedAffineComponent", "TanhComponent", "AffineComponent"]),
    ):
        network = network_of(lines)
        expected = compute(network, x)
        collapse(network, match_updatableness)
        assert [component.type for component in network.components] == types
        np.testing.assert_allclose(compute(network, x), expected, rtol=1e-5, atol=1e-6)


# The device and memory ---------------------------------------------------------------------------


def test_asking_for_a_gpu(caplog):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have a GPU: what is said where there is none cannot be seen")
    for use_gpu in "yes", "wait":
        with pytest.raises(NgtrainError, match=f"--use-gpu={use_gpu}: no GPU can be used"):
            select_device(use_gpu)
    select_device("optional")
    assert "Computing on the CPU" in caplog.text
    with pytest.raises(NgtrainError, match="expected yes, no, optional or wait"):
        select_device("maybe")
    select_device("no")


def test_workspace_is_memory_that_is_used_again():
    workspace, like = Workspace(), np.zeros(1, np.float32)
    large = workspace.array("a", (10, 4), like)
    small = workspace.array("a", (3, 4), like)
    assert np.shares_memory(large, small) and small.shape == (3, 4) and small.flags.c_contiguous
    assert not np.shares_memory(large, workspace.array("b", (3, 4), like))
    assert workspace.array("a", (3,), like, np.float64).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_take_all_orders(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((3, 4)).astype(dtype)
    expected = 1 + a @ b
    for a_ in (a, np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2]):
        for b_ in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2]):
            out = np.ones((5, 4), dtype)
            CPU.add_matmul(a_, b_, out)
            np.testing.assert_allclose(out, expected, rtol=1e-5)
            np.testing.assert_allclose(CPU.matmul(a_, b_, out), expected - 1, rtol=1e-5)
            np.testing.assert_allclose(CPU.matmul(a_[:1], b_, out[:1]), expected[:1] - 1, rtol=1e-5)
            column = CPU.matmul(a_, b_[:, :1], np.empty((5, 1), dtype))
            np.testing.assert_allclose(column, expected[:, :1] - 1, rtol=1e-5)
