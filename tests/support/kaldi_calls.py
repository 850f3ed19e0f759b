#!/usr/bin/env python3
"""Reduce command lines of tests/kaldi_scripts.sh to a few for each program, without names of files.

    tests/support/kaldi_calls.py CALLS > tests/reference/kaldi_calls.txt

A line of the result is a program with its options and arguments, as a shell takes them; files are
FILE, and what pipes run is COMMAND.  Of the command lines of a program those stay that have an
option, or a sequence of kinds of arguments, which none before them has.
"""

import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "reference/kaldi_calls.txt"


def without_names(word: str) -> str:
    """Replace the names of files and the commands of pipes in a word of a command line."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return f"{name}{equals}{without_names(value)}" if equals else word
    prefix, name = re.fullmatch(r"((?:(?:ark|scp)[a-z,]*:)?)(.*)", word, re.DOTALL).groups()
    if name.rstrip().endswith("|"):
        name = "COMMAND |"
    elif name.startswith("|"):
        name = "| COMMAND"
    elif ",scp" in prefix:  # an archive, and its script file
        name = "FILE,FILE"
    elif name != "-" and (prefix or re.search(r"[/.][^0-9]", name)):
        name = "FILE"
    return prefix + name


def reduced(lines: Iterable[str]) -> list[str]:
    """Keep what adds something, sorted by program."""
    seen, kept = defaultdict(set), set()
    for words in map(shlex.split, lines):
        program, *words = [without_names(word) for word in words]
        arguments = [word for word in words if not word.startswith("--")]
        kinds = tuple(kind for kind, _ in groupby(arguments))  # FILE FILE is another FILE
        traits = {kinds, *(word.partition("=")[0] for word in words if word.startswith("--"))}
        if not traits <= seen[program]:
            seen[program] |= traits
            kept.add(shlex.join([program, *words]))
    return sorted(kept)


def table() -> dict[str, list[list[str]]]:
    """The words of each command line of the table, by program."""
    calls = defaultdict(list)
    for line in TABLE.read_text().splitlines():
        program, *words = shlex.split(line)
        calls[program].append(words)
    return calls


if __name__ == "__main__":
    print("\n".join(reduced(Path(sys.argv[1]).read_text().splitlines())))
