"""The objective of sequence training: criteria of nnet.training.sequence_criteria, of outputs.

It is called as that of nnet.training.objective, but its labels are numerators and denominators.

Source: Kaldi's nnet2/nnet-compute-discriminative.cc.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from nnet.components.nonlinear import PROBABILITY_FLOOR
from nnet.device.device import Array, SparseRows, to_host
from nnet.errors import NgtrainError
from nnet.io.log_lines import SEQUENCE_OBJECTIVE
from nnet.model.acoustic_model import AcousticModel
from nnet.training.sequence_criteria import Criterion, SequenceOptions, Supervision

log = logging.getLogger("ngtrain")


@dataclass
class SequenceTotals:
    """Sums over examples, of Kaldi's NnetDiscriminativeStats.

    Attributes:
        num_examples: how many there were.
        num_frames, weighted_frames: their frames, and these times the weights of the examples.
        posterior: the positive ones of the derivatives.
        numerator: sum_t a_t(num_t), for MMI.
        objective: log Z for MMI, else F.
    """

    num_examples: int = 0
    num_frames: int = 0
    weighted_frames: float = 0.0
    posterior: float = 0.0
    numerator: float = 0.0
    objective: float = 0.0

    def per_frame(self, total: float) -> float:
        return total / self.weighted_frames if self.weighted_frames else math.nan

    def lines(self, criterion: str) -> list[str]:
        """Say what they are, as Kaldi's programs do."""
        frames, objective = self.weighted_frames, self.per_frame(self.objective)
        lines = [
            f"Number of frames is {self.num_frames:g} (weighted: {frames:g}), average (num or den) "
            f"posterior per frame is {self.per_frame(self.posterior):g}"
        ]
        value = f"{objective:g}"
        if criterion == "mmi":
            numerator = self.per_frame(self.numerator)
            value = f"{numerator:g} - {objective:g} = {numerator - objective:g}"
        return [*lines, SEQUENCE_OBJECTIVE.format % (criterion.upper(), value, frames)]


class SequenceObjective:
    """The objective F of outputs and supervisions, with its derivative, and its sum.

    Attributes:
        totals: over all examples so far.

    Raises:
        NgtrainError: the model has no priors.
    """

    def __init__(self, model: AcousticModel, options: SequenceOptions):
        self.options = options
        self.device = model.network.device
        if len(model.priors) != model.num_pdfs or not (model.priors > 0).all():
            raise NgtrainError("the priors in the model are not set up (nnet-adjust-priors)")
        self.log_priors = np.log(model.priors.astype(np.float64))
        self.criterion = Criterion(model.transition_model, options)
        self.pdf_of = model.transition_model.pdf_of
        self.totals = SequenceTotals()

    def __call__(self, output: Array, supervision: Supervision) -> SparseRows:
        """Add F to the totals; return dF/d(log y), but for the factor kappa.

        output: (frames, pdfs), y, on the device.
        """
        s, totals = supervision, self.totals
        times = np.concatenate([np.arange(s.num_frames), s.time])
        scores = self.scores(output, times, self.pdf_of[np.concatenate([s.numerator, s.ids])])
        numerator, denominator = scores[: s.num_frames], scores[s.num_frames :]
        objective, derivative = self.criterion(s, s.own_score + s.arc_sums(denominator))
        if self.options.criterion == "mmi":
            totals.numerator += s.weight * float(numerator.sum())
        totals.num_examples += 1
        totals.num_frames += s.num_frames
        totals.weighted_frames += s.weight * s.num_frames
        totals.objective += s.weight * objective
        totals.posterior += s.weight * float(np.maximum(derivative.values, 0).sum(dtype=np.float64))
        values = np.float32(s.weight) * derivative.values
        return derivative._replace(values=values).on(self.device)

    def scores(self, output: Array, times: np.ndarray, pdfs: np.ndarray) -> np.ndarray:
        """Compute a_t(j) for some t and j, float64, with one transfer from the device."""
        at = self.device.asarray(times), self.device.asarray(pdfs)
        y = to_host(output[at]).astype(np.float64)
        if num_floored := int((y < PROBABILITY_FLOOR).sum()):
            log.warning("Floored %d probabilities from nnet.", num_floored)
            y = np.maximum(y, PROBABILITY_FLOOR)
        return self.options.acoustic_scale * (np.log(y) - self.log_priors[pdfs])
