"""Generation of lattices: the search, and what is then made of its result.

After Kaldi's decoder/decoder-wrappers.cc (DecodeUtteranceLatticeFaster).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnet.decoding.decoder import GraphPath, check_labels
from nnet.decoding.fst import ArrayFst
from nnet.decoding.lattice_search import LatticeSearch, LatticeSearchOptions
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.determinization import DeterminizationOptions
from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.operations import scaled
from nnet.lattices.paths import best_path
from nnet.lattices.phone_determinization import determinize_phones_and_words


@dataclass(frozen=True)
class LatticeOptions(LatticeSearchOptions):
    """Say how wide the search is, and what is made of the lattices that it finds.

    Attributes:
        determinize_lattice: keep one path for each sequence of words.
        phone_determinize, word_determinize: passes of that.
        minimize: make one of states from which the same paths lead on.
        delta, max_mem: see DeterminizationOptions.
    """

    determinize_lattice: bool = True
    phone_determinize: bool = True
    word_determinize: bool = True
    minimize: bool = False
    delta: float = 1.0 / 1024
    max_mem: int = 50_000_000


@dataclass(frozen=True)
class DecodedUtterance:
    """Hold what a search found; the lattice has costs without the acoustic scale, the path with."""

    lattice: Lattice | CompactLattice
    path: GraphPath
    reached_final: bool
    is_complete: bool  # whether determinization reached the beam


class LatticeDecoder:
    """A search of one graph, of transition-ids and words, for any number of utterances."""

    def __init__(self, graph: ArrayFst, model: TransitionModel, options: LatticeOptions):
        check_labels(graph, model)
        self._model, self._options = model, options
        self.search = LatticeSearch(graph, model.pdf_of, options)

    def decode(
        self, log_likelihoods: np.ndarray, acoustic_scale: float, allow_partial: bool = False
    ) -> DecodedUtterance | None:
        """Search, and make the lattice; None when no path survives to the end of the utterance.

        Args:
            log_likelihoods: float32 (T, num_pdfs), T > 0, without the acoustic scale.
            allow_partial: where no path reaches a final state, take those that reach the end.

        Raises:
            NgtrainError: the graph has a cycle without transition-ids that costs nothing.
        """
        self.search.begin()
        if not self.search.advance(log_likelihoods, acoustic_scale):
            return None
        return self.decoded(acoustic_scale) if self.reached_final or allow_partial else None

    @property
    def reached_final(self) -> bool:
        """Tell whether a path that `search` has found ends in a final state."""
        return math.isfinite(self.search.relative_cost())

    def decoded(self, acoustic_scale: float) -> DecodedUtterance:
        """Make the lattice of what `search` has found until now, with this acoustic scale."""
        lattice = self.search.lattice()
        path = best_path(lattice)
        assert path is not None  # to the last tokens, whatever they are, leads a way
        graph_path = GraphPath(
            path.alignment(lattice), path.words(lattice), *path.weight(lattice).tolist()
        )
        result, is_complete = self.determinized(lattice)
        unscaled = scaled(result, 1, 1 / acoustic_scale) if acoustic_scale else result
        return DecodedUtterance(unscaled, graph_path, self.reached_final, is_complete)

    def determinized(self, lattice: Lattice) -> tuple[Lattice | CompactLattice, bool]:
        """Make of a lattice with scaled costs what the options say; tells if it is complete."""
        options = self._options
        if not options.determinize_lattice:
            return lattice, True
        return determinize_phones_and_words(
            *(lattice, self._model, options.lattice_beam),
            DeterminizationOptions(delta=options.delta, max_mem=options.max_mem),
            options.phone_determinize,
            options.word_determinize,
            options.minimize,
        )
