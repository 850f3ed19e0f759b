"""Generation of lattices: the search by kaldi-decoder, and what is then made of its result.

After Kaldi's decoder/lattice-simple-decoder.h and decoder/decoder-wrappers.cc
(DecodeUtteranceLatticeFaster).  The search keeps all that is within `beam` of the best on each
frame; of that, what is on a path within `lattice_beam` of the best path is in the lattice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from nnet.decoding.decoder import (
    GraphPath,
    ScaledLikelihoods,
    check_labels,
    lattice_from_kaldifst,
)
from nnet.decoding.fst import ArrayFst
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.determinization import DeterminizationOptions
from nnet.lattices.lattice import CompactLattice, Lattice
from nnet.lattices.operations import scaled
from nnet.lattices.order import connected, topsorted
from nnet.lattices.paths import best_path
from nnet.lattices.phone_determinization import determinize_phones_and_words

log = logging.getLogger("ngtrain")


@dataclass(frozen=True)
class LatticeOptions:
    """Say how wide the search and the lattices are; costs are with the acoustic scale.

    Attributes:
        beam: of the search, on each frame.
        lattice_beam: of paths in the lattice.
        prune_interval: frames after which what is beyond it is dropped, to save memory.
        determinize_lattice: keep one path for each sequence of words.
        phone_determinize, word_determinize: passes of that.
        delta, max_mem: see DeterminizationOptions.
    """

    beam: float = 16.0
    lattice_beam: float = 10.0
    prune_interval: int = 25
    determinize_lattice: bool = True
    phone_determinize: bool = True
    word_determinize: bool = True
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
        from kaldi_decoder import LatticeSimpleDecoder, LatticeSimpleDecoderConfig

        check_labels(graph, model)
        config = LatticeSimpleDecoderConfig()
        config.beam, config.lattice_beam = options.beam, options.lattice_beam
        config.prune_interval = options.prune_interval
        self._model, self._options = model, options
        self._likelihoods = ScaledLikelihoods(model)
        self._graph = graph.to_const_kaldifst()  # the decoder does not keep it alive
        self._decoder = LatticeSimpleDecoder(self._graph, config)

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
        # It returns whether a final state was reached.
        self._decoder.decode(self._likelihoods.decodable(log_likelihoods, acoustic_scale))
        reached_final = bool(np.isfinite(self._decoder.final_relative_cost()))
        if not (reached_final or allow_partial):
            return None
        found, raw = self._decoder.get_raw_lattice()
        if not found:
            return None
        try:
            lattice = topsorted(connected(lattice_from_kaldifst(raw)))
        except ValueError as error:
            raise NgtrainError(f"the lattice of the search: {error}") from None
        path = best_path(lattice)
        if path is None:
            return None
        alignment = path.alignment(lattice)
        if len(alignment) != len(log_likelihoods):
            return None
        graph_path = GraphPath(alignment, path.words(lattice), *path.weight(lattice).tolist())
        result, is_complete = self._determinized(lattice)
        unscaled = scaled(result, 1, 1 / acoustic_scale) if acoustic_scale else result
        return DecodedUtterance(unscaled, graph_path, reached_final, is_complete)

    def _determinized(self, lattice: Lattice) -> tuple[Lattice | CompactLattice, bool]:
        options = self._options
        if not options.determinize_lattice:
            return lattice, True
        return determinize_phones_and_words(
            *(lattice, self._model, options.lattice_beam),
            DeterminizationOptions(delta=options.delta, max_mem=options.max_mem),
            options.phone_determinize,
            options.word_determinize,
        )
