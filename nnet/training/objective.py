"""The objective, labels that outputs are compared with, and sums over minibatches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnet.components.nonlinear import PROBABILITY_FLOOR
from nnet.device.device import Array, Device, SparseRows
from nnet.errors import NgtrainError
from nnet.model.network import Network

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch


class LogProbability:
    """The objective F = sum_k w_k log y[row_k, pdf_k] of labels w and outputs y, and its sum.

    Attributes:
        total: over all minibatches so far, on the device: 0-dimensional float64.
    """

    def __init__(self, device: Device):
        self.device = device
        self.total = device.xp.zeros((), np.float64)

    def __call__(self, output: Array, labels: SparseRows) -> SparseRows:
        """Add F to the total; return dF/d(log y), as if there were no floor: it is the labels."""
        self.device.add_log_prob(output, labels, PROBABILITY_FLOOR, self.total)
        return labels


def labels_of(minibatch: Minibatch, network: Network) -> SparseRows:
    """Return the labels as a sparse matrix of the network's output, on the host.

    Raises:
        NgtrainError: the minibatch does not fit the network.
    """
    pdfs, num_frames = minibatch.pdfs, minibatch.frames.shape[1]
    if num_frames != network.left_context + 1 + network.right_context:
        raise NgtrainError(
            f"the examples have {num_frames} frames of input, but the network "
            f"needs {network.left_context} + 1 + {network.right_context}"
        )
    if len(pdfs) and not 0 <= pdfs.min() <= pdfs.max() < network.output_dim:
        raise NgtrainError(
            f"the examples have pdf-ids from {pdfs.min()} to {pdfs.max()}, but the network has "
            f"{network.output_dim} outputs: do the alignments come from another model?"
        )
    starts = np.searchsorted(minibatch.rows, np.arange(len(minibatch) + 1)).astype(np.int32)
    return SparseRows(minibatch.rows, pdfs, minibatch.weights, starts)


@dataclass
class Totals:
    """Sums over minibatches.

    Attributes:
        num_minibatches, num_examples: how many there are.
        weight: that of their labels.
        log_prob: that of the labels, weighted.
        correct: the weight of those labels that are the most probable pdf.
        num_limited: steps of layers that a limit on the change shortened; a minibatch has one step
            for each layer that is trained.
    """

    num_minibatches: int = 0
    num_examples: int = 0
    weight: float = 0.0
    log_prob: float = 0.0
    correct: float = 0.0
    num_limited: int = 0

    @classmethod
    def of(cls, minibatch: Minibatch, log_prob: float = 0.0, correct: float = 0.0) -> Totals:
        """Return what a minibatch contributes."""
        weight = float(minibatch.weights.sum(dtype=np.float64))
        return cls(1, len(minibatch), weight, log_prob, correct)

    def add(self, other: Totals) -> None:
        """Add other sums."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def log_prob_per_frame(self) -> float:
        """The average log-probability; NaN where there is none."""
        return self.log_prob / self.weight if self.weight else math.nan
