"""Training of an ensemble: networks that see the same examples, and learn from each other.

The objective of network n is, with labels w, its output y_n, and the average y of all outputs,

    F_n = sum_k (w_k + beta y_k) log y_{n,k},

so that it is drawn to what the others say, which is taken as given.

Source: Kaldi's nnet2/train-nnet-ensemble.{h,cc}.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from nnet.device.device import Array, SparseRows
from nnet.egs.minibatches import Minibatch
from nnet.errors import NgtrainError
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.objective import LogProbability, Totals, labels_of

log = logging.getLogger("ngtrain")


def train_ensemble(
    networks: Sequence[Network],
    minibatches: Iterable[Minibatch],
    beta: float = 0.5,
    minibatches_per_phase: int = 50,
) -> Totals:
    """Train networks, in place, by one step of each per minibatch.

    Args:
        beta: how much the average of the outputs weighs beside the labels.
        minibatches_per_phase: after so many the log-probability of the labels is logged, averaged
            over the networks.

    Raises:
        NgtrainError: a minibatch does not fit a network; parameters are not finite in the end.
    """
    trainer, total, phase = EnsembleTrainer(networks, beta), Totals(), Totals()

    def end_phase() -> None:
        nonlocal phase
        phase.log_prob = trainer.take_log_prob()
        log.info(
            "Averaged cross-entropy between the supervision labels and the output is %g over %g "
            "frames, during this phase",
            *(phase.log_prob_per_frame, phase.weight),
        )
        total.add(phase)
        phase = Totals()

    for minibatch in minibatches:
        trainer.step(minibatch)
        phase.add(Totals.of(minibatch))
        if phase.num_minibatches == minibatches_per_phase:
            end_phase()
    if phase.num_minibatches:
        end_phase()
    for n, network in enumerate(networks, start=1):
        if not network.is_finite():
            raise NgtrainError(
                f"the parameters of network {n} are not finite: is the learning rate too high?"
            )
    return total


class EnsembleTrainer:
    """Stochastic gradient ascent of several networks of the same outputs, on one device."""

    def __init__(self, networks: Sequence[Network], beta: float):
        self.networks, self.beta, self.device = networks, beta, networks[0].device
        self.propagations = [Propagation(network) for network in networks]
        self.objective = LogProbability(self.device)

    def step(self, minibatch: Minibatch) -> None:
        """Change all networks by one minibatch."""
        labels = labels_of(minibatch, self.networks[0]).on(self.device)
        outputs = [propagation.forward(minibatch.frames) for propagation in self.propagations]
        targets = self.targets(labels, outputs)
        for propagation, output in zip(self.propagations, outputs, strict=True):
            self.objective(output, labels)
            for component, x, y, derivative in propagation.backward(targets):
                component.update(x, y, derivative)

    def targets(self, labels: SparseRows, outputs: Sequence[Array]) -> SparseRows:
        """Compute w + beta y, the derivative of all F_n by log y_n."""
        average = sum(outputs) * (self.beta / len(outputs))
        self.device.xp.add.at(average, (labels.rows, labels.columns), labels.values)
        return SparseRows.full(average)

    def take_log_prob(self) -> float:
        """Return the sum of the labels' log-probabilities since the last call, over networks."""
        log_prob = float(self.objective.total) / len(self.networks)
        self.objective.total.fill(0)
        return log_prob
