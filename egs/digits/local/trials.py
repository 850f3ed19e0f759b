#!/usr/bin/env python3
"""The trainings of local/run_convergence.sh: which there are, how they are called and differ.

Printed, a line each: its name, and its options for steps/train_multisplice.py.  They come in parts:
of the grids, "pnorm" and "relu", each has three methods, and from one job to sixteen with as many
times the learning rate; in the sweeps, "alpha", "rank" and "lrate", that option is varied while the
others stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nnet.cli import option, program
from nnet.errors import NgtrainError

METHODS = {"none": "plain SGD", "simple": "simple NG-SGD", "online": "online NG-SGD"}
NONLINEARITIES = {"pnorm": "p-norm", "relu": "ReLU"}
SWEPT = {
    "lrate": "learning rate, of that in the grid",
    "alpha": "alpha",
    "rank": "rank, both sides",
}
"""What sweeps vary."""

PARTS = "pnorm alpha rank relu lrate"

INITIAL_LRATE, FINAL_LRATE = 0.01, 0.001  # effective: of the averaged model
ALPHA = 4.0  # in the grid, where the ranks are those of Kaldi, 20 for inputs and 80 for outputs
SWEEP_JOBS = 4
GRID_JOBS = "1 4 16 2 8"  # the farthest apart first


@dataclass(frozen=True)
class Trial:
    """A training.

    method: a key of METHODS; nonlin: one of NONLINEARITIES.
    swept: "" in the grid; else a key of SWEPT, which has `value`.  Of "lrate" that is the factor
        by which learning rates differ from those of the grid.
    """

    nonlin: str
    method: str
    num_jobs: int
    swept: str = ""
    value: float = 1.0

    @cached_property
    def name(self) -> str:
        name = f"{self.nonlin}_{self.method}_{self.num_jobs}"
        return f"{name}_{self.swept}{self.value:g}" if self.swept else name

    @cached_property
    def options(self) -> list[str]:
        """For steps/train_multisplice.py."""
        factor = self.value if self.swept == "lrate" else 1.0
        options = {
            "nonlin": self.nonlin,
            "preconditioning": self.method,
            "num-jobs-initial": self.num_jobs,
            "num-jobs-final": self.num_jobs,
            "initial-effective-lrate": f"{factor * INITIAL_LRATE:g}",
            "final-effective-lrate": f"{factor * FINAL_LRATE:g}",
            "stop-if-diverging": "false",  # plain SGD of several jobs does
        }
        if self.swept == "alpha":
            options["alpha"] = f"{self.value:g}"
        if self.swept == "rank":
            options |= {f"precondition-rank-{side}": f"{self.value:g}" for side in ("in", "out")}
        return [f"--{name}={value}" for name, value in options.items()]


def grid(nonlin: str, jobs: Sequence[int]) -> list[Trial]:
    """All methods with all numbers of jobs."""
    return [Trial(nonlin, method, n) for n in jobs for method in METHODS]


def sweep(option: str, values: list[float]) -> list[Trial]:
    """Of p-norm networks; of the learning rate also for plain SGD, to find one that suits it."""
    of = [("online", SWEEP_JOBS)]
    if option == "lrate":
        of += [("none", SWEEP_JOBS), ("none", 1)]
    return [Trial("pnorm", method, n, option, value) for value in values for method, n in of]


def trials(parts: Sequence[str], grid_jobs: Sequence[int], quick: bool) -> list[Trial]:
    """All of some PARTS, the grids with these numbers of jobs; or with `quick` a few of each."""
    if quick:
        of_part = {
            # One job takes longest: how near the simple method is to the online one, four show.
            "pnorm": [t for t in grid("pnorm", [1, 4]) if (t.method, t.num_jobs) != ("simple", 1)],
            "relu": [Trial("relu", "online", SWEEP_JOBS)],
            "alpha": sweep("alpha", [1.0]),
            "rank": sweep("rank", [5]),
            "lrate": [Trial("pnorm", "online", SWEEP_JOBS, "lrate", 0.5)],
        }
    else:
        of_part = {
            "pnorm": grid("pnorm", grid_jobs),
            "relu": grid("relu", grid_jobs),
            "alpha": sweep("alpha", [1.0, 2.0, 8.0, 16.0]),
            "rank": sweep("rank", [5, 10, 20, 40, 80]),
            "lrate": sweep("lrate", [0.25, 0.5, 2.0, 4.0]),
        }
    if unknown := set(parts) - of_part.keys():
        raise NgtrainError(f"there is no part {unknown.pop()}: parts are {', '.join(of_part)}")
    return [trial for part in parts for trial in of_part[part]]


@program("Usage:  local/trials.py [options]\n e.g.:  local/trials.py --quick=true")
@option("--parts", default=PARTS, help="Which parts, in this order")
@option("--grid-jobs", default=GRID_JOBS, help="Numbers of jobs in the grids, in this order")
@option("--quick", type=bool, default=False, help="Only a few of each")
def main(parts, grid_jobs, quick):
    for trial in trials(parts.split(), numbers(grid_jobs), quick):
        print(trial.name, *trial.options)


def numbers(text: str) -> list[int]:
    """Numbers of jobs.  Raises NgtrainError if they are not positive."""
    words = text.split()
    if not all(word.isdecimal() and int(word) for word in words):
        raise NgtrainError(f"--grid-jobs '{text}': expected positive numbers")
    return [int(word) for word in words]


if __name__ == "__main__":
    main()
