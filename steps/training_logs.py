"""What the logs of a training say of its models."""

from __future__ import annotations

import re
from pathlib import Path


def last_number(pattern: str, file: Path) -> float | None:
    """The number that `pattern` last matches in a file, if there is one."""
    text = file.read_text(errors="replace") if file.exists() else ""
    found = re.findall(pattern, text)
    return float(found[-1]) if found else None


def objective(dir: Path, subset: str, model: int | str) -> float | None:
    """Log-probability per frame of a model (a number, or "final"), if it has been computed.

    `subset` is "valid", the held-out utterances, or "train".
    """
    return last_number(
        r"average probability is (\S+)", dir / "log" / f"compute_prob_{subset}.{model}.log"
    )


def objectives(dir: Path, subset: str) -> dict[int, float]:
    """The same of all models before the combination, by number, in order."""
    logs = (dir / "log").glob(f"compute_prob_{subset}.*.log")
    numbers = sorted(int(n) for log in logs if (n := log.name.split(".")[1]).isdecimal())
    found = {n: objective(dir, subset, n) for n in numbers}
    return {n: log_prob for n, log_prob in found.items() if log_prob is not None}
