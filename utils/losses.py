"""What jobs left out, from their logs, in one sentence for the user."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.unknown_words import MANY, TOO_MANY
from utils.driver import log


@dataclass
class Tally:
    """Numbers that logs of many jobs give, added up.

    Attributes:
        counts: by the names in the pattern.
        example: the first warning of a job, if there is one.
    """

    counts: dict[str, int] = field(default_factory=dict)
    example: str = ""

    @classmethod
    def of(cls, logs: Iterable[Path], pattern: str, harmless: str = "Retrying ") -> Tally:
        """Add up what the named groups of a pattern match, where it matches last in each log.

        harmless: how warnings begin that are of no loss.
        """
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


def report(what: str, done: int, total: int, unit: str, example: str, advice: str) -> None:
    """Say how many of how many were used: a warning where more than a few were not.

    what: such as "made examples of".
    example: what a job said of one that was not.
    advice: where to look.
    Raises NgtrainError where more than half was lost.
    """
    lost = total - done
    said = f"{what} {done} of {total} {unit}"
    if lost > 0:
        said += f"; {lost} were not, such as: {example or 'no job says why'}; see {advice}"
    if lost > TOO_MANY * total:
        raise NgtrainError(said)
    (log.warning if lost >= MANY * total else log.info)("%s", said)
