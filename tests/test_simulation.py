"""The simulation of large trainings: its arithmetic by hand, and its chances by their theory."""

from __future__ import annotations

import csv
import io
import math
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nnet.drivers.training_schedule import Schedule
from nnet.errors import NgtrainError
from nnet.report.simulation import Luck, Sizes, makespan, simulate, traffic
from nnet.report.training_logs import read_training
from nnet.report.training_speeds import Speeds, measure
from steps.simulate_training import most_models

SPEEDS = Speeds(samples_per_s=100.0, start=2.0, average=0.5, average_per_job=0.25)
SIZES = Sizes(samples=1000.0, model_bytes=10.0, archive_bytes=50.0, bandwidth=20.0)
ALONE = Speeds(samples_per_s=1000.0, start=0.0, average=0.0, average_per_job=0.0)  # a job: 1 s
FREE = Sizes(samples=1000.0, model_bytes=0.0, archive_bytes=0.0, bandwidth=1.0)


# Undisturbed --------------------------------------------------------------------------------------


def test_iterations_take_what_their_parts_take():
    # Job: start 2, load 3 x 10/20, train 1000/100, store 3 x 10/20; average 0.5 + 3/4 + 4 x 10/20.
    outcome = simulate([3, 3], SPEEDS, SIZES, Luck(), 3)
    assert outcome.seconds == pytest.approx(2 * (2 + 1.5 + 10 + 1.5 + 0.5 + 0.75 + 2))
    assert outcome.jobs_seconds == pytest.approx(2 * 3 * 15)
    assert (outcome.failures, outcome.left_out) == (0, 0)


def test_jobs_wait_for_examples_that_the_network_does_not_bring():
    # Eight archives of 50 bytes at 20 bytes a second are slower than 1000 samples at 100 a second.
    outcome = simulate([8], SPEEDS, SIZES, Luck(), 8)
    assert outcome.seconds == pytest.approx(2 + 4 + 20 + 4 + 0.5 + 2 + 4.5)


def test_jobs_take_turns_on_fewer_workers():
    # Two at a time: start 2, load 1, train 10, store 1; three turns for five jobs.
    outcome = simulate([5], SPEEDS, SIZES, Luck(), 2)
    assert outcome.seconds == pytest.approx(3 * 14 + 0.5 + 1.25 + 3)
    assert makespan([5.0, 1.0, 1.0, 3.0], 2) == 5.0
    assert makespan([1.0, 1.0, 3.0], 2) == 4.0


def test_traffic_is_what_is_read_and_written():
    # Jobs: 7 x (2 models + 1 archive).  Averages: 7 + 2 models.  Diagnostics: 2 x 4 models.
    assert traffic([3, 4], SIZES) == (14 + 9 + 8) * 10 + 7 * 50


# Chances ------------------------------------------------------------------------------------------


def mean_seconds(num_jobs: int, luck: Luck, iterations: int = 20000) -> float:
    outcome = simulate([num_jobs] * iterations, ALONE, FREE, luck, num_jobs, seed=1)
    return outcome.seconds / iterations


def test_the_slower_of_two_jobs():
    # The mean of the larger of two lognormal numbers is 2 exp(s^2 / 2) Phi(s / sqrt(2)).
    spread = 0.5
    expected = 2 * math.exp(spread**2 / 2) * (1 + math.erf(spread / 2)) / 2
    assert mean_seconds(2, Luck(spread=spread)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("num_jobs", [1, 8, 64])
def test_one_slow_job_makes_all_wait(num_jobs):
    expected = 1 + 2 * (1 - 0.99**num_jobs)
    luck = Luck(slow_probability=0.01, slow_factor=3.0)
    assert mean_seconds(num_jobs, luck) == pytest.approx(expected, rel=0.02)


def test_failures_cost_what_was_done_since_the_start():
    # Tries of T = 1 s with failures at rate r take (exp(r T) - 1) / r on average until one is well.
    rate = 0.7
    luck = Luck(failures_per_hour=3600 * rate, max_retries=100)
    outcome = simulate([1] * 20000, ALONE, FREE, luck, 1, seed=2)
    assert outcome.seconds / 20000 == pytest.approx(math.expm1(rate) / rate, rel=0.02)
    assert outcome.failures / 20000 == pytest.approx(math.expm1(rate), rel=0.03)
    assert outcome.left_out == 0


def test_jobs_that_fail_too_often_are_left_out():
    rate, retries = 0.7, 2
    luck = Luck(failures_per_hour=3600 * rate, max_retries=retries)
    outcome = simulate([20000], ALONE, FREE, luck, 20000, seed=3)
    assert outcome.left_out / 20000 == pytest.approx((1 - math.exp(-rate)) ** 3, rel=0.05)


# Measured times -----------------------------------------------------------------------------------

START = datetime(2026, 11, 21, 12, 0, 0)


def write_training(dir: Path, num_jobs: list[int]) -> None:
    """Logs of jobs of 12 or 8 s, 4000 samples in 10 or 5 s; 2 s + 1 s for each job between them."""
    (dir / "log").mkdir(parents=True)
    now = START
    for x, count in enumerate(num_jobs):
        for n in range(1, count + 1):
            seconds, steps = ((8, 5), (12, 10))[n % 2]
            stamps = [
                f"{t:%a %b %d %H:%M:%S} UTC {t:%Y}" for t in (now, now + timedelta(0, seconds))
            ]
            (dir / f"log/train.{x}.{n}.log").write_text(
                f"# nnet-train-simple --learning-rate=0.1\n# Started at {stamps[0]}\n"
                "LOG Did backprop on 4000 examples, average log-prob per frame is -1\n"
                f"LOG Finished training, processed 4000 training examples in {steps}.00 seconds.\n"
                f"# Ended (code 0) at {stamps[1]}, elapsed time {seconds} seconds\n"
            )
        now += timedelta(seconds=12 + 2 + count)


def test_times_are_measured_in_the_second_half(tmp_path):
    write_training(tmp_path, [1, 1, 1, 1, 2, 2, 4, 4])
    speeds, spread = measure(read_training(tmp_path))
    assert speeds.samples_per_s == pytest.approx((400 + 800) / 2)
    assert speeds.start == pytest.approx((2 + 3) / 2)
    assert (speeds.average, speeds.average_per_job) == pytest.approx((2.0, 1.0))
    # Half of the jobs take twice as long: deviations of log(2)/2, with n - 1 degrees of freedom.
    assert spread == pytest.approx(math.log(2) / 2 * math.sqrt(12 / 8))


def test_what_a_constant_number_of_jobs_tells_of_averages(tmp_path):
    write_training(tmp_path, [2] * 6)
    speeds, _ = measure(read_training(tmp_path))
    assert (speeds.average, speeds.average_per_job) == pytest.approx((4.0, 0.0))


def test_a_training_may_be_running(tmp_path):
    write_training(tmp_path, [1, 1, 1, 1, 2, 2, 4, 4])
    log = tmp_path / "log/train.7.2.log"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    speeds, _ = measure(read_training(tmp_path))  # of iterations 4, 5 and 6
    assert speeds == Speeds(samples_per_s=600.0, start=2.5, average=4.0, average_per_job=0.0)


def test_a_training_that_has_just_begun_has_no_times(tmp_path):
    write_training(tmp_path, [1])
    with pytest.raises(NgtrainError, match="too few"):
        measure(read_training(tmp_path))


# The program --------------------------------------------------------------------------------------


@pytest.fixture
def table(run_program):
    """table(option, ...) is the CSV that the program prints: a dictionary for each row."""

    def run(*options) -> list[dict[str, str]]:
        result = run_program("simulate_training.py", "--format=csv", *options)
        return list(csv.DictReader(io.StringIO(result.stdout.decode())))

    return run


UNDISTURBED = ["--spread=0", "--slow-probability=0", "--failures-per-hour=0"]


@pytest.mark.slow
def test_fisher_on_one_job(table):
    [row] = table("--num-jobs=1", "--samples-per-second=1000", "--start-seconds=1",
                  "--bandwidth=1e9", *UNDISTURBED)  # fmt: skip
    # 576e6 / (8 x 400 000) + 1 archives, 6 epochs of 8 frames of each.
    archives = 181
    jobs = 6 * 8 * archives
    assert int(row["jobs"]) == int(row["iterations"]) == jobs
    samples, archive_bytes = 576e6 / (8 * archives), 80 * 576e6 / archives
    hours = jobs * (1 + samples / 1000 + 2 * 0.04 + 2 * 0.04) / 3600
    for kind in "undisturbed_h", "uneven_h", "failing_h":
        assert float(row[kind]) == pytest.approx(hours, rel=0.005)
    assert float(row["useful"]) == pytest.approx(100 * 6 * 576e6 / 1000 / 3600 / hours, rel=0.005)
    assert float(row["traffic_tb"]) == pytest.approx(
        jobs * (archive_bytes + 8 * 40e6) / 1e12, rel=0.005
    )


@pytest.mark.slow
def test_more_jobs_make_fewer_iterations_of_the_same_work(table):
    rows = table("--num-jobs=8 64 512", "--samples-per-second=1000", *UNDISTURBED)
    for row, count in zip(rows, (8, 64, 512), strict=True):
        mean_jobs = (count + 0.375 * count) / 2
        assert int(row["iterations"]) == int(6 * 8 * 181 / mean_jobs)
        assert int(row["jobs"]) == pytest.approx(6 * 8 * 181, rel=0.05)
        hours = int(row["iterations"]) * 576e6 / (8 * 181) / 1000 / 3600
        assert hours < float(row["undisturbed_h"]) < hours + int(row["iterations"]) * 40 / 3600


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table(table):
    options = ["--num-jobs=16 64", "--samples-per-second=1400", "--spread=0.2"]
    options += ["--failures-per-hour=0.5", "--num-trials=2"]
    first = table(*options)
    assert table(*options, "--srand=0") == first
    assert table(*options, "--srand=1") != first
    for row in first:
        assert float(row["undisturbed_h"]) < float(row["uneven_h"]) < float(row["failing_h"])
        assert float(row["failures"]) > 0


@pytest.mark.slow
def test_the_table_is_markdown_by_default(run_program):
    result = run_program("simulate_training.py", "--num-jobs=2 4", "--samples-per-second=1e5")
    lines = result.stdout.decode().splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["N", "---", "2", "4"]
    assert len({line.count("|") for line in lines}) == 1


def test_most_models_are_there_in_the_end():
    # 24 iterations with 2 jobs each: models 18 to 24 are combined, so the last iteration, which
    # makes model 24, has them, model 0, and those of its jobs.
    schedule = Schedule(
        num_epochs=6, num_archives=8, frames_per_eg=1, num_jobs_initial=2, num_jobs_final=2,
        initial_effective_lrate=0.01, final_effective_lrate=0.001, num_hidden_layers=2,
        add_layers_period=2, max_models_combine=20,
    )  # fmt: skip
    first = schedule.combination()[0][0]
    assert (schedule.num_iters, first) == (24, 18)
    assert most_models(schedule) == 1 + len(range(18, 25)) + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, reason",
    [
        ([], "--samples-per-second or --measured-in"),
        (["--samples-per-second=0"], "--samples-per-second=0: must be positive"),
        (["--samples-per-second=1", "--num-jobs=1 x"], "expected positive numbers of jobs"),
        (["--samples-per-second=1", "--spread=-1"], "--spread=-1: must be 0 or more"),
        (["--samples-per-second=1", "--slow-probability=2"], "between 0 and 1"),
        (["--samples-per-second=1", "--num-jobs=5000"], "5000 jobs: --num-jobs-final 5000 cannot"),
        (["--samples-per-second=1", "--num-workers=0"], "--num-workers=0: must be positive"),
        (["--measured-in=/nowhere"], "/nowhere: there is no such directory"),
    ],
)
def test_options_that_make_no_sense(run_program, options, reason):
    result = run_program("simulate_training.py", *options, check=False)
    assert result.returncode != 0 and not result.stdout
    assert reason in result.stderr.decode().splitlines()[-1]
