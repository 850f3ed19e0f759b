"""The pictures of local/compare_trials.py, each with the numbers that it shows as CSV beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from outcomes import Outcome
from trials import METHODS, NONLINEARITIES, SWEPT

COLORS = {1: "#440154", 2: "#3b528b", 4: "#21918c", 8: "#5ec962", 16: "#e0b400"}
METHOD_COLORS = {"none": "tab:red", "simple": "tab:green", "online": "tab:blue"}
DEPTH = 1.5  # of a picture, below the best curve; trainings start at log(1/classes)


def draw_curves(outcomes: Sequence[Outcome], x: str, x_label: str, path: Path) -> None:
    """A panel for each method and nonlinearity, a curve for each number of jobs.

    x: "curve" or "clock", what of an Outcome is drawn.  In all panels of a row a dashed line is the
    best method with one job, to compare with.
    """
    rows = [nonlin for nonlin in NONLINEARITIES if any(o.trial.nonlin == nonlin for o in outcomes)]
    figure = Figure(figsize=(10, 3.1 * len(rows) + 0.4), layout="constrained")
    panels = figure.subplots(len(rows), len(METHODS), sharex=True, sharey="row", squeeze=False)
    for nonlin, axes_of_row in zip(rows, panels, strict=True):
        in_row = [o for o in outcomes if o.trial.nonlin == nonlin and len(getattr(o, x))]
        best = max((o.held_out for o in in_row), default=0.0)
        reference = [o for o in in_row if (o.trial.method, o.trial.num_jobs) == ("online", 1)]
        for method, axes in zip(METHODS, axes_of_row, strict=True):
            unseen = []
            for outcome in reference:
                axes.plot(*getattr(outcome, x).T, color="0.6", linestyle="--", linewidth=1)
            for outcome in sorted(in_row, key=lambda o: o.trial.num_jobs):
                if outcome.trial.method == method:
                    n = outcome.trial.num_jobs
                    axes.plot(*getattr(outcome, x).T, color=COLORS[n])
                    if getattr(outcome, x)[:, 1].max() < best - DEPTH:
                        unseen.append(f"N = {n}")
            if unseen:
                axes.text(0.97, 0.03, f"below: {', '.join(unseen)}", transform=axes.transAxes,
                          ha="right", fontsize=8)  # fmt: skip
            axes.set_title(f"{METHODS[method]}, {NONLINEARITIES[nonlin]}", fontsize=10)
            axes.set_ylim(best - DEPTH, best + 0.05)
            axes.grid(alpha=0.3)
            if x == "clock":
                axes.set_xscale("log")
        axes_of_row[0].set_ylabel("held-out log-prob. per frame")
    figure.supxlabel(x_label, fontsize=10)
    jobs = sorted({o.trial.num_jobs for o in outcomes})
    lines = [Line2D([], [], color=COLORS[n], label=f"N = {n}") for n in jobs]
    figure.legend(handles=lines, loc="outside right upper", fontsize=9, frameon=False)
    save(figure, path)
    write_csv(
        path,
        ["nonlin", "method", "num_jobs", x_label, "held_out_log_prob"],
        (
            (o.trial.nonlin, o.trial.method, o.trial.num_jobs, f"{at:.5g}", f"{log_prob:.5f}")
            for o in outcomes
            for at, log_prob in getattr(o, x)
        ),
    )


Sweep = dict[tuple[str, int], list[tuple[float, Outcome]]]
"""By method and number of jobs: values of an option, in their order, and what came of them."""


def draw_sweeps(sweeps: dict[str, Sweep], path: Path) -> None:
    """A panel for each option that is varied: held-out log-probability of the final models."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for (swept, sweep), axes in zip(sweeps.items(), panels, strict=True):
        for (method, n), points in sweep.items():
            axes.plot(
                [value for value, _ in points],
                [outcome.held_out for _, outcome in points],
                color=METHOD_COLORS[method],
                linestyle="--" if n == 1 else "-",
                marker="o",
                markersize=4,
                label=f"{METHODS[method]}, N = {n}",
            )
        values = sorted({value for points in sweep.values() for value, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values], minor=False)
        axes.minorticks_off()
        axes.set_xlabel(SWEPT[swept])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("held-out log-prob. per frame")
    save(figure, path)
    write_csv(
        path,
        ["option", "value", "method", "num_jobs", "held_out_log_prob", "word_error_rate"],
        (
            (swept, f"{value:g}", method, n, f"{outcome.held_out:.5f}", outcome.word_error_rate)
            for swept, sweep in sweeps.items()
            for (method, n), points in sweep.items()
            for value, outcome in points
        ),
    )


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=130, metadata={"Software": None})


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    lines = (",".join(map(str, row)) for row in [header, *rows])
    path.with_suffix(".csv").write_text("".join(f"{line}\n" for line in lines))
