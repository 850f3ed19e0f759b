"""Divergence of a training, from the objectives of its iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnet.errors import NgtrainError

FALL = 1.0
"""In log-probability per frame: how far an objective may fall, or be below that of a guess."""


def check_divergence(objectives: Sequence[float], num_classes: int, settled: int) -> None:
    """Raise NgtrainError if training diverges, which time will not mend.

    That is when the objective of the last iteration is more than FALL below that of a network
    which knows nothing and gives all classes the same probability, where training started; or when
    those of the last two are more than FALL below the best before.  One such iteration may be of
    data that is harder, and after a layer was added the objective falls, and rises again: what was
    before iteration `settled` is no measure of what comes after.

    objectives: log-probability per frame of iterations 0, 1, ...; NaN where it is not known.
    """
    x, last = len(objectives) - 1, objectives[-1]
    guess = -math.log(num_classes)
    if last < guess - FALL:
        measure = f"a guess among {num_classes} classes would have {guess:.3f}"
    else:
        known = [y for y in range(settled, x - 1) if not math.isnan(objectives[y])]
        best = max((objectives[y] for y in known), default=-math.inf)
        if not all(objective < best - FALL for objective in objectives[-2:]):
            return
        measure = f"iteration {objectives.index(best)} had {best:.3f}"
    raise NgtrainError(
        f"training diverges: log-prob-per-frame in iteration {x} is {last:.3f}, and {measure}; "
        "begin another directory with a lower --initial-effective-lrate, or go on all the same "
        "with --stop-if-diverging false"
    )
