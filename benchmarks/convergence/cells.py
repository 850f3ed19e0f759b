"""The cells of the experiment: which trainings there are, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from nnet.errors import NgtrainError

METHODS = {"plain": "plain SGD", "simple": "simple NG-SGD", "online": "online NG-SGD"}
OUTER = {
    "average": "the average",
    "bmuf": "block momentum",
    "diloco": "outer Nesterov steps",
}
"""What becomes of the models of an iteration's jobs."""

DILOCO_MOMENTUM, DILOCO_RATE = 0.9, 0.7


@dataclass(frozen=True)
class Cell:
    """A training.

    Attributes:
        method: a key of METHODS.
        limit: whether a minibatch's change of a layer is limited.
        num_jobs: N, by which the learning rate of a job is multiplied.
        rate: the effective learning rate, of that which all have in common.
        interval: the samples of a job between averages.
        outer: a key of OUTER.
        seed: of the order of the frames; the same frames, in the same order, for all that have it.
    """

    method: str
    limit: bool
    num_jobs: int
    interval: int
    rate: float = 1.0
    outer: str = "average"
    seed: int = 0

    @property
    def name(self) -> str:
        limit = "limit" if self.limit else "nolimit"
        return (
            f"{self.method}_{limit}_n{self.num_jobs}_i{self.interval}_r{self.rate:g}_"
            f"{self.outer}_s{self.seed}"
        )

    @property
    def key(self) -> Cell:
        """What all seeds have in common."""
        return replace(self, seed=0)

    @property
    def momentum(self) -> tuple[float, float]:
        """Momentum and learning rate of the outer step."""
        return {
            "average": (0.0, 1.0),
            "bmuf": (1 - 1 / self.num_jobs, 1.0),
            "diloco": (DILOCO_MOMENTUM, DILOCO_RATE),
        }[self.outer]

    @property
    def amplification(self) -> float:
        """By how much the outer step lengthens, in the long run, what the average would do."""
        momentum, learning_rate = self.momentum
        return learning_rate / (1 - momentum)

    def amplification_in(self, num_iterations: int) -> float:
        """By how much it does so in a training of a few iterations: on average over them.

        What an average would do in iteration t of T counts zeta (1 + eta + ... + eta^{T - t + 1})
        times in the end, one time more than has been done, for the last step looks ahead.
        """
        momentum, learning_rate = self.momentum
        if momentum == 0:
            return learning_rate
        left = range(2, num_iterations + 2)
        missing = sum(momentum**steps for steps in left) / num_iterations
        return self.amplification * (1 - missing)

    @property
    def title(self) -> str:
        """Say in words what tells it from others, but for the seed."""
        limit = "limited" if self.limit else "no limit"
        words = [f"{METHODS[self.method]}, {limit}, N = {self.num_jobs}"]
        if self.rate != 1:
            words.append(f"{self.rate:g} times the rate")
        if self.outer != "average":
            words.append(OUTER[self.outer])
        return ", ".join(words)

    def asdict(self) -> dict:
        return asdict(self)


def plan(
    parts: Sequence[str], seeds: Sequence[int], interval: int, rate: float = 1.0
) -> list[Cell]:
    """List the cells of some PARTS at RATE times their rates, by value; each one once.

    Raises:
        NgtrainError: there is no such part.
    """
    if unknown := set(parts) - PARTS.keys():
        raise NgtrainError(f"there is no part {unknown.pop()}: parts are {', '.join(PARTS)}")
    cells = [
        replace(cell, seed=seed, rate=round(cell.rate * rate, 4))
        for part in parts
        for seed in seeds
        for cell in PARTS[part](interval)
    ]
    return list(dict.fromkeys(cells))


def control(interval: int) -> Iterator[Cell]:
    """Tell averaging from rate, and the natural gradient from its limit."""
    for limit in True, False:
        yield Cell("plain", limit, 1, interval)
        yield Cell("plain", limit, 1, interval, rate=4)
        yield Cell("plain", limit, 4, interval)
    yield Cell("online", True, 1, interval)
    yield Cell("online", True, 4, interval)


def grid(interval: int) -> Iterator[Cell]:
    """All methods, with and without the limit, by 1, 4 and 16 jobs."""
    for method in "online", "plain", "simple":
        for limit in True, False:
            for num_jobs in 1, 4, 16:
                yield Cell(method, limit, num_jobs, interval)


def rates(interval: int) -> Iterator[Cell]:
    """Rates up to where a method is lost, by one job and by four; powers of four before others."""
    for rate in 4, 16, 64, 8, 32, 2, 0.5:
        for method, limit in ("online", True), ("plain", False), ("plain", True):
            for num_jobs in 1, 4:
                yield Cell(method, limit, num_jobs, interval, rate=rate)


def intervals(interval: int) -> Iterator[Cell]:
    """From a quarter of the interval to 24 times, by four jobs."""
    for factor in 0.25, 0.5, 1, 2, 4, 8, 24:
        yield Cell("online", True, 4, int(interval * factor))


def outer(interval: int) -> Iterator[Cell]:
    """What came after the plain average, which has N times the rate.

    Momentum lengthens the way by itself, so that jobs have less than N times the rate: so much less
    that the effective rate is the common one, or half as much less.  That is in the long run; in
    fewer iterations than some times 1/(1 - momentum) it is lower (Cell.amplification_in()).
    """
    for num_jobs in 4, 16:
        for name in "bmuf", "diloco":
            whole = Cell("online", True, num_jobs, interval, outer=name)
            for factor in 1, 2:
                yield replace(whole, rate=factor / whole.amplification)


def paper(interval: int) -> Iterator[Cell]:
    """List what the paper compares, but plain SGD is limited as NG-SGD is."""
    for num_jobs in 1, 4:
        yield Cell("plain", True, num_jobs, interval)
        yield Cell("online", True, num_jobs, interval)
    yield Cell("online", True, 8, interval)


def paper_unlimited(interval: int) -> Iterator[Cell]:
    """List plain SGD as Kaldi has it, without a limit."""
    for num_jobs in 1, 4:
        yield Cell("plain", False, num_jobs, interval)


MAIN_PARTS = {
    "control": control,
    "grid": grid,
    "rates": rates,
    "intervals": intervals,
    "outer": outer,
}
"""The parts of the experiment, in the order of their value."""

PARTS = MAIN_PARTS | {"paper": paper, "paper_unlimited": paper_unlimited}
"""Those parts, and what is worth its time at the paper's size."""
