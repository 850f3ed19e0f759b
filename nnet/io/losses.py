"""Counts of entries that a program leaves out, so that nothing is lost in silence."""

import logging

from nnet.io.log_lines import COUNTED

log = logging.getLogger("ngtrain")


class Losses:
    """A count of entries, such as those that could not be read, with the first as an example.

    Attributes:
        count: how many there were.
        example: the first, and why; "" if there was none.
    """

    def __init__(self):
        self.count = 0
        self.example = ""

    def add(self, entry: str, reason: object = "") -> None:
        """Count an entry."""
        self.count += 1
        if not self.example:
            self.example = f"{entry}: {reason}" if reason else entry

    def report(self, sentence: str) -> None:
        """Say how many there were and give the example; nothing if there were none.

        Args:
            sentence: what became of them, with a %d for their number.
        """
        if self.count:
            log.warning(COUNTED.format, sentence % self.count, self.example)
