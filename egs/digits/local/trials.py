#!/usr/bin/env python3
"""The trainings of local/run_convergence.sh: which there are, how they are called and differ.

Printed, a line each: its name, and its options for steps/train_multisplice.py.  The first of them
are those without which there is no picture: three methods, and from one job to sixteen with as many
times the learning rate, for networks with p-norm.  Then follow the same for rectified linear units,
and sweeps: for four jobs, one option is varied while the others stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nnet.cli import option, program

METHODS = {"none": "plain SGD", "simple": "simple NG-SGD", "online": "online NG-SGD"}
NONLINEARITIES = {"pnorm": "p-norm", "relu": "ReLU"}
SWEPT = {
    "lrate": "learning rate, of that in the grid",
    "alpha": "alpha",
    "rank": "rank, both sides",
}
"""What sweeps vary."""

INITIAL_LRATE, FINAL_LRATE = 0.01, 0.001  # effective: of the averaged model
ALPHA = 4.0  # in the grid, where the ranks are those of Kaldi, 20 for inputs and 80 for outputs
SWEEP_JOBS = 4


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
        }
        if self.swept == "alpha":
            options["alpha"] = f"{self.value:g}"
        if self.swept == "rank":
            options |= {f"precondition-rank-{side}": f"{self.value:g}" for side in ("in", "out")}
        return [f"--{name}={value}" for name, value in options.items()]


def grid(nonlin: str, jobs: list[int]) -> list[Trial]:
    """All methods with all numbers of jobs."""
    return [Trial(nonlin, method, n) for n in jobs for method in METHODS]


def sweeps(alphas: list[float], ranks: list[int], lrates: list[float]) -> list[Trial]:
    """Of p-norm networks, away from the values that the grid has."""
    return [
        *(Trial("pnorm", "online", SWEEP_JOBS, "alpha", value) for value in alphas),
        *(Trial("pnorm", "online", SWEEP_JOBS, "rank", value) for value in ranks),
        *(
            Trial("pnorm", method, n, "lrate", value)
            for value in lrates
            for method, n in (("none", 1), ("none", SWEEP_JOBS), ("online", SWEEP_JOBS))
        ),
    ]


def trials(quick: bool) -> list[Trial]:
    """All of them, or with `quick` a few of every kind."""
    if quick:
        return grid("pnorm", [1, 4]) + grid("relu", [4]) + sweeps([1.0], [5], [0.5])
    return [
        *grid("pnorm", [1, 4, 16]),
        *grid("pnorm", [2, 8]),
        *grid("relu", [1, 4, 16]),
        *sweeps([1.0, 2.0, 8.0, 16.0], [5, 10, 20, 40, 80], [0.25, 0.5, 2.0, 4.0]),
        *grid("relu", [2, 8]),
    ]


@program("Usage:  local/trials.py [options]\n e.g.:  local/trials.py --quick=true")
@option("--quick", type=bool, default=False, help="Only a few")
def main(quick):
    for trial in trials(quick):
        print(trial.name, *trial.options)


if __name__ == "__main__":
    main()
