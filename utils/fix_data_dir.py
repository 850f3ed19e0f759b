#!/usr/bin/env python3
"""Sort the files of a data directory, and keep only the utterances that are in all of them.

Of lines with the same key the first stays.  Byte order marks, carriage returns at the ends of lines
and empty lines are taken away, and what only looks like a space in transcripts becomes one.  The
files as they were are kept in <data-dir>/.backup.
"""

import functools
import operator
import shutil
from pathlib import Path

from nnet.drivers.data_dir import (
    FILES,
    RECORDING,
    SPEAKER,
    UTTERANCE,
    DataDir,
    Table,
    recording_of,
    to_number,
)
from nnet.drivers.driver import argument, driver, log, require_files
from nnet.errors import NgtrainError
from nnet.io.text import BYTE_ORDER_MARK, FALSE_SPACE, decode, split_key

# Utterances, speakers or recordings that are not in one of these are left out everywhere.
DECISIVE = {
    UTTERANCE: ("text", "segments", "feats.scp", "utt2lang", "utt2dur", "utt2num_frames"),
    SPEAKER: ("cmvn.scp", "spk2gender"),
    RECORDING: ("wav.scp",),
}


def read_first_values(path: Path) -> Table:
    """Read a table; of several lines with the same key, the first counts."""
    rows = [split_key(line) for line in mended_lines(path)]
    table = dict(reversed(rows))
    if len(table) != len(rows):
        log.info(f"{path}: left out {len(rows) - len(table)} lines with a key that came before")
    if [key for key, _ in rows] != sorted(table):
        log.info(f"{path}: sorted")
    return table


def mended_lines(path: Path) -> list[str]:
    """The lines of a file without what editors on other systems leave there; says what it was."""
    lines = decode(path.read_bytes()).removesuffix("\n").split("\n")
    mends = [
        ("began with a byte order mark", lambda line: line.removeprefix(BYTE_ORDER_MARK)),
        ("ended with a carriage return", lambda line: line.removesuffix("\r")),
    ]
    if path.name == "text":
        spaced = functools.partial(FALSE_SPACE.sub, " ")
        mends.append(("had what only looks like a space", spaced))
    for fault, mend in mends:
        mended = [mend(line) for line in lines]
        if count := sum(map(operator.ne, lines, mended)):
            log.info(f"{path}: {count} lines {fault}")
        lines = mended
    kept = [line for line in lines if split_key(line)[0]]
    if len(kept) != len(lines):
        log.info(f"{path}: left out {len(lines) - len(kept)} empty lines")
    return kept


def complete_utterances(data: DataDir, path: Path) -> set[str]:
    """The utterances that are in all decisive files, with their speakers and recordings.

    Raises NgtrainError if there are none, and names the files that have not a single utterance.
    """
    for name in "utt2dur", "utt2num_frames":
        if name in data:
            data.tables[name] = {k: v for k, v in data[name].items() if to_number(v) > 0}
    utterances = data["utt2spk"].keys()
    kept, strangers = set(utterances), []
    for kind, names in DECISIVE.items():
        for name in (name for name in names if name in data):
            there = utterances_in(data, name, kind)
            if not there & utterances:
                strangers.append(name)
            if lost := kept - there:
                log.info(f"{len(lost)} utterances are not in {name}, such as {min(lost)}")
            kept &= there
    if kept:
        return kept
    message = f"{path}: no utterance is in all the files, so nothing was changed"
    if strangers:
        which = ", ".join(f"{path / name}" for name in strangers)
        has = "has" if len(strangers) == 1 else "have"
        message += f"; {which} {has} none of those of utt2spk: remove what is of older data"
    raise NgtrainError(message)


def utterances_in(data: DataDir, name: str, kind: str) -> set[str]:
    """The utterances of which a file has a line, or has one of their speaker or recording."""
    table = data[name]
    if kind == SPEAKER:
        return {utt for utt, speaker in data["utt2spk"].items() if speaker in table}
    if kind == RECORDING and "segments" in data:
        return {utt for utt, value in data["segments"].items() if recording_of(value) in table}
    return set(table)


@driver(
    "Usage:  utils/fix_data_dir.py <data-dir>\n e.g.: utils/fix_data_dir.py data/train",
    writes="data_dir",
)
@argument("data_dir")
def main(data_dir):
    path = Path(data_dir)
    require_files(path / "utt2spk")
    names = [name for name in FILES if (path / name).is_file()]
    data = DataDir.read(path, read_first_values, mended_lines)
    kept = complete_utterances(data, path)
    (path / ".backup").mkdir(exist_ok=True)
    for name in names:
        shutil.copy2(path / name, path / ".backup" / name)
    fixed = data.select(kept)
    fixed.scoring = data.scoring  # where words are missing in decoding, the references count
    fixed.write(path)
    total = len(data["utt2spk"])
    how_many = f"all {total}" if len(kept) == total else f"{len(kept)} of {total}"
    log.info(f"kept {how_many} utterances; old files are kept in {path}/.backup")


if __name__ == "__main__":
    main()
