"""Commands made of words: the one place where words become text that a shell reads.

A command is a list of words: names of programs and files, options, numbers.  Whatever is in a word,
it stays that word: it comes from names of directories and from files that others wrote, and is
never code.

    read_from(["gunzip", "-c", archive], ["ali-to-pdf", model, "ark:-", "ark:-"])

is the rspecifier "ark:gunzip -c ali.1.gz | ali-to-pdf final.mdl ark:- ark:- |".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from nnet.cli.environment import find_program
from nnet.errors import NgtrainError
from nnet.io.text import ENCODING

Word = str | int | Path
Command = Sequence[Word]

JOB = "\0JOB\0"
"""What stands for the number of a job, in words and in the names of logs; no path has it in it."""


def quote(word: Word) -> str:
    """A word as a shell reads it."""
    text = str(word)
    if "\n" in text:
        raise NgtrainError(f"a command cannot have a line break in it: {text[:100]!r}")
    plain = text.replace(JOB, "JOB")
    return text if shlex.quote(plain) == plain else shlex.quote(text)


def pipeline(*commands: Command) -> str:
    """Commands for a shell, each of which reads what the one before prints."""
    return " | ".join(" ".join(map(quote, command)) for command in commands)


def read_from(*commands: Command, options: str = "") -> str:
    """The table that the last of some commands writes; `options` are those of the rspecifier."""
    return f"ark{options and ','}{options}:{pipeline(*commands)} |"


def unzipped(*archives: Path, options: str = "") -> str:
    """The table in gzipped archives."""
    return read_from(["gunzip", "-c", *archives], options=options)


def zipped(archive: Path) -> str:
    """A table to be written into a gzipped archive."""
    return f"ark:| {pipeline(['gzip', '-c'])} > {quote(archive)}"


def for_launcher(word: str) -> str:
    """Prepare a word for a launcher, such that bash sees it as it is.

    Launchers, Kaldi's and ours, put words with white space between double quotes, or where they
    have some in them between single quotes, and leave the others to bash.
    """
    if not re.search(r"\s", word, re.ASCII):
        return quote(word)
    quote(word)  # refuses a line break
    if '"' in word:
        return word.replace("'", "'\\''")
    return re.sub(r"([\\$`])", r"\\\1", word)


# Options in small files -----------------------------------------------------------------------

_OPTION = re.compile(r"--[\w-]+(=[\w.,:+-]*)?", re.ASCII)


def options_of(program: str, text: str, source: str | Path) -> str:
    """Check that a text is options of a program, with numbers, words and lists as values.

    Returns it, with one space between options.  Raises NgtrainError, naming its `source`, if it is
    something else.
    """
    import runpy  # not for --help

    known = None
    for word in text.split():
        known = known or runpy.run_path(find_program(program))["main"].options
        name = word.partition("=")[0].lower().replace("_", "-")
        if not _OPTION.fullmatch(word) or name not in known or name == "--config":
            raise NgtrainError(
                f"{source}: '{word[:100]}' is not an option of {program} with a number, a word or "
                "a list of them as its value"
            )
    return " ".join(text.split())


def read_options(path: Path, program: str) -> str:
    """The options of a program that are in a file, if it is there.  Raises NgtrainError."""
    return options_of(program, path.read_text(**ENCODING), path) if path.is_file() else ""


def read_numbers(path: Path) -> list[int]:
    """The numbers in a file, with colons between, as in silence.csl.  Raises NgtrainError."""
    try:
        text = path.read_text(**ENCODING).strip()
    except OSError as error:
        raise NgtrainError(f"cannot read {path}: {error.strerror}") from None
    if not re.fullmatch(r"([0-9]{1,9}(:[0-9]{1,9})*)?", text):
        raise NgtrainError(f"{path}: expected numbers and colons, found '{text[:100]}'")
    return [int(number) for number in text.split(":")] if text else []
