"""Kaldi data directories of recordings that hold one utterance each."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nnet.drivers.data_dir import DataDir
from nnet.errors import NgtrainError


class Utterance(NamedTuple):
    """One recording: its name must start with its speaker's, so that both sort alike."""

    name: str
    speaker: str
    words: str
    wav: Path


def write_data_dir(directory: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, text, utt2spk and spk2utt; raise NgtrainError when there is no utterance."""
    utterances = list(utterances)
    if not utterances:
        raise NgtrainError(f"{directory}: there are no recordings for it")
    tables = {
        "wav.scp": {u.name: str(u.wav.resolve()) for u in utterances},
        "text": {u.name: u.words for u in utterances},
        "utt2spk": {u.name: u.speaker for u in utterances},
    }
    DataDir(tables).write(directory)
