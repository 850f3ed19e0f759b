"""What a few seeds tell of a difference: t-intervals, and tests of equivalence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MARGIN = 0.02
"""Log-probabilities per frame that differ by less are alike, for all that one cares."""

LEVEL = 0.05


@dataclass(frozen=True)
class Sample:
    """Values of a quantity, one for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def standard_error(self) -> float:
        count = len(self.values)
        return float(np.std(self.values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan

    def half_width(self, confidence: float = 1 - LEVEL) -> float:
        """Compute half the width of the two-sided t-interval; NaN for fewer than two values."""
        from scipy.stats import t

        degrees = len(self.values) - 1
        return float(t.ppf((1 + confidence) / 2, degrees)) * self.standard_error

    def interval(self, confidence: float = 1 - LEVEL) -> tuple[float, float]:
        half = self.half_width(confidence)
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        if len(self.values) < 2:
            return f"{self.mean:.3f}" if self.values else "–"
        return f"{self.mean:.3f} ± {self.half_width():.3f}"


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> Sample:
    """Take differences between two quantities of the same seeds, those that both have."""
    return Sample(tuple(values[seed] - others[seed] for seed in sorted(values) if seed in others))


def sign(difference: Sample) -> int | None:
    """Tell a difference's sign if its two-sided interval leaves no doubt; else None."""
    low, high = difference.interval()
    return 1 if low > 0 else -1 if high < 0 else None


def is_equivalent(difference: Sample, margin: float = MARGIN) -> bool | None:
    """Test whether a difference is within `margin` of zero: by two one-sided tests at LEVEL.

    True where both reject, which is where the interval of confidence 1 - 2 LEVEL lies within; False
    where the two-sided interval lies beyond the margin; None where it may be either.
    """
    low, high = difference.interval(1 - 2 * LEVEL)
    if -margin < low and high < margin:
        return True
    low, high = difference.interval()
    return False if low > margin or high < -margin else None
