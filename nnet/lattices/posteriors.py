"""Forward-backward over lattices (Kaldi lat/lattice-functions.cc, LatticeForwardBackward)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.hmm.posterior import Posterior
from nnet.lattices.lattice import ACOUSTIC, EPSILON, Lattice
from nnet.lattices.sweep import Sweep
from nnet.lattices.times import num_frames, state_times


@dataclass(frozen=True)
class LatticeOccupancies:
    """What forward-backward finds in a lattice.

    Attributes:
        log_likelihood: of all paths together.
        acoustic: acoustic log-likelihood, the mean over paths by their posteriors.
        arcs: posterior of each arc, float64 (arcs,).
        times: frame at which each state is, int64 (states,).
        num_frames: frames of the utterance.
    """

    log_likelihood: float
    acoustic: float
    arcs: np.ndarray
    times: np.ndarray
    num_frames: int


def forward_backward(lattice: Lattice) -> LatticeOccupancies:
    """Find how probable each arc is, given the lattice, with its costs as they are.

    Raises:
        ValueError: the lattice has a cycle, no path, or paths that differ in their frames.
    """
    sweep = Sweep(lattice)
    times = state_times(lattice, sweep)
    weights, finals = -lattice.costs, -lattice.final_costs
    alpha = sweep.forward(weights, np.logaddexp)
    beta = sweep.backward(weights, finals, np.logaddexp)
    total = beta[lattice.start] if lattice.start >= 0 else -np.inf
    if total == -np.inf:
        raise ValueError("no path of the lattice reaches a final state")
    is_final = lattice.is_final & (times >= 0)
    frames = num_frames(lattice, times)
    if (times[is_final] != frames).any():
        raise ValueError("the paths of the lattice differ in their frames")
    occupancies = np.exp(alpha[sweep.source] + weights + beta[sweep.into] - total)
    final_occupancies = np.exp(alpha[is_final] + finals[is_final] - total)
    acoustic = -(
        occupancies @ lattice.arcs["weight"][:, ACOUSTIC].astype(np.float64)
        + final_occupancies @ lattice.finals[is_final, ACOUSTIC].astype(np.float64)
    )
    return LatticeOccupancies(float(total), float(acoustic), occupancies, times, frames)


def posterior_of(lattice: Lattice, found: LatticeOccupancies) -> Posterior:
    """Sum up the posteriors of arcs by frame and transition-id, which are in order in each frame.

    Those that are 0 in single precision are left out.
    """
    ids = lattice.arcs["ilabel"].astype(np.int64)
    has_id = (ids != EPSILON) & (found.times[lattice.source] >= 0)
    frames, ids = found.times[lattice.source][has_id], ids[has_id]
    most = int(ids.max(initial=0)) + 1
    keys, owner = np.unique(frames * most + ids, return_inverse=True)
    sums = np.bincount(owner, weights=found.arcs[has_id], minlength=len(keys)).astype(np.float32)
    keys, sums = keys[sums > 0], sums[sums > 0]
    first = np.searchsorted(keys // most, np.arange(found.num_frames + 1)).tolist()
    entries = list(zip((keys % most).tolist(), sums.tolist(), strict=True))
    return [entries[first[t] : first[t + 1]] for t in range(found.num_frames)]
