"""Transcripts as the word-ids of a lang directory."""

from pathlib import Path

from utils.commands import read_from
from utils.driver import read_integer


def transcript_rspecifier(lang: Path, data: Path) -> str:
    """The table of the transcripts of a data directory; unknown words become the oov word."""
    oov = read_integer(lang / "oov.int")
    symbols = ["sym2int.py", "--map-oov", oov, "-f", "2-", lang / "words.txt", data / "text"]
    return read_from(symbols)
