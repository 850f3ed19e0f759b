"""Kaldi data directories of recordings that hold one utterance each."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nnet.errors import NgtrainError
from nnet.io.streams import open_output


class Utterance(NamedTuple):
    """One recording: its name must start with its speaker's, so that both sort alike."""

    name: str
    speaker: str
    words: str
    wav: Path


def write_data_dir(directory: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, text, utt2spk and spk2utt; raise NgtrainError when there is no utterance."""
    utterances = sorted(utterances)
    if not utterances:
        raise NgtrainError(f"{directory}: there are no recordings for it")
    spoken_by: dict[str, list[str]] = {}
    for utterance in utterances:
        spoken_by.setdefault(utterance.speaker, []).append(utterance.name)
    directory.mkdir(parents=True, exist_ok=True)
    tables = {
        "wav.scp": [f"{u.name} {u.wav.absolute()}" for u in utterances],
        "text": [f"{u.name} {u.words}" for u in utterances],
        "utt2spk": [f"{u.name} {u.speaker}" for u in utterances],
        "spk2utt": [f"{speaker} {' '.join(names)}" for speaker, names in spoken_by.items()],
    }
    for file, lines in tables.items():
        with open_output(str(directory / file)) as stream:
            stream.write("".join(line + "\n" for line in lines).encode())
