"""One training of the experiment, in one process: its jobs run one after the other.

It branches from a trained network of full depth, so that every iteration averages.  Iteration x
takes the next N I frames of a random order, I for each of its N jobs; they start from the same
network, with new estimates of Fisher matrices as jobs of the driver do, and are averaged.  The
learning rate decays exponentially with the samples seen; that of an iteration is what it would be
in its middle.  Few long iterations therefore have the same rate as many short ones in the geometric
mean only: where it decays by ten, the last of 24 has 5 % more than the final rate, the last of 6
21 % more, and a single one three times as much, all the time.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from cells import Cell
from frames import Frames, spread
from table import Result

from nnet.errors import NgtrainError
from nnet.io.text import write_lines
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.natural_gradient.simple import UNIT_ALPHA
from nnet.training.averaging import average_networks
from nnet.training.block_momentum import BlockMomentum
from nnet.training.combination import combine
from nnet.training.evaluation import evaluate
from nnet.training.objective import Totals
from nnet.training.preconditioning import switch_preconditioning
from nnet.training.train import train

log = logging.getLogger("ngtrain")

ALPHA = 4.0
MOST_COMBINED = 8
COMBINATION_FRAMES, TRAINING_FRAMES = 4096, 10240
EVALUATION_SIZE = 1024
SECONDS_BETWEEN_STATES = 30.0


@dataclass(frozen=True)
class Setting:
    """What all trainings have in common.

    Attributes:
        model: the file of the model that they branch from.
        train, held_out: frames, those held out being of other speakers.
        num_held_out: how many of the latter models are judged on.
        samples: those that a training sees.
        rates: the effective learning rate at the start and at the end.
        max_change: the limit on the change of a layer by a minibatch, over the minibatch size.
        num_points: of a curve.
    """

    model: str
    train: Frames
    held_out: Frames
    num_held_out: int
    samples: int
    rates: tuple[float, float]
    minibatch_size: int
    max_change: float
    num_points: int = 12

    def check(self, cell: Cell) -> None:
        """Raise NgtrainError unless a training divides into whole iterations."""
        if self.samples % (cell.num_jobs * cell.interval):
            raise NgtrainError(
                f"{cell.name}: {self.samples} samples are no multiple of "
                f"{cell.num_jobs} times {cell.interval}, those of an iteration"
            )
        if self.samples > len(self.train):
            raise NgtrainError(f"there are {len(self.train)} frames, fewer than {self.samples}")


@dataclass
class State:
    """How far a training is; `model` and `momentum` are beside it in files."""

    iteration: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)
    num_limited: int = 0
    num_steps: int = 0
    cpu_s: float = 0.0
    running: float = math.nan

    def save(self, dir: Path) -> None:
        write_lines(dir / "state.json", [json.dumps(asdict(self))])

    @classmethod
    def load(cls, dir: Path) -> State:
        file = dir / "state.json"
        state = cls(**json.loads(file.read_text())) if file.exists() else cls()
        state.curve = [(samples, held_out) for samples, held_out in state.curve]
        return state


class Trial:
    """The training of a cell in its directory, where it goes on if it has been interrupted."""

    def __init__(self, cell: Cell, setting: Setting, dir: Path, device):
        setting.check(cell)
        self.cell, self.setting, self.dir, self.device = cell, setting, dir, device
        self.num_iterations = setting.samples // (cell.num_jobs * cell.interval)
        rng = np.random.default_rng(cell.seed)
        self.order = rng.permutation(len(setting.train))[: setting.samples]
        self.state = State.load(dir)
        x = self.state.iteration
        self.model = AcousticModel.load(str(self.file(x)) if x else setting.model, device)
        self.network = self.model.network
        switch_method(self.network, cell, setting)  # to the last bit: files round the limit
        momentum = dir / f"momentum.{x}.mdl"
        delta = AcousticModel.load(str(momentum), device).network if momentum.exists() else None
        self.block_momentum = BlockMomentum(*cell.momentum, delta=delta)
        self.context = self.network.left_context, self.network.right_context

    def file(self, x: int) -> Path:
        """Name the model that iteration x starts from."""
        return self.dir / f"{x}.mdl"

    def run(self) -> tuple[Result, list[tuple[int, float]]]:
        """Train to the end, or until numbers are not finite; return what came of it.

        Raises:
            NgtrainError: the model does not fit the frames.
        """
        with logging_to(self.dir / "train.log"):
            if not self.state.curve:
                self.state.curve.append((0, self.judge(self.network).log_prob_per_frame))
            try:
                self.iterate()
                return self.result(), self.state.curve
            except NgtrainError as error:
                samples = self.samples_after(self.state.iteration)
                return Result(self.cell, samples, error=str(error)), self.state.curve

    def iterate(self) -> None:
        """Do the iterations that are left."""
        saved = time.monotonic()
        for x in range(self.state.iteration, self.num_iterations):
            self.iteration(x)
            self.state.iteration = x + 1
            if self.is_point(x + 1):
                held_out = self.judge(self.network).log_prob_per_frame
                self.state.curve.append((self.samples_after(x + 1), held_out))
            if x + 1 in self.to_combine() or time.monotonic() - saved > SECONDS_BETWEEN_STATES:
                self.save(x + 1)
                saved = time.monotonic()

    def iteration(self, x: int) -> None:
        """Train N networks from the one there is, and step towards their average."""
        total = Totals()
        networks = (self.job(x, n, total) for n in range(self.cell.num_jobs))
        weights = np.full(self.cell.num_jobs, 1 / self.cell.num_jobs)
        start = time.process_time()
        average = average_networks(networks, weights)
        is_plain = self.cell.outer == "average"
        self.network = average if is_plain else self.block_momentum.step(self.network, average)
        self.state.cpu_s += time.process_time() - start
        self.state.num_limited += total.num_limited
        self.state.num_steps += total.num_minibatches * len(self.network.updatable_components)
        self.state.running = total.log_prob_per_frame

    def job(self, x: int, n: int, total: Totals) -> Network:
        """Return what job n of iteration x makes of a copy of the network."""
        cell, setting = self.cell, self.setting
        network = self.network.copy()
        network.move_to(self.device)  # which makes new preconditioners
        network.zero_statistics()
        progress = (x + 0.5) / self.num_iterations
        first, last = setting.rates
        effective = cell.rate * first * (last / first) ** progress
        network.set_learning_rate(effective * cell.num_jobs)
        block = self.order[self.samples_after(x) : self.samples_after(x + 1)]
        minibatches = setting.train.minibatches(
            block[n :: cell.num_jobs], setting.minibatch_size, self.context, travel=True
        )
        total.add(train(network, minibatches, minibatches_per_phase=1000))
        return network

    def samples_after(self, x: int) -> int:
        return x * self.cell.num_jobs * self.cell.interval

    def is_point(self, x: int) -> bool:
        """Tell whether the model that iteration x starts from is one of the curve's."""
        points = [y * self.setting.num_points // self.num_iterations for y in (x - 1, x)]
        return points[0] != points[1]

    def to_combine(self) -> list[int]:
        """List the models that are combined: of the last third, MOST_COMBINED or fewer."""
        last = self.num_iterations
        count = max(1, min(MOST_COMBINED, last // 3))
        return sorted({last - n * (last // 3) // count for n in range(count)} | {last})

    def save(self, x: int) -> None:
        """Write the model, and then where we are; remove what is no longer needed."""
        self.model.network = self.network
        self.model.save(str(self.file(x)))
        if self.block_momentum.delta is not None:
            self.model.network = self.block_momentum.delta
            self.model.save(str(self.dir / f"momentum.{x}.mdl"))
            self.model.network = self.network
        self.state.save(self.dir)
        for file in self.dir.glob("*.mdl"):
            number = int(file.name.split(".")[-2])
            if number < x and (file.name.startswith("momentum") or number not in self.to_combine()):
                file.unlink()

    # Results --------------------------------------------------------------------------------------

    def judge(self, network: Network) -> Totals:
        frames = spread(len(self.setting.held_out), self.setting.num_held_out)
        return evaluated(network, self.setting.held_out, frames)

    def combined(self) -> Network:
        """Weigh the last averages, on frames from all over the training.

        They are other frames than those that training data are judged on, and not the last ones,
        which the last models know each in a way of its own.
        """
        numbers = self.to_combine()
        if len(numbers) == 1:
            return self.network
        paths = [str(self.file(x)) for x in numbers]
        networks = [AcousticModel.load(path, self.device).network for path in paths]
        frames = self.order[spread(len(self.order), COMBINATION_FRAMES, shift=0.5)]
        examples = self.setting.train.minibatch(frames, *self.context)
        return combine(networks, examples, initial_model=len(networks), num_lbfgs_iters=20)

    def result(self) -> Result:
        seen = self.order[spread(len(self.order), min(TRAINING_FRAMES, len(self.order)))]
        held_out, combined = self.judge(self.network), self.combined()
        of_train = [
            evaluated(network, self.setting.train, seen).log_prob_per_frame
            for network in (self.network, combined)
        ]
        state = self.state
        return Result(
            self.cell,
            samples=self.samples_after(state.iteration),
            held_out=held_out.log_prob_per_frame,
            accuracy=held_out.correct / held_out.weight,
            combined=self.judge(combined).log_prob_per_frame,
            trained=of_train[0],
            trained_combined=of_train[1],
            running=state.running,
            limited=state.num_limited / max(1, state.num_steps),
            cpu_s=state.cpu_s,
        )


def evaluated(network: Network, of: Frames, frames: np.ndarray) -> Totals:
    """Sum up how well a network does on some frames."""
    context = network.left_context, network.right_context
    return evaluate(network, of.minibatches(frames, EVALUATION_SIZE, context))


def switch_method(network: Network, cell: Cell, setting: Setting) -> None:
    """Have the layers of a network trained by a cell's method."""
    per_sample = setting.max_change if cell.limit else 0.0
    per_minibatch = per_sample * setting.minibatch_size
    method, options = {
        ("plain", False): ("none", {}),
        ("plain", True): ("simple", {"alpha": UNIT_ALPHA, "max_change": per_minibatch}),
        ("simple", cell.limit): ("simple", {"alpha": ALPHA, "max_change": per_minibatch}),
        ("online", cell.limit): ("online", {
            "alpha": ALPHA, "rank_in": 20, "rank_out": 80, "update_period": 4,
            "num_samples_history": 2000.0, "max_change_per_sample": per_sample,
        }),
    }[cell.method, cell.limit]  # fmt: skip
    switch_preconditioning(network, method, **options)


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Write what is logged during a block into a file, and not where it would go."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(message)s"))
    others, log.handlers = log.handlers, [handler]
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.handlers, log.propagate = others, propagate
        handler.close()
