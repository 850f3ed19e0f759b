"""Viterbi decoding with kaldi-decoder: the best path of a graph for a matrix of likelihoods.

After Kaldi's decoder/faster-decoder.h, which is the search, and decoder/decodable-matrix.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnet.errors import NgtrainError
from nnet.fst import ArrayFst
from nnet.graph import add_word_insertion_penalty
from nnet.hmm.transition_model import TransitionModel


class Path(NamedTuple):
    """The best path through a graph.

    Attributes:
        alignment: transition-ids, one per frame.
        words: word-ids.
        graph_cost, acoustic_cost: costs as the decoder saw them, that is, with the acoustic scale.
    """

    alignment: list[int]
    words: list[int]
    graph_cost: float
    acoustic_cost: float

    @property
    def log_likelihood(self) -> float:
        return -(self.graph_cost + self.acoustic_cost)


@dataclass(frozen=True)
class SearchOptions:
    """How the search is pruned (FasterDecoderOptions); costs are those with the acoustic scale."""

    beam: float = 16.0
    max_active: int = 2147483647
    min_active: int = 20
    beam_delta: float = 0.5

    def __post_init__(self) -> None:
        if not (self.beam > 0 and self.max_active > 1 and self.min_active >= 0):
            raise NgtrainError(
                f"beams do not make sense: beam {self.beam:g}, max-active {self.max_active}, "
                f"min-active {self.min_active}"
            )


class Decoder:
    """Finds the best path of one graph, for any number of utterances.

    Args:
        graph: as the programs of `nnet.graph` make it; its input labels must be transition-ids.
    """

    def __init__(self, graph: ArrayFst, transition_model: TransitionModel, options: SearchOptions):
        from kaldi_decoder import FasterDecoder, FasterDecoderOptions

        labels = graph.arcs["ilabel"]
        if graph.start < 0:
            raise NgtrainError("the graph is empty")
        if len(labels) and labels.max() > transition_model.num_transition_ids:
            raise NgtrainError(
                f"the graph has the label {labels.max()} but the model only "
                f"{transition_model.num_transition_ids} transition-ids: it was made for another"
            )
        self._pdf_of_column = transition_model.pdf_of[1:]
        self._decoder = FasterDecoder(
            graph.to_const_kaldifst(),
            FasterDecoderOptions(
                beam=options.beam,
                max_active=options.max_active,
                min_active=options.min_active,
                beam_delta=options.beam_delta,
            ),
        )

    def decode(
        self,
        log_likelihoods: np.ndarray,
        acoustic_scale: float,
        allow_partial: bool = False,
    ) -> Path | None:
        """The best path, or None when none survives to the end of the utterance.

        Args:
            log_likelihoods: float32 (T, num_pdfs), T > 0, without the acoustic scale.
            allow_partial: where no path reaches a final state, take the best of the others.
        """
        import kaldifst
        from kaldi_decoder import DecodableCtc

        # One column per transition-id: the decoder looks up column i - 1 for the label i.
        scaled = log_likelihoods * np.float32(acoustic_scale)
        self._decoder.decode(DecodableCtc(scaled[:, self._pdf_of_column]))
        if not (self._decoder.reached_final() or allow_partial):
            return None
        found, lattice = self._decoder.get_best_path()
        if not found:
            return None
        _, alignment, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
        if len(alignment) != len(log_likelihoods):
            return None
        return Path(alignment, words, weight.value1, weight.value2)


class ScaledDecoder:
    """Decodes with several acoustic scales and word insertion penalties.

    The likelihoods are computed once by the caller; the search runs for every combination, because
    each prunes differently.
    """

    def __init__(
        self,
        graph: ArrayFst,
        transition_model: TransitionModel,
        options: SearchOptions,
        acoustic_scales: Sequence[float],
        word_ins_penalties: Sequence[float] = (0.0,),
    ):
        self.acoustic_scales = acoustic_scales
        self._decoders = {
            penalty: Decoder(add_word_insertion_penalty(graph, penalty), transition_model, options)
            for penalty in word_ins_penalties
        }

    def decode(
        self, log_likelihoods: np.ndarray, allow_partial: bool = False
    ) -> Iterator[tuple[float, float, Path | None]]:
        """Yield (acoustic scale, penalty, best path or None) for every combination."""
        for penalty, decoder in self._decoders.items():
            for scale in self.acoustic_scales:
                yield scale, penalty, decoder.decode(log_likelihoods, scale, allow_partial)
