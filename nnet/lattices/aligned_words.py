"""Words with their times and phones, of lattices of one path that are aligned with words.

After Kaldi's latbin/nbest-to-ctm.cc, latbin/nbest-to-prons.cc, and CompactLatticeToWordProns in
lat/lattice-functions-transition-model.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nnet.hmm.transition_model import TransitionModel
from nnet.io.losses import Losses
from nnet.io.streams import open_output
from nnet.io.tables import sequential_table
from nnet.io.text import encode
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.paths import Path, only_path
from nnet.lattices.tables import COMPACT_LATTICE


class AlignedWord(NamedTuple):
    """Hold what stands on an arc.

    Attributes:
        word: its number, EPSILON for silence.
        begin: frame.
        ids: transition-ids, int32 (frames,).
    """

    word: int
    begin: int
    ids: np.ndarray


def aligned_words(lattice: CompactLattice, path: Path) -> list[AlignedWord]:
    """List what stands on the arcs of a path."""
    ids = [lattice.arc_strings[arc] for arc in path.arcs]
    begins = np.cumsum([0, *map(len, ids)]).tolist()
    words = lattice.words[path.arcs].tolist()
    return [AlignedWord(*row) for row in zip(words, begins[:-1], ids, strict=True)]


def write_words(
    rspecifier: str, wxfilename: str, line_of: Callable[[str, AlignedWord], str | None]
) -> tuple[int, int]:
    """Write a line for each word of a table of lattices; how many were usable, and how many not.

    line_of: called with the key and a word; None where there is nothing to write.
    """
    num_done, losses, approximate = 0, Losses(), Losses()
    with sequential_table(rspecifier, COMPACT_LATTICE) as lattices, open_output(wxfilename) as out:
        for key, lattice in lattices:
            try:
                path = only_path(lattice)
            except ValueError as error:
                losses.add(key, error)
                continue
            if lattice.final_strings.lengths[path.final]:
                approximate.add(key)
            lines = (line_of(key, word) for word in aligned_words(lattice, path))
            out.write(encode("".join(f"{line}\n" for line in lines if line)))
            num_done += 1
    losses.report("%d lattices are left out")
    approximate.report(
        "%d lattices have transition-ids behind their last word: they are not aligned with words, "
        "and times are approximate"
    )
    return num_done, losses.count


def ctm_line(key: str, word: AlignedWord, frame_shift: float, precision: int) -> str:
    """Format a word: key, channel 1, begin, duration, word; times in seconds, as is frame_shift.

    precision: digits behind the point, or more if they do not tell frames apart.
    """
    # In single precision, as in Kaldi, where 0.01 thereby is less than the number 0.01.
    shift = np.float32(frame_shift)
    least = 4 if float(shift) < 0.001 else 3 if float(shift) < 0.01 else 0
    begin, duration = (
        f"{shift * np.float32(frames):.{max(precision, least)}f}"
        for frames in (word.begin, len(word.ids))
    )
    return f"{key} 1 {begin} {duration} {word.word}"


def pron_line(key: str, word: AlignedWord, model: TransitionModel, per_phone: bool) -> str:
    """Format a word: key, begin, number of frames, word, phones; times in frames.

    per_phone: have the number of frames of each phone, separated by commas.

    Raises:
        NgtrainError: it has transition-ids that the model does not have.
    """
    model.check_alignment(word.ids, key)
    starts = model.phone_starts(word.ids)
    lengths = np.diff(np.append(starts, len(word.ids)))
    length = ",".join(map(str, lengths)) if per_phone and len(lengths) else str(len(word.ids))
    phones = model.phone_of[word.ids[starts]]
    return " ".join(map(str, (key, word.begin, length, word.word, *phones)))
