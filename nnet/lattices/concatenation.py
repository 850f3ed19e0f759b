"""Lattices one after the other (OpenFst's Concat), and with one end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnet.lattices.lattice import COMPACT_ARC, EPSILON, CompactLattice
from nnet.lattices.strings import LabelStrings


def concatenated(lattices: Sequence[CompactLattice]) -> CompactLattice:
    """Make a lattice whose paths are one of each lattice in turn; none of them is empty.

    An arc without a word leads from each final state to the start of the next lattice, and has the
    final weight; states keep their order.
    """
    offsets = np.cumsum([0, *(lattice.num_states for lattice in lattices)])
    starts = [lattice.start + first for lattice, first in zip(lattices, offsets[:-1], strict=True)]
    source, arcs, strings = [], [], []
    for i, lattice in enumerate(lattices):
        inside = lattice.arcs.copy()
        inside["nextstate"] += offsets[i]
        source.append(lattice.source + offsets[i])
        arcs.append(inside)
        strings.append(lattice.arc_strings)
        if i + 1 < len(lattices):
            finals = np.flatnonzero(lattice.is_final)
            across = np.zeros(len(finals), COMPACT_ARC)
            across["label"], across["nextstate"] = EPSILON, starts[i + 1]
            across["weight"] = lattice.finals[finals]
            source.append(finals + offsets[i])
            arcs.append(across)
            strings.append(lattice.final_strings.take(finals))
    finals = np.full((offsets[-1], 2), np.inf, np.float32)
    finals[offsets[-2] :] = lattices[-1].finals
    before_last = LabelStrings.empty(int(offsets[-2]))
    return CompactLattice.from_arcs(
        *(starts[0], finals, np.concatenate(source), np.concatenate(arcs)),
        LabelStrings.concatenate(strings),
        LabelStrings.concatenate([before_last, lattices[-1].final_strings]),
    )


def lattice_of_string(string: np.ndarray) -> CompactLattice:
    """Make the lattice of one state that has a string of transition-ids, at no cost."""
    nothing = np.zeros(0, COMPACT_ARC)
    return CompactLattice.from_arcs(
        0, np.zeros((1, 2)), [], nothing, LabelStrings.empty(0), LabelStrings.of([string])
    )


def with_one_end(lattice: CompactLattice) -> CompactLattice:
    """Have all paths end in one state, without a cost and arcs (Kaldi's CreateSuperFinal).

    It is a new state, to which arcs without a word have the final weights, unless the lattice is so
    already.
    """
    finals = np.flatnonzero(lattice.is_final)
    if len(finals) == 1:
        (final,) = finals
        has_weight = lattice.finals[final].any() or lattice.final_strings.lengths[final]
        if not has_weight and lattice.first_arc[final] == lattice.first_arc[final + 1]:
            return lattice
    return concatenated([lattice, lattice_of_string(np.zeros(0, np.int32))])
