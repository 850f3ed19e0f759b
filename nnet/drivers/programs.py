"""Programs that drivers start, and the files that these need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nnet.cli.environment import find_program
from nnet.errors import NgtrainError
from nnet.launch import lifeline
from nnet.launch.commands import JOB
from nnet.launch.jobs import Background, run  # noqa: F401 - for the drivers
from nnet.launch.local import wait_for


def of_jobs(pattern: str | Path, num_jobs: int) -> list[Path]:
    """Name the files of jobs, in the name of which JOB stands for a number from 1 on."""
    return [Path(str(pattern).replace(JOB, str(n + 1))) for n in range(num_jobs)]


def run_step(name: str, *words) -> None:
    """Run another driver of steps/, which speaks for itself.  Raises NgtrainError if it fails."""
    command = [sys.executable, find_program(name), *map(str, words)]
    process = subprocess.Popen(command, **lifeline.given())
    try:
        if wait_for(process) != 0:
            raise NgtrainError(f"steps/{name} failed")
    finally:
        process.terminate()
        process.wait()


def output_of(*words) -> str:
    """Run a small program here and return what it prints; NgtrainError has its last complaint."""
    command = [str(word) for word in words]
    try:
        result = subprocess.run(
            command, capture_output=True, check=False, encoding="utf-8", errors="surrogateescape"
        )
    except OSError as error:
        raise NgtrainError(f"cannot run {command[0]}: {error.strerror}") from None
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"]
        named = said[-1] if command[0] in said[-1] else f"{command[0]}: {said[-1]}"
        raise NgtrainError(named)
    return result.stdout


def require_files(*paths: str | os.PathLike) -> None:
    """Raise NgtrainError that names every file of `paths` that is not there."""
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        raise NgtrainError(f"no such file: {', '.join(missing)}")


def require_contents(*paths: str | os.PathLike) -> None:
    """Raise NgtrainError that names every file of `paths` that is not there, or else is empty."""
    require_files(*paths)
    empty = [str(path) for path in paths if os.path.getsize(path) == 0]
    if empty:
        raise NgtrainError(f"there is nothing in {', '.join(empty)}")


def read_integer(path: Path) -> int:
    """Read the number in a file.  Raises NgtrainError."""
    require_files(path)
    text = path.read_text(errors="replace").strip()
    if not text.isdecimal() or len(text) > 18:
        raise NgtrainError(f"{path}: expected a number, found '{text}'")
    return int(text)
