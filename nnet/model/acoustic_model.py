"""An acoustic model: transition model, network, and the priors of the pdf-ids.

Source: Kaldi's nnet2/am-nnet.{h,cc} and nnet2/decodable-am-nnet.h.
"""

from __future__ import annotations

import logging

import numpy as np

from nnet.components.nonlinear import PROBABILITY_FLOOR
from nnet.device.device import CPU, Device
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io.tokens import read_object, write_object
from nnet.model.network import Network
from nnet.model.propagation import compute

log = logging.getLogger("ngtrain")


class AcousticModel:
    """An acoustic model, such as `final.mdl` holds.

    Attributes:
        transition_model: a `TransitionModel`.
        network: a `Network` with one output per pdf-id.
        priors: float32 (num_pdfs,), or (0,) as long as they have not been set.
    """

    def __init__(
        self, transition_model: TransitionModel, network: Network, priors: np.ndarray | None = None
    ):
        self.transition_model, self.network = transition_model, network
        self.set_priors(np.zeros(0) if priors is None else priors)

    @property
    def num_pdfs(self) -> int:
        return self.transition_model.num_pdfs

    def set_priors(self, priors: np.ndarray) -> None:
        """Set the priors; NgtrainError when there are more of them than the network has outputs.

        Fewer are filled up with zeros: pdf-ids at the end of the list may never have been seen.
        """
        num_outputs = self.network.output_dim
        if len(priors) > num_outputs:
            raise NgtrainError(
                f"there are {len(priors)} priors but the network has {num_outputs} outputs"
            )
        self.priors = np.array(priors, dtype=np.float32)
        if 0 < len(priors) < num_outputs:
            log.warning(
                "Dimension of priors is %d < %d: extending with zeros, in case you had unseen "
                "pdf's, but this possibly indicates a serious problem.",
                *(len(priors), num_outputs),
            )
            self.priors = np.pad(self.priors, (0, num_outputs - len(priors)))

    def log_likelihoods(
        self, features: np.ndarray, key: str = "", pad_input: bool = True
    ) -> np.ndarray:
        """Compute scaled log-likelihoods: log posterior minus log prior, (T, num_pdfs) float32.

        Args:
            features: (T, D).
            key: the utterance, for messages.
            pad_input: fill the network's context with copies of the first and the last frame; else
                the outputs are fewer than the frames.

        Raises:
            NgtrainError: the priors are not set, or the features have the wrong dimension or are
                not finite.
        """
        try:
            if len(self.priors) != self.num_pdfs or not (self.priors > 0).all():
                raise NgtrainError("the priors in the model are not set up (nnet-adjust-priors)")
            if not np.isfinite(features).all():
                raise NgtrainError("the features have NaN or infinite values")
            posteriors = compute(self.network, features, pad_input)
        except NgtrainError as error:
            raise NgtrainError(f"utterance {key}: {error}" if key else str(error)) from None
        return np.log(np.maximum(posteriors, np.float32(PROBABILITY_FLOOR))) - np.log(self.priors)

    def info(self) -> str:
        """Describe the network, and the priors in a line, as AmNnet::Info does."""
        text = f"{self.network.info()}prior dimension: {len(self.priors)}"
        if len(self.priors):
            text += f", prior sum: {self.priors.sum():g}, prior min: {self.priors.min():g}\n"
        return text

    @classmethod
    def read(cls, reader) -> AcousticModel:
        """Parse a model; NgtrainError when it is malformed or its parts do not fit together."""
        transition_model = TransitionModel.read(reader)
        network = Network.read(reader)
        priors = reader.vector()
        if network.output_dim != transition_model.num_pdfs:
            raise reader.fail(
                f"the network has {network.output_dim} outputs but the transition model "
                f"{transition_model.num_pdfs} pdf-ids"
            )
        return cls(transition_model, network, priors)

    def write(self, writer) -> None:
        self.transition_model.write(writer)
        self.network.write(writer)
        writer.vector(self.priors)

    @classmethod
    def load(cls, rxfilename: str, device: Device = CPU) -> AcousticModel:
        """Read a model from a file, and move its network to a device."""
        model = read_object(rxfilename, cls.read)
        model.network.move_to(device)
        return model

    def save(self, wxfilename: str, binary: bool = True, checksum: bool = False) -> None:
        """Write it to a file; with `checksum` a second one beside it, to find damage by."""
        write_object(wxfilename, self.write, binary, checksum)


def load_network(rxfilename: str, device: Device = CPU) -> Network:
    """Read the network of a file that holds an acoustic model or a network alone."""

    def parse(reader) -> Network:
        if reader.peek_token() == "<TransitionModel>":
            return AcousticModel.read(reader).network
        return Network.read(reader)

    network = read_object(rxfilename, parse)
    network.move_to(device)
    return network
