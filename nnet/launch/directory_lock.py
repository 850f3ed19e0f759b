"""A directory for one driver at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nnet.errors import NgtrainError

log = logging.getLogger("ngtrain")

PATIENCE = 5.0
"""Seconds before a directory counts as in use: a driver that was killed, and is run again at once,
finds that what it had started takes a moment to end."""

HOLDERS = "NGTRAIN_HOLDERS"
"""The variable that names, to what a driver starts, it and those that started it, a line each."""


@contextmanager
def only_driver_in(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a directory, which is made if need be; remove what was half-written in it.

    The lock is one of the system's, on the file .lock: it goes with the process that holds it,
    however that ends, and over NFS it holds on all machines.  Temporary files in the directory are
    then of programs that were killed.  A driver that another one has started may work in what that
    one holds.  Raises NgtrainError, naming host and process, where yet another driver holds it for
    longer than a moment; or waits for its end.
    """
    is_new = not directory.exists()
    lock = _lock(directory, wait)
    if lock is None:
        yield
        return
    with lock:
        holder = f"process {os.getpid()} on {os.uname().nodename}"
        lock.truncate(0)
        print(holder, file=lock, flush=True)
        os.environ[HOLDERS] = "\n".join([*_holders(), holder])
        for temporary in directory.glob(".*.tmp"):
            if re.fullmatch(r"\..+\.[0-9a-f]+\.tmp", temporary.name):  # and nobody else's
                temporary.unlink(missing_ok=True)
        try:
            yield
        finally:
            os.environ[HOLDERS] = "\n".join(_holders()[:-1])
            with suppress(OSError):
                (directory / ".lock").unlink()
                if is_new:
                    directory.rmdir()  # which it is not where something came of it


def _lock(directory: Path, wait: bool) -> TextIO | None:
    """The file .lock, locked; None where a driver that started this one has locked it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (who asks for it closes it)
    try:
        if not _try_to_lock(file):
            file.seek(0)
            holder = file.read().strip() or "another driver"
            if holder in _holders():
                file.close()
                return None
            if wait:
                log.info("%s is in use: waiting for %s", directory, holder)
                fcntl.flock(file, fcntl.LOCK_EX)
            elif not _try_to_lock(file, PATIENCE):
                file.close()
                raise NgtrainError(f"{directory} is in use: {holder} is working on it")
    except OSError as error:  # a file system without locks
        log.warning(
            "cannot lock %s (%s): see to it that no other driver works on it",
            *(directory, error.strerror),
        )
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    file.close()  # a driver that has ended took the file away after it was opened here
    return _lock(directory, wait)


def _try_to_lock(file: TextIO, patience: float = 0.0) -> bool:
    """Try to lock a file, until it succeeds or so many seconds have passed; tell whether it did."""
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
        time.sleep(0.1)


def _holders() -> list[str]:
    return os.environ.get(HOLDERS, "").splitlines()
