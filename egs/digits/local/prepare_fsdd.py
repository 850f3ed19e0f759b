#!/usr/bin/env python3
"""Make the data directories train, tune and test of the Free Spoken Digit Dataset.

The recordings are <fsdd-dir>/recordings/{digit}_{speaker}_{index}.wav.  There are two splits:
 seen    the data set's own: of every speaker's 50 recordings of a digit, 0 to 4 are for test;
 unseen  all recordings of the speakers lucas and yweweler are for test.
In both, recordings 45 to 49 of the speakers that are left for training are not trained on: they
are the tuning set, on which the acoustic scale and the word insertion penalty are chosen.
"""

import re
from pathlib import Path

from utterances import Utterance, write_data_dir

from nnet.cli import Choice, argument, log, option, program
from nnet.errors import NgtrainError

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
UNSEEN_SPEAKERS = ("lucas", "yweweler")
NUM_SEEN_TEST = 5
FIRST_TUNING_INDEX = 45


def subset_of(split: str, speaker: str, index: int) -> str:
    """Return the data directory that a recording belongs to."""
    is_test = speaker in UNSEEN_SPEAKERS if split == "unseen" else index < NUM_SEEN_TEST
    if is_test:
        return "test"
    return "tune" if index >= FIRST_TUNING_INDEX else "train"


def prepare(split: str, fsdd_dir: Path, data_dir: Path) -> dict[str, int]:
    """Write data_dir/{train,tune,test}; return the number of recordings of each."""
    subsets: dict[str, list[Utterance]] = {"train": [], "tune": [], "test": []}
    for wav in (fsdd_dir / "recordings").glob("*.wav"):
        match = re.fullmatch(r"(\d)_([a-z]+)_(\d+)", wav.stem)
        if not match:
            raise NgtrainError(f"{wav}: the name is not {{digit}}_{{speaker}}_{{index}}.wav")
        digit, speaker, index = int(match[1]), match[2], int(match[3])
        name = f"{speaker}-{digit}-{index:02d}"
        utterance = Utterance(name, speaker, DIGITS[digit], wav)
        subsets[subset_of(split, speaker, index)].append(utterance)
    if not any(subsets.values()):
        raise NgtrainError(f"{fsdd_dir}: there is no recordings/*.wav in it (--fsdd-dir)")
    for subset, utterances in subsets.items():
        write_data_dir(data_dir / subset, utterances)
    return {subset: len(utterances) for subset, utterances in subsets.items()}


@program(
    "Usage:  local/prepare_fsdd.py [options] <fsdd-dir> <data-dir>\n"
    " e.g.: local/prepare_fsdd.py --split=unseen ../../../shared/fsdd exp/fsdd/unseen/data"
)
@argument("fsdd_dir")
@argument("data_dir")
@option("--split", type=Choice(["seen", "unseen"]), default="unseen", help="Which test speakers")
def main(fsdd_dir, data_dir, split):
    sizes = prepare(split, Path(fsdd_dir), Path(data_dir))
    log.info(", ".join(f"{subset}: {size} recordings" for subset, size in sizes.items()))


if __name__ == "__main__":
    main()
