"""What came of the trainings of local/run_convergence.sh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from time_iterations import read_times
from trials import Trial

from nnet.report.training_logs import read_training


@dataclass(frozen=True)
class Outcome:
    """Of a training that has ended.

    curve: (models, 2), epochs and held-out log-probability per frame of every model.
    iteration_s: seconds of an outer iteration with a machine for each job; None if not timed.
    held_out, trained: log-probability per frame of the final model, on held-out data and on some
        of the data that it was trained on.
    word_error_rate: of it, in %, with the acoustic scale and the penalty that suit other data.
    """

    trial: Trial
    curve: np.ndarray
    iteration_s: float | None
    held_out: float
    trained: float
    word_error_rate: float

    @property
    def clock(self) -> np.ndarray:
        """(models, 2): minutes and log-probability; empty where iterations were not timed."""
        if self.iteration_s is None:
            return np.empty((0, 2))
        minutes = np.arange(len(self.curve)) * self.iteration_s / 60
        return np.column_stack([minutes, self.curve[:, 1]])


Grid = dict[tuple[str, str, int], Outcome]
"""By nonlinearity, method and number of jobs."""


def read_outcomes(dir: Path, trials: list[Trial]) -> dict[str, Outcome]:
    """By name, of those trials that have ended in `dir`."""
    times = read_times(dir / "times.csv") if (dir / "times.csv").exists() else {}
    return {
        trial.name: read_outcome(trial, dir / trial.name, times)
        for trial in trials
        if (dir / trial.name / "decode_test" / "tuned_wer").exists()
    }


def read_outcome(trial: Trial, dir: Path, times: dict) -> Outcome:
    training = read_training(dir)
    time = times.get((trial.nonlin, trial.method, trial.num_jobs))
    wer = next(e.rate for e in training.word_errors if e.file == "decode_test/tuned_wer")
    scores = training.scores["valid"]
    return Outcome(
        trial=trial,
        curve=np.array([(training.positions[x].epochs, scores[x].log_prob) for x in scores]),
        iteration_s=sum(time) if time else None,
        held_out=training.final_scores["valid"].log_prob,
        trained=training.final_scores["train"].log_prob,
        word_error_rate=wer,
    )


def failure(dir: Path, number: int) -> str:
    """Why trial `number`, from 1, has no outcome: the last error in its log, if it had one."""
    file = dir / "log" / f"trial.{number}.log"
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    errors = [line for line in lines if "error: " in line]
    return errors[-1].partition("error: ")[2].replace(f"{dir}/", "") if errors else "has not ended"
