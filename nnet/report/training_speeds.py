"""The speeds of a training, measured in its logs: the start of a simulation of larger ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import nnls

from nnet.errors import NgtrainError
from nnet.report.history import IterationLog, TrainingLog


@dataclass(frozen=True)
class Speeds:
    """The measured speeds of jobs and averages; all times in seconds.

    Attributes:
        samples_per_s: frames that a job trains on.
        start: of a job, beside training, such as starting the program and loading the model.
        average, average_per_job: from the end of the last job to the start of the next iteration,
            a fixed part and one for each job's model.
    """

    samples_per_s: float
    start: float
    average: float
    average_per_job: float


def measure(training: TrainingLog) -> tuple[Speeds, float]:
    """Measure the speeds of a training, and the spread of its jobs' times (as in Luck).

    The second half of its iterations counts, when the network should have all of its layers, and of
    these the ones whose jobs have all ended well.  The training may still be running, and should
    not have been interrupted.

    Raises:
        NgtrainError: these are too few.
    """
    iterations = [i for i in training.iterations[len(training.iterations) // 2 :] if is_whole(i)]
    if len(iterations) < 2:
        raise NgtrainError(f"{training.dir}: it has too few whole iterations to measure times on")
    jobs = [job for iteration in iterations for job in iteration.jobs]
    average, average_per_job = measure_average(iterations)
    starts = [job.span.seconds - job.steps_s for job in jobs]
    speeds = Speeds(
        samples_per_s=float(np.median([job.samples / job.steps_s for job in jobs])),
        start=max(0.0, float(np.mean(starts))),
        average=average,
        average_per_job=average_per_job,
    )
    return speeds, measure_spread(iterations)


def is_whole(iteration: IterationLog) -> bool:
    """True if all jobs have ended, and logged their speed."""
    return bool(iteration.times) and all(job.samples and job.steps_s for job in iteration.jobs)


def measure_average(iterations: Sequence[IterationLog]) -> tuple[float, float]:
    """Fit the seconds between iterations by least squares: a fixed part, and one for each job."""
    pairs = [(a, b) for a, b in pairwise(iterations) if b.number == a.number + 1]
    numbers = [[1.0, len(before.jobs)] for before, _ in pairs]
    seconds = [
        (after.start - max(job.span.end for job in before.jobs)).total_seconds()
        for before, after in pairs
    ]
    if len({number for _, number in numbers}) <= 1:  # which does not tell one from the other
        return max(0.0, float(np.mean(seconds or [0.0]))), 0.0
    (fixed, for_each), _ = nnls(np.array(numbers), np.maximum(seconds, 0.0))
    return float(fixed), float(for_each)


def measure_spread(iterations: Sequence[IterationLog]) -> float:
    """Estimate the standard deviation of the logarithm of a job's time, within iterations."""
    squares, degrees = 0.0, 0
    for iteration in iterations:
        times = np.log([job.steps_s / job.samples for job in iteration.jobs])
        squares += float(((times - times.mean()) ** 2).sum())
        degrees += len(times) - 1
    return math.sqrt(squares / degrees) if degrees else 0.0
