"""Lattices from lattices: scaled, with penalties, pruned (Kaldi lat/lattice-functions.cc)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from nnet.errors import NgtrainError
from nnet.lattices.lattice import COMPACT_ARC, EPSILON, GRAPH, CompactLattice, _Lattice
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
        result.final_strings = result.final_strings.where(result.is_final)
    return connected(result)


def with_strings_on_arcs(lattice: CompactLattice) -> CompactLattice:
    """Move the transition-ids of final states that nothing leaves onto the arcs that lead there.

    So does determinization, which writes what is common to all paths as soon as it can.
    """
    moves = np.diff(lattice.first_arc) == 0
    if lattice.start >= 0:
        moves[lattice.start] = False
    moved = lattice.final_strings.where(moves).take(lattice.arcs["nextstate"])
    result = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    result.arc_strings = lattice.arc_strings.followed_by(moved)
    result.final_strings = lattice.final_strings.where(~moves)
    return result


def with_super_final(lattice: CompactLattice) -> CompactLattice:
    """Let all paths end in one state that nothing leaves and that costs nothing.

    It is added unless there is one already; arcs without a word lead to it, with what it cost to
    end.
    """
    ends = np.flatnonzero(lattice.is_final)
    ends_for_nothing = not lattice.finals[ends].any() and not lattice.final_strings.lengths.any()
    if len(ends) == 1 and ends_for_nothing and not np.diff(lattice.first_arc)[ends[0]]:
        return lattice
    arcs = np.zeros(len(ends), COMPACT_ARC)
    arcs["weight"], arcs["nextstate"] = lattice.finals[ends], lattice.num_states
    finals = np.full((lattice.num_states + 1, 2), np.inf, np.float32)
    finals[-1] = 0
    return CompactLattice.from_arcs(
        lattice.start,
        finals,
        np.concatenate([lattice.source, ends]),
        np.concatenate([lattice.arcs, arcs]),
        LabelStrings.concatenate([lattice.arc_strings, lattice.final_strings.take(ends)]),
        LabelStrings.empty(lattice.num_states + 1),
    )
