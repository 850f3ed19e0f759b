"""What a training does with directories of examples: whole or not, damaged or not, removed."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from steps.get_egs2 import remove_with_target
from utils.driver import log, read_integer
from utils.egs_dir import SUBSETS, damaged_archives, training_archive, training_archives


def egs_are_whole(egs_dir: Path) -> bool:
    """Whether a directory has all the examples that it says it has."""
    num_archives = egs_dir / "info" / "num_archives"
    if not num_archives.exists():
        return False
    archives = [training_archive(egs_dir, n + 1) for n in range(read_integer(num_archives))]
    return all(file.exists() for file in [*archives, *(egs_dir / name for name in SUBSETS)])


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
    """Archives are read through and compared with their checksums, once each.

    That is done in a thread, while others are being trained on.  To be used as a context.
    """

    def __init__(self):
        self._reading: dict[tuple[Path, int], Future] = {}
        self._executor = ThreadPoolExecutor(1)

    def __enter__(self) -> ArchiveChecks:
        return self

    def __exit__(self, *_) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def begin(self, egs_dir: Path, numbers: Iterable[int]) -> None:
        """Begin to read those that have not been read."""
        for n in numbers:
            if (egs_dir, n) not in self._reading:
                self._reading[egs_dir, n] = self._executor.submit(
                    damaged_archives, egs_dir, [n], thorough=True
                )

    def damaged(self, egs_dir: Path, numbers: Iterable[int]) -> list[str]:
        """What is wrong with archives: a line for each that is damaged."""
        numbers = sorted(set(numbers))
        self.begin(egs_dir, numbers)
        now = damaged_archives(egs_dir, numbers)
        return [
            found
            for n in numbers
            if (found := now.get(n) or self._reading[egs_dir, n].result().get(n))
        ]
