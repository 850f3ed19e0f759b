#!/usr/bin/env python3
"""Make a data directory with some of the utterances of another.

By default <num-utt> utterances are taken, evenly spread over the directory.  With --spk-list or
--utt-list, a file whose lines begin with the speakers or utterances to keep, there is no <num-utt>.
"""

import random
from pathlib import Path

from nnet.drivers.data_dir import (
    DataDir,
    group_by_value,
    read_amounts,
    read_rows,
    require_other_dir,
)
from nnet.drivers.driver import argument, driver, log, option
from nnet.errors import NgtrainError


def spread(items: list, number: int) -> list:
    """`number` of the items, at equal distances."""
    return [items[n * len(items) // number] for n in range(number)]


def some_speakers(speakers: list[list[str]], num_utterances: int, srand: int) -> list[str]:
    """The utterances of random speakers, as many as it takes for `num_utterances`."""
    random.Random(srand).shuffle(speakers)
    chosen: list[str] = []
    while speakers and len(chosen) < num_utterances:
        chosen += speakers.pop()
    return chosen


def shortest(path: Path, number: int) -> list[str]:
    """The `number` utterances with the fewest frames."""
    for name in "utt2num_frames", "utt2dur":
        if (path / name).is_file():
            amounts = read_amounts(path / name)
            return sorted(amounts, key=lambda utt: (amounts[utt], utt))[:number]
    raise NgtrainError("--shortest needs utt2num_frames or utt2dur in the data directory")


def read_list(path: str, known: set[str], source: str) -> set[str]:
    """The first words of the lines; those that are not known are counted and said."""
    wanted = {key for key, _ in read_rows(path)}
    if unknown := wanted - known:
        count = f"{len(unknown)} of {len(wanted)}"
        log.warning(f"{count} names in {path} are not in {source}, such as {min(unknown)}")
    return wanted


@driver("""Usage:  utils/subset_data_dir.py [options] <src-data-dir> <num-utt> <dest-data-dir>
   or:  utils/subset_data_dir.py --spk-list <file> <src-data-dir> <dest-data-dir>
 e.g.: utils/subset_data_dir.py --shortest data/train 2000 data/train_2kshort""")
@argument("src_data_dir")
@argument("rest", nargs=-1)
@option("--speakers", False, "Take random speakers with all they said")
@option("--per-spk", False, "Take <num-utt> utterances of each speaker")
@option("--first", False, "Take the first <num-utt> utterances")
@option("--last", False, "Take the last <num-utt> utterances")
@option("--shortest", False, "Take the shortest ones")
@option("--spk-list", "", "Take the speakers in this file")
@option("--utt-list", "", "Take the utterances in this file")
@option("--srand", 0, "Seed of the random choice of speakers")
def main(src_data_dir, rest, srand, **ways):
    given = {way: value for way, value in ways.items() if value}
    if len(given) > 1:
        raise NgtrainError("only one way of choosing utterances can be given")
    way, file = next(iter(given.items()), ("", ""))
    by_list = way in ("spk_list", "utt_list")
    if len(rest) != (1 if by_list else 2):
        what = "<dest-data-dir>" if by_list else "<num-utt> and <dest-data-dir>"
        raise NgtrainError(f"after <src-data-dir> come {what}, not: {' '.join(rest)}")
    if not by_list and not rest[0].isdecimal():
        raise NgtrainError(f"<num-utt> is a number, not {rest[0]}")
    require_other_dir(src_data_dir, rest[-1])

    data = DataDir.read(src_data_dir)
    utterances, speakers = sorted(data["utt2spk"]), group_by_value(data["utt2spk"])
    number = 0 if by_list else int(rest[0])
    if number > len(utterances):
        raise NgtrainError(f"{src_data_dir} has {len(utterances)} utterances, not {number}")
    match way:
        case "spk_list":
            wanted = read_list(file, set(speakers), src_data_dir)
            chosen = [utt for utt in utterances if data["utt2spk"][utt] in wanted]
        case "utt_list":
            chosen = read_list(file, set(utterances), src_data_dir)
        case "speakers":
            chosen = some_speakers(list(speakers.values()), number, srand)
        case "per_spk":
            groups = speakers.values()
            chosen = [utt for group in groups for utt in spread(group, min(number, len(group)))]
        case "first":
            chosen = utterances[:number]
        case "last":
            chosen = utterances[len(utterances) - number :]
        case "shortest":
            chosen = shortest(Path(src_data_dir), number)
        case _:
            chosen = spread(utterances, number)
    subset = data.select(set(chosen))
    subset.write(rest[-1])
    subset.say_what_is_left_out(src_data_dir)
    log.info("reducing #utt from %d to %d", len(utterances), len(subset["utt2spk"]))


if __name__ == "__main__":
    main()
