"""Training runs of Kaldi's, repeated: the same examples, the same start, the same numbers."""

import re

import numpy as np
import pytest

from nnet.egs.minibatches import read_minibatches
from nnet.io.log_lines import LIMITED
from nnet.model.acoustic_model import AcousticModel, load_network
from nnet.training.evaluation import evaluate
from nnet.training.train import train

PLAIN = ("sgd_relu", "sgd_sigmoid", "sgd_tanh")
STEPS = {1: "1.first1.mdl", 2: "1.first2.mdl", 5: "1.first5.mdl", None: "1.mdl"}
TRAJECTORIES = (*PLAIN, "simple_pnorm", "online_lowrank", "online_pnorm", "online_multisplice")


def tolerance(trajectory: str, num_steps: int | None) -> float:
    """How far, relative to its norm, a parameter block may be from Kaldi's.

    The steps of plain SGD are so large that they are chaotic in the end; in online_pnorm and
    online_multisplice the first Fisher matrices are singular, and Kaldi's way out is its own.
    """
    if trajectory in ("online_pnorm", "online_multisplice"):
        return 5e-2
    if trajectory == "online_lowrank":
        return 2e-4
    return 1e-3 if trajectory in PLAIN and num_steps is None else 2e-5


class Trajectory:
    """One of Kaldi's training runs."""

    def __init__(self, reference, name: str):
        self.directory = reference(f"kaldi/golden/training/{name}/0.mdl").parent
        self.start = AcousticModel.load(str(self.directory / "0.mdl"))
        self.minibatch_size = int((self.directory / "minibatch").read_text())
        self.examples = f"ark:{reference('kaldi/golden/egs_1frame.ark')}"

    def minibatches(self, size: int):
        network = self.start.network
        return read_minibatches(self.examples, size, network.left_context, network.right_context)

    def log_prob_and_accuracy(self, when: str) -> tuple[float, float]:
        """Per frame, before or after training, from Kaldi's log."""
        text = (self.directory / f"prob_{when}.log").read_text()
        numbers = re.search(r"probability is (\S+) and accuracy is (\S+)", text).groups()
        return tuple(map(float, numbers))


@pytest.fixture(params=TRAJECTORIES)
def trajectory(request, reference):
    return Trajectory(reference, request.param)


def relative_distances(network, reference) -> dict[str, float]:
    """The relative distance of each parameter block."""
    return {
        f"component {ours.index} {name}": float(
            np.linalg.norm(getattr(ours, name) - getattr(kaldis, name))
            / np.linalg.norm(getattr(kaldis, name))
        )
        for ours, kaldis in zip(
            network.updatable_components, reference.updatable_components, strict=True
        )
        for name in ours.parameter_names
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", STEPS)
def test_parameters_are_kaldis(trajectory, reference, num_steps):
    name = trajectory.directory.name
    after = reference(f"kaldi/golden/training/{name}/{STEPS[num_steps]}")
    network = trajectory.start.network
    minibatches = list(trajectory.minibatches(trajectory.minibatch_size))[:num_steps]
    train(network, minibatches)
    theirs = AcousticModel.load(str(after)).network
    allowed = tolerance(name, num_steps)
    distances = relative_distances(network, theirs)
    assert max(distances.values()) <= allowed, distances
    for ours, kaldis in zip(network.components, theirs.components, strict=True):
        if hasattr(ours, "value_sum"):
            assert ours.count == kaldis.count
            for name in "value_sum", "deriv_sum":
                got, expected = getattr(ours, name), getattr(kaldis, name)
                assert np.linalg.norm(got - expected) <= allowed * np.linalg.norm(expected)


def test_log_prob_is_kaldis(trajectory):
    before = trajectory.start.network
    kaldis = AcousticModel.load(str(trajectory.directory / "1.mdl")).network
    ours = before.copy()
    train(ours, trajectory.minibatches(trajectory.minibatch_size))
    for network, when, max_log_prob_error, max_accuracy_error in (
        (before, "before", 1e-4, 1e-6),
        (kaldis, "after", 1e-4, 1e-6),
        (ours, "after", 0.01, 0.005),
    ):
        seen = evaluate(network, trajectory.minibatches(1000))
        log_prob, accuracy = trajectory.log_prob_and_accuracy(when)
        assert seen.weight == seen.num_examples == 1280
        assert abs(seen.log_prob / seen.weight - log_prob) <= max_log_prob_error
        assert abs(seen.correct / seen.weight - accuracy) <= max_accuracy_error


def parsed(log: str) -> list[str]:
    """What a log says, without who said it."""
    lines = (line.split(") ", 1)[1] for line in log.splitlines() if line.startswith("LOG"))
    return [line for line in lines if not line.startswith("Finished")]


NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")


def assert_same_lines(ours: list[str], kaldis: list[str], rtol: float):
    """The same words, and about the same numbers."""
    assert [NUMBER.sub("#", line) for line in ours] == [NUMBER.sub("#", line) for line in kaldis]
    for our_line, kaldis_line in zip(ours, kaldis, strict=True):
        numbers, expected = (
            [float(number) for number in NUMBER.findall(line)] for line in (our_line, kaldis_line)
        )
        np.testing.assert_allclose(numbers, expected, rtol=rtol)


@pytest.mark.parametrize("name", ["sgd_tanh", "simple_pnorm", "online_lowrank"])
def test_program_logs_what_kaldi_does(reference, run_program, tmp_path, name):
    trajectory = Trajectory(reference, name)
    size = f"--minibatch-size={trajectory.minibatch_size}"
    model = tmp_path / "1.mdl"
    result = run_program(
        "nnet-train-simple", size, trajectory.directory / "0.mdl", trajectory.examples, model
    )
    kaldis = (trajectory.directory / "train.log").read_text()
    ours, kaldis = parsed(result.stderr.decode()), parsed(kaldis)
    # Kaldi has a line for each of the first ten shortened steps, ours one for each component.
    shortened = {re.search(r"index (\d+)", line)[1] for line in kaldis if "step size" in line}
    assert shortened <= {re.search(r"index (\d+)", line)[1] for line in ours if "step size" in line}
    # ... and a last one for all of them, which Kaldi has not.
    [in_all] = [line for line in ours if re.search(LIMITED.pattern, line)]
    ours.remove(in_all)
    ours, kaldis = ([line for line in x if "step size" not in line] for x in (ours, kaldis))
    assert_same_lines(ours, kaldis, rtol=2e-4)
    distances = relative_distances(
        AcousticModel.load(str(model)).network,
        AcousticModel.load(str(trajectory.directory / "1.mdl")).network,
    )
    assert max(distances.values()) <= tolerance(name, None), distances


@pytest.mark.parametrize("name", ["sgd_relu", "online_multisplice"])
def test_compute_prob_prints_what_kaldi_does(reference, run_program, name):
    trajectory = Trajectory(reference, name)
    result = run_program("nnet-compute-prob", trajectory.directory / "1.mdl", trajectory.examples)
    kaldis = (trajectory.directory / "prob_after.log").read_text()
    # Kaldi adds up in single precision.
    assert_same_lines(parsed(result.stderr.decode()), parsed(kaldis), rtol=1e-5)
    assert_same_lines([result.stdout.decode()], [f"{kaldis.splitlines()[-1]}\n"], rtol=1e-5)


@pytest.mark.parametrize("iteration", ["5", "final"])
def test_log_prob_of_a_real_network_is_kaldis(reference, iteration):
    """Feature transform, hidden layers that splice, compressed examples of larger context."""
    model = reference(f"kaldi/exp/nnet_ms/{iteration}.mdl")
    directory, network = model.parent, load_network(str(model))
    examples = f"ark:{directory}/valid_diagnostic.egs"
    context = network.left_context, network.right_context
    seen = evaluate(network, read_minibatches(examples, 1000, *context))
    text = (directory / f"log/compute_prob_valid.{iteration}.log").read_text()
    log_prob, accuracy, weight = map(
        float, re.search(r"probability is (\S+) and accuracy is (\S+) .* (\S+)\n", text).groups()
    )
    assert seen.weight == weight
    np.testing.assert_allclose(seen.log_prob / weight, log_prob, rtol=1e-5)
    np.testing.assert_allclose(seen.correct / weight, accuracy, rtol=1e-5)
