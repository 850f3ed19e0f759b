"""A directory for one driver at a time."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")


@contextmanager
def only_driver_in(directory: Path) -> Iterator[None]:
    """Hold a directory, which is made if need be; remove what was half-written in it.

    The lock is one of the system's, on the file .lock: it goes with the process that holds it,
    however that ends, and over NFS it holds on all machines.  Temporary files in the directory are
    then of programs that were killed.  Raises NgtrainError, naming host and process, where another
    driver holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another driver"
            raise NgtrainError(f"{directory} is in use: {holder} is working on it") from None
        except OSError as error:  # a file system without locks
            log.warning(
                "cannot lock %s (%s): see to it that no other driver works on it",
                *(directory, error.strerror),
            )
        file.truncate(0)
        print(f"process {os.getpid()} on {os.uname().nodename}", file=file, flush=True)
        for temporary in directory.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)
        yield
