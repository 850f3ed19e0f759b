#!/usr/bin/env python3
"""Check a data directory, and say all that is wrong with it, a line for each problem.

A file that an option --no-... names may be missing, but is checked when it is there.
"""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import UnknownWords
from nnet.drivers.data_dir import (
    KINDS,
    RECORDING,
    SCORING,
    SPEAKER,
    UTTERANCE,
    Table,
    group_by_value,
    recording_of,
    to_number,
)
from nnet.drivers.driver import argument, log, option, tool
from nnet.errors import NgtrainError
from nnet.io.text import (
    BYTE_ORDER_MARK,
    FALSE_SPACE,
    decode,
    is_utf8,
    split_key,
    split_words,
    visible,
)

FORBIDDEN_WORDS = {"<s>", "</s>", "#0"}
ONLY_LOOKS = "what only looks like a space, and separates nothing"


class Checks:
    """The checks of one data directory; `problems` is what they found."""

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        names = [name for name in ("spk2utt", *KINDS) if (path / name).is_file()]
        self.tables = {name: self.read(name) for name in names}
        for name in SCORING:
            if (path / name).is_file():
                self.lines(name)

    def problem(self, name: str, reason: str) -> None:
        self.problems.append(f"{self.path / name}: {reason}")

    def read(self, name: str) -> Table:
        """Read a file: its keys are sorted, and each comes once."""
        table: Table = {}
        last = ""
        for number, line in enumerate(self.lines(name), 1):
            key, value = split_key(line)
            if not key:
                self.problem(name, f"line {number} is empty")
                continue
            if key in table:
                self.problem(name, f"line {number}: the key {key} comes a second time")
            elif key < last:
                self.problem(name, f"line {number}: {key} stands after {last}: not sorted")
            if FALSE_SPACE.search(key):
                self.problem(name, f"line {number}: the key {visible(key)} has {ONLY_LOOKS}")
            table[key] = value
            last = key
        return table

    def lines(self, name: str) -> list[str]:
        """The lines of a file; they end with a newline, and nothing hides at their ends."""
        data = (self.path / name).read_bytes()
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            self.problem(name, "it is UTF-16 and should be UTF-8 (see iconv)")
            return []
        text = decode(data)
        if not text:
            self.problem(name, "it is empty")
            return []
        if not text.endswith("\n"):
            self.problem(name, "the last line does not end with a newline")
        if "\r" in text:
            self.problem(name, "lines end with a carriage return, as on DOS")
        lines = text.removesuffix("\n").split("\n")
        if count := sum(line.startswith(BYTE_ORDER_MARK) for line in lines):
            reason = "begin with a byte order mark, which no terminal shows"
            self.problem(name, f"{count} lines {reason} (fix_data_dir.py takes it away)")
        return [line.removeprefix(BYTE_ORDER_MARK) for line in lines]

    def required(self, name: str, option_: str = "") -> None:
        if name not in self.tables:
            hint = f" ({option_} says that this is meant)" if option_ else ""
            self.problem(name, f"there is no such file{hint}")

    def keys(self, name: str, wanted: set[str], whose: str) -> None:
        """The keys of the file are just those wanted."""
        there = set(self.tables[name])
        for difference, reason in (wanted - there, "lacks"), (there - wanted, "has too many"):
            if difference:
                example = min(difference)
                self.problem(name, f"{reason}: {len(difference)} {whose}, such as {example}")

    def values(self, name: str, is_good: Callable[[str], bool], form: str) -> None:
        """Every value of the file is of the right form."""
        bad = [key for key, value in self.tables.get(name, {}).items() if not is_good(value)]
        if bad:
            line = visible(f"{bad[0]} {self.tables[name][bad[0]]}".rstrip())
            self.problem(name, f"{len(bad)} lines are not '{form}', such as '{line}'")


def check_speakers(checks: Checks, need_spk_sort: bool) -> None:
    checks.values("utt2spk", lambda value: len(value.split()) == 1, "utterance speaker")
    utt2spk = {utt: speaker for utt, speaker in checks.tables["utt2spk"].items() if speaker}
    checks.tables["utt2spk"] = utt2spk
    speakers = list(utt2spk.values())
    if need_spk_sort and speakers != sorted(speakers):
        reason = "sorted by utterance, it is not sorted by speaker: speakers should be prefixes"
        checks.problem("utt2spk", f"{reason} of utterances (--no-spk-sort says that this is meant)")
    groups = {speaker: " ".join(utts) for speaker, utts in group_by_value(utt2spk).items()}
    spk2utt = checks.tables.get("spk2utt", groups)
    differing = [s for s in {**groups, **spk2utt} if groups.get(s) != spk2utt.get(s)]
    if differing:
        reason = f"it does not match utt2spk for {len(differing)} speakers, such as"
        checks.problem("spk2utt", f"{reason} {min(differing)}")
    if len(groups) == 1:
        log.warning(
            "there is only one speaker: if it is not known who speaks, rather make each utterance "
            "a speaker of its own"
        )


def check_text(checks: Checks, allow_non_print: bool) -> None:
    checks.values(
        "text",
        lambda words: not FORBIDDEN_WORDS & set(words.split()),
        f"utterance words, without {' '.join(sorted(FORBIDDEN_WORDS))}",
    )
    checks.values("text", lambda words: not FALSE_SPACE.search(words), f"without {ONLY_LOOKS}")
    if not allow_non_print:
        checks.values("text", is_utf8, "in UTF-8 (see iconv)")
        checks.values("text", lambda words: words.replace("\t", " ").isprintable(), "printable")


def check_words(checks: Checks, words: SymbolTable) -> None:
    """Say how many words of the transcripts are unknown; most of them is a problem."""
    unknown = UnknownWords(words)
    for transcript in checks.tables.get("text", {}).values():
        unknown.add(split_words(transcript))
    try:
        unknown.report(str(checks.path / "text"))
    except NgtrainError as error:
        checks.problems.append(str(error))


def check_segments(checks: Checks) -> None:
    def is_segment(value: str) -> bool:
        fields = value.split()
        if len(fields) == 4 and fields[3].isdecimal():
            fields.pop()  # the channel
        return len(fields) == 3 and 0 <= to_number(fields[1]) < to_number(fields[2])

    checks.values("segments", is_segment, "utterance recording begin end [channel]")


def check_files(checks: Checks, name: str) -> None:
    """What a script file names is there; a pipe may be good anywhere."""
    size_of = functools.cache(lambda path: os.path.getsize(path) if os.path.isfile(path) else -1)
    missing, beyond = [], []
    for value in checks.tables.get(name, {}).values():
        if not value or value.endswith("|"):
            continue
        path, offset = re.fullmatch(r"(.*?)(?::([0-9]{1,18}))?(?:\[[^[]*\])?", value).groups("0")
        if size_of(path) < 0:
            missing.append(path)
        elif size_of(path) < int(offset):
            beyond.append(value)
    if missing:
        checks.problem(name, f"{len(missing)} files are not there, such as {missing[0]}")
    if beyond:
        checks.problem(name, f"{len(beyond)} places are beyond the end, such as {beyond[0]}")


def check_recordings(checks: Checks) -> None:
    checks.values("wav.scp", lambda name: bool(name) and name[0] != "~", "recording rxfilename")
    checks.values(
        "reco2file_and_channel",
        lambda value: re.fullmatch(r"\S+\s+[AB1]", value) is not None,
        "recording file A|B",
    )


def check_numbers(checks: Checks) -> None:
    for name in "utt2dur", "reco2dur":
        checks.values(name, lambda value: to_number(value) > 0, f"{name[:-4]} seconds")
    checks.values(
        "utt2num_frames", lambda n: n.isdecimal() and to_number(n) > 0, "utterance number"
    )
    for name in "utt2warp", "spk2warp":
        checks.values(name, lambda value: 0.5 < to_number(value) < 1.5, f"{name[:3]} 0.5..1.5")
    checks.values("spk2gender", lambda value: value in ("m", "f"), "speaker m|f")


def check_keys(checks: Checks) -> None:
    """All files speak of the same utterances, speakers and recordings."""
    utt2spk, segments = checks.tables["utt2spk"], checks.tables.get("segments")
    keys = {UTTERANCE: set(utt2spk), SPEAKER: set(utt2spk.values())}
    if segments is None:
        keys[RECORDING] = keys[UTTERANCE]
    else:
        keys[RECORDING] = {recording_of(value) for value in segments.values() if value}
    for name in checks.tables:
        if name in KINDS:
            kind = UTTERANCE if segments is None and KINDS[name] == RECORDING else KINDS[name]
            source = {UTTERANCE: "utt2spk", SPEAKER: "utt2spk", RECORDING: "segments"}[kind]
            if name != source:
                checks.keys(name, keys[kind], f"{kind}s of {source}")


def all_problems(
    path: Path,
    no_feats: bool = False,
    no_text: bool = False,
    no_wav: bool = False,
    no_spk_sort: bool = False,
    non_print: bool = False,
    lang: str = "",
) -> list[str]:
    """What is wrong with a data directory; the arguments are the options of the program."""
    checks = Checks(path)
    checks.required("utt2spk")
    checks.required("spk2utt")
    for name, may_be_missing, option_ in (
        ("feats.scp", no_feats, "--no-feats"),
        ("text", no_text, "--no-text"),
        ("wav.scp", no_wav and "segments" not in checks.tables, "--no-wav"),
    ):
        if not may_be_missing:
            checks.required(name, option_)
    check_segments(checks)
    if "utt2spk" in checks.tables:
        check_speakers(checks, not no_spk_sort)
        check_keys(checks)
    check_text(checks, non_print)
    if lang:
        check_words(checks, SymbolTable.load(f"{lang}/words.txt"))
    check_recordings(checks)
    for name in "wav.scp", "feats.scp", "cmvn.scp", "vad.scp":
        check_files(checks, name)
    check_numbers(checks)
    return checks.problems


@tool("""Usage:  utils/validate_data_dir.py [--no-feats] [--no-text] [--no-wav] [--no-spk-sort] \
[--non-print] [--lang <lang-dir>] <data-dir>
 e.g.: utils/validate_data_dir.py --no-feats data/train""")
@argument("data_dir")
@option("--no-feats", False, "feats.scp may be missing")
@option("--no-text", False, "text may be missing")
@option("--no-wav", False, "wav.scp may be missing")
@option("--no-spk-sort", False, "utt2spk need not be sorted by speaker")
@option("--lang", "", "The words of text should be in words.txt of this directory")
@option("--non-print", False, "text may hold what cannot be printed")
def main(data_dir, **options):
    path = Path(data_dir)
    if not path.is_dir():
        raise NgtrainError(f"no such directory: {path}")
    problems = all_problems(path, **options)
    for problem in problems:
        log.error(problem)
    if problems:
        return 1
    log.info("Successfully validated data-directory %s", path)


if __name__ == "__main__":
    main()
