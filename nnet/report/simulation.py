"""A simulation of training by parallel jobs: time, lost work, network traffic.

Iteration by iteration, N jobs load the model from the file server, train on an archive of examples
each and store their models there; when the last of them has ended, their average is made, with
which the next iteration begins (arXiv 1410.7455, section 2).  With the symbols

    M, A  bytes of a model and of an archive       N  jobs of the iteration
    B     bytes per second of the file server      n  of these, as many as run at the same time
    S     samples per second of a job              s  samples of a job

an undisturbed job takes  start + n M / B + max(s / S, n A / B) + n M / B  seconds, examples being
read while they are trained on, and the average  average + N average_per_job + (N + 1) M / B.

Machines differ from one another and from moment to moment: s / S is multiplied by a number drawn
for each job, exp(spread z) with z ~ N(0, 1), now and then times slow_factor.  And machines fail:
what a job has done is lost, and it starts again, at most max_retries times; a job that fails once
more is left out of the average.  How well the network learns is not simulated.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnet.report.training_speeds import Speeds


@dataclass(frozen=True)
class Sizes:
    """The sizes of a training.

    Attributes:
        samples: frames of a job.
        model_bytes, archive_bytes: of a model, and of an archive of examples.
        bandwidth: of the file server, which all jobs share, in bytes per second.
    """

    samples: float
    model_bytes: float
    archive_bytes: float
    bandwidth: float


@dataclass(frozen=True)
class Luck:
    """The differences between jobs, and their failures.

    Attributes:
        spread: standard deviation of the logarithm of a job's time.
        slow_probability: that a job takes `slow_factor` times as long.
        failures_per_hour: of a running job.
        max_retries: of a job.
    """

    spread: float = 0.0
    slow_probability: float = 0.0
    slow_factor: float = 1.0
    failures_per_hour: float = 0.0
    max_retries: int = 0


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation.

    Attributes:
        seconds: from the first job to the last average.
        jobs_seconds: of all jobs together.
        failures: how often a job failed.
        left_out: jobs that failed once too often.
    """

    seconds: float
    jobs_seconds: float
    failures: int
    left_out: int


def simulate(
    num_jobs: Sequence[int],
    speeds: Speeds,
    sizes: Sizes,
    luck: Luck,
    num_workers: int,
    seed: int | Sequence[int] = 0,
) -> Outcome:
    """Simulate a training.

    Args:
        num_jobs: of each iteration.
        num_workers: how many jobs can run at the same time.
    """
    rng = np.random.default_rng(seed)
    jobs = np.asarray(num_jobs)
    together = np.repeat(np.minimum(jobs, num_workers), jobs)  # an element for each job of all
    transfer = together / sizes.bandwidth
    fixed = speeds.start + 2 * transfer * sizes.model_bytes
    reading = transfer * sizes.archive_bytes
    seconds, pending = np.zeros(len(together)), np.arange(len(together))
    failures = 0
    for _ in range(luck.max_retries + 1):
        training = sizes.samples / speeds.samples_per_s * slowness(luck, len(pending), rng)
        needed = fixed[pending] + np.maximum(training, reading[pending])
        fails_after = times_to_failure(luck, len(pending), rng)
        seconds[pending] += np.minimum(needed, fails_after)
        pending = pending[fails_after < needed]
        failures += len(pending)
    ends = np.cumsum(jobs)
    last_ends = [
        makespan(seconds[end - number : end], num_workers)
        for number, end in zip(num_jobs, ends, strict=True)
    ]
    averages = speeds.average + jobs * speeds.average_per_job
    averages += (jobs + 1) * sizes.model_bytes / sizes.bandwidth
    return Outcome(
        seconds=float(np.sum(last_ends) + np.sum(averages)),
        jobs_seconds=float(seconds.sum()),
        failures=failures,
        left_out=len(pending),
    )


def slowness(luck: Luck, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw factors by which `number` jobs are slower than the median one."""
    factor = np.exp(luck.spread * rng.standard_normal(number))
    return factor * np.where(rng.random(number) < luck.slow_probability, luck.slow_factor, 1.0)


def times_to_failure(luck: Luck, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the seconds after which each of `number` jobs would fail."""
    hours = rng.standard_exponential(number)
    with np.errstate(divide="ignore"):
        return 3600 * hours / np.float64(luck.failures_per_hour)


def makespan(seconds: Sequence[float], num_workers: int) -> float:
    """Compute when the last job ends if each takes its turn on the worker that is free first."""
    if len(seconds) <= num_workers:
        return max(seconds)
    ends = [0.0] * num_workers
    for job in seconds:
        heapq.heapreplace(ends, ends[0] + job)
    return max(ends)


def traffic(num_jobs: Sequence[int], sizes: Sizes) -> float:
    """Count the bytes that jobs, averages and diagnostics move from and to the file server.

    A job reads a model and an archive, and writes a model; an average reads those of all jobs and
    writes one.  Diagnostics of each model read it twice to evaluate it on two sets, and a third
    time, beside the one before, to compare the two.
    """
    jobs, iterations = sum(num_jobs), len(num_jobs)
    models = 2 * jobs + (jobs + iterations) + 4 * iterations
    return models * sizes.model_bytes + jobs * sizes.archive_bytes
