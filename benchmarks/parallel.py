#!/usr/bin/env python3
"""Whole trainings by several numbers of jobs, beside what steps/simulate_training.py tells of them.

The first number of jobs is the one to measure on: the simulation takes the speed of a job, its
start and the time between iterations from the logs of that training, and tells how long the
iterations of the others take, on as many workers as there are processors.  Each job has one thread.
Rounds repeat all of that, to show how much times vary.

Data directories name files relative to where they are used: start this from there."""

import csv
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import machine, measure, write_json

from nnet.cli import argument, option, program
from nnet.drivers.driver import read_integer
from nnet.report.training_logs import read_training

STEPS = Path(__file__).resolve().parent.parent / "steps"
NUM_EPOCHS, NUM_LAYERS, SAMPLES = 8, 2, 15000
OPTIONS = (
    f"--num-epochs {NUM_EPOCHS} --num-hidden-layers {NUM_LAYERS} --add-layers-period 1 "
    f"--num-threads 1 --samples-per-iter {SAMPLES} --minibatch-size 128 --pnorm-input-dim 2000 "
    "--pnorm-output-dim 400 --splice-indexes 'layer0/-4:-3:-2:-1:0:1:2:3:4' "
    "--egs-opts '--num-utts-subset 60' --num-jobs-compute-prior 2"
)


@program(
    """\
Usage:  benchmarks/parallel.py [options] <data> <lang> <ali-dir>
 e.g.: benchmarks/parallel.py --json=parallel.json data/train data/lang exp/tri2_ali"""
)
@argument("data")
@argument("lang")
@argument("ali_dir")
@option("--num-jobs", default="1 2 4", help="Numbers of jobs, the first one to measure on")
@option("--num-rounds", type=int, default=2, help="How often to do it all")
@option("--options", default="", help="More options of the training, such as of its network")
@option("--json", default="", help="Write all figures to this file, too")
def main(data, lang, ali_dir, num_jobs, num_rounds, options, json):
    places = [Path(path).resolve() for path in (data, lang, ali_dir)]
    counts, rounds = [int(count) for count in num_jobs.split()], []
    print(f"{'round':>5}{'jobs':>6}{'measured':>12}{'processor':>12}{'simulated':>12}")
    for number in range(1, num_rounds + 1):
        with TemporaryDirectory() as directory:
            exps = {count: Path(directory, str(count)) for count in counts}
            measured = {count: train(count, options, places, exp) for count, exp in exps.items()}
            simulated = simulate(counts, exps[counts[0]])
        rounds.append({"measured_s": measured, "simulated_s": simulated})
        for count, (seconds, processor_s) in measured.items():
            row = f"{number:5}{count:6}{seconds:10.1f} s{processor_s:10.1f} s"
            print(f"{row}{simulated[count]:10.1f} s", flush=True)
    if json:
        write_json(json, options=f"{OPTIONS} {options}", rounds=rounds)


def train(count, options, places, exp):
    """Seconds that the iterations of a training by so many jobs take; processor seconds of all."""
    jobs = ["--num-jobs-initial", count, "--num-jobs-final", count]
    command = [
        STEPS / "train_multisplice.py",
        *shlex.split(f"{OPTIONS} {options}"),
        *jobs,
        *places,
        exp,
    ]
    cost = measure(command)
    first, *_, last = read_training(exp).iterations
    return (last.merge.end - first.start).total_seconds(), cost.cpu_s


def simulate(counts, exp):
    """Seconds of the iterations by each number of jobs, from the times of one training."""
    first, info = read_training(exp), exp / "egs/info"
    frames = sum(iteration.samples for iteration in first.iterations) / NUM_EPOCHS
    options = {
        "num-jobs": " ".join(map(str, counts)),
        "num-workers": machine()["cores"],
        "initial-share": 1,
        "measured-in": exp,
        "num-frames": frames,
        "num-epochs": NUM_EPOCHS,
        "samples-per-iter": SAMPLES,
        "frames-per-eg": read_integer(info / "frames_per_eg"),
        "num-hidden-layers": NUM_LAYERS,
        "add-layers-period": 1,
        "bandwidth": 1e12,  # files are on this machine: that time is in what was measured
        "slow-probability": 0,
        "failures-per-hour": 0,
        "format": "csv",
    }
    command = [STEPS / "simulate_training.py", *(f"--{k}={v}" for k, v in options.items())]
    with open(exp / "simulated.csv", "w") as output:
        measure(command, stdout=output)
    with open(exp / "simulated.csv") as table:
        return {
            int(row["num_jobs"]): 3600 * float(row["uneven_h"]) for row in csv.DictReader(table)
        }


if __name__ == "__main__":
    main()
