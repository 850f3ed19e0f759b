"""Programs that mix up, widen, combine and train networks as Kaldi's older recipes do."""

import logging

import numpy as np
import pytest
from archives import read_table, write_table

from nnet.components.sum_group import SumGroupComponent
from nnet.device.device import CPU, SparseRows
from nnet.egs.making import Cut, make_examples
from nnet.egs.minibatches import Minibatch, read_minibatches
from nnet.egs.record import EXAMPLE
from nnet.errors import NgtrainError
from nnet.io.tables import FLOAT_VECTOR, MATRIX, POSTERIOR
from nnet.model.acoustic_model import load_network
from nnet.model.network import Network
from nnet.model.propagation import compute
from nnet.training.combination import combine_by_bfgs
from nnet.training.ensemble import EnsembleTrainer, train_ensemble
from nnet.training.evaluation import evaluate
from nnet.training.mixing_up import mix_up, split_targets
from nnet.training.train import train
from nnet.training.widening import widen

CONFIG = """
SpliceComponent input-dim=4 left-context=1 right-context=1
AffineComponentPreconditionedOnline input-dim=12 output-dim=8 rank-in=4 rank-out=3 {rate}
TanhComponent dim=8
AffineComponentPreconditionedOnline input-dim=8 output-dim=5 rank-in=4 rank-out=3 {rate}
{more}
SoftmaxComponent dim=5
"""


def toy_network(seed: int = 0, before_softmax: str = "") -> Network:
    rng = np.random.default_rng(seed)
    config = CONFIG.format(rate="learning-rate=0.05", more=before_softmax)
    return Network.from_config(config.splitlines(), rng)


@pytest.fixture
def minibatch() -> Minibatch:
    """200 examples of an easy pattern."""
    rng = np.random.default_rng(2)
    frames = rng.standard_normal((200, 3, 4)).astype(np.float32)
    pdfs = (frames[:, 1] @ rng.standard_normal((4, 5))).argmax(axis=1).astype(np.int32)
    rows = np.arange(200, dtype=np.int32)
    return Minibatch(frames, rows, pdfs, np.ones(200, np.float32))


def parameters(network: Network) -> list[np.ndarray]:
    return [p for component in network.updatable_components for p in component.parameters]


def distance(ours: Network, kaldis: Network, start: Network) -> float:
    """The largest distance of a block of parameters from Kaldi's, relative to Kaldi's change."""
    return max(
        float(np.linalg.norm(a - b) / np.linalg.norm(b - c))
        for a, b, c in zip(*map(parameters, (ours, kaldis, start)), strict=True)
    )


def test_rates_of_the_last_two_layers(reference, run_program, tmp_path):
    model = reference("kaldi/exp/nnet_ms/final.mdl")
    egs = reference("kaldi/golden/egs_1frame.ark")
    options = "--learning-rate=0.02", "--final-learning-rate-factor=0.5", "--minibatch-size=4000"
    some = f"ark:nnet-subset-egs --n=100 ark:{egs} ark:- |"
    run_program("nnet-train-simple", *options, model, some, tmp_path / "new.mdl")
    *others, before_last, last = load_network(str(tmp_path / "new.mdl")).learning_rates
    assert others and others == pytest.approx([0.02] * len(others))
    assert (before_last, last) == pytest.approx((0.01, 0.01))


# Mixing up ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mixing_up_gives_kaldis_bytes(reference, run_program):
    kaldis = reference("kaldi/golden/programs/mixup.mdl")
    options = "--min-count=10", "--num-mixtures=200", "--perturb-stddev=0"
    model = reference("kaldi/golden/training/online_lowrank/1.mdl")
    result = run_program("nnet-am-mixup", *options, model, "-")
    assert result.stdout == kaldis.read_bytes()
    assert b"Could not split up to 200" in result.stderr
    assert b"Mixed up from dimension of 128 to 194" in result.stderr


def test_targets_follow_a_power_of_the_counts():
    counts = np.array([0, 1, 16, 256, 4096], np.float32)
    assert split_targets(counts, 5, 0.5, 0).tolist() == [1, 1, 1, 1, 1]
    assert split_targets(counts, 25, 0.5, 0).tolist() == [1, 1, 2, 5, 16]
    assert split_targets(counts, 25, 0.0, 0).tolist()[0] == 1  # without count there is no half
    assert split_targets(counts, 25, 0.5, 100).tolist() == [1, 1, 1, 2, 20]
    assert split_targets(counts, 1000, 0.5, 100).tolist() == [1, 1, 1, 2, 40]


@pytest.mark.parametrize("scales", [None, [0.5, 1.0, 2.0, 1.0, 0.7]])
def test_halves_together_are_as_probable_as_the_whole(minibatch, tmp_path, scales):
    line = ""
    if scales:
        (tmp_path / "scales").write_text(f" [ {' '.join(map(str, scales))} ]\n")
        line = f"FixedScaleComponent scales={tmp_path}/scales"
    network = toy_network(before_softmax=line)
    train(network, minibatch.split(50))
    frames = minibatch.frames[:, 1]
    before = compute(network, frames)
    for num_mixtures in 12, 20:  # the second time what is mixed already
        mix_up(network, num_mixtures, np.random.default_rng(0), min_count=1, perturb_stddev=0)
        groups = network.components[-1]
        assert isinstance(groups, SumGroupComponent)
        assert sum(groups.sizes) == network.components[-2].dim == num_mixtures
        np.testing.assert_allclose(compute(network, frames), before, rtol=1e-5)
    mix_up(network, 30, np.random.default_rng(0), min_count=1, perturb_stddev=0.1)
    assert 0 < np.abs(compute(network, frames) - before).max() < 0.2
    assert train(network, minibatch.split(50)).num_examples == 200
    assert network.components[-2].value_sum.sum() == pytest.approx(network.components[-2].count)


def test_mixing_up_wants_counts_and_a_softmax():
    network = toy_network()
    with pytest.raises(NgtrainError, match="has not been trained"):
        mix_up(network, 20, np.random.default_rng(0))
    network.truncate(3)
    with pytest.raises(NgtrainError, match="does not end in a SoftmaxComponent"):
        mix_up(network, 20, np.random.default_rng(0))


# Widening -----------------------------------------------------------------------------------------


def test_new_units_change_nothing_at_first(minibatch, caplog):
    network, frames = toy_network(), minibatch.frames[:, 1]
    before = compute(network, frames)
    widen(network, 12, np.random.default_rng(1), bias_stddev=2.0)
    assert network.components[1].output_dim == network.components[2].dim == 12
    assert network.components[1].bias_params[8:].std() > 0.5
    np.testing.assert_allclose(compute(network, frames), before, rtol=1e-5)
    train(network, minibatch.split(50))
    assert network.components[3].linear_params[:, 8:].any()
    with caplog.at_level(logging.WARNING):
        widen(network, 12, np.random.default_rng(1))
    assert "Not widening component because new dim 12 <= old dim 12" in caplog.text


def test_nnet_am_widen(reference, run_program, tmp_path):
    model = reference("kaldi/golden/training/sgd_relu/1.mdl")
    run_program("nnet-am-widen", "--hidden-layer-dim=150", model, tmp_path / "wide.mdl")
    dims = [
        component.output_dim for component in load_network(str(tmp_path / "wide.mdl")).components
    ]
    assert dims == [360, 150, 150, 150, 128, 128]
    result = run_program("nnet-am-widen", model, tmp_path / "wide.mdl", check=False)
    assert result.returncode != 0 and b"--hidden-layer-dim is required" in result.stderr


# Combination --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bfgs_combines_as_kaldi_does(reference, run_program, tmp_path):
    kaldis = load_network(str(reference("kaldi/golden/programs/combine.mdl")))
    folder = reference("kaldi/golden/training/online_lowrank/1.first1.mdl").parent
    models = [folder / f"1.{name}mdl" for name in ("first1.", "first2.", "first5.", "")]
    examples = f"ark:{reference('kaldi/golden/egs_1frame.ark')}"
    out = tmp_path / "combined.mdl"
    result = run_program("nnet-combine", "--num-bfgs-iters=5", *models, examples, out)
    assert b"changed from -0.494585 to -0.414126" in result.stderr
    assert distance(load_network(str(out)), kaldis, load_network(str(models[-1]))) < 1e-4


def test_gradient_that_is_logged_is_that_of_differences(minibatch, caplog):
    networks = [toy_network(seed) for seed in range(3)]
    for network in networks:
        train(network, minibatch.split(50))
    with caplog.at_level(logging.INFO):
        combined = combine_by_bfgs(networks, minibatch, num_bfgs_iters=30, test_gradient=True)
    texts = [m.split("[")[1].split("]")[0] for m in caplog.messages if "computed" in m]
    by_differences, gradient = ([float(word) for word in text.split()] for text in texts)
    np.testing.assert_allclose(by_differences, gradient, atol=2e-2 * np.abs(gradient).max())
    best = max(evaluate(network, [minibatch]).log_prob for network in networks)
    assert evaluate(combined, [minibatch]).log_prob > best


# Weighted examples --------------------------------------------------------------------------------


@pytest.fixture
def weighted(tmp_path) -> list[str]:
    """Features, posteriors and weights of two utterances, and of one without posteriors."""
    rng = np.random.default_rng(3)
    lengths = {"a": 5, "b": 7, "c": 4}
    features = {key: rng.standard_normal((n, 3), np.float32) for key, n in lengths.items()}
    posteriors = {key: [[(t % 4, 1.0)] for t in range(lengths[key])] for key in "ab"}
    weights = {key: np.linspace(0, 1, n).astype(np.float32) for key, n in lengths.items()}
    tables = (
        ("feats", MATRIX, features),
        ("post", POSTERIOR, posteriors),
        ("weights", FLOAT_VECTOR, weights),
    )
    for name, holder, entries in tables:
        write_table(f"ark:{tmp_path}/{name}.ark", holder, entries)
    return [f"ark:{tmp_path}/{name}.ark" for name, _, _ in tables]


def test_frames_of_little_weight_have_no_examples(weighted, run_program, tmp_path):
    egs, context = f"ark:{tmp_path}/all.egs", ("--left-context=1", "--right-context=2")
    make_examples(*weighted[:2], egs, Cut(1, 2))
    every = read_table(egs, EXAMPLE)
    threshold, out = "--weight-threshold=0.5", f"ark:{tmp_path}/chosen.egs"
    result = run_program("nnet-get-weighted-egs", *context, threshold, *weighted, out)
    chosen = read_table(out, EXAMPLE)
    assert list(chosen) == [*(f"a-{t}" for t in range(2, 5)), *(f"b-{t}" for t in range(3, 7))]
    assert all(repr(example) == repr(every[key]) for key, example in chosen.items())
    assert (
        b"processed 2 feature files, wrote 7 examples, skipped 5 examples, 1 files had"
        in result.stderr
    )
    run_program("nnet-get-weighted-egs", *context, "--use-frame-selection=false", *weighted, out)
    assert list(read_table(out, EXAMPLE)) == list(every)


def test_frame_weights_scale_labels(weighted, run_program, tmp_path):
    out = f"ark:{tmp_path}/scaled.egs"
    run_program("nnet-get-weighted-egs", "--use-frame-weights=true", *weighted, out)
    (scaled,) = read_minibatches(out, 100, 0, 0)
    np.testing.assert_allclose(
        scaled.weights, [*np.linspace(0, 1, 5), *np.linspace(0, 1, 7)], rtol=1e-6
    )


def test_weights_that_do_not_fit(weighted, run_program, tmp_path):
    write_table(
        weighted[2], FLOAT_VECTOR, {"a": np.ones(4, np.float32), "b": np.ones(7, np.float32)}
    )
    arguments = *weighted, f"ark:{tmp_path}/out.egs"
    result = run_program("nnet-get-weighted-egs", *arguments)
    assert b"Weights for utterance a have wrong size, 4 vs. 5" in result.stderr
    write_table(weighted[2], FLOAT_VECTOR, {"a": np.ones(5, np.float32)})
    result = run_program("nnet-get-weighted-egs", *arguments, check=False)
    assert result.returncode != 0 and b"no weights for utterance b" in result.stderr


# Training -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parallel_training_is_that_of_one_thread(reference, run_program, tmp_path):
    start = reference("kaldi/golden/training/online_lowrank/0.mdl")
    arguments = start, f"ark:{reference('kaldi/golden/egs_1frame.ark')}", "-"
    one = run_program("nnet-train-simple", "--minibatch-size=64", *arguments).stdout
    for threads in 1, 3:
        options = f"--num-threads={threads}", "--minibatch-size=64"
        assert run_program("nnet-train-parallel", *options, *arguments).stdout == one
    (tmp_path / "1.mdl").write_bytes(one)
    kaldis = load_network(str(reference("kaldi/golden/programs/parallel1.mdl")))
    ours, start = load_network(str(tmp_path / "1.mdl")), load_network(str(start))
    assert distance(ours, kaldis, start) < 1e-4


@pytest.mark.slow
def test_ensemble_is_trained_as_by_kaldi(reference, run_program, tmp_path):
    folders = "online_lowrank", "simple_pnorm"
    starts = [reference(f"kaldi/golden/training/{name}/0.mdl") for name in folders]
    kaldis = [reference(f"kaldi/golden/programs/ensemble.{n}.mdl") for n in (1, 2)]
    examples, options = (
        f"ark:{reference('kaldi/golden/egs_1frame.ark')}",
        ("--minibatch-size=64", "--beta=5"),
    )
    ours = [tmp_path / "1.mdl", tmp_path / "2.mdl"]
    run_program("nnet-train-ensemble", *options, *starts, examples, *ours)
    for files in zip(ours, kaldis, starts, strict=True):
        assert distance(*(load_network(str(file)) for file in files)) < 5e-3


def test_targets_of_an_ensemble(minibatch):
    trainer = EnsembleTrainer([toy_network(1), toy_network(2)], beta=0.5)
    (part,) = minibatch.split(200)
    outputs = [np.full((200, 5), value, np.float32) for value in (0.1, 0.3)]
    labels = SparseRows(part.rows, part.pdfs, part.weights, np.arange(201, dtype=np.int32))
    targets = trainer.targets(labels.on(CPU), outputs)
    dense = np.zeros((200, 5))
    np.add.at(dense, (targets.rows, targets.columns), targets.values)
    expected = np.full((200, 5), 0.1)
    expected[part.rows, part.pdfs] += 1
    np.testing.assert_allclose(dense, expected, rtol=1e-6)
    assert (np.bincount(targets.rows) == np.diff(targets.starts)).all()


def test_an_ensemble_that_does_not_talk_trains_each_alone(minibatch):
    together, alone = ([toy_network(1), toy_network(2)] for _ in range(2))
    train_ensemble(together, minibatch.split(50), beta=0.0)
    for one, other in zip(together, alone, strict=True):
        train(other, minibatch.split(50))
        for p, q in zip(parameters(one), parameters(other), strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-6)


def test_arguments_of_an_ensemble(run_program):
    """One too many between examples and models is not used, as in Kaldi, and that is said."""
    result = run_program("nnet-train-ensemble", "1.mdl", "ark:egs", check=False)
    assert result.returncode != 0 and b"as many models to be written" in result.stderr
    words = "a.mdl", "b.mdl", "ark:egs", "ark:-", "c.mdl", "d.mdl"
    said = run_program("nnet-train-ensemble", *words, check=False).stderr.decode()
    assert "The argument ark:- between examples and models is not used" in said
    assert "a.mdl: No such file" in said
