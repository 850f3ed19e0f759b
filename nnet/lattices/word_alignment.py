"""Tables of lattices that are aligned with words (Kaldi's lattice-align-words*)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnet.io.losses import Losses
from nnet.io.tables import sequential_table, table_writer
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.paths import best_path
from nnet.lattices.phone_ends import PhoneAligner, PhoneEnds
from nnet.lattices.tables import COMPACT_LATTICE, naming
from nnet.lattices.unfolding import Unfolding, unfold
from nnet.lattices.word_boundaries import WordBoundaryAligner
from nnet.lattices.word_lexicon import LexiconAlignment, WordLexicon

log = logging.getLogger("ngtrain")

_ALWAYS_ALLOWED = 1000
"""States that a lattice may have in any case, however small it was."""


def align_by_boundaries(
    lattice: CompactLattice, aligner: WordBoundaryAligner, max_expand: float
) -> Unfolding | None:
    """Align a lattice by the places of phones in words; None if it becomes too large.

    max_expand: how many times its states it may have; as many as it takes if not positive.
    """
    return unfold(lattice, aligner, _most_nodes(max_expand, lattice.num_states))


def align_by_lexicon(
    lattice: CompactLattice,
    ends: PhoneEnds,
    lexicon: WordLexicon,
    partial_word_label: int,
    max_expand: float,
) -> Unfolding | None:
    """Align a lattice by how words are said; see `align_by_boundaries`."""
    by_phones = unfold(lattice, PhoneAligner(ends))
    if by_phones is None or not by_phones.rank:
        return by_phones
    most_nodes = _most_nodes(max_expand, len(by_phones.rank))
    return LexiconAlignment(by_phones, ends, lexicon, partial_word_label).run(most_nodes)


def _most_nodes(max_expand: float, num_states: int) -> int:
    return int(_ALWAYS_ALLOWED + max_expand * num_states) if max_expand > 0 else 0


@dataclass(frozen=True)
class OnErrors:
    """What becomes of lattices that could not be aligned as they should.

    Attributes:
        write_partial: write what was aligned.
        pass_empty: write the lattice as it was if nothing was.
    """

    write_partial: bool = True
    pass_empty: bool = False


def align_table(
    rspecifier: str,
    wspecifier: str,
    ends: PhoneEnds,
    align: Callable[[CompactLattice], Unfolding | None],
    on_errors: OnErrors,
    test: bool = False,
) -> int:
    """Align the lattices of a table; the exit status, 1 unless most could be.

    test: count it as an error if the best path has not as many frames as before, at the same cost.

    Raises:
        NgtrainError: a lattice does not belong to the model, or to the list of phones or words.
    """
    num_done, losses = 0, Losses()
    with (
        sequential_table(rspecifier, COMPACT_LATTICE) as lattices,
        table_writer(wspecifier, COMPACT_LATTICE) as output,
    ):
        for key, lattice in lattices:
            ends.begin(lattice)
            with naming(key):
                unfolding = align(lattice)
                aligned = unfolding.without_epsilons() if unfolding is not None else None
            is_empty = aligned is None or aligned.start < 0
            is_tested = test and not is_empty and not ends.faults
            if is_tested and not np.allclose(_best(aligned), _best(lattice), rtol=1e-4, atol=1e-2):
                ends.faults.append("the best path is another than before")
            if not is_empty and not ends.faults:
                num_done += 1
            else:
                reasons = ["nothing could be aligned"] if is_empty else []
                losses.add(key, ", ".join([*reasons, *dict.fromkeys(ends.faults)]))
            if is_empty and on_errors.pass_empty and lattice.start >= 0:
                output.write(key, lattice)
            elif not is_empty and (not ends.faults or on_errors.write_partial):
                output.write(key, aligned)
    losses.report("%d lattices did not align correctly")
    log.info("Successfully aligned %d lattices; %d had errors.", num_done, losses.count)
    return 0 if num_done > losses.count else 1


def _best(lattice: CompactLattice | None) -> tuple[float, int]:
    """Return what the best path costs, inf if there is none, and its number of frames."""
    path = best_path(lattice) if lattice is not None else None
    if lattice is None or path is None:
        return np.inf, 0
    return float(path.weight(lattice).sum()), len(path.alignment(lattice))
