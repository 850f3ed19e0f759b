"""Lattices of phones (Kaldi lat/lattice-functions.cc, Convert...LatticeToPhones)."""

from __future__ import annotations

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.lattice import EPSILON, CompactLattice, Lattice
from nnet.lattices.strings import LabelStrings


def phones_that_begin(lattice: Lattice, model: TransitionModel) -> np.ndarray:
    """Find the phone that begins with each arc, EPSILON where none does; int32 (arcs,).

    Raises:
        NgtrainError: the lattice has transition-ids that the model does not have.
    """
    ids = known_ids(lattice.arcs["ilabel"], model)
    begins = (ids != EPSILON) & (model.hmm_state_of[ids] == 0) & ~model.is_self_loop[ids]
    return np.where(begins, model.phone_of[ids], EPSILON)


def with_phones_as_words(lattice: Lattice, model: TransitionModel) -> Lattice:
    """Replace words by phones, each where it begins (ConvertLatticeToPhones).

    Raises:
        NgtrainError: the lattice has transition-ids that the model does not have.
    """
    result = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    result.arcs["olabel"] = phones_that_begin(lattice, model)
    return result


def with_phones_as_ids(lattice: CompactLattice, model: TransitionModel) -> CompactLattice:
    """Replace transition-ids by phones, each where it ends (ConvertCompactLatticeToPhones).

    Raises:
        NgtrainError: the lattice has transition-ids that the model does not have.
    """
    result = lattice.with_weights(lattice.arcs["weight"], lattice.finals)
    result.arc_strings = _phones_that_end(lattice.arc_strings, model)
    result.final_strings = _phones_that_end(lattice.final_strings, model)
    return result


def _phones_that_end(strings: LabelStrings, model: TransitionModel) -> LabelStrings:
    ids = known_ids(strings.values, model)
    ends = model.is_final[ids]
    owner = np.repeat(np.arange(len(strings)), strings.lengths)
    lengths = np.bincount(owner[ends], minlength=len(strings))
    return LabelStrings.of_lengths(model.phone_of[ids[ends]], lengths)


def known_ids(ids: np.ndarray, model: TransitionModel) -> np.ndarray:
    """Return transition-ids; NgtrainError if the model does not have all of them."""
    if len(ids) and ids.max() > model.num_transition_ids:
        raise NgtrainError(
            f"the lattice has the transition-id {ids.max()}, the model only "
            f"{model.num_transition_ids}: it was made with another"
        )
    return ids
