"""Viterbi decoding with kaldi-decoder: the best path of a graph for a matrix of likelihoods.

After Kaldi's decoder/faster-decoder.h, which is the search, and decoder/decodable-matrix.h.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

import numpy as np

from nnet.decoding.fst import ArrayFst
from nnet.decoding.graph import add_word_insertion_penalty
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io import log_lines

log = logging.getLogger("ngtrain")


class LikelihoodModel(Protocol):
    """An acoustic model as a search sees it: a network's, or one of Gaussians."""

    @property
    def transition_model(self) -> TransitionModel: ...

    def log_likelihoods(self, features: np.ndarray, key: str = "") -> np.ndarray:
        """Compute those of all pdf-ids for each frame."""
        ...


class GraphPath(NamedTuple):
    """The best path through a graph; its costs are with the acoustic scale."""

    alignment: list[int]  # transition-ids, one per frame
    words: list[int]  # word-ids
    graph_cost: float
    acoustic_cost: float

    @property
    def log_likelihood(self) -> float:
        return -(self.graph_cost + self.acoustic_cost)


@dataclass(frozen=True)
class SearchOptions:
    """The pruning of the search (FasterDecoderOptions); costs are with the acoustic scale."""

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


def check_labels(graph: ArrayFst, transition_model: TransitionModel) -> None:
    """Check that a graph can be searched with a model.

    Raises:
        NgtrainError: it is empty, or has transition-ids that the model does not have.
    """
    labels = graph.arcs["ilabel"]
    if graph.start < 0:
        raise NgtrainError("the graph is empty")
    if len(labels) and labels.max() > transition_model.num_transition_ids:
        raise NgtrainError(
            f"the graph has the label {labels.max()} but the model only "
            f"{transition_model.num_transition_ids} transition-ids: it was made for another"
        )


class ScaledLikelihoods:
    """Likelihoods of an utterance as kaldi-decoder takes them."""

    def __init__(self, transition_model: TransitionModel):
        self._pdf_of_column = transition_model.pdf_of[1:]

    def decodable(self, log_likelihoods: np.ndarray, acoustic_scale: float):
        """Scale log-likelihoods, float32 (T, num_pdfs), and give each transition-id a column.

        The decoder looks up column i - 1 for the label i.
        """
        from kaldi_decoder import DecodableCtc

        scaled = log_likelihoods * np.float32(acoustic_scale)
        columns = np.ascontiguousarray(scaled[:, self._pdf_of_column], np.float32)
        return DecodableCtc(columns)


class Decoder:
    """A decoder with one graph, of transition-ids and words, for any number of utterances."""

    def __init__(self, graph: ArrayFst, transition_model: TransitionModel, options: SearchOptions):
        from kaldi_decoder import FasterDecoder, FasterDecoderOptions

        check_labels(graph, transition_model)
        self._likelihoods = ScaledLikelihoods(transition_model)
        self._graph = graph.to_const_kaldifst()  # the decoder does not keep it alive
        self._decoder = FasterDecoder(self._graph, FasterDecoderOptions(**asdict(options)))

    def decode(
        self, log_likelihoods: np.ndarray, acoustic_scale: float, allow_partial: bool = False
    ) -> GraphPath | None:
        """Find the best path, or None when none survives to the end of the utterance.

        log_likelihoods: float32 (T, num_pdfs), T > 0, without the acoustic scale.
        allow_partial: where no path reaches a final state, take the best of the others.
        """
        import kaldifst

        self._decoder.decode(self._likelihoods.decodable(log_likelihoods, acoustic_scale))
        if not (self._decoder.reached_final() or allow_partial):
            return None
        found, lattice = self._decoder.get_best_path()
        if not found:
            return None
        _, alignment, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
        path = GraphPath(alignment, words, weight.value1, weight.value2)
        return path if len(path.alignment) == len(log_likelihoods) else None


class DecodingSetting(NamedTuple):
    """An acoustic scale and a word insertion penalty, with their texts for file names."""

    acoustic_scale: float
    penalty: float
    lmwt_name: str
    penalty_name: str

    def fill_in(self, wspecifier: str) -> str:
        """Replace LMWT and PENALTY: in the name of the file, or if they are not in it anywhere."""
        folder, slash, name = wspecifier.rpartition("/")
        if "LMWT" not in name and "PENALTY" not in name:
            folder, slash, name = "", "", wspecifier
        filled = name.replace("LMWT", self.lmwt_name).replace("PENALTY", self.penalty_name)
        return f"{folder}{slash}{filled}"


def decoding_settings(
    acoustic_scale: float, inv_acoustic_scales: str, word_ins_penalties: str
) -> list[DecodingSetting]:
    """Combine all values that two options list; `acoustic_scale` counts where there is no other."""
    scales = {"1": acoustic_scale}
    if inv_acoustic_scales:
        scales = {lmwt: 1 / float(lmwt) for lmwt in parse_values(inv_acoustic_scales)}
    return [
        DecodingSetting(scale, float(penalty), lmwt, penalty)
        for penalty in parse_values(word_ins_penalties)
        for lmwt, scale in scales.items()
    ]


def check_outputs(settings: Sequence[DecodingSetting], names: Sequence[str | None]) -> None:
    """Check that LMWT and PENALTY tell the outputs of settings apart.

    Raises:
        NgtrainError: two have the same name.
    """
    for name in filter(None, names):
        if len({setting.fill_in(name) for setting in settings}) < len(settings):
            raise NgtrainError(
                f"{name}: LMWT and PENALTY must tell the outputs of {len(settings)} settings apart"
            )


class MultiDecoder:
    """A decoder with several settings that computes the network once, and counts.

    The search runs for every setting, because each prunes differently.
    """

    def __init__(
        self,
        model: LikelihoodModel,
        graph: ArrayFst,
        settings: Sequence[DecodingSetting],
        options: SearchOptions,
        allow_partial: bool,
    ):
        self.model = model
        self.settings = settings
        self.allow_partial = allow_partial
        self.num_done = self.num_failed = self.num_frames = 0
        self._total_log_likelihood = dict.fromkeys(settings, 0.0)
        self._decoders = {}
        for penalty in {setting.penalty for setting in settings}:
            penalized = add_word_insertion_penalty(graph, penalty)
            self._decoders[penalty] = Decoder(penalized, model.transition_model, options)

    def decode(self, key: str, features: np.ndarray) -> dict[DecodingSetting, GraphPath]:
        """Find the best path for each setting; nothing, and a warning, when some setting fails.

        Raises NgtrainError if the features do not fit the model.
        """
        if len(features) == 0:
            return self._fail(f"Zero-length utterance: {key}")
        log_likelihoods = self.model.log_likelihoods(features, key)
        paths = {}
        for setting in self.settings:
            decoder = self._decoders[setting.penalty]
            path = decoder.decode(log_likelihoods, setting.acoustic_scale, self.allow_partial)
            if path is None:
                return self._fail(
                    f"Did not successfully decode utterance {key}, len = {len(features)}"
                )
            paths[setting] = path
        for setting, path in paths.items():
            self._total_log_likelihood[setting] += path.log_likelihood
        self.num_done += 1
        self.num_frames += len(features)
        return paths

    def _fail(self, reason: str) -> dict[DecodingSetting, GraphPath]:
        log.warning("%s", reason)
        self.num_failed += 1
        return {}

    def report(self) -> None:
        """Log the lines that Kaldi's scripts look for."""
        log.info(log_lines.DECODED.format, self.num_done, self.num_failed)
        which = " (inverse acoustic scale LMWT, penalty PENALTY)" if len(self.settings) > 1 else ""
        for setting, log_likelihood in self._total_log_likelihood.items():
            log.info(
                "Overall log-likelihood per frame is %g over %d frames%s.",
                *(log_likelihood / max(self.num_frames, 1), self.num_frames),
                setting.fill_in(which),
            )


def parse_values(text: str) -> list[str]:
    """Parse numbers and ranges `first:last[:step]`, separated by commas.

    They stay text, "0.5" or "20", because they become parts of file names; so a range of fractions,
    such as 0:2:0.5, is counted in decimals.  Raises NgtrainError if it is no such list.
    """
    values = []
    try:
        for part in text.split(","):
            if ":" not in part:
                float(part)
                values.append(part.strip())
            else:
                first, last, step = map(Decimal, f"{part}:1".split(":")[:3])
                count = (last - first) // step + 1 if part.count(":") < 3 else math.nan
                values.extend(str(first + n * step) for n in range(int(count)))
    except (ValueError, ArithmeticError):
        raise NgtrainError(
            f"expected numbers and ranges first:last[:step] separated by commas, got {text!r}"
        ) from None
    if not values:
        raise NgtrainError(f"no number in {text!r}")
    return values
