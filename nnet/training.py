"""Stochastic gradient ascent over minibatches, worked from Kaldi's nnet2/train-nnet.cc."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnet.errors import NgtrainError
from nnet.network import Network
from nnet.propagation import Propagation

if TYPE_CHECKING:
    from nnet.io.examples import Minibatch

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
    their steps.  Raises NgtrainError as soon as the objective or the derivatives are not finite,
    and when the parameters are not finite at the end.
    """
    propagation = Propagation(network)
    total, phase = Totals(), Totals()
    for number, minibatch in enumerate(minibatches, 1):
        log_prob, weight = propagation.log_prob(minibatch)
        if not math.isfinite(log_prob):
            raise NgtrainError(
                f"the objective function is {log_prob} after {total.num_examples} examples: "
                "is the learning rate too high?"
            )
        propagation.backpropagate()
        for totals in total, phase:
            totals.add(Totals(len(minibatch), weight, log_prob))
        if number % minibatches_per_phase == 0:
            _log_phase(phase)
            phase = Totals()
    if phase.num_examples:
        _log_phase(phase)
    if not network.is_finite():
        raise NgtrainError("the parameters are not finite: is the learning rate too high?")
    if total.weight == 0:
        log.warning("No data seen.")
    else:
        log.info(
            "Did backprop on %g examples, average log-prob per frame is %g",
            *(total.weight, total.log_prob_per_frame),
        )
        log.info(
            "[this line is to be parsed by a script:] log-prob-per-frame=%g",
            total.log_prob_per_frame,
        )
    return total


def _log_phase(phase: Totals) -> None:
    log.info(
        "Training objective function (this phase) is %g over %g frames.",
        *(phase.log_prob_per_frame, phase.weight),
    )
