"""What a program leaves out of its output, so that nothing is lost in silence."""

import logging

from nnet.errors import NgtrainError

logger = logging.getLogger("ngtrain")


class Losses:
    """Counts entries, such as those that could not be read, and keeps the first as an example.

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
            logger.warning(f"{sentence}, such as %s", self.count, self.example)


MANY, TOO_MANY = 0.02, 0.5


def judge(count: int, total: int, sentence: str, most: float = TOO_MANY) -> None:
    """Say a sentence about `count` of `total` that are lost: as a warning from 2 % on.

    Raises:
        NgtrainError: with that sentence, where they are more than the part `most` of the total.
    """
    if count > most * total:
        raise NgtrainError(sentence)
    if count:
        logger.log(logging.WARNING if count >= MANY * total else logging.INFO, "%s", sentence)
