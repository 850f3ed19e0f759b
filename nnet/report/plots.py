"""Pictures for a web page, as SVG that takes its colours and its font from the page.

matplotlib draws with colours that stand for custom properties of CSS: --c1 to --c8 for the data,
--ink for text, --line for the grid.  The page defines them, in dark and in light.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

MISSING = ""
"""Why there are no pictures, if so."""

try:
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure
except ImportError as error:
    MISSING = (
        f"pictures are left out, because they need matplotlib, which cannot be imported ({error}); "
        "install it, for instance by utils/setup_env.sh plots"
    )

NUM_COLORS = 8
SIZE = (4.4, 2.9)  # inches; text of 10 points is then readable on a phone
VERY_FAR = 10  # median absolute deviations; a curve that rises steadily is well within

# Colours that matplotlib draws in, and the CSS that replaces them.
INK, LINE = "#fe0100", "#fe0200"
CSS = {INK: "var(--ink)", LINE: "var(--line)"} | {
    f"#fe000{n}": f"var(--c{n})" for n in range(1, NUM_COLORS + 1)
}


@dataclass
class Curve:
    """A line of a picture: points, those that are finite, in the order of x.

    Attributes:
        color: from 1 on; there are NUM_COLORS, which are used in turn.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    dashed: bool = False

    def __post_init__(self):
        points = [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]
        self.x, self.y = [x for x, _ in points], [y for _, y in points]


def line_plot(curves: Sequence[Curve], x_label: str, log_scale: bool = False) -> str:
    """Draw curves as SVG."""

    def draw(axes) -> None:
        for curve in curves:
            axes.plot(
                curve.x,
                curve.y,
                color=color(curve.color),
                linestyle=(0, (4, 2)) if curve.dashed else "-",
                marker="o" if len(curve.x) < 40 else "",
                markersize=2.5,
                linewidth=1.6,
            )
        if log_scale:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        elif limits := limits_of(curves):
            axes.set_ylim(limits)

    return picture(draw, x_label)


def limits_of(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Choose limits of y for all but the first tenth of each curve, without outliers.

    A training begins with changes so great that beside them one would see no others; so does one
    that diverges, beside others.
    """
    later = [y for curve in curves for y in curve.y[len(curve.y) // 10 + 1 :]]
    if not later:
        return None
    middle = median(later)
    far = VERY_FAR * median(abs(y - middle) for y in later)
    near = [y for y in later if abs(y - middle) <= far]
    margin = 0.05 * (max(near) - min(near))
    return (min(near) - margin, max(near) + margin) if margin else None


def bar_plot(x: Sequence[float], parts: Sequence[Sequence[float]], x_label: str) -> str:
    """Draw bars at `x` as SVG, of stacked parts: a sequence of heights for each part."""

    def draw(axes) -> None:
        bottom = [0.0 for _ in x]
        for n, part in enumerate(parts, start=1):
            axes.bar(x, part, bottom=bottom, width=0.8, color=color(n), linewidth=0)
            bottom = [low + height for low, height in zip(bottom, part, strict=True)]
        axes.margins(x=0.01)

    return picture(draw, x_label)


def color(n: int) -> str:
    return f"#fe000{(n - 1) % NUM_COLORS + 1}"


def picture(draw: Callable, x_label: str) -> str:
    """Have `draw` fill axes, and return an <svg> element for the text of a page, or nothing."""
    if MISSING:
        return ""
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ngtrain",  # the same ids each time
        "axes.edgecolor": LINE,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.limits": (-4, 6),
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_xlabel(x_label)
        axes.xaxis.get_major_locator().set_params(integer=x_label == "iteration")
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return for_page(file.getvalue())


def for_page(svg: str) -> str:
    """Cut out the element, give it the page's colours and font, and make its ids unique."""
    prefix = f"p{zlib.crc32(svg.encode()):08x}"
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r'<svg role="img" \1>', svg, count=1)
    svg = re.sub(r'<g id="(?!m[0-9a-f]{10})[^"]*">', "<g>", svg)  # nothing refers to groups
    svg = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    svg = re.sub(r"#fe0[0-9]{3}", lambda match: CSS[match[0]], svg)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
