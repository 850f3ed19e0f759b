"""Frames of a lattice: when its states are, how many, how many arcs cross each.

After Kaldi's lat/lattice-functions.cc (LatticeStateTimes, CompactLatticeDepth, ...PerFrame).
"""

from __future__ import annotations

import numpy as np

from nnet.lattices.lattice import EPSILON, CompactLattice, Lattice
from nnet.lattices.sweep import Sweep


def state_times(lattice: Lattice | CompactLattice, sweep: Sweep | None = None) -> np.ndarray:
    """Find how many frames are before each state, -1 if it cannot be reached; int64 (states,).

    All ways to a state must have as many frames.

    Raises:
        ValueError: they have not, or the lattice has a cycle.
    """
    lengths = num_frames_of_arcs(lattice)
    sweep = sweep or Sweep(lattice)
    reached = sweep.forward(lengths.astype(np.float64), np.maximum)
    times = np.where(reached >= 0, reached, -1).astype(np.int64)
    begins = times[sweep.source]
    if (times[sweep.into] != begins + lengths)[begins >= 0].any():
        raise ValueError("the ways to a state of the lattice differ in their frames")
    return times


def num_frames_of_arcs(lattice: Lattice | CompactLattice) -> np.ndarray:
    """Return how many transition-ids each arc has, int64 (arcs,)."""
    if isinstance(lattice, CompactLattice):
        return lattice.arc_strings.lengths
    return (lattice.arcs["ilabel"] != EPSILON).astype(np.int64)


def num_frames(lattice: Lattice | CompactLattice, times: np.ndarray) -> int:
    """Find how many frames the longest path has; 0 without a final state."""
    ends = times
    if isinstance(lattice, CompactLattice):
        ends = times + lattice.final_strings.lengths
    is_end = lattice.is_final & (times >= 0)
    return int(ends[is_end].max()) if is_end.any() else 0


def depth_per_frame(lattice: CompactLattice) -> np.ndarray:
    """Count the arcs (and strings of final states) that cross each frame; int32 (frames,).

    Raises:
        ValueError: ways to a state differ in their frames, or the lattice has a cycle.
    """
    sweep = Sweep(lattice)
    times = state_times(lattice, sweep)
    total = num_frames(lattice, times)
    begins = np.concatenate([times[sweep.source], times])
    lengths = np.concatenate([lattice.arc_strings.lengths, lattice.final_strings.lengths])
    begins, lengths = begins[begins >= 0], lengths[begins >= 0]
    size = max(total, int((begins + lengths).max(initial=0))) + 1
    change = np.bincount(begins, minlength=size) - np.bincount(begins + lengths, minlength=size)
    return np.cumsum(change)[:total].astype(np.int32)


def depth(lattice: CompactLattice) -> tuple[float, int]:
    """Find how many arcs cross a frame on average, 1 if there is none, and the number of frames.

    Raises:
        ValueError: ways to a state differ in their frames, or the lattice has a cycle.
    """
    total = num_frames(lattice, state_times(lattice))
    ids = len(lattice.arc_strings.values) + len(lattice.final_strings.values)
    return (ids / total if total else 1.0), total
