"""The history of a training in words and in the cells of tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from nnet.cli.progress import clock
from nnet.report.history import IterationLog, Position, Score, TrainingLog, WerLine

SUBSET_NAMES = {"valid": "held-out", "train": "training"}
NOTHING = "–"


def latest_score(training: TrainingLog, subset: str) -> tuple[Score | None, str]:
    """Return the score of the final model, else of the last that has one; and the model's name."""
    if subset in training.final_scores:
        return training.final_scores[subset], "final model"
    models = training.scores[subset]
    if not models:
        return None, ""
    return models[max(models)], f"model {max(models)}"


def best_word_errors(training: TrainingLog) -> WerLine | None:
    """Find the lowest rate, among those with a tuned setting if there are any."""
    tuned = [line for line in training.word_errors if line.file.endswith("tuned_wer")]
    return min(tuned or training.word_errors, key=lambda line: line.rate, default=None)


def minibatch_size(iteration: IterationLog) -> float | None:
    """Return the minibatch size of a job of an iteration."""
    return next((job.minibatch_size for job in iteration.jobs), None)


def mean_steps(iteration: IterationLog) -> float | None:
    """Average the seconds that gradient steps of a job took; None if one is not known."""
    steps = [job.steps_s for job in iteration.jobs]
    return None if None in steps else sum(steps) / len(steps)


OUTPUT = "output layer"


def layer_names(count: int) -> list[str]:
    """Name `count` components that are trained; new ones are inserted before the last."""
    return [*(f"layer {n}" for n in range(1, count)), OUTPUT]


def merged(iteration: IterationLog) -> str:
    """Say which jobs made the model."""
    if not iteration.merged:
        return NOTHING
    jobs = " ".join(map(str, iteration.merged))
    return f"average of {jobs}" if iteration.averages else f"best, {jobs}"


def position_cells(position: Position) -> list[str]:
    """Format samples, epochs and time."""
    epochs = NOTHING if position.epochs is None else f"{position.epochs:.2f}"
    return [str(position.samples), epochs, clock(position.seconds)]


def score_cells(scores: Iterable[Score | None]) -> list[str]:
    """Format log-probability and accuracy of each score."""
    return [cell(value) for score in scores for value in (score or (None, None))]


def change_cells(iteration: IterationLog) -> list[str]:
    """Format the change of each layer: relative, absolute, and of the objective."""
    change = iteration.change
    return [
        f"{relative:g} ({absolute:g}; {objective:g})"
        for relative, absolute, objective in zip(
            change.relative, change.absolute, change.objective, strict=True
        )
    ]


def spread(cells: list[str], count: int) -> list[str]:
    """Fill up a row that has fewer layers than others; its last cell is of the output layer."""
    return [*cells[:-1], *[NOTHING] * (count - len(cells)), cells[-1]]


def cell(value: float | None) -> str:
    """Format a number with six digits, as logs have them."""
    return NOTHING if value is None else f"{value:g}"


def time(when: datetime) -> str:
    """Format a time."""
    return f"{when:%Y-%m-%d %H:%M:%S}"


def thousands(count: int) -> str:
    """Format a large number."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(noun: str, numbers: Sequence[int]) -> str:
    """Enumerate things that have numbers."""
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
