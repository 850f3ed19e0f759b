"""The history of a training in words and in the cells of tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nnet.report.history import IterationLog, Score, TrainingLog, WerLine

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


def cell(value: object) -> str:
    """Format a value; a number with six digits, as logs have them."""
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def time(when: datetime) -> str:
    """Format a time."""
    return f"{when:%Y-%m-%d %H:%M:%S}"


def thousands(count: int) -> str:
    """Format a large number."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(noun: str, numbers: Sequence[int]) -> str:
    """Enumerate things that have numbers."""
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
