"""Determinization in two passes, of phones and words first (DeterminizeLatticePhonePruned).

A set of states, followed to the next words, can become large where words are long.  So phones are
put on the arcs where they begin, as if they were words; the result, without them, is small, and
words are determinized in it.
"""

from __future__ import annotations

import numpy as np

from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.conversion import to_compact_lattice
from nnet.lattices.determinization import DeterminizationOptions, determinize
from nnet.lattices.lattice import EPSILON, LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.minimization import minimized, pushed
from nnet.lattices.phones import phones_that_begin


def determinize_phones_and_words(
    lattice: Lattice,
    model: TransitionModel,
    beam: float,
    options: DeterminizationOptions,
    phone_determinize: bool = True,
    word_determinize: bool = True,
    minimize: bool = False,
) -> tuple[CompactLattice, bool]:
    """Determinize the lattice that a search has made, with scaled costs.

    Args:
        beam, options: see `determinize`.
        phone_determinize, word_determinize: the passes to make.
        minimize: make the result of the second pass as small as can be.

    Returns:
        The result, as `determinize` has it, and whether it reaches the beam.

    Raises:
        ValueError: the lattice has a cycle.
        NgtrainError: it has transition-ids that the model does not have.
    """
    is_complete = words_are_complete = True
    if phone_determinize:
        with_phones, first_phone = _with_phones(lattice, model)
        result, is_complete = determinize(to_compact_lattice(with_phones), beam, options)
        result.arcs["label"][result.words >= first_phone] = EPSILON
    else:
        result = to_compact_lattice(lattice)
    if word_determinize:
        result, words_are_complete = determinize(result, beam, options)
        if minimize:
            result = minimized(pushed(result))
    return result, is_complete and words_are_complete


def _with_phones(lattice: Lattice, model: TransitionModel) -> tuple[Lattice, int]:
    """Put phones on arcs without words; behind an arc that has one, on an arc of their own.

    Those on arcs from the start are left out, as in Kaldi.

    Returns:
        The lattice, and the label from which on labels are phones.
    """
    first_phone = int(lattice.words.max(initial=0)) + 1
    phones = phones_that_begin(lattice, model)
    phones[lattice.source == lattice.start] = EPSILON
    labels = np.where(phones != EPSILON, first_phone + phones, EPSILON)
    arcs = lattice.arcs.copy()
    is_alone = (lattice.words == EPSILON) & (labels != EPSILON)
    arcs["olabel"][is_alone] = labels[is_alone]
    behind = np.flatnonzero((lattice.words != EPSILON) & (labels != EPSILON))
    new_states = lattice.num_states + np.arange(len(behind))
    more = np.zeros(len(behind), LATTICE_ARC)
    more["olabel"], more["nextstate"] = labels[behind], arcs["nextstate"][behind]
    arcs["nextstate"][behind] = new_states
    finals = np.full((lattice.num_states + len(behind), 2), np.inf, np.float32)
    finals[: lattice.num_states] = lattice.finals
    source = np.concatenate([lattice.source, new_states])
    return Lattice.from_arcs(
        lattice.start, finals, source, np.concatenate([arcs, more])
    ), first_phone
