"""Phones in context: C, and the list that says what its labels stand for.

A window is a phone with its context, (context width,) numbers of phones, 0 beyond the ends of the
utterance.  Label 0 stands for nothing, an empty window; a window of one number <= 0 stands for a
disambiguation symbol, whose number is the negative of that.  After Kaldi's fstext/context-fst.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnet.errors import NgtrainError
from nnet.io.tokens import Reader, Writer


def compose_context(lg, disambig_phones: Sequence[int], width: int, central_position: int) -> tuple:
    """Make C o `lg`, and the windows that its input labels stand for.

    lg: `kaldifst.StdVectorFst` from phones to words; it is changed (the end of the utterance gets a
    symbol of its own when the context reaches to the right).

    Raises NgtrainError if the central position lies outside of the window.
    """
    import kaldifst

    if not 0 <= central_position < width:
        raise NgtrainError(f"no central position {central_position} in a window of {width} phones")
    return kaldifst.compose_context(list(disambig_phones), width, central_position, lg)


def is_disambiguation(window: Sequence[int]) -> bool:
    """True if a window stands for a disambiguation symbol."""
    return len(window) == 1 and window[0] <= 0


def read_windows(reader: Reader) -> list[list[int]]:
    """Read what WriteILabelInfo wrote; NgtrainError if it is something else or truncated."""
    count = reader.integer()
    if count < 0:
        raise reader.fail(f"a list of {count} windows of phones")
    return [reader.integers().tolist() for _ in range(count)]


def write_windows(writer: Writer, windows: Sequence[Sequence[int]]) -> None:
    """Write windows as WriteILabelInfo does."""
    writer.integer(len(windows))
    for window in windows:
        writer.integers(window)
