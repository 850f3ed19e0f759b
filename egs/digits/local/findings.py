"""What the paper found (arXiv 1410.7455, section 6), and whether it holds for some trainings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from figures import Sweep
from outcomes import Grid
from trials import METHODS, NONLINEARITIES

CLOSE = 0.03
"""Log-probabilities per frame that differ by no more are alike."""


def findings(grid: Grid, sweeps: dict[str, Sweep]) -> str:
    """In Markdown; a finding for which a training is missing is left out."""
    parts = []
    for nonlin, name in NONLINEARITIES.items():
        of_nonlin = {(m, n): o for (of, m, n), o in sorted(grid.items()) if of == nonlin}
        if {("none", 1), ("online", 1)} <= of_nonlin.keys():
            parts.append(f"**{name}**\n\n" + "\n".join(Findings(of_nonlin).lines()))
    if "lrate" in sweeps:
        parts.append(best_learning_rates(sweeps["lrate"]))
    return "\n\n".join(parts)


class Findings:
    """About the trainings of one kind of network, by method and number of jobs."""

    def __init__(self, outcomes: dict):
        self.outcomes = outcomes
        self.final = {key: outcome.held_out for key, outcome in outcomes.items()}

    def lines(self) -> Iterator[str]:
        """Each finding, whether it holds, and the numbers that say so."""
        gains = self.between("online", "none")
        yield verdict(
            all(gain > CLOSE for gain in gains.values()),
            "NG-SGD is ahead of plain SGD for every N",
            f"online minus plain: {listed(gains)}",
        )
        if few := {n: loss for n, loss in self.from_one_job("online").items() if n <= 4}:
            yield verdict(
                all(abs(loss) <= CLOSE for loss in few.values()),
                "With online NG-SGD and N up to 4 it does not matter how many jobs share the work",
                f"final models, minus that of N = 1: {listed(few)}; curves over the second half, "
                f"the same: {listed({n: self.distance(n) for n in few})}",
            )
        if losses := self.from_one_job("none"):
            yield verdict(
                all(loss < -CLOSE for loss in losses.values()),
                "Plain SGD, which has no limit on the change, does not stand N times the rate",
                f"plain SGD minus that of N = 1: {listed(losses)}",
            )
        if apart := self.between("simple", "online"):
            yield verdict(
                all(abs(difference) <= CLOSE for difference in apart.values()),
                "Simple and online NG-SGD converge alike",
                f"simple minus online: {listed(apart)}",
            )
        if (plain_s := self.seconds("none")) and (online_s := self.seconds("online")):
            percent = 100 * (online_s / plain_s - 1)
            yield verdict(
                10 <= percent <= 25,
                "Online NG-SGD takes 10 to 25 % more time than plain SGD",
                f"a job of {plain_s:.2f} s takes {percent:.0f} % longer",
            )

    def between(self, method: str, other: str) -> dict[int, float]:
        """By N, how much better the final models of a method are than those of another."""
        return {
            n: value - self.final[other, n]
            for (of, n), value in self.final.items()
            if of == method and (other, n) in self.final
        }

    def from_one_job(self, method: str) -> dict[int, float]:
        """By N > 1, how much better the final model is than that of one job."""
        return {
            n: value - self.final[method, 1]
            for (of, n), value in self.final.items()
            if of == method and n > 1
        }

    def distance(self, n: int) -> float:
        """Of the curve of online NG-SGD with n jobs from that with one, after the same data.

        The mean over the models that n jobs made in the second half of training.
        """
        epochs, log_probs = self.outcomes["online", n].curve.T
        later = epochs >= epochs[-1] / 2
        of_one_job = np.interp(epochs, *self.outcomes["online", 1].curve.T)
        return float(np.mean((log_probs - of_one_job)[later]))

    def seconds(self, method: str) -> float | None:
        """Of an iteration of one job."""
        return self.outcomes[method, 1].iteration_s


def best_learning_rates(sweep: Sweep) -> str:
    """Of each method the best of all learning rates tried."""
    best = {key: max(points, key=lambda point: point[1].held_out) for key, points in sweep.items()}
    return "**Each with the learning rate that suits it best** (p-norm): " + "; ".join(
        f"{METHODS[method]}, N = {n}: {outcome.held_out:.3f} with {factor:g} times that of the grid"
        for (method, n), (factor, outcome) in best.items()
    )


def verdict(holds: bool, finding: str, numbers: str) -> str:
    return f"- {finding}: **{'holds' if holds else 'does not hold'}** ({numbers})."


def listed(by_jobs: dict[int, float]) -> str:
    return ", ".join(f"{value:+.3f} for N = {n}" for n, value in by_jobs.items())
