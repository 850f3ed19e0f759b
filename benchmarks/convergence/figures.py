"""The pictures of the experiment: curves of held-out log-probability, mean and range over seeds."""

from __future__ import annotations

from collections.abc import Sequence
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
