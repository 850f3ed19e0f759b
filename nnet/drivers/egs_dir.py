"""Directories of examples, as steps/get_egs2.py makes them: where things are, and what is damaged.

For each archive info/archives has a file of the same name, written together with it, that says how
many examples and bytes it has, their dimensions and a checksum: what nnet-egs-info says of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nnet.drivers.driver import log
from nnet.drivers.programs import output_of, read_integer
from nnet.errors import NgtrainError

EGS_FORMATS = ("ark", "h5")
ARCHIVE_INFO = Path("info", "archives")
SUBSETS = ("combine.egs", "valid_diagnostic.egs", "train_diagnostic.egs")
"""The examples that are not trained on, or only when models are combined."""


def egs_format(egs_dir: Path) -> str:
    """Read how the examples of a directory are stored: in archives, if it does not say."""
    path = egs_dir / "info" / "egs_format"
    name = path.read_text().strip() if path.exists() else "ark"
    if name not in EGS_FORMATS:
        raise NgtrainError(f"{path}: expected one of {', '.join(EGS_FORMATS)}, found '{name}'")
    return name


def training_archive(egs_dir: Path, number: int | str) -> Path:
    """Name the file of the examples to train on that has a number."""
    return egs_dir / f"egs.{number}.{egs_format(egs_dir)}"


def training_table(egs_dir: Path, number: int | str) -> str:
    """Name the examples to train on that have a number as a table, to be read or written."""
    return f"{egs_format(egs_dir)}:{training_archive(egs_dir, number)}"


def training_archives(egs_dir: Path) -> list[Path]:
    """List the files of examples to train on that are there, of either format."""
    name = rf"egs\.[0-9]+\.({'|'.join(EGS_FORMATS)})"
    return [path for path in egs_dir.glob("egs.*") if re.fullmatch(name, path.name)]


def link_to_storage(archive: Path) -> None:
    """Make a link if storage/ has links to disks, as Kaldi's utils/create_data_link.pl does."""
    disks = sorted((archive.parent / "storage").glob("*"))
    if disks and not archive.is_symlink():
        disk = disks[zlib.crc32(archive.name.encode()) % len(disks)]
        archive.symlink_to(Path("storage", disk.name, archive.name))


def remove_with_target(archive: Path) -> None:
    """Remove a file, and if it is a link what it leads to."""
    archive.resolve().unlink(missing_ok=True)
    archive.unlink(missing_ok=True)


def check_archive(archive: Path, thorough: bool) -> tuple[dict[str, str], list[str]]:
    """Compare an archive with what was said of it when it was made, if anything was.

    Returns what nnet-egs-info says of it (nothing unless `thorough`), and all that is wrong.
    """
    try:
        size = archive.stat().st_size
    except OSError as error:
        return {}, [f"{archive}: {error.strerror}"]
    if size == 0:
        return {}, [f"{archive}: it is empty"]
    found, problems = {"file-size": str(size)}, []
    if thorough:
        kind = "h5" if archive.suffix == ".h5" else "ark"
        try:
            found = parse_info(output_of("nnet-egs-info", f"{kind}:{archive}"))
        except NgtrainError as error:
            problems.append(f"{archive}: {error}")
    recorded = recorded_info(archive)
    problems += [
        f"{archive}: {name} is {found[name]}, and was {recorded[name]} when it was made"
        for name in sorted(found.keys() & recorded.keys())
        if found[name] != recorded[name]
    ]
    return found, problems


def recorded_info(archive: Path) -> dict[str, str]:
    """Read what was said of an archive when it was made; nothing if Kaldi made it."""
    path = archive.parent / ARCHIVE_INFO / archive.name
    return parse_info(path.read_text(errors="replace")) if path.is_file() else {}


def parse_info(text: str) -> dict[str, str]:
    """Read lines `name value` into a dictionary."""
    lines = (line.partition(" ") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def missing_egs(egs_dir: Path) -> list[Path]:
    """List the files that a directory of examples lacks."""
    num_archives = egs_dir / "info" / "num_archives"
    if not num_archives.exists():
        return [num_archives]
    archives = [training_archive(egs_dir, n + 1) for n in range(read_integer(num_archives))]
    files = [*archives, *(egs_dir / name for name in SUBSETS)]
    return [file for file in files if not file.exists()]


def forget_egs(egs_dir: Path) -> None:
    """Have missing_egs() find that not all is there."""
    (egs_dir / "info" / "num_archives").unlink(missing_ok=True)


def remove_egs(egs_dir: Path) -> None:
    """Remove the archives of examples, where links lead too, unless there is a .nodelete."""
    if (egs_dir / ".nodelete").exists():
        log.info("not removing examples in %s, because it has .nodelete", egs_dir)
        return
    for archive in training_archives(egs_dir):
        remove_with_target(archive)


class ArchiveChecks:
    """Files of examples that threads read through, and compare with their checksums, once each."""

    def __init__(self) -> None:
        self._reading: dict[Path, Future] = {}
        self._executor = ThreadPoolExecutor(2)

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
        damaged: list[str] = []
        for file in files:
            _, now = check_archive(file, thorough=False)
            damaged += now or self._reading[file].result()[1]
        return damaged
