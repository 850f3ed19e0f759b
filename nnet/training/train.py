"""Stochastic gradient ascent over minibatches, worked from Kaldi's nnet2/train-nnet.cc."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.model.network import Network
from nnet.training.step import TrainingStep

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch

log = logging.getLogger("ngtrain")


@dataclass
class Totals:
    """Sums over training data: `weight` and `log_prob` are over labels, the latter weighted."""

    num_examples: int = 0
    weight: float = 0.0
    log_prob: float = 0.0

    def add(self, other: Totals) -> None:
        self.num_examples += other.num_examples
        self.weight += other.weight
        self.log_prob += other.log_prob

    @property
    def log_prob_per_frame(self) -> float:
        return self.log_prob / self.weight if self.weight else math.nan


def train(
    network: Network, minibatches: Iterable[Minibatch], minibatches_per_phase: int = 50
) -> Totals:
    """Train a network, in place, by one step per minibatch.

    The objective that is logged, for each phase and at the end, is that of the minibatches before
    their steps.  The device is waited for at the end of a phase only.  Raises NgtrainError when the
    objective of a phase, or the parameters at the end, are not finite.
    """
    step = TrainingStep(network)
    total, phase = Totals(), Totals()

    def end_phase() -> None:
        nonlocal phase
        phase.log_prob = step.take_log_prob()
        if not math.isfinite(phase.log_prob):
            raise NgtrainError(
                f"the objective function is {phase.log_prob} after {total.num_examples} examples: "
                "is the learning rate too high?"
            )
        log.info(
            "Training objective function (this phase) is %g over %g frames.",
            *(phase.log_prob_per_frame, phase.weight),
        )
        for component in network.updatable_components:
            component.report_steps()
        total.add(phase)
        phase = Totals()

    num_minibatches = 0  # of the phase
    for group in step.train_on(minibatches):
        for minibatch in group:
            phase.add(Totals(len(minibatch), float(minibatch.weights.sum(dtype=np.float64))))
        num_minibatches += len(group)
        if num_minibatches >= minibatches_per_phase:
            end_phase()
            num_minibatches = 0
    if phase.num_examples:
        end_phase()
    if not network.is_finite():
        raise NgtrainError("the parameters are not finite: is the learning rate too high?")
    if total.weight == 0:
        log.warning("No data seen.")
    else:
        log.info(log_lines.BACKPROP.format, total.weight, total.log_prob_per_frame)
        log.info(log_lines.OBJECTIVE.format, total.log_prob_per_frame)
    return total
