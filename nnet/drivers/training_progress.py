"""The account that a training gives of itself: how far it is, how good, what took the time."""

from __future__ import annotations

import math

from nnet.cli.progress import clock
from nnet.drivers.driver import log
from nnet.drivers.iteration_jobs import IterationJobs
from nnet.drivers.training_run import TrainingRun
from nnet.io.log_lines import SECONDS, STEPS_SECONDS
from nnet.report.training_logs import last_number, objective


class Progress:
    """The progress of a training whose iterations begin with the one of number `first`."""

    def __init__(self, training: TrainingRun, first: int):
        self.training = training
        self.first = first
        self.steps_s = 0.0  # seconds of gradient steps, of the slowest job of each iteration

    def report(self, jobs: IterationJobs) -> None:
        """Say in a line how far training is, how good, and how long it will take."""
        x, s, o = jobs.number, self.training.schedule, self.training.options
        logs = map(jobs.log, jobs.counted())
        self.steps_s += max(last_number(STEPS_SECONDS.pattern, file) or 0.0 for file in logs)
        objectives = jobs.objectives().values()
        count = f"{len(jobs.counted())} of {jobs.num_jobs}" if jobs.left_out else jobs.num_jobs
        done = s.num_archives_processed(x + 1) - s.num_archives_processed(self.first)
        to_do = s.num_archives_processed(s.num_iters) - s.num_archives_processed(x + 1)
        elapsed = self.training.seconds["iterations"]
        log.info(
            "iteration %d/%d, epoch %.1f/%g: lrate %.3g, %s jobs, train %.3f, valid %.3f; "
            "%s elapsed, %s left",
            *(x + 1, s.num_iters, s.epoch(x + 1), o.num_epochs, s.learning_rate(x)),
            *(count, sum(objectives) / len(objectives), self.held_out(x)),
            *(clock(elapsed), clock(elapsed * to_do / done)),
        )

    def status(self, x: int) -> str:
        """Say what a watcher wants to know while iteration x is running."""
        s, o, held_out = self.training.schedule, self.training.options, self.held_out(x)
        how_good = "" if math.isnan(held_out) else f", held-out {held_out:.3f}"
        return f"iteration {x + 1}/{s.num_iters}, epoch {s.epoch(x):.1f}/{o.num_epochs:g}{how_good}"

    def held_out(self, x: int) -> float:
        """Find the log-probability on held-out data of the latest model that has one, up to x."""
        found = (objective(self.training.dir, "valid", y) for y in range(x, -1, -1))
        return next((log_prob for log_prob in found if log_prob is not None), math.nan)

    def report_seconds(self) -> None:
        """Say in a line what the time went to, and how much of it was not for gradient steps."""
        seconds, num_iters = self.training.seconds, self.training.schedule.num_iters - self.first
        fixed = (seconds["iterations"] - self.steps_s) / max(num_iters, 1)
        parts = ", ".join(f"{what} {of_what:.1f}" for what, of_what in seconds.items())
        log.info(SECONDS.format, parts, self.steps_s, fixed)
