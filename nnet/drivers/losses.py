"""Losses of jobs, from their logs, in one sentence for the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nnet.decoding.unknown_words import MANY, TOO_MANY
from nnet.drivers.driver import log
from nnet.drivers.programs import of_jobs
from nnet.errors import NgtrainError
from nnet.io.log_lines import COUNTED
from nnet.launch.commands import JOB

_LONGEST_LINE = 1 << 12


@dataclass
class Tally:
    """Numbers that logs of many jobs give, added up.

    counts: by the names in the pattern.
    example: the first warning of a job, if there is one.
    place: where the logs are.
    """

    counts: dict[str, int]
    example: str = ""
    place: str = ""

    @classmethod
    def of(cls, logs: Iterable[Path], pattern: str, harmless: str = "Retrying ") -> Tally:
        """Add up what named groups match last in each log; `harmless` warnings are no example."""
        regex = re.compile(pattern)
        tally = cls(dict.fromkeys(regex.groupindex, 0))
        for path in logs:
            found = None
            with open(path, errors="replace") as file:
                for line in file:
                    found = regex.search(line) or found
                    if not tally.example and (warning := re.match(r"WARNING \(\S+\) (.*)", line)):
                        tally.example = "" if warning[1].startswith(harmless) else warning[1]
            for name, count in found.groupdict().items() if found else ():
                tally.counts[name] += int(count)
        return tally

    @classmethod
    def of_jobs(cls, log: str | Path, num_jobs: int, pattern: str, *others: Path) -> Tally:
        """Add up likewise over the logs of jobs, JOB in `log` being their number, and others."""
        tally = cls.of([*others, *of_jobs(log, num_jobs)], pattern)
        return replace(tally, place=str(log).replace(JOB, "*"))

    def report(self, what: str, done: int, total: int, unit: str) -> None:
        """Say how many of how many were used; see report()."""
        report(what, done, total, unit, self.example, self.place)


def report(what: str, done: int, total: int, unit: str, example: str, advice: str) -> None:
    """Say how many of how many were used: a warning where more than a few were not.

    example: what a job said of one that was not, about which `advice` says where to look.
    Raises NgtrainError where more than half was lost.
    """
    lost = total - done
    said = f"{what} {done} of {total} {unit}"
    if lost > 0:
        said += f"; {lost} were not, such as: {example or 'no job says why'}; see {advice}"
    judge(lost, total, said)


def judge(lost: int, total: int, sentence: str, many: float = MANY, most: float = TOO_MANY) -> None:
    """Say what is lost, as a warning from the part `many` on; beyond `most` as NgtrainError."""
    if lost > most * total:
        raise NgtrainError(sentence)
    (log.warning if lost >= many * total else log.info)("%s", sentence)


@dataclass(frozen=True)
class Loss:
    """A sentence such as "no features of 3 of 10 recordings, such as u4: too short"."""

    before: str
    after: str
    count: int
    total: int
    example: str

    def __str__(self) -> str:
        return f"{self.before}{self.count} of {self.total} {self.after}, such as {self.example}"


def losses_in(logs: Iterable[Path]) -> list[Loss]:
    """Add up the losses that programs count at their ends (nnet.io.losses), over jobs."""
    losses: dict[tuple[str, str], Loss] = {}
    for line in _warnings(logs):
        if match := re.match(COUNTED.pattern, line):
            before, count, total, after, example = match.groups()
            so_far = losses.get((before, after), Loss(before, after, 0, 0, example))
            losses[before, after] = replace(
                so_far, count=so_far.count + int(count), total=so_far.total + int(total)
            )
    return list(losses.values())


def reason_in(logs: Iterable[Path], name: str) -> str:
    """Find the first warning or error of the logs in which a name stands; "" if none does."""
    named = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-]*\w)")
    return next((line for line in _warnings(logs) if named.search(line)), "")


def _warnings(logs: Iterable[Path]) -> Iterator[str]:
    """Read the warnings and errors of programs; of long lines the beginning."""
    for path in logs:
        if not path.exists():
            continue
        with open(path, errors="surrogateescape") as file:
            while line := file.readline(_LONGEST_LINE):
                if line.startswith(("WARNING ", "ERROR ")):
                    yield line.rstrip("\n")
