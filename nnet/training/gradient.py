"""The gradient of the objective over a whole set of examples, the network staying as it is."""

from collections.abc import Iterable

from nnet.egs.minibatches import Minibatch
from nnet.model.network import Network
from nnet.training.propagation import Propagation


def objective_gradient(
    propagation: Propagation, minibatches: Iterable[Minibatch], gradient: Network
) -> tuple[float, float]:
    """Total log-probability and total weight; `gradient` is set to the derivative of the former.

    `propagation` holds the network; `gradient` is one like it, whose parameters are overwritten.
    """
    gradient.set_zero(as_gradient=True)
    log_prob = weight = 0.0
    for minibatch in minibatches:
        minibatch_log_prob, minibatch_weight = propagation.log_prob(minibatch)
        propagation.backpropagate(gradient=gradient)
        log_prob += minibatch_log_prob
        weight += minibatch_weight
    return float(log_prob), weight
