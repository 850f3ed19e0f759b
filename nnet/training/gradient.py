"""The gradient of the objective over a whole set of examples, the network staying as it is."""

from collections.abc import Iterable

from nnet.egs.minibatches import Minibatch
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.objective import LogProbability, Totals, labels_of


def objective_gradient(
    propagation: Propagation, minibatches: Iterable[Minibatch], gradient: Network
) -> Totals:
    """Set `gradient` to the derivative of the objective on examples, and return their totals.

    `propagation` holds the network; `gradient` is one like it, whose parameters are overwritten.
    """
    gradient.set_zero(as_gradient=True)
    network, total = propagation.network, Totals()
    objective, sum_of_log_probs = LogProbability(network.device), 0.0
    for minibatch in minibatches:
        output = propagation.forward(minibatch.frames)
        log_prob, derivative = objective(output, labels_of(minibatch, network))
        for layer in propagation.backward(derivative):
            layer.add_to(gradient)
        sum_of_log_probs = sum_of_log_probs + log_prob
        total.add(Totals.of(minibatch))
    total.log_prob = float(sum_of_log_probs)
    return total
