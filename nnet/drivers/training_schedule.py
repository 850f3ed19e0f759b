"""The schedule of parallel training: how many jobs an iteration has, on which data, how fast.

The arithmetic of Kaldi's egs/wsj/s5/steps/nnet2/train_multisplice_accel2.sh.  Every iteration runs
some jobs in parallel, from num_jobs_initial growing to num_jobs_final; each job trains on one frame
(of frames_per_eg) of the examples of one archive, and the iteration ends with one model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any


class ScheduleError(ValueError):
    """Options that do not go together; `problems` says how, in words for the user."""

    def __init__(self, problems: list[str]):
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Schedule:
    """Iterations are counted from 0; iteration x makes model x + 1 from model x.

    num_archives, frames_per_eg: what the egs directory says of itself.
    num_jobs_step: numbers of jobs from this one on are multiples of it.
    initial_effective_lrate, final_effective_lrate: of the averaged model; a job's is num_jobs
        times as much, because averaging divides the change that each job makes, over what block
        momentum, in the long run, multiplies it by.
    Raises ScheduleError where there is too little data for the layers or the jobs.
    """

    num_epochs: float
    num_archives: int
    frames_per_eg: int
    num_jobs_initial: int
    num_jobs_final: int
    initial_effective_lrate: float
    final_effective_lrate: float
    num_hidden_layers: int
    add_layers_period: int
    max_models_combine: int
    num_jobs_step: int = 1
    block_momentum: float = 0.0
    block_learning_rate: float = 1.0

    @classmethod
    def of(cls, options: Any, **given: float) -> Schedule:
        """Make a schedule of `given` attributes, and of options for all others."""
        names = [each.name for each in fields(cls) if each.name not in given]
        return cls(**given, **{name: getattr(options, name) for name in names})

    def __post_init__(self):
        for check in self._problems_of_numbers, self._problems_of_amounts:
            if problems := list(check()):  # wrong numbers cannot be counted with
                raise ScheduleError(problems)

    def _problems_of_numbers(self) -> Iterator[str]:
        """Find numbers that are wrong by themselves."""
        for name in "num_hidden_layers", "add_layers_period", "num_jobs_step", "max_models_combine":
            if getattr(self, name) < 1:
                yield f"--{name.replace('_', '-')} {getattr(self, name)}: must be positive"
        if not 1 <= self.num_jobs_initial <= self.num_jobs_final:
            most = f"--num-jobs-final {self.num_jobs_final}"
            initial = f"--num-jobs-initial {self.num_jobs_initial}"
            yield f"{initial} must be at least 1 and cannot exceed {most}"
        rates = self.initial_effective_lrate, self.final_effective_lrate
        if not all(0.0 < rate < math.inf for rate in rates):
            yield "effective learning rates must be positive numbers"
        if not 0.0 < self.num_epochs < math.inf:
            yield f"--num-epochs {self.num_epochs:g}: must be a positive number"

    def _problems_of_amounts(self) -> Iterator[str]:
        """Find what the data is too little for."""
        if self.num_jobs_final > self.num_archives_expanded:
            yield (
                f"--num-jobs-final {self.num_jobs_final} cannot exceed "
                f"{self.num_archives_expanded}, the number of archives times frames per example; "
                "use fewer jobs, or fewer --samples-per-iter"
            )
        if self.num_iters <= self.last_addition + 2 or self.halfway <= self.last_addition:
            yield (
                f"{self.num_epochs:g} epochs are {self.num_iters} iterations, too few to add "
                f"layers up to iteration {self.last_addition} and train them; use more epochs, "
                "fewer jobs, or fewer --samples-per-iter"
            )

    @property
    def num_archives_expanded(self) -> int:
        """Each frame of an archive's examples counts as an archive, and is about one job's work."""
        return self.num_archives * self.frames_per_eg

    @property
    def num_archives_to_process(self) -> float:
        return self.num_epochs * self.num_archives_expanded

    @property
    def num_iters(self) -> int:
        """Number of iterations, for the average number of jobs to see the data num_epochs times."""
        return int(2 * self.num_archives_to_process / (self.num_jobs_initial + self.num_jobs_final))

    def num_jobs(self, x: int) -> int:
        """Count the jobs of iteration x: more and more, by num_jobs_step once there are as many."""
        growth = self.num_jobs_final - self.num_jobs_initial
        jobs = self.num_jobs_initial + growth * x / self.num_iters
        step = self.num_jobs_step if jobs >= self.num_jobs_step else 1
        return int(0.5 + jobs / step) * step

    def num_archives_processed(self, x: int) -> int:
        """Count the jobs that ran before iteration x."""
        return sum(map(self.num_jobs, range(x)))

    def epoch(self, x: int) -> float:
        """Count the passes over the data made before iteration x."""
        return self.num_archives_processed(x) / self.num_archives_expanded

    def learning_rate(self, x: int) -> float:
        """Compute a job's learning rate on iteration x: the effective one decays exponentially."""
        initial, final = self.initial_effective_lrate, self.final_effective_lrate
        progress = self.num_archives_processed(x) / self.num_archives_to_process
        is_last = x + 1 >= self.num_iters
        effective = final if is_last else initial * math.exp(progress * math.log(final / initial))
        return effective * self.num_jobs(x) / (self.amplification if self.averages(x) else 1.0)

    @property
    def has_block_momentum(self) -> bool:
        return self.block_momentum != 0.0 or self.block_learning_rate != 1.0

    @property
    def amplification(self) -> float:
        """Divide how far steps with block momentum go, in the long run, by that of averages."""
        return self.block_learning_rate / (1.0 - self.block_momentum)

    def archives_and_frames(self, x: int) -> list[tuple[int, int]]:
        """List for each job on iteration x the archive, from 1, and the frame of examples, from 0.

        The frame changes more slowly than the archive, because other frames of the same archive
        have similar gradients and are better kept apart in time.
        """
        first = self.num_archives_processed(x)
        return [
            (k % self.num_archives + 1, k // self.num_archives % self.frames_per_eg)
            for k in range(first, first + self.num_jobs(x))
        ]

    def archives(self, x: int) -> set[int]:
        """Collect the numbers of the archives that iteration x reads."""
        return {archive for archive, _ in self.archives_and_frames(x)}

    def added_layer(self, x: int) -> int | None:
        """Find the hidden layer, from 1, that is added at the start of iteration x, if one is."""
        layer, remainder = divmod(x, self.add_layers_period)
        return layer if remainder == 0 and 1 <= layer < self.num_hidden_layers else None

    def averages(self, x: int) -> bool:
        """Tell whether iteration x ends with the average of its jobs' models, or with the best one.

        While the model changes fast, on iteration 0 and when a layer was just added, averages are
        worse than what is averaged; halving the minibatch keeps the update stable then.
        """
        return x > 0 and self.added_layer(x) is None

    @property
    def last_addition(self) -> int:
        """The iteration by which all layers are there and have been trained for a while."""
        return self.num_hidden_layers * self.add_layers_period

    def iteration_at(self, proportion: float) -> int:
        """Find the iteration at which a proportion of the data, between 0 and 1, has been seen.

        With j jobs at first, k in the end and n iterations, x iterations see x j + (k - j) x^2/(2n)
        archives; this solves for x.
        """
        j, k, n = self.num_jobs_initial, self.num_jobs_final, self.num_iters
        if j == k:
            return int(0.5 + n * proportion)
        mean_square = (1.0 - proportion) * j * j + proportion * k * k
        return int(0.5 + n * (math.sqrt(mean_square) - j) / (k - j))

    @property
    def halfway(self) -> int:
        """Where half the data has been seen; models before it are not worth combining."""
        return self.iteration_at(0.5)

    def combination(self) -> list[list[int]]:
        """Group the models that the final model combines: consecutive ones, to be averaged.

        They are those of the last epoch, or max_models_combine if that is more, but only of the
        last two thirds of the second half; in groups of one where max_models_combine allows it.
        """
        iters_per_epoch = self.num_archives_expanded // self.num_jobs_final
        most = max(1, (self.num_iters - self.halfway - 1) * 2 // 3)
        num_models = min(max(self.max_models_combine, iters_per_epoch), most)
        first = self.num_iters - num_models + 1
        num_groups = min(num_models, self.max_models_combine)
        bounds = [first + n * num_models // num_groups for n in range(num_groups + 1)]
        return [list(range(begin, end)) for begin, end in pairwise(bounds)]
