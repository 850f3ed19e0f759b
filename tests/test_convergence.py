"""The experiment on the claim of the paper, benchmarks/convergence."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nnet.device.device import CPU
from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency, monophone_tree
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.training.block_momentum import BlockMomentum

HERE = Path(__file__).parents[1] / "benchmarks" / "convergence"


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


# Cells and tables ---------------------------------------------------------------------------------


def test_cells_have_different_names():
    from cells import PARTS, plan

    cells = plan(list(PARTS), [0, 1, 2], 12800)
    assert len({cell.name for cell in cells}) == len(cells) > 150
    assert cells[0].method == "plain" and cells[0].seed == 0
    with pytest.raises(NgtrainError, match="there is no part x: parts are control, grid"):
        plan(["x"], [0], 12800)


def test_the_decisive_control_is_first():
    from cells import Cell, plan

    first = plan(["control"], [0], 100)
    for limit in True, False:
        assert Cell("plain", limit, 1, 100, rate=4) in first
        assert Cell("plain", limit, 4, 100) in first


def test_rates_of_cells():
    """Of two outer steps the first has the common rate: momentum lengthens the way by so much."""
    from cells import plan

    cells = [cell for cell in plan(["outer"], [0], 100) if cell.outer == "bmuf"]
    assert [cell.rate * cell.amplification for cell in cells] == pytest.approx([1, 2, 1, 2])
    own, others = (plan(["grid", "outer"], [0], 100, rate) for rate in (1, 16))
    assert [cell.rate for cell in others] == pytest.approx([16 * cell.rate for cell in own], 1e-2)
    assert len({cell.name for cell in own + others}) == 2 * len(own)


def test_the_report_has_intervals_of_any_rate():
    from cells import Cell
    from report import intervals

    cells = [Cell("online", True, 4, n, rate=16) for n in (6400, 3200)]
    text = intervals({cell: {0: -1.0, 1: -2.0} for cell in [*cells, Cell("plain", True, 4, 6400)]})
    rows = [line.split(" | ")[1] for line in text.splitlines()]
    assert rows == ["samples", "---", "3200", "6400"] and "16 times the rate" in text


def test_few_outer_steps_do_not_reach_the_common_rate():
    """With a gradient that is always one, what has been gone is the amplification, each time."""
    from cells import Cell

    for name in "average", "bmuf", "diloco":
        cell = Cell("online", True, 16, 100, outer=name)
        outer, at = BlockMomentum(*cell.momentum), one_parameter(0.0)
        for count in range(1, 8):
            start = at.components[0].bias_params[0]
            at = outer.step(at, one_parameter(start + 1.0))
            reached = at.components[0].bias_params[0] / count
            assert cell.amplification_in(count) == pytest.approx(reached, rel=1e-5)
        assert cell.amplification_in(10_000) == pytest.approx(cell.amplification, rel=0.01)


def one_parameter(value: float) -> Network:
    """Make a network whose parameters are all `value`."""
    lines = ["AffineComponent input-dim=1 output-dim=1"]
    made = Network.from_config(lines, np.random.default_rng(0))
    for parameter in made.components[0].parameters:
        parameter[...] = value
    return made


def test_tables_are_read_as_they_are_written(tmp_path):
    from cells import Cell
    from table import Result, add_result, read_curves, read_results

    cell = Cell("online", True, 4, 3200, 0.0625, "bmuf", 2)
    lost = Result(Cell("plain", False, 1, 3200), 6400, error="the objective function is nan, alas")
    result = Result(cell, 12800, -1.25, 0.5, -1.24, -1.1, -1.0, -1.2, 0.125, 33.5)
    add_result(tmp_path, result, [(0, -2.5), (12800, -1.25)])
    add_result(tmp_path, lost, [(0, -2.5)])
    assert read_results(tmp_path / "trials.csv") == [result, lost]
    curves = read_curves(tmp_path / "curves.csv")
    assert curves == {cell: [(0, -2.5), (12800, -1.25)], lost.cell: [(0, -2.5)]}


# Frames and trainings -----------------------------------------------------------------------------


@pytest.fixture
def frames():
    """Two utterances, of 5 and of 3 frames, that are numbered."""
    from frames import Frames

    numbers = np.arange(8, dtype=np.float32)[:, np.newaxis]
    return Frames(numbers, np.arange(8, dtype=np.int32), np.array([0, 5, 8]))


def test_context_ends_where_an_utterance_does(frames):
    minibatch = frames.minibatch(np.array([0, 4, 5, 6]), 2, 1)
    assert minibatch.frames[..., 0].tolist() == [
        [0, 0, 0, 1], [2, 3, 4, 4], [5, 5, 5, 6], [5, 5, 6, 7],
    ]  # fmt: skip
    assert minibatch.pdfs.tolist() == [0, 4, 5, 6]
    assert [len(m) for m in frames.minibatches(np.arange(7), 3, (0, 0))] == [3, 3, 1]


@pytest.fixture
def setting(tmp_path):
    """A tiny network, and frames that it can learn."""
    from frames import Frames
    from trial import Setting

    rng = np.random.default_rng(1)
    lines = [
        "SpliceComponent input-dim=4 context=-1:0:1",
        "AffineComponent input-dim=12 output-dim=20",
        "PnormComponent input-dim=20 output-dim=10 p=2",
        "NormalizeComponent dim=10",
        "AffineComponent input-dim=10 output-dim=3 param-stddev=0 bias-stddev=0",
        "SoftmaxComponent dim=3",
    ]
    topology = HmmTopology.load(str(topo_file(tmp_path)))
    transitions = TransitionModel.from_tree(monophone_tree([[1]], {1: 3}), topology)
    model = AcousticModel(transitions, Network.from_config(lines, rng), np.ones(3, np.float32))
    model.save(str(tmp_path / "start.mdl"))

    def some(count: int) -> Frames:
        pdfs = rng.integers(0, 3, count).astype(np.int32)
        features = rng.standard_normal((count, 4)).astype(np.float32)
        features[np.arange(count), pdfs] += 2
        return Frames(features, pdfs, np.array([0, count // 2, count]))

    return Setting(
        str(tmp_path / "start.mdl"), some(2000), some(500), 400, 1920, (0.01, 0.002), 16, 0.1
    )


def topo_file(directory: Path) -> Path:
    file = directory / "topo"
    states = "".join(
        f"<State> {n} <PdfClass> {n} <Transition> {n} 0.5 <Transition> {n + 1} 0.5 </State> "
        for n in range(3)
    )
    file.write_text(
        f"<Topology> <TopologyEntry> <ForPhones> 1 </ForPhones> {states} <State> 3 </State> "
        "</TopologyEntry> </Topology>\n"
    )
    return file


def trained(cell, setting, directory: Path):
    from trial import Trial

    directory.mkdir(exist_ok=True)
    return Trial(cell, setting, directory, CPU).run()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["plain", "simple", "online"])
def test_trainings_learn(method, setting, tmp_path):
    from cells import Cell

    for num_jobs in 1, 4:
        result, curve = trained(
            Cell(method, True, num_jobs, 160), setting, tmp_path / f"n{num_jobs}"
        )
        assert result.samples == 1920 and not result.error
        assert curve[0][1] == pytest.approx(np.log(1 / 3), abs=1e-3)
        assert result.held_out == curve[-1][1] > -0.9
        assert result.combined > -0.9 and 0 <= result.limited < 1


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same(setting, tmp_path, monkeypatch):
    from cells import Cell
    from trial import Trial

    cell = Cell("online", True, 4, 32, rate=0.25, outer="bmuf")
    whole = trained(cell, setting, tmp_path / "whole")
    monkeypatch.setattr("trial.SECONDS_BETWEEN_STATES", 0.0)
    place, iteration = tmp_path / "broken", Trial.iteration
    place.mkdir()

    def ends_after_five(self, x):
        if x == 5:
            raise KeyboardInterrupt
        iteration(self, x)

    monkeypatch.setattr(Trial, "iteration", ends_after_five)
    with pytest.raises(KeyboardInterrupt):
        Trial(cell, setting, place, CPU).run()
    monkeypatch.setattr(Trial, "iteration", iteration)
    trial = Trial(cell, setting, place, CPU)
    assert trial.state.iteration == 5
    again = trial.run()
    assert again[1] == whole[1]
    for name in "held_out", "combined", "trained", "limited":
        assert getattr(again[0], name) == getattr(whole[0], name)


def test_a_training_that_is_lost_says_so(setting, tmp_path):
    from cells import Cell

    result, curve = trained(Cell("plain", False, 1, 160, rate=1e38), setting, tmp_path / "lost")
    assert "finite" in result.error or "the objective function is" in result.error
    assert result.held_out is None and len(curve) >= 1


def test_iterations_are_whole(setting, tmp_path):
    from cells import Cell

    with pytest.raises(NgtrainError, match="1920 samples are no multiple of 4 times 100"):
        trained(Cell("plain", False, 4, 100), setting, tmp_path / "x")


# Synthesised frames -------------------------------------------------------------------------------

TINY = ["--hours=0.02", "--speakers=12", "--held-out-speakers=2", "--num-leaves=60"]


def test_thirds_of_phones_are_labelled():
    """Frames of 1 second, of a silence, an "a" of 3 seconds and a "b" of 6 that a pause ends."""
    from synthesise import label

    phones = [("_", 0), ("_", 1), ("?", 2), ("a", 2), ("b", 5), ("_", 11), ("_", 12)]
    numbers = {"_": 1}
    events = label(phones, 12, np.arange(12) + 0.5, numbers)
    assert numbers == {"_": 1, "a": 2, "b": 3}  # the "?" has no length
    assert events[:, 0].tolist() == [0, 2, 0, 1, 2, 0, 0, 1, 1, 2, 2, 1]
    assert events[:, 1:].tolist() == [
        *2 * [[0, 1, 2]], *3 * [[1, 2, 3]], *6 * [[2, 3, 1]], [3, 1, 0],
    ]  # fmt: skip


def test_voices_that_are_held_out_are_unheard():
    from synthesise import draw_casts

    casts = draw_casts(1200, 48, srand=0)
    assert {part: len(cast) for part, cast in casts.items()} == {
        "base": 200, "train": 1000, "held_out": 48,
    }  # fmt: skip
    everyone = [*casts["base"], *casts["train"]]
    assert len({(s.voice, s.pitch, s.rate) for s in everyone}) == len({s.seed for s in everyone})
    variants, held_out = (
        {speaker.voice.split("+")[1] for speaker in cast} for cast in (everyone, casts["held_out"])
    )
    assert len(variants) > 40 and len(held_out) > 15 and not variants & held_out


@pytest.fixture(scope="module")
def synthesised(run_program, tmp_path_factory) -> Path:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    directory = tmp_path_factory.mktemp("synthesised")
    run_program(HERE / "synthesise.py", *TINY, directory)
    return directory


@pytest.mark.slow
def test_labels_agree_with_the_sound(synthesised):
    """Vowels are loud, pauses are not, and fricatives lie between."""
    from frames import Frames

    frames = Frames.load(synthesised / "frames/train")
    hours = len(frames) / 360000
    assert 0.02 * 5 / 6 < hours < 0.03 and frames.starts[-1] == len(frames)
    tree = ContextDependency.load(str(synthesised / "tree/tree"))
    phones = [
        line.split()[0] for line in (synthesised / "tree/phones.txt").read_text().splitlines()
    ]

    def loudness(names: str) -> float:
        numbers = [1 + phones.index(name) for name in names.split()]
        pdfs = [pdf for n in numbers for state in range(3) for pdf in tree.pdfs_of(n, state)]
        return frames.features[np.isin(frames.pdfs, pdfs), 0].mean()

    assert loudness("_") + 1 < loudness("s f") < loudness("a E eI aI") - 5
    assert frames.pdfs.max() < tree.num_pdfs
    assert abs(frames.features.mean(axis=0)).max() < 1e-3  # of all speakers, so of each


@pytest.mark.slow
def test_the_same_frames_whatever_the_number_of_jobs(synthesised, run_program, tmp_path):
    run_program(HERE / "synthesise.py", *TINY, "--nj=3", tmp_path)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.suffix]
    assert len(files) == 11
    for file in files:
        assert (tmp_path / file).read_bytes() == (synthesised / file).read_bytes()


@pytest.mark.slow
def test_a_base_network_and_trainings_that_branch_from_it(synthesised, run_program, tmp_path):
    from table import read_curves, read_means, read_results

    (tmp_path / "frames").symlink_to(synthesised / "frames")
    layers = ["--pnorm-input-dim=60", "--pnorm-output-dim=20", "--minibatch-size=64"]
    base = tmp_path / "base.mdl"
    run_program(HERE / "base_network.py", *layers, "--samples=7200", synthesised, base)
    model = AcousticModel.load(str(base))
    assert model.network.left_context == 7 and len(model.network.updatable_components) == 4
    assert model.priors.sum() == pytest.approx(1)
    trained = ["--parts=paper", "--seeds=0", "--interval=512", "--samples=4096"]
    trained += ["--held-out-frames=500", "--minibatch-size=64"]
    run_program(HERE / "run.py", *trained, "--cells=online_*_n8_*", base, tmp_path)
    assert len(read_results(tmp_path / "trials.csv")) == 1
    run_program(HERE / "run.py", *trained, base, tmp_path)
    results = read_results(tmp_path / "trials.csv")
    assert [(r.cell.method, r.cell.num_jobs) for r in results] == [
        ("online", 8), ("plain", 1), ("online", 1), ("plain", 4), ("online", 4),
    ]  # fmt: skip
    for _ in range(2):  # the second time there is nothing left to do
        run_program(HERE / "mean_of_last.py", "--held-out-frames=500", tmp_path)
    means = read_means(tmp_path / "means.csv", "held_out")
    assert {cell.num_jobs for cell in means} == {1}  # others have kept one model, and have no mean
    for result in results:
        if result.cell.key in means:
            assert means[result.cell.key][0] == pytest.approx(result.held_out, abs=0.3)
    starts = {curve[0] for curve in read_curves(tmp_path / "curves.csv").values()}
    [(samples, log_prob)] = starts  # all branch from the same model
    assert samples == 0 and np.log(1 / model.num_pdfs) + 0.2 < log_prob < results[0].held_out


def test_frames_that_are_missing_are_named(run_program, tmp_path):
    failed = run_program(HERE / "run.py", "base.mdl", tmp_path, check=False)
    assert (
        b"frames/train has no frames: make_frames.py or synthesise.py makes them" in failed.stderr
    )


def test_cells_are_chosen_by_their_names(run_program, tmp_path):
    failed = run_program(HERE / "run.py", "--cells=bfgs_*", "base.mdl", tmp_path, check=False)
    assert b"there is none like this, but plain_limit_n1_i12800_r1_average_s0, say" in failed.stderr


def test_pytorch_computes_the_same_network(setting, tmp_path):
    torch = pytest.importorskip("torch")
    from peer_torch import Layers

    from nnet.model.propagation import Propagation

    model = AcousticModel.load(setting.model)
    rng = np.random.default_rng(0)
    for component in model.network.updatable_components:
        component.perturb(0.3, rng)
    model.save(str(tmp_path / "other.mdl"))
    layers = Layers(str(tmp_path / "other.mdl"), torch, "cpu")
    minibatch = setting.train.minibatch(np.arange(50), *layers.context)
    ours = Propagation(model.network).forward(minibatch.frames)
    with torch.no_grad():
        theirs = torch.softmax(layers(torch.tensor(minibatch.frames)), -1).numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_networks_of_pytorch_are_averaged(setting):
    pytest.importorskip("torch")
    from peer_torch import Peer, average

    jobs = [Peer(setting.model, "adamw", 0.01, 1.0, "cpu") for _ in range(2)]
    for which, job in enumerate(jobs):
        frames = setting.train.minibatch(np.arange(50) + 50 * which, *job.layers.context)
        job.step(frames, 1.0)
    before = [[p.detach().numpy().copy() for p in job.layers.parameters] for job in jobs]
    assert not np.array_equal(before[0][-2], before[1][-2])  # weights of the last layer
    average(jobs)
    for job in jobs:
        for parameter, *of_jobs in zip(job.layers.parameters, *before, strict=True):
            np.testing.assert_allclose(parameter.detach(), np.mean(of_jobs, axis=0), atol=1e-6)


def test_tables_in_the_guide_are_those_of_their_trainings():
    """What is committed under docs/ was written by report.py from the tables beside it."""
    for file in (HERE.parents[1] / "docs" / "convergence").glob("*/trials.csv"):
        with file.open(newline="") as lines:
            assert list(csv.DictReader(lines))
