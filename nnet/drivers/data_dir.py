"""Kaldi data directories: read one, select, rename, merge, and write it again.

A data directory is a set of files; each line is a key and its value, and the lines are sorted by
the key's bytes (https://kaldi-asr.org/doc/data_prep.html).  What the keys of a file are, its
*kind*, is all that the operations need to know.  spk2utt follows from utt2spk, and is written,
never read.
"""

import logging
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.streams import shortened
from nnet.io.text import ENCODING, split_key, text_lines, visible, write_lines

log = logging.getLogger("ngtrain")

Table = dict[str, str]
Naming = Callable[[str], str]

UTTERANCE, SPEAKER, RECORDING = "utterance", "speaker", "recording"
FILES_OF_KINDS = {
    UTTERANCE: "utt2spk text segments feats.scp vad.scp utt2lang utt2uniq utt2warp utt2dur "
    "utt2num_frames",
    SPEAKER: "cmvn.scp spk2gender spk2warp",
    RECORDING: "wav.scp reco2file_and_channel reco2dur",
}
KINDS = {name: kind for kind, names in FILES_OF_KINDS.items() for name in names.split()}
"""The files of a data directory and what their keys are.  Without a file segments, recordings are
utterances."""

SCORING = ("stm", "ctm", "glm")
"""What NIST's scoring reads: references, words with times, mapping rules.  Lines of the first two
begin with a file of reco2file_and_channel or, without that, with a recording."""

FILES = {*KINDS, *SCORING, "spk2utt", "frame_shift"}
"""All files of a data directory."""

COMMENT = ";;"


@dataclass
class DataDir:
    """The contents of a data directory.

    tables: by file name, those of KINDS.
    frame_shift: in seconds, if it is given.
    scoring: the lines of those files of SCORING that are there.
    """

    tables: dict[str, Table]
    frame_shift: str | None = None
    scoring: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike, table=None, lines=text_lines) -> "DataDir":
        """Read a directory, its tables and other files by the functions.  Raises NgtrainError."""
        path = Path(path)
        if not (path / "utt2spk").is_file():
            raise NgtrainError(f"no such file: {path}/utt2spk")
        table = table or read_table
        tables = {name: table(path / name) for name in KINDS if (path / name).is_file()}
        shift = path / "frame_shift"
        scoring = {name: list(lines(path / name)) for name in SCORING if (path / name).is_file()}
        return cls(tables, shift.read_text(**ENCODING) if shift.is_file() else None, scoring)

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def kind(self, name: str) -> str:
        """Tell what the keys of the file `name` are."""
        if KINDS[name] == RECORDING and "segments" not in self:
            return UTTERANCE
        return KINDS[name]

    def spk2utt(self) -> Table:
        """List the utterances of each speaker, separated by spaces."""
        return {spk: " ".join(utts) for spk, utts in group_by_value(self["utt2spk"]).items()}

    def select(self, utterances: Collection[str]) -> "DataDir":
        """Select what belongs to `utterances`, and to their speakers and recordings."""
        (data,) = self.split([utterances])
        files = data["utt2spk"].keys()
        if "reco2file_and_channel" in data:
            files = {recording_of(value) for value in data["reco2file_and_channel"].values()}
        elif "segments" in data:
            files = {recording_of(segment) for segment in data["segments"].values()}
        data.scoring = {
            name: [
                line
                for line in lines
                if name == "glm" or line.startswith(COMMENT) or split_key(line)[0] in files
            ]
            for name, lines in self.scoring.items()
        }
        return data

    def split(self, parts: Sequence[Collection[str]]) -> list["DataDir"]:
        """Split into what belongs to the utterances of each part, their speakers and recordings.

        No utterance may be in two parts.  The files for scoring are not split.
        """
        part_of = {utterance: n for n, part in enumerate(parts) for utterance in part}
        segments = self.tables.get("segments", {})
        numbers = {kind: defaultdict(set) for kind in (UTTERANCE, SPEAKER, RECORDING)}
        for utterance, speaker in self["utt2spk"].items():
            if (number := part_of.get(utterance)) is not None:
                numbers[UTTERANCE][utterance].add(number)
                numbers[SPEAKER][speaker].add(number)
                if utterance in segments:
                    numbers[RECORDING][recording_of(segments[utterance])].add(number)
        split = [DataDir({name: {} for name in self.tables}, self.frame_shift) for _ in parts]
        for name, table in self.tables.items():
            parts_with = numbers[self.kind(name)]
            for key, value in table.items():
                for number in parts_with.get(key, ()):
                    split[number].tables[name][key] = value
        return split

    def rename(
        self, utterance: Naming = str, speaker: Naming = str, recording: Naming = str
    ) -> "DataDir":
        """Give utterances, speakers and recordings the names that the functions return.

        If utterances get new names, utt2uniq remembers what each was called at first.
        """
        new_name = {UTTERANCE: utterance, SPEAKER: speaker, RECORDING: recording}
        tables = {
            name: {new_name[self.kind(name)](key): value for key, value in table.items()}
            for name, table in self.tables.items()
        }
        tables["utt2spk"] = {u: speaker(s) for u, s in tables["utt2spk"].items()}
        if any(utterance(u) != u for u in self["utt2spk"]):
            first = self.tables.get("utt2uniq", {})
            tables["utt2uniq"] = {utterance(u): first.get(u, u) for u in self["utt2spk"]}
        if "segments" in tables:
            for utt, segment in tables["segments"].items():
                name = recording_of(segment)
                tables["segments"][utt] = f"{recording(name)}{segment.removeprefix(name)}"
        file_name = str if "reco2file_and_channel" in tables else new_name[self.kind("wav.scp")]
        scoring = {
            name: [_with_other_key(line, file_name) if name != "glm" else line for line in lines]
            for name, lines in self.scoring.items()
        }
        return DataDir(tables, self.frame_shift, scoring)

    def write(self, path: str | os.PathLike) -> None:
        """Write the directory; such files as are there already and not in it go to path/.backup."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        for name in FILES - self.files():
            if (path / name).exists():
                (path / ".backup").mkdir(exist_ok=True)
                (path / name).rename(path / ".backup" / name)
        for name, table in self.tables.items():
            write_table(path / name, table)
        for name, lines in self.scoring.items():
            write_lines(path / name, lines)
        write_table(path / "spk2utt", self.spk2utt())
        if self.frame_shift is not None:
            write_lines(path / "frame_shift", [self.frame_shift.strip()])

    def files(self) -> set[str]:
        """List the names of the files that it is written to."""
        shift = {"frame_shift"} if self.frame_shift is not None else set()
        return {"spk2utt", *self.tables, *self.scoring, *shift}

    def say_what_is_left_out(self, *sources: str | os.PathLike) -> None:
        """Name the files of the directories that it was made of that it has not."""
        for source in sources:
            there = {path.name for path in Path(source).iterdir() if path.is_file()}
            if left_out := sorted(n for n in there - self.files() if not n.startswith(".")):
                log.info("files of %s that are left out: %s", source, ", ".join(left_out))


def _with_other_key(line: str, new_name: Naming) -> str:
    key, rest = split_key(line)
    return line if not key or key.startswith(COMMENT) else f"{new_name(key)} {rest}"


def require_other_dir(source: str | os.PathLike, destination: str | os.PathLike) -> None:
    """Raise NgtrainError if the two are the same directory."""
    if Path(source).resolve() == Path(destination).resolve():
        raise NgtrainError(f"the source and the destination are the same directory: {source}")


def recording_of(segment: str) -> str:
    """Find the recording in a value of the file segments, ``recording begin end``; "" if empty."""
    return split_key(segment)[0]


def group_by_value(table: Table) -> dict[str, list[str]]:
    """List the sorted keys of each value, values in the order in which they come first."""
    groups: dict[str, list[str]] = {}
    for key in sorted(table):
        groups.setdefault(table[key], []).append(key)
    return groups


def print_row(row: str) -> None:
    """Print a line, in the encoding that it came in."""
    sys.stdout.buffer.write(f"{row}\n".encode(**ENCODING))


def read_rows(path: str | os.PathLike) -> list[tuple[str, str]]:
    """Read the (key, value) of each line; a value may be empty, but not a line (NgtrainError)."""
    return [split_row(line, f"{path}: line {n}") for n, line in enumerate(text_lines(path), 1)]


def split_row(line: str, where: str) -> tuple[str, str]:
    """Split at the first white space; `where` is named when there is no key."""
    key, value = split_key(line)
    if not key:
        raise NgtrainError(f"{where} is empty")
    return key, value


def read_table(path: str | os.PathLike) -> Table:
    """Read a file of a data directory.  Raises NgtrainError if a key comes twice."""
    table: Table = {}
    for number, (key, value) in enumerate(read_rows(path), 1):
        if key in table:
            raise NgtrainError(f"{path}: line {number}: the key {key} comes a second time")
        table[key] = value
    return table


def to_number(text: str) -> float:
    """Read the number that `text` says, or NaN, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_amounts(path: str | os.PathLike) -> dict[str, float]:
    """Read a file such as utt2dur; NgtrainError where a value is no finite number from 0 on."""
    amounts = {key: to_number(value) for key, value in read_table(path).items()}
    if bad := [key for key, amount in amounts.items() if not 0 <= amount < math.inf]:
        raise NgtrainError(f"{path}: {len(bad)} lines have no number from 0 on, such as {bad[0]}")
    return amounts


def read_frame_shift(data: str | os.PathLike) -> float:
    """Read a directory's frame_shift, in seconds; 0.01 if it has none.  Raises NgtrainError."""
    path = Path(data) / "frame_shift"
    if not path.is_file():
        return 0.01
    text = path.read_text(**ENCODING).strip()
    if not 0 < to_number(text) <= 1:
        found = visible(shortened(text))
        wanted = "the seconds between frames, such as 0.01"
        raise NgtrainError(f"{path}: expected {wanted}, found '{found}'")
    return to_number(text)


def write_table(path: str | os.PathLike, table: Table) -> None:
    """Write `table` sorted by key; the file appears whole."""
    write_lines(path, (f"{key} {value}".rstrip() for key, value in sorted(table.items())))
