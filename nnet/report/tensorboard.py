"""The numbers of trainings as scalars of TensorBoard, in files that tensorboardX writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.report.history import TrainingLog
from nnet.report.numbers import changes, iterations, models, names_of
from nnet.report.training_logs import read_training

SUFFIX = ".ngtrain"
"""End of the names of files that are ours, and that a later run replaces."""


def write_scalars(dirs: Sequence[str | Path], into: str | Path) -> None:
    """Write a folder for each training; steps are iterations, and times those of the logs.

    Raises:
        NgtrainError: a directory has no training, or there is no tensorboardX.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise NgtrainError(
            f"scalars need tensorboardX ({error}): utils/setup_env.sh tensorboard"
        ) from None
    trainings = [read_training(dir) for dir in dirs]
    for name, training in zip(names_of(trainings), trainings, strict=True):
        folder = Path(into, name)
        for old in folder.glob(f"events.*{SUFFIX}"):
            old.unlink()
        starts = {i.number: i.start for i in training.iterations if i.start}
        with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
            for tag, x, value in scalars(training):
                start = starts.get(x, training.last_sign)
                writer.add_scalar(tag, value, x, walltime=start and start.timestamp())


def scalars(training: TrainingLog) -> Iterator[tuple[str, int, float]]:
    """List tags such as models/held-out_log-prob, the iteration, and the value."""
    for function in models, iterations:
        header, rows = function(training)
        for x, *values in rows:
            for name, value in zip(header[1:], values, strict=True):
                if isinstance(value, int | float) and x != "final":
                    yield f"{function.__name__}/{name.replace(' ', '_')}", x, value
    for x, layer, relative, *_ in changes(training).rows:
        if isfinite(relative):  # it is not where all parameters were zero before
            yield f"changes/{layer.replace(' ', '_')}", x, relative
