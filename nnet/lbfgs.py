"""Minimization by L-BFGS (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5).

Newton's method needs the inverse of the Hessian H.  This one knows it from the last few steps s and
the changes y of the gradient that they made, for which H s = y; in other directions it takes it for
a multiple of the unit matrix.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Value and gradient at a point."""

SUFFICIENT_DECREASE, ENOUGH_LESS_SLOPE = 1e-4, 0.5  # the Wolfe conditions on a step
LEAST_SHARE = 0.1  # of a bracket, that a next trial is away from its ends


def minimize(function: Function, x: np.ndarray, memory: int, tolerance: float) -> None:
    """Search from `x`; the first trial step has length one.

    The search ends when a step gains less than `tolerance`, or when `function` raises; which of the
    points that it was asked for is the best, `function` knows.

    memory: how many steps are remembered.
    """
    value, gradient = function(x)
    steps: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=memory)
    direction = -gradient / np.linalg.norm(gradient)
    while True:
        found = line_search(function, x, value, gradient @ direction, direction, tolerance)
        if found is None:
            return
        new_x, new_value, new_gradient = found
        steps.append((new_x - x, new_gradient - gradient))
        gain = value - new_value
        x, value, gradient = found
        if gain < tolerance:
            return
        direction = -newton_step(gradient, steps)


def line_search(
    function: Function,
    x: np.ndarray,
    value: float,
    slope: float,
    direction: np.ndarray,
    tolerance: float,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """A point on the way from `x` along `direction`, its value and gradient.

    The value is less, and the slope, negative at `x`, is less steep.  None where no step promises a
    gain of `tolerance`.
    """
    low, high, t = 0.0, math.inf, 1.0
    while -slope * t > tolerance:
        trial = x + t * direction
        trial_value, trial_gradient = function(trial)
        if trial_value > value + SUFFICIENT_DECREASE * t * slope:
            high = t  # go back to the minimum of the parabola through what is known
            t = -slope * t * t / (2 * (trial_value - value - slope * t))
        elif trial_gradient @ direction < ENOUGH_LESS_SLOPE * slope:
            low = t
            t = 2 * t if high == math.inf else (low + high) / 2
        else:
            return trial, trial_value, trial_gradient
        if high < math.inf:
            margin = LEAST_SHARE * (high - low)
            t = min(max(t, low + margin), high - margin)
    return None


def newton_step(gradient: np.ndarray, steps: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The inverse Hessian times the gradient: the two-loop recursion over (s, y), oldest first."""
    steps = list(steps)
    q, shares = gradient.copy(), []
    for s, y in reversed(steps):
        share = (s @ q) / (s @ y)
        q -= share * y
        shares.append(share)
    s, y = steps[-1]
    q *= (s @ y) / (y @ y)
    for (s, y), share in zip(steps, reversed(shares), strict=True):
        q += (share - (y @ q) / (s @ y)) * s
    return q
