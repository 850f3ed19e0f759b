"""The pictures of the experiment: held-out log-probability against samples and against rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cells import METHODS, Cell

Curves = dict[Cell, list[tuple[int, float]]]

COLORS = {1: "#440154", 2: "#3b528b", 4: "#21918c", 8: "#5ec962", 16: "#e0b400"}
ABOVE, BELOW = 0.02, 0.35
"""What is shown around the best curve's end, and its start."""


def draw_curves(curves: Curves, file: Path) -> None:
    """Draw a panel for each method with and without the limit, and a line for each N and rate.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.figure import Figure

    panels = [
        (method, limit)
        for limit in (True, False)
        for method in METHODS
        if any((cell.method, cell.limit) == (method, limit) for cell in curves)
    ]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.5 * columns, 3.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    best = max(points[-1][1] for points in curves.values())
    for panel, (method, limit) in zip(axes, panels, strict=False):
        own = [cell for cell in curves if (cell.method, cell.limit) == (method, limit)]
        draw_panel(panel, {cell: curves[cell] for cell in own})
        panel.set_title(f"{METHODS[method]}, {'limited' if limit else 'no limit'}", fontsize=10)
        panel.set_ylim(best - BELOW, best + ABOVE)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower right")
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.supxlabel("samples (millions)", fontsize=10)
    figure.supylabel("held-out log-probability per frame", fontsize=10)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def draw_panel(panel, curves: Curves) -> None:
    """Draw the mean over seeds as a line, and their range as a band."""
    for key in sorted({cell.key for cell in curves}, key=lambda cell: (cell.num_jobs, cell.rate)):
        of_seeds = [points for cell, points in curves.items() if cell.key == key]
        samples, values = common_points(of_seeds)
        label = f"N = {key.num_jobs}" + (f", {key.rate:g} x rate" if key.rate != 1 else "")
        style = {
            "color": COLORS.get(key.num_jobs, "0.5"),
            "linestyle": "-" if key.rate == 1 else "--",
        }
        panel.plot(samples / 1e6, values.mean(axis=0), label=label, **style)
        panel.fill_between(
            samples / 1e6, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.2
        )


def common_points(curves: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return samples, (points,), and values, (curves, points), where all curves have a point."""
    tables = [dict(points) for points in curves]
    samples = sorted(set.intersection(*(set(table) for table in tables)))
    return np.array(samples), np.array([[table[x] for x in samples] for table in tables])


LINES = {
    ("plain", False): ("C3", "plain SGD, no limit"),
    ("plain", True): ("C1", "plain SGD, limited"),
    ("simple", False): ("C4", "simple NG-SGD, no limit"),
    ("simple", True): ("C2", "simple NG-SGD"),
    ("online", False): ("C9", "online NG-SGD, no limit"),
    ("online", True): ("C0", "online NG-SGD"),
}
MARKS = {1: ("o", "-"), 4: ("s", "--"), 8: ("D", "-."), 16: ("^", ":")}
LOST = 0.3
"""What is further below the best is drawn at the lower edge."""


def draw_rates(scores: Mapping[Cell, Sequence[float]], file: Path) -> None:
    """Draw a line over the rates for each method, with and without the limit, and N.

    Args:
        scores: the values of each seed; trainings that came to no end have none.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 4.4), layout="constrained")
    axes = figure.subplots()
    best = max(max(values) for values in scores.values() if values)
    floor = best - LOST
    for (method, limit), (color, label) in LINES.items():
        for num_jobs, (mark, style) in MARKS.items():
            own = sorted(
                (cell.rate, values)
                for cell, values in scores.items()
                if (cell.method, cell.limit, cell.num_jobs) == (method, limit, num_jobs)
            )
            if not own:
                continue
            rates = [rate for rate, _ in own]
            means = np.array([np.mean(values) if values else -np.inf for _, values in own])
            shown = np.maximum(means, floor)
            name = f"{label}, N = {num_jobs}"
            axes.plot(rates, shown, style, color=color, marker=mark, ms=4, lw=1.2, label=name)
            for rate, values in own:
                axes.plot([rate] * len(values), np.maximum(values, floor), "_", color=color)
            lost = means < floor
            axes.plot(np.array(rates)[lost], shown[lost], "x", color=color, ms=9)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(floor - 0.01, best + 0.02)
    axes.set_xlabel("effective learning rate, in multiples of the common one")
    axes.set_ylabel("held-out log-probability per frame")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=7, loc="outside right upper")
    figure.savefig(file, dpi=130, metadata={"Software": None})
