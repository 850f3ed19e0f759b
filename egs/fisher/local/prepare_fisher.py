#!/usr/bin/env python3
"""Make data directories of the Fisher English corpus: train, dev and test.

<corpus-dir> ... are directories in which the speech (LDC2004S13, LDC2005S13) and the transcripts
with their tables (LDC2004T19, LDC2005T19) lie, unpacked in whatever way: files are found by their
names.  <directory>/{train,dev,test} get wav.scp (a recording for each call, of two channels),
segments, text, utt2spk (a speaker for each side of a call) and spk2gender.

The people of dev and of test are heard nowhere else: of the calls, put in a random order, the first
ones make dev, the following ones test, and the rest train; calls by the same people are left out
where they would come into another set.

Utterances with words that the transcriber did not understand are left out, as are those of more
than --max-duration seconds, whose times are wrong.  After Kaldi's
egs/fisher_english/s5/local/fisher_data_prep.sh.
"""

import os
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nnet.cli import argument, log, option, program
from nnet.drivers.data_dir import DataDir
from nnet.errors import NgtrainError
from nnet.features.sphere import find_sph2pipe, wav_scp_entry
from nnet.io.text import text_lines

NOISES = {"[laugh]": "[laughter]"}
NOISES |= dict.fromkeys(["[sigh]", "[cough]", "[mn]", "[breath]", "[lipsmack]"], "[noise]")

CALL = re.compile(r"fe_03_(\d{5})\.(sph|txt)")
LINE = re.compile(r"(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s+([AB]):\s*(.*)")

SIDES = "AB"
PERSON_COLUMN = {"A": 5, "B": 10}
"""Of the tables *_calldata.tbl, where sex and dialect follow, as in f.a"""


class Side(NamedTuple):
    """Who speaks on a side of a call."""

    person: str
    gender: str


class Utterance(NamedTuple):
    """What is said on one side of a call, with times in seconds."""

    call: str
    side: str
    start: float
    end: float
    words: str

    @property
    def speaker(self) -> str:
        return f"{self.call}-{self.side}"

    @property
    def name(self) -> str:
        return f"{self.speaker}-{round(100 * self.start):06d}-{round(100 * self.end):06d}"


@dataclass
class Corpus:
    """The files of the corpus, by call, and who called."""

    recordings: dict[str, Path] = field(default_factory=dict)
    transcripts: dict[str, Path] = field(default_factory=dict)
    callers: dict[str, dict[str, Side]] = field(default_factory=dict)


def find_corpus(directories: Iterable[str]) -> Corpus:
    """Find the files of all calls; NgtrainError when some call lacks one."""
    corpus = Corpus()
    for directory in directories:
        if not Path(directory).is_dir():
            raise NgtrainError(f"no such directory: {directory}")
        for folder, _, files in os.walk(directory, followlinks=True):
            for name in files:
                path = Path(folder, name)
                if name.endswith("_calldata.tbl"):
                    corpus.callers |= read_callers(path)
                elif match := CALL.fullmatch(name):
                    if match[2] == "sph":
                        corpus.recordings[path.stem] = path
                    elif "trans" in path.parts:
                        corpus.transcripts[path.stem] = path
    for kind, found in (
        ("transcript", corpus.transcripts),
        ("entry in *_calldata.tbl", corpus.callers),
    ):
        missing = sorted(corpus.recordings.keys() - found.keys())
        if missing:
            raise NgtrainError(f"{len(missing)} calls have no {kind}, the first is {missing[0]}")
    return corpus


def read_callers(path: Path) -> dict[str, dict[str, Side]]:
    """Who speaks on both sides of each call, from a table of calls; its first line is a heading.

    A caller whose number is not known counts as one person for each call.
    """
    callers = {}
    for number, line in enumerate(text_lines(path), start=1):
        fields = [word.strip() for word in line.split(",")]
        if number == 1 or not line.strip():
            continue
        if not fields[0].isdecimal() or len(fields) <= PERSON_COLUMN["B"] + 1:
            raise NgtrainError(f"{path}: line {number} is no call: '{line}'")
        callers[f"fe_03_{fields[0]}"] = {
            side: Side(fields[column] or f"{fields[0]}-{side}", fields[column + 1][:1])
            for side, column in PERSON_COLUMN.items()
        }
    return callers


def read_transcript(call: str, path: Path) -> list[Utterance]:
    """The utterances of a call, noises having one of two names; see also `reason_to_leave_out`.

    Raises:
        NgtrainError: the transcript is of another call, or a line is not one.
    """
    lines = list(text_lines(path))
    if not lines or lines[0].split() != ["#", f"{call}.sph"]:
        raise NgtrainError(f"{path}: it does not begin with '# {call}.sph'")
    utterances = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            raise NgtrainError(f"{path}: line {number} is not 'START END SIDE: WORDS': '{line}'")
        words = " ".join(NOISES.get(word, word) for word in match[4].lower().split())
        utterances.append(Utterance(call, match[3], float(match[1]), float(match[2]), words))
    return utterances


def reason_to_leave_out(utterance: Utterance, max_duration: float) -> str | None:
    if not utterance.words:
        return "without words"
    if "((" in utterance.words:
        return "not understood by the transcriber"
    if not 0 < utterance.end - utterance.start <= max_duration:
        return f"of no time, or of more than {max_duration:g} seconds"
    return None


def split_calls(
    sizes: dict[str, int], callers: dict[str, dict[str, Side]], heldout: int, srand: int
) -> dict[str, list[str]]:
    """Divide calls into sets between which no person is shared.

    Args:
        sizes: the number of utterances of each call.
        heldout: the number of utterances that dev and test shall at least have.

    Raises:
        NgtrainError: a set is empty.
    """
    order = sorted(sizes)
    random.Random(srand).shuffle(order)
    people = {call: {side.person for side in callers[call].values()} for call in order}
    sets: dict[str, list[str]] = {"dev": [], "test": [], "train": []}
    taken: dict[str, str] = {}  # by a person, the set where this person is heard
    for name in "dev", "test", "train":
        size = 0
        for call in order:
            if name != "train" and size >= heldout:
                break
            if call not in taken and all(taken.get(p, name) == name for p in people[call]):
                sets[name].append(call)
                size += sizes[call]
                taken |= dict.fromkeys([*people[call], call], name)
        if not size:
            raise NgtrainError(
                f"no calls are left for {name}: --heldout-utts={heldout} is too many"
            )
    return sets


def data_dir(utterances: list[Utterance], corpus: Corpus, sph2pipe: str | None) -> DataDir:
    calls = sorted({u.call for u in utterances})
    return DataDir(
        {
            "wav.scp": {c: wav_scp_entry(corpus.recordings[c], sph2pipe) for c in calls},
            "segments": {
                u.name: f"{u.call} {u.start:.2f} {u.end:.2f} {SIDES.index(u.side)}"
                for u in utterances
            },
            "text": {u.name: u.words for u in utterances},
            "utt2spk": {u.name: u.speaker for u in utterances},
            "spk2gender": {u.speaker: corpus.callers[u.call][u.side].gender for u in utterances},
        }
    )


@program(
    "Usage:  local/prepare_fisher.py [options] <directory> <corpus-dir> [<corpus-dir> ...]\n"
    " e.g.: local/prepare_fisher.py data /corpora/LDC2004S13 /corpora/LDC2004T19 "
    "/corpora/LDC2005S13 /corpora/LDC2005T19"
)
@argument("directory")
@argument("corpus_dirs", nargs=-1)
@option("--num-calls", type=int, default=11699, help="Calls that there must be; 0: any number")
@option("--heldout-utts", type=int, default=5000, help="Utterances of dev, and of test")
@option("--max-duration", type=float, default=60.0, help="Longer utterances are left out (seconds)")
@option("--srand", type=int, default=0, help="Seed of the order of calls")
def main(directory, corpus_dirs, num_calls, heldout_utts, max_duration, srand):
    corpus = find_corpus(corpus_dirs)
    found = len(corpus.recordings)
    if not found or num_calls not in (0, found):
        raise NgtrainError(
            f"expected {num_calls or 'some'} recordings of calls (fe_03_*.sph) in "
            f"{' '.join(corpus_dirs)}, found {found}"
        )
    utterances: dict[str, list[Utterance]] = {}
    left_out: Counter[str] = Counter()
    for call in sorted(corpus.recordings):
        for utterance in read_transcript(call, corpus.transcripts[call]):
            if reason := reason_to_leave_out(utterance, max_duration):
                left_out[reason] += 1
            else:
                utterances.setdefault(call, []).append(utterance)
    for reason, number in sorted(left_out.items()):
        log.info(f"left out {number} utterances {reason}")

    sph2pipe = find_sph2pipe()
    sizes = {call: len(said) for call, said in utterances.items()}
    for name, calls in split_calls(sizes, corpus.callers, heldout_utts, srand).items():
        said = [utterance for call in calls for utterance in utterances[call]]
        data_dir(said, corpus, sph2pipe).write(Path(directory, name))
        hours = sum(u.end - u.start for u in said) / 3600
        log.info(f"{name}: {len(calls)} calls, {len(said)} utterances, {hours:.2f} hours")


if __name__ == "__main__":
    main()
