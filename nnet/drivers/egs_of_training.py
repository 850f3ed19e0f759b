"""Directories of examples as a training uses them: whole or not, damaged or not, removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent import futures  # whose ThreadPoolExecutor comes when it is asked for
from pathlib import Path

from nnet.drivers.driver import log, read_integer
from nnet.drivers.egs_dir import (
    SUBSETS,
    check_archive,
    remove_with_target,
    training_archive,
    training_archives,
)


def egs_are_whole(egs_dir: Path) -> bool:
    """Tell whether a directory has all the examples that it says it has."""
    return not missing_egs(egs_dir)


def missing_egs(egs_dir: Path) -> list[Path]:
    """List the files that a directory of examples lacks."""
    num_archives = egs_dir / "info" / "num_archives"
    if not num_archives.exists():
        return [num_archives]
    archives = [training_archive(egs_dir, n + 1) for n in range(read_integer(num_archives))]
    files = [*archives, *(egs_dir / name for name in SUBSETS)]
    return [file for file in files if not file.exists()]


def forget_egs(egs_dir: Path) -> None:
    """Have egs_are_whole() say no."""
    (egs_dir / "info" / "num_archives").unlink(missing_ok=True)


def remove_egs(egs_dir: Path) -> None:
    """Remove the archives of examples, where links lead too, unless there is a .nodelete."""
    if (egs_dir / ".nodelete").exists():
        log.info("not removing examples in %s, because it has .nodelete", egs_dir)
        return
    for archive in training_archives(egs_dir):
        remove_with_target(archive)


class ArchiveChecks:
    """Files of examples are read through and compared with their checksums, once each.

    That is done in threads, while others are being trained on.  To be used as a context.
    """

    def __init__(self):
        self._reading: dict[Path, futures.Future] = {}
        self._executor = futures.ThreadPoolExecutor(2)

    def __enter__(self) -> ArchiveChecks:
        return self

    def __exit__(self, *_) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def begin(self, files: Iterable[Path]) -> None:
        """Begin to read those that have not been read."""
        for file in files:
            if file not in self._reading:
                self._reading[file] = self._executor.submit(check_archive, file, thorough=True)

    def forget(self, files: Iterable[Path]) -> None:
        """Have files read once more when they are needed again."""
        for file in files:
            self._reading.pop(file, None)

    def damaged(self, files: Sequence[Path]) -> list[str]:
        """List what is wrong with files, each of which must be there: a line for each thing."""
        self.begin(files)
        damaged = []
        for file in files:
            _, now = check_archive(file, thorough=False)
            damaged += now or self._reading[file].result()[1]
        return damaged
