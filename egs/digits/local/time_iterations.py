#!/usr/bin/env python3
"""Time what an outer iteration consists of, for the trainings of local/run_convergence.sh.

On a cluster the N jobs of an iteration run at the same time, so that an iteration takes as long as
one job and the average of N models.  Both are timed here, programs' starts included: the job once
for each method, by one thread; the average for each N.  Everything is done in turn, a number of
times, and the median counts.  Written to <dir>/times.csv, in seconds.
"""

import csv
import itertools
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from trials import METHODS, NONLINEARITIES

from nnet.cli import argument, log, option, program
from nnet.errors import NgtrainError
from nnet.io.streams import open_output

JOBS = [1, 2, 4, 8, 16]


def seconds(*command) -> float:
    """What a program takes.  Raises NgtrainError with its last words if it fails."""
    start = time.perf_counter()
    result = subprocess.run([*map(str, command)], check=False, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise NgtrainError(result.stderr.strip().rpartition("\n")[2])
    return time.perf_counter() - start


@program(
    "Usage:  local/time_iterations.py [options] <dir>\n e.g.:  local/time_iterations.py exp/fsdd"
)
@argument("dir")
@option("--repeats", type=int, default=7, help="How many times each is timed")
@option("--minibatch-size", type=int, default=128, help="That of the trainings")
def main(dir, repeats, minibatch_size):
    dir = Path(dir)
    models = {
        (nonlin, method): path
        for nonlin, method in itertools.product(NONLINEARITIES, METHODS)
        for path in sorted(dir.glob(f"{nonlin}_{method}_[0-9]*/final.mdl"))[:1]
    }
    if not models:
        raise NgtrainError(f"{dir}: no training has ended, there is no */final.mdl")
    job, average = {key: [] for key in models}, {key: [] for key in itertools.product(models, JOBS)}
    with tempfile.TemporaryDirectory() as scratch:
        for n in range(repeats):
            log.info("round %d of %d", n + 1, repeats)
            for key, model in models.items():
                train = [
                    "nnet-train-simple", "--use-gpu=no", "--num-threads=1", "--learning-rate=0.001",
                    f"--minibatch-size={minibatch_size}", model,
                    f"ark:{dir}/examples/egs/egs.1.ark", f"{scratch}/trained.mdl",
                ]  # fmt: skip
                job[key].append(seconds(*train))
                for count in JOBS:
                    results = [f"{scratch}/trained.mdl"] * count
                    elapsed = seconds("nnet-am-average", *results, f"{scratch}/averaged.mdl")
                    average[key, count].append(elapsed)
    with open_output(str(dir / "times.csv")) as file:
        rows = [["nonlin", "method", "num_jobs", "job_s", "average_s"]]
        rows += [
            [*key, count, f"{median(job[key]):.4f}", f"{median(average[key, count]):.4f}"]
            for key, count in itertools.product(models, JOBS)
        ]
        file.write("".join(",".join(map(str, row)) + "\n" for row in rows).encode())


def read_times(file: Path) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Seconds of a job and of an average, by nonlinearity, method and number of jobs."""
    with file.open(newline="") as lines:
        return {
            (row["nonlin"], row["method"], int(row["num_jobs"])): (
                float(row["job_s"]),
                float(row["average_s"]),
            )
            for row in csv.DictReader(lines)
        }


if __name__ == "__main__":
    main()
