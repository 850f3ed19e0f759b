"""The jobs of an iteration: which have ended well, and of which its model is made.

A job has ended well when its model is there, which appears whole, with its checksum, and its log
tells its objective.  It is not run again, unless the disk damaged the model.  A job does not count
when

 - it failed for good, or what it made does not show up;
 - its model has NaN or infinity in it, or was damaged each time that it was run;
 - its objective, the log-probability per frame while it trained, is far below that of the middle
   one of the jobs (of an even number the better of the two): by more than FAR_BELOW, and by more
   than half of it.

That is a decision: it is written into the file left_out before the model is made, so that a driver
that goes on from there makes the same one.  A line has iteration, job and reason:

    7 3 exp/nnet/log/train.7.3.log: it was killed by SIGKILL, as when memory runs out
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from nnet.drivers.programs import output_of
from nnet.errors import NgtrainError
from nnet.io.checksums import check_file, checksum_file, remove_with_checksum
from nnet.io.log_lines import LEFT_OUT, OBJECTIVE
from nnet.io.text import write_lines
from nnet.launch.jobs import Failure
from nnet.launch.late_files import eventually
from nnet.report.training_logs import last_number, read_left_out

log = logging.getLogger("ngtrain")

FAR_BELOW = 1.0
"""In log-probability per frame.  What jobs reach on random parts of the data differs by some
hundredths, and by more only where all of a part is bad.  Kaldi's scripts for nnet3 leave out what
is as far below the best job (steps/libs/nnet3/train/common.py)."""


class IterationJobs:
    """The jobs 1 to `num_jobs` of iteration `number`, which makes model number + 1."""

    def __init__(self, dir: Path, number: int, num_jobs: int):
        self.dir = dir
        self.number = number
        self.num_jobs = num_jobs
        self.left_out = read_left_out(dir).get(number, {})  # why jobs do not count
        self.num_damaged: Counter[int] = Counter()  # how often the model of a job was

    def model(self, n: int) -> Path:
        return self.dir / f"{self.number + 1}.{n}.mdl"

    def log(self, n: int) -> Path:
        return self.dir / "log" / f"train.{self.number}.{n}.log"

    def objective(self, n: int) -> float | None:
        """Log-probability per frame of job n, as its log says; a finite number."""
        found = last_number(OBJECTIVE.pattern, self.log(n))
        return found if found is not None and math.isfinite(found) else None

    def ended_well(self, n: int) -> bool:
        model = self.model(n)
        is_there = model.exists() and checksum_file(model).exists()
        return is_there and self.objective(n) is not None

    def to_run(self) -> list[int]:
        """List the jobs that have yet to be run, and remove what they left."""
        jobs = [n for n in self.counted() if not self.ended_well(n)]
        for n in jobs:
            remove_with_checksum(self.model(n))
        return jobs

    def counted(self) -> list[int]:
        return [n for n in range(1, self.num_jobs + 1) if n not in self.left_out]

    def objectives(self) -> dict[int, float]:
        """Log-probability per frame of the jobs that count, as far as it is known."""
        known = {n: self.objective(n) for n in self.counted()}
        return {n: log_prob for n, log_prob in known.items() if log_prob is not None}

    @property
    def best(self) -> int:
        """The job that counts whose objective is highest."""
        objectives = self.objectives()
        return max(objectives, key=objectives.get)

    @property
    def middle_objective(self) -> float:
        """The objective of the job in the middle; of an even number the better of the two."""
        objectives = sorted(self.objectives().values()) or [math.nan]
        return objectives[len(objectives) // 2]

    def leave_out(self, n: int, reason: str) -> None:
        self.left_out[n] = reason
        log.warning("iteration %d: job %d does not count: %s", self.number, n, reason)

    def leave_out_failed(self, failures: list[Failure]) -> None:
        """Leave out jobs that failed before they ended well, or of which not all shows up."""
        reasons = {failure.log: failure.reason for failure in failures}
        for n in self.counted():
            file = str(self.log(n))
            if file in reasons:
                if not self.ended_well(n):
                    self.leave_out(n, f"{file}: {reasons[file]}")
            elif not eventually(lambda n=n: self.ended_well(n), self.dir):
                made = "the objective is not in its log"
                missing = made if self.model(n).exists() else f"there is no {self.model(n)}"
                self.leave_out(n, f"{file}: it ended well, but {missing}")

    def leave_out_far_below(self) -> None:
        """Leave out jobs whose objective is far below that of the others."""
        middle = self.middle_objective
        margin = max(FAR_BELOW, -middle / 2)
        for n, objective in self.objectives().items():
            if objective < middle - margin:
                below = f"more than {margin:.3g} below {middle:g}, that of the middle job"
                self.leave_out(n, f"{self.log(n)}: log-prob-per-frame {objective:g} is {below}")

    def discard_broken(self, max_retries: int) -> bool:
        """Remove models that cannot be averaged; says whether there are any.

        Those that were damaged after they were written are to be made again, up to `max_retries`
        times; jobs that made what cannot be averaged are left out.
        """
        broken = {n: reason for n in self.counted() if (reason := self.reason_against(n))}
        for n, reason in broken.items():
            is_damaged = error_of(check_file, self.model(n))
            if is_damaged and self.num_damaged[n] < max_retries:
                self.num_damaged[n] += 1
                log.warning("iteration %d: job %d: %s; starting it again", self.number, n, reason)
            else:
                self.leave_out(n, reason)
            remove_with_checksum(self.model(n))
        return bool(broken)

    def reason_against(self, n: int) -> str:
        """Say why the model of a job cannot be averaged; empty if it can."""
        average = "nnet-am-average", "--print-args=false", self.model(n), "/dev/null"
        return error_of(output_of, *average)

    def decide(self, min_jobs: int | None) -> None:
        """Write down which jobs do not count.

        min_jobs: how many must remain, or all if there are fewer; None for half of them.
        Raises NgtrainError if too few remain; nothing is written then: the next run tries again.
        """
        least = (self.num_jobs + 1) // 2 if min_jobs is None else min(min_jobs, self.num_jobs)
        count = len(self.counted())
        if count < max(1, least):
            n, reason = next(iter(self.left_out.items()))
            raise NgtrainError(
                f"iteration {self.number}: {count} of {self.num_jobs} jobs count, and "
                f"--min-jobs asks for {max(1, least)}; job {n}: {reason}"
            )
        decided = read_left_out(self.dir)
        if decided.get(self.number, {}) != self.left_out:
            decided[self.number] = self.left_out
            write_left_out(self.dir, decided)
            numbers = self.number, count, self.num_jobs
            log.warning("iteration %d: going on with %d of %d jobs", *numbers)


def error_of(check: Callable, *what) -> str:
    """Say why a check fails; empty if it does not."""
    try:
        check(*what)
    except NgtrainError as error:
        return str(error)
    return ""


def write_left_out(dir: Path, decided: dict[int, dict[int, str]]) -> None:
    rows = [(x, n, reason) for x, jobs in sorted(decided.items()) for n, reason in jobs.items()]
    write_lines(dir / "left_out", [LEFT_OUT.format % row for row in rows])


def forget_left_out(dir: Path, first: int) -> None:
    """Forget what was decided of iteration `first` and those after it."""
    decided = read_left_out(dir)
    if any(x >= first for x in decided):
        write_left_out(dir, {x: jobs for x, jobs in decided.items() if x < first})
