#!/usr/bin/env python3
"""Make tables, findings and a picture of the trainings in <dir>/trials.csv: results.md, curves.png.

Differences are paired by seed; what is behind ± is half of a 95 % t-interval over seeds.  That two
cells are alike is said where two one-sided tests at 5 % reject a difference of 0.02 and more; that
one is ahead, where the two-sided interval does not reach zero.  Cells with one seed are in the
table and in the pictures, and nothing is said of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cells import METHODS, OUTER, Cell
from figures import draw_curves, draw_rates
from findings import Scores, ahead_of_plain, averaging, basic, findings, scores_of
from statistics_of_seeds import Sample
from table import Result, read_curves, read_means, read_peers, read_results

from nnet.cli import argument, log, program
from nnet.errors import NgtrainError
from nnet.io.text import write_lines


@program("""\
Usage:  benchmarks/convergence/report.py [options] <dir>
 e.g.: benchmarks/convergence/report.py docs/convergence/speechocean""")
@argument("dir", type=Path)
def main(dir):
    write_report(dir)


def write_report(dir: Path) -> None:
    """Write results.md and curves.png into the directory of the tables.

    Raises:
        NgtrainError: no training has ended.
    """
    results = read_results(dir / "trials.csv")
    if not results:
        raise NgtrainError(f"{dir}/trials.csv: no training has ended")
    scores, trained = scores_of(results), scores_of(results, "trained")
    of_trained = findings(trained, ahead_of_plain, averaging)
    parts = [
        "# Results\n\n" + INTRODUCTION,
        picture(dir, scores),
        rates(dir, scores, results),
        "## Cells\n\n" + table_of(results),
        "## What holds, and what does not\n\n" + "\n".join(map(str, findings(scores))),
        "## The same on frames that were trained on\n\n" + "\n".join(map(str, of_trained)),
        "## One training, averaged over its own last models\n\n" + means(dir, scores, trained),
        "## Samples between averages\n\n" + intervals(scores),
        "## Instead of the plain average\n\n" + outer(scores, trained, results),
        "## The same by PyTorch's optimizers\n\n" + peers(dir, results),
        failures(results),
    ]
    text = "\n\n".join(part for part in parts if not part.endswith("\n\n"))
    write_lines(dir / "results.md", text.splitlines())
    log.info("wrote %s", dir / "results.md")


INTRODUCTION = (
    "Log-probabilities are per frame, on held-out speakers unless another is said. ± is half of a "
    "95 % t-interval over seeds, which change the order of the frames and nothing else: it says "
    "nothing about other speakers, other data or other networks. What has none is of one seed. "
    "There is no correction for the number of statements."
)


def picture(dir: Path, scores: Scores) -> str:
    """Draw the curves of the cells at the common rate, and of those beside them."""
    shown = {cell for cell in scores if cell.outer == "average" and cell.rate in (1, 4)}
    usual = {cell.interval for cell in basic(scores)}
    curves = {
        cell: points
        for cell, points in read_curves(dir / "curves.csv").items()
        if cell.key in shown and cell.interval in usual and len(points) > 1
    }
    if not curves:
        return "\n\n"
    try:
        draw_curves(curves, dir / "curves.png")
    except ImportError as error:
        log.warning("no picture: %s (utils/setup_env.sh plots)", error)
        return "\n\n"
    return "![Held-out log-probability against samples](curves.png)"


def rates(dir: Path, scores: Scores, results: list[Result]) -> str:
    """Draw held-out log-probability over the rates, where there are several."""
    cells = {cell: list(scores[cell].values()) for cell in basic(scores)}
    intervals = {cell.interval for cell in cells}
    lost = {r.cell.key: [] for r in results if r.error and r.cell.interval in intervals}
    if len({cell.rate for cell in lost | cells if cell.num_jobs == 1}) < 3:
        return "\n\n"
    try:
        draw_rates(lost | cells, dir / "rates.png")
    except ImportError:  # said before
        return "\n\n"
    return "![Held-out log-probability against learning rate](rates.png)"


def table_of(results: list[Result]) -> str:
    """Tabulate all quantities of the cells at the usual interval."""
    names = "held_out", "accuracy", "combined", "trained", "trained_combined", "running"
    by_name = {name: scores_of(results, name) for name in (*names, "limited", "cpu_s")}
    cells = basic(by_name["held_out"])
    rows = [
        [
            cell.title,
            *(str(sample(by_name[name], cell)) for name in names),
            f"{sample(by_name['limited'], cell).mean:.1%}",
            f"{sample(by_name['cpu_s'], cell).mean:.0f}",
        ]
        for cell in cells
    ]
    header = ["", "average", "its accuracy", "combined", "average, training data"]
    more = ["combined, training data", "while training", "limited steps", "CPU seconds"]
    return markdown([*header, *more], rows)


def means(dir: Path, scores: Scores, trained: Scores) -> str:
    """Tabulate the means that mean_of_last.py made, beside the last averages."""
    held_out_means, trained_means = (
        read_means(dir / "means.csv", name) for name in ("held_out", "trained")
    )
    tables = scores, held_out_means, trained, trained_means
    rows = [
        [cell.title, *(str(sample(table, cell)) for table in tables)]
        for cell in basic(scores)
        if cell in held_out_means
    ]
    header = ["", "last average", "mean of the last"]
    return markdown([*header, "last, training data", "mean, training data"], rows)


def intervals(scores: Scores) -> str:
    """Tabulate the cells that were tried with several intervals."""
    tried: dict[Cell, list[Cell]] = {}
    for cell in scores:
        if cell.outer == "average":
            tried.setdefault(replace(cell, interval=0), []).append(cell)
    rows = [
        [cell.title, str(cell.interval), str(sample(scores, cell))]
        for cells in tried.values()
        if len(cells) > 1
        for cell in sorted(cells, key=lambda cell: cell.interval)
    ]
    return markdown(["", "samples", "average"], rows)


def outer(scores: Scores, trained: Scores, results: list[Result]) -> str:
    """Tabulate what was tried instead of the average, beside it, with the effective rates."""
    numbers = {cell.num_jobs for cell in scores if cell.outer != "average"}
    beside = [
        c for c in basic(scores) if c.method == "online" and c.limit and c.num_jobs in numbers
    ]
    others = [cell for cell in scores if cell.outer != "average"]
    cells = sorted(
        [*beside, *others], key=lambda c: (c.num_jobs, list(OUTER).index(c.outer), c.rate)
    )
    samples = max(result.samples for result in results)
    rows = []
    for c in cells:
        reached = c.rate * c.amplification_in(samples // (c.num_jobs * c.interval))
        held_out, of_train = (str(sample(table, c)) for table in (scores, trained))
        rows.append([c.title, f"{reached:.2g}", held_out, of_train])
    return markdown(["", "effective rate, with momentum", "held out", "training data"], rows)


def peers(dir: Path, results: list[Result]) -> str:
    """Tabulate what peer_torch.py has trained, beside our methods by one job.

    Rates are in terms of the common one, but those of AdamW as they are.
    """
    of_peers = read_peers(dir / "peers.csv")
    if not of_peers:
        return ""
    scores = [scores_of(results, name) for name in ("held_out", "trained", "cpu_s")]
    rows = [
        [METHODS[cell.method], f"{cell.rate:g}", *shown_of(*(sample(of, cell) for of in scores))]
        for cell in basic(scores[0])
        if cell.num_jobs == 1 and cell.limit == (cell.method != "plain")
    ]
    rows += [
        [name, f"{rate:g}", *shown_of(*map(Sample, zip(*ends, strict=True)))]
        for (name, rate), ends in sorted(of_peers.items())
    ]
    return markdown(["method", "rate", "held out", "training frames", "CPU seconds"], rows)


def shown_of(held_out: Sample, trained: Sample, cpu_s: Sample) -> list[str]:
    return [str(held_out), str(trained), f"{cpu_s.mean:.0f}"]


def failures(results: list[Result]) -> str:
    """List the trainings that came to no end."""
    lines = [f"- `{r.cell.name}`, after {r.samples} samples: {r.error}" for r in results if r.error]
    consequence = "A cell that lost a seed is in no table.\n\n" if lines else ""
    return f"## Without an end\n\n{consequence}" + "\n".join(lines)


def sample(scores: Scores, cell: Cell) -> Sample:
    return Sample(tuple(scores.get(cell, {}).values()))


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """Make a table; nothing if it has no rows."""
    rows = list(rows)
    lines = [header, ["---"] * len(header), *rows] if rows else []
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
