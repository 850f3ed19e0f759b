"""Stochastic gradient ascent over minibatches.

Source: Kaldi's nnet2/train-nnet.cc.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from nnet.device.device import Array, SparseRows
from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.objective import LogProbability, Totals, labels_of

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch

log = logging.getLogger("ngtrain")

L = TypeVar("L")
F = TypeVar("F", bound=Callable[..., SparseRows])


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
            phase.num_limited += component.report_updates(phase.num_minibatches)
        total.add(phase)
    if not network.is_finite():
        raise NgtrainError("the parameters are not finite: is the learning rate too high?")
    if total.weight == 0:
        log.warning("No data seen.")
    else:
        num_steps = total.num_minibatches * len(network.updatable_components)
        log.info(log_lines.LIMITED.format, total.num_limited, num_steps)
        log.info(log_lines.BACKPROP.format, total.weight, total.log_prob_per_frame)
        log.info(log_lines.OBJECTIVE.format, total.log_prob_per_frame)
    return total


class GradientAscent(Generic[L, F]):
    """Changes a network in place, by steps that raise an objective.

    Args:
        objective: called with output and labels it returns its derivative w.r.t. the logarithm of
            the output.
    """

    def __init__(self, network: Network, objective: F):
        self.network, self.device = network, network.device
        self.propagation = Propagation(network)
        self.objective = objective

    def step(self, frames: Array, labels: L) -> None:
        """Change the network by one minibatch; a layer as soon as the derivative has passed it."""
        output = self.propagation.forward(frames)
        log_derivative = self.objective(output, labels)
        for component, x, y, derivative in self.propagation.backward(log_derivative):
            component.update(x, y, derivative)


class Trainer(GradientAscent[SparseRows, LogProbability]):
    """Stochastic gradient ascent on the log-probability of labels, by a step per minibatch."""

    def __init__(self, network: Network):
        super().__init__(network, LogProbability(network.device))

    def run(self, minibatches: Iterable[Minibatch]) -> Iterator[list[Totals]]:
        """Make a step for each minibatch; yield the sums of those made since, without objective.

        A thread reads the next ones meanwhile.

        Raises:
            NgtrainError: a minibatch does not fit the network.
        """

        def arrays() -> Iterator[tuple[Totals, tuple]]:
            for minibatch in minibatches:
                labels = labels_of(minibatch, self.network)
                yield Totals.of(minibatch), (minibatch.frames, *labels)

        def step(frames: Array, *labels: Array) -> None:
            self.step(frames, SparseRows(*labels))

        return self.device.make_steps(step, arrays(), self.cycle_length)

    def cycle_length(self) -> int:
        """Count the steps from now on after which preconditioners do the same again.

        0 if they have other things to do first, or a component does what no device can repeat.
        """
        if not all(component.can_be_captured for component in self.network.components):
            return 0
        updatable = self.network.updatable_components
        return math.lcm(*(p.cycle_length for c in updatable for p in c.preconditioners))

    def phases(self, minibatches: Iterable[Minibatch], length: int) -> Iterator[Totals]:
        """Make a step for each minibatch; yield sums over `length` of them, or a few more."""
        phase = Totals()
        for cycle in self.run(minibatches):
            for minibatch in cycle:
                phase.add(minibatch)
            if phase.num_minibatches >= length:
                yield self.finish(phase)
                phase = Totals()
        if phase.num_minibatches:
            yield self.finish(phase)

    def finish(self, phase: Totals) -> Totals:
        """Complete the sums over a phase with its objective, for which the device is waited for."""
        phase.log_prob = float(self.objective.total)
        self.objective.total.fill(0)
        return phase
