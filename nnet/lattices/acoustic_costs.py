"""Acoustic costs of single frames, which determinization adds up and moves.

After Kaldi's lat/lattice-functions.cc (ComputeAcousticScoresMap, ReplaceAcousticScoresFromMap).
"""

from __future__ import annotations

import numpy as np

from nnet.lattices.lattice import ACOUSTIC, EPSILON, Lattice
from nnet.lattices.times import state_times


def with_acoustic_costs_of(raw: Lattice, lattice: Lattice) -> Lattice:
    """Give each transition-id the acoustic cost that it has at its frame in a raw lattice.

    It is the average, where several arcs of that one have the same transition-id at a frame.

    Args:
        raw: as a search has made it: what is not a transition-id has no acoustic cost.
        lattice: it has no transition-ids at a frame but those of `raw`.

    Raises:
        ValueError: `raw` has acoustic costs elsewhere, or a cycle.
    """
    has_id = raw.arcs["ilabel"] != EPSILON
    elsewhere = raw.arcs["weight"][~has_id, ACOUSTIC], raw.finals[raw.is_final, ACOUSTIC]
    if any(costs.any() for costs in elsewhere):
        raise ValueError(
            "it has acoustic costs without transition-ids, so it is not as a search made it, and "
            "costs of frames cannot be kept"
        )
    keys, key_of, count = np.unique(
        _frames_and_ids(raw, has_id), return_inverse=True, return_counts=True
    )
    average = np.bincount(key_of, raw.arcs["weight"][has_id, ACOUSTIC]) / count

    has_id = lattice.arcs["ilabel"] != EPSILON
    weights, finals = lattice.arcs["weight"].copy(), lattice.finals.copy()
    weights[:, ACOUSTIC] = finals[lattice.is_final, ACOUSTIC] = 0
    weights[has_id, ACOUSTIC] = average[np.searchsorted(keys, _frames_and_ids(lattice, has_id))]
    return lattice.with_weights(weights, finals)


def _frames_and_ids(lattice: Lattice, has_id: np.ndarray) -> np.ndarray:
    """Combine the frame and the transition-id of arcs that have one; int64 (arcs,)."""
    return (state_times(lattice)[lattice.source] << 32 | lattice.arcs["ilabel"])[has_id]
