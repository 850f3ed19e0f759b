"""The files wer_details/ that scoring leaves, Kaldi's or ours: errors word by word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nnet.errors import NgtrainError


class Confusion(NamedTuple):
    """A word, what it was recognised as, and how often; *** stands for no word."""

    kind: str
    word: str
    recognised: str
    times: int


class Utterance(NamedTuple):
    """An utterance: its lines ref, hyp and op, and its words that are correct and not.

    Attributes:
        counts: of correct words, substitutions, insertions and deletions.
    """

    key: str
    lines: list[str]
    counts: list[int]

    @property
    def errors(self) -> int:
        return sum(self.counts[1:])


class WordErrorFiles(NamedTuple):
    """The contents of a folder wer_details."""

    folder: str
    confused: list[Confusion]
    utterances: list[Utterance]


def read_error_files(dir: Path) -> Iterator[WordErrorFiles]:
    """Read all folders wer_details of decodings in a training directory.  Raises NgtrainError."""
    places = ("wer_details", "decode*/wer_details", "decode*/scoring_kaldi/wer_details")
    for folder in sorted(folder for place in places for folder in dir.glob(place)):
        ops, per_utt = (
            file.read_text(errors="replace").splitlines() if file.is_file() else []
            for file in (folder / "ops", folder / "per_utt")
        )
        try:
            confused = [
                Confusion(kind, word, recognised, int(times))
                for kind, word, recognised, times in (line.split() for line in ops)
                if kind != "correct"
            ]
            utterances = list(in_file(per_utt))
        except ValueError:
            raise NgtrainError(
                f"{folder}: ops or per_utt is not as scoring makes it: score again, or remove them"
            ) from None
        confused.sort(key=lambda confusion: (-confusion.times, confusion))
        yield WordErrorFiles(str(folder.relative_to(dir).parent), confused, utterances)


def in_file(lines: list[str]) -> Iterator[Utterance]:
    """Find the utterances in the lines of per_utt, four for each."""
    shown: list[str] = []
    for line in lines:
        key, name, *rest = line.split()
        if name == "#csid":
            yield Utterance(key, shown, list(map(int, rest)))
        shown = [] if name == "#csid" else [*shown, line]
