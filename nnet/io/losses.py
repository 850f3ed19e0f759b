"""Counts of entries that a program leaves out, so that nothing is lost in silence."""

import logging
from dataclasses import dataclass

from nnet.io.log_lines import COUNTED

log = logging.getLogger("ngtrain")


@dataclass
class Losses:
    """A count of entries, such as those that could not be read, with the first as an example."""

    count: int = 0
    example: str = ""

    def add(self, entry: str, reason: object = "") -> None:
        """Count an entry."""
        self.count += 1
        if not self.example:
            self.example = f"{entry}: {reason}" if reason else entry

    def report(self, sentence: str) -> None:
        """Say what became of them, a sentence with a %d for their number, if there were any."""
        if self.count:
            log.warning(COUNTED.format, sentence % self.count, self.example)
