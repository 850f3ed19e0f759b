"""The paper's experiments on digits: their trainings, and what is found from their results."""

from pathlib import Path

import numpy as np
import pytest

from nnet.errors import NgtrainError

LOCAL = Path(__file__).parents[1] / "egs" / "digits" / "local"


@pytest.fixture(autouse=True)
def local(monkeypatch):
    monkeypatch.syspath_prepend(LOCAL)


def outcome(method: str, n: int, held_out: float, nonlin: str = "pnorm", iteration_s=None):
    """Of a training whose curve rises in a straight line to its final value."""
    from outcomes import Outcome
    from trials import Trial

    epochs = np.arange(0, 4.01, 0.1 * n)
    curve = np.column_stack([epochs, held_out - (4 - epochs)])
    return Outcome(Trial(nonlin, method, n), curve, iteration_s, held_out, -0.5, 5.0)


def grid_of(*outcomes):
    return {(o.trial.nonlin, o.trial.method, o.trial.num_jobs): o for o in outcomes}


def found(grid, sweeps=None) -> dict[str, str]:
    """By the beginning of each finding, its line."""
    from findings import findings

    lines = findings(grid, sweeps or {}).splitlines()
    return {line[2:].split(": **")[0]: line for line in lines if line.startswith("- ")}


def test_trials_have_different_names_and_options():
    from trials import GRID_JOBS, METHODS, NONLINEARITIES, PARTS, numbers, trials

    for quick in False, True:
        all_trials = trials(PARTS.split(), numbers(GRID_JOBS), quick)
        assert len({trial.name for trial in all_trials}) == len(all_trials)
        assert len({tuple(trial.options) for trial in all_trials}) == len(all_trials)
    grid = {(t.nonlin, t.method, t.num_jobs) for t in trials(["pnorm", "relu"], [1, 4], False)}
    assert grid == {(x, m, n) for x in NONLINEARITIES for m in METHODS for n in (1, 4)}


def test_numbers_of_jobs():
    from trials import GRID_JOBS, numbers

    assert sorted(numbers(GRID_JOBS)) == [1, 2, 4, 8, 16]
    for text in "1 x", "0 4", "-1":
        with pytest.raises(NgtrainError, match="expected positive numbers"):
            numbers(text)


def test_learning_rate_sweep_changes_both_ends():
    from trials import Trial

    options = Trial("pnorm", "none", 4, "lrate", 0.25).options
    assert "--initial-effective-lrate=0.0025" in options
    assert "--final-effective-lrate=0.00025" in options


def test_findings_that_hold():
    lines = found(
        grid_of(
            outcome("none", 1, -1.0, iteration_s=1.0),
            outcome("none", 4, -2.0),
            outcome("simple", 1, -0.81),
            outcome("online", 1, -0.80, iteration_s=1.2),
            outcome("online", 4, -0.82),
        )
    )
    assert len(lines) == 5
    assert all("**holds**" in line for line in lines.values())
    assert "-0.020 for N = 4" in lines[next(key for key in lines if "N up to 4" in key)]
    assert "20 % longer" in lines["Online NG-SGD takes 10 to 25 % more time than plain SGD"]


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        (("online", 4, -1.99), "NG-SGD is ahead of plain SGD for every N"),
        (("online", 4, -0.84), "With online NG-SGD and N up to 4"),
        (("none", 4, -1.01), "Plain SGD, which has no limit"),
        (("simple", 1, -0.9), "Simple and online"),
    ],
)
def test_a_finding_that_does_not_hold(changed, finding):
    grid = grid_of(
        outcome("none", 1, -1.0),
        outcome("none", 4, -2.0),
        outcome("simple", 1, -0.81),
        outcome("online", 1, -0.80),
        outcome("online", 4, -0.81),
        outcome(*changed),
    )
    lines = found(grid)
    for key, line in lines.items():
        if key.startswith(finding):
            assert "**does not hold**" in line
            break
    else:
        pytest.fail(f"{finding} was not judged")


def test_curves_are_compared_after_the_same_data():
    from findings import Findings

    faster = outcome("online", 4, -0.8)
    faster.curve[:, 1] += 0.5
    outcomes = {("online", 1): outcome("online", 1, -0.8), ("online", 4): faster}
    assert Findings(outcomes).distance(4) == pytest.approx(0.5)


def test_simulated_time_is_iterations_times_seconds():
    clock = outcome("online", 4, -0.8, iteration_s=30.0).clock
    assert clock[:, 0] == pytest.approx(0.5 * np.arange(11))
    assert len(outcome("online", 4, -0.8).clock) == 0


@pytest.mark.slow
def test_pictures_have_their_numbers_beside_them(tmp_path):
    pytest.importorskip("matplotlib")
    from figures import draw_curves, draw_sweeps

    outcomes = [outcome("none", 1, -1.0), outcome("online", 4, -0.8, "relu")]
    draw_curves(outcomes, "curve", "epochs", tmp_path / "figure1")
    rows = (tmp_path / "figure1.csv").read_text().splitlines()
    assert rows[0] == "nonlin,method,num_jobs,epochs,held_out_log_prob"
    assert len(rows) == 1 + sum(len(o.curve) for o in outcomes)
    assert rows[-1] == "relu,online,4,4,-0.80000"
    points = [(0.5, outcomes[0]), (1.0, outcomes[0])]
    draw_sweeps({"lrate": {("none", 1): points}}, tmp_path / "sweeps")
    assert len((tmp_path / "sweeps.csv").read_text().splitlines()) == 3
    for name in "figure1.png", "sweeps.png":
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_failure_is_told_in_its_own_words(tmp_path):
    from outcomes import failure

    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "trial.3.log").write_text(
        f"steps/train_multisplice.py: error: {tmp_path}/pnorm_none_16/3.1.mdl: has NaN\n# Ended\n"
    )
    assert failure(tmp_path, 3) == "pnorm_none_16/3.1.mdl: has NaN"
    assert failure(tmp_path, 4) == "has not ended"
