#!/usr/bin/env python3
"""Sort the files of a data directory, and keep only the utterances that are in all of them.

Of lines with the same key the first stays.  The files as they were are kept in
<data-dir>/.backup.
"""

import shutil
from pathlib import Path

from nnet.errors import NgtrainError
from utils.data_dir import (
    KINDS,
    RECORDING,
    SPEAKER,
    UTTERANCE,
    DataDir,
    Table,
    read_rows,
    recording_of,
    restrict,
)
from utils.driver import argument, driver, log, require_files

# Utterances, speakers or recordings that are not in one of these are left out everywhere.
DECISIVE = {
    UTTERANCE: ("text", "segments", "feats.scp", "utt2lang", "utt2dur", "utt2num_frames"),
    SPEAKER: ("cmvn.scp", "spk2gender"),
    RECORDING: ("wav.scp",),
}


def read_first_values(path: Path) -> Table:
    """Read a table; of several lines with the same key, the first counts."""
    rows = read_rows(path)
    table = dict(reversed(rows))
    if len(table) != len(rows):
        log.info(f"{path}: left out {len(rows) - len(table)} lines with a key that came before")
    if [key for key, _ in rows] != sorted(table):
        log.info(f"{path}: sorted")
    return table


def is_positive(value: str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        return False


def complete_utterances(data: DataDir) -> set[str]:
    """The utterances that are in all decisive files, with their speakers and recordings."""
    kept = set(data["utt2spk"])
    for name in "utt2dur", "utt2num_frames":
        if name in data:
            data.tables[name] = {k: v for k, v in data[name].items() if is_positive(v)}
    for kind, names in DECISIVE.items():
        for table in (data[name] for name in names if name in data):
            if kind == SPEAKER:
                kept = {utt for utt in kept if data["utt2spk"][utt] in table}
            elif kind == RECORDING and "segments" in data:
                segments = restrict(data["segments"], kept)
                kept = {utt for utt, value in segments.items() if recording_of(value) in table}
            else:
                kept &= table.keys()
    return kept


@driver("Usage:  utils/fix_data_dir.py <data-dir>\n e.g.: utils/fix_data_dir.py data/train")
@argument("data_dir")
def main(data_dir):
    path = Path(data_dir)
    require_files(path / "utt2spk")
    names = [name for name in (*KINDS, "spk2utt") if (path / name).is_file()]
    data = DataDir({name: read_first_values(path / name) for name in names if name in KINDS})
    kept = complete_utterances(data)
    if not kept:
        raise NgtrainError(f"{path}: no utterance is in all the files, so nothing was changed")
    (path / ".backup").mkdir(exist_ok=True)
    for name in names:
        shutil.copy2(path / name, path / ".backup" / name)
    data.select(kept).write(path)
    total = len(data["utt2spk"])
    how_many = f"all {total}" if len(kept) == total else f"{len(kept)} of {total}"
    log.info(f"kept {how_many} utterances; old files are kept in {path}/.backup")


if __name__ == "__main__":
    main()
