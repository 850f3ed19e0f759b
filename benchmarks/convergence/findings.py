"""What the paper found, and whether it holds: each statement tested on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from cells import METHODS, Cell
from statistics_of_seeds import MARGIN, Sample, is_equivalent, paired, sign
from table import Result

Scores = Mapping[Cell, Mapping[int, float]]
"""Held-out log-probability by cell, its seed apart, and by seed."""


def scores_of(results: Iterable[Result], name: str = "held_out") -> dict[Cell, dict[int, float]]:
    """Collect a quantity of the cells that lost no training.

    Of a cell that lost some, the others would pass for all: it has no score.
    """
    results = list(results)
    lost = {result.cell.key for result in results if result.error}
    scores: dict[Cell, dict[int, float]] = {}
    for result in results:
        value = getattr(result, name)
        if value is not None and result.cell.key not in lost:
            scores.setdefault(result.cell.key, {})[result.cell.seed] = value
    return scores


@dataclass(frozen=True)
class Finding:
    """A statement about a difference.

    Attributes:
        holds: None if the seeds do not tell.
    """

    statement: str
    difference: Sample
    holds: bool | None
    what: str

    def __str__(self) -> str:
        verdict = {True: "holds", False: "does not hold", None: "not decided"}[self.holds]
        seeds = len(self.difference.values)
        return f"- {self.statement}: **{verdict}** ({self.what}: {self.difference}, {seeds} seeds)."


def findings(scores: Scores, *kinds: Callable[[Scores], Iterator[Finding]]) -> list[Finding]:
    """List those of some kinds, or of all, for which there are trainings with several seeds."""
    every = ahead_of_plain, averaging, rate_alone, alike, at_best_rates
    return [
        finding
        for kind in kinds or every
        for finding in kind(scores)
        if len(finding.difference.values) > 1
    ]


def basic(scores: Scores) -> list[Cell]:
    """List the cells of the plain average, and of the interval that most have."""
    own = [cell for cell in scores if cell.outer == "average"]
    counts = [cell.interval for cell in own]
    usual = max(counts, key=counts.count, default=None)
    order = list(METHODS)
    own.sort(key=lambda c: (order.index(c.method), not c.limit, c.rate, c.num_jobs))
    return [cell for cell in own if cell.interval == usual]


def ahead(scores: Scores, cell: Cell, other: Cell, statement: str, what: str) -> Finding:
    """Say that one cell is ahead of another."""
    difference = paired(scores[cell], scores.get(other, {}))
    found = sign(difference)
    return Finding(statement, difference, None if found is None else found > 0, what)


def equivalent(scores: Scores, cell: Cell, other: Cell, statement: str, what: str) -> Finding:
    """Say that two cells are alike."""
    difference = paired(scores[cell], scores.get(other, {}))
    found = is_equivalent(difference)
    return Finding(f"{statement}, within {MARGIN}", difference, found, what)


def words_of(cell: Cell) -> str:
    """Name a cell's method, limit and rate."""
    limit = "with the limit" if cell.limit else "without a limit"
    rate = "" if cell.rate == 1 else f" at {cell.rate:g} times the rate"
    return f"{METHODS[cell.method]} {limit}{rate}"


def ahead_of_plain(scores: Scores) -> Iterator[Finding]:
    """NG-SGD is ahead of plain SGD, that has the same limit and rate."""
    for cell in basic(scores):
        if cell.method != "plain":
            plain = replace(cell, method="plain")
            statement = f"{words_of(cell)} is ahead of plain SGD, both with N = {cell.num_jobs}"
            yield ahead(scores, cell, plain, statement, "the one minus the other")


def averaging(scores: Scores) -> Iterator[Finding]:
    """By N jobs as by one; for plain SGD, too."""
    for cell in basic(scores):
        if cell.num_jobs > 1:
            one = replace(cell, num_jobs=1)
            statement = f"{words_of(cell)} ends alike by {cell.num_jobs} jobs and by one"
            yield equivalent(scores, cell, one, statement, f"N = {cell.num_jobs} minus N = 1")


def rate_alone(scores: Scores) -> Iterator[Finding]:
    """One job with as high a rate as each of N: what the rate does without any average."""
    for cell in basic(scores):
        fast = replace(cell, num_jobs=1, rate=cell.rate * cell.num_jobs)
        if cell.num_jobs > 1 and fast in scores:
            words, times = words_of(cell), f"{cell.num_jobs} times the rate"
            statement = f"{words}: {cell.num_jobs} jobs, averaged, are ahead of one job at {times}"
            yield ahead(
                scores, cell, fast, statement, f"N = {cell.num_jobs} minus N = 1 at {times}"
            )
            slow = replace(cell, num_jobs=1)
            statement = f"{words}: one job stands {times}"
            yield equivalent(scores, fast, slow, statement, f"N = 1 at {times} minus N = 1")


def alike(scores: Scores) -> Iterator[Finding]:
    """Simple and online end alike."""
    for cell in basic(scores):
        if cell.method == "simple":
            statement = f"{words_of(cell)} and online end alike, N = {cell.num_jobs}"
            online = replace(cell, method="online")
            yield equivalent(scores, cell, online, statement, "simple minus online")


def at_best_rates(scores: Scores) -> Iterator[Finding]:
    """The same where each method, limit and N has the rate that suits it best."""
    best = best_rates(scores)
    for (method, limit, num_jobs), cell in best.items():
        words = f"{METHODS[method]} {'with the' if limit else 'without a'} limit"
        statement = f"Each at its best rate, {words}"
        plain, one = best.get(("plain", limit, num_jobs)), best.get((method, limit, 1))
        if plain and method != "plain":
            what = rates_of(scores, cell, plain)
            yield ahead(
                scores, cell, plain, f"{statement} is ahead of plain SGD, N = {num_jobs}", what
            )
        if one and num_jobs > 1:
            what = rates_of(scores, cell, one)
            yield equivalent(
                scores, cell, one, f"{statement} ends alike by {num_jobs} jobs and by one", what
            )


def rates_of(scores: Scores, *best: Cell) -> str:
    """Name best rates, and whether a method could have been better beyond those tried."""
    words = []
    for cell in best:
        tried = [c.rate for c in basic(scores) if replace(c, rate=cell.rate) == cell]
        end = {max(tried): " (the highest tried)", min(tried): " (the lowest tried)"}
        words.append(f"{cell.rate:g}{end.get(cell.rate, '')}")
    return " and ".join(words) + " times the rate"


def best_rates(scores: Scores) -> dict[tuple[str, bool, int], Cell]:
    """Find the best cell of each method, limit and N for which several rates were tried."""
    groups: dict[tuple[str, bool, int], list[Cell]] = {}
    for cell in basic(scores):
        groups.setdefault((cell.method, cell.limit, cell.num_jobs), []).append(cell)
    return {
        group: max(cells, key=lambda cell: Sample(tuple(scores[cell].values())).mean)
        for group, cells in groups.items()
        if len(cells) > 1
    }
