"""Stochastic gradient ascent over minibatches.

Source: Kaldi's nnet2/train-nnet.cc.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from nnet.device.device import Array, SparseRows
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.cycles import Cycles
from nnet.training.objective import LogProbability, Totals

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch

log = logging.getLogger("ngtrain")


def train(
    network: Network, minibatches: Iterable[Minibatch], minibatches_per_phase: int = 50
) -> Totals:
    """Train a network, in place, by one step per minibatch.

    The objective that is logged, for each phase and at the end, is that of the minibatches before
    their steps.  The device is waited for at the end of a phase only.

    Raises:
        NgtrainError: a minibatch does not fit the network; the objective of a phase, or the
            parameters at the end, are not finite.
    """
    trainer, total = Trainer(network), Totals()
    for phase in trainer.phases(minibatches, minibatches_per_phase):
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
            component.report_updates()
        total.add(phase)
    if not network.is_finite():
        raise NgtrainError("the parameters are not finite: is the learning rate too high?")
    if total.weight == 0:
        log.warning("No data seen.")
    else:
        log.info(log_lines.BACKPROP.format, total.weight, total.log_prob_per_frame)
        log.info(log_lines.OBJECTIVE.format, total.log_prob_per_frame)
    return total


class Trainer:
    """Stochastic gradient ascent, which changes a network in place by a step per minibatch."""

    def __init__(self, network: Network):
        self.network = network
        self.propagation = Propagation(network)
        self.objective = LogProbability(network.device)
        self._log_prob = network.device.zeros((), np.float64)

    def step(self, frames: Array, labels: SparseRows) -> None:
        """Change the network by one minibatch; a layer as soon as the derivative has passed it."""
        output = self.propagation.forward(frames)
        log_prob, derivative = self.objective(output, labels)
        for layer in self.propagation.backward(derivative):
            layer.update()
        self._log_prob += log_prob

    def phases(self, minibatches: Iterable[Minibatch], length: int) -> Iterator[Totals]:
        """Make a step for each minibatch; yield the sums over each `length` of them.

        There are a few more in a phase where that is not a multiple of a cycle of steps.
        """
        phase = Totals()
        for cycle in Cycles(self.network, self.step).run(minibatches):
            for minibatch in cycle:
                phase.add(Totals.of(minibatch))
            if phase.num_minibatches >= length:
                yield self.finish(phase)
                phase = Totals()
        if phase.num_minibatches:
            yield self.finish(phase)

    def finish(self, phase: Totals) -> Totals:
        """Complete the sums over a phase with its objective, for which the device is waited for."""
        phase.log_prob = float(self._log_prob)
        self._log_prob.fill(0)
        return phase
