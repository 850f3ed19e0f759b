"""Acoustic models of Gaussian mixtures, such as an alignment directory of Kaldi has.

Source: AmDiagGmm::Read of Kaldi's gmm/am-diag-gmm.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnet.hmm.transition_model import TransitionModel
from nnet.io.tokens import Reader, read_object
from nnet.ivectors.mixtures import DiagGmm


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

    def info(self) -> str:
        """Describe the model as gmm-info does: a line per property."""
        return (
            f"{self.transition_model.info()}"
            f"feature dimension {self.mixtures[0].dim}\n"
            f"number of gaussians {sum(map(len, self.mixtures))}\n"
        )
