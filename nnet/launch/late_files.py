"""Files that are shown late: over NFS a machine may see for a while what a directory was before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE_S = 90.0
"""Longer than an NFS client believes what it knows of a directory, which is a minute unless the
mount option acdirmax says otherwise."""


def eventually(
    condition: Callable[[], bool], *directories: str | os.PathLike, patience_s: float = PATIENCE_S
) -> bool:
    """Wait until `condition`, of files in directories, comes true; False after `patience_s`."""
    from tempfile import TemporaryFile  # not for --help

    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
        for directory in directories:
            with suppress(OSError):
                os.listdir(directory)
                TemporaryFile(dir=directory).close()  # after a change NFS asks what is there
    return True
