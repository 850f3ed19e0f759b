#!/usr/bin/env python3
"""Time training steps by one and by two threads, on a quiet machine and beside other programs.

The networks have about 0.1, 1 and 10 million parameters, the method is the online natural gradient.
All of one size take turns, in rounds, so that whatever else happens happens to all of them; then
again while --num-busy processes of lower priority compute.  The tables show the best and the median
round, in milliseconds per minibatch."""

import json as json_format
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import write_json
from train_step import Step, network_config, seconds

from nnet.cli import Choice, option, program
from nnet.errors import NgtrainError

SIZES = {
    "0.1 M": {
        "minibatch_size": 128,
        "dims": {
            "num_hidden_layers": 2, "pnorm_input_dim": 200, "pnorm_output_dim": 40,
            "num_pdfs": 500, "rank_in": 20, "rank_out": 80,
        },
    },
    "1 M": {
        "minibatch_size": 128,
        "dims": {
            "num_hidden_layers": 4, "pnorm_input_dim": 1000, "pnorm_output_dim": 125,
            "num_pdfs": 2000, "rank_in": 20, "rank_out": 80,
        },
    },
    "10 M": {
        "minibatch_size": 512,
        "dims": {
            "num_hidden_layers": 4, "pnorm_input_dim": 4000, "pnorm_output_dim": 400,
            "num_pdfs": 8000, "rank_in": 20, "rank_out": 80,
        },
    },
}  # fmt: skip
WARM_UP = 12  # minibatches: there are updates of the estimates with each of the first ten
BUSY = "while True: pass"


@program(
    """\
Usage:  benchmarks/busy.py [options]
 e.g.: benchmarks/busy.py --peers=torch --checkout=../before --json=busy.json"""
)
@option("--num-rounds", type=int, default=5, help="Rounds to be timed")
@option("--seconds-per-round", type=float, default=0.5, help="At least, and four minibatches")
@option("--num-busy", type=int, default=2, help="Processes that compute beside; 0: quiet only")
@option("--sizes", default=",".join(SIZES), help="Some of these, separated by commas")
@option("--threads", default="1,2", help="Numbers of threads")
@option("--checkout", default="", help="Another checkout of this project to compare with")
@option("--peers", type=Choice(["none", "torch"]), default="none", help="Time PyTorch, too")
@option("--json", default="", help="Write all figures to this file, too")
@option("--serve", default="", help="Be the process that times steps of this kind and size")
def main(num_rounds, seconds_per_round, num_busy, sizes, threads, checkout, peers, json, serve):
    if serve:
        _serve(serve)
        return
    unknown = set(sizes.split(",")) - set(SIZES)
    if unknown:
        raise NgtrainError(f"--sizes: there is no {unknown.pop()}: {', '.join(SIZES)}")
    kinds = {"this": "."} | ({"checkout": checkout} if checkout else {})
    kinds |= {"PyTorch plain": "."} if peers == "torch" else {}
    figures = {}
    for size in sizes.split(","):
        with ExitStack() as stack:
            workers = {
                f"{kind}, {count} threads": stack.enter_context(_worker(kind, root, size, count))
                for kind, root in kinds.items()
                for count in map(int, threads.split(","))
            }
            figures[size] = {"quiet": time_in_turns(workers, num_rounds, seconds_per_round)}
            if num_busy:
                with _busy(num_busy):
                    times = time_in_turns(workers, num_rounds, seconds_per_round)
                figures[size][f"beside {num_busy}"] = times
        print_table(size, figures[size])
    if json:
        write_json(json, seconds_per_minibatch=figures)


def time_in_turns(workers, num_rounds, seconds_per_round):
    """Seconds per minibatch, in each round, of each worker."""
    rounds = {name: [] for name in workers}
    for _ in range(num_rounds):
        for name, ask in workers.items():
            rounds[name].append(ask(seconds_per_round))
    return rounds


@contextmanager
def _worker(kind, root, size, num_threads):
    """A function that lets a process make steps for so many seconds, and returns what one took."""
    root = Path(root).resolve()
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, __file__, f"--num-threads={num_threads}", f"--serve={kind}/{size}"]
    with subprocess.Popen(
        [*command, "--print-args=false"],
        env=environment | {"PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(least_seconds):
            print(least_seconds, file=process.stdin, flush=True)
            return json_format.loads(process.stdout.readline())

        ask(0)
        yield ask
        process.stdin.close()


def _serve(what):
    """Answer, for every line with seconds, with what a minibatch took."""
    kind, _, size = what.partition("/")
    minibatch_size, dims = SIZES[size]["minibatch_size"], SIZES[size]["dims"]
    step = Step(network_config("online", **dims), minibatch_size)
    if kind.startswith("PyTorch"):
        from peers import TorchStep

        step = TorchStep(network_config("plain", **dims), step.minibatch)
    took = seconds(step, WARM_UP)
    for line in sys.stdin:
        count = max(4, round(float(line) / took / 4) * 4)
        took = seconds(step, count)
        print(json_format.dumps(took), flush=True)


@contextmanager
def _busy(count):
    """So many processes of lower priority that compute."""
    processes = [subprocess.Popen(["nice", sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def print_table(size, figures):
    columns = [f"{when}, {what}" for when in figures for what in ("best", "median")]
    print(f"{size + ' parameters':24}" + "".join(f"{column:>18}" for column in columns))
    for name in next(iter(figures.values())):
        cells = [f(times[name]) for times in figures.values() for f in (min, statistics.median)]
        print(f"{name:24}" + "".join(f"{1000 * cell:18.2f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
