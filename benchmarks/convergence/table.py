"""The results as CSV: a line for each training that has ended, and for each point of a curve."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from cells import Cell

from nnet.errors import NgtrainError


@dataclass(frozen=True)
class Result:
    """What came of a training; log-probabilities are per frame.

    Attributes:
        samples: those that it was trained on.
        held_out, accuracy: of the last average, on held-out speakers.
        combined: of the combination of the last averages, on the same.
        trained, trained_combined: the same of both on some of the data that they were trained on.
        running: of the last iteration's minibatches, each before its step.
        limited: the share of the steps of layers that the limit shortened.
        cpu_s: seconds of processor for gradient steps.
        error: why it came to no end; the numbers are then empty.
    """

    cell: Cell
    samples: int
    held_out: float | None = None
    accuracy: float | None = None
    combined: float | None = None
    trained: float | None = None
    trained_combined: float | None = None
    running: float | None = None
    limited: float | None = None
    cpu_s: float | None = None
    error: str = ""


OF_CELL = {field.name: field.type for field in fields(Cell)}
OF_RESULT = [field.name for field in fields(Result) if field.name != "cell"]
HEADER = [*OF_CELL, *OF_RESULT]
CURVE_HEADER = [*OF_CELL, "samples", "held_out"]
MEANS_HEADER = [*OF_CELL, "models", "held_out", "trained"]

PEERS = {"sgd": "PyTorch, SGD", "momentum": "PyTorch, SGD with momentum", "adamw": "PyTorch, AdamW"}
PEER_HEADER = ["optimizer", "num_jobs", "rate", "seed", "samples", "cpu_s", "held_out", "trained"]


def read_results(file: Path) -> list[Result]:
    """Read the trainings that have ended; none if there is no file.

    Raises:
        NgtrainError: the file has other columns.
    """
    return [
        Result(
            cell_of(row),
            int(row["samples"]),
            *(float(row[name]) if row[name] else None for name in OF_RESULT[1:-1]),
            error=row["error"],
        )
        for row in rows_of(file, HEADER)
    ]


def read_curves(file: Path) -> dict[Cell, list[tuple[int, float]]]:
    """Read samples and held-out log-probability of the models on the way, by training."""
    curves: dict[Cell, list[tuple[int, float]]] = {}
    for row in rows_of(file, CURVE_HEADER):
        point = int(row["samples"]), float(row["held_out"])
        curves.setdefault(cell_of(row), []).append(point)
    return curves


def read_means(file: Path, name: str) -> dict[Cell, dict[int, float]]:
    """Read a quantity of the means of last models, by cell, its seed apart, and by seed."""
    means: dict[Cell, dict[int, float]] = {}
    for row in rows_of(file, MEANS_HEADER):
        cell = cell_of(row)
        means.setdefault(cell.key, {})[cell.seed] = float(row[name])
    return means


def read_peers(file: Path) -> dict[tuple[str, float], list[tuple[float, ...]]]:
    """Read the end of each seed, by optimizer with jobs, and rate.

    That is the log-probability on held-out and on training frames, and the seconds.
    """
    last: dict[tuple[str, float, int], tuple[float, ...]] = {}
    for row in rows_of(file, PEER_HEADER):
        averaged = "" if row["num_jobs"] == "1" else f", N = {row['num_jobs']}, averaged"
        key = PEERS[row["optimizer"]] + averaged, float(row["rate"]), int(row["seed"])
        last[key] = tuple(float(row[name]) for name in ("held_out", "trained", "cpu_s"))
    ends: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    for (name, rate, _), end in last.items():
        ends.setdefault((name, rate), []).append(end)
    return ends


def add_result(dir: Path, result: Result, curve: Sequence[tuple[int, float]]) -> None:
    """Append a training to trials.csv, and its curve to curves.csv; several processes may."""
    cell = [shown(value) for value in result.cell.asdict().values()]
    points = [[*cell, samples, shown(held_out)] for samples, held_out in curve]
    row = [*cell, *(shown(getattr(result, name)) for name in OF_RESULT)]
    with locked(dir / ".tables"):
        append(dir / "curves.csv", CURVE_HEADER, points)
        append(dir / "trials.csv", HEADER, [row])


def append(file: Path, header: list[str], rows: list[list]) -> None:
    is_new = not file.exists()
    with file.open("a", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([header, *rows] if is_new else rows)


def shown(value: object) -> object:
    """Give a number the digits that count, and what there is not none."""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def rows_of(file: Path, header: list[str]) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != header:
            raise NgtrainError(f"{file}: its columns are not {','.join(header)}")
        return list(reader)


def cell_of(row: dict[str, str]) -> Cell:
    return Cell(
        row["method"],
        row["limit"] == "1",
        int(row["num_jobs"]),
        int(row["interval"]),
        float(row["rate"]),
        row["outer"],
        int(row["seed"]),
    )


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock during a block; false if another holds it, and we do not `wait`."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
