"""Log-likelihoods of states that have Gaussian mixtures, for the decoder of the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnet.hmm.transition_model import TransitionModel
from nnet.io.tokens import Reader, read_object


class Densities:
    """The mixtures of a model file, for decoding: log-likelihoods of all states.

    Has the log_likelihoods() and transition_model of an AcousticModel.
    """

    def __init__(self, path: Path):
        self.transition_model, mixtures = read_object(str(path), self._read)
        sizes = [len(constants) for constants, _, _ in mixtures]
        self.firsts = np.cumsum([0, *sizes[:-1]])
        self.constants = np.concatenate([constants for constants, _, _ in mixtures])
        linear = np.concatenate([linear for _, linear, _ in mixtures])
        inverse = np.concatenate([inverse for _, _, inverse in mixtures])
        self.weights = np.hstack([linear, -0.5 * inverse]).T.astype(np.float32)

    @staticmethod
    def _read(reader: Reader) -> tuple[TransitionModel, list]:
        model = TransitionModel.read(reader)
        reader.expect("<DIMENSION>").integer()
        mixtures = []
        for _ in range(reader.expect("<NUMPDFS>").integer()):
            constants = reader.expect("<DiagGMM>", "<GCONSTS>").vector()
            reader.expect("<WEIGHTS>").vector()
            linear = reader.expect("<MEANS_INVVARS>").matrix()
            mixtures.append((constants, linear, reader.expect("<INV_VARS>").matrix()))
            reader.expect("</DiagGMM>")
        return model, mixtures

    def log_likelihoods(self, frames: np.ndarray, key: str = "") -> np.ndarray:
        """Compute log p(frame | state), float32 (frames, states)."""
        both = np.hstack([frames, frames * frames])
        each = both @ self.weights + self.constants
        most = np.maximum.reduceat(each, self.firsts, axis=1)
        sizes = np.diff(np.append(self.firsts, each.shape[1]))
        each -= np.repeat(most, sizes, axis=1)
        return most + np.log(np.add.reduceat(np.exp(each, out=each), self.firsts, axis=1))
