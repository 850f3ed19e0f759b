"""Costs of transitions in lattices that were made without them (hmm/hmm-utils.cc)."""

from __future__ import annotations

import numpy as np

from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.lattice import GRAPH, Lattice
from nnet.lattices.phones import known_ids


def with_transition_probs(
    lattice: Lattice, model: TransitionModel, transition_scale: float, self_loop_scale: float
) -> Lattice:
    """Add the scaled costs of transition-ids to the graph costs of arcs (AddTransitionProbs).

    Raises:
        NgtrainError: the lattice has transition-ids that the model does not have.
    """
    ids = known_ids(lattice.arcs["ilabel"], model)
    weights = lattice.arcs["weight"].astype(np.float64)
    weights[:, GRAPH] -= model.scaled_log_probs(transition_scale, self_loop_scale)[ids]
    return lattice.with_weights(weights, lattice.finals)
