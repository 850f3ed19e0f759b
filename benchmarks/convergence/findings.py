"""What the paper found, and whether it holds: each statement tested on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cells import METHODS, Cell
from statistics_of_seeds import MARGIN, Sample, is_equivalent, paired, sign
from table import Result

Scores = Mapping[Cell, Mapping[int, float]]
"""Held-out log-probability by cell, its seed apart, and by seed."""


def scores_of(results: Iterable[Result], name: str = "held_out") -> dict[Cell, dict[int, float]]:
    """Collect a quantity of the trainings that came to an end."""
    scores: dict[Cell, dict[int, float]] = {}
    for result in results:
        value = getattr(result, name)
        if value is not None:
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


def findings(scores: Scores) -> list[Finding]:
    """List those for which there are trainings."""
    return [
        finding
        for each in (ahead_of_plain, averaging, rate_alone, alike)
        for finding in each(scores)
        if finding.difference.values
    ]


def basic(scores: Scores) -> Iterator[Cell]:
    """List the cells of the common rate, the plain average, and the interval that most have."""
    own = [cell for cell in scores if cell.rate == 1 and cell.outer == "average"]
    counts = [cell.interval for cell in own]
    usual = max(counts, key=counts.count, default=None)
    order = list(METHODS)
    own.sort(key=lambda cell: (order.index(cell.method), not cell.limit, cell.num_jobs))
    yield from (cell for cell in own if cell.interval == usual)


def ahead(scores: Scores, cell: Cell, other: Cell, statement: str, what: str) -> Finding:
    """Say that one cell is ahead of another."""
    difference = paired(scores[cell], scores.get(other, {}))
    found = sign(difference) if len(difference.values) > 1 else None
    return Finding(statement, difference, None if found is None else found > 0, what)


def equivalent(scores: Scores, cell: Cell, other: Cell, statement: str, what: str) -> Finding:
    """Say that two cells are alike."""
    difference = paired(scores[cell], scores.get(other, {}))
    found = is_equivalent(difference) if len(difference.values) > 1 else None
    return Finding(f"{statement}, within {MARGIN}", difference, found, what)


def limit_of(cell: Cell) -> str:
    return "with the limit" if cell.limit else "without a limit"


def ahead_of_plain(scores: Scores) -> Iterator[Finding]:
    """NG-SGD is ahead of plain SGD, that has the same limit."""
    for cell in basic(scores):
        if cell.method != "plain":
            plain = replace(cell, method="plain")
            statement = (
                f"{METHODS[cell.method]} is ahead of plain SGD, both {limit_of(cell)}, "
                f"N = {cell.num_jobs}"
            )
            yield ahead(scores, cell, plain, statement, "the one minus the other")


def averaging(scores: Scores) -> Iterator[Finding]:
    """By N jobs as by one; for plain SGD, too."""
    for cell in basic(scores):
        if cell.num_jobs > 1:
            one = replace(cell, num_jobs=1)
            words = f"{METHODS[cell.method]} {limit_of(cell)}"
            statement = f"{words} ends alike by {cell.num_jobs} jobs and by one"
            yield equivalent(scores, cell, one, statement, f"N = {cell.num_jobs} minus N = 1")


def rate_alone(scores: Scores) -> Iterator[Finding]:
    """One job with as high a rate as each of N: what the rate does without any average."""
    for cell in basic(scores):
        fast = replace(cell, num_jobs=1, rate=float(cell.num_jobs))
        if cell.num_jobs > 1 and fast in scores:
            words = f"{METHODS[cell.method]} {limit_of(cell)}"
            yield ahead(
                scores,
                cell,
                fast,
                f"{words}: {cell.num_jobs} jobs, averaged, are ahead of one job of the same rate",
                f"N = {cell.num_jobs} minus N = 1 with {cell.num_jobs} times the rate",
            )
            yield equivalent(
                scores,
                fast,
                replace(cell, num_jobs=1),
                f"{words}: one job stands {cell.num_jobs} times the rate",
                "minus the same at the common rate",
            )


def alike(scores: Scores) -> Iterator[Finding]:
    """Simple and online end alike."""
    for cell in basic(scores):
        if cell.method == "simple":
            statement = f"Simple and online NG-SGD {limit_of(cell)} end alike, N = {cell.num_jobs}"
            online = replace(cell, method="online")
            yield equivalent(scores, cell, online, statement, "simple minus online")


def best_rates(scores: Scores) -> Sequence[tuple[Cell, Sample]]:
    """Find, for each method, limit and N, the rate that suits it best."""
    best: dict[tuple, tuple[Cell, Sample]] = {}
    for cell, values in scores.items():
        if cell.outer == "average":
            sample = Sample(tuple(values.values()))
            group = cell.method, cell.limit, cell.num_jobs, cell.interval
            if group not in best or sample.mean > best[group][1].mean:
                best[group] = cell, sample
    return list(best.values())
