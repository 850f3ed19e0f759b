#!/usr/bin/env python3
"""Tell what a large training would take, by simulation from measured times.

The table on standard output has a row for each number of jobs: the time that all iterations take
if nothing goes wrong, with jobs that differ in speed, and with jobs that fail as well; how much of
the workers' time is for gradients; what goes over the network and lies on disk.  The schedule of
iterations is that of steps/train_multisplice.py, and the defaults are those of egs/fisher.

Measured are --samples-per-second, --start-seconds, --average-seconds and its part that grows with
the number of jobs, and --spread; --measured-in takes those that are not given from the logs of a
training.  nnet/report/simulation.py says how times follow from them.  How well a network learns
from so many jobs is not simulated.
"""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from nnet.drivers.driver import Choice, driver, flag, log, option
from nnet.drivers.training_schedule import Schedule, ScheduleError
from nnet.errors import NgtrainError

if TYPE_CHECKING:
    from nnet.report.simulation import Luck, Outcome
    from nnet.report.training_speeds import Speeds


@driver(
    "Usage:  steps/simulate_training.py [options] > <table>\n"
    " e.g.:  steps/simulate_training.py --samples-per-second 1400 --num-jobs '8 64 512'\n"
    "   or:  steps/simulate_training.py --measured-in exp/nnet --num-frames 576e6"
)
@option("--num-jobs", "1 2 4 8 16 32 64 128 256 512", "Jobs at the end of training")
@option("--initial-share", 0.375, "Jobs at the start, as a share of those")
@option("--num-workers", None, "Jobs that can run at the same time (default: all)", type=int)
@option("--num-frames", 576e6, "Frames of training data")
@option("--num-epochs", 6.0, "Passes over the data")
@option("--samples-per-iter", 400000, "Frames per job and iteration")
@option("--frames-per-eg", 8, "Labelled frames per example on disk")
@option("--num-hidden-layers", 4, "Hidden layers in the end")
@option("--add-layers-period", 2, "Iterations between additions of layers")
@option("--max-models-combine", 20, "Models that are combined at the end")
@option("--model-bytes", 40e6, "Of a model: 4 for each parameter")
@option("--bytes-per-frame", 80.0, "Of examples, for each labelled frame")
@option("--bandwidth", 1.25e9, "Of the file server, in bytes per second")
@option("--measured-in", "", "A training directory to take measured times from")
@option("--samples-per-second", None, "Frames per second that a job trains on", type=float)
@option("--start-seconds", None, "Of a job, beside training", type=float)
@option("--average-seconds", None, "Between iterations, whatever the number of jobs", type=float)
@option("--average-seconds-per-job", None, "Between iterations, for each job", type=float)
@option("--spread", None, "Standard deviation of the logarithm of jobs' times", type=float)
@option("--slow-probability", 0.01, "That a job is much slower")
@option("--slow-factor", 3.0, "By how much that is")
@option("--failures-per-hour", 0.01, "Of a running job")
@option("--max-retries", 2, "How often a job that fails starts again")
@option("--num-trials", 10, "Simulations for each row, to be averaged")
@option("--srand", 0, "Seed of what is drawn")
@option("--format", "markdown", "Of the table", type=Choice(["markdown", "csv"]))
def main(**options):
    from nnet.report.simulation import Luck

    o = SimpleNamespace(**options)
    check(o)
    speeds, spread = measured_times(o)
    luck = Luck(spread, o.slow_probability, o.slow_factor, o.failures_per_hour, o.max_retries)
    write_table([simulate_row(count, speeds, luck, o) for count in o.num_jobs], o.format)


POSITIVE = ["num_frames", "samples_per_iter", "frames_per_eg", "bandwidth", "slow_factor"]
NOT_NEGATIVE = ["model_bytes", "bytes_per_frame", "failures_per_hour", "max_retries"]
MEASURED = {
    "samples_per_second": "samples_per_s", "start_seconds": "start",
    "average_seconds": "average", "average_seconds_per_job": "average_per_job",
}  # fmt: skip
"""Options for what is measured, and the fields of Speeds that they are."""


def check(o: SimpleNamespace) -> None:
    """Make numbers of --num-jobs.  Raises NgtrainError where an option makes no sense."""
    if not re.fullmatch(r" *[1-9]\d*( +[1-9]\d*)* *", o.num_jobs):
        raise NgtrainError(f"--num-jobs '{o.num_jobs}': expected positive numbers of jobs")
    o.num_jobs = [int(count) for count in o.num_jobs.split()]
    bounds = dict.fromkeys(POSITIVE, "positive") | dict.fromkeys(NOT_NEGATIVE, "0 or more")
    bounds |= dict.fromkeys([*MEASURED, "spread"], "0 or more")
    bounds |= dict.fromkeys(["num_trials", "num_workers", "samples_per_second"], "positive")
    for name, bound in bounds.items():
        value = getattr(o, name)
        if value is not None and not (value > 0 or (value == 0 and bound == "0 or more")):
            raise NgtrainError(f"{flag(name)}={value:g}: must be {bound}")
    for name in "initial_share", "slow_probability":
        if not 0 <= getattr(o, name) <= 1:
            raise NgtrainError(f"{flag(name)}: must be between 0 and 1")


def measured_times(o: SimpleNamespace) -> tuple[Speeds, float]:
    """Find the measured times and the spread of those of jobs: in a directory, but for options."""
    from nnet.report.training_logs import read_training
    from nnet.report.training_speeds import Speeds, measure

    speeds, spread = Speeds(0.0, 0.0, 0.0, 0.0), 0.0
    if o.measured_in:
        speeds, spread = measure(read_training(o.measured_in))
    elif o.samples_per_second is None:
        raise NgtrainError("--samples-per-second or --measured-in must say how fast a job is")
    given = {field: getattr(o, name) for name, field in MEASURED.items()}
    speeds = replace(speeds, **{f: value for f, value in given.items() if value is not None})
    spread = spread if o.spread is None else o.spread
    log.info(
        "a job trains on %.0f frames a second (spread %.3f) and takes %.2f s beside that; "
        "%.2f s + %.3f s for each job between iterations",
        *(speeds.samples_per_s, spread, speeds.start, speeds.average, speeds.average_per_job),
    )
    return speeds, spread


Cell = tuple[str, str, float]
"""A cell of the table: name and title of its column, and the number."""


def simulate_row(count: int, speeds: Speeds, luck: Luck, o: SimpleNamespace) -> list[Cell]:
    """Simulate a training whose last iteration has `count` jobs."""
    from statistics import mean

    from nnet.report.simulation import Luck, Sizes, simulate, traffic

    num_archives = int(o.num_frames // (o.frames_per_eg * o.samples_per_iter)) + 1  # get_egs2.py
    schedule = make_schedule(count, num_archives, o)
    num_jobs = [schedule.num_jobs(x) for x in range(schedule.num_iters)]
    samples = o.num_frames / (num_archives * o.frames_per_eg)
    egs_bytes = o.num_frames * o.bytes_per_frame
    sizes = Sizes(samples, o.model_bytes, egs_bytes / num_archives, o.bandwidth)
    workers = o.num_workers or count

    def trials(luck: Luck) -> list[Outcome]:
        seeds = [(o.srand, trial) for trial in range(o.num_trials)]
        return [simulate(num_jobs, speeds, sizes, luck, workers, seed) for seed in seeds]

    [undisturbed, *_] = trials(Luck())
    uneven = trials(replace(luck, failures_per_hour=0.0))
    failing = trials(luck)
    hours = mean(outcome.seconds for outcome in failing) / 3600
    gradients = sum(num_jobs) * samples / speeds.samples_per_s / 3600
    reserved = min(mean(num_jobs), workers)
    return [
        ("num_jobs", "N", count),
        ("iterations", "iterations", schedule.num_iters),
        ("jobs", "jobs", sum(num_jobs)),
        ("undisturbed_h", "hours, undisturbed", undisturbed.seconds / 3600),
        ("uneven_h", "hours, uneven jobs", mean(outcome.seconds for outcome in uneven) / 3600),
        ("failing_h", "hours, failures too", hours),
        ("useful", "% for gradients", 100 * gradients / (reserved * hours)),
        ("failures", "failures", mean(outcome.failures for outcome in failing)),
        ("left_out", "left out", mean(outcome.left_out for outcome in failing)),
        ("traffic_tb", "traffic, TB", traffic(num_jobs, sizes) / 1e12),
        ("disk_gb", "disk, GB", (egs_bytes + most_models(schedule) * o.model_bytes) / 1e9),
    ]


def make_schedule(count: int, num_archives: int, o: SimpleNamespace) -> Schedule:
    """Plan as the driver would; learning rates take no time, and are those of egs/fisher."""
    rates = {"initial_effective_lrate": 0.01, "final_effective_lrate": 0.001}
    rates |= {"block_momentum": 0.0, "block_learning_rate": 1.0}
    initial = max(1, round(o.initial_share * count))
    try:
        return Schedule.of(
            o, num_archives=num_archives, num_jobs_initial=initial, num_jobs_final=count,
            num_jobs_step=1, **rates,
        )  # fmt: skip
    except ScheduleError as error:
        raise NgtrainError(f"{count} jobs: {error}") from None


def most_models(schedule: Schedule) -> int:
    """Count the models on disk at once, at most: of iterations, and of the jobs of one.

    The driver keeps every hundredth model, those that will be combined, and the latest ones.
    """
    first_to_combine = schedule.combination()[0][0]

    def present(x: int) -> int:
        """Count the models that are there while model x + 1 is made."""
        first = max(0, min(x - 1, first_to_combine))
        return len(range(0, first, 100)) + len(range(first, x + 2)) + schedule.num_jobs(x)

    return max(map(present, range(schedule.num_iters)))


def write_table(rows: list[list[Cell]], format: str) -> None:
    names, titles, _ = zip(*rows[0], strict=True)
    values = [[value for _, _, value in row] for row in rows]
    if format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *values])
        return
    for line in [titles, ["---"] * len(titles), *(map(shown, row) for row in values)]:
        print(f"| {' | '.join(line)} |")


def shown(value: float) -> str:
    """Write a whole number, or three digits."""
    return str(value) if isinstance(value, int) else f"{value:#.3g}".rstrip(".")


if __name__ == "__main__":
    main()
