"""Realignments in the midst of a training: when, of which features, and what becomes of egs."""

from types import SimpleNamespace

import pytest

from nnet.drivers import iterations
from nnet.drivers.egs_dir import SUBSETS
from nnet.drivers.training_checks import TrainingChecks
from nnet.drivers.training_options import TrainingOptions
from nnet.drivers.training_run import TrainingRun
from nnet.drivers.training_schedule import Schedule

SCHEDULE = Schedule(
    num_epochs=8, num_archives=1, frames_per_eg=6, num_jobs_initial=2, num_jobs_final=4,
    initial_effective_lrate=0.01, final_effective_lrate=0.001, num_hidden_layers=3,
    add_layers_period=2, max_models_combine=4,
)  # fmt: skip
"""16 iterations."""


@pytest.mark.parametrize(
    ("stage", "left"), [(2, []), (3, []), (4, ["0.5"]), (6, ["0.5"]), (7, ["0.75"])]
)
def test_examples_in_use_are_not_made_again(tmp_path, stage, left):
    """Those that a realignment made before the stage; the first ones, --cleanup has removed."""
    for name in "egs_0.5", "egs_0.75":
        (tmp_path / name / "info").mkdir(parents=True)
        (tmp_path / name / "info/num_archives").write_text("1\n")
        for file in "egs.1.ark", *SUBSETS:
            (tmp_path / name / file).touch()
    training = TrainingRun(tmp_path, SimpleNamespace(stage=stage, egs_dir=""))
    training.realignments = {3: "0.5", 6: "0.75"}
    iterations.forget_iterations(training, stage)
    assert [path.parent.parent.name for path in tmp_path.glob("*/info/num_archives")] == [
        f"egs_{time}" for time in left
    ]
    assert training.egs_are_there == bool(left)


def test_realignments_that_no_iteration_begins_with():
    times = "0.5 0.51 0.99"
    checks = SimpleNamespace(options=SimpleNamespace(realign_times=times))
    assert list(TrainingChecks.unheeded_realignments(checks, SCHEDULE)) == [
        "--realign-times: 0.5 and 0.51 are both iteration 9",
        "--realign-times: 0.99 is after the last of 16 iterations",
    ]


def test_labels_of_a_realignment_that_are_gone(tmp_path):
    def problems(stage):
        options = SimpleNamespace(realign_times="0.5 0.25", stage=stage)
        training = SimpleNamespace(dir=tmp_path)
        checks = SimpleNamespace(options=options, training=training)
        return list(TrainingChecks.lost_labels(checks, SCHEDULE))

    assert problems(None) == problems(5) == []
    for stage, time, x in (17, "0.5", 9), (6, "0.25", 5):
        (problem,) = problems(stage)
        assert problem.startswith(f"--stage {stage}: the examples in {tmp_path}/egs_{time} are")
        assert f"--stage {x} does the realignment" in problem
    (tmp_path / "egs_0.25/info").mkdir(parents=True)
    for file in "info/num_archives", "egs.1.ark", *SUBSETS:
        (tmp_path / "egs_0.25" / file).write_text("1\n")
    assert problems(6) == []


def test_realignment_sees_the_features_of_the_training(tmp_path, monkeypatch):
    """Adapted by the transforms beside the alignments, though no option says where they are."""
    ali, said = tmp_path / "ali", []
    ali.mkdir()
    for name in "final.mat", "trans.1", "num_jobs":
        (ali / name).write_text("1\n")
    monkeypatch.setattr(iterations, "adjust_priors", lambda *_: None)
    monkeypatch.setattr(iterations, "run_step", lambda *words: said.append(list(words)))
    options = TrainingOptions(data="data", lang="lang", alidir=str(ali))
    training = TrainingRun(tmp_path / "nnet", options)
    training.realignments = {3: "0.5"}
    iterations.Iterations.relabel(SimpleNamespace(training=training), 3, ali, ali)
    align, relabel = said
    assert (align[0], relabel[0]) == ("align.py", "relabel_egs2.py")
    assert align[align.index("--feat-type") :][:4] == ["--feat-type", "lda", "--transform-dir", ali]
