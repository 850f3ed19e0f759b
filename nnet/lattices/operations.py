"""Lattices from lattices: scaled, with penalties, pruned (Kaldi lat/lattice-functions.cc)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from nnet.errors import NgtrainError
from nnet.lattices.lattice import EPSILON, GRAPH, CompactLattice, _Lattice
from nnet.lattices.order import connected, topsorted
from nnet.lattices.strings import LabelStrings
from nnet.lattices.sweep import Sweep

L = TypeVar("L", bound=_Lattice)


def inverse_or_scale(scale: float, inverse: float, invertible: bool = False) -> float:
    """Combine --acoustic-scale and --inv-acoustic-scale, of which at most one is other than 1.

    Raises:
        NgtrainError: both are, or the scale is 0 where it has to be undone later.
    """
    if scale != 1 and inverse != 1:
        raise NgtrainError("--acoustic-scale and --inv-acoustic-scale exclude each other")
    if inverse == 0 or (invertible and scale == 0):
        raise NgtrainError("an acoustic scale of zero cannot be inverted")
    return scale if inverse == 1 else 1 / inverse


def scaled(lattice: L, graph: float, acoustic: float) -> L:
    """Multiply graph and acoustic costs by these."""
    return mixed(lattice, np.diag([graph, acoustic]))


def mixed(lattice: L, scale: np.ndarray) -> L:
    """Multiply each weight, (graph, acoustic), by a matrix (2, 2) (ScaleLattice).

    Its elements are rounded to single precision, as Kaldi's options are.
    """
    scale = scale.astype(np.float32).astype(np.float64)
    if (scale == np.eye(2)).all():
        return lattice
    finals = np.full_like(lattice.finals, np.inf)
    is_final = lattice.is_final
    finals[is_final] = lattice.finals[is_final] @ scale.T
    return lattice.with_weights(lattice.arcs["weight"] @ scale.T, finals)


def with_word_penalty(lattice: L, penalty: float) -> L:
    """Add a cost to the graph cost of each arc with a word (AddWordInsPenToCompactLattice)."""
    weights = lattice.arcs["weight"].copy()
    weights[lattice.words != EPSILON, GRAPH] += np.float32(penalty)
    return lattice.with_weights(weights, lattice.finals)


def pruned(lattice: L, beam: float) -> L:
    """Keep what is on some path that costs at most `beam` more than the best one (PruneLattice).

    States are in topological order afterwards.

    Raises:
        ValueError: the lattice has a cycle.
    """
    lattice = topsorted(lattice)
    if not lattice.num_states:
        return lattice
    sweep = Sweep(lattice)
    cost, final_cost = lattice.costs, lattice.final_costs
    alpha = -sweep.forward(-cost, np.maximum)
    beta = -sweep.backward(-cost, -final_cost, np.maximum)
    cutoff = beta[lattice.start] + beam
    with np.errstate(invalid="ignore"):
        kept = alpha[sweep.source] + cost + beta[sweep.into] <= cutoff
    finals = lattice.finals.copy()
    finals[alpha + final_cost > cutoff] = np.inf
    result = lattice.with_weights(lattice.arcs["weight"], finals).with_arcs(kept)
    if isinstance(result, CompactLattice):
        result.final_strings = _without(result.final_strings, ~result.is_final)
    return connected(result)


def _without(strings: LabelStrings, dropped: np.ndarray) -> LabelStrings:
    """Make some strings empty."""
    lengths = strings.lengths
    kept = np.repeat(~dropped, lengths)
    return LabelStrings.of_lengths(strings.values[kept], np.where(dropped, 0, lengths))
