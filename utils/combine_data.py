#!/usr/bin/env python3
"""Combine data directories into one.

A file goes into the result if all the directories have it; utt2uniq and segments are made for
those that lack them, if any has them (segments needs utt2dur then).
"""

from nnet.drivers.data_dir import KINDS, SCORING, DataDir, Table
from nnet.drivers.driver import argument, driver, log
from nnet.errors import NgtrainError


def merge(name: str, tables: list[Table]) -> Table:
    """One table of all entries.  Raises NgtrainError if a key has two values."""
    merged: Table = {}
    for table in tables:
        for key, value in table.items():
            if merged.setdefault(key, value) != value:
                raise NgtrainError(f"{name}: {key} has two values: '{merged[key]}' and '{value}'")
    return merged


def whole_recordings(path: str, data: DataDir) -> Table:
    """The segments of a directory that has none: each utterance is its whole recording."""
    if "utt2dur" not in data:
        raise NgtrainError(f"{path}: it has no segments, and no utt2dur to make them from")
    return {utt: f"{utt} 0.0 {duration}" for utt, duration in data["utt2dur"].items()}


def combine(sources: dict[str, DataDir]) -> DataDir:
    """Merge data directories, given by their names."""
    if any("segments" in data for data in sources.values()):
        for path, data in sources.items():
            if "segments" not in data:
                data.tables["segments"] = whole_recordings(path, data)
    if any("utt2uniq" in data for data in sources.values()):
        for data in sources.values():
            data.tables.setdefault("utt2uniq", {utt: utt for utt in data["utt2spk"]})
    shifts = {data.frame_shift for data in sources.values() if "feats.scp" in data}
    if len({shift.strip().rstrip("0") for shift in shifts - {None}}) > 1:  # 0.010 is 0.01
        raise NgtrainError(f"frame_shift differs: {', '.join(sorted(shifts - {None}))}")

    combined = DataDir({}, next(iter(shifts), None))
    for name in KINDS:
        tables = [data[name] for data in sources.values() if name in data]
        if len(tables) == len(sources):
            try:
                combined.tables[name] = merge(name, tables)
            except NgtrainError as error:
                if name != "cmvn.scp":
                    raise
                log.warning(f"not combining statistics, which can be made again: {error}")
        elif tables:
            log.info(f"not combining {name}, which is not in all the directories")
    for name in SCORING:
        files = [data.scoring[name] for data in sources.values() if name in data.scoring]
        if name == "glm" and any(rules != files[0] for rules in files):
            log.warning("not combining glm: the rules differ")
        elif len(files) == len(sources):
            # Each line once: comments and rules are the same.
            combined.scoring[name] = list(dict.fromkeys(line for lines in files for line in lines))
        elif files:
            log.info(f"not combining {name}, which is not in all the directories")
    return combined


@driver("""Usage:  utils/combine_data.py <dest-data-dir> <src-data-dir1> [<src-data-dir2> ...]
 e.g.: utils/combine_data.py data/train_sp data/train data/train_sp0.9 data/train_sp1.1""")
@argument("dest_data_dir")
@argument("src_data_dirs", nargs=-1)
def main(dest_data_dir, src_data_dirs):
    combined = combine({path: DataDir.read(path) for path in src_data_dirs})
    combined.write(dest_data_dir)
    combined.say_what_is_left_out(*src_data_dirs)
    log.info(
        f"combined {len(src_data_dirs)} directories into {dest_data_dir}: "
        f"{len(combined['utt2spk'])} utterances of {len(combined.spk2utt())} speakers"
    )


if __name__ == "__main__":
    main()
