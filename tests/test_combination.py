"""Weighted combination of networks."""

import os
import re

import numpy as np
import pytest

from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.training.combination import Evaluation, Objective, combine, maximize, preconditioner
from nnet.training.shares import Shares

CONFIG = """
SpliceComponent input-dim=3 left-context=1 right-context=0
AffineComponentPreconditionedOnline input-dim=6 output-dim=8 learning-rate=0.01
PnormComponent input-dim=8 output-dim=4 p=2
NormalizeComponent dim=4
AffineComponent input-dim=4 output-dim=5 learning-rate=0.01
SoftmaxComponent dim=5
"""


@pytest.fixture
def toy_networks():
    """Three networks that are much alike, in double precision."""
    rng = np.random.default_rng(1)
    networks = [Network.from_config(CONFIG.splitlines(), rng)]
    for _ in range(2):
        other = networks[0].copy()
        for component in other.updatable_components:
            component.perturb(0.3, rng)
        networks.append(other)
    for network in networks:
        network.convert(np.float64)
    return networks


@pytest.fixture
def toy_examples():
    """200 examples with an easy pattern, a few of them with two weighted labels."""
    rng = np.random.default_rng(2)
    count = 200
    frames = rng.standard_normal((count, 2, 3)).astype(np.float32)
    pdfs = (frames[:, 1] @ rng.standard_normal((3, 5))).argmax(axis=1)
    rows = np.sort(np.concatenate([np.arange(count), np.arange(0, count, 20)]))
    weights = np.where(rows % 20 == 0, 0.5, 1.0).astype(np.float32)
    return Minibatch(frames, rows.astype(np.int32), pdfs[rows].astype(np.int32), weights)


@pytest.mark.parametrize("regularizer", [0.0, 0.01])
def test_gradient_by_scales_is_that_of_finite_differences(toy_networks, toy_examples, regularizer):
    objective = Objective(toy_networks, toy_examples, minibatch_size=64, regularizer=regularizer)
    scales = np.array([[0.5, 0.2], [0.3, 0.9], [-0.1, 0.4]])
    evaluation = objective(scales)
    for index in np.ndindex(scales.shape):
        up, down = scales.copy(), scales.copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        slope = (objective(up).value - objective(down).value) / 2e-5
        assert evaluation.gradient[index] == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert abs(evaluation.gradient).max() > 0.01


def test_penalty_is_half_the_square_of_the_parameters(toy_networks, toy_examples):
    scales = np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    first, second = toy_networks[0].updatable_components
    square = sum(np.sum(p**2) for p in first.parameters) + sum(
        np.sum((2 * p) ** 2) for p in second.parameters
    )
    evaluation = Objective(toy_networks, toy_examples, regularizer=0.1)(scales)
    assert evaluation.penalty == pytest.approx(-0.05 * square)


def test_minibatch_size_does_not_matter(toy_networks, toy_examples):
    scales = np.full((3, 2), 1 / 3)
    one, many = (Objective(toy_networks, toy_examples, size)(scales) for size in (1000, 7))
    assert one.value == pytest.approx(many.value, rel=1e-12)
    np.testing.assert_allclose(one.gradient, many.gradient, rtol=1e-9)


def test_fisher_matrix_is_the_scatter_of_the_gradients_of_minibatches(toy_networks, toy_examples):
    scales = np.full((3, 2), 1 / 3)
    fisher = Objective(toy_networks, toy_examples).fisher_matrix(scales, 50)
    expected = np.zeros((6, 6))
    for part in toy_examples.split(50):
        gradient = Objective(toy_networks, part)(scales).gradient.ravel() * part.weights.sum()
        expected += np.outer(gradient, gradient)
    np.testing.assert_allclose(fisher, expected, rtol=1e-9)


def test_preconditioner_makes_the_smoothed_fisher_matrix_the_unit_matrix():
    rng = np.random.default_rng(3)
    scatter = rng.standard_normal((3, 6)) * [100, 1, 0, 90, 1e-3, 0]  # two networks, three layers
    fisher = scatter.T @ scatter
    A = preconditioner(fisher, num_networks=2, floor=1e-10, alpha=0.01)
    smoothed = fisher * 6 / np.trace(fisher)
    diagonal = np.diag(smoothed).copy()
    assert diagonal[4] < 1e-4 * diagonal[1]
    diagonal[[2, 4, 5]] = 1e-10, 0.01 * diagonal[1], 1e-10
    smoothed[np.diag_indices(6)] = 1.01 * diagonal
    np.testing.assert_allclose(A.T @ smoothed @ A, np.eye(6), atol=1e-9)

    with pytest.raises(NgtrainError, match="singular"):
        preconditioner(np.ones((3, 3)), 3, floor=1e-20, alpha=0.0)


class Quadratic:
    """-1/2 (s - optimum)^T H (s - optimum), and a count of its evaluations."""

    def __init__(self, hessian, optimum):
        self.hessian, self.optimum, self.count = hessian, optimum, 0

    def __call__(self, scales):
        self.count += 1
        gradient = -self.hessian @ (scales - self.optimum).ravel()
        value = 0.5 * gradient @ (scales - self.optimum).ravel()
        return Evaluation(scales, value, 0.0, gradient.reshape(scales.shape))


def quadratic(condition=1e6):
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    hessian = axes @ np.diag(np.geomspace(1, condition, 6)) @ axes.T
    return Quadratic(hessian, rng.standard_normal((6, 1)))


def test_first_step_gains_what_was_asked_for():
    """As far as the objective is linear, which it is for a small gain."""
    objective, seen = quadratic(), []

    def watched(scales):
        seen.append(objective(scales))
        return seen[-1]

    start = objective(np.zeros((6, 1)))
    steps = preconditioner(objective.hessian, 6, 1e-20, 0.0)
    maximize(watched, start, steps, first_gain=1e-4, num_evaluations=10, memory=10)
    assert seen[0].value - start.value == pytest.approx(1e-4, rel=0.01)


def test_preconditioning_makes_an_ill_conditioned_optimum_easy():
    objective = quadratic()
    start = objective(np.zeros((6, 1)))
    steps = preconditioner(objective.hessian, 6, 1e-20, 0.0)
    best = maximize(objective, start, steps, first_gain=1.0, num_evaluations=20, memory=10)
    np.testing.assert_allclose(best.scales, objective.optimum, atol=0.01)
    plain = maximize(objective, start, np.eye(6), first_gain=1.0, num_evaluations=20, memory=10)
    assert plain.value < 10 * best.value  # both negative: far worse


@pytest.mark.parametrize("num_evaluations", [1, 2, 3, 8])
def test_evaluations_are_limited(num_evaluations):
    objective = quadratic()
    start = objective(np.zeros((6, 1)))
    best = maximize(objective, start, np.eye(6), 1e3, num_evaluations, memory=10)
    assert objective.count == num_evaluations
    assert best.value >= start.value
    assert (best is start) == (num_evaluations == 1)


def test_processes_share_the_examples(toy_networks, toy_examples):
    scales = np.full((3, 2), 1 / 3)
    size = len(toy_examples) // 6
    alone, shared = (Objective(toy_networks, toy_examples, size, num_processes=n) for n in (1, 3))
    with shared:
        ours, theirs = alone(scales), shared(scales)
        assert theirs.log_prob == ours.log_prob
        np.testing.assert_array_equal(theirs.gradient, ours.gradient)
        fisher = [objective.fisher_matrix(scales, 10) for objective in (alone, shared)]
    np.testing.assert_array_equal(*fisher)


def test_the_end_of_a_process_is_noticed():
    def end(share):
        if share == 2:
            os._exit(3)

    with Shares(end, [1, 2]) as shares, pytest.raises(NgtrainError, match="has ended"):
        shares()


def test_search_survives_a_bad_step():
    """An objective that is NaN but for the start ends the search there."""
    objective = quadratic()
    start = objective(np.zeros((6, 1)))
    nan = start._replace(log_prob=np.nan)
    assert maximize(lambda scales: nan, start, np.eye(6), 1.0, 10, 10) is start


def test_start_at_the_optimum_stays_there():
    objective = quadratic()
    start = objective(objective.optimum)
    assert maximize(objective, start, np.eye(6), 1.0, 10, 10) is start


@pytest.mark.parametrize("initial_model", [-1, 0, 2, 3, 100000])
def test_combination_improves(toy_networks, toy_examples, initial_model, caplog):
    caplog.set_level("INFO", logger="ngtrain")
    objective = Objective(toy_networks, toy_examples)
    single = [objective.log_prob(np.eye(3)[n][:, None] * np.ones(2)) for n in range(3)]
    average = objective.log_prob(np.full((3, 2), 1 / 3))
    starts = {-1: max(*single, average), 0: single[0], 2: single[2], 3: average, 100000: average}

    combined = combine(toy_networks, toy_examples, initial_model=initial_model, num_lbfgs_iters=20)
    before, after = map(
        float, re.search(r"objf per frame changed from (\S+) to (\S+)", caplog.text).groups()
    )
    assert before == pytest.approx(starts[initial_model], rel=1e-5)
    assert after > before + 0.01
    value = Objective([combined], toy_examples).log_prob(np.ones((1, 2)))
    assert value == pytest.approx(after, rel=1e-5)


@pytest.mark.slow
def test_golden_models(reference, run_program, tmp_path):
    """Three models by Kaldi; the result is theirs in all that is not combined."""
    experiment = reference("kaldi/exp/nnet_ms/16.mdl").parent
    models = [experiment / f"{iteration}.mdl" for iteration in (5, 10, 16)]
    result = run_program(
        "nnet-combine-fast",
        *("--initial-model=100000", "--num-lbfgs-iters=12", "--minibatch-size=512"),
        *("--use-gpu=no", "--num-threads=1", "--verbose=3"),
        *models,
        f"ark:{experiment / 'combine.egs'}",
        tmp_path / "final.mdl",
    )
    text = result.stderr.decode()
    assert "Read 2349 examples from the validation set." in text
    assert "Initializing with all neural nets averaged." in text
    assert re.search(r"Scale parameters are  \[(\n  (\S+ ){4}){3}\]\n", text)
    before, after = map(
        float, re.search(r"objf per frame changed from (\S+) to (\S+)", text).groups()
    )
    assert before < after < 0

    printed = run_program(
        "nnet-compute-prob", tmp_path / "final.mdl", f"ark:{experiment / 'combine.egs'}"
    ).stdout
    assert float(printed) == pytest.approx(after, abs=1e-5)

    first, combined = (AcousticModel.load(str(m)) for m in (models[0], tmp_path / "final.mdl"))
    assert combined.network.learning_rates == first.network.learning_rates
    np.testing.assert_array_equal(combined.priors, first.priors)


@pytest.mark.slow
def test_bad_input(reference, run_program, tmp_path):
    experiment = reference("kaldi/exp/nnet_ms/16.mdl").parent
    egs = f"ark:{experiment / 'combine.egs'}"
    (tmp_path / "empty.egs").touch()
    for arguments, reason in [
        ([experiment / "16.mdl", experiment / "0.mdl", egs], "0.mdl: the network is unlike"),
        ([experiment / "16.mdl", "ark:" + str(tmp_path / "empty.egs")], "no examples"),
        ([experiment / "16.mdl", "ark:" + str(tmp_path / "no.egs")], "no.egs"),
    ]:
        result = run_program("nnet-combine-fast", *arguments, tmp_path / "out.mdl", check=False)
        assert result.returncode != 0
        assert reason in result.stderr.decode().splitlines()[-1]
        assert not (tmp_path / "out.mdl").exists()
