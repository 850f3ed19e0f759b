"""Acoustic models of Gaussian mixtures, such as an alignment directory of Kaldi has.

Source: AmDiagGmm::Read of Kaldi's gmm/am-diag-gmm.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io.tokens import Reader, read_object
from nnet.ivectors.mixtures import DiagGmm

DENSITIES_AT_ONCE = 2**24
"""Frames times Gaussians that are computed at a time, which bounds the memory."""


@dataclass
class GmmModel:
    """A transition model, and a mixture of Gaussians for each pdf-id."""

    transition_model: TransitionModel
    mixtures: list[DiagGmm]

    @classmethod
    def read(cls, reader: Reader) -> GmmModel:
        """Parse a model; NgtrainError when it is malformed or no model of mixtures."""
        transition_model = TransitionModel.read(reader)
        dim = reader.expect("<DIMENSION>").integer()
        num_pdfs = reader.expect("<NUMPDFS>").integer()
        mixtures = [DiagGmm.read(reader) for _ in range(num_pdfs)]
        if num_pdfs != transition_model.num_pdfs:
            has = f"{num_pdfs} mixtures, but {transition_model.num_pdfs} pdf-ids"
            raise reader.fail(f"the model has {has}")
        if any(mixture.dim != dim for mixture in mixtures):
            raise reader.fail(f"a mixture is not of the dimension {dim} of the model")
        return cls(transition_model, mixtures)

    @classmethod
    def load(cls, rxfilename: str) -> GmmModel:
        """Read a model from a file."""
        return read_object(rxfilename, cls.read)

    def log_likelihoods(self, features: np.ndarray, key: str = "") -> np.ndarray:
        """Compute log p(frame | pdf-id) of features (T, D); float32 (T, number of pdf-ids).

        `key` is the utterance, for messages.

        Raises:
            NgtrainError: the features have the wrong dimension or are not finite.
        """
        of = f"utterance {key}: " if key else ""
        if features.shape[1] != self.mixtures[0].dim:
            dims = f"dimension {features.shape[1]}, the Gaussians have {self.mixtures[0].dim}"
            raise NgtrainError(f"{of}the features have {dims}")
        if not np.isfinite(features).all():
            raise NgtrainError(f"{of}the features have NaN or infinite values")
        firsts, constants, weights = self._stacked
        result = np.empty((len(features), len(firsts)), np.float32)
        count = max(1, DENSITIES_AT_ONCE // len(constants))
        for t in range(0, len(features), count):
            frames = features[t : t + count]
            each = np.hstack([frames, frames * frames]) @ weights + constants
            result[t : t + count] = log_sums(each, firsts)
        return result

    @cached_property
    def _stacked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first Gaussian of each pdf-id; all constants; what frames and squares go by."""
        sizes = [len(mixture) for mixture in self.mixtures]
        weights = [
            np.hstack([mixture.means_inv_vars, np.float32(-0.5) * mixture.inv_vars])
            for mixture in self.mixtures
        ]
        constants = np.concatenate([mixture.constants for mixture in self.mixtures])
        return np.cumsum([0, *sizes[:-1]]), constants, np.concatenate(weights).T

    def info(self) -> str:
        """Describe the model as gmm-info does: a line per property."""
        return (
            f"{self.transition_model.info()}"
            f"feature dimension {self.mixtures[0].dim}\n"
            f"number of gaussians {sum(map(len, self.mixtures))}\n"
        )


def log_sums(values: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Compute log sum exp along rows, of the columns from each of `firsts` to the next."""
    greatest = np.maximum.reduceat(values, firsts, axis=1)
    sizes = np.diff(np.append(firsts, values.shape[1]))
    shares = np.exp(values - np.repeat(greatest, sizes, axis=1))
    return greatest + np.log(np.add.reduceat(shares, firsts, axis=1))
