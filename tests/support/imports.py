"""What a program imports before it does anything, which is what its start costs."""

import subprocess
import sys
from functools import cache

SLOW = {"numpy", "scipy", "h5py", "kaldi_io", "kaldifst", "cupy", "statistics", "tempfile", "runpy"}
"""Modules that no --help needs."""


def imported(*command) -> tuple[str, set[str]]:
    """Run Python with a program that succeeds; its standard output, and the modules it imports."""
    command = [sys.executable, "-X", "importtime", *command]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout, {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}


@cache
def click_imports() -> set[str]:
    """The modules that the library of command lines imports: the least that a program has."""
    return imported("-c", "import click")[1]
