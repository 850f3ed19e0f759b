"""Pictures of reports, as SVG."""

import re

import pytest

from nnet.report import plots

pytest.importorskip("matplotlib")


def test_a_picture_has_a_point_for_each_number():
    nan = float("nan")
    curve = plots.Curve("a", [0, 1, 2, 3], [1.0, nan, float("inf"), 2.0], color=1)
    assert (curve.x, curve.y) == ([0, 3], [1.0, 2.0])
    svg = plots.line_plot([curve], "epochs")
    assert len(re.findall(r'<use href="#\w+" x="\S+" y="\S+" style="fill: var\(--c1\)', svg)) == 2
    assert plots.line_plot([plots.Curve("a", [0], [nan], color=1)], "x", log_scale=True)
    assert plots.bar_plot([0, 1], [[1.0, 2.0], [3.0, 4.0]], "x").count("fill: var(--c2)") == 2


def test_what_diverges_does_not_hide_the_others():
    x = range(100)
    good = [plots.Curve("", x, [-1 - (2 + n) / (1 + i) for i in x], color=1) for n in range(3)]
    bad = plots.Curve("", x, [-40 + i / 3 for i in x], color=2)
    low, high = plots.limits_of([*good, bad])
    assert -1.36 < low < -1.33 and -1.02 < high < -1  # of the good ones, after a tenth
    assert plots.limits_of(good) == pytest.approx((low, high), abs=0.5)
    constant = plots.Curve("", x, [1.0] * 100, color=1)
    assert plots.limits_of([constant]) is None
