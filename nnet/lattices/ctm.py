"""Words with their times, of lattices of one path that is aligned with words (nbest-to-ctm)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.paths import Path


def ctm_lines(
    key: str,
    lattice: CompactLattice,
    path: Path,
    frame_shift: float,
    precision: int,
    keep_silence: bool,
) -> Iterator[str]:
    """Yield a line for each word: key, channel 1, begin, duration, word.

    Args:
        frame_shift: in seconds, as are the times of the lines.
        precision: digits behind the point, or more if they do not tell frames apart.
        keep_silence: have arcs without a word, too.

    Source: Kaldi's latbin/nbest-to-ctm.cc.
    """
    # In single precision, as in Kaldi, where 0.01 thereby is less than the number 0.01.
    shift = np.float32(frame_shift)
    least = next((digits for below, digits in ((0.001, 4), (0.01, 3)) if float(shift) < below), 0)
    lengths = lattice.arc_strings.lengths[path.arcs]
    begins = np.cumsum(lengths) - lengths
    for word, *frames in zip(lattice.words[path.arcs].tolist(), begins, lengths, strict=True):
        if word != EPSILON or keep_silence:
            begin, duration = (
                f"{shift * np.float32(count):.{max(precision, least)}f}" for count in frames
            )
            yield f"{key} 1 {begin} {duration} {word}"
