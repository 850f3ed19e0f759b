"""Block momentum: the equations, the program, and trainings by the driver."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from nnet.model.acoustic_model import AcousticModel, load_network
from nnet.model.network import Network
from nnet.training.block_momentum import BlockMomentum

ETA, ZETA = 0.5, 0.75


def one_parameter(value: float) -> Network:
    """Make a network whose parameters are all `value`."""
    lines = ["AffineComponent input-dim=1 output-dim=1"]
    made = Network.from_config(lines, np.random.default_rng(0))
    for parameter in made.components[0].parameters:
        parameter[:] = value
    return made


def test_steps_are_what_the_equations_say():
    steps, theta, delta = BlockMomentum(0.5, 2.0), 1.0, 0.0
    at = one_parameter(theta)
    for average in 2.0, 3.0, 1.0:
        delta = 0.5 * delta + 2.0 * (average - theta)
        theta += 2.0 * (average - theta) + 0.5 * delta
        at = steps.step(at, one_parameter(average))
        assert at.components[0].bias_params[0] == pytest.approx(theta)


def test_without_momentum_a_step_ends_at_the_average():
    at = BlockMomentum().step(one_parameter(1.0), one_parameter(3.0))
    assert at.components[0].bias_params[0] == pytest.approx(3.0)


@pytest.mark.slow
def test_the_program_hands_the_step_on(reference, run_program, tmp_path):
    models = [str(reference(f"kaldi/exp/nnet_ms/{x}.mdl")) for x in (5, 10, 16)]
    options = f"--block-momentum={ETA}", f"--block-learning-rate={ZETA}"
    deltas = [f"{tmp_path}/{name}.delta" for name in "ab"]
    run_program(
        "nnet-am-block-momentum", *options, f"--delta-out={deltas[0]}", *models[:2], tmp_path / "a"
    )
    run_program(
        "nnet-am-block-momentum", *options, f"--delta-in={deltas[0]}", f"--delta-out={deltas[1]}",
        tmp_path / "a", f"nnet-am-average {models[2]} - |", tmp_path / "b",
    )  # fmt: skip
    theta, *averages = (parameters(model) for model in models)
    delta = 0.0
    for name, average in zip("ab", averages, strict=True):
        delta = ETA * delta + ZETA * (average - theta)
        theta = theta + ZETA * (average - theta) + ETA * delta
        np.testing.assert_allclose(parameters(tmp_path / name), theta, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(parameters(f"{tmp_path}/{name}.delta"), delta, atol=1e-5)
    priors = [AcousticModel.load(str(file)).priors for file in (models[2], tmp_path / "b")]
    np.testing.assert_array_equal(*priors)


def test_models_that_do_not_fit(reference, shared, run_program, tmp_path):
    model, smaller = reference("kaldi/exp/nnet_ms/16.mdl"), shared / "kaldi/exp/nnet_ms/0.mdl"
    result = run_program(
        "nnet-am-block-momentum", f"--delta-out={tmp_path}/delta", smaller, model, tmp_path / "out",
        check=False,
    )  # fmt: skip
    assert result.returncode == 1 and re.search(rb"16\.mdl: .* unlike .*0\.mdl", result.stderr)
    assert not list(tmp_path.iterdir())


def parameters(file) -> np.ndarray:
    """All trained parameters of a model, in double precision."""
    layers = load_network(str(file)).updatable_components
    return np.concatenate([p.ravel() for layer in layers for p in layer.parameters], dtype=float)


def test_a_training_with_block_momentum(corpus, environment, tmp_path):
    """Steps are handed on, jobs go slower by what momentum gains, and a stage can be done again."""
    directory = tmp_path / "nnet"
    options = (
        "--block-momentum", str(ETA), "--block-learning-rate", str(ZETA), "--cleanup", "false",
        "--realign-times", "",
    )  # fmt: skip

    def train(*more) -> None:
        subprocess.run(corpus.command(directory, *options, *more), check=True, capture_output=True)

    train()
    assert not list(directory.glob("[012].delta"))  # the first two iterations keep the best job
    (theta, delta), *later = (
        (parameters(directory / f"{x}.mdl"), parameters(directory / f"{x}.delta"))
        for x in (3, 4, 5)
    )
    first = parameters(directory / "2.mdl")
    np.testing.assert_allclose(theta - first, (1 + ETA) * delta, atol=1e-5)
    for next_theta, next_delta in later:
        way = next_delta - ETA * delta
        np.testing.assert_allclose(next_theta - theta, way + ETA * next_delta, atol=1e-5)
        assert np.abs(way).max() > 1e-3
        theta, delta = next_theta, next_delta
    rates = [rate_of(directory / f"log/train.{x}.1.log") for x in range(5)]
    assert rates[4] == pytest.approx(2 * 0.001 / (ZETA / (1 - ETA)))  # two jobs, the last iteration
    assert rates[1] > 1.2 * rates[2]

    before = {x: (directory / f"{x}.mdl").read_bytes() for x in (4, 5)}
    shutil.rmtree(directory / "log")
    train("--stage", "3", "--exit-stage", "5")
    assert {x: (directory / f"{x}.mdl").read_bytes() for x in (4, 5)} == before


def rate_of(log_file) -> float:
    command = log_file.read_text().splitlines()[0]
    return float(re.search(r"--learning-rate=(\S+)", command)[1])
