"""The numbers of trainings as tables: for the page, for CSV files beside it, for TensorBoard.

Values stand as they were read; what the logs do not tell is None.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nnet.io.streams import open_output
from nnet.report.history import TrainingLog
from nnet.report.training_logs import SUBSETS
from nnet.report.words import SUBSET_NAMES, cell, layer_names, merged

TIMES = ["training", "waiting", "averaging"]
SCORES = [f"{name} {what}" for name in SUBSET_NAMES.values() for what in ("log-prob", "acc.")]
UNKNOWN = (None, None)


class NumberTable(NamedTuple):
    """Rows of values under a header."""

    header: list[str]
    rows: list[list[Any]]


def models(training: TrainingLog) -> NumberTable:
    """Tabulate where each model stood when it was made, and its scores."""
    scores = [
        {**training.scores[subset], "final": training.final_scores.get(subset)}
        for subset in SUBSETS
    ]
    positions = [*enumerate(training.positions), ("final", training.positions[-1])]
    rows = [
        [model, *position, *(value for of in scores for value in of.get(model) or UNKNOWN)]
        for model, position in positions
        if any(of.get(model) for of in scores)
    ]
    return NumberTable(["model", "samples", "epochs", "time", *SCORES], rows)


def iterations(training: TrainingLog) -> NumberTable:
    """Tabulate what jobs had and made, and the seconds that parts of an iteration took."""
    rows = [
        [
            *[i.number, len(i.jobs), i.learning_rate, i.minibatch_size, i.samples],
            *[" ".join(cell(job.log_prob) for job in i.jobs), merged(i)],
            *(i.times or [None] * len(TIMES)),
            i.steps_s,
            i.limited,
        ]
        for i in training.iterations
    ]
    header = ["iteration", "jobs", "learning rate", "minibatch", "samples", "log-prob of each job"]
    return NumberTable([*header, "of jobs", *TIMES, "gradient steps", "limited steps"], rows)


def changes(training: TrainingLog) -> NumberTable:
    """Tabulate what each iteration changed in each layer that is trained."""
    rows = [
        [i.number, layer, *values]
        for i in training.iterations
        if i.change
        for layer, *values in zip(layer_names(len(i.change.relative)), *i.change, strict=True)
    ]
    return NumberTable(["iteration", "layer", "relative", "absolute", "objective"], rows)


def word_errors(training: TrainingLog) -> NumberTable:
    """Tabulate word error rates, in percent."""
    rows = [
        [
            *[line.rate, line.errors, line.words, line.insertions, line.deletions],
            *[line.substitutions, line.setting, training.dir / line.file],
        ]
        for line in training.word_errors
    ]
    return NumberTable(["WER", "errors", "words", "ins", "del", "sub", "setting", "file"], rows)


def confusions(training: TrainingLog) -> NumberTable:
    """Tabulate how often which word was recognised as which other."""
    rows = [
        [errors.folder, *confusion] for errors in training.details for confusion in errors.confused
    ]
    return NumberTable(["folder", "error", "word", "recognised as", "times"], rows)


def utterances(training: TrainingLog) -> NumberTable:
    """Tabulate the words of each utterance that were right and wrong."""
    rows = [
        [errors.folder, utterance.key, *utterance.counts]
        for errors in training.details
        for utterance in errors.utterances
    ]
    header = ["folder", "utterance", "correct", "substitutions", "insertions", "deletions"]
    return NumberTable(header, rows)


CSV_FILES: dict[str, Callable[[TrainingLog], NumberTable]] = {
    function.__name__: function
    for function in (models, iterations, changes, word_errors, confusions, utterances)
}


def write_csv(trainings: Sequence[TrainingLog], stem: str) -> list[str]:
    """Write the tables that are not empty as STEM.NAME.csv, a training after the other.

    Returns:
        The names of the files.
    """
    written = []
    for name, function in CSV_FILES.items():
        tables = list(map(function, trainings))
        if any(table.rows for table in tables):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["training", *tables[0].header])
            for training, table in zip(names_of(trainings), tables, strict=True):
                writer.writerows([training, *row] for row in table.rows)
            written.append(f"{stem}.{name}.csv")
            with open_output(written[-1]) as file:
                file.write(text.getvalue().encode(errors="backslashreplace"))
    return written


def names_of(trainings: Sequence[TrainingLog]) -> list[str]:
    """Name trainings by their directories, without the part that all have in common."""
    dirs = [os.path.abspath(training.dir) for training in trainings]
    common = os.path.commonpath([os.path.dirname(dir) for dir in dirs])
    return [os.path.relpath(dir, common) for dir in dirs]
