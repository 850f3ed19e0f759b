#!/usr/bin/env python3
"""Make a data directory of recordings that have one utterance each.

<table> has a line for each recording: its file, who speaks, and what is said, with tabs between
them; "-" is standard input.  Files are named relative to the current folder, in any format that
libsndfile reads.  Each must be there and be audio, of one channel, and all must have the same
sampling rate.  An utterance is named after speaker and file.
"""

import os
import re
from collections import Counter
from pathlib import Path

from nnet.drivers.data_dir import DataDir
from nnet.drivers.driver import argument, driver, log
from nnet.errors import NgtrainError
from nnet.io.text import split_words, text_lines


@driver(
    "Usage:  utils/make_data_dir.py [options] <table> <data>\n"
    " e.g.: utils/make_data_dir.py recordings.tsv data/train",
    writes="data",
)
@argument("table", "data")
def main(table, data):
    lines = enumerate(text_lines(table), 1)
    rows = [read_row(line, f"{table}: line {number}") for number, line in lines if line.strip()]
    if not rows:
        raise NgtrainError(f"{table}: there are no recordings in it")
    names = [utterance_name(file, speaker) for file, speaker, _ in rows]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        files = [row[0] for row, name in zip(rows, names, strict=True) if name == repeated[0]]
        raise NgtrainError(
            f"{table}: {len(repeated)} utterances would have the same name, such as {repeated[0]} "
            f"({' and '.join(files[:2])}): rename the files"
        )
    rate = check_recordings([file for file, _, _ in rows])
    named = list(zip(names, rows, strict=True))
    DataDir(
        {
            "wav.scp": {name: os.path.abspath(file) for name, (file, _, _) in named},
            "text": {name: " ".join(split_words(words)) for name, (_, _, words) in named},
            "utt2spk": {name: speaker for name, (_, speaker, _) in named},
        }
    ).write(Path(data))
    speakers = len({speaker for _, speaker, _ in rows})
    log.info(f"{data}: {len(rows)} recordings by {speakers} speakers, of {rate} Hz")


def read_row(line: str, place: str) -> tuple[str, str, str]:
    """The file, the speaker and the words of a line.  Raises NgtrainError."""
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != 3 or not all(fields):
        raise NgtrainError(f"{place} is not file, speaker and words with tabs between them")
    file, speaker, words = fields
    if split_words(speaker) != [speaker]:
        raise NgtrainError(f"{place}: the name of a speaker must be one word, not '{speaker}'")
    return file, speaker, words


def utterance_name(file: str, speaker: str) -> str:
    """The name of the only utterance of a recording; it begins with its speaker's."""
    name = re.sub(r"\s+", "_", Path(file).stem)
    return name if name.startswith(f"{speaker}-") else f"{speaker}-{name}"


def check_recordings(files: list[str]) -> int:
    """The sampling rate of recordings.  Raises NgtrainError unless all are of one, and mono."""
    from nnet.features.audio import read_header
    from nnet.io.streams import open_input

    of_rate: dict[int, list[str]] = {}
    for file in files:
        with open_input(file) as stream:
            rate, channels, *_ = read_header(stream)
        if channels != 1:
            raise NgtrainError(
                f"{file}: it has {channels} channels, and a data directory is of recordings with "
                f"one (sox {file} left.wav remix 1 takes the first)"
            )
        of_rate.setdefault(rate, []).append(file)
    if len(of_rate) > 1:
        said = "; ".join(
            f"{len(of)} have {rate} Hz, such as {of[0]}" for rate, of in of_rate.items()
        )
        raise NgtrainError(f"recordings differ in their sampling rate: {said}; resample them (sox)")
    return next(iter(of_rate))


if __name__ == "__main__":
    main()
