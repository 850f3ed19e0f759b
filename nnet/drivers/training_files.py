"""The names of what a training makes in its directory: 7.mdl, and 7.2.mdl of job 2 for it, ..."""

from __future__ import annotations

import re
from pathlib import Path

from nnet.drivers.settings import NOTHING, Part

NUMBER = r"(0|[1-9][0-9]{0,8})"
TIME = r"0?\.[0-9]+"  # a proportion of the training, of --realign-times


def models(directory: Path) -> dict[int, Path]:
    """Find the models of iterations that are there, by number, in order."""
    return {number: path for (number,), path in _matches(directory, rf"{NUMBER}\.mdl")}


def models_of_jobs(directory: Path) -> dict[tuple[int, ...], Path]:
    """Find the models of jobs, by the number of the model each is for and that of the job."""
    return dict(_matches(directory, rf"{NUMBER}\.{NUMBER}\.mdl"))


def relabelled_egs(directory: Path) -> list[Path]:
    """Find the directories of examples that realignments made."""
    found = sorted(directory.glob("egs_*"))
    return [path for path in found if re.fullmatch(f"egs_{TIME}", path.name) and path.is_dir()]


def logs_after(directory: Path, x: int) -> list[Path]:
    """Find the logs that reports read of iterations after x, and of models after model x."""
    names = "train|average|select|progress|compute_prob_valid|compute_prob_train"
    pattern = rf"(?:{names})\.{NUMBER}(?:\.[a-z0-9]+)*\.log"
    found = ((re.fullmatch(pattern, path.name), path) for path in (directory / "log").glob("*.log"))
    return [path for match, path in found if match and int(match[1]) > x]


def parts_made(directory: Path, egs_are_there: bool) -> Part:
    """Find the parts of which something has been made; those before it have been then."""
    made = {
        Part.TRANSFORM: (directory / "lda.mat").exists(),
        Part.EXAMPLES: egs_are_there,
        Part.NETWORK: bool(models(directory)),
        Part.ITERATIONS: bool(models_of_jobs(directory)) or max(models(directory), default=0) > 0,
        Part.REALIGNMENT: bool(relabelled_egs(directory)),  # the one that need not be
        Part.COMBINATION: (directory / "combined.mdl").exists(),
        Part.PRIORS: (directory / "final.mdl").exists(),
    }
    parts = NOTHING
    for part in reversed(Part):
        if made[part] or (parts and part is not Part.REALIGNMENT):
            parts |= part
    return parts


def _matches(directory: Path, pattern: str) -> list[tuple[tuple[int, ...], Path]]:
    """Find the files whose names match, with the numbers in these, in order."""
    found = ((re.fullmatch(pattern, path.name), path) for path in directory.glob("*.mdl"))
    return sorted((tuple(map(int, match.groups())), path) for match, path in found if match)
