"""Transcripts as the word-ids of a lang directory."""

from pathlib import Path


def transcript_rspecifier(lang: Path, data: Path) -> str:
    """The table of the transcripts of a data directory; unknown words become the oov word."""
    oov = (lang / "oov.int").read_text().strip()
    return f"ark:sym2int.py --map-oov {oov} -f 2- {lang}/words.txt {data}/text |"
